"""Instance and batch normalisation."""

import jax
import jax.numpy as jnp
from flax import nnx

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


class BatchNorm(nnx.Module):
    """Batch normalisation with scale and bias; evaluation mode, that of the running statistics, until `train()`.

    In training mode the statistics are those of all pixels of the (global) batch, holes included, and a tenth of them
    enters the running ones. Momentum and epsilon are PyTorch's.
    """

    def __init__(self, features: int, *, rngs: nnx.Rngs):
        # Its dtype is that of the running statistics in use, too: float32 whatever the dtype of x.
        self.norm = nnx.BatchNorm(
            features, use_running_average=True, momentum=0.9, epsilon=1e-5, dtype=jnp.float32, rngs=rngs
        )

    def __call__(self, x: jax.Array, inside: jax.Array | None = None) -> jax.Array:
        """x (B, H, W, C); what is not `inside` is no pixel, and 0 in the result, which has the dtype of x."""
        pixels = resized(inside, x)
        normed = self.norm(x, mask=None if pixels is None else pixels > 0)
        return within(normed.astype(x.dtype), inside)
