"""Holes filled with the colours around them, by a pyramid of means (Gortler et al., "The Lumigraph", 1996: pull-push).

Images NHWC; masks (B, H, W, 1), 1 = valid, 0 = hole.
"""

import jax
import jax.numpy as jnp
from jax import lax

LEVELS = 8  # a cell of the last one is the mean of 256 x 256 pixels


def pyramid_fill(x: jax.Array, mask: jax.Array, inside: jax.Array | None = None) -> jax.Array:
    """x with its holes filled; (B, H, W, C) float32. Pixels of holes are never read.

    Pull: a cell of each level is the mean of the valid ones among the four below it, and valid where one of them is.
    Push: holes of each level take the bilinear interpolation of the level above, those of the last one the mean of its
    valid cells. Where nothing is valid the fill is 0. No gradient passes.

    inside: (B, H, W, 1), 1 = image, 0 = beyond it; inside, the fill is that of the image alone.
    """
    mask = lax.stop_gradient(mask).astype(jnp.float32)
    x = jnp.where(mask > 0, lax.stop_gradient(x).astype(jnp.float32), 0)
    image = jnp.ones_like(mask) if inside is None else inside.astype(jnp.float32)
    levels = [(x, mask, image)]
    for _ in range(LEVELS):
        x, mask, image = levels[-1]
        count = _sum_of_four(mask)
        levels.append((_sum_of_four(x) / jnp.maximum(count, 1), jnp.minimum(count, 1), _largest_of_four(image)))
    x, mask, _ = levels[-1]
    fill = jnp.sum(x, (1, 2), keepdims=True) / jnp.maximum(jnp.sum(mask, (1, 2), keepdims=True), 1)
    fill = jnp.where(mask > 0, x, fill)
    for (x, mask, _), (_, _, image) in zip(levels[-2::-1], levels[:0:-1], strict=True):
        # Beyond an image nothing is interpolated: its border counts for both, as at the border of the array.
        enlarged = _doubled(fill * image, x.shape) / jnp.maximum(_doubled(image, x.shape), 1e-6)
        fill = jnp.where(mask > 0, x, enlarged)
    return fill


def _sum_of_four(x: jax.Array) -> jax.Array:
    return lax.reduce_window(x, 0.0, lax.add, (1, 2, 2, 1), (1, 2, 2, 1), _padding())


def _largest_of_four(x: jax.Array) -> jax.Array:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), _padding())


def _padding() -> list[tuple[int, int]]:
    return [(0, 0), (0, 1), (0, 1), (0, 0)]


def _doubled(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """x (B, h, w, C) enlarged bilinearly, with zeros around it, and cut to `shape` (B, H, W, C)."""
    for axis in (1, 2):
        ends = [(0, 0)] * 4
        ends[axis] = (1, 1)
        padded = jnp.pad(x, ends)
        before, here, after = (lax.slice_in_dim(padded, first, first + x.shape[axis], axis=axis) for first in range(3))
        pair = jnp.stack([0.25 * before + 0.75 * here, 0.75 * here + 0.25 * after], axis + 1)
        sides = list(x.shape)
        sides[axis] *= 2
        x = lax.slice_in_dim(pair.reshape(sides), 0, shape[axis], axis=axis)
    return x
