"""Masks of people's own pen strokes: Quick, Draw! drawings in the way of QD-IMD (github.com/karfly/qd-imd)."""

import functools
import hashlib
import json
import mmap
import os
import pathlib
from collections.abc import Iterator

import numpy as np

from dpconv_jax.errors import UsageError
from dpconv_jax.masks.strokes import Stroke, areas, number_and_brush, pen_on

SUFFIX = ".ndjson"
TRIES = 100  # damaged lines in a row before the files are given up
SAMPLED = 2**16  # bytes of each file in the digest, from its start, middle and end
NUMBER = (4, 2)  # of QD-IMD: mean and deviation of the number of strokes,
WIDTH = (5, 15)  # their width in pixels of 512,
ZOOM = (1.0, 1.5)  # and how much the canvas is enlarged before its middle is cut out


class QuickDraw:
    """The simplified drawings in `.ndjson` files, read where they lie: one line each, at random places."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """A file or a folder of files. Raises UsageError where there is none, or an empty one."""
        root = pathlib.Path(path).expanduser()
        self.paths = sorted(root.glob(f"*{SUFFIX}")) if root.is_dir() else [root]
        if not str(path) or not self.paths or not self.paths[0].is_file():
            raise UsageError(f"{os.fspath(path)!r} is no {SUFFIX} file of Quick, Draw! and no folder of them")
        self._maps = []
        for each in self.paths:
            with each.open("rb") as stream:
                try:
                    self._maps.append(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
                except ValueError as error:
                    raise UsageError(f"{each} is empty") from error
        self._ends = np.cumsum([len(content) for content in self._maps])

    def stroke(self, rng: np.random.Generator) -> np.ndarray:
        """A random stroke of a random drawing: float (n, 2) of x and y in [0, 1], n >= 2.

        The drawing is that of the line after a random byte. Raises UsageError where line after line is damaged.
        """
        for _ in range(TRIES):
            place = int(rng.integers(self._ends[-1]))
            index = int(np.searchsorted(self._ends, place, side="right"))
            content = self._maps[index]
            start = content.find(b"\n", place - int(self._ends[index]) + len(content)) + 1
            if not 0 < start < len(content):  # after the last line comes the first
                start = 0
            end = content.find(b"\n", start)
            try:
                strokes = json.loads(content[start : end if end >= 0 else None])["drawing"]
                points = np.array(strokes[rng.integers(len(strokes))][:2], float).T / 255
                if points.ndim == 2 and len(points) > 1 and points.min() >= 0 and points.max() <= 1:
                    return points
            except (KeyError, IndexError, TypeError, ValueError, RecursionError):
                continue
        raise UsageError(f"{self.paths[0].parent} holds no drawings: {TRIES} lines in a row are none of Quick, Draw!")

    def shapes(self, rng: np.random.Generator, size: tuple[int, int], ratio: float) -> Iterator[Stroke]:
        """Endless strokes for a hole of about this ratio of an image of `size` (H, W): the brush grows with it."""
        _, brush = number_and_brush(rng, ratio)
        unit = min(size)
        while True:
            zoom = rng.uniform(*ZOOM)
            points = self.stroke(rng) * unit * zoom
            centre = 0.5 + zoom * rng.uniform(-0.5, 0.5, 2)
            points += centre * size[::-1] - (points.min(axis=0) + points.max(axis=0)) / 2
            yield _stroke(points, unit * brush * zoom * rng.uniform(0.5, 1.5))

    def published(self, rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
        """A mask as QD-IMD's, uint8 (H, W, 1), 1 = valid, 0 = hole, whose ratio falls where it falls, above 0.

        The number of strokes is ~ N(4, 2), their width ~ U(5, 15) at 512 pixels; they lie where they lay in their
        drawings, the canvas is enlarged by U(1, 1.5) and its middle cut out.
        """
        unit = min(size)
        while True:
            hole = np.zeros(size, bool)
            pen = pen_on(hole)
            zoom = rng.uniform(*ZOOM)
            for _ in range(round(rng.normal(*NUMBER))):
                points = (self.stroke(rng) - 0.5) * unit * zoom + np.array(size[::-1]) / 2
                _stroke(points, rng.uniform(*WIDTH) * unit / 512 * zoom).paint(pen, 1.0)
            if hole.any():
                return np.logical_not(hole).view(np.uint8)[..., None]

    @functools.cached_property
    def digest(self) -> str:
        """sha256 of the names and sizes of all files and of their first, middle and last bytes."""
        total = hashlib.sha256()
        for path, content in zip(self.paths, self._maps, strict=True):
            total.update(json.dumps([path.name, len(content)]).encode())
            for start in (0, len(content) // 2, max(0, len(content) - SAMPLED)):
                total.update(hashlib.sha256(content[start : start + SAMPLED]).digest())
        return total.hexdigest()


def _stroke(points: np.ndarray, width: float) -> Stroke:
    length = np.hypot(*np.diff(points, axis=0).T).sum()
    return Stroke(points.ravel().tolist(), width, float(areas(length, width, len(points))))
