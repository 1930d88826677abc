"""PatchMatch in plain loops, and the exact search: the yardsticks of `patchmatch.py` and of the tests."""

import numpy as np
from scipy import ndimage

from dpconv_jax.baselines.patchmatch import PATCH


def plain_sweep(pixels, targets, nearest, source, distance, draws, forward):
    """`patchmatch.sweep`, one pixel after another, one NumPy operation a patch."""
    rows, columns = distance.shape

    def patch(y, x):
        return pixels[y : y + PATCH, x : x + PATCH].astype(np.int32)

    def attempt(y, x, row, column):
        a, b = nearest[min(max(row, 0), rows - 1), min(max(column, 0), columns - 1)].tolist()
        found = np.sum((patch(y, x) - patch(a, b)) ** 2)
        if found < distance[y, x]:
            source[y, x], distance[y, x] = (a, b), found

    step = 1 if forward else -1
    order = range(len(targets)) if forward else reversed(range(len(targets)))
    for k in order:
        y, x = targets[k].tolist()
        for before in ((y - step, x), (y, x - step)):
            if 0 <= before[0] < rows and 0 <= before[1] < columns:
                v, u = source[before].tolist()
                attempt(y, x, v + y - before[0], u + x - before[1])
        radius = max(rows, columns)
        for draw in draws[k].tolist():
            down, right = divmod(draw, 2**16)
            v, u = source[y, x].tolist()
            first, last = max(v - radius, 0), min(v + radius, rows - 1)
            left, end = max(u - radius, 0), min(u + radius, columns - 1)
            attempt(y, x, first + (last - first + 1) * down // 2**16, left + (end - left + 1) * right // 2**16)
            radius //= 2


def exact_distances(picture: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Of each target, row by row, to the source most like it, from all of them."""
    pixels = np.rint(picture * 255).astype(np.float64)
    patches = np.lib.stride_tricks.sliding_window_view(pixels, (PATCH, PATCH), axis=(0, 1))
    patches = patches.reshape(*patches.shape[:2], -1)
    touches = np.lib.stride_tricks.sliding_window_view(hole, (PATCH, PATCH)).any(axis=(2, 3))
    targets, sources = patches[touches], patches[~touches]
    squares = np.sum(sources**2, axis=1)
    parts = np.array_split(targets, len(targets) // 1000 + 1)
    return np.concatenate([np.sum(p**2, axis=1) + np.min(squares - 2 * p @ sources.T, axis=1) for p in parts])


def texture(height: int, width: int) -> np.ndarray:
    """Noise at several scales (H, W, 3)."""
    noise = np.random.default_rng(0).standard_normal((height, width, 3))
    layers = [ndimage.gaussian_filter(noise, (sigma, sigma, 0)) * sigma for sigma in (1, 3, 9)]
    total = sum(layers[1:], start=layers[0])
    return ((total - total.min()) / np.ptp(total)).astype(np.float32)
