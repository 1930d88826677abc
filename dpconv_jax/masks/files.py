"""Mask files, and folders of them by bucket."""

import functools
import hashlib
import os
import pathlib
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from dpconv_jax.errors import UsageError
from dpconv_jax.masks.ratio import BUCKETS, bucket_of, hole_ratio

SUFFIXES = (".png", ".bmp", ".gif", ".jpg", ".jpeg", ".pgm", ".tif", ".tiff", ".webp")

_indexing = threading.Lock()


def read(path: str | os.PathLike[str], *, hole: str, size: tuple[int, int] | None = None) -> np.ndarray:
    """A mask file as uint8 (H, W, 1), 1 = valid, 0 = hole; `size` (H, W) resizes it first, by nearest neighbour.

    hole: "black" or "white", the colour of a hole in the file; grey levels of 128 and more count as white.
    Raises UsageError when `hole` is neither or the file is not a readable image.
    """
    check_polarity(hole)
    try:
        with Image.open(path) as image:
            grey = image.convert("L")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UsageError(f"mask file {os.fspath(path)!r} is not a readable image: {error}") from error
    if size is not None and grey.size != (size[1], size[0]):
        grey = grey.resize((size[1], size[0]), Image.Resampling.NEAREST)
    white = np.asarray(grey) >= 128
    return (white if hole == "black" else ~white).astype(np.uint8)[..., None]


def check_polarity(hole: str) -> None:
    """Raises UsageError for a hole colour that is neither "black" nor "white"."""
    if hole not in ("black", "white"):
        raise UsageError(f"hole colour {hole!r} of mask files must be 'black' (as QD-IMD) or 'white' (as NVIDIA)")


class MaskFiles:
    """A folder of mask images (searched recursively), sorted by path and, for each size asked for, by bucket.

    Ratios are those after the resize; files without a hole or without a valid pixel are left out.
    """

    def __init__(self, directory: str | os.PathLike[str], *, hole: str) -> None:
        """Raises UsageError when `hole` is not "black" or "white", or the folder is missing or holds no image."""
        check_polarity(hole)
        self.directory = pathlib.Path(directory)
        self.hole = hole
        if not self.directory.is_dir():
            raise UsageError(f"mask folder {os.fspath(directory)!r} does not exist")
        self.paths = sorted(p for p in self.directory.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not self.paths:
            raise UsageError(f"mask folder {os.fspath(directory)!r} holds no image ({', '.join(SUFFIXES)})")
        self._indexes: dict[tuple[int, int], tuple[list[pathlib.Path], ...]] = {}

    def in_bucket(self, bucket: int, *, size: tuple[int, int]) -> list[pathlib.Path]:
        """The files whose mask at `size` (H, W) lies in BUCKETS[bucket]; the first call of a size reads all files."""
        with _indexing:
            if size not in self._indexes:
                self._indexes[size] = self._index(size)
        return self._indexes[size][bucket]

    def ratios(self, paths: Sequence[pathlib.Path], *, size: tuple[int, int] | None = None) -> list[float]:
        """The hole ratio of each file, after a resize to `size` (H, W) where it is given."""

        def ratio(path: pathlib.Path) -> float:
            return hole_ratio(read(path, hole=self.hole, size=size))

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(ratio, paths))

    def _index(self, size: tuple[int, int]) -> tuple[list[pathlib.Path], ...]:
        index: tuple[list[pathlib.Path], ...] = ([], [], [])
        for path, ratio in zip(self.paths, self.ratios(self.paths, size=size), strict=True):
            if 0 < ratio < 1:
                index[bucket_of(ratio)].append(path)
        return index

    def pick(self, rng: np.random.Generator, *, bucket: int, size: tuple[int, int]) -> np.ndarray:
        """A random mask of the bucket, uint8 (H, W, 1); UsageError where the folder has none."""
        paths = self.in_bucket(bucket, size=size)
        if not paths:
            low, high = BUCKETS[bucket]
            raise UsageError(
                f"mask folder {os.fspath(self.directory)!r}: none of {len(self.paths)} files has a hole ratio in "
                f"({low}, {high}] with {self.hole} holes at {size[0]}x{size[1]}"
            )
        return read(paths[rng.integers(len(paths))], hole=self.hole, size=size)

    @functools.cached_property
    def digest(self) -> str:
        """sha256 of the hole colour and of the names and bytes of all files."""
        total = hashlib.sha256(self.hole.encode())
        for path in self.paths:
            name = path.relative_to(self.directory).as_posix().encode()
            total.update(hashlib.sha256(name).digest() + hashlib.sha256(path.read_bytes()).digest())
        return total.hexdigest()
