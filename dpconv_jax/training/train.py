"""Training and evaluation of one experiment in one folder, from data to report.

WORKDIR/config.json  checkpoints/  metrics.jsonl  tb/  samples/  eval/  report.md  report.png
"""

import functools
import os
import pathlib
import time
from collections.abc import Callable

import jax
import numpy as np
from clu import parameter_overview
from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict

from dpconv_jax import distributed, masks
from dpconv_jax.checkpoints import Checkpoints, newest_step, restore_generator
from dpconv_jax.errors import UsageError
from dpconv_jax.evaluation import metrics
from dpconv_jax.evaluation.evaluate import Method, Padded, evaluate, validation_l1
from dpconv_jax.models.trees import merged
from dpconv_jax.models.vgg16 import VGG16
from dpconv_jax.progress import Reporter
from dpconv_jax.signals import INTERRUPTED, Stop
from dpconv_jax.training import report, steps
from dpconv_jax.training.experiment import Experiment, Validation
from dpconv_jax.training.meter import Meter
from dpconv_jax.training.workdir import FREE, compare, remember
from dpconv_jax.training.writers import Silent, Writer, grid, read_scalars
from dpconv_jax.weights import model_file, tensor_file

SAMPLES = 2  # validation images a bucket in each picture of `samples/`


def train_and_evaluate(config: ConfigDict, workdir: str | os.PathLike[str], *, command: str) -> None:
    """Trains to train.steps, going on where `workdir` stands, then evaluates the best checkpoint and reports.

    Raises UsageError for a mistake in the config or `workdir`, and SystemExit(42) after SIGTERM or SIGINT, with the
    state saved.
    """
    with distributed.new_stop().listening() as stop:
        experiment = Experiment.of(config)
        train(experiment, pathlib.Path(workdir), stop=stop)
        evaluate_best(experiment, pathlib.Path(workdir), stop=stop, command=command)


def evaluate_only(config: ConfigDict, workdir: str | os.PathLike[str], *, command: str) -> None:
    """Evaluates the best checkpoint of `workdir` and writes its report.

    Raises UsageError where there is none, and SystemExit(42) after SIGTERM or SIGINT.
    """
    workdir = pathlib.Path(workdir)
    experiment = Experiment.of(config)
    if not (workdir / "config.json").exists():
        raise UsageError(f"{workdir} holds no training run to evaluate; train first, with --mode=train_and_evaluate")
    compare(config, workdir, free=FREE | {"eval.examples"})
    with distributed.new_stop().listening() as stop:
        evaluate_best(experiment, workdir, stop=stop, command=command)


# ---- training ----


def train(experiment: Experiment, workdir: pathlib.Path, *, stop: Stop) -> None:
    """Trains to train.steps, going on where `workdir` stands. Raises what `train_and_evaluate` does."""
    config = experiment.config
    with distributed.main_first("data"):  # what is not built yet is built once
        experiment.open()
    with distributed.main_first("config"):
        remember(config, workdir, step=newest_step(workdir), write=distributed.is_main())
    checkpoints = Checkpoints(workdir / "checkpoints", keep=config.train.keep)
    state = steps.initialise(experiment.gan)
    if config.train.init and newest_step(workdir) is None:
        state = init_from_weights(config, state)
    state = checkpoints.restore_newest(jax.device_put(state, distributed.replicated(experiment.mesh)))
    describe(experiment, state)
    writer = Writer(workdir, step=int(state.step)) if distributed.is_main() else Silent()
    run(experiment, state, checkpoints=checkpoints, writer=writer, stop=stop)


def init_from_weights(config: ConfigDict, state: steps.GanState) -> steps.GanState:
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
    return steps.with_generator(state, model_file.matched(params, shapes, source=f"train.init: {path}"))


def describe(experiment: Experiment, state: steps.GanState) -> None:
    """Two lines for the person who started the run."""
    config = experiment.config
    counts = [int(parameter_overview.count_parameters(tree)) for tree in (state.generator, state.discriminator)]
    name = " ".join(str(config.model[field]) for field in ("name", "variant") if field in config.model)
    size, devices = config.data.size, experiment.mesh.size
    print(
        f"{name}: {counts[0]:,} parameters, discriminator {counts[1]:,}; "
        f"{len(experiment.source):,} images at {size} x {size}; {devices} x {jax.default_backend()}"
    )
    off = [name for name, weight in experiment.gan.recipe.weights.items() if not weight]
    where = f"going on from step {int(state.step)}" if int(state.step) else "starting"
    print(f"{where}, to step {config.train.steps}{'; loss terms off: ' + ', '.join(off) if off else ''}", flush=True)


def run(
    experiment: Experiment,
    state: steps.GanState,
    *,
    checkpoints: Checkpoints,
    writer: Writer | Silent,
    stop: Stop,
) -> None:
    """From the state's step to train.steps; log lines, pictures, validation and checkpoints in their cadence.

    Closes `checkpoints` and `writer`. SystemExit(42) where the run was asked to stop, with the state saved.
    """
    config, mesh, start = experiment.config, experiment.mesh, int(state.step)
    cadence = config.train
    finetuning_from = steps.finetuning_from(config.optim, steps=cadence.steps)
    step_on_mesh = compile_step(experiment.gan, experiment.learning_rate, mesh)
    vgg = jax.device_put(experiment.vgg, distributed.replicated(mesh))
    batches = experiment.batches(start=start)
    samples = fixed_samples(experiment.validation) if distributed.is_main() else None

    with Reporter(start=start, steps=cadence.steps, batch_size=cadence.batch_size) as reporter, stop.deferred():
        meter = Meter(config, terms=[*experiment.gan.recipe.weights], writer=writer, reporter=reporter)

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
                writer.write_images(
                    step, {"validation": draw_samples(samples, experiment.method(state.best_generator))}
                )
            measured = None
            if due(cadence.eval_every, step) and not stop.requested:
                measured = measure(experiment.method(state.best_generator), experiment.validation, stop)
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
                arrays = distributed.to_devices({name: batch[name] for name in ("image", "mask")}, mesh)
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


def compile_step(
    gan: steps.Gan, learning_rate: steps.LearningRate, mesh: Mesh
) -> Callable[[steps.GanState, steps.Batch, VGG16 | None, bool], tuple[steps.GanState, steps.Metrics]]:
    """The training step over the mesh; it consumes the state it is given."""
    whole, parts = distributed.replicated(mesh), distributed.split(mesh)
    return jax.jit(
        functools.partial(steps.train_step, gan, learning_rate),
        in_shardings=(whole, parts, whole),
        out_shardings=(whole, whole),
        static_argnums=3,
        donate_argnums=0,
    )


def measure(network: Method, validation: Validation, stop: Stop) -> float | None:
    """l1 % on the validation split; None where the run was asked to stop meanwhile."""
    try:
        return validation_l1(network, validation.heeding(stop))
    except SystemExit:
        return None


def fixed_samples(validation: Validation) -> Padded:
    """The first validation images of each bucket, with their masks: the ones in every picture."""
    firsts = [next(iter(validation(bucket))) for bucket in range(len(masks.BUCKETS))]
    image, mask = (np.concatenate([first[name][:SAMPLES] for first in firsts]) for name in ("image", "mask"))
    return Padded(image, mask, image * mask, len(image), {})


def draw_samples(samples: Padded, network: Method) -> np.ndarray:
    """masked | mask | raw | composite | truth, one row an image; uint8."""
    raw = network.fill(samples)
    composite = np.asarray(metrics.composite(output=raw, target=samples.image, mask=samples.mask))
    columns = samples.masked, np.repeat(samples.mask, 3, axis=-1), raw, composite, samples.image
    return grid(list(zip(*columns, strict=True)))


# ---- after the last step ----


def evaluate_best(experiment: Experiment, workdir: pathlib.Path, *, stop: Stop, command: str) -> None:
    """All metrics of the best checkpoint and the baselines in the three buckets, and the report."""
    config, devices, validation = experiment.config, experiment.mesh.devices, experiment.validation
    notes = describe_vgg(experiment)
    params, _, step = restore_generator(workdir, step="best")
    print(f"evaluating step {step}", flush=True)
    evaluation = evaluate(
        [experiment.method(nnx.restore_int_paths(params)), *experiment.baselines],
        validation.heeding(stop),
        out_dir=workdir / "eval" if distributed.is_main() else None,
        bootstrap=config.eval.bootstrap,
        seed=config.seed,
    )
    if not distributed.is_main():
        return
    rows = [row for row in read_scalars(workdir / "metrics.jsonl") if row["step"] <= step and row.get("train/seconds")]
    run = report.Run(
        config=config,
        terms=experiment.gan.recipe.weights,
        split=validation.split,
        step=step,
        seconds=rows[-1]["train/seconds"] if rows else 0.0,
        hardware=f"{devices.size} x {devices.flat[0].device_kind}, {os.cpu_count()} CPU cores",
        command=command,
        notes=notes,
    )
    print(f"report: {report.write(workdir, run, evaluation)}", flush=True)


def describe_vgg(experiment: Experiment) -> list[str]:
    """Which feature network stands behind the style term, for the report, where it has one."""
    weights = experiment.config.vgg.weights
    vgg = experiment.vgg if weights else None  # an evaluation does without
    if vgg is None:
        return []
    path = pathlib.Path(weights)
    return [
        f"VGG-16 of the style term: `{path.name}`, sha256 `{tensor_file.sha256(path)[:16]}`, {vgg.convention} "
        f"preprocessing; its features are divided by {vgg.scale:g}, so that a weight means what it does with "
        "torchvision's"
    ]
