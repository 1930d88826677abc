"""Irregular holes: drawn strokes and boxes, mask files, ratio buckets, clothing coverage, fixed evaluation masks.

A mask is a uint8 array (H, W, 1) with 1 = valid and 0 = hole; its hole ratio is the share of hole pixels.
"""

import functools
import hashlib
import json
import math
import os
import pathlib
import threading
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from dpconv_jax.errors import UsageError
from dpconv_jax.files import write_whole

BUCKETS = ((0.0, 0.2), (0.2, 0.4), (0.4, 1.0))  # of the hole ratio, each (low, high], as in Table 1
DRAWN = ((0.0, 0.2), (0.2, 0.4), (0.4, 0.6))  # where generated masks of each bucket lie
MIXED = ("qd_imd", "thin", "medium", "thick", "boxes")  # "mixed" draws one of these for each mask
PRESETS = (*MIXED, "mixed", "files")
SUFFIXES = (".png", ".bmp", ".gif", ".jpg", ".jpeg", ".pgm", ".tif", ".tiff", ".webp")

TRIES = 4  # masks drawn for a coverage before one is moved
CUTS = 8  # at most, of the last shape
LAMA = {  # (longest segment, widest brush, most segments) in pixels of a 256 x 256 image: LaMa's random_*_256 recipes
    "thin": (40, 10, 5),
    "medium": (100, 50, 5),
    "thick": (200, 100, 5),
}
LAMA_ANGLE = 4.0  # radians
LAMA_BOX = (30, 150)  # sides at 256 x 256

_indexing = threading.Lock()


def hole_ratio(mask: np.ndarray) -> float:
    """Share of hole pixels, in [0, 1], of one mask of any shape (1 = valid, 0 = hole)."""
    return (mask.size - np.count_nonzero(mask)) / mask.size


def bucket_of(ratio: float) -> int:
    """Index into BUCKETS of a hole ratio in (0, 1]; raises UsageError outside."""
    for index, (low, high) in enumerate(BUCKETS):
        if low < ratio <= high:
            return index
    raise UsageError(f"hole ratio {ratio} lies in no bucket; it must be above 0 and at most 1")


def coverage(mask: np.ndarray, region: np.ndarray) -> float:
    """|hole and clothing| / |clothing|, in [0, 1]; nan where the region is empty.

    mask: (H, W, 1), 1 = valid, 0 = hole; region: (H, W) or (H, W, 1), not 0 = clothing.
    """
    clothing = region.reshape(mask.shape) != 0
    area = np.count_nonzero(clothing)
    return np.count_nonzero(clothing & (mask == 0)) / area if area else math.nan


def draw(
    rng: np.random.Generator,
    size: tuple[int, int],
    *,
    preset: str,
    bucket: int,
    region: np.ndarray | None = None,
    min_coverage: float = 0.05,
    files: "MaskFiles | None" = None,
) -> np.ndarray:
    """One random mask, uint8 (H, W, 1), 1 = valid, 0 = hole, whose ratio lies in the bucket.

    Drawn presets hit a pixel count taken uniformly from DRAWN[bucket]; "files" picks a file of BUCKETS[bucket].
    Both are flipped at random. Where a clothing `region` (H, W) or (H, W, 1) is known, the hole covers at least
    `min_coverage` of it: by drawing again, then by rolling the mask the shortest sufficient way, then (drawn presets)
    with a larger hole of the same bucket. That always succeeds for min_coverage <= DRAWN[bucket][1]; beyond, and for
    files, the best is done: `coverage` tells. An empty region counts as unknown.

    Raises UsageError for an unknown preset or bucket, a bad coverage, a region of another size, or missing files.
    """
    height, width = size
    _check(size=size, preset=preset, bucket=bucket, min_coverage=min_coverage, files=files)
    clothing = np.zeros((height, width), bool)
    if region is not None:
        if region.shape not in ((height, width), (height, width, 1)):
            raise UsageError(f"clothing region of shape {region.shape} for a {height}x{width} mask: sizes must agree")
        clothing = region.reshape(height, width) != 0
    required = math.ceil(min_coverage * np.count_nonzero(clothing))

    if preset == "mixed":
        preset = MIXED[rng.integers(len(MIXED))]
    lowest, highest = _hole_pixels(size, bucket)
    pixels = int(rng.integers(lowest, highest, endpoint=True))

    def fresh() -> np.ndarray:
        if files is not None and preset == "files":
            hole = files.pick(rng, bucket=bucket, size=size)[..., 0] == 0
        else:
            hole = _fill(_SHAPES[preset](rng, size, pixels / (height * width), preset), size, pixels)
        rows, columns = rng.integers(2, size=2)
        return hole[:: -1 if rows else 1, :: -1 if columns else 1]

    for _ in range(TRIES):
        hole = fresh()
        if np.count_nonzero(hole & clothing) >= required:
            break
    else:
        hole = _toward(hole, clothing, required)
        if preset != "files" and np.count_nonzero(hole & clothing) < required:
            # Over all rolls a hole covers, on average, its own ratio of the clothing: this ratio is always enough.
            pixels = min(max(pixels, math.ceil(min_coverage * height * width)), highest)
            hole = _toward(fresh(), clothing, required)
    return np.logical_not(hole).astype(np.uint8)[..., None]


def eval_mask(
    *,
    seed: int,
    example_id: str,
    bucket: int,
    size: tuple[int, int],
    preset: str,
    region: np.ndarray | None,
    min_coverage: float,
    files: "MaskFiles | None" = None,
) -> np.ndarray:
    """The fixed evaluation mask of an example: `draw` with a generator seeded by (seed, example id, bucket) alone."""
    digest = hashlib.sha256(json.dumps([seed, example_id, bucket]).encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest, "big"))
    return draw(rng, size, preset=preset, bucket=bucket, region=region, min_coverage=min_coverage, files=files)


def _check(*, size: tuple[int, int], preset: str, bucket: int, min_coverage: float, files: "MaskFiles | None") -> None:
    if preset not in PRESETS:
        raise UsageError(f"no mask preset {preset!r}; known: {', '.join(PRESETS)}")
    if bucket not in range(len(BUCKETS)):
        raise UsageError(f"no mask bucket {bucket}; known: 0, 1, 2")
    if not 0 <= min_coverage <= 1:
        raise UsageError(f"mask coverage {min_coverage} must lie in [0, 1]")
    if preset == "files" and files is None:
        raise UsageError("mask preset 'files' needs a folder of mask images")
    if min(size) < 8:
        raise UsageError(f"mask of {size[0]}x{size[1]}: each side must be at least 8 pixels")


def _hole_pixels(size: tuple[int, int], bucket: int) -> tuple[int, int]:
    """Fewest and most hole pixels of a drawn mask; the edges of buckets are tenths, kept exact in integers."""
    area = size[0] * size[1]
    low, high = (round(10 * edge) for edge in DRAWN[bucket])
    return low * area // 10 + 1, high * area // 10


# ---- strokes and boxes ----


class _Stroke(NamedTuple):
    """A round brush along a polyline; `points` are x, y, x, y, ... in pixels."""

    points: list[float]
    width: float
    area: float  # at least as many pixels as it paints

    def paint(self, canvas: ImageDraw.ImageDraw, share: float) -> None:
        """Paint the first `share` of the way; a short rest is also thin, so that share -> 0 paints nothing."""
        points = self.points
        if share < 1:
            last, part = divmod(share * (len(points) // 2 - 1), 1)
            x, y, next_x, next_y = points[2 * int(last) : 2 * int(last) + 4]
            points = [*points[: 2 * int(last) + 2], x + part * (next_x - x), y + part * (next_y - y)]
        width = max(1, round(self.width * min(1.0, 4 * share)))
        canvas.line(points, fill=1, width=width)
        if width > 2:
            radius = (width - 1) / 2
            for x, y in zip(points[::2], points[1::2], strict=True):
                canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1)


class _Box(NamedTuple):
    """An axis-parallel rectangle around a centre, in pixels."""

    x: float
    y: float
    width: float
    height: float
    area: float  # at least as many pixels as it paints

    def paint(self, canvas: ImageDraw.ImageDraw, share: float) -> None:
        """Paint the box with both sides scaled by `share`."""
        half_x, half_y = share * self.width / 2, share * self.height / 2
        canvas.rectangle((self.x - half_x, self.y - half_y, self.x + half_x, self.y + half_y), fill=1)


def _area(length: np.ndarray, width: np.ndarray, nodes: np.ndarray | int) -> list[float]:
    """At least the pixels of strokes: a band, half a disc outside each turn and at each end, a pixel for the raster."""
    return (length * (width + 1) + nodes * (math.pi / 8) * (width + 2) ** 2).tolist()


def _freehand(rng: np.random.Generator, size: tuple[int, int], ratio: float, _: str) -> Iterator[_Stroke]:
    """Pen strokes like QD-IMD's: their number ~ N(4, 2), their width ~ U(5, 15) at 512, enlarged by U(1, 1.5), cropped.

    So drawn, holes above 0.4 are rare: brush and number grow with the wanted ratio.
    """
    unit = min(size)
    number = max(1.0, rng.normal(4, 2)) * (1 + 1.5 * ratio)
    # n random strokes of length 1 and width w leave exp(-n w) of an image of side 1; a quarter more for crossed loops.
    brush = min(max(-1.25 * math.log(1 - ratio) / number, 10 / 512), 0.12)
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
        areas = _area(length[:, 0], widths, steps + 1)
        yield from map(_Stroke, path.reshape(batch, -1).tolist(), widths.tolist(), areas)


def _lama(rng: np.random.Generator, size: tuple[int, int], ratio: float, preset: str) -> Iterator[_Stroke]:
    """Zigzag strokes like LaMa's: segments of length 10 + U(max), brush 5 + U(max) at 256, turning back and forth.

    Larger holes have longer segments, without which thin strokes would end as confetti.
    """
    unit = min(size) / 256
    longest, widest, most = LAMA[preset]
    edge = np.array(size[::-1]) - 1.0
    batch = 8
    while True:
        segments = rng.integers(1, most, batch, endpoint=True)
        angle = rng.uniform(0, LAMA_ANGLE, (batch, most))
        angle[:, ::2] *= -1
        length = unit * (1 + 4 * ratio) * (10 + rng.uniform(0, longest, (batch, most)))
        path = np.empty((batch, most + 1, 2))
        path[:, 0] = rng.uniform(0, 1, (batch, 2)) * edge
        path[:, 1:, 0] = np.sin(angle) * length
        path[:, 1:, 1] = np.cos(angle) * length
        points = np.cumsum(path, axis=1)
        points = np.abs((points + edge) % (2 * edge) - edge).reshape(batch, -1).tolist()  # mirrored at the border
        widths = unit * (5 + rng.uniform(0, widest, batch))
        areas = _area(np.cumsum(length, axis=1)[np.arange(batch), segments - 1], widths, segments + 1)
        for line, count, width, area in zip(points, segments.tolist(), widths.tolist(), areas, strict=True):
            yield _Stroke(line[: 2 * count + 2], width, area)


def _boxes(rng: np.random.Generator, size: tuple[int, int], ratio: float, _: str) -> Iterator[_Box]:
    """Rectangles with sides U(30, 150) at 256, like LaMa's."""
    unit = min(size) / 256
    while True:
        y, x = (rng.uniform(0, 1, 2) * size).tolist()
        width, height = (unit * rng.uniform(*LAMA_BOX, 2)).tolist()
        yield _Box(x, y, width, height, (width + 2) * (height + 2))


_SHAPES = {"qd_imd": _freehand, "thin": _lama, "medium": _lama, "thick": _lama, "boxes": _boxes}


def _fill(shapes: Iterable[_Stroke | _Box], size: tuple[int, int], pixels: int) -> np.ndarray:
    """Paint shapes until the hole has exactly `pixels` pixels; the last one is cut back. Returns bool (H, W)."""
    canvas = Image.new("L", (size[1], size[0]))
    pen = ImageDraw.Draw(canvas)
    at_most = 0.0  # of the hole's pixels: spares counting while the shapes cannot have reached the aim
    for shape in shapes:
        at_most += shape.area
        if at_most < pixels:
            shape.paint(pen, 1.0)
            continue
        before = canvas.copy()
        shape.paint(pen, 1.0)
        hole = _holes(canvas)
        at_most = np.count_nonzero(hole)
        if at_most >= pixels:
            return _cut_back(shape, before, hole, pixels)
    raise AssertionError("shapes never end")


def _cut_back(shape: _Stroke | _Box, before: Image.Image, over: np.ndarray, pixels: int) -> np.ndarray:
    """The hole of exactly `pixels` pixels between `before` and `before` with the whole shape (`over`)."""
    under, low, high = _holes(before), 0.0, 1.0
    fewer, more = np.count_nonzero(under), np.count_nonzero(over)
    for cut in range(CUTS):
        if more - fewer <= math.sqrt(over.size) / 4:
            break
        # By turns just below and just above the aim by linear interpolation, so that both ends close in.
        guess = (pixels - fewer) / (more - fewer) + (0.04 if cut % 2 else -0.04)
        share = low + (high - low) * min(max(guess, 0.1), 0.9)
        canvas = before.copy()
        shape.paint(ImageDraw.Draw(canvas), share)
        hole = _holes(canvas)
        count = np.count_nonzero(hole)
        if count > pixels:
            over, high, more = hole, share, count
        else:
            under, low, fewer = hole, share, count
    # The sliver between the two is a pixel or so thick: part of it makes the count exact.
    sliver = np.flatnonzero(over & ~under)[: pixels - fewer]
    hole = under.copy()
    hole.flat[sliver] = True
    return hole


def _holes(canvas: Image.Image) -> np.ndarray:
    return np.asarray(canvas).view(bool)  # of zeros and ones


def _toward(hole: np.ndarray, clothing: np.ndarray, required: int) -> np.ndarray:
    """Roll the hole (H, W) the shortest way that covers `required` clothing pixels, else where it covers most."""
    height, width = hole.shape
    spectrum = np.fft.rfft2(clothing) * np.fft.rfft2(hole).conj()
    covered = np.rint(np.fft.irfft2(spectrum, s=hole.shape))  # (H, W): by the hole rolled by (row, column)
    rows = np.minimum(np.arange(height), height - np.arange(height))
    columns = np.minimum(np.arange(width), width - np.arange(width))
    way = rows[:, None] ** 2 + columns**2
    wanted = min(required, covered.max())
    shift = np.argmin(np.where(covered >= wanted, way, np.iinfo(way.dtype).max))
    return np.roll(hole, np.unravel_index(shift, hole.shape), axis=(0, 1))


# ---- files ----


def read(path: str | os.PathLike[str], *, hole: str, size: tuple[int, int] | None = None) -> np.ndarray:
    """A mask file as uint8 (H, W, 1), 1 = valid, 0 = hole; `size` (H, W) resizes it first, by nearest neighbour.

    hole: "black" or "white", the colour of a hole in the file; grey levels of 128 and more count as white.
    Raises UsageError when `hole` is neither or the file is not a readable image.
    """
    _check_polarity(hole)
    try:
        with Image.open(path) as image:
            grey = image.convert("L")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UsageError(f"mask file {os.fspath(path)!r} is not a readable image: {error}") from error
    if size is not None and grey.size != (size[1], size[0]):
        grey = grey.resize((size[1], size[0]), Image.Resampling.NEAREST)
    white = np.asarray(grey) >= 128
    return (white if hole == "black" else ~white).astype(np.uint8)[..., None]


def _check_polarity(hole: str) -> None:
    if hole not in ("black", "white"):
        raise UsageError(f"hole colour {hole!r} of mask files must be 'black' (as QD-IMD) or 'white' (as NVIDIA)")


class MaskFiles:
    """A folder of mask images (searched recursively), sorted by path and, for each size asked for, by bucket.

    Ratios are those after the resize; files without a hole or without a valid pixel are left out.
    """

    def __init__(self, directory: str | os.PathLike[str], *, hole: str) -> None:
        """Raises UsageError when `hole` is not "black" or "white", or the folder is missing or holds no image."""
        _check_polarity(hole)
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
                index: tuple[list[pathlib.Path], ...] = ([], [], [])
                for path in self.paths:
                    ratio = hole_ratio(read(path, hole=self.hole, size=size))
                    if 0 < ratio < 1:
                        index[bucket_of(ratio)].append(path)
                self._indexes[size] = index
        return self._indexes[size][bucket]

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


# ---- manifest of evaluation masks ----


@dataclass(frozen=True, kw_only=True)
class Row:
    """One evaluation mask: what makes it again (seed, id, bucket, preset, files) and what it is."""

    id: str
    bucket: int
    seed: int
    preset: str
    files: str  # MaskFiles.digest where preset is "files", else ""
    height: int
    width: int
    ratio: float
    coverage: float | None  # None where the clothing region is unknown
    sha256: str  # of the mask's bytes, row by row, one byte a pixel, 1 = valid


def row(
    mask: np.ndarray,
    *,
    example_id: str,
    bucket: int,
    seed: int,
    preset: str,
    region: np.ndarray | None = None,
    files: MaskFiles | None = None,
) -> Row:
    """The manifest's row of `eval_mask`'s mask; `mask` (H, W, 1) of any dtype, holding 1 = valid and 0 = hole."""
    covered = math.nan if region is None else coverage(mask, region)
    return Row(
        id=example_id,
        bucket=bucket,
        seed=seed,
        preset=preset,
        files=files.digest if files is not None and preset == "files" else "",
        height=mask.shape[0],
        width=mask.shape[1],
        ratio=hole_ratio(mask),
        coverage=None if math.isnan(covered) else covered,
        sha256=_sha256(mask),
    )


def _sha256(mask: np.ndarray) -> str:
    return hashlib.sha256((mask != 0).astype(np.uint8).tobytes()).hexdigest()


def write_manifest(path: str | os.PathLike[str], rows: Iterable[Row]) -> None:
    """Rows as JSON lines; an older file is replaced only when all are written."""
    write_whole(pathlib.Path(path), "".join(json.dumps(asdict(one)) + "\n" for one in rows).encode())


def read_manifest(path: str | os.PathLike[str]) -> list[Row]:
    """The rows of a manifest; raises UsageError naming the line that is damaged, contradicts itself or comes twice."""
    try:
        lines = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"mask manifest {os.fspath(path)!r} cannot be read: {error}") from error
    rows: list[Row] = []
    seen: set[tuple[str, int]] = set()
    for number, line in enumerate(lines, start=1):
        where = f"mask manifest {os.fspath(path)!r}, line {number}"
        try:
            one = Row(**json.loads(line))
            bucket = bucket_of(one.ratio)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{where}: not a row of {', '.join(f.name for f in fields(Row))}: {error}") from error
        if bucket != one.bucket:
            raise UsageError(f"{where}: ratio {one.ratio} does not lie in bucket {one.bucket}")
        if (one.id, one.bucket) in seen:
            raise UsageError(f"{where}: example {one.id!r} comes twice in bucket {one.bucket}")
        seen.add((one.id, one.bucket))
        rows.append(one)
    return rows


def verify(recorded: Row, mask: np.ndarray, *, region: np.ndarray | None = None) -> None:
    """Raises UsageError unless `mask` (H, W, 1) is the recorded one: size, sha256 of its bytes, ratio, and coverage
    where the clothing region is given.
    """
    made = row(
        mask,
        example_id=recorded.id,
        bucket=recorded.bucket,
        seed=recorded.seed,
        preset=recorded.preset,
        region=region,
    )
    for name in ("height", "width", "sha256", "ratio", *(["coverage"] if region is not None else [])):
        if getattr(made, name) != getattr(recorded, name):
            raise UsageError(
                f"mask of example {recorded.id!r}, bucket {recorded.bucket}: {name} is {getattr(made, name)}, "
                f"the manifest says {getattr(recorded, name)}"
            )
