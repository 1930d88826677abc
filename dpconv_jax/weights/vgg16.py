"""Reads VGG-16 weights from `.npz`, `.safetensors`, PyTorch's `.pth` or Keras' `.h5`; any float type will do.

Names: `conv1_1/kernel` (H, W, in, out) and `conv1_1/bias`; torchvision's `features.0.weight` (out, in, H, W) and
`features.0.bias`; or Keras' `block1_conv1/block1_conv1_W_1:0` and `..._b_1:0`, whose first kernel takes BGR. conv5_1 to
conv5_3 are read where there are any; what comes after them is ignored.

Two trainings of the network are in use, and their inputs differ in scale by 57.6 (models/vgg16.py). Neither the names
nor the size of the weights tell them apart: both first layers have weights of about 0.2, and Oxford's weights are also
published under torchvision's names. So, in this order:

1. A `convention` of "oxford" or "torchvision" in the file decides: metadata of a `.safetensors`, a string array of an
   `.npz`.
2. A first layer with Oxford's published biases, and weights of Oxford's size, is Oxford's.
3. Other values under torchvision's names are torchvision's.
4. Anything else is refused: a wrong guess would change the style loss by a factor of 3,300.
"""

import pathlib

import jax.numpy as jnp
import numpy as np

from dpconv_jax.errors import UsageError
from dpconv_jax.models.vgg16 import BLOCKS, STYLE_BLOCKS, VGG16
from dpconv_jax.weights import tensor_file

# torchvision counts ReLUs and maxima as layers of their own.
TORCHVISION_INDEX = dict(
    zip(
        (name for block in BLOCKS for name, _, _ in block),
        (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
        strict=True,
    )
)
TORCHVISION_MARK, KERAS_MARK = "features.0.weight", "block1_conv1/block1_conv1_W_1:0"
OXFORD_FIRST_BIASES = np.array([0.7344, 0.0934, 0.06775, 0.886, 0.26, 0.664, -0.01582, 0.325])
OXFORD_FIRST_KERNEL_RMS = 0.207


def load(path: str | pathlib.Path) -> VGG16:
    """The network in the file at `path`, as float32.

    Raises UsageError where the file is missing, damaged, of another kind, of unknown convention, or lacks layers or
    has some of another shape; the latter are all named at once.
    """
    tensors, metadata = tensor_file.read(path)
    return parameters(tensors, metadata, source=path)


def shapes(tensors: tensor_file.Tensors) -> dict[str, tuple[int, ...]]:
    """Of every tensor that is read, by the names that `tensors` go by: conv5 where they have any of it."""
    found: dict[str, tuple[int, ...]] = {}
    for number, block in enumerate(BLOCKS):
        names = [(_names(name, tensors), inputs, outputs) for name, inputs, outputs in block]
        if number >= STYLE_BLOCKS and not any(kernel in tensors or bias in tensors for (kernel, bias), _, _ in names):
            continue
        for (kernel, bias), inputs, outputs in names:
            found[kernel] = (outputs, inputs, 3, 3) if TORCHVISION_MARK in tensors else (3, 3, inputs, outputs)
            found[bias] = (outputs,)
    return found


def parameters(tensors: tensor_file.Tensors, metadata: tensor_file.Metadata, *, source: str | pathlib.Path) -> VGG16:
    """The network of these tensors; raises the UsageErrors of `load`."""
    taken = tensor_file.take(tensors, shapes(tensors), source=source, what="VGG-16")
    kernels, biases = {}, {}
    for name in (name for block in BLOCKS for name, _, _ in block):
        kernel_name, bias_name = _names(name, tensors)
        if kernel_name in taken:
            kernel = taken[kernel_name]
            kernels[name] = kernel.transpose(2, 3, 1, 0) if TORCHVISION_MARK in tensors else kernel
            biases[name] = taken[bias_name]
    if KERAS_MARK in tensors:
        kernels["conv1_1"] = kernels["conv1_1"][:, :, ::-1]
    convention = metadata.get("convention") or _detect(
        source, kernels["conv1_1"], biases["conv1_1"], torchvision_names=TORCHVISION_MARK in tensors
    )
    if convention not in ("oxford", "torchvision"):
        raise UsageError(f"{source}: convention {convention!r} is neither 'oxford' nor 'torchvision'")
    return VGG16(
        kernels={name: jnp.asarray(kernel) for name, kernel in kernels.items()},
        biases={name: jnp.asarray(bias) for name, bias in biases.items()},
        convention=convention,
    )


def _names(layer: str, tensors: tensor_file.Tensors) -> tuple[str, str]:
    """Of the kernel and the bias of a layer such as conv1_1."""
    if TORCHVISION_MARK in tensors:
        stem = f"features.{TORCHVISION_INDEX[layer]}"
        return f"{stem}.weight", f"{stem}.bias"
    if KERAS_MARK in tensors:
        stem = f"block{layer[4]}_conv{layer[6]}"
        return f"{stem}/{stem}_W_1:0", f"{stem}/{stem}_b_1:0"
    return f"{layer}/kernel", f"{layer}/bias"


def _detect(source: str | pathlib.Path, kernel: np.ndarray, bias: np.ndarray, *, torchvision_names: bool) -> str:
    same_biases = np.allclose(bias[: OXFORD_FIRST_BIASES.size], OXFORD_FIRST_BIASES, rtol=0.01, atol=1e-3)
    if same_biases and 0.5 < np.sqrt(np.mean(kernel**2)) / OXFORD_FIRST_KERNEL_RMS < 2:
        return "oxford"
    if torchvision_names:
        return "torchvision"
    raise UsageError(
        f"{source}: cannot tell which inputs these weights take; add a `convention` of 'oxford' (0-255 minus the mean) "
        "or 'torchvision' ([0, 1], mean and std) to the file"
    )
