"""The generator that the authors of the paper published, from PyTorch's names and order of channels to ours.

`s_attention_6` and `s_attention_7` hold `query_conv`, `key_conv`, `value_conv` and `gamma`; InstanceNorm has no
parameters. Where two maps are concatenated, the released code has the skip connection first; u3 and u4 have it last.
"""

import pathlib

import jax
import numpy as np

from dpconv_jax.errors import UsageError
from dpconv_jax.weights import model_file
from dpconv_jax.weights.tensor_file import Tensors

METADATA = model_file.Metadata(
    model="dpconv",
    options={"variant": "released", "width": 1.0, "dilations": (2, 4, 8, 2), "norm": "instance", "dropout": 0.0},
    size=256,
    step=None,  # the file does not say
)
LAYERS = {
    **{f"e{i}": f"block_{i}" for i in range(4)},
    **{f"d{i}": f"dilated_block_{i}" for i in range(1, 5)},
    **{f"u{i}": f"block_{i + 5}" for i in range(1, 5)},
    "a1": "s_attention_6",
    "a2": "s_attention_7",
}
SKIP_FIRST = {"u3": 64, "u4": 3}  # channels of the skip connection, which ours have last


def parameters(tensors: Tensors, *, source: str | pathlib.Path) -> model_file.Params:
    """The parameters of DPConv `released` from the state dict of the release, its names as they are or after `module.`.

    Raises UsageError where a tensor is missing, unexpected, of another shape or not finite; all such are named at once.
    """
    tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    wanted = model_file.flat(model_file.shapes(model_file.build(METADATA)))
    found, faults = {}, []
    for name, leaf in wanted.items():
        theirs = _their_name(name)
        if theirs not in tensors:
            faults.append(f"{theirs} is missing")
            continue
        tensor = tensors.pop(theirs)
        shape = _their_shape(leaf.shape, theirs)
        if tensor.shape != shape:
            faults.append(f"{theirs} has shape {tensor.shape}, not {shape}")
        elif not np.isfinite(tensor).all():
            faults.append(f"{theirs} is not finite")
        else:
            found[name] = _ours(np.asarray(tensor, np.float32), leaf, name)
    faults += [f"{name} is unexpected" for name in tensors]
    if faults:
        raise UsageError(f"{source} is not the released generator: {'; '.join(faults)}")
    return found


def _their_name(name: str) -> str:
    """Of our `layer.parameter` or `attention.part.parameter`."""
    layer, *part, parameter = name.split(".")
    parameter = {"kernel": "weight"}.get(parameter, parameter)
    return ".".join([LAYERS[layer], *(f"{each}_conv" for each in part), parameter])


def _their_shape(ours: tuple[int, ...], name: str) -> tuple[int, ...]:
    """(O, I, kh, kw) of kernels, also of the attentions' 1 x 1, and (1,) of gamma."""
    if name.endswith(".gamma"):
        return (1,)
    kernel = (1, 1, *ours) if len(ours) == 2 else ours
    return tuple(kernel[axis] for axis in (3, 2, 0, 1)) if len(kernel) == 4 else kernel


def _ours(tensor: np.ndarray, leaf: jax.ShapeDtypeStruct, name: str) -> np.ndarray:
    if tensor.ndim == 4:
        tensor = tensor.transpose(2, 3, 1, 0)
        if skip := SKIP_FIRST.get(name.split(".")[0]):
            tensor = np.roll(tensor, -skip, axis=2)
    return np.array(tensor.reshape(leaf.shape), order="C")
