"""A generator in training as a method to evaluate."""

import functools

import jax
import numpy as np
from jax.sharding import Mesh

from dpconv_jax import sharding, steps
from dpconv_jax.evaluate import BatchMethod


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
