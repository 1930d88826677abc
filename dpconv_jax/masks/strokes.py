"""Strokes, boxes and blobs, and the hole of exactly so many pixels that they fill."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

Numbers = Any  # an array or a number
CUTS = 8  # at most, of the last shape
ZIGZAGS = {  # in pixels of a 256 x 256 image: the max_len and max_width of LaMa's random_*_256; and the most segments
    "thin": (40, 10, 5),
    "medium": (100, 50, 5),
    "thick": (200, 100, 5),
}
ANGLE = 4.0  # radians between a segment and straight down, at most
BOX = (30, 150)  # sides at 256 x 256: those of LaMa's random_thick_256
BLOB = (0.06, 0.22)  # mean radius in shares of the image's side
CORNERS, WAVES = 32, 4  # of a blob's outline


class Stroke(NamedTuple):
    """A round brush along a polyline; `points` are x, y, x, y, ... in pixels."""

    points: list[float]
    width: float
    area: float  # at least as many pixels as it paints

    def paint(self, pen: ImageDraw.ImageDraw, share: float) -> None:
        """Paint the first `share` of the way; a short rest is also thin, so that share -> 0 paints nothing."""
        points = self.points
        if share < 1:
            last, part = divmod(share * (len(points) // 2 - 1), 1)
            x, y, next_x, next_y = points[2 * int(last) : 2 * int(last) + 4]
            points = [*points[: 2 * int(last) + 2], x + part * (next_x - x), y + part * (next_y - y)]
        width = max(1, round(self.width * min(1.0, 4 * share)))
        # Here and below what Pillow's pen calls, without its reading of the colour each time.
        pen.draw.draw_lines(points, 1, width)
        if width > 2:
            radius = (width - 1) / 2
            right, bottom = pen.im.size
            for x, y in zip(points[::2], points[1::2], strict=True):
                if -width < x < right + width and -width < y < bottom + width:
                    pen.draw.draw_ellipse((x - radius, y - radius, x + radius, y + radius), 1, 1)


class Box(NamedTuple):
    """An axis-parallel rectangle around a centre, in pixels."""

    x: float
    y: float
    width: float
    height: float
    area: float  # at least as many pixels as it paints

    def paint(self, pen: ImageDraw.ImageDraw, share: float) -> None:
        """Paint the box with both sides scaled by `share`."""
        half_x, half_y = share * self.width / 2, share * self.height / 2
        pen.rectangle((self.x - half_x, self.y - half_y, self.x + half_x, self.y + half_y), fill=1)


class Blob(NamedTuple):
    """A filled outline around a centre, in pixels; `outline` are x, y, x, y, ... from there."""

    x: float
    y: float
    outline: list[float]
    area: float  # at least as many pixels as it paints

    def paint(self, pen: ImageDraw.ImageDraw, share: float) -> None:
        """Paint the blob with its outline scaled by `share`."""
        centre = itertools.cycle((self.x, self.y))
        pen.polygon([middle + share * way for middle, way in zip(centre, self.outline, strict=False)], fill=1)


Shape = Stroke | Box | Blob


def areas(length: Numbers, width: Numbers, nodes: Numbers) -> Numbers:
    """At least the pixels of strokes: a band, half a disc outside each turn and at each end, a pixel for the raster."""
    return length * (width + 1) + nodes * (math.pi / 8) * (width + 2) ** 2


def number_and_brush(rng: np.random.Generator, ratio: float) -> tuple[float, float]:
    """How many pen strokes, ~ N(4, 2) and more for large holes, and their mean width in shares of the image's side."""
    number = max(1.0, rng.normal(4, 2)) * (1 + 1.5 * ratio)
    # n random strokes of length 1 and width w leave exp(-n w) of an image of side 1; a quarter more for crossed loops.
    return number, min(max(-1.25 * math.log(1 - ratio) / number, 10 / 512), 0.12)


def _freehand(rng: np.random.Generator, size: tuple[int, int], ratio: float, _: str) -> Iterator[Stroke]:
    """Pen strokes like QD-IMD's: their number ~ N(4, 2), their width ~ U(5, 15) at 512, enlarged by U(1, 1.5), cropped.

    So drawn, holes above 0.4 are rare: brush and number grow with the wanted ratio.
    """
    unit = min(size)
    number, brush = number_and_brush(rng, ratio)
    batch, steps = min(8, round(number) + 1), 13
    while True:
        zoom = rng.uniform(1, 1.5, (batch, 1))
        length = unit * zoom * rng.uniform(0.4, 1.4, (batch, 1))
        bend = rng.normal(0, 0.25, (batch, 1))  # kept along the stroke: arcs and loops
        wobble = np.cumsum(rng.normal(0, 0.1, (batch, steps)), axis=1)
        corner = (rng.random((batch, steps)) < 0.08) * rng.uniform(-2.5, 2.5, (batch, steps))
        heading = rng.uniform(0, 2 * math.pi, (batch, 1)) + np.cumsum(bend + wobble + corner, axis=1)
        path = np.zeros((batch, steps + 1, 2))
        np.cumsum(np.cos(heading) * (length / steps), axis=1, out=path[:, 1:, 0])
        np.cumsum(np.sin(heading) * (length / steps), axis=1, out=path[:, 1:, 1])
        centre = 0.5 + zoom * rng.uniform(-0.5, 0.5, (batch, 2))
        path += (centre * size[::-1] - path.mean(axis=1))[:, None]
        widths = (unit * brush * zoom * rng.uniform(0.5, 1.5, (batch, 1)))[:, 0]
        painted = areas(length[:, 0], widths, steps + 1)
        yield from map(Stroke, path.reshape(batch, -1).tolist(), widths.tolist(), painted.tolist())


def _zigzag(rng: np.random.Generator, size: tuple[int, int], ratio: float, preset: str) -> Iterator[Stroke]:
    """Zigzag strokes: segments of length 10 + U(max) at 256, turning back and forth; a brush of 5 + U(max) each stroke.

    Larger holes have longer segments, without which thin strokes would end as confetti. Only the numbers are LaMa's
    (Suvorov et al. 2022). It draws other strokes: the angle has four values and changes its sign from stroke to stroke,
    every segment has its own brush, ends are clipped to the image instead of mirrored, and the number of strokes is
    drawn instead of the hole's pixels.
    """
    unit = min(size) / 256
    longest, widest, most = ZIGZAGS[preset]
    edge = np.array(size[::-1]) - 1.0
    batch = 8
    while True:
        segments = rng.integers(1, most, batch, endpoint=True)
        angle = rng.uniform(0, ANGLE, (batch, most))
        angle[:, ::2] *= -1
        length = unit * (1 + 4 * ratio) * (10 + rng.uniform(0, longest, (batch, most)))
        path = np.empty((batch, most + 1, 2))
        path[:, 0] = rng.uniform(0, 1, (batch, 2)) * edge
        path[:, 1:, 0] = np.sin(angle) * length
        path[:, 1:, 1] = np.cos(angle) * length
        points = np.cumsum(path, axis=1)
        points = np.abs((points + edge) % (2 * edge) - edge).reshape(batch, -1).tolist()  # mirrored at the border
        widths = unit * (5 + rng.uniform(0, widest, batch))
        painted = areas(np.cumsum(length, axis=1)[np.arange(batch), segments - 1], widths, segments + 1)
        for line, count, width, area in zip(points, segments.tolist(), widths.tolist(), painted.tolist(), strict=True):
            yield Stroke(line[: 2 * count + 2], width, area)


def _boxes(rng: np.random.Generator, size: tuple[int, int], ratio: float, _: str) -> Iterator[Box]:
    """Rectangles with sides U(30, 150) at 256, their centres anywhere."""
    unit = min(size) / 256
    while True:
        y, x = (rng.uniform(0, 1, 2) * size).tolist()
        width, height = (unit * rng.uniform(*BOX, 2)).tolist()
        yield Box(x, y, width, height, (width + 2) * (height + 2))


def _blobs(rng: np.random.Generator, size: tuple[int, int], ratio: float, _: str) -> Iterator[Blob]:
    """Round stains, their radius a sum of a few waves around the centre; larger in larger holes."""
    unit = min(size)
    angle = np.linspace(0, 2 * math.pi, CORNERS, endpoint=False)
    wave = np.arange(1, WAVES + 1)
    while True:
        y, x = (rng.uniform(0, 1, 2) * size).tolist()
        height = rng.uniform(0, 0.35, WAVES) / wave  # in sum below 1, so that the radius stays above 0
        phase = rng.uniform(0, 2 * math.pi, WAVES)
        radius = 1 + height @ np.cos(wave[:, None] * angle + phase[:, None])
        radius *= unit * (1 + ratio) * rng.uniform(*BLOB)
        outline = (radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)).ravel().tolist()
        yield Blob(x, y, outline, math.pi * (radius.max() + 2) ** 2)


SHAPES: dict[str, Callable[[np.random.Generator, tuple[int, int], float, str], Iterator[Shape]]] = {
    "qd_imd": _freehand,
    "thin": _zigzag,
    "medium": _zigzag,
    "thick": _zigzag,
    "boxes": _boxes,
    "blobs": _blobs,
}  # (generator, size, wanted hole ratio, preset) -> endless shapes


def filled(shapes: Iterable[Shape], size: tuple[int, int], pixels: int) -> np.ndarray:
    """Paints shapes until the hole has exactly `pixels` pixels; the last one is cut back. Returns bool (H, W)."""
    hole = np.zeros(size, bool)
    pen = pen_on(hole)
    at_most = 0.0  # of the hole's pixels: spares counting while the shapes cannot have reached the aim
    for shape in shapes:
        at_most += shape.area
        if at_most < pixels:
            shape.paint(pen, 1.0)
            continue
        before = hole.copy()
        shape.paint(pen, 1.0)
        at_most = np.count_nonzero(hole)
        if at_most >= pixels:
            return _cut_back(shape, before, hole.copy(), pixels, hole, pen)
    raise AssertionError("shapes never end")


def _cut_back(
    shape: Shape, under: np.ndarray, over: np.ndarray, pixels: int, hole: np.ndarray, pen: ImageDraw.ImageDraw
) -> np.ndarray:
    """The hole of exactly `pixels` pixels between `under` and `over`, which is `under` with the whole shape.

    `hole` is what `pen` paints on.
    """
    before, low, high = under, 0.0, 1.0
    fewer, more = np.count_nonzero(under), np.count_nonzero(over)
    for cut in range(CUTS):
        if more - fewer <= math.sqrt(over.size) / 4:
            break
        # By turns just below and just above the aim by linear interpolation, so that both ends close in.
        guess = (pixels - fewer) / (more - fewer) + (0.04 if cut % 2 else -0.04)
        share = low + (high - low) * min(max(guess, 0.1), 0.9)
        np.copyto(hole, before)
        shape.paint(pen, share)
        count = np.count_nonzero(hole)
        if count > pixels:
            over, high, more = hole.copy(), share, count
        else:
            under, low, fewer = hole.copy(), share, count
    # The sliver between the two is a pixel or so thick: part of it makes the count exact.
    sliver = np.flatnonzero(over & ~under)[: pixels - fewer]
    under = under.copy()
    under.flat[sliver] = True
    return under


def pen_on(hole: np.ndarray) -> ImageDraw.ImageDraw:
    """Pillow's, painting right into the array: to read its pictures out would take longer than to paint them."""
    image = Image.frombuffer("L", hole.shape[::-1], hole, "raw", "L", 0, 1)
    image.readonly = 0  # else the pen would copy it first
    return ImageDraw.Draw(image)
