"""Instance normalisation."""

import jax
import jax.numpy as jnp


def instance_norm(x: jax.Array, *, epsilon: float = 1e-5) -> jax.Array:
    """Zero mean and unit variance over the pixels of each image and channel, without affine; x (B, H, W, C).

    Holes are pixels too, as in the authors' code. Statistics are float32, the result has the dtype of x.
    """
    wide = x.astype(jnp.float32)
    mean = wide.mean(axis=(1, 2), keepdims=True)
    variance = jnp.square(wide - mean).mean(axis=(1, 2), keepdims=True)
    return ((wide - mean) * jax.lax.rsqrt(variance + epsilon)).astype(x.dtype)
