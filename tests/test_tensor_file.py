"""Weight files that are damaged or of another kind: one line that names them."""

import json
import pathlib
import struct
import zipfile
from collections.abc import Callable

import h5py
import numpy as np
import pytest

from dpconv_jax.errors import UsageError
from dpconv_jax.weights import tensor_file


def damaged_tree(path: pathlib.Path) -> None:
    with h5py.File(path, "w") as file:
        file["a/kernel"] = np.zeros(3)
    path.write_bytes(path.read_bytes().replace(b"SNOD", b"SNOE"))


def one_array(path: pathlib.Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, np.zeros(3))


def of_8_bits(path: pathlib.Path) -> None:
    header = json.dumps({"a": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0")


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("tree.h5", damaged_tree),
        ("one.npz", one_array),
        ("eight.safetensors", of_8_bits),
        ("text.h5", lambda path: path.write_text("no weights")),
        ("text.npz", lambda path: path.write_text("no weights")),
        ("text.safetensors", lambda path: path.write_text("no weights")),
    ],
)
def test_what_cannot_be_read_is_named(name: str, write: Callable[[pathlib.Path], object], tmp_path: pathlib.Path):
    write(tmp_path / name)
    with pytest.raises(UsageError, match=f"weights .*{name} cannot be read: "):
        tensor_file.read(tmp_path / name)


def test_a_text_in_an_archive_is_no_tensor_of_a_network(tmp_path: pathlib.Path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
        with archive.open("kernel.npy", "w") as stream:
            np.save(stream, np.ones(3))
    tensors, _ = tensor_file.read(tmp_path / "a.npz")
    np.testing.assert_array_equal(tensors["kernel"], np.ones(3))
