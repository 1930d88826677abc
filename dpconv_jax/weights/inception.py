"""Reads the Inception-v3 of 2015-12-05 by the names of the published file, a PyTorch copy of TensorFlow's graph."""

import dataclasses
import pathlib

import jax.numpy as jnp
import numpy as np

from dpconv_jax.models import inception
from dpconv_jax.models.inception import CLASSES, FEATURES, Inception
from dpconv_jax.weights import tensor_file

# Its name gives the first eight digits, by PyTorch's custom.
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
EPSILON = 1e-3  # of its batch normalisation


def load(path: str | pathlib.Path) -> Inception:
    """The network in the file at `path`; `official` where that is the published file, by its sha256.

    Raises UsageError where the file is missing or damaged, or lacks tensors or has some of another shape.
    """
    tensors, _ = tensor_file.read(path)
    return dataclasses.replace(parameters(tensors, source=path), official=tensor_file.sha256(path) == SHA256)


def shapes() -> dict[str, tuple[int, ...]]:
    """Of every tensor that is read, by name; kernels are (out, in, kh, kw)."""
    found: dict[str, tuple[int, ...]] = {"fc.weight": (CLASSES, FEATURES), "fc.bias": (CLASSES,)}
    for name, (height, width, inputs, outputs) in inception.shapes().items():
        found[f"{name}.conv.weight"] = (outputs, inputs, height, width)
        found.update({f"{name}.bn.{part}": (outputs,) for part in ("weight", "bias", "running_mean", "running_var")})
    return found


def parameters(tensors: tensor_file.Tensors, *, source: str | pathlib.Path) -> Inception:
    """Not official, whatever the tensors; raises the UsageErrors of `load`."""
    taken = tensor_file.take(tensors, shapes(), source=source, what="Inception-v3 of 2015-12-05")
    kernels, biases = {}, {}
    for name in inception.shapes():
        mean, variance = (taken[f"{name}.bn.running_{part}"].astype(np.float64) for part in ("mean", "var"))
        scale = taken[f"{name}.bn.weight"] / np.sqrt(variance + EPSILON)
        kernel = taken[f"{name}.conv.weight"].transpose(2, 3, 1, 0) * scale
        kernels[name] = jnp.asarray(kernel, jnp.float32)
        biases[name] = jnp.asarray(taken[f"{name}.bn.bias"] - mean * scale, jnp.float32)
    return Inception(
        kernels=kernels,
        biases=biases,
        head=jnp.asarray(taken["fc.weight"].T),
        head_bias=jnp.asarray(taken["fc.bias"]),
    )
