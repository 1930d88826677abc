"""A generator over a mesh as a method to evaluate."""

import functools

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from dpconv_jax import sharding, steps
from dpconv_jax.evaluate import BatchMethod
from dpconv_jax.trees import Tree


class Inpainter:
    """The generator as a function of numpy batches of any size, compiled for one: `batch_size`.

    Of several processes each works by itself, on its own devices of the mesh.
    """

    def __init__(self, graph: nnx.GraphDef, mesh: Mesh, *, batch_size: int):
        self._mesh = mesh.local_mesh
        whole, parts = sharding.replicated(self._mesh), sharding.split(self._mesh)
        in_shardings = (whole, parts, parts)
        self._infer = jax.jit(functools.partial(steps.infer, graph), in_shardings=in_shardings, out_shardings=parts)
        self._size = batch_size + -batch_size % self._mesh.size

    def bind(self, params: Tree) -> BatchMethod:
        """A method for `evaluate`: image (B, H, W, 3) in [0, 1], mask (B, H, W, 1) -> I_out (B, H, W, 3) float32.

        `params`: parameters and statistics, replicated or not on devices yet.
        """
        return functools.partial(self._fill, sharding.own(params, self._mesh))

    def _fill(self, params: Tree, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
        padding = [(0, -len(image) % self._size)] + [(0, 0)] * 3
        images, masks_ = (np.pad(array, padding, mode="edge") for array in (image, mask))
        chunks = [slice(first, first + self._size) for first in range(0, len(images), self._size)]
        outputs = [np.asarray(self._infer(params, images[chunk], masks_[chunk])) for chunk in chunks]
        return np.concatenate(outputs)[: len(image)]
