"""Self-attention over positions (SAGAN; Zhang et al. 2019), blind to holes."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

AT_ONCE = 1024
EXCLUDED = -1e30  # added to the logit of a key that must not be attended to: its weight is exactly 0


def attend(
    query: jax.Array, key: jax.Array, value: jax.Array, valid: jax.Array | None = None, *, block: int | None = None
) -> jax.Array:
    """softmax(query . key) value without scale, in blocks of queries so that N x N weights never exist at once.

    The backward pass makes the weights of a block again, from its logits and the logarithm of their sum, rather than
    keep them (Dao 2023, "FlashAttention-2", Algorithms 1 and 2).

    Args:
      query, key: (B, N, C').
      value: (B, N, C).
      valid: (B, N), 0 excludes a key; an image without a valid key attends to nothing and gets 0. None allows all.
      block: queries of each image in flight. None is all of a map with at most AT_ONCE positions, and of a larger one
        128 on the CPU, whose caches hold no more, and elsewhere AT_ONCE.

    Returns:
      (B, N, C) float32.
    """
    if valid is None:
        return _attend(query, key, value, None, block)
    found = _attend(query, key, value, jnp.where(valid > 0, 0.0, EXCLUDED).astype(jnp.float32), block)
    return found * (valid > 0).any(axis=1)[:, None, None]


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _attend(query, key, value, bias, block):
    """As `attend`; bias (B, N) float32, or None, is added to the logits of each key."""
    return _forward(query, key, value, bias, block)[0]


def _forward(query, key, value, bias, block):
    def of_block(images, rows):
        (queries,), (key, value, bias) = rows, images
        logits = _logits(queries, key, bias)
        highest = logits.max(axis=2, keepdims=True)
        weights = jnp.exp(logits - highest)
        total = weights.sum(axis=2, keepdims=True)
        found = _product("bqk,bkc->bqc", weights.astype(value.dtype), value) / total
        return (), (found, (highest + jnp.log(total))[..., 0])

    _, (found, logarithms) = _in_blocks(of_block, (key, value, bias), (query,), (), block)
    return found, (query, key, value, bias, found, logarithms)


def _backward(block, residuals, gradient):
    query, key, value, bias, found, logarithms = residuals
    shared = (gradient * found).sum(axis=2)  # of a query, the sum over keys of weight x its gradient

    def of_block(images, rows):
        (queries, gradient, logarithms, shared), (key, value, bias) = rows, images
        weights = jnp.exp(_logits(queries, key, bias) - logarithms[..., None])
        narrow = gradient.astype(value.dtype)
        of_value = _product("bqk,bqc->bkc", weights.astype(value.dtype), narrow)
        of_logits = weights * (_product("bqc,bkc->bqk", narrow, value) - shared[..., None])
        of_logits = of_logits.astype(key.dtype)
        of_query = _product("bqk,bkc->bqc", of_logits, key)
        return (_product("bqk,bqc->bkc", of_logits, queries), of_value), (of_query,)

    sums = tuple(jnp.zeros(each.shape, jnp.float32) for each in (key, value))
    (of_key, of_value), (of_query,) = _in_blocks(
        of_block, (key, value, bias), (query, gradient, logarithms, shared), sums, block
    )
    gradients = [made.astype(like.dtype) for made, like in zip((of_query, of_key, of_value), residuals, strict=False)]
    return (*gradients, None if bias is None else jnp.zeros_like(bias))


_attend.defvjp(_forward, _backward)


def _logits(queries, key, bias):
    logits = _product("bqc,bkc->bqk", queries, key)
    return logits if bias is None else logits + bias[:, None, :]


_product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


def _in_blocks(of_block, images, rows, sums, block):
    """of_block(images, rows of some queries) -> what it adds to `sums`, and rows of its own; all of them.

    images: arrays (B, N, ...), of which each block sees all N; rows: arrays (B, N, ...), of which it sees its queries.
    """
    batch, positions = rows[0].shape[:2]
    if isinstance(positions, int) and positions <= (block or AT_ONCE):  # jax.export does not know them yet
        return of_block(images, rows)
    if block is None:  # asked while the function is traced: jax2onnx knows no choice by platform
        block = 128 if jax.default_backend() == "cpu" else AT_ONCE
    blocks = -(-positions // block)

    def split(x):
        x = jnp.pad(x, ((0, 0), (0, blocks * block - positions), *[(0, 0)] * (x.ndim - 2)))
        return x.reshape(batch, blocks, block, *x.shape[2:]).swapaxes(0, 1)

    def step(sums, rows):
        added, made = of_block(images, rows)
        return jax.tree.map(jnp.add, sums, added), made

    zeros = jax.tree.map(lambda x: jnp.zeros((batch, *x.shape[1:]), x.dtype), sums)
    total, made = lax.scan(step, zeros, jax.tree.map(split, rows))
    joined = [x.swapaxes(0, 1).reshape(batch, blocks * block, *x.shape[3:])[:, :positions] for x in made]
    return total, (*joined,)


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
