"""What can be evaluated as a method: a network over a mesh, a baseline, and any function of masked images."""

import functools
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from dpconv_jax import distributed
from dpconv_jax.baselines import classical
from dpconv_jax.baselines.classical import Fill
from dpconv_jax.evaluation.evaluate import Method, Padded
from dpconv_jax.inpainting import texture
from dpconv_jax.models.generator import infer
from dpconv_jax.models.trees import Tree

TEXTURE = "+texture"  # after the name of a network


def blind(name: str, fill: Fill, *, identity: dict[str, Any]) -> Method:
    """A function (images, masks) -> outputs, which sees masked images and nothing else.

    Images (B, H, W, 3) float32 in [0, 1] whose hole pixels are 0; masks (B, H, W, 1), 1 = valid; outputs (B, H, W, 3).
    The method raises ValueError for an output of another shape.
    """

    def filled(batch: Padded) -> np.ndarray:
        # Copies: a method that writes into its arguments must not change what the next one sees.
        output = np.asarray(fill(batch.masked.copy(), batch.mask.copy()), np.float32)
        if output.shape != batch.image.shape:
            raise ValueError(f"method {name!r} gave {output.shape} for images {batch.image.shape}")
        return output

    return Method(name, identity, filled)


def baselines(names: Iterable[str]) -> list[Method]:
    """Those of `classical`. Raises UsageError for an unknown name and where a library is missing."""
    identity = {"source": "dpconv_jax.baselines"}
    return [blind(name, fill, identity=identity) for name, fill in classical.batched(names).items()]


def textured(method: Method) -> Method:
    """Its outputs, at their size, lead patches of the image itself (`inpainting/texture.py`); named NAME+texture."""

    def filled(batch: Padded) -> np.ndarray:
        guides = np.clip(method.fill(batch), 0, 1)
        return classical.side_by_side(
            lambda *each: texture.fill(*each, guide_scale=1).image, batch.masked, batch.mask, guides
        )

    return Method(method.name + TEXTURE, method.identity | {"texture": True}, filled)


class Network:
    """A generator over the mesh, for batches of any size, compiled for one: `batch_size`.

    Of several processes each works by itself, on its own devices of the mesh.
    """

    def __init__(self, graph: nnx.GraphDef, mesh: Mesh, *, batch_size: int):
        self._mesh = mesh.local_mesh
        whole, parts = distributed.replicated(self._mesh), distributed.split(self._mesh)
        in_shardings = (whole, parts, parts)
        self._infer = jax.jit(functools.partial(infer, graph), in_shardings=in_shardings, out_shardings=parts)
        self._size = batch_size + -batch_size % self._mesh.size

    def method(self, name: str, params: Tree, *, identity: dict[str, Any]) -> Method:
        """With these parameters and statistics, replicated or not on devices yet."""
        return blind(name, functools.partial(self._fill, distributed.own(params, self._mesh)), identity=identity)

    def _fill(self, params: Tree, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
        padding = [(0, -len(image) % self._size)] + [(0, 0)] * 3
        images, masks_ = (np.pad(array, padding, mode="edge") for array in (image, mask))
        chunks = [slice(first, first + self._size) for first in range(0, len(images), self._size)]
        outputs = [np.asarray(self._infer(params, images[chunk], masks_[chunk])) for chunk in chunks]
        return np.concatenate(outputs)[: len(image)]
