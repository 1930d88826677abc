"""Self-attention over positions (SAGAN; Zhang et al. 2019), blind to holes."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax


def attend(
    query: jax.Array, key: jax.Array, value: jax.Array, valid: jax.Array | None = None, *, block: int = 1024
) -> jax.Array:
    """softmax(query . key) value without scale, in blocks of queries so that N x N weights never exist at once.

    Args:
      query, key: (B, N, C').
      value: (B, N, C).
      valid: (B, N), 0 excludes a key; an image without a valid key attends to nothing and gets 0. None allows all.
      block: queries in flight; the weights of a block are made again in the backward pass rather than kept.

    Returns:
      (B, N, C) float32.
    """
    positions = query.shape[1]

    @jax.checkpoint
    def of_block(queries: jax.Array) -> jax.Array:
        logits = jnp.einsum("bqc,bkc->bqk", queries, key, preferred_element_type=jnp.float32)
        if valid is not None:
            logits = jnp.where(valid[:, None, :] > 0, logits, jnp.finfo(jnp.float32).min)
        weights = jax.nn.softmax(logits)  # exactly 0 where a key is excluded and another is not
        found = jnp.einsum("bqk,bkc->bqc", weights.astype(value.dtype), value, preferred_element_type=jnp.float32)
        return found if valid is None else found * (valid > 0).any(axis=1)[:, None, None]

    if isinstance(positions, int) and positions <= block:  # jax.export does not know them yet
        return of_block(query)
    blocks = -(-positions // block)
    padded = jnp.pad(query, ((0, 0), (0, blocks * block - positions), (0, 0)))
    attended = lax.map(of_block, padded.reshape(query.shape[0], blocks, block, query.shape[2]).swapaxes(0, 1))
    return attended.swapaxes(0, 1).reshape(value.shape[0], blocks * block, value.shape[2])[:, :positions]


class SelfAttention(nnx.Module):
    """x + gamma x attention(x); one head, queries and keys of C / 8 channels, gamma learned from 0."""

    def __init__(self, features: int, *, dtype: jnp.dtype = jnp.float32, rngs: nnx.Rngs):
        inner = max(features // 8, 1)
        self.query = nnx.Linear(features, inner, dtype=dtype, rngs=rngs)
        self.key = nnx.Linear(features, inner, dtype=dtype, rngs=rngs)
        self.value = nnx.Linear(features, features, dtype=dtype, rngs=rngs)
        self.gamma = nnx.Param(jnp.zeros((), jnp.float32))

    def __call__(self, x: jax.Array, valid: jax.Array | None = None) -> jax.Array:
        """x (B, H, W, C), zero in its holes; valid (B, H, W, 1), 0 where a position must not be attended to."""
        batch, height, width, channels = x.shape
        flat = x.reshape(batch, height * width, channels)
        seen = None if valid is None else lax.stop_gradient(valid).reshape(batch, height * width)
        attended = attend(self.query(flat), self.key(flat), self.value(flat), seen)
        return x + (self.gamma[...] * attended).astype(x.dtype).reshape(x.shape)
