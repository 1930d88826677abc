"""Random masks whose hole ratio lies in a bucket and whose hole covers enough of the clothing."""

import hashlib
import json
import math

import numpy as np

from dpconv_jax.errors import UsageError
from dpconv_jax.masks import strokes
from dpconv_jax.masks.files import MaskFiles
from dpconv_jax.masks.quickdraw import QuickDraw
from dpconv_jax.masks.ratio import BUCKETS, DRAWN

MIXED = ("qd_imd", "thin", "medium", "thick", "boxes")  # "mixed" draws one of these for each mask
PROCEDURAL = (*strokes.SHAPES, "mixed")  # the presets that need no file
PRESETS = (*PROCEDURAL, "quickdraw", "files")
Files = MaskFiles | QuickDraw  # what a preset may draw from
TRIES = 4  # masks drawn for a coverage before one is moved


def draw(
    rng: np.random.Generator,
    size: tuple[int, int],
    *,
    preset: str,
    bucket: int,
    region: np.ndarray | None = None,
    min_coverage: float = 0.05,
    files: Files | None = None,
) -> np.ndarray:
    """One random mask, uint8 (H, W, 1), 1 = valid, 0 = hole, whose ratio lies in the bucket.

    Drawn presets hit a pixel count taken uniformly from DRAWN[bucket]; "files" picks a file of BUCKETS[bucket].
    files: MaskFiles for "files", QuickDraw for "quickdraw".
    Both are flipped at random. Where a clothing `region` (H, W) or (H, W, 1) is known, the hole covers at least
    `min_coverage` of it: by drawing again, then by rolling the mask the shortest sufficient way, then (drawn presets)
    with a larger hole of the same bucket. That always succeeds for min_coverage <= DRAWN[bucket][1]; beyond, and for
    files, the best is done: `coverage` tells. An empty region counts as unknown.

    Raises UsageError for an unknown preset or bucket, a bad coverage, a region of another size, or missing files.
    """
    height, width = size
    _check(size=size, preset=preset, bucket=bucket, min_coverage=min_coverage, files=files)
    clothing, required = np.zeros((height, width), bool), 0
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
        ratio = pixels / (height * width)
        if isinstance(files, MaskFiles) and preset == "files":
            hole = files.pick(rng, bucket=bucket, size=size)[..., 0] == 0
        elif isinstance(files, QuickDraw) and preset == "quickdraw":
            hole = strokes.filled(files.shapes(rng, size, ratio), size, pixels)
        else:
            hole = strokes.filled(strokes.SHAPES[preset](rng, size, ratio, preset), size, pixels)
        rows, columns = rng.integers(2, size=2)
        return hole[:: -1 if rows else 1, :: -1 if columns else 1]

    for _ in range(TRIES):
        hole = fresh()
        if not required or np.count_nonzero(hole & clothing) >= required:
            break
    else:
        hole = _toward(hole, clothing, required)
        if preset != "files" and np.count_nonzero(hole & clothing) < required:
            # Over all rolls a hole covers, on average, its own ratio of the clothing: this ratio is always enough.
            pixels = min(max(pixels, math.ceil(min_coverage * height * width)), highest)
            hole = _toward(fresh(), clothing, required)
    return np.logical_not(hole).view(np.uint8)[..., None]


def eval_mask(
    *,
    seed: int,
    example_id: str,
    bucket: int,
    size: tuple[int, int],
    preset: str,
    region: np.ndarray | None = None,
    min_coverage: float = 0.05,
    files: Files | None = None,
) -> np.ndarray:
    """The fixed evaluation mask of an example: `draw` with a generator seeded by (seed, example id, bucket) alone."""
    digest = hashlib.sha256(json.dumps([seed, example_id, bucket]).encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest, "big"))
    return draw(rng, size, preset=preset, bucket=bucket, region=region, min_coverage=min_coverage, files=files)


def _check(*, size: tuple[int, int], preset: str, bucket: int, min_coverage: float, files: Files | None) -> None:
    if preset not in PRESETS:
        raise UsageError(f"no mask preset {preset!r}; known: {', '.join(PRESETS)}")
    if bucket not in range(len(BUCKETS)):
        raise UsageError(f"no mask bucket {bucket}; known: 0, 1, 2")
    if not 0 <= min_coverage <= 1:
        raise UsageError(f"mask coverage {min_coverage} must lie in [0, 1]")
    if preset == "files" and not isinstance(files, MaskFiles):
        raise UsageError("mask preset 'files' needs a folder of mask images")
    if preset == "quickdraw" and not isinstance(files, QuickDraw):
        raise UsageError("mask preset 'quickdraw' needs .ndjson files of Quick, Draw!")
    if min(size) < 8:
        raise UsageError(f"mask of {size[0]}x{size[1]}: each side must be at least 8 pixels")


def _hole_pixels(size: tuple[int, int], bucket: int) -> tuple[int, int]:
    """Fewest and most hole pixels of a drawn mask; the edges of buckets are tenths, kept exact in integers."""
    area = size[0] * size[1]
    low, high = (round(10 * edge) for edge in DRAWN[bucket])
    return low * area // 10 + 1, high * area // 10


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
