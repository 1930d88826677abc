"""Instance normalisation."""

import jax
import jax.numpy as jnp

from dpconv_jax.layers.inside import resized, within


def instance_norm(x: jax.Array, inside: jax.Array | None = None, *, epsilon: float = 1e-5) -> jax.Array:
    """Zero mean and unit variance over the pixels of each image and channel, without affine; x (B, H, W, C).

    Holes are pixels too, as in the authors' code; what is not `inside` the image is none, and 0 in the result.
    Statistics are float32, the result has the dtype of x.
    """
    wide = x.astype(jnp.float32)
    pixels = resized(inside, x)
    where = None if pixels is None else pixels > 0
    mean = wide.mean(axis=(1, 2), keepdims=True, where=where)
    variance = jnp.square(wide - mean).mean(axis=(1, 2), keepdims=True, where=where)
    return within(((wide - mean) * jax.lax.rsqrt(variance + epsilon)).astype(x.dtype), inside)
