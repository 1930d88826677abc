"""Reads the tensors of a PyTorch file without PyTorch, and runs nothing that the file asks for.

There are two containers: a zip archive (PyTorch 1.6 and later) of one pickle, `data.pkl`, and a raw file for each
storage; and before it four pickles (a number, a version, facts of the machine, the object), a fifth with the order of
the storages, and the raw storages, each after its length. Pickles can call anything by name: here, a name that is not
in `ALLOWED` ends the reading.
"""

import collections
import math
import pathlib
import pickle
import struct
import zipfile
from typing import IO, Any, NamedTuple, Self

import numpy as np

from dpconv_jax.errors import UsageError

MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of the older container


class Storage(NamedTuple):
    """A one-dimensional array of the file, not yet read."""

    key: str
    dtype: str
    length: int


class Tensor(NamedTuple):
    """A view of a storage, counted in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Holder:
    """Stands for a tensor class of PyTorch; its versions filled one by its constructor or by its state."""

    tensor: Tensor

    def __new__(cls, data: Any = None, *flags: Any) -> Self:  # pickles call it without __init__
        holder = super().__new__(cls)
        holder.tensor = _held(data)
        return holder

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if len(state) == 4:
            self.tensor = Tensor(*state)
        elif len(state) == 5:  # the data, its gradient, and flags; fewer are flags alone
            self.tensor = _held(state[0])


def _held(value: Any) -> Any:
    return value.tensor if isinstance(value, Holder) else value


def _rebuild(storage: Storage, offset: int, shape: Any, strides: Any, *flags: Any) -> Tensor:
    return Tensor(storage, offset, tuple(shape), tuple(strides))


STORAGES = {
    "torch.DoubleStorage": "<f8",
    "torch.FloatStorage": "<f4",
    "torch.HalfStorage": "<f2",
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
    "torch.ByteStorage": "|u1",
    "torch.BoolStorage": "|b1",
}
ALLOWED: dict[str, Any] = {
    **STORAGES,
    "collections.OrderedDict": collections.OrderedDict,
    "torch.Size": tuple,
    "torch._utils._rebuild_tensor": _rebuild,
    "torch._utils._rebuild_tensor_v2": _rebuild,
    "torch._utils._rebuild_parameter": Holder,
    "torch.nn.parameter.Parameter": Holder,
    "torch.FloatTensor": Holder,
}


class Unpickler(pickle.Unpickler):
    """Knows the names in `ALLOWED`, and leaves storages for later."""

    def __init__(self, stream: IO[bytes]):
        super().__init__(stream, encoding="utf-8")
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Raises UnpicklingError for any other name."""
        if f"{module}.{name}" not in ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no part of a tensor; it was not run")
        return ALLOWED[f"{module}.{name}"]

    def persistent_load(self, pid: Any) -> Storage:
        """Raises UnpicklingError for what is no whole storage."""
        kind, dtype, key, _, length, *view = pid
        if kind != "storage" or dtype not in STORAGES.values() or any(view):
            raise pickle.UnpicklingError(f"it holds {pid!r}, which is no storage of its own")
        return self.storages.setdefault(key, Storage(key, dtype, length))


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The tensors by name, a dot for every level of nested dicts; read-only views of the file, mapped into memory.

    Raises UsageError where the file is damaged, no PyTorch file, or names anything but tensors and dicts.
    """
    try:
        with path.open("rb") as stream:
            saved, starts = _open_zip(stream) if stream.read(4) == b"PK\x03\x04" else _open_pickles(stream)
        mapped = np.memmap(path, np.uint8, mode="r")
        return {name: _array(mapped, starts, tensor) for name, tensor in _flat(saved)}
    except Exception as error:  # a damaged pickle raises anything
        raise UsageError(f"{path} cannot be read as a PyTorch file: {error or type(error).__name__}") from error


def _open_zip(stream: IO[bytes]) -> tuple[Any, dict[str, int]]:
    """The object, and where in the file each storage starts."""
    starts = {}
    with zipfile.ZipFile(stream) as archive:
        root = archive.namelist()[0].split("/")[0]
        if f"{root}/byteorder" in archive.namelist() and archive.read(f"{root}/byteorder") != b"little":
            raise ValueError("it was written by a big-endian machine")
        for entry in archive.infolist():
            if entry.filename.startswith(f"{root}/data/"):
                if entry.compress_type != zipfile.ZIP_STORED:
                    raise ValueError(f"{entry.filename} is compressed")
                stream.seek(entry.header_offset + 26)
                starts[entry.filename.rsplit("/", 1)[1]] = entry.header_offset + 30 + sum(_unpack("<HH", stream))
        with archive.open(f"{root}/data.pkl") as pickled:
            return Unpickler(pickled).load(), starts


def _open_pickles(stream: IO[bytes]) -> tuple[Any, dict[str, int]]:
    """As `_open_zip`, of the older container."""
    stream.seek(0)
    if Unpickler(stream).load() != MAGIC:
        raise ValueError("it begins with another number")
    for _ in ("version", "machine"):
        Unpickler(stream).load()
    unpickler = Unpickler(stream)
    saved = unpickler.load()
    starts = {}
    for key in Unpickler(stream).load():
        storage = unpickler.storages[key]
        if _unpack("<q", stream) != (storage.length,):
            raise ValueError(f"storage {key} has another length than its tensors say")
        starts[key] = stream.tell()
        stream.seek(storage.length * np.dtype(storage.dtype).itemsize, 1)
    return saved, starts


def _unpack(form: str, stream: IO[bytes]) -> tuple[int, ...]:
    return struct.unpack(form, stream.read(struct.calcsize(form)))


def _flat(saved: Any, prefix: str = "") -> list[tuple[str, Tensor]]:
    """What is neither a dict nor a tensor, such as a number of steps, is left out."""
    found = []
    for name, value in saved.items():
        value = _held(value)
        if isinstance(value, Tensor):
            found.append((f"{prefix}{name}", value))
        elif isinstance(value, dict):
            found += _flat(value, f"{prefix}{name}.")
    return found


def _array(mapped: np.ndarray, starts: dict[str, int], tensor: Tensor) -> np.ndarray:
    storage, offset, shape, strides = tensor
    dtype, start = np.dtype(storage.dtype), starts[storage.key]
    raw = mapped[start : start + storage.length * dtype.itemsize]
    used = offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True)) + 1
    if len(raw) != storage.length * dtype.itemsize or min(offset, *shape, *strides, 0) < 0 or used > storage.length:
        raise ValueError(f"storage {storage.key} is shorter than its tensors")
    elements = raw.view(dtype)[offset:] if math.prod(shape) else np.zeros(0, dtype)
    return np.lib.stride_tricks.as_strided(
        elements, shape, [stride * dtype.itemsize for stride in strides], writeable=False
    )
