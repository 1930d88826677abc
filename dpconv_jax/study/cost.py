"""What each method costs: the paper's "shallower", and "without reducing the spatial dimensionality of the encoder".

    python -m dpconv_jax.study.cost [--size=256] [--width=1.0] [--batch=1] [--out=cost.csv]

A table, one row a method: its layers, parameters, arithmetic and smallest map, counted in the networks themselves, and
its time on this machine.
"""

import csv
import functools
import io
import os
import pathlib
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dpconv_jax import cli, models
from dpconv_jax.errors import UsageError
from dpconv_jax.files import write_whole
from dpconv_jax.models.generator import Generator, infer
from dpconv_jax.study.arithmetic import flops, longest_path

METHODS: dict[str, tuple[str, dict[str, Any]]] = {  # name -> generator, and the fields of it that are not its own
    "dpconv": ("dpconv", {}),
    "pconv": ("pconv", {}),
    "pconv_liu2018": ("pconv", {"variant": "liu2018"}),
    "gconv": ("gconv", {}),
}
ROUNDS = 5  # every method once in each, so that a machine whose speed drifts is as fast for all
SMALLEST = 32  # two pixels for the smallest map of every method

NOTES = """\
Depth: convolutions with learned kernels on the longest path from the input to the output; "with projections" counts
the 1 x 1 projections of self-attention as well. FLOPs: forward, an image, 2 for a multiply-add. Smallest map: its side
in pixels. ms: an image, the median of {rounds} interleaved rounds on {hardware}, float32."""


class Cost(NamedTuple):
    """One method, for images of one size: `milliseconds` is the time of one of a batch."""

    method: str
    depth: int  # convolutions on the longest path
    depth_with_projections: int
    parameters: int
    gflop: float
    smallest_map: int
    milliseconds: float


def build(method: str, *, size: int, width: float = 1.0) -> Generator:
    """The generator of a method, its weights shapes only. UsageError for a size or width that it cannot have."""
    name, options = METHODS[method]
    generator = models.build(name, options | {"width": width}, size=size)
    if size < SMALLEST or size % generator.stride:
        raise UsageError(f"--size={size}: at least {SMALLEST}, and for {method} a multiple of {generator.stride}")
    return generator


def count(method: str, *, size: int, width: float = 1.0) -> Cost:
    """All but the time, which is NaN; nothing is run. Raises the UsageErrors of `build`."""
    generator = build(method, size=size, width=width)
    infer, whole = _split(generator)
    image, mask = (jax.ShapeDtypeStruct((1, size, size, channels), jnp.float32) for channels in (3, 1))
    jaxpr = _quietly(jax.make_jaxpr(infer), whole, image, mask)
    path = longest_path(jaxpr, weights=len(jax.tree.leaves(whole)))
    assert path.smallest is not None
    learned = jax.tree.leaves(nnx.state(generator, nnx.Param))
    return Cost(
        method=method,
        depth=path.convolutions,
        depth_with_projections=path.layers,
        parameters=sum(leaf.size for leaf in learned),
        gflop=flops(jaxpr.jaxpr) / 1e9,
        smallest_map=path.smallest,
        milliseconds=float("nan"),
    )


def measure(*, size: int, width: float, batch: int, rounds: int) -> list[Cost]:
    """Every method, counted and timed. Raises the UsageErrors of `build`."""
    counted = [count(method, size=size, width=width) for method in METHODS]
    rng = np.random.default_rng(0)
    image = jnp.asarray(rng.random((batch, size, size, 3), np.float32))
    mask = jnp.ones((batch, size, size, 1)).at[:, size // 4 : size // 2, size // 4 : -size // 8].set(0)
    runs = []
    for method in METHODS:
        infer, shapes = _split(build(method, size=size, width=width))
        weights = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.01, leaf.dtype), shapes)
        run = functools.partial(jax.jit(infer), weights, image * mask, mask)
        _quietly(run).block_until_ready()  # compiles
        runs.append(run)
    times = [[_seconds(run) for run in runs] for _ in range(rounds)]
    medians = [1e3 * statistics.median(column) / batch for column in zip(*times, strict=True)]
    return [cost._replace(milliseconds=ms) for cost, ms in zip(counted, medians, strict=True)]


def _split(generator: Generator) -> tuple[Callable[..., jax.Array], Any]:
    """(weights, image, mask) -> output, and the weights."""
    graph, state = nnx.split(generator)
    return functools.partial(infer, graph), nnx.to_pure_dict(state)


def _quietly(run: Callable, *arguments: Any) -> Any:
    """A dilation that reaches the side of a small map is of interest to a training, and costs the same."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "dilation .* reaches the side", UserWarning)
        return run(*arguments)


def _seconds(run: Callable[[], jax.Array]) -> float:
    start = time.perf_counter()
    run().block_until_ready()
    return time.perf_counter() - start


def markdown(costs: Sequence[Cost]) -> str:
    """The table."""
    head = ("method", "depth", "with projections", "parameters", "GFLOP", "smallest map", "ms")
    rows = [
        (
            cost.method,
            cost.depth,
            cost.depth_with_projections,
            f"{cost.parameters:,}",
            f"{cost.gflop:.2f}",
            cost.smallest_map,
            f"{cost.milliseconds:.1f}",
        )
        for cost in costs
    ]
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def main(arguments: list[str] | None = None) -> int:
    """The exit code. Raises UsageError for a mistake."""
    parser = cli.Parser(prog="python -m dpconv_jax.study.cost", description=__doc__)
    parser.add_argument("--size", type=int, default=256, help="side of the images; default %(default)s")
    parser.add_argument("--width", type=float, default=1.0, help="multiplies channel counts; default %(default)s")
    parser.add_argument("--batch", type=int, default=1, help="images at once; default %(default)s")
    parser.add_argument("--out", type=pathlib.Path, metavar="FILE", help="the numbers as CSV")
    given = parser.parse_args(arguments)
    if given.batch < 1:
        raise UsageError(f"--batch={given.batch}: at least 1")
    costs = measure(size=given.size, width=given.width, batch=given.batch, rounds=ROUNDS)
    print(f"{given.batch} x {given.size} x {given.size}, width {given.width:g}\n\n{markdown(costs)}\n")
    hardware = f"{jax.devices()[0].device_kind}, {os.cpu_count()} CPU cores"
    print(NOTES.format(rounds=ROUNDS, hardware=hardware))
    if given.out:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([Cost._fields, *costs])
        try:
            write_whole(given.out, text.getvalue().encode())
        except OSError as error:
            raise UsageError(f"--out {given.out} cannot be written: {error.strerror}") from error
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main))
