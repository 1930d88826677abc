"""Random weights and images for the networks of the metrics: `networks.py` and the tests give others the same."""

import jax
import jax.numpy as jnp
import numpy as np

from dpconv_jax.models import lpips, vgg16
from dpconv_jax.weights import inception as inception_file
from dpconv_jax.weights.tensor_file import Tensors


def trunk() -> vgg16.VGG16:
    """The whole network."""
    rng = np.random.default_rng(0)
    kernels, biases = {}, {}
    for name, inputs, outputs in (layer for block in vgg16.BLOCKS for layer in block):
        kernels[name] = jnp.asarray(rng.normal(0, (2 / (9 * inputs)) ** 0.5, (3, 3, inputs, outputs)), jnp.float32)
        biases[name] = jnp.asarray(rng.normal(0, 0.1, outputs), jnp.float32)
    return vgg16.VGG16(kernels=kernels, biases=biases, convention="torchvision")


def heads() -> tuple[jax.Array, ...]:
    """Of LPIPS."""
    rng = np.random.default_rng(1)
    return tuple(jnp.asarray(rng.random(channels), jnp.float32) for channels in lpips.CHANNELS)


def inception() -> Tensors:
    """By their published names; variances are positive."""
    rng = np.random.default_rng(0)
    found = {}
    for name, shape in inception_file.shapes().items():
        if name.endswith(("bn.weight", "running_var")):
            values = rng.uniform(0.5, 1.5, shape)
        elif len(shape) == 1:
            values = rng.normal(0, 0.1, shape)
        else:
            values = rng.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape)
        found[name] = values.astype(np.float32)
    return found


def pair(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (2, H, W, 3) in [0, 1], and what noise makes of them."""
    rng = np.random.default_rng(height)
    a = rng.random((2, height, width, 3), np.float32)
    return a, np.clip(a + rng.normal(0, 0.1, a.shape), 0, 1).astype(np.float32)
