"""What a user wants filled: mask files, polygons, boxes; grown, and blended at the edge. Holes are bool (H, W)."""

import json
import math
import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from dpconv_jax.data.decode import BadImageError
from dpconv_jax.errors import UsageError
from dpconv_jax.inpainting import photo

SUFFIXES = (*photo.SUFFIXES, ".json")
COLOUR = "white"  # of a hole where nothing is said, as in most tools that paint masks
GREY = (32, 224)  # levels that are neither black nor white, the ringing of JPEG apart
FAR = 100_000  # pixels from the corner of a photo, where no point of a shape lies


class PolarityError(UsageError):
    """A mask that may be the wrong way round: a question to the user, not a bad file."""


class Box(NamedTuple):
    """Columns x0 to x1 and rows y0 to y1, in pixels of the upright photo, without the last."""

    x0: int
    y0: int
    x1: int
    y1: int

    @classmethod
    def parse(cls, text: str) -> "Box":
        """Of "x0,y0,x1,y1". Raises UsageError where that is no box."""
        try:
            box = cls(*map(int, text.split(",")))
        except (TypeError, ValueError):
            raise UsageError(f"box {text!r} must be four whole numbers x0,y0,x1,y1") from None
        if not (0 <= box.x0 < box.x1 and 0 <= box.y0 < box.y1):
            raise UsageError(f"box {text!r} is empty: it needs 0 <= x0 < x1 and 0 <= y0 < y1")
        return box

    def hole(self, size: tuple[int, int]) -> np.ndarray:
        """What of it lies in a photo of `size` (H, W). Raises UsageError where that is nothing."""
        hole = np.zeros(size, bool)
        hole[self.y0 : self.y1, self.x0 : self.x1] = True
        if not hole.any():
            box = ",".join(map(str, self))
            raise UsageError(f"box {box} lies outside the photo of {size[1]} x {size[0]}")
        return hole


def read(
    path: str | os.PathLike[str], *, size: tuple[int, int], colour: str | None, max_pixels: int
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The hole of a mask file for a photo of `size` (H, W), and what had to be decided, as phrases.

    A picture is read upright; levels of 128 and more count as white, and so does what is transparent. colour: of a
    hole, "white" or "black"; with None it is COLOUR, and then a hole of more than half the photo raises PolarityError.
    A `.json` holds shapes in LabelMe's format (polygon, rectangle, circle), all of them holes.
    Raises BadImageError for a file that cannot be read, UsageError for one of another size or of levels 0 and 1.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() == ".json":
        return _labelme(path, size=size), ()
    try:
        opened = photo.read(path, max_pixels=max_pixels)
    except BadImageError as error:
        raise BadImageError(f"mask {path}: {error}") from error
    grey = np.asarray(Image.fromarray(opened.rgb).convert("L"))
    if grey.shape != size:
        raise UsageError(f"mask {path} is {grey.shape[1]} x {grey.shape[0]}, the photo {size[1]} x {size[0]}")
    levels = opened.stored if opened.stored.dtype == np.uint16 else grey
    white, brightest = np.iinfo(levels.dtype).max, levels.max()
    if 0 < brightest <= white // 128:  # all black to the eye, and to a threshold
        raise UsageError(f"mask {path} has levels 0 to {brightest} of {white}; they must be 0 and {white}")
    hole = (grey >= 128) == ((colour or COLOUR) == "white")
    if colour is None and np.count_nonzero(hole) > hole.size / 2:
        raise PolarityError(
            f"mask {path} has a hole of {np.count_nonzero(hole) / hole.size:.0%} if {COLOUR} is hole: "
            f"is it the other way round? Say --mask_hole=black or --mask_hole=white"
        )
    soft = np.count_nonzero((grey >= GREY[0]) & (grey < GREY[1])) / grey.size
    return hole, (f"{soft:.2%} of the mask is grey, cut at half",) if soft else ()


def grown(hole: np.ndarray, pixels: int) -> np.ndarray:
    """The hole and all that lies within so many pixels of it, in steps to the eight neighbours."""
    return _distance(hole) <= pixels if pixels and hole.any() else hole


def weight(hole: np.ndarray, feather: int) -> np.ndarray:
    """How much of the fill a pixel gets, float32 (H, W): 1 in the hole, falling to 0 beyond `feather` pixels."""
    if not feather or not hole.any():
        return hole.astype(np.float32)
    return np.maximum(1 - _distance(hole).astype(np.float32) / (feather + 1), 0)


def _distance(hole: np.ndarray) -> np.ndarray:
    return ndimage.distance_transform_cdt(np.logical_not(hole), metric="chessboard")


def _labelme(path: pathlib.Path, *, size: tuple[int, int]) -> np.ndarray:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        shapes = content["shapes"]
        named = [(shape.get("shape_type") or "polygon", _points(shape["points"])) for shape in shapes]
        theirs = (content.get("imageHeight") or size[0], content.get("imageWidth") or size[1])
    except OSError as error:
        raise BadImageError(f"{path} cannot be read: {error.strerror}") from error
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise BadImageError(f"{path} holds no LabelMe shapes: {error!r}") from error
    if theirs != size:
        raise UsageError(f"{path} was drawn on {theirs[1]} x {theirs[0]}, the photo is {size[1]} x {size[0]}")
    canvas = Image.new("1", (size[1], size[0]))
    pen = ImageDraw.Draw(canvas)
    for kind, points in named:
        if kind == "polygon" and len(points) > 2:
            pen.polygon(points, fill=1)
        elif kind == "rectangle" and len(points) == 2:
            (x0, y0), (x1, y1) = points
            pen.rectangle((min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)), fill=1)
        elif kind == "circle" and len(points) == 2:
            pen.circle(points[0], math.dist(*points), fill=1)
        else:
            raise BadImageError(f"{path} has a {kind} of {len(points)} points; known: polygon, rectangle, circle")
    return np.asarray(canvas)


def _points(points: Sequence[Any]) -> list[tuple[float, float]]:
    pairs = [(float(x), float(y)) for x, y in points]
    if not np.all(np.abs(pairs) <= FAR):  # Pillow would draw for minutes, or nothing
        raise ValueError("a point far outside")
    return pairs
