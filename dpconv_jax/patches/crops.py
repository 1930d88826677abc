"""The parts of a photo that are filled by themselves: holes with as much around them as they need."""

import itertools
import math
from collections.abc import Iterator

import numpy as np
from scipy import ndimage

CELL = 8  # pixels, the side of the squares that crops are made of
CONTEXT = 1  # how far a crop reaches, in square roots of its hole's pixels,
NEAREST, FARTHEST = 64, 384  # and in pixels

TILE = 1024  # pixels, the side of what is filled at once: a search takes about 300 bytes a pixel

Box = tuple[slice, slice]  # rows and columns


def crops(hole: np.ndarray) -> list[Box]:
    """Boxes that share no cell and together hold all of the hole, bool (H, W), in order of their corners."""
    height, width = hole.shape
    cells = np.logical_or.reduceat(hole, np.arange(0, height, CELL), axis=0)
    cells = np.logical_or.reduceat(cells, np.arange(0, width, CELL), axis=1)
    labels, count = ndimage.label(cells, np.ones((3, 3)))
    areas = ndimage.sum_labels(cells, labels, range(1, count + 1)) * CELL**2
    reach = [math.ceil(min(max(CONTEXT * math.sqrt(area), NEAREST), FARTHEST) / CELL) for area in areas]
    boxes = [_grown(box, by) for box, by in zip(ndimage.find_objects(labels), reach, strict=True)]
    while True:  # boxes that overlap become one
        covered = np.zeros_like(cells)
        for box in boxes:
            covered[box] = True
        joined = ndimage.find_objects(ndimage.label(covered)[0])
        if len(joined) == len(boxes):
            break
        boxes = joined
    return [
        (
            slice(CELL * rows.start, min(CELL * rows.stop, height)),
            slice(CELL * columns.start, min(CELL * columns.stop, width)),
        )
        for rows, columns in joined
    ]


def tiles(crop: Box) -> Iterator[tuple[Box, Box]]:
    """The parts of a crop that are filled one after another, and each with the part of the crop around it that it sees.

    A part sees what was filled before it as it sees the photo.
    """
    height, width = crop
    for part in itertools.product(_parts(height), _parts(width)):
        rows, columns = (
            slice(max(of.start - FARTHEST, side.start), min(of.stop + FARTHEST, side.stop))
            for of, side in zip(part, crop, strict=True)
        )
        yield part, (rows, columns)


def _parts(side: slice) -> list[slice]:
    """As few as are no longer than TILE, of about the same length; a side that one search can take stays whole."""
    length = side.stop - side.start
    number = 1 if length <= TILE + 2 * FARTHEST else math.ceil(length / TILE)
    bounds = [side.start + length * part // number for part in range(number + 1)]
    return [slice(*pair) for pair in itertools.pairwise(bounds)]


def _grown(box: Box, by: int) -> Box:
    rows, columns = (slice(max(side.start - by, 0), side.stop + by) for side in box)
    return rows, columns
