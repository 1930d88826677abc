"""What one config stands for: networks, objective, devices and images, each made once; all that a training needs."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, Self

import jax
from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict

from dpconv_jax import distributed, masks
from dpconv_jax.data import pipeline, sources
from dpconv_jax.errors import UsageError
from dpconv_jax.evaluation import metrics
from dpconv_jax.evaluation.evaluate import Method
from dpconv_jax.evaluation.methods import Network, baselines
from dpconv_jax.models.generator import Generator
from dpconv_jax.models.trees import Tree
from dpconv_jax.models.vgg16 import VGG16
from dpconv_jax.signals import Stop
from dpconv_jax.training import steps
from dpconv_jax.weights import vgg16

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


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A config and what it describes. What lies in files is opened when it is first asked for, and kept."""

    config: ConfigDict
    gan: steps.Gan
    mesh: Mesh
    baselines: tuple[Method, ...]  # beside which the network is evaluated

    @classmethod
    def of(cls, config: ConfigDict) -> Self:
        """Reads no file; UsageError for what can be known to fail before any is read."""
        mesh = distributed.data_mesh(config.train.devices)
        batch_size = config.train.batch_size
        if batch_size < 1 or batch_size % mesh.size:
            raise UsageError(f"train.batch_size is {batch_size}; it must be a multiple of the {mesh.size} devices")
        for name, known in NAMES.items():
            if config[name] not in known:
                raise UsageError(f"{name} is {config[name]!r}; known: {', '.join(known)}")
        gan = steps.build(config)
        _check(config, gan.generator)
        return cls(config, gan, mesh, tuple(baselines(config.eval.baselines)))

    @functools.cached_property
    def source(self) -> sources.Source:
        """The training images, built on first use."""
        return open_source(self.config, "train")

    @functools.cached_property
    def validation(self) -> Validation:
        """This process's part of the validation split; UsageError where there are too few images."""
        return open_validation(self.config, shared=True)

    @functools.cached_property
    def vgg(self) -> VGG16 | None:
        """The feature network of the loss, None where no term needs it; UsageError without its file."""
        if not self.gan.recipe.needs_vgg:
            return None
        if not self.config.vgg.weights:
            raise UsageError("vgg.weights is empty; where loss.style is not 0 it must name a file of VGG-16 weights")
        return vgg16.load(self.config.vgg.weights)

    @functools.cached_property
    def _network(self) -> Network:
        return Network(nnx.graphdef(self.gan.generator), self.mesh, batch_size=self.config.eval.batch_size)

    def method(self, params: Tree) -> Method:
        """The generator with these parameters and statistics, over the mesh; nothing keeps its results."""
        return self._network.method(self.config.model.name, params, identity={})

    @functools.cached_property
    def learning_rate(self) -> steps.LearningRate:
        """Of the training images' epochs."""
        steps_per_epoch = max(1, len(self.source) // self.config.train.batch_size)
        return steps.schedule(self.config.optim, steps=self.config.train.steps, steps_per_epoch=steps_per_epoch)

    def open(self) -> tuple[VGG16 | None, sources.Source, Validation]:
        """All files of a training; UsageError where something is missing, before anything is built where it can be."""
        return self.vgg, self.source, self.validation

    def batches(self, *, start: int) -> Any:
        """This process's share of the endless training batches, from step `start` on."""
        return pipeline.train_batches(
            self.source,
            preparation(self.config, "train"),
            flip=self.config.data.flip,
            threads=self.config.data.threads,
            workers=self.config.data.workers,
            batch_size=self.config.train.batch_size,
            start=start,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )


def _check(config: ConfigDict, generator: Generator) -> None:
    size, coverage = config.data.size, config.mask.coverage
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
            nnx.clone(generator).freeze_encoder()
        except ValueError as error:
            raise UsageError(f"optim.finetune is {config.optim.finetune}, but {error}") from error
    if not 0 <= config.optim.ema < 1:
        raise UsageError(f"optim.ema is {config.optim.ema}; it must lie in [0, 1)")
    if not 0 <= coverage <= 1:
        raise UsageError(f"mask.coverage is {coverage}; it must lie in [0, 1]")


def open_source(config: ConfigDict, split: str) -> sources.Source:
    """A split of the dataset, built on first use."""
    data = config.data
    return sources.open_source(data.name, split, dir=data.dir, manual_dir=data.manual_dir, data_dir=data.data_dir)


def preparation(config: ConfigDict, split: str) -> pipeline.Preparation:
    """How the examples of a split become images and masks."""
    data, mask = config.data, config.mask
    files: masks.Files | None = None
    if mask.preset == "quickdraw":
        files = masks.QuickDraw(mask.dir)
    elif mask.preset == "files":
        files = masks.open_files(mask.dir, name=mask.set, hole=mask.hole, split=split)
    return pipeline.Preparation(
        size=data.size,
        crop=data.crop,
        max_pixels=data.max_pixels,
        mask_preset=mask.preset,
        mask_files=files,
        min_coverage=mask.coverage,
        seed=config.seed,
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
