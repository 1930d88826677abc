"""Training and evaluation of one config in one folder, from data to report.

WORKDIR/config.json  checkpoints/  metrics.jsonl  tb/  samples/  eval/  report.md  report.png
"""

import dataclasses
import functools
import math
import os
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any, Self, TypedDict

import jax
import numpy as np
from clu import parameter_overview
from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict

from dpconv_jax import masks, metrics, processes, report, sharding, steps
from dpconv_jax.baselines import classical
from dpconv_jax.checkpoints import Checkpoints, newest_step, restore_generator
from dpconv_jax.data import pipeline, sources
from dpconv_jax.errors import UsageError
from dpconv_jax.evaluate import evaluate, validation_l1
from dpconv_jax.inpainter import Inpainter
from dpconv_jax.meter import Meter
from dpconv_jax.models.vgg16 import VGG16
from dpconv_jax.progress import Reporter
from dpconv_jax.signals import INTERRUPTED, Stop
from dpconv_jax.trees import Tree, merged
from dpconv_jax.weights import model_file, tensor_file, vgg16
from dpconv_jax.workdir import FREE, compare, remember
from dpconv_jax.writers import Silent, Writer, grid, read_scalars

SAMPLES = 2  # validation images a bucket in each picture of `samples/`
NAMES = {  # field -> what it may be called
    "train.dtype": steps.DTYPES,
    "optim.schedule": steps.SCHEDULES,
    "data.crop": pipeline.CROPS,
    "mask.preset": masks.PRESETS,
}
LEAST = {  # field -> its least value
    **dict.fromkeys(("seed", "vgg.start", "data.threads", "data.workers", "eval.examples"), 0),
    **dict.fromkeys(("data.max_pixels", "eval.batch_size", "eval.bootstrap"), 1),
    **{f"train.{name}": 1 for name in ("steps", "log_every", "image_every", "eval_every", "checkpoint_every", "keep")},
}


@dataclasses.dataclass(frozen=True)
class Validation:
    """Images with the fixed masks of each bucket: all, or this process's share of them."""

    batches: Callable[[int], Iterator[dict[str, Any]]]  # bucket -> one pass
    split: str  # "test" of a dataset that has no validation split
    images: int  # of the split, whoever has them
    rounds: int  # batches that a pass of any process has at most

    def __call__(self, bucket: int) -> Iterator[dict[str, Any]]:
        """One pass over the batches of a bucket."""
        return self.batches(bucket)

    def heeding(self, stop: Stop) -> Self:
        """The same batches until the run is asked to stop; then SystemExit(42). All processes look equally often."""

        def batches(bucket: int) -> Iterator[dict[str, Any]]:
            with stop.asked(self.rounds) as ask:
                for batch in self.batches(bucket):
                    ask()
                    yield batch

        return dataclasses.replace(self, batches=batches)


def train_and_evaluate(config: ConfigDict, workdir: str | os.PathLike[str], *, command: str) -> None:
    """Trains to train.steps, going on where `workdir` stands, then evaluates the best checkpoint and reports.

    Raises UsageError for a mistake in the config or `workdir`, and SystemExit(42) after SIGTERM or SIGINT, with the
    state saved.
    """
    with processes.new_stop().listening() as stop:
        tools = train_to_the_end(config, workdir, stop=stop)
        evaluate_best(config, pathlib.Path(workdir), **tools, stop=stop, command=command)


class Tools(TypedDict):
    """What training and evaluation share."""

    validation: Validation
    inpaint: Inpainter
    vgg: VGG16 | None
    mesh: Mesh


def train_to_the_end(config: ConfigDict, workdir: str | os.PathLike[str], *, stop: Stop) -> Tools:
    """Trains to train.steps, going on where `workdir` stands. Raises what `train_and_evaluate` does."""
    workdir = pathlib.Path(workdir)
    mesh = check(config)
    vgg = load_vgg(config)
    with processes.main_first("data"):  # what is not built yet is built once
        source = open_source(config, "train")
        validation = open_validation(config, shared=True)

    gan = steps.build(config, steps_per_epoch=max(1, len(source) // config.train.batch_size))
    with processes.main_first("config"):
        remember(config, workdir, step=newest_step(workdir), write=processes.is_main())
    checkpoints = Checkpoints(workdir / "checkpoints", keep=config.train.keep)
    state = steps.initialise(gan, config)
    if config.train.init and newest_step(workdir) is None:
        state = begun_with(config, state)
    state = checkpoints.restore_newest(jax.device_put(state, sharding.replicated(mesh)))
    describe(config, state, source, mesh)

    inpaint = Inpainter(gan.generator, mesh, batch_size=config.eval.batch_size)
    train(
        config,
        gan,
        state,
        batches=open_batches(config, source, start=int(state.step)),
        validation=validation,
        inpaint=inpaint,
        vgg=vgg,
        mesh=mesh,
        checkpoints=checkpoints,
        writer=Writer(workdir, step=int(state.step)) if processes.is_main() else Silent(),
        stop=stop,
    )
    return {"validation": validation, "inpaint": inpaint, "vgg": vgg, "mesh": mesh}


def evaluate_only(config: ConfigDict, workdir: str | os.PathLike[str], *, command: str) -> None:
    """Evaluates the best checkpoint of `workdir` and writes its report.

    Raises UsageError where there is none, and SystemExit(42) after SIGTERM or SIGINT.
    """
    workdir = pathlib.Path(workdir)
    mesh = check(config)
    if not (workdir / "config.json").exists():
        raise UsageError(f"{workdir} holds no training run to evaluate; train first, with --mode=train_and_evaluate")
    compare(config, workdir, free=FREE | {"eval.examples"})
    validation = open_validation(config, shared=True)
    inpaint = Inpainter(nnx.graphdef(steps.build_generator(config)), mesh, batch_size=config.eval.batch_size)
    vgg = load_vgg(config) if config.vgg.weights else None  # the report describes it; evaluation needs none
    with processes.new_stop().listening() as stop:
        tools: Tools = {"validation": validation, "inpaint": inpaint, "vgg": vgg, "mesh": mesh}
        evaluate_best(config, workdir, **tools, stop=stop, command=command)


# ---- before the first step ----


def check(config: ConfigDict) -> Mesh:
    """The mesh of the config; UsageError for what can be known to fail before any file is read."""
    mesh = sharding.data_mesh(config.train.devices)
    batch_size, size, coverage = config.train.batch_size, config.data.size, config.mask.coverage
    if batch_size < 1 or batch_size % mesh.size:
        raise UsageError(f"train.batch_size is {batch_size}; it must be a multiple of the {mesh.size} devices")
    for name, known in NAMES.items():
        if config[name] not in known:
            raise UsageError(f"{name} is {config[name]!r}; known: {', '.join(known)}")
    generator, _ = steps.build_generator(config), steps.build_recipe(config)
    stride = generator.stride
    smallest = stride * math.ceil(metrics.WINDOW / stride)
    if size < smallest or size % stride:
        why = f"at least {smallest}, because SSIM compares windows of {metrics.WINDOW} pixels"
        raise UsageError(f"data.size is {size}; it must be a multiple of {stride} and {why}")
    for name, least in LEAST.items():
        if config[name] < least:
            raise UsageError(f"{name} is {config[name]}; it must be at least {least}")
    for name in ("optim.generator_lr", "optim.discriminator_lr"):
        if not 0 < config[name] < math.inf:
            raise UsageError(f"{name} is {config[name]}; it must be above 0")
    if not 0 <= config.optim.finetune <= 1:
        raise UsageError(f"optim.finetune is {config.optim.finetune}; it must lie in [0, 1]")
    if config.optim.finetune:
        try:
            generator.freeze_encoder()
        except ValueError as error:
            raise UsageError(f"optim.finetune is {config.optim.finetune}, but {error}") from error
    if not 0 <= config.optim.ema < 1:
        raise UsageError(f"optim.ema is {config.optim.ema}; it must lie in [0, 1)")
    if not 0 <= coverage <= 1:
        raise UsageError(f"mask.coverage is {coverage}; it must lie in [0, 1]")
    classical.batched(config.eval.baselines)
    return mesh


def begun_with(config: ConfigDict, state: steps.GanState) -> steps.GanState:
    """`state` with the generator of train.init. UsageError where that file is none, or of another network."""
    path = model_file.located(config.train.init)
    params, metadata = model_file.read(path)
    theirs = {"name": metadata.model, **metadata.options}
    ours = model_file.plain(config.model.to_dict())
    if "released_order" in theirs:
        raise UsageError(
            f"train.init is {config.train.init}, weights of what {theirs['variant']!r} was before it was Fig. 3: the "
            "decoder of the released code, which no longer trains"
        )
    named = sorted((ours.keys() | theirs.keys()) - {"dropout"})
    if differing := [name for name in named if ours.get(name) != theirs.get(name)]:
        was = "; ".join(f"model.{name} is {ours.get(name)}, there {theirs.get(name)}" for name in differing)
        raise UsageError(f"train.init is {config.train.init}, of another network: {was}")
    shapes = merged(state.generator, state.generator_stats)
    return steps.begun_with(state, model_file.matched(params, shapes, source=f"train.init: {path}"))


def load_vgg(config: ConfigDict) -> VGG16 | None:
    """The feature network of the loss, None where no term needs it; UsageError without its file."""
    if not steps.build_recipe(config).needs_vgg:
        return None
    if not config.vgg.weights:
        raise UsageError("vgg.weights is empty; where loss.style is not 0 it must name a file of VGG-16 weights")
    return vgg16.load(config.vgg.weights)


def open_source(config: ConfigDict, split: str) -> sources.Source:
    """A split of the dataset, built on first use."""
    data = config.data
    return sources.open_source(data.name, split, dir=data.dir, manual_dir=data.manual_dir, data_dir=data.data_dir)


def open_mask_files(config: ConfigDict, split: str) -> masks.Files | None:
    """What the masks of a split are made of, where the preset asks for files."""
    mask = config.mask
    if mask.preset == "quickdraw":
        return masks.QuickDraw(mask.dir)
    return masks.open_files(mask.dir, name=mask.set, hole=mask.hole, split=split) if mask.preset == "files" else None


def preparation(config: ConfigDict, split: str) -> pipeline.Preparation:
    """How the examples of a split become images and masks."""
    return pipeline.Preparation(
        size=config.data.size,
        crop=config.data.crop,
        max_pixels=config.data.max_pixels,
        mask_preset=config.mask.preset,
        mask_files=open_mask_files(config, split),
        min_coverage=config.mask.coverage,
        seed=config.seed,
    )


def open_batches(config: ConfigDict, source: sources.Source, *, start: int) -> Any:
    """This process's share of the endless training batches, from step `start` on."""
    return pipeline.train_batches(
        source,
        preparation(config, "train"),
        flip=config.data.flip,
        threads=config.data.threads,
        workers=config.data.workers,
        batch_size=config.train.batch_size,
        start=start,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )


def open_validation(config: ConfigDict, *, shared: bool = False) -> Validation:
    """The validation split, or with `shared` this process's part of it; UsageError where there are too few images."""
    source, prepared = open_source(config, "validation"), preparation(config, "validation")
    index, count = (jax.process_index(), jax.process_count()) if shared else (0, 1)
    images = min(config.eval.examples or len(source), len(source))
    if images < count:
        raise UsageError(f"{images} validation images for {count} processes: each needs one")

    def batches(bucket: int) -> Iterator[dict[str, Any]]:
        return pipeline.eval_batches(
            source,
            prepared,
            batch_size=config.eval.batch_size,
            bucket=bucket,
            examples=images,
            process_index=index,
            process_count=count,
        )

    rounds = math.ceil(math.ceil(images / count) / config.eval.batch_size)
    return Validation(batches, source.split, images, rounds)


def describe_vgg(config: ConfigDict, vgg: VGG16) -> str:
    """Which feature network stands behind the style term, for the report."""
    path = pathlib.Path(config.vgg.weights)
    digest = tensor_file.sha256(path)
    return (
        f"VGG-16 of the style term: `{path.name}`, sha256 `{digest[:16]}`, {vgg.convention} preprocessing; its "
        f"features are divided by {vgg.scale:g}, so that a weight means what it does with torchvision's"
    )


def describe(config: ConfigDict, state: steps.GanState, source: sources.Source, mesh: Mesh) -> None:
    """Two lines for the person who started the run."""
    counts = [int(parameter_overview.count_parameters(tree)) for tree in (state.generator, state.discriminator)]
    name = " ".join(str(config.model[field]) for field in ("name", "variant") if field in config.model)
    print(
        f"{name}: {counts[0]:,} parameters, discriminator {counts[1]:,}; "
        f"{len(source):,} images at {config.data.size} x {config.data.size}; {mesh.size} x {jax.default_backend()}"
    )
    off = [name for name, weight in steps.build_recipe(config).weights.items() if not weight]
    where = f"going on from step {int(state.step)}" if int(state.step) else "starting"
    print(f"{where}, to step {config.train.steps}{'; loss terms off: ' + ', '.join(off) if off else ''}", flush=True)


# ---- the loop ----


def train(
    config: ConfigDict,
    gan: steps.Gan,
    state: steps.GanState,
    *,
    batches: Any,
    validation: Validation,
    inpaint: Inpainter,
    vgg: VGG16 | None,
    mesh: Mesh,
    checkpoints: Checkpoints,
    writer: Writer | Silent,
    stop: Stop,
) -> steps.GanState:
    """From the state's step to train.steps; log lines, pictures, validation and checkpoints in their cadence."""
    cadence, start = config.train, int(state.step)
    finetuning_from = steps.finetuning_from(config.optim, steps=cadence.steps)
    step_on_mesh = compile_step(gan, config, mesh)
    vgg = jax.device_put(vgg, sharding.replicated(mesh))
    samples = fixed_samples(validation) if processes.is_main() else None

    with Reporter(start=start, steps=cadence.steps, batch_size=cadence.batch_size) as reporter, stop.deferred():
        meter = Meter(config, terms=[*gan.recipe.weights], writer=writer, reporter=reporter)

        def due(every: int, step: int) -> bool:
            return step % every == 0 or step == cadence.steps

        cadences = (cadence.image_every, cadence.eval_every, cadence.checkpoint_every)

        def settle(step: int) -> None:
            """All that is due after `step`; a request to stop leaves that for later."""
            if not any(due(every, step) for every in cadences):
                return
            meter.catch_up()
            began = time.monotonic()
            if due(cadence.image_every, step) and not stop.requested and samples is not None:
                writer.write_images(step, {"validation": draw_samples(samples, inpaint, state.best_generator)})
            measured = None
            if due(cadence.eval_every, step) and not stop.requested:
                measured = measure(inpaint, state.best_generator, validation, stop)
            if measured is not None:
                writer.write_scalars(step, {"val/l1": measured})
                reporter.say(f"step {step}/{cadence.steps}  validation l1 {measured:.3f} %")
            if due(cadence.checkpoint_every, step) or measured is not None:
                checkpoints.save(step, state, metric=measured)
            meter.forgive(time.monotonic() - began)

        try:
            if start and due(cadence.eval_every, start) and checkpoints.metric(start) is None:
                settle(start)  # an interrupted run left its validation undone
            for step in range(start + 1, cadence.steps + 1):
                if stop.requested:
                    break
                asked = time.monotonic()
                batch = next(batches)
                waited = time.monotonic() - asked
                bad = int(batch["bad"].sum())
                arrays = sharding.to_devices({name: batch[name] for name in ("image", "mask")}, mesh)
                frozen = step > finetuning_from
                state, numbers = step_on_mesh(state, arrays, vgg if step > config.vgg.start else None, frozen)
                meter.add(step, numbers, ids=batch["id"], bad=bad, waited=waited)
                reporter.advance(step)
                settle(step)
            if stop.requested:
                reached = int(state.step)
                meter.stop(reached)
                checkpoints.save(reached, state)
                reporter.say(f"stopped at step {reached}, which is saved: the same command goes on from there")
                raise SystemExit(INTERRUPTED)
        finally:
            batches.close()
            checkpoints.close()
            writer.close()
    return state


def compile_step(
    gan: steps.Gan, config: ConfigDict, mesh: Mesh
) -> Callable[[steps.GanState, steps.Batch, VGG16 | None, bool], tuple[steps.GanState, steps.Metrics]]:
    """The training step over the mesh; it consumes the state it is given."""
    whole, parts = sharding.replicated(mesh), sharding.split(mesh)
    return jax.jit(
        functools.partial(steps.train_step, gan, config),
        in_shardings=(whole, parts, whole),
        out_shardings=(whole, whole),
        static_argnums=3,
        donate_argnums=0,
    )


def measure(inpaint: Inpainter, params: Tree, validation: Validation, stop: Stop) -> float | None:
    """l1 % on the validation split; None where the run was asked to stop meanwhile."""
    try:
        return validation_l1(inpaint.bind(params), validation.heeding(stop))
    except SystemExit:
        return None


def fixed_samples(validation: Validation) -> dict[str, np.ndarray]:
    """The first validation images of each bucket, with their masks: the ones in every picture."""
    firsts = [next(iter(validation(bucket))) for bucket in range(len(masks.BUCKETS))]
    return {name: np.concatenate([first[name][:SAMPLES] for first in firsts]) for name in ("image", "mask")}


def draw_samples(samples: dict[str, np.ndarray], inpaint: Inpainter, params: Tree) -> np.ndarray:
    """masked | mask | raw | composite | truth, one row an image; uint8."""
    image, mask = samples["image"], samples["mask"]
    raw = np.asarray(inpaint.bind(params)(image * mask, mask))
    composite = np.asarray(metrics.composite(output=raw, target=image, mask=mask))
    return grid(list(zip(image * mask, np.repeat(mask, 3, axis=-1), raw, composite, image, strict=True)))


# ---- after the last step ----


def evaluate_best(
    config: ConfigDict,
    workdir: pathlib.Path,
    *,
    validation: Validation,
    inpaint: Inpainter,
    vgg: VGG16 | None,
    mesh: Mesh,
    stop: Stop,
    command: str,
) -> None:
    """All metrics of the best checkpoint and the baselines in the three buckets, and the report."""
    params, _, step = restore_generator(workdir, step="best")
    print(f"evaluating step {step}", flush=True)
    evaluation = evaluate(
        {config.model.name: inpaint.bind(nnx.restore_int_paths(params)), **classical.batched(config.eval.baselines)},
        validation.heeding(stop),
        out_dir=workdir / "eval" if processes.is_main() else None,
        bootstrap=config.eval.bootstrap,
        seed=config.seed,
    )
    if not processes.is_main():
        return
    rows = [row for row in read_scalars(workdir / "metrics.jsonl") if row["step"] <= step and row.get("train/seconds")]
    path = report.write(
        workdir,
        config=config,
        terms=steps.build_recipe(config).weights,
        rows=evaluation.rows,
        examples=evaluation.examples,
        split=validation.split,
        manifest=evaluation.manifest,
        command=command,
        step=step,
        images_seen=step * config.train.batch_size,
        seconds=rows[-1]["train/seconds"] if rows else 0.0,
        hardware=f"{mesh.size} x {mesh.devices.flat[0].device_kind}, {os.cpu_count()} CPU cores",
        notes=[describe_vgg(config, vgg)] if vgg else [],
    )
    print(f"report: {path}", flush=True)
