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

    Of several processes each gives the same batch and gets all of the output; each works on its share.
    """

    def __init__(self, graph: nnx.GraphDef, mesh: Mesh, *, batch_size: int):
        whole, parts = sharding.replicated(mesh), sharding.split(mesh)
        in_shardings = (whole, parts, parts)
        self._infer = jax.jit(functools.partial(steps.infer, graph), in_shardings=in_shardings, out_shardings=whole)
        self._size = batch_size + -batch_size % mesh.size
        self.mesh = mesh

    def __call__(self, params: Tree, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """image (B, H, W, 3) in [0, 1], mask (B, H, W, 1) -> I_out (B, H, W, 3) float32."""
        padding = [(0, -len(image) % self._size)] + [(0, 0)] * 3
        images, masks_ = (np.pad(array, padding, mode="edge") for array in (image, mask))
        chunks = [slice(first, first + self._size) for first in range(0, len(images), self._size)]
        batches = ([sharding.spread(array[chunk], self.mesh) for array in (images, masks_)] for chunk in chunks)
        outputs = [np.asarray(self._infer(params, *batch)) for batch in batches]
        return np.concatenate(outputs)[: len(image)]

    def bind(self, params: Tree) -> BatchMethod:
        """A method for `evaluate`; `params` are parameters and statistics."""
        return functools.partial(self, params)
