"""Pictures at half the scale and at twice: means of what is known, smooth interpolations where nothing is."""

import numpy as np
from scipy import ndimage


def halved(image: np.ndarray, hole: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean of the valid pixels of each 2 x 2 of (h, w, C), and a hole (h, w) where there is none."""
    valid = np.logical_not(hole)[..., None]
    count = sums(valid.astype(np.float32))
    return sums(image * valid) / np.maximum(count, 1), count[..., 0] == 0


def sums(array: np.ndarray) -> np.ndarray:
    """Of each 2 x 2 of (h, w, C), of less at the lower and right edges where sides are odd."""
    rows = np.add.reduceat(array, np.arange(0, array.shape[0], 2), axis=0)
    return np.add.reduceat(rows, np.arange(0, array.shape[1], 2), axis=1)


def doubled(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Bilinear x2 of (h, w, C), cropped to a shape."""
    large = ndimage.zoom(image, (2, 2, 1), order=1, mode="nearest", grid_mode=True)
    return large[: shape[0], : shape[1]]


def interpolated(image: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """(h, w, C) with the hole filled from means of valid pixels at the scale that has some (pull and push).

    Gortler et al. 1996. At least one pixel must be valid.
    """
    if not hole.any():
        return image
    return np.where(hole[..., None], doubled(interpolated(*halved(image, hole)), hole.shape), image)
