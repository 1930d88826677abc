"""Contextual attention (Yu et al. 2018, section 3.2): features made of patches copied from where the image is known.

It follows the code that Yu et al. released for DeepFill v2 (2019). That code differs from their paper of 2018 in two
things, and so does this: only keys are divided by their norm, not queries, and scores are fused before the softmax,
not after it. From the released code it differs in these:

- Each image has its own mask. Theirs gives a batch the first one's.
- What may not be copied is left out of the softmax. Theirs counts it with a score of 0, and then sets its weight to 0.
- A diagonal ends with the row or column. Theirs flattens positions, so that it runs on from the end of one row to the
  start of the next.
- Half the resolution is every other row and column, beginning with the first. Theirs resizes by nearest neighbour with
  aligned corners, to n of 2n: i comes from round(i (2n - 1) / (n - 1)), 2i in the first half and 2i + 1 in the second.
  The patches that are pasted lie around 2i in both.
- Of the mask one pixel in so many is kept, beginning with the first. Theirs resizes it as above, and twice: to the
  resolution of the features, and to half of that.
- A patch of norm 0 has a finite gradient. Theirs takes the root before the floor of 1e-4, and at 0 a root has none.
- Queries and keys are of one array, and patches of 3 x 3 and 4 x 4 pixels at strides 1 and 2. All this is an argument
  of theirs, and so the network calls it.
- Scores are float32 whatever the features are, and of a block of queries at a time. Theirs has all of an image at once.
- Images may be smaller than the array they lie in. Theirs knows no such thing.
- Theirs also returns a picture of where each query found its best key.
- Masks are 1 = valid here, and 1 = hole there.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from dpconv_jax.layers.inside import within
from dpconv_jax.layers.partial_conv import box_sum


def contextual_attention(
    x: jax.Array, mask: jax.Array, inside: jax.Array | None = None, *, scale: float = 10.0, rows: int = 16
) -> jax.Array:
    """Every other pixel asks with the 3 x 3 patch of such pixels around it, and is answered with 4 x 4 patches of x.

    1. s(q, k) = <patch at q, patch at k> / |patch at k|, on x at half the resolution (every other row and column).
    2. Fused, so that neighbours copy neighbours: the sum of s(q + d, k + d) over the nine d of a 3 x 3 window; 0 where
       either is outside the image.
    3. Softmax over k of `scale` x that. Only those k count whose 3 x 3 patch has no hole, 0 where there is none.
    4. Pasted: the patches of 4 x 4 pixels of x, at stride 2, in these weights; their overlaps are added and divided by
       4, the number that overlap away from the border.

    Args:
      x: (B, H, W, C), even sides, zero beyond its image.
      mask: (B, sH, sW, 1), 1 = valid, 0 = hole; one pixel of it stands for each pixel of x.
      inside: (B, sH, sW, 1), 1 = image, 0 = beyond it. Inside, the answer is the same as of the image alone.
      rows: of queries in flight; their scores are made again in the backward pass, so that those of all queries with
        all keys, (H W / 4)^2, never exist at once.

    Returns:
      (B, H, W, C) in the dtype of x.
    """
    small = x[:, ::2, ::2]
    height, width = small.shape[1:3]
    image = within(jnp.ones((*small.shape[:3], 1), jnp.float32), inside)
    hole = (image - within(image, lax.stop_gradient(mask)))[..., 0]
    image = image[..., 0]
    sums = functools.partial(box_sum, kernel_size=(3, 3), padding=(1, 1))
    valid = ((image > 0) & (sums(hole) == 0))[:, None, None]
    energy = sums(jnp.square(small.astype(jnp.float32)).sum(axis=-1))
    normal = (image * lax.rsqrt(jnp.maximum(energy, 1e-8)))[:, None, None]
    patches = _patches(x)

    one_block = isinstance(height, int) and height <= rows  # jax.export does not know them yet
    rows = height if one_block else rows
    blocks = 1 if one_block else -(-height // rows)
    # The sums of 1. and 2. reach two pixels beyond the queries that they are for.
    margin = ((0, 0), (2, 2 + blocks * rows - height), (2, 2))
    queries, asked = jnp.pad(small, (*margin, (0, 0))), jnp.pad(image, margin)

    @jax.checkpoint
    def of_block(first: jax.Array) -> jax.Array:
        query, there = (lax.dynamic_slice_in_dim(array, first, rows + 4, axis=1) for array in (queries, asked))
        pixels = jnp.einsum("bijc,bklc->bijkl", query, small, preferred_element_type=jnp.float32)
        scores = _along_diagonals(pixels) * normal * there[:, 1:-1, 1:-1, None, None]
        logits = jnp.where(valid, scale * _along_diagonals(scores), jnp.finfo(jnp.float32).min)
        weights = jnp.where(valid, jax.nn.softmax(logits, axis=(3, 4)), 0.0).astype(x.dtype)
        answers = jnp.einsum("bijkl,bklp->bijp", weights, patches, preferred_element_type=jnp.float32)
        return answers * there[:, 2:-2, 2:-2, None]

    if one_block:
        answers = of_block(jnp.zeros((), jnp.int32))
    else:
        answers = jnp.moveaxis(lax.map(of_block, jnp.arange(blocks) * rows), 0, 1)
        answers = answers.reshape(x.shape[0], blocks * rows, width, patches.shape[-1])[:, :height]
    (pasted,) = jax.linear_transpose(_patches, jax.ShapeDtypeStruct(x.shape, jnp.float32))(answers)
    return within((pasted / 4).astype(x.dtype), inside)


def _patches(x: jax.Array) -> jax.Array:
    """The 4 x 4 patches at stride 2 of x (B, 2h, 2w, C), zero around it: (B, h, w, 16 C). Its transpose pastes them."""
    height, width = x.shape[1] // 2, x.shape[2] // 2
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = [x[:, row::2, column::2][:, :height, :width] for row in range(4) for column in range(4)]
    return jnp.concatenate(taps, axis=-1)


def _along_diagonals(scores: jax.Array) -> jax.Array:
    """The sum of scores[:, q + d, k + d] over the nine d of a 3 x 3 window; q and k are (row, column).

    (B, h + 2, w + 2, H, W) -> (B, h, w, H, W): queries come with a margin, beyond the keys there is zero.
    """
    for query, key in ((1, 3), (2, 4)):
        queries, keys = scores.shape[query] - 2, scores.shape[key]
        padded = jnp.pad(scores, [(1, 1) if axis == key else (0, 0) for axis in range(5)])
        parts = [
            lax.slice_in_dim(lax.slice_in_dim(padded, d, d + queries, axis=query), d, d + keys, axis=key)
            for d in range(3)
        ]
        scores = functools.reduce(jnp.add, parts)
    return scores
