"""After how many layers is a mask full? Ablation 2 of the paper, with the masks that our layers and networks return.

A mask is full where no hole is left. Masks are uint8 (256, 256, 1), 1 = valid, 0 = hole.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dpconv_jax import masks, models
from dpconv_jax.layers.partial_conv import Source, partial_conv

SIZE = 256
MOST = 20  # layers on each other
PUBLISHED_MOST = 19  # the authors' script behind Fig. 6 tries no more
RANGES = tuple((tenth / 10, (tenth + 1) / 10) for tenth in range(6))  # of the hole ratio, each (low, high]
BATCH = 16
NARROW = 0.125  # width of the networks: their masks do not depend on it


class Series(NamedTuple):
    """One stack of layers, or one encoder."""

    name: str  # of its column
    title: str
    full: Callable[[jax.Array], Iterable[jax.Array]]  # masks (B, H, W, 1) float32 -> after each layer, bool (B,): full?


class Comparison(NamedTuple):
    """What stands side by side: series by the title of their panel."""

    name: str
    title: str
    panels: Mapping[str, Sequence[Series]]

    @property
    def series(self) -> list[Series]:
        """Of all panels."""
        return [*itertools.chain.from_iterable(self.panels.values())]


class Filling(NamedTuple):
    """Layers until full of N masks."""

    ratios: np.ndarray  # (N,) float64, of holes
    layers: dict[str, np.ndarray]  # of each series, (N,) int64; 0: some hole is left after its last layer

    def of_range(self, index: int) -> np.ndarray:
        """bool (N,): the masks of RANGES[index]."""
        low, high = RANGES[index]
        return (self.ratios > low) & (self.ratios <= high)


@functools.partial(jax.jit, static_argnames=("side", "dilation", "padding"))
def _layer(mask: jax.Array, *, side: int, dilation: int, padding: int | None) -> tuple[jax.Array, jax.Array]:
    """The mask that a partial convolution of this geometry returns, and which are full; its features are not made."""
    kernel = jnp.ones((side, side, 1, 1))
    _, updated = partial_conv([Source(mask, mask)], kernel, padding=padding, dilation=dilation)
    return updated, updated.all((1, 2, 3))


def stack(
    name: str, title: str, *, side: int, dilation: int = 1, padding: int | None = None, most: int = MOST
) -> Series:
    """The same layer `most` times, stride 1: a kernel of `side`, and zeros around as `partial_conv` has them."""

    def full(mask: jax.Array) -> Iterator[jax.Array]:
        for _ in range(most):
            mask, done = _layer(mask, side=side, dilation=dilation, padding=padding)
            yield done

    return Series(name, title, full)


def encoder(name: str, title: str, *, model: str, **options: Any) -> Series:
    """The encoder of a network for images of 256 x 256, its bottleneck included, as `models.build` makes it.

    Its weights are never made: no mask depends on them.
    """
    graph, shapes = nnx.split(models.build(model, options | {"width": NARROW}, size=SIZE))

    @jax.jit
    def full(mask: jax.Array) -> list[jax.Array]:
        weights = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        _, found = nnx.merge(graph, weights)(jnp.repeat(mask, 3, axis=-1), mask)
        return [updated.all((1, 2, 3)) for layer, updated in found.items() if layer[0] in "ed"]

    return Series(name, title, full)


def comparisons() -> tuple[Comparison, Comparison, Comparison]:
    """As published; like for like; and the encoders."""
    published = (
        stack("pconv_9x9", "PConv, 9x9", side=9, padding=0, most=PUBLISHED_MOST),
        stack("dpconv_5x5_d4", "DPConv, 5x5, dilation 4", side=5, dilation=4, padding=4, most=PUBLISHED_MOST),
    )
    like = {
        f"{side}x{side}": [
            stack(f"{side}x{side}_d{dilation}", f"dilation {dilation}", side=side, dilation=dilation)
            for dilation in (1, 2, 4, 8)
        ]
        for side in (3, 5)
    }
    encoders = (
        encoder("encoder_pconv", "PConv, benchmark", model="pconv", variant="benchmark"),
        encoder("encoder_pconv_liu2018", "PConv, liu2018", model="pconv", variant="liu2018"),
        encoder("encoder_dpconv", "DPConv, paper", model="dpconv", variant="paper"),
    )
    return (
        Comparison("published", "As published: both take 8 pixels off the side of the map", {"": published}),
        Comparison("like_for_like", "Like for like: the same kernel and same padding, with and without dilation", like),
        Comparison("encoders", "The encoders of the networks, bottleneck included", {"": encoders}),
    )


def count(series: Series, mask: np.ndarray) -> np.ndarray:
    """Layers until each of masks (B, H, W, 1) is full, int64 (B,); 0: after the last it is not."""
    layers = np.zeros(len(mask), np.int64)
    for number, full in enumerate(series.full(jnp.asarray(mask, jnp.float32)), start=1):
        layers[(layers == 0) & np.asarray(full)] = number
        if layers.all():
            break
    return layers


def measure(drawn: Iterable[np.ndarray], compared: Iterable[Comparison]) -> Filling:
    """Every series of the comparisons on every mask. Fast where masks of similar ratios come one after another."""
    every = [series for comparison in compared for series in comparison.series]
    ratios: list[float] = []
    layers: dict[str, list[np.ndarray]] = {series.name: [np.zeros(0, np.int64)] for series in every}
    waiting = iter(drawn)
    while batch := [*itertools.islice(waiting, BATCH)]:
        ratios += map(masks.hole_ratio, batch)
        whole = np.stack([*batch, *batch[-1:] * (BATCH - len(batch))])  # one shape, compiled once
        for series in every:
            layers[series.name].append(count(series, whole)[: len(batch)])
    return Filling(np.array(ratios), {name: np.concatenate(found) for name, found in layers.items()})


def range_of(mask: np.ndarray) -> int | None:
    """The index in RANGES of a mask's hole ratio; None: it lies in none."""
    ratio = masks.hole_ratio(mask)
    return next((index for index, (low, high) in enumerate(RANGES) if low < ratio <= high), None)


def drawn(preset: str, *, each: int, seed: int) -> Iterator[np.ndarray]:
    """`each` masks of a preset in each of RANGES, range after range."""
    rng = np.random.default_rng(seed)
    for index in range(len(RANGES)):
        missing = each
        while missing:
            mask = masks.draw(rng, (SIZE, SIZE), preset=preset, bucket=index // 2)
            if range_of(mask) == index:
                missing -= 1
                yield mask


def read(files: masks.MaskFiles, *, each: int, seed: int) -> Iterator[np.ndarray]:
    """At most `each` masks of a folder in each of RANGES, range after range, each file at most once, by chance.

    Resized to 256 x 256 by nearest neighbour.
    """
    found: list[list[np.ndarray]] = [[] for _ in RANGES]
    for place in np.random.default_rng(seed).permutation(len(files.paths)):
        mask = masks.read(files.paths[place], hole=files.hole, size=(SIZE, SIZE))
        index = range_of(mask)
        if index is not None and len(found[index]) < each:
            found[index].append(np.packbits(mask))
        if all(len(some) == each for some in found):
            break
    for packed in itertools.chain.from_iterable(found):
        yield np.unpackbits(packed).reshape(SIZE, SIZE, 1)
