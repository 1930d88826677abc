"""PatchMatch hole filling (Barnes et al. 2009): what is missing is put together from whole patches of the same image.

`patches` has the engine: search and votes from the smallest scale to the image itself (Wexler et al. 2007), votes with
the colour of their targets (Darabi et al. 2012), a cost for smooth cloth where texture ought to be, and at the end the
heaviest vote for each pixel. Most of what sets it apart from the paper was found by taking PyPatchMatch 2.2 apart.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from dpconv_jax.errors import UsageError
from dpconv_jax.patches import scales
from dpconv_jax.patches.crops import Box, crops


def inpaint(image: np.ndarray, mask: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Fills the holes of an image (H, W, 3), float in [0, 1], with its own patches.

    mask: (H, W, 1), 1 = valid and 0 = hole. Returns the composite (H, W, 3) float32: valid pixels as they are. The
    pixels of the hole are not read; the same seed gives the same fill. Where an image has too few valid patches its
    fill is a smooth interpolation, and without any valid pixel mid-grey.
    Raises UsageError for other shapes.
    """
    image, mask = np.asarray(image, np.float32), np.asarray(mask)
    if image.ndim != 3 or image.shape[2] != 3 or mask.shape != (*image.shape[:2], 1):
        raise UsageError(f"image {image.shape} and mask {mask.shape}: they must be (H, W, 3) and (H, W, 1)")
    hole = mask[..., 0] <= 0.5
    if hole.all():
        return np.full_like(image, 0.5)
    filled = np.where(hole[..., None], np.float32(0), image)

    def fill(number: int, box: Box) -> None:
        here = filled[box]
        found = _fill(here.clip(0, 1), hole[box], np.random.default_rng([seed, number]))
        here[hole[box]] = found[hole[box]]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        boxes = crops(hole)
        list(pool.map(fill, range(len(boxes)), boxes))
    return filled


def _fill(image: np.ndarray, hole: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """From the last scale that has a hole."""
    halvings = scales.deepest(hole)
    pad = [(0, -side % 2**halvings) for side in hole.shape]
    padded = np.pad(image, (*pad, (0, 0)), mode="symmetric"), np.pad(hole, pad, mode="symmetric")
    filled, field, picture = scales.fill(*padded, halvings=halvings, rng=rng)
    if field is not None:
        filled, _ = field.best(picture)
    return filled[: hole.shape[0], : hole.shape[1]]
