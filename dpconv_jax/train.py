"""Training and evaluation of one config in one folder, from data to report.

WORKDIR/config.json  checkpoints/  metrics.jsonl  tb/  samples/  eval/  report.md  report.png
"""

import contextlib
import functools
import hashlib
import json
import math
import os
import pathlib
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from types import FrameType
from typing import Any, Self

import jax
import numpy as np
from clu import parameter_overview
from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict

from dpconv_jax import masks, report, sharding, steps
from dpconv_jax.baselines import classical
from dpconv_jax.checkpoints import Checkpoints, restore_generator
from dpconv_jax.data import pipeline
from dpconv_jax.errors import UsageError
from dpconv_jax.evaluate import BatchMethod, evaluate, validation_l1
from dpconv_jax.models import GENERATORS
from dpconv_jax.models.vgg16 import VGG16
from dpconv_jax.progress import Reporter
from dpconv_jax.weights import vgg16
from dpconv_jax.writers import Writer, grid, read_scalars

INTERRUPTED = 42  # exit code of a run that was asked to stop: the same command goes on
LAG = 2  # steps between the device and the numbers read from it, so that it never waits for the host
MAX_SKIPPED = 20  # steps in a row without a finite gradient before training gives up
SAMPLES = 2  # validation images a bucket in each picture of `samples/`
Validation = Callable[[int], Iterator[dict[str, Any]]]  # bucket -> one pass over its batches
# What a rerun may change: how long, how often and where, never what is trained.
FREE = {
    "train.steps", "train.log_every", "train.image_every", "train.eval_every", "train.checkpoint_every", "train.keep",
    "train.devices", "data.dir", "data.manual_dir", "data.data_dir", "data.threads", "loss.vgg_weights", "mask.dir",
}  # fmt: skip


class Stop:
    """SIGTERM and SIGINT: heeded at once, or inside `deferred()` when the loop looks. A second SIGINT kills."""

    def __init__(self) -> None:
        self.requested = False
        self._deferred = False

    @contextlib.contextmanager
    def listening(self) -> Generator[Self]:
        """A context in which the two signals end the run with SystemExit(42)."""
        before = {number: signal.signal(number, self._handle) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def deferred(self) -> Generator[None]:
        """A context in which they only set `requested`."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.requested:
            raise KeyboardInterrupt
        self.requested = True
        if not self._deferred:
            raise SystemExit(INTERRUPTED)


class Inpainter:
    """The generator over the mesh as a function of numpy batches of any size, compiled for one: `batch_size`."""

    def __init__(self, gan: steps.Gan, mesh: Mesh, *, batch_size: int):
        whole, parts = sharding.replicated(mesh), sharding.split(mesh)
        self._generate = jax.jit(functools.partial(steps.generate, gan), in_shardings=(whole, parts, parts))
        self._size = batch_size + -batch_size % mesh.size
        self.mesh = mesh

    def __call__(self, params: steps.Tree, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """image (B, H, W, 3) in [0, 1], mask (B, H, W, 1) -> I_out (B, H, W, 3) float32."""
        padding = [(0, -len(image) % self._size)] + [(0, 0)] * 3
        images, masks_ = (np.pad(array, padding, mode="edge") for array in (image, mask))
        chunks = [slice(first, first + self._size) for first in range(0, len(images), self._size)]
        outputs = [np.asarray(self._generate(params, images[chunk], masks_[chunk])) for chunk in chunks]
        return np.concatenate(outputs)[: len(image)]

    def bind(self, params: steps.Tree) -> BatchMethod:
        """A method for `evaluate`."""
        return functools.partial(self, params)


def train_and_evaluate(config: ConfigDict, workdir: str | os.PathLike[str], *, command: str) -> None:
    """Trains to train.steps, going on where `workdir` stands, then evaluates the best checkpoint and reports.

    Raises UsageError for a mistake in the config or `workdir`, and SystemExit(42) after SIGTERM or SIGINT, with the
    state saved.
    """
    workdir = pathlib.Path(workdir)
    with Stop().listening() as stop:
        mesh = check(config)
        vgg = load_vgg(config)
        mask_files = open_mask_files(config)
        source = open_source(config, "train")
        validation = open_validation(config, mask_files)

        gan = steps.build(config, steps_per_epoch=max(1, len(source) // config.train.batch_size))
        remember(config, workdir)
        checkpoints = Checkpoints(workdir / "checkpoints", keep=config.train.keep)
        state = jax.device_put(steps.initialise(gan, config), sharding.replicated(mesh))
        state = checkpoints.restore_newest(state)
        describe(config, state, source, mesh)

        inpaint = Inpainter(gan, mesh, batch_size=config.eval.batch_size)
        train(
            config,
            gan,
            state,
            batches=open_batches(config, source, mask_files),
            validation=validation,
            inpaint=inpaint,
            vgg=vgg,
            mesh=mesh,
            checkpoints=checkpoints,
            writer=Writer(workdir, step=int(state.step)),
            stop=stop,
        )
        evaluate_best(config, workdir, validation=validation, inpaint=inpaint, vgg=vgg, command=command)


def evaluate_only(config: ConfigDict, workdir: str | os.PathLike[str], *, command: str) -> None:
    """Evaluates the best checkpoint of `workdir` and writes its report; UsageError where there is none."""
    workdir = pathlib.Path(workdir)
    mesh = check(config)
    if not (workdir / "config.json").exists():
        raise UsageError(f"{workdir} holds no training run to evaluate; train first, with --mode=train_and_evaluate")
    compare(config, workdir)
    validation = open_validation(config, open_mask_files(config))
    inpaint = Inpainter(steps.build(config, steps_per_epoch=1), mesh, batch_size=config.eval.batch_size)
    vgg = load_vgg(config) if config.loss.vgg_weights else None  # the report describes it; evaluation needs none
    evaluate_best(config, workdir, validation=validation, inpaint=inpaint, vgg=vgg, command=command)


# ---- before the first step ----


def check(config: ConfigDict) -> Mesh:
    """The mesh of the config; UsageError for what can be known to fail before any file is read."""
    mesh = sharding.data_mesh(config.train.devices)
    train, optim, size = config.train, config.optim, config.data.size
    if train.batch_size < 1 or train.batch_size % mesh.size:
        raise UsageError(f"train.batch_size is {train.batch_size}; it must be a multiple of the {mesh.size} devices")
    if train.dtype not in steps.DTYPES:
        raise UsageError(f"train.dtype is {train.dtype!r}; known: {', '.join(steps.DTYPES)}")
    if optim.schedule not in steps.SCHEDULES:
        raise UsageError(f"optim.schedule is {optim.schedule!r}; known: {', '.join(steps.SCHEDULES)}")
    if config.model.name not in GENERATORS:
        raise UsageError(f"model.name is {config.model.name!r}; known: {', '.join(GENERATORS)}")
    stride = GENERATORS[config.model.name].stride
    if size < stride or size % stride:
        raise UsageError(f"data.size is {size}; it must be a multiple of {stride}")
    for name in ("steps", "log_every", "image_every", "eval_every", "checkpoint_every", "keep"):
        if train[name] < 1:
            raise UsageError(f"train.{name} is {train[name]}; it must be at least 1")
    if config.eval.batch_size < 1:
        raise UsageError(f"eval.batch_size is {config.eval.batch_size}; it must be at least 1")
    classical.batched(config.eval.baselines)
    return mesh


def load_vgg(config: ConfigDict) -> VGG16 | None:
    """The feature network of the style term, None where that is off; UsageError without its file."""
    if not config.loss.style:
        return None
    if not config.loss.vgg_weights:
        raise UsageError("loss.vgg_weights is empty; where loss.style is not 0 it must name a file of VGG-16 weights")
    return vgg16.load(config.loss.vgg_weights)


def remember(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Writes WORKDIR/config.json; UsageError where the folder belongs to another config or cannot be written."""
    path = workdir / "config.json"
    if path.exists():
        compare(config, workdir)
    elif (workdir / "checkpoints").exists():
        raise UsageError(f"{workdir} holds checkpoints without their config.json; start in another workdir")
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        partial = path.with_name("config.json.partial")
        partial.write_text(json.dumps(config.to_dict(), indent=2) + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise UsageError(f"--workdir {workdir} cannot be written: {error.strerror}") from error


def compare(config: ConfigDict, workdir: pathlib.Path) -> None:
    """UsageError naming every field in which `workdir` was trained otherwise, those of FREE and eval.* apart."""
    path = workdir / "config.json"
    try:
        theirs = flatten(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, AttributeError) as error:
        raise UsageError(f"{path} is damaged: {error}; start in another workdir") from error
    ours = flatten(json.loads(json.dumps(config.to_dict())))
    differing = [
        f"{name} was {json.dumps(theirs.get(name))}, is {json.dumps(ours.get(name))}"
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name) and name not in FREE and not name.startswith("eval.")
    ]
    if differing:
        raise UsageError(f"{workdir} holds a run of another config: {'; '.join(differing)}; use another --workdir")


def flatten(tree: dict[str, Any]) -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{below}": leaf for below, leaf in flatten(value).items()}
        else:
            flat[name] = value
    return flat


def open_source(config: ConfigDict, split: str) -> pipeline.Source:
    """A split of the dataset, built on first use."""
    data = config.data
    return pipeline.open_source(data.name, split, dir=data.dir, manual_dir=data.manual_dir, data_dir=data.data_dir)


def open_mask_files(config: ConfigDict) -> masks.MaskFiles | None:
    """The mask files, where the preset asks for them."""
    return masks.MaskFiles(config.mask.dir, hole=config.mask.hole) if config.mask.preset == "files" else None


def open_batches(config: ConfigDict, source: pipeline.Source, mask_files: masks.MaskFiles | None) -> Any:
    """This process's share of the endless training batches; its state {"next_index": step} is the step."""
    return pipeline.train_batches(
        source,
        size=config.data.size,
        crop=config.data.crop,
        flip=config.data.flip,
        max_pixels=config.data.max_pixels,
        threads=config.data.threads,
        mask_preset=config.mask.preset,
        mask_files=mask_files,
        min_coverage=config.mask.coverage,
        batch_size=config.train.batch_size,
        seed=config.seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )


def open_validation(config: ConfigDict, mask_files: masks.MaskFiles | None) -> Validation:
    """The validation split with the fixed masks of each bucket."""
    source = open_source(config, "validation")

    def batches(bucket: int) -> Iterator[dict[str, Any]]:
        return pipeline.eval_batches(
            source,
            size=config.data.size,
            crop=config.data.crop,
            max_pixels=config.data.max_pixels,
            mask_preset=config.mask.preset,
            mask_files=mask_files,
            min_coverage=config.mask.coverage,
            batch_size=config.eval.batch_size,
            seed=config.seed,
            bucket=bucket,
            examples=config.eval.examples,
        )

    return batches


def describe_vgg(config: ConfigDict, vgg: VGG16) -> str:
    """Which feature network stands behind the style term, for the report."""
    path = pathlib.Path(config.loss.vgg_weights)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return (
        f"VGG-16 of the style term: `{path.name}`, sha256 `{digest[:16]}`, {vgg.convention} preprocessing; its "
        f"features are divided by {vgg.scale:g}, so that a weight means what it does with torchvision's"
    )


def describe(config: ConfigDict, state: steps.GanState, source: pipeline.Source, mesh: Mesh) -> None:
    """Two lines for the person who started the run."""
    counts = [parameter_overview.count_parameters(tree) for tree in (state.generator, state.discriminator)]
    print(
        f"{config.model.name} {config.model.variant}: {counts[0]:,} parameters, discriminator {counts[1]:,}; "
        f"{len(source):,} images at {config.data.size} x {config.data.size}; {mesh.size} x {jax.default_backend()}"
    )
    off = [name for name in ("pixel", "style", "adversarial", "tv") if not config.loss[name]]
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
    writer: Writer,
    stop: Stop,
) -> steps.GanState:
    """From the state's step to train.steps; log lines, pictures, validation and checkpoints in their cadence."""
    cadence, start = config.train, int(state.step)
    step_on_mesh = compile_step(gan, config, mesh)
    vgg = jax.device_put(vgg, sharding.replicated(mesh))
    samples = fixed_samples(validation)
    batches.set_state({"next_index": start})

    with Reporter(start=start, steps=cadence.steps, batch_size=cadence.batch_size) as reporter, stop.deferred():
        metrics = Metrics(config, start=start, writer=writer, reporter=reporter)

        def due(every: int, step: int) -> bool:
            return step % every == 0 or step == cadence.steps

        cadences = (cadence.image_every, cadence.eval_every, cadence.checkpoint_every)

        def settle(step: int) -> None:
            """All that is due after `step`; a request to stop leaves that for later."""
            if not any(due(every, step) for every in cadences):
                return
            metrics.catch_up()
            began = time.monotonic()
            if due(cadence.image_every, step) and not stop.requested:
                writer.write_images(step, {"validation": draw_samples(samples, inpaint, state.best_generator)})
            measured = None
            if due(cadence.eval_every, step) and not stop.requested:
                measured = measure(inpaint, state.best_generator, validation, stop)
            if measured is not None:
                writer.write_scalars(step, {"val/l1": measured})
                reporter.say(f"step {step}/{cadence.steps}  validation l1 {measured:.3f} %")
            if due(cadence.checkpoint_every, step) or measured is not None:
                checkpoints.save(step, state, metric=measured)
            metrics.forgive(time.monotonic() - began)

        try:
            if start and due(cadence.eval_every, start) and checkpoints.metric(start) is None:
                settle(start)  # an interrupted run left its validation undone
            for step in range(start + 1, cadence.steps + 1):
                if stop.requested:
                    break
                batch = next(batches)
                bad = int(batch["bad"].sum())
                arrays = sharding.to_devices({name: batch[name] for name in ("image", "mask")}, mesh)
                state, numbers = step_on_mesh(state, arrays, vgg if step > config.loss.style_start else None)
                metrics.add(step, numbers, bad=bad)
                reporter.advance(step)
                settle(step)
            if stop.requested:
                reached = int(state.step)
                metrics.catch_up()
                checkpoints.save(reached, state)
                reporter.say(f"stopped at step {reached}, which is saved: the same command goes on from there")
                raise SystemExit(INTERRUPTED)
        finally:
            checkpoints.close()
            writer.close()
    return state


def compile_step(
    gan: steps.Gan, config: ConfigDict, mesh: Mesh
) -> Callable[[steps.GanState, steps.Batch, VGG16 | None], tuple[steps.GanState, steps.Metrics]]:
    """The training step over the mesh; it consumes the state it is given."""
    whole, parts = sharding.replicated(mesh), sharding.split(mesh)
    return jax.jit(
        functools.partial(steps.train_step, gan, config),
        in_shardings=(whole, parts, whole),
        out_shardings=(whole, whole),
        donate_argnums=0,
    )


def measure(inpaint: Inpainter, params: steps.Tree, validation: Validation, stop: Stop) -> float | None:
    """l1 % on the validation split; None where the run was asked to stop meanwhile."""

    def until_stopped(bucket: int) -> Iterator[dict[str, Any]]:
        for batch in validation(bucket):
            if stop.requested:
                raise _Stopped
            yield batch

    try:
        return validation_l1(inpaint.bind(params), until_stopped)
    except _Stopped:
        return None


class _Stopped(Exception):
    """Ends a validation that the run has no time for."""


def fixed_samples(validation: Validation) -> dict[str, np.ndarray]:
    """The first validation images of each bucket, with their masks: the ones in every picture."""
    firsts = [next(iter(validation(bucket))) for bucket in range(len(masks.BUCKETS))]
    return {name: np.concatenate([first[name][:SAMPLES] for first in firsts]) for name in ("image", "mask")}


def draw_samples(samples: dict[str, np.ndarray], inpaint: Inpainter, params: steps.Tree) -> np.ndarray:
    """masked | mask | raw | composite | truth, one row an image; uint8."""
    image, mask = samples["image"], samples["mask"]
    raw = inpaint(params, image * mask, mask)
    composite = mask * image + (1 - mask) * raw
    return grid(list(zip(image * mask, np.repeat(mask, 3, axis=-1), raw, composite, image, strict=True)))


class Metrics:
    """Reads the numbers of each step a little after it, logs their means, and ends a run that no longer learns."""

    def __init__(self, config: ConfigDict, *, start: int, writer: Writer, reporter: Reporter):
        self._every, self._steps = config.train.log_every, config.train.steps
        self._batch_size = config.train.batch_size
        self._writer, self._reporter = writer, reporter
        self._pending: deque[tuple[int, steps.Metrics, int]] = deque()
        self._sums: dict[str, float] = {}
        self._finite = self._count = 0
        self._skipped_in_a_row = 0
        self._bad = 0
        self._clock: float | None = None  # None until the first step is done: compiling is not training
        self._timed = 0
        self._seconds = writer.last("train/seconds")  # of training, over all the runs in this folder

    def add(self, step: int, numbers: steps.Metrics, *, bad: int) -> None:
        """The numbers of a step that may still run; `bad` of its images were replaced."""
        self._pending.append((step, numbers, bad))
        while len(self._pending) > LAG:
            self._read()

    def catch_up(self) -> None:
        """Waits for the steps that still run."""
        while self._pending:
            self._read()

    def forgive(self, seconds: float) -> None:
        """Takes time that was not training out of the rate."""
        if self._clock is not None:
            self._clock += seconds

    def _read(self) -> None:
        step, on_device, bad = self._pending.popleft()
        numbers = {name: float(value) for name, value in jax.device_get(on_device).items()}
        self._bad += bad
        self._count += 1
        if numbers["skipped"]:
            self._skipped_in_a_row += 1
            if self._skipped_in_a_row == MAX_SKIPPED:
                raise UsageError(
                    f"no finite loss or gradient in {MAX_SKIPPED} steps in a row, up to step {step}; the weights and "
                    "checkpoints are those of before: lower optim.generator_lr or set optim.clip_norm, in a new workdir"
                )
        else:
            self._skipped_in_a_row = 0
            self._finite += 1
            for name, value in numbers.items():
                self._sums[name] = self._sums.get(name, 0.0) + value
        if self._clock is None:
            self._clock = time.monotonic()
        else:
            self._timed += 1
        if step % self._every == 0 or step == self._steps or step == 1:
            self._log(step)

    def _log(self, step: int) -> None:
        now = time.monotonic()
        assert self._clock is not None
        pace = (now - self._clock) / self._timed if self._timed else math.nan
        means = {name: value / self._finite for name, value in self._sums.items()}
        means |= {
            "skipped": self._count - self._finite,
            "bad_images": self._bad,
            "images_per_second": self._batch_size / pace,
        }
        self._seconds += now - self._clock
        scalars = {f"train/{name}": value for name, value in (means | {"seconds": self._seconds}).items()}
        self._writer.write_scalars(step, scalars)
        detail = ", ".join(
            f"{name} {means.get(name, math.nan):.4g}" for name in ("pixel", "style", "adversarial", "tv")
        )
        for name, count in (("steps skipped", means["skipped"]), ("bad images", self._bad)):
            detail += f", {count} {name}" if count else ""
        self._reporter.report(step, loss=means.get("total", math.nan), pace=pace, detail=detail)
        self._sums, self._finite, self._count, self._bad, self._timed = {}, 0, 0, 0, 0
        self._clock = now


# ---- after the last step ----


def evaluate_best(
    config: ConfigDict,
    workdir: pathlib.Path,
    *,
    validation: Validation,
    inpaint: Inpainter,
    vgg: VGG16 | None,
    command: str,
) -> None:
    """All metrics of the best checkpoint and the baselines in the three buckets, and the report."""
    params, _, step = restore_generator(workdir, step="best")
    params = jax.device_put(nnx.restore_int_paths(params), sharding.replicated(inpaint.mesh))
    print(f"evaluating step {step}", flush=True)
    evaluation = evaluate(
        {config.model.name: inpaint.bind(params), **classical.batched(config.eval.baselines)},
        validation,
        out_dir=workdir / "eval",
        bootstrap=config.eval.bootstrap,
        seed=config.seed,
    )
    rows = [row for row in read_scalars(workdir / "metrics.jsonl") if row["step"] <= step and row.get("train/seconds")]
    path = report.write(
        workdir,
        config=config,
        rows=evaluation.rows,
        examples=evaluation.examples,
        manifest=evaluation.manifest,
        command=command,
        step=step,
        images_seen=step * config.train.batch_size,
        seconds=rows[-1]["train/seconds"] if rows else 0.0,
        hardware=f"{inpaint.mesh.size} x {inpaint.mesh.devices.flat[0].device_kind}, {os.cpu_count()} CPU cores",
        notes=[describe_vgg(config, vgg)] if vgg else [],
    )
    print(f"report: {path}", flush=True)
