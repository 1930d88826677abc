"""Photos of any size through a network that was trained at one: what it sees, at which scale, and how that is joined.

Scale. The colours of a fill come from the photo reduced to about the training size, where the network sees all of it;
details come from larger scales, each of twice the side, up to the photo itself. A Laplacian pyramid joins them: from
each scale only that part of the network's output is taken which the next smaller one cannot hold (Burt and Adelson,
1983). A network fills holes like those it learned from. At the larger scales it fills only those parts of holes into
which no square fits with sides of a quarter of the training size; wider parts are enlarged from the scale below. At no
scale it fills what is narrower than three pixels: that is interpolated from the means of valid pixels at the next
smaller scale where there are any (Gortler et al., 1996, call it pull-push).

Place. At each scale the network sees a window around the holes and half a training size of context. No side is longer
than `Sight.limit`: larger areas are covered by windows that overlap by a quarter of it and fade into each other; those
without a hole are left out.

Shape. A window moves rather than leave the photo. Where the photo is smaller, or its sides are no multiples of the
network's stride, it is continued by reflection, its mask with it, up to the next multiple: by less than a stride, at
the right and at the bottom. So that few shapes are compiled, array sides are multiples of `STEP` too; what lies
beyond the reflection is not `inside`, and counts for nothing in convolutions, InstanceNorm and attention.

Images are (H, W, 3), uint8 or float32 in [0, 1]; holes are bool (H, W).
"""

import functools
import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

STEP = 64  # sides of arrays are multiples of it, and of the network's stride
NARROW = 2  # pixels that a narrow part of a hole, such as a corner, may stand out of a wider one
PIXELS = 2**19  # of one batch, at least one window: eight of 256 x 256

# Images (B, h, w, 3), masks and what is inside (B, h, w, 1), 1 = valid and 1 = inside -> (B, h, w, 3), all float32.
Generate = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What a network takes: the side of its training images, the longest side of a window, and what divides sides."""

    size: int
    limit: int
    stride: int

    @property
    def reach(self) -> float:
        """How deep a hole is at most where it is not the whole photo that the network sees."""
        return self.size / 8


class Window(NamedTuple):
    """A part of an image, and how much it counts in each row and column where windows overlap, float32 in [0, 1]."""

    rows: slice
    columns: slice
    shape: tuple[int, int]  # of the array, with what lies beyond the image
    fade: tuple[np.ndarray, np.ndarray]


class Canvas:
    """An image whose holes are being filled, with its copies of half the side, a quarter and so on, until none is left.

    At least one pixel must be valid.
    `wanted` says where a fill is needed: in the holes, and around them where it is to be blended in.
    """

    def __init__(self, image: np.ndarray, hole: np.ndarray, wanted: np.ndarray, *, sight: Sight):
        smallest = _smallest(hole.shape, sight)
        self.levels: list[Level] = []  # the largest first
        while True:
            exponent = len(self.levels)
            widest = sight.reach if exponent < smallest else math.inf
            target = _suited(hole, wanted, widest=widest) if exponent <= smallest else np.zeros_like(hole)
            level = Level(image, hole, wanted, target, sight=sight, alone=exponent == smallest)
            self.levels.append(level)
            if exponent >= smallest and not np.any(wanted & ~target):
                break
            image, hole = _halved(image, hole)
            wanted = hole

    def fill(self) -> np.ndarray:
        """float32 (H, W, 3) in [0, 1], to be used where it was wanted, once `run` has filled the canvas."""
        result = self.levels[0].result
        return np.clip(result, 0, 1, out=result)  # a sum of details may overshoot


class Level:
    """One scale of a canvas. Every window is `cut`, generated and `paste`d, then `finish` gives its `result`.

    The result is the image with its holes filled, float32; of uint8 images only what was wanted of it.

    target: the part of `wanted` that the network fills.
    alone: with all that the network gives; else with what the level below cannot hold.
    """

    def __init__(
        self, image: np.ndarray, hole: np.ndarray, wanted: np.ndarray, target: np.ndarray, *, sight: Sight, alone: bool
    ):
        self._image, self._hole, self._wanted, self._target = image, hole, wanted, target
        self._stride, self._alone = sight.stride, alone
        self.windows: list[Window] = []
        self.result = np.zeros(image.shape, np.float32)
        if target.any():
            lines = [_Line.over(np.any(target, axis=1 - axis), sight=sight) for axis in (0, 1)]
            self.windows = [
                Window(rows, columns, (lines[0].length, lines[1].length), (down, across))
                for (rows, down), (columns, across) in itertools.product(*(line.spans() for line in lines))
                if np.any(target[rows, columns][np.ix_(down > 0, across > 0)])
            ]

    def cut(self, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What the network sees: image (h, w, 3), mask and what is inside (h, w, 1), as `Generate` takes them."""
        hole = self._hole[window.rows, window.columns]
        reflected = [(0, -side % self._stride) for side in hole.shape]
        valid = np.pad(np.logical_not(hole), reflected, mode="reflect")[..., None].astype(np.float32)
        image = np.pad(self._seen(window), [*reflected, (0, 0)], mode="reflect")
        beyond = [(0, side - seen) for side, seen in zip(window.shape, valid.shape, strict=False)] + [(0, 0)]
        return np.pad(image, beyond), np.pad(valid, beyond), np.pad(np.ones_like(valid), beyond)

    def paste(self, window: Window, output: np.ndarray, below: "Level | None") -> None:
        """Adds what the network gave, (h, w, 3), for all that `below`, the next smaller level, cannot hold."""
        place = window.rows, window.columns
        target, seen = self._target[place][..., None], self._seen(window)
        filled = np.where(target, output[: seen.shape[0], : seen.shape[1]], seen)
        if below is not None and not self._alone:
            half = tuple(slice(span.start // 2, (span.stop + 1) // 2) for span in place)
            coarse = _doubled(below.result[half], seen.shape)
            filled = np.where(self._wanted[place][..., None] & ~target, coarse, filled)
            filled += coarse - _doubled(_means(filled), seen.shape)
        self.result[place] += window.fade[0][:, None, None] * window.fade[1][:, None] * filled

    def finish(self, below: "Level | None") -> None:
        """Completes the result by what this level cannot fill, and by the image."""
        rest = self._wanted & ~self._target
        if below is not None and rest.any():
            # Only around them, with a pixel more on each side to interpolate from: a photo may be large.
            found = [np.flatnonzero(np.any(rest, axis=1 - axis)) for axis in (0, 1)]
            half = tuple(slice(max(0, lines[0] // 2 - 1), lines[-1] // 2 + 2) for lines in found)
            place = tuple(slice(2 * span.start, 2 * span.stop) for span in half)
            rest = rest[place]
            self.result[place][rest] = _doubled(below.result[half], rest.shape)[rest]
        if self._image.dtype != np.uint8:
            np.copyto(self.result, self._image, where=np.logical_not(self._wanted)[..., None])

    def _seen(self, window: Window) -> np.ndarray:
        image = self._image[window.rows, window.columns]
        return image / np.float32(255) if image.dtype == np.uint8 else image


def run(generate: Generate, canvases: Sequence[Canvas]) -> None:
    """Fills the canvases, small levels first: windows of one shape in batches of up to `PIXELS`."""
    for exponent in reversed(range(max((len(canvas.levels) for canvas in canvases), default=0))):
        levels = [canvas.levels[exponent : exponent + 2] for canvas in canvases if exponent < len(canvas.levels)]
        _fill(generate, [(level, below[0] if below else None) for level, *below in levels])


def raw(generate: Generate, image: np.ndarray, hole: np.ndarray, *, sight: Sight) -> np.ndarray:
    """What the network gives for all pixels, valid ones too, at the smallest scale, enlarged: float32 (H, W, 3)."""
    shapes = []
    for _ in range(_smallest(hole.shape, sight)):
        shapes.append(hole.shape)
        image, hole = _halved(image, hole)
    everywhere = np.ones_like(hole)
    level = Level(image, hole, everywhere, everywhere, sight=sight, alone=True)
    _fill(generate, [(level, None)])
    return functools.reduce(_doubled, reversed(shapes), level.result)


def _fill(generate: Generate, levels: Sequence[tuple[Level, Level | None]]) -> None:
    """Fills levels, each with the one below it."""
    by_shape: dict[tuple[int, int], list[tuple[Level, Level | None, Window]]] = defaultdict(list)
    for level, below in levels:
        for window in level.windows:
            by_shape[window.shape].append((level, below, window))
    for (height, width), windows in by_shape.items():
        for batch in _batches(windows, most=max(1, PIXELS // (height * width))):
            seen = map(np.stack, zip(*(level.cut(window) for level, _, window in batch), strict=True))
            for (level, below, window), output in zip(batch, generate(*seen), strict=True):
                level.paste(window, output, below)
    for level, below in levels:
        level.finish(below)


def _batches(windows: list, *, most: int) -> Iterator[list]:
    """As many as may be, then one by one: two shapes to compile, and nothing computed twice."""
    whole = len(windows) - len(windows) % most
    yield from (windows[start : start + most] for start in range(0, whole, most))
    yield from ([window] for window in windows[whole:])


class _Line(NamedTuple):
    """How windows stand along one axis; they start at even pixels, where those of the next smaller level start too."""

    side: int  # of the image
    length: int
    starts: list[int]

    @classmethod
    def over(cls, target: np.ndarray, *, sight: Sight) -> "_Line":
        """target: bool (side,), where there is something to fill."""
        side, found = len(target), np.flatnonzero(target).tolist()
        first, last = max(0, found[0] - sight.size // 2) // 2 * 2, min(side, found[-1] + 1 + sight.size // 2)
        extent, overlap = max(last - first, sight.size // 2), sight.limit // 4
        number = 1 if extent <= sight.limit else math.ceil((extent - overlap) / (sight.limit - overlap))
        step = math.lcm(STEP, sight.stride)
        length = min(-(-(extent + (number - 1) * overlap) // (number * step)) * step, sight.limit)
        if number == 1:
            first = -(-max(0, min(first - (length - (last - first)) // 2, side - length)) // 2) * 2
        starts = np.linspace(first // 2, -(-max(first, last - length) // 2), number)
        return cls(side, length, [2 * round(start) for start in starts])

    def spans(self) -> list[tuple[slice, np.ndarray]]:
        """Each window's pixels inside the image, and its fade there; the fades at a pixel add up to 1.

        Windows cross in the middle half of their overlap: nearer to its edge a window is not to be trusted.
        """
        fades = np.zeros((len(self.starts), self.side), np.float32)
        for fade, start in zip(fades, self.starts, strict=True):
            fade[start : start + self.length] = 1
        for index in range(1, len(self.starts)):
            start, stop = self.starts[index], self.starts[index - 1] + self.length
            overlap = np.arange(min(stop, self.side) - start, dtype=np.float32) + 0.5
            rise = np.clip(2 * overlap / (stop - start) - 0.5, 0, 1)
            fades[index, start:stop] *= rise
            fades[index - 1, start:stop] *= 1 - rise
        fades /= np.maximum(fades.sum(axis=0), np.finfo(np.float32).tiny)
        places = [slice(start, min(start + self.length, self.side)) for start in self.starts]
        return [(place, fade[place]) for place, fade in zip(places, fades, strict=True)]


def _smallest(size: Sequence[int], sight: Sight) -> int:
    """How often an image is halved until its shorter side is about that of the training."""
    return max(0, round(math.log2(min(size) / sight.size)))


def _suited(hole: np.ndarray, wanted: np.ndarray, *, widest: float) -> np.ndarray:
    """What is wanted of those parts of holes that are as wide as holes of the training, and around them.

    Without the parts into which a square fits that is deeper than `widest`, and without those that are not within
    NARROW pixels of where one of 3 x 3 fits.
    """
    depth = _steps_out_of(hole)
    wide, narrow = depth > widest, depth < 2
    beside = _steps_out_of(~hole) if np.any(wanted & ~hole) else 0  # such a pixel goes with the nearest of a hole
    suited = wanted
    if wide.any():
        suited = suited & (_steps_out_of(~wide) - beside > widest)
    if narrow.all():
        return np.zeros_like(wanted)
    return suited & (_steps_out_of(narrow) - beside <= 1 + NARROW)


def _steps_out_of(area: np.ndarray) -> np.ndarray:
    """For each pixel of an area, bool (H, W), the steps to the eight neighbours that lead out of it; 0 outside."""
    return ndimage.distance_transform_cdt(area, metric="chessboard")


def _halved(image: np.ndarray, hole: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean of the valid pixels of each 2 x 2, float32 in [0, 1]; a hole where there is none."""
    valid = np.logical_not(hole)
    counts, sums = _sums(valid, np.uint8), _sums(image * valid[..., None], np.float32)
    scale = np.float32(255 if image.dtype == np.uint8 else 1)
    return sums / (np.maximum(counts, 1)[..., None] * scale), counts == 0


def _sums(array: np.ndarray, dtype: type) -> np.ndarray:
    """Of each 2 x 2 of (H, W, ...), nothing beyond the edges."""
    array = np.pad(array, [(0, side % 2) for side in array.shape[:2]] + [(0, 0)] * (array.ndim - 2))
    return functools.reduce(np.add, [array[row::2, column::2].astype(dtype) for row in (0, 1) for column in (0, 1)])


def _means(image: np.ndarray) -> np.ndarray:
    """Of each 2 x 2 of (H, W, 3), repeating the edges."""
    image = np.pad(image, [(0, side % 2) for side in image.shape[:2]] + [(0, 0)], mode="edge")
    return _sums(image, np.float32) / 4


def _doubled(image: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Bilinear x2 of (h, w, 3), cropped to the first two of `shape`."""
    height, width = image.shape[:2]
    channels = [Image.fromarray(np.ascontiguousarray(image[..., c])) for c in range(3)]
    doubled = [np.asarray(c.resize((2 * width, 2 * height), Image.Resampling.BILINEAR)) for c in channels]
    return np.stack(doubled, axis=2)[: shape[0], : shape[1]]
