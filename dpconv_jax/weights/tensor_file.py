"""Named tensors from the files that weights come in: `.npz`, `.safetensors`, PyTorch's `.pth`, Keras' `.h5`."""

import hashlib
import pathlib
import zipfile
from collections.abc import Callable

import numpy as np
import safetensors

from dpconv_jax.errors import UsageError
from dpconv_jax.weights import torch_file

Tensors = dict[str, np.ndarray]
Metadata = dict[str, str]
# What the libraries raise at damaged or strange files: h5py RuntimeError, safetensors AttributeError for float8, ...
FAULTS = (
    *(OSError, ValueError, EOFError, KeyError, RuntimeError, TypeError, AttributeError),
    *(zipfile.BadZipFile, safetensors.SafetensorError),
)


def read(path: str | pathlib.Path) -> tuple[Tensors, Metadata]:
    """All tensors by name, and the texts that a `.safetensors` or an `.npz` holds beside them.

    Raises UsageError where the file is missing, damaged or of another kind.
    """
    path = pathlib.Path(path)
    if path.suffix not in READERS:
        raise UsageError(f"weights {path}: expected a file named *{', *'.join(READERS)}")
    if not path.is_file():
        raise UsageError(f"weights {path}: no such file")
    try:
        return READERS[path.suffix](path)
    except UsageError:
        raise
    except FAULTS as error:
        raise UsageError(f"weights {path} cannot be read: {error}") from error


def take(tensors: Tensors, shapes: dict[str, tuple[int, ...]], *, source: str | pathlib.Path, what: str) -> Tensors:
    """Those of `tensors` that `shapes` names, float32, in memory of their own.

    Raises UsageError where one is missing, of another shape or not finite; all such are named at once.
    """
    wrong = []
    for name, shape in shapes.items():
        if name not in tensors:
            wrong.append(f"{name} is missing")
        elif tensors[name].shape != shape:
            wrong.append(f"{name} has shape {tensors[name].shape}, not {shape}")
        elif not np.isfinite(tensors[name]).all():
            wrong.append(f"{name} is not finite")
    if wrong:
        raise UsageError(f"{source} is no {what}: {'; '.join(wrong)}")
    return {name: np.array(tensors[name], np.float32) for name in shapes}


def sha256(path: str | pathlib.Path) -> str:
    """Of the file at `path`, in hexadecimal digits. Raises UsageError where it cannot be read."""
    try:
        with pathlib.Path(path).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def _read_npz(path: pathlib.Path) -> tuple[Tensors, Metadata]:
    # numpy leaves a file of its own open where the archive is damaged.
    with path.open("rb") as stream:
        archive = np.load(stream, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("it holds one array and not an archive of them")
        with archive:
            arrays = {name: np.asarray(archive[name]) for name in archive.files}
    texts = {name: str(array) for name, array in arrays.items() if array.dtype.kind == "U"}
    return {name: array for name, array in arrays.items() if name not in texts}, texts


def _read_safetensors(path: pathlib.Path) -> tuple[Tensors, Metadata]:
    with safetensors.safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118


def _read_torch(path: pathlib.Path) -> tuple[Tensors, Metadata]:
    return torch_file.read(path), {}


def _read_h5(path: pathlib.Path) -> tuple[Tensors, Metadata]:
    try:
        import h5py
    except ImportError as error:
        raise UsageError(f"weights {path}: reading .h5 needs h5py, which is not installed: pip install h5py") from error
    found: Tensors = {}

    def keep(name: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = np.asarray(item)

    with h5py.File(path, "r") as file:
        file.visititems(keep)
    return found, {}


READERS: dict[str, Callable[[pathlib.Path], tuple[Tensors, Metadata]]] = {
    ".npz": _read_npz,
    ".safetensors": _read_safetensors,
    ".pth": _read_torch,
    ".h5": _read_h5,
}
