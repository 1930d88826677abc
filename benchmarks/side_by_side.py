"""What mask_path.py, inference.py and train_step.py share: the same work on the same weights, timed by turns."""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.interpreters import partial_eval

from benchmarks.flops import generator
from dpconv_jax.models.dpconv import DPConv
from dpconv_jax.models.generator import Generator
from dpconv_jax.study.arithmetic import flops

FORWARD, BACKWARD = "forward", "forward and backward"

Run = Callable[[], object]


class Compiled:
    """A call of a function on the same arguments again and again, which waits for the result."""

    def __init__(self, function: Callable, *arguments: object):
        traced = jax.jit(function).trace(*arguments)
        self.flops = arithmetic(traced)
        self._run = traced.lower().compile()
        self._arguments = jax.device_put(arguments)

    def __call__(self) -> object:
        return jax.block_until_ready(self._run(*self._arguments))


def arithmetic(traced: jax.stages.Traced) -> int:
    """FLOPs of a function that was traced, without what it computes and does not use: XLA drops that too.

    What is computed again in the backward pass counts each time.
    """
    jaxpr = traced.jaxpr.jaxpr
    return flops(partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))[0])


def passes(network: type[Generator], width: float) -> dict[str, Callable]:
    """Functions of (parameters, image, mask): the output; the value and gradient of a loss made of it."""
    generate = generator(network, width)

    def loss(parameters: nnx.State, image: jax.Array, mask: jax.Array) -> jax.Array:
        return jnp.square(generate(parameters, image, mask) - 0.5).mean()

    return {FORWARD: generate, BACKWARD: jax.value_and_grad(loss)}


def initialised(network: type[Generator], width: float) -> nnx.State:
    """Its parameters, for its plain and PyTorch forms as well."""
    model = network(width=width, rngs=nnx.Rngs(0))
    if isinstance(model, DPConv):
        for attention in (model.a1, model.a2):
            attention.gamma[...] = jnp.float32(1)  # as after training: from 0 its branch would not be compared
    return nnx.state(model, nnx.Param)


def example(batch: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (B, H, W, 3) of noise, 0 in their holes, and the masks (B, H, W, 1)."""
    mask = np.ones((batch, size, size, 1), np.float32)
    mask[:, size // 4 : -size // 4, size // 3 : -size // 8] = 0
    return np.random.default_rng(0).random((batch, size, size, 3), dtype=np.float32) * mask, mask


def parser(description: str) -> argparse.ArgumentParser:
    """With what all three commands take."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--batch", type=int, default=4)
    made.add_argument("--size", type=int, default=256, help="side of the images")
    made.add_argument("--width", type=float, default=1.0, help="multiplies the channels of the generator")
    return made


def setting(options: argparse.Namespace) -> str:
    """For the first line of the output."""
    images = f"{options.batch} x {options.size}^2, width {options.width}"
    return f"{images}, {options.rounds} rounds on {jax.devices()[0].device_kind}; medians (least-largest)"


def seconds(runs: dict[str, Run], rounds: int) -> dict[str, list[float]]:
    """One warm-up, then every contender once in each round: ratios hold though the speed of the machine drifts."""
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return times


def spread(values: Sequence[float], digits: int) -> str:
    median, least, largest = (f"{of(values):.{digits}f}" for of in (statistics.median, min, max))
    return f"{median} ({least}-{largest})"


def table(times: dict[str, list[float]], *, images: int, over: Sequence[str]) -> None:
    """Prints the times of each contender and its ratios over those of `over`, each of two times of one round."""
    print(f"{'':16}{'ms':>28}{'images/s':>10}" + "".join(f"{'/ ' + name:>25}" for name in over))
    for name, values in times.items():
        line = f"{name:16}{spread([1e3 * value for value in values], 1):>28}{images / statistics.median(values):10.1f}"
        for other in over:
            line += f"{spread([a / b for a, b in zip(values, times[other], strict=True)], 3):>25}"
        print(line, flush=True)
