"""Does a network learn as well in bfloat16 as in float32?

    python -m benchmarks.mixed_precision [--seeds 3] [--steps 500]

The demo (`configs/dpconv.py`: drawn garments at 64 x 64) from each seed in both, on the same batches: the generator's
loss, mean of the last 100 steps. Ends with an error where the means over seeds are more than 2 % apart. On a CPU, where
bfloat16 is slow, half an hour.
"""

import argparse

import jax
import numpy as np

from dpconv_jax import distributed
from dpconv_jax.configs import dpconv
from dpconv_jax.training import steps, train
from dpconv_jax.training.experiment import Experiment

LAST = 100
ALLOWED = 0.02


def trained(dtype: str, *, seed: int, count: int) -> float:
    """The generator's loss, mean of the last steps of `count`."""
    config = dpconv.get_config()
    config.seed, config.train.steps, config.train.dtype = seed, count, dtype
    experiment = Experiment.of(config)
    mesh = experiment.mesh
    state = jax.device_put(steps.initialise(experiment.gan), distributed.replicated(mesh))
    step = train.compile_step(experiment.gan, experiment.learning_rate, mesh)
    batches, losses = experiment.batches(start=0), []
    for _ in range(count):
        batch = next(batches)
        arrays = distributed.to_devices({name: batch[name] for name in ("image", "mask")}, mesh)
        state, metrics = step(state, arrays, None, False)
        losses.append(metrics["total"])
    return float(np.mean(jax.device_get(losses[-LAST:])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=500)
    options = parser.parse_args()
    print("| seed | float32 | bfloat16 | bfloat16 / float32 |\n|---|---|---|---|")
    losses = []
    for seed in range(options.seeds):
        losses.append([trained(dtype, seed=seed, count=options.steps) for dtype in ("float32", "bfloat16")])
        wide, narrow = losses[-1]
        print(f"| {seed} | {wide:.4f} | {narrow:.4f} | {narrow / wide:.4f} |", flush=True)
    wide, narrow = np.mean(losses, axis=0)
    print(f"| mean | {wide:.4f} | {narrow:.4f} | {narrow / wide:.4f} |")
    if abs(narrow / wide - 1) > ALLOWED:
        raise SystemExit(f"more than {ALLOWED:.0%} apart")


if __name__ == "__main__":
    main()
