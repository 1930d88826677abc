"""Twenty training steps on whatever devices and processes there are: a program for tests of real processes.

    python tests/toy_steps.py sgd|adam PHOTOS OUT.npz

The toy's dropout, the noisy labels and the BatchNorm of the discriminator are on. Writes, by process 0: `batch`, a
digest of every global batch; `total`, `gradient_norm`, `discriminator_gradient_norm` of every step; `params`, all
parameters after the last, and `initial` ones.
"""

import dataclasses
import hashlib
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import jax
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from toy import Toy, tiny

from dpconv_jax import distributed
from dpconv_jax.models import GENERATORS
from dpconv_jax.training import steps, train
from dpconv_jax.training.experiment import Experiment

STEPS = 20
GENERATORS["toy"] = Toy
NUMBERS = ("total", "gradient_norm", "discriminator_gradient_norm")


def flat(state: steps.GanState) -> np.ndarray:
    """The parameters of both networks."""
    return np.asarray(ravel_pytree((state.generator, state.discriminator))[0])


def main(optimizer: str, photos: str, out: str) -> None:
    distributed.initialise()
    config = tiny()
    config.data.dir = photos
    config.train.batch_size = 8
    config.optim.generator_lr = config.optim.discriminator_lr = {"sgd": 0.01, "adam": 2e-3}[optimizer]
    experiment = Experiment.of(config)
    gan, mesh = experiment.gan, experiment.mesh
    if optimizer == "sgd":
        gan = dataclasses.replace(gan, generator_optimizer=optax.identity(), discriminator_optimizer=optax.identity())
    whole = distributed.replicated(mesh)
    step = train.compile_step(gan, experiment.learning_rate, mesh)
    gather = jax.jit(lambda arrays: arrays, out_shardings=whole)
    state = jax.device_put(steps.initialise(gan), whole)
    initial = flat(state)
    batches = experiment.batches(start=0)
    digest, rows = hashlib.sha256(), []
    for _ in range(STEPS):
        batch = next(batches)
        arrays = distributed.to_devices({name: batch[name] for name in ("image", "mask")}, mesh)
        for array in jax.device_get(gather(arrays)).values():
            digest.update(array.tobytes())
        state, metrics = step(state, arrays, None, False)
        rows.append([float(metrics[name]) for name in NUMBERS])
    if distributed.is_main():
        numbers = dict(zip(NUMBERS, np.array(rows).T, strict=True))
        np.savez(out, batch=digest.hexdigest(), initial=initial, params=flat(state), devices=mesh.size, **numbers)
    distributed.barrier("done")


if __name__ == "__main__":
    main(*sys.argv[1:])
