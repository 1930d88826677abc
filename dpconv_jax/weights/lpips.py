"""Reads the heads of LPIPS, version 0.1 on VGG-16, by the names of the published file: `lin0.model.1.weight` and on."""

import pathlib

import jax.numpy as jnp

from dpconv_jax.errors import UsageError
from dpconv_jax.models.lpips import CHANNELS, LPIPS
from dpconv_jax.models.vgg16 import BLOCKS, VGG16
from dpconv_jax.weights import tensor_file

SHAPES: dict[str, tuple[int, ...]] = {
    f"lin{index}.model.1.weight": (1, channels, 1, 1) for index, channels in enumerate(CHANNELS)
}


def load(path: str | pathlib.Path, *, trunk: VGG16) -> LPIPS:
    """The heads in the file at `path` on `trunk`.

    Raises UsageError where `trunk` lacks conv5, the file is missing or damaged, or a head is missing, of another shape
    or has a negative weight.
    """
    if any(name not in trunk.kernels for name, _, _ in BLOCKS[-1]):
        raise UsageError("the VGG-16 weights for LPIPS must reach conv5_3; these end before it")
    tensors, _ = tensor_file.read(path)
    return LPIPS(trunk=trunk, heads=heads(tensors, source=path))


def heads(tensors: tensor_file.Tensors, *, source: str | pathlib.Path) -> tuple[jnp.ndarray, ...]:
    """One (C,) float32 for each map; raises the UsageErrors of `load`."""
    taken = tensor_file.take(tensors, SHAPES, source=source, what="file of LPIPS heads")
    negative = [name for name, head in taken.items() if (head < 0).any()]
    if negative:
        raise UsageError(f"{source}: LPIPS weights are not negative, but {', '.join(negative)} has some that are")
    return tuple(jnp.asarray(head.reshape(-1)) for head in taken.values())
