"""Files that are damaged, or were made to harm: refused by name, in bounded memory, with nothing run or written."""

import io
import logging
import os
import pathlib
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from dpconv_jax.data import pipeline, sources
from dpconv_jax.errors import UsageError
from dpconv_jax.weights import vgg16

ROOT = pathlib.Path(__file__).resolve().parents[2]
MARGIN = 64 * 2**20  # bytes of address space beside what the imports take


def test_a_shard_that_was_cut_is_named(tmp_path, caplog):
    rng = np.random.default_rng(0)
    for split in ("train", "validation"):
        (tmp_path / "photos" / split / "dress").mkdir(parents=True)
        for index in range(5):
            photo = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).resize((60, 80))
            photo.save(tmp_path / "photos" / split / "dress" / f"{index}.jpg")
    builder = sources.make("clothing_small", data_dir=str(tmp_path / "built"))
    sources.build(builder, str(tmp_path / "photos"))
    (shard,) = tmp_path.glob("built/clothing_small/*/*/*train*")
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    batches = pipeline.train_batches(
        sources.open_source("clothing_small", "train", data_dir=str(tmp_path / "built")),
        pipeline.Preparation(size=16, crop="square", max_pixels=10_000, mask_preset="boxes", min_coverage=0.05, seed=0),
        flip=True,
        threads=1,
        batch_size=5,
    )
    with caplog.at_level(logging.WARNING), pytest.raises(UsageError, match="none of 5 images"):
        next(batches)
    assert len(caplog.messages) == 5
    assert all(f"train of {shard.parent}" in message for message in caplog.messages)


LIMITED = """
import io, pathlib, resource, sys
from PIL import Image
from dpconv_jax.data.decode import BadImageError, decode

data = pathlib.Path(sys.argv[1]).read_bytes()
taken = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + int(sys.argv[2]),) * 2)
try:
    decode(data, max_pixels=64_000_000)
except BadImageError as error:
    print(error)
try:
    Image.open(io.BytesIO(data)).load()
except MemoryError:
    print("too large for the limit")
"""


def test_a_decompression_bomb_is_refused_within_bounded_memory(tmp_path):
    """A PNG of two megabytes whose 144 million pixels would take 432; opened without our rule, it runs out."""
    side = 12_000

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    packer = zlib.compressobj(1)
    rows = b"".join(packer.compress(bytes(100 * (1 + 3 * side))) for _ in range(side // 100)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    assert bomb.stat().st_size < 2e6
    words = [sys.executable, "-c", LIMITED, str(bomb), str(MARGIN)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "12000 x 12000 pixels, more than 64000000\ntoo large for the limit\n"


class Harm:
    """Unpickled, it makes a folder."""

    def __init__(self, path: pathlib.Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("suffix", [".npz", ".pth"])
def test_objects_in_weight_files_are_not_unpickled(suffix, tmp_path):
    harm, path = np.array([Harm(tmp_path / "harmed")], object), tmp_path / f"vgg{suffix}"
    stream = io.BytesIO()
    np.savez(stream, **{"conv1_1/kernel": harm}) if suffix == ".npz" else np.save(stream, harm)
    path.write_bytes(stream.getvalue())
    with pytest.raises(UsageError, match=path.name):
        vgg16.load(path)
    assert not (tmp_path / "harmed").exists()
