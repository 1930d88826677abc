"""Reads VGG-16 weights from `.npz` or `.safetensors`.

Names: `conv1_1/kernel` (H, W, in, out) and `conv1_1/bias`, or torchvision's `features.0.weight` (out, in, H, W) and
`features.0.bias`; layers after conv4_3 are ignored, any float type will do.

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
import zipfile
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import safetensors

from dpconv_jax.errors import UsageError
from dpconv_jax.models.vgg16 import BLOCKS, VGG16

# torchvision counts ReLUs and maxima as layers of their own.
TORCHVISION_INDEX = dict(
    zip((name for block in BLOCKS for name, _, _ in block), (0, 2, 5, 7, 10, 12, 14, 17, 19, 21), strict=True)
)
OXFORD_FIRST_BIASES = np.array([0.7344, 0.0934, 0.06775, 0.886, 0.26, 0.664, -0.01582, 0.325])
OXFORD_FIRST_KERNEL_RMS = 0.207


def load(path: str | pathlib.Path) -> VGG16:
    """The network in the file at `path`, as float32.

    Raises UsageError where the file is missing, damaged, of another kind, of unknown convention, or lacks layers or
    has some of another shape; the latter are all named at once.
    """
    path = pathlib.Path(path)
    tensors, convention = _read(path)
    torchvision_names = "features.0.weight" in tensors
    kernels, biases, wrong = {}, {}, []
    for name, inputs, outputs in (layer for block in BLOCKS for layer in block):
        stem = f"features.{TORCHVISION_INDEX[name]}." if torchvision_names else f"{name}/"
        kernel_name = stem + ("weight" if torchvision_names else "kernel")
        kernel_shape = (outputs, inputs, 3, 3) if torchvision_names else (3, 3, inputs, outputs)
        for key, shape in ((kernel_name, kernel_shape), (stem + "bias", (outputs,))):
            if key not in tensors:
                wrong.append(f"{key} is missing")
            elif tensors[key].shape != shape:
                wrong.append(f"{key} has shape {tensors[key].shape}, not {shape}")
            elif not np.isfinite(tensors[key]).all():
                wrong.append(f"{key} is not finite")
        if not wrong:
            kernel = tensors[kernel_name].astype(np.float32)
            kernels[name] = kernel.transpose(2, 3, 1, 0) if torchvision_names else kernel
            biases[name] = tensors[stem + "bias"].astype(np.float32)
    if wrong:
        raise UsageError(f"{path} is no VGG-16: {'; '.join(wrong)}")
    if convention is None:
        convention = _detect(path, kernels["conv1_1"], biases["conv1_1"], torchvision_names=torchvision_names)
    if convention not in ("oxford", "torchvision"):
        raise UsageError(f"{path}: convention {convention!r} is neither 'oxford' nor 'torchvision'")
    return VGG16(
        kernels={name: jnp.asarray(kernel) for name, kernel in kernels.items()},
        biases={name: jnp.asarray(bias) for name, bias in biases.items()},
        convention=convention,
    )


def _detect(path: pathlib.Path, kernel: np.ndarray, bias: np.ndarray, *, torchvision_names: bool) -> str:
    same_biases = np.allclose(bias[: OXFORD_FIRST_BIASES.size], OXFORD_FIRST_BIASES, rtol=0.01, atol=1e-3)
    if same_biases and 0.5 < np.sqrt(np.mean(kernel**2)) / OXFORD_FIRST_KERNEL_RMS < 2:
        return "oxford"
    if torchvision_names:
        return "torchvision"
    raise UsageError(
        f"{path}: cannot tell which inputs these weights take; add a `convention` of 'oxford' (0-255 minus the mean) "
        "or 'torchvision' ([0, 1], mean and std) to the file"
    )


def _read(path: pathlib.Path) -> tuple[dict[str, np.ndarray], str | None]:
    readers: dict[str, Callable[[pathlib.Path], tuple[dict[str, np.ndarray], str | None]]] = {
        ".npz": _read_npz,
        ".safetensors": _read_safetensors,
    }
    if path.suffix not in readers:
        raise UsageError(f"VGG-16 weights {path}: expected a .npz or .safetensors file")
    if not path.is_file():
        raise UsageError(f"VGG-16 weights {path}: no such file")
    try:
        return readers[path.suffix](path)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, safetensors.SafetensorError) as error:
        raise UsageError(f"VGG-16 weights {path} cannot be read: {error}") from error


def _read_npz(path: pathlib.Path) -> tuple[dict[str, np.ndarray], str | None]:
    # numpy leaves a file of its own open where the archive is damaged.
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
        wanted = [key for key in archive.files if not key.startswith(("conv5", "fc", "classifier"))]
        tensors = {key: archive[key] for key in wanted}
    convention = tensors.pop("convention", None)
    return tensors, None if convention is None else str(convention)


def _read_safetensors(path: pathlib.Path) -> tuple[dict[str, np.ndarray], str | None]:
    with safetensors.safe_open(path, framework="numpy") as file:
        metadata = file.metadata() or {}
        tensors = {key: file.get_tensor(key) for key in file.keys() if not key.startswith("classifier")}  # noqa: SIM118
    return tensors, metadata.get("convention")
