"""What a study compares, as its command names it: trained networks, NAME=PATH each, and baselines."""

import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from dpconv_jax import distributed
from dpconv_jax.errors import UsageError
from dpconv_jax.evaluation import methods, metrics
from dpconv_jax.evaluation.evaluate import Method, Padded
from dpconv_jax.evaluation.methods import Network
from dpconv_jax.inpainting import model

GREY = 0.5  # of a hole that is shown
NAMES = "--model: at least one, and no two methods of one name"


def opened(baselines: Sequence[str], paths: dict[str, pathlib.Path], *, batch_size: int) -> tuple[list[Method], int]:
    """The methods of a comparison, baselines first, and the size of their images.

    paths: a workdir or a weight file by the name of its column. Raises UsageError for a name that is unknown or given
    twice, a path that holds no model, models that were trained at several sizes, and no model at all.
    """
    if not paths or {*paths} & {*baselines}:
        raise UsageError(NAMES)
    found = methods.baselines(baselines)
    loaded = {name: model.load(path) for name, path in paths.items()}
    sizes = {name: each.metadata.size for name, each in loaded.items()}
    if len({*sizes.values()}) > 1:
        said = ", ".join(f"{name} at {size}" for name, size in sizes.items())
        raise UsageError(f"--model: trained at several sizes, so that no images suit all: {said}")
    mesh = distributed.data_mesh(0)
    for name, each in loaded.items():
        network = Network(each.graph, mesh, batch_size=batch_size)
        found.append(network.method(name, each.params, identity={"source": str(paths[name])}))
    return found, min(sizes.values())


def composites(found: Sequence[Method], batch: Padded) -> Iterator[tuple[str, np.ndarray]]:
    """The names of the methods, and what each makes of a batch, (count, H, W, 3) float32."""
    for method in found:
        filled = metrics.composite(output=method.fill(batch), target=batch.image, mask=batch.mask)
        yield method.name, np.asarray(filled)[: batch.count]


def masked(batch: Padded) -> np.ndarray:
    """The images (count, H, W, 3) with mid-grey holes."""
    return np.where(batch.mask > 0.5, batch.image, np.float32(GREY))[: batch.count]


def names(text: str) -> list[str]:
    """Of a flag that holds several, separated by commas; "" holds none."""
    return [name for name in text.split(",") if name]


def paths_of(texts: Sequence[str]) -> dict[str, pathlib.Path]:
    """Of --model=NAME=PATH, given several times; UsageError for another form, and for two of one name."""
    found: dict[str, pathlib.Path] = {}
    for text in texts:
        name, _, path = text.partition("=")
        if not (name and path):
            raise UsageError(f"--model={text}: NAME=PATH, the name of its column and a workdir or weight file")
        if name in found:
            raise UsageError(NAMES)
        found[name] = pathlib.Path(path)
    return found
