"""The patch search in plain loops, and the exact search: the yardsticks of `dpconv_jax/patches` and of the tests."""

import numpy as np
from scipy import ndimage

from dpconv_jax.patches.field import Field
from dpconv_jax.patches.kernels import PATCH


def plain_distance(pixels: np.ndarray, texture: np.ndarray, y: int, x: int, v: int, u: int) -> int:
    """`kernels.distance`."""
    ours, theirs = (pixels[a : a + PATCH, b : b + PATCH].astype(np.int64) for a, b in ((y, x), (v, u)))
    lack = max(int(texture[y, x]) // 2 - int(texture[v, u]), 0)
    return int(np.sum((ours - theirs) ** 2)) + 2 * PATCH**2 * lack**2


def plain_sweep(pixels, texture, targets, nearest, source, found, draws, forward):
    """`kernels.sweep`, one patch after another, one NumPy operation a patch."""
    rows, columns = nearest.shape[:2]

    def attempt(y, x, row, column):
        a, b = nearest[min(max(row, 0), rows - 1), min(max(column, 0), columns - 1)].tolist()
        distance = plain_distance(pixels, texture, y, x, a, b)
        if distance < found[y, x]:
            source[y, x], found[y, x] = (a, b), distance

    step = 1 if forward else -1
    order = range(len(targets)) if forward else reversed(range(len(targets)))
    for k in order:
        y, x = targets[k].tolist()
        for before in ((y - step, x), (y, x - step)):
            if 0 <= before[0] < found.shape[0] and 0 <= before[1] < found.shape[1]:
                v, u = source[before].tolist()
                attempt(y, x, v + y - before[0], u + x - before[1])
        radius = max(rows, columns)
        for draw in draws[k].tolist():
            down, right = divmod(draw, 2**16)
            v, u = source[y, x].tolist()
            first, last = max(v - radius, 0), min(v + radius, rows - 1)
            left, end = max(u - radius, 0), min(u + radius, columns - 1)
            attempt(y, x, first + (last - first + 1) * down // 2**16, left + (end - left + 1) * right // 2**16)
            radius //= 4


def exact_distances(field: Field) -> np.ndarray:
    """Of each target, row by row, to the source most like it, from all of them, without what the texture costs."""
    patches = np.lib.stride_tricks.sliding_window_view(field.pixels[:, :-1], (PATCH, PATCH), axis=(0, 1))
    places = np.moveaxis(np.indices(field.nearest.shape[:2]), 0, -1)
    sources, targets = patches[(field.nearest == places).all(axis=-1)], patches[tuple(field.targets.T)]
    sources, targets = (each.reshape(len(each), -1).astype(np.float32) for each in (sources, targets))
    squares = np.sum(sources**2, axis=1, dtype=np.float64)
    parts = np.array_split(targets, len(targets) // 100 + 1)
    return np.concatenate([np.sum(p**2, axis=1) + np.min(squares - 2 * p @ sources.T, axis=1) for p in parts])


def bare_field(hole: np.ndarray, *, texture: np.ndarray | None = None) -> Field:
    """A field without a guide, and without a wish for texture but for a given one, float32 (h, w)."""
    none = np.zeros((*hole.shape, 3), np.float32)
    return Field(hole, texture=none[..., 0] if texture is None else texture, guide=none)


def noise(height: int, width: int) -> np.ndarray:
    """Noise at several scales (H, W, 3)."""
    drawn = np.random.default_rng(0).standard_normal((height, width, 3))
    layers = [ndimage.gaussian_filter(drawn, (sigma, sigma, 0)) * sigma for sigma in (1, 3, 9)]
    total = sum(layers[1:], start=layers[0])
    return ((total - total.min()) / np.ptp(total)).astype(np.float32)
