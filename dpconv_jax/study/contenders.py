"""What a study compares, as its command names it: trained networks, NAME=PATH each, and baselines."""

import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from dpconv_jax import metrics, model, sharding
from dpconv_jax.baselines import classical
from dpconv_jax.errors import UsageError
from dpconv_jax.evaluate import BatchMethod, Padded, outputs
from dpconv_jax.inpainter import Inpainter

GREY = 0.5  # of a hole that is shown


class Contenders:
    """The methods of a comparison on images of one size, by the names of its columns; they see masked images only."""

    def __init__(self, baselines: Sequence[str], models: Sequence[str], *, batch_size: int):
        """Baselines first, then `models`, NAME=PATH each, a workdir or a weight file.

        Raises UsageError for a name that is missing, unknown or given twice, a path that holds no model, models that
        were trained at several sizes, and no model at all.
        """
        self.paths = dict(_named(text) for text in models)
        if not models or len(self.paths) < len(models) or {*self.paths} & {*baselines}:
            raise UsageError("--model: at least one, and no two methods of one name")
        self._methods: dict[str, BatchMethod] = {**classical.batched(baselines)}
        loaded = {name: model.load(path) for name, path in self.paths.items()}
        sizes = {name: each.metadata.size for name, each in loaded.items()}
        if len({*sizes.values()}) > 1:
            said = ", ".join(f"{name} at {size}" for name, size in sizes.items())
            raise UsageError(f"--model: trained at several sizes, so that no images suit all: {said}")
        self.size = min(sizes.values())
        mesh = sharding.data_mesh(0)
        for name, each in loaded.items():
            self._methods[name] = Inpainter(each.graph, mesh, batch_size=batch_size).bind(each.params)

    @property
    def names(self) -> list[str]:
        """The columns."""
        return [*self._methods]

    def fill(self, batch: Padded) -> Iterator[tuple[str, np.ndarray]]:
        """The composites (count, H, W, 3) float32 of each method in turn."""
        for name, method in self._methods.items():
            output = outputs(name, method, batch)
            filled = metrics.composite(output=output, target=batch.image, mask=batch.mask)
            yield name, np.asarray(filled)[: batch.count]


def masked(batch: Padded) -> np.ndarray:
    """The images (count, H, W, 3) with mid-grey holes."""
    return np.where(batch.mask > 0.5, batch.image, np.float32(GREY))[: batch.count]


def names(text: str) -> list[str]:
    """Of a flag that holds several, separated by commas; "" holds none."""
    return [name for name in text.split(",") if name]


def _named(text: str) -> tuple[str, pathlib.Path]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise UsageError(f"--model={text}: NAME=PATH, the name of its column and a workdir or weight file")
    return name, pathlib.Path(path)
