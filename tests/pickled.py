"""PyTorch files, written without PyTorch."""

import pickle
import struct

import numpy as np

from dpconv_jax.weights import torch_file


def torch_pickles(tensors: dict[str, np.ndarray]) -> bytes:
    """As PyTorch wrote them before its zip archives."""

    def text(word: str) -> bytes:
        return b"X" + struct.pack("<I", len(word)) + word.encode()

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(b"J" + struct.pack("<i", value) for value in values) + b"t"

    body, data = b"\x80\x02}", b""
    for name, tensor in tensors.items():
        storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(name) + text("cpu")
        storage += b"J" + struct.pack("<i", tensor.size) + b"NtQ"
        strides = tuple(stride // 4 for stride in tensor.strides)
        view = storage + b"K\x00" + numbers(tensor.shape) + numbers(strides)
        body += text(name) + b"ctorch._utils\n_rebuild_tensor\n(" + view + b"tRs"
        data += struct.pack("<q", tensor.size) + tensor.tobytes()
    before = b"".join(pickle.dumps(each, 2) for each in (torch_file.MAGIC, 1001, {}))
    return before + body + b"." + pickle.dumps(list(tensors), 2) + data
