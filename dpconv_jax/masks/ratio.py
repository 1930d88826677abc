"""The share of holes: ratios, the buckets of Table 1, and how much of the clothing a hole covers."""

import math

import numpy as np

from dpconv_jax.errors import UsageError

BUCKETS = ((0.0, 0.2), (0.2, 0.4), (0.4, 1.0))  # of the hole ratio, each (low, high], as in Table 1
DRAWN = ((0.0, 0.2), (0.2, 0.4), (0.4, 0.6))  # where generated masks of each bucket lie


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
