"""Structure from a network, texture from the photo: the holes of a photo, filled with its own patches near a guide.

The nearest relative is Zhang et al. 2022, *Inpainting at Modern Camera Resolution by Guided PatchMatch with
Auto-Curation*. The search starts from the network's colours and from random sources, at the scale at which it spoke
or, where holes are deep, at a smaller one: far from valid pixels the network is grey where a cloth repeats, and the
photo knows better. After that the guide is only its low frequencies, and they are only a part of what is compared.
"""

import math
import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from dpconv_jax.errors import UsageError
from dpconv_jax.inpainting import curation
from dpconv_jax.patches import scales
from dpconv_jax.patches.crops import Box, crops, tiles
from dpconv_jax.patches.levelling import levelled

DEPTH = 2.5  # pixels from a hole's to the closest valid ones, the mean: a search starts where it is no more
SMALLEST = 128  # pixels, about the longer side at which the search starts where nobody says at which the network spoke


class Textured(NamedTuple):
    """What `fill` returns: the composite, float32 (H, W, 3), and where the guide stands alone, bool (H, W)."""

    image: np.ndarray
    smooth: np.ndarray
    score: float = math.nan  # of the whole, by `curation`; lower is better, nan where nobody asked


def fill(
    image: np.ndarray,
    mask: np.ndarray,
    guide: np.ndarray,
    *,
    guide_scale: float | None = None,
    trust: float = 1.0,
    seed: int = 0,
    judged: bool = False,
) -> Textured:
    """Fills the holes of a photo with its patches, led by a guide.

    Args:
      image: (H, W, 3), float in [0, 1]; the pixels of the hole are not read.
      mask: (H, W, 1), 1 = valid, 0 = hole.
      guide: (H, W, 3), float in [0, 1], a network's picture, of which the hole is read. A colour that it has over or
        under its surroundings throughout is taken away.
      guide_scale: how many times the guide was enlarged; None is what makes SMALLEST pixels of a crop.
      trust: of the guide, from 1 to 0, which is the photo alone.
      seed: the same gives the same fill.

      judged: the score is wanted.

    Returns:
      The composite, valid pixels as they are, and where the photo has too few valid patches and the guide stands.

    Raises:
      UsageError: for other shapes.
    """
    image, mask, guide = np.asarray(image, np.float32), np.asarray(mask), np.asarray(guide, np.float32)
    if image.ndim != 3 or image.shape[2] != 3 or guide.shape != image.shape or mask.shape != (*image.shape[:2], 1):
        shapes = f"image {image.shape}, mask {mask.shape} and guide {guide.shape}"
        raise UsageError(f"{shapes}: they must be (H, W, 3), (H, W, 1) and (H, W, 3)")
    hole = mask[..., 0] <= 0.5
    filled, smooth = np.where(hole[..., None], guide, image), hole.copy()
    if hole.all():
        return Textured(filled, smooth)

    missing, scores = hole.copy(), []

    def of_crop(number: int, crop: Box) -> None:
        rng = np.random.default_rng([seed, number])
        for part, around in tiles(crop):
            wanted, here = missing[part].copy(), missing[around]
            if not wanted.any():
                continue
            led = filled[around].clip(0, 1)
            led = np.where(here[..., None], led - _cast(led, here), led).clip(0, 1)
            search = _Search(trust, _halvings(here, guide_scale) if trust else scales.deepest(here), judged)
            found = _fill(led, here, search, rng)
            if found is not None:
                (led, score), smooth[part] = found, False
                scores.append((score, np.count_nonzero(wanted)))
            inner = tuple(
                slice(of.start - seen.start, of.stop - seen.start) for of, seen in zip(part, around, strict=True)
            )
            filled[part][wanted] = led[inner][wanted]
            missing[part] = False

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        boxes = crops(hole)
        list(pool.map(of_crop, range(len(boxes)), boxes))
    values, pixels = np.array(sorted(scores)).T if judged and scores else ([math.nan], [1])
    return Textured(filled, smooth, float(np.average(values, weights=pixels)))


def _halvings(hole: np.ndarray, guide_scale: float | None) -> int:
    """To the scale at which the search for a crop starts."""
    spoken = round(math.log2(guide_scale or max(hole.shape) / SMALLEST))
    depth = ndimage.distance_transform_edt(hole)[hole].mean()
    return max(0, spoken, min(math.ceil(math.log2(depth / DEPTH)), scales.deepest(hole)))


class _Search(NamedTuple):
    """How patches are searched."""

    trust: float
    halvings: int
    judged: bool


def _fill(
    led: np.ndarray, hole: np.ndarray, search: _Search, rng: np.random.Generator
) -> tuple[np.ndarray, float] | None:
    """What patches make of a crop with the guide in its hole, and its score; None where it has too few."""
    pad = [(0, -side % 2**search.halvings) for side in hole.shape]
    led, padded = np.pad(led, (*pad, (0, 0)), mode="symmetric"), np.pad(hole, pad, mode="symmetric")
    guide = led if search.trust else None
    _, field, picture = scales.fill(led, padded, guide, halvings=search.halvings, trust=search.trust, rng=rng)
    if field is None:
        return None
    image = levelled(field, picture, padded, led, trust=search.trust)
    score = curation.score(image, padded, led, field, rng) if search.judged else math.nan
    return image[: hole.shape[0], : hole.shape[1]], score


def _cast(picture: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """The median of what the hole's pixels have over their valid neighbours, (3,): a few edges do not move it."""
    pairs = []
    for first, second in ((np.s_[1:, :], np.s_[:-1, :]), (np.s_[:, 1:], np.s_[:, :-1])):
        for inside, outside in ((first, second), (second, first)):
            border = hole[inside] & ~hole[outside]
            pairs.append(picture[inside][border] - picture[outside][border])
    steps = np.concatenate(pairs)
    return np.median(steps, axis=0) if len(steps) else np.zeros(3, np.float32)
