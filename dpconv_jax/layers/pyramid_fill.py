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
    x = lax.stop_gradient(x).astype(jnp.float32)
    x = jnp.where(mask > 0, x, jnp.zeros_like(x))
    image = jnp.ones_like(mask) if inside is None else inside.astype(jnp.float32)
    levels = [(x, mask, image)]
    for _ in range(LEVELS):
        x, mask, image = levels[-1]
        count = _sum_of_four(mask)
        above = _sum_of_four(x) / jnp.maximum(count, 1)
        levels.append((above, jnp.sign(count), jnp.sign(_sum_of_four(image))))
    x, mask, _ = levels[-1]
    fill = jnp.sum(x, (1, 2), keepdims=True) / jnp.maximum(jnp.sum(mask, (1, 2), keepdims=True), 1)
    fill = jnp.where(mask > 0, x, fill)
    for (x, mask, _), (_, _, image) in zip(levels[-2::-1], levels[:0:-1], strict=True):
        # Beyond an image nothing is interpolated: its border counts for both, as at the border of the array.
        enlarged = _doubled(fill * image, x.shape) / jnp.maximum(_doubled(image, x.shape), 1e-6)
        fill = jnp.where(mask > 0, x, enlarged)
    return fill


def _sum_of_four(x: jax.Array) -> jax.Array:
    """Sums of 2 x 2, with zeros beyond the last row and column."""
    for axis in (1, 2):
        side = x.shape[axis]
        padded = jnp.concatenate([x, _zero_line(x, axis)], axis)
        first, second = (lax.slice_in_dim(padded, start, start + side, stride=2, axis=axis) for start in (0, 1))
        x = first + second
    return x


def _doubled(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """x (B, h, w, C) enlarged bilinearly, with zeros around it, and cut to `shape` (B, H, W, C)."""
    for axis in (1, 2):
        side, zeros = x.shape[axis], _zero_line(x, axis)
        before = jnp.concatenate([zeros, lax.slice_in_dim(x, 0, side - 1, axis=axis)], axis)
        after = jnp.concatenate([lax.slice_in_dim(x, 1, side, axis=axis), zeros], axis)
        pair = jnp.stack([0.25 * before + 0.75 * x, 0.75 * x + 0.25 * after], axis + 1)
        sides = list(x.shape)
        sides[axis] *= 2
        x = lax.slice_in_dim(pair.reshape(sides), 0, shape[axis], axis=axis)
    return x


def _zero_line(x: jax.Array, axis: int) -> jax.Array:
    return jnp.zeros_like(lax.slice_in_dim(x, 0, 1, axis=axis))
