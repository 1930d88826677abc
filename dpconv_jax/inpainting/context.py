"""What the network sees of a photo: windows around its holes, reduced to the side of its training. One pass each.

Holes near each other share a window. It shows the photo around them, on every side as much as they are long, and at
least a quarter of the training's side; it is square, where the photo is large enough, and never smaller than the
training's images, so that small holes in a large photo are seen at the scale of the photo. A window is reduced until
its longer side is that of the training. What a network answers is enlarged and used in the holes alone.

Images are (H, W, 3), uint8 or float32 in [0, 1]; holes are bool (H, W).
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage
from scipy.sparse import csgraph

AROUND = 1.0  # of the longer side of holes: what is seen beyond them, on every side
LEAST = 0.25  # of the training's side: the same, at least; holes no farther from each other share a window
KNOWN = 0.25  # of a reduced pixel's area: where less is valid, it is a hole
TOGETHER = 8  # windows in a batch

# Images (B, S, S, 3), masks and what is inside (B, S, S, 1), 1 = valid and 1 = inside -> (B, S, S, 3), all float32.
Generate = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


class Window(NamedTuple):
    """A part of a photo, and the holes in it that it is there for."""

    rows: slice
    columns: slice
    holes: tuple[slice, slice]  # their rows and columns, in the photo; no window is there for others inside


def windows(hole: np.ndarray, *, size: int) -> list[Window]:
    """The windows of a photo's holes for a network trained at `size`; their `holes` do not overlap."""
    return [_around(box, hole.shape, size) for box in _groups(hole, least=math.ceil(LEAST * size))]


def whole(shape: tuple[int, int]) -> Window:
    """All of a photo (H, W)."""
    everything = slice(0, shape[0]), slice(0, shape[1])
    return Window(*everything, everything)


class Seen(NamedTuple):
    """A window as a network takes it, in the upper left corner of its array, float32."""

    image: np.ndarray  # (S, S, 3)
    mask: np.ndarray  # (S, S, 1), 1 = valid
    inside: np.ndarray  # (S, S, 1), 1 = the window, and what continues it by reflection to a multiple of the stride
    shape: tuple[int, int]  # of the window itself
    of: tuple[int, int]  # pixels of the photo that it shows

    @property
    def scale(self) -> float:
        """Pixels of the photo for each of the network's, along a side; at least 1."""
        return max(1.0, max(self.of) / max(self.shape))

    def enlarged(self, answer: np.ndarray) -> np.ndarray:
        """What the network answered (S, S, 3), at the size of the photo: float32 in [0, 1], the shape of the window."""
        return np.clip(_resized(answer[: self.shape[0], : self.shape[1]], self.of, Image.Resampling.BICUBIC), 0, 1)


def see(image: np.ndarray, hole: np.ndarray, window: Window, *, size: int, stride: int) -> Seen:
    """The window for a network that was trained at `size`. Pixels of holes are never read.

    Each reduced pixel is the mean of the valid ones in its area, and a hole where less than `KNOWN` of that is valid.
    """
    image, valid = image[window.rows, window.columns], ~hole[window.rows, window.columns]
    factor = max(1.0, max(valid.shape) / size)
    height, width = (max(1, round(side / factor)) for side in valid.shape)
    shape = height, width
    pixels = np.where(valid[..., None], image, 0).astype(np.float32) / (255 if image.dtype == np.uint8 else 1)
    share = _resized(valid[..., None].astype(np.float32), shape, Image.Resampling.BOX)
    means = _resized(pixels, shape, Image.Resampling.BOX) / np.maximum(share, 1e-6)
    mask = share >= min(KNOWN, share.max())
    reflected = [(0, -side % stride) for side in shape] + [(0, 0)]
    image, mask = (np.pad(each, reflected, mode="reflect") for each in (np.where(mask, means.clip(0, 1), 0), mask))
    beyond = [(0, size - side) for side in mask.shape[:2]] + [(0, 0)]
    inside = np.ones_like(mask)
    image, mask, inside = (np.pad(each.astype(np.float32), beyond) for each in (image, mask, inside))
    return Seen(image, mask, inside, shape, valid.shape)


def answers(generate: Generate, seen: Sequence[Seen]) -> Iterator[np.ndarray]:
    """What a network gives for each, in order: full batches, then one by one, so that two shapes are compiled."""
    alone = len(seen) - len(seen) % TOGETHER
    for start, stop in itertools.pairwise([*range(0, alone, TOGETHER), *range(alone, len(seen) + 1)]):
        batch = seen[start:stop]
        yield from generate(
            *(np.stack([getattr(each, name) for each in batch]) for name in ("image", "mask", "inside"))
        )


def _groups(hole: np.ndarray, *, least: int) -> np.ndarray:
    """Boxes of holes that are near each other, int (N, 2, 2): first and last + 1, of rows and of columns."""
    cells = np.maximum.reduceat(
        np.maximum.reduceat(hole, np.arange(0, hole.shape[0], least), axis=0),
        np.arange(0, hole.shape[1], least),
        axis=1,
    )
    labels, _ = ndimage.label(cells, np.ones((3, 3)))
    boxes = np.array([_tight(hole, place, least) for place in ndimage.find_objects(labels)]).reshape(-1, 2, 2)
    while len(boxes):
        around = np.maximum(AROUND * np.ptp(boxes, axis=2).max(axis=1), least)
        first, last = boxes[:, :, 0], boxes[:, :, 1]
        reach = around[:, None, None]
        near = ((first < last[:, None] + reach) & (last > first[:, None] - reach)).all(axis=2)
        number, group = csgraph.connected_components(near, directed=False)
        if number == len(boxes):
            break
        boxes = np.array(
            [
                np.stack([first[group == each].min(axis=0), last[group == each].max(axis=0)], axis=1)
                for each in range(number)
            ]
        )
    return boxes


def _tight(hole: np.ndarray, cells: tuple[slice, slice], side: int) -> list[list[int]]:
    """The box of the holes in so many cells."""
    rows, columns = (slice(side * place.start, side * place.stop) for place in cells)
    found = [np.flatnonzero(hole[rows, columns].any(axis=1 - axis)) for axis in (0, 1)]
    return [[start.start + at[0], start.start + at[-1] + 1] for start, at in zip((rows, columns), found, strict=True)]


def _around(box: np.ndarray, shape: tuple[int, int], size: int) -> Window:
    longest = int(np.ptp(box, axis=1).max())
    side = max(size, longest + 2 * math.ceil(max(AROUND * longest, LEAST * size)))
    places = []
    for (first, last), most in zip(box.tolist(), shape, strict=True):
        start = max(0, min((first + last - side) // 2, most - side))
        places.append(slice(start, min(start + side, most)))
    rows, columns = (slice(first, last) for first, last in box.tolist())
    return Window(*places, (rows, columns))


def _resized(image: np.ndarray, shape: tuple[int, int], how: Image.Resampling) -> np.ndarray:
    """float32 (h, w, C) at the size `shape`, (height, width, C)."""
    if image.shape[:2] == shape:
        return image
    height, width = shape
    channels = [Image.fromarray(np.ascontiguousarray(image[..., c])) for c in range(image.shape[2])]
    return np.stack([np.asarray(channel.resize((width, height), how)) for channel in channels], axis=-1)
