"""The joins of votes and the border of a hole, levelled in the gradient domain (Perez et al. 2003)."""

import numpy as np
from scipy import ndimage

from dpconv_jax.patches import kernels
from dpconv_jax.patches.field import Field
from dpconv_jax.patches.scales import LOW

SCREEN = 0.1  # how much a pixel's colour counts beside the four differences to its neighbours
TURNS = 30  # of the solver; what it evens out reaches about 1 / sqrt(SCREEN) pixels, and is still long before
TO_GUIDE = 0.5  # of the way from the low frequencies of the votes to those of the guide
NEAR = 0.1  # colours farther apart than this are not reconciled: the photo wins


def levelled(
    field: Field, picture: np.ndarray, hole: np.ndarray, guide: np.ndarray, *, trust: float = 1.0
) -> np.ndarray:
    """The picture's left image (h, w, 3): details of the best votes, colours between the mean vote and the guide.

    guide: (h, w, 3), of which the hole is used, with the trust 0 nothing. Outside the hole nothing changes.
    """
    width = hole.shape[1]
    filled, origin = field.best(picture)
    mean = field.mean(picture)[:, :width]
    difference = np.where(hole[..., None], guide - mean, 0)
    away = ndimage.gaussian_filter(difference, (LOW, LOW, 0))
    near = np.exp(-((np.linalg.norm(away, axis=2, keepdims=True) / NEAR) ** 2))
    anchor = mean + np.float32(TO_GUIDE * trust) * near * away
    places = np.ascontiguousarray(np.argwhere(hole), np.int32)
    steps, neighbours = np.zeros((len(places), 3), np.float32), np.zeros(len(places), np.float32)
    kernels.climb(picture, field.unknown, places, origin, steps, neighbours)
    kernels.settle(filled, places, steps, neighbours, anchor, np.float32(SCREEN), TURNS)
    return filled.clip(0, 1)
