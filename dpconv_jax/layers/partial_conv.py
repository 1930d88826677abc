"""Dilated partial convolution, Eq. (1)-(4) of the paper.

Eq. (3) prints a division by Z; Z multiplies here, as in Liu et al. (2018), to which the paper says it is equal.
Features NHWC; masks (B, H, W, 1), 1 = valid, 0 = hole, one channel for each concatenated source.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from dpconv_jax.layers.conv import Pair, conv2d_of_concat, upsample
from dpconv_jax.layers.inside import within


class Source(NamedTuple):
    """One operand of a concatenation: features (B, h, w, C) and their mask (B, h, w, 1).

    With `upsample` both are enlarged by nearest x2 before the convolution. Made inside traced functions: as an argument
    of `jax.jit` its flag would be traced too.
    """

    features: jax.Array
    mask: jax.Array
    upsample: bool = False


def zeros_around(kernel: jax.Array, *, padding: int | None, dilation: int) -> Pair:
    """Zeros on each side, (rows, columns): `padding`, or with None what keeps the size at stride 1, for odd kernels."""
    if padding is not None:
        return padding, padding
    return dilation * (kernel.shape[0] - 1) // 2, dilation * (kernel.shape[1] - 1) // 2


def box_sum(
    x: jax.Array, kernel_size: Pair, *, strides: int = 1, padding: Pair = (0, 0), dilation: int = 1
) -> jax.Array:
    """Sum of x (B, H, W) over each window of the convolution, as separable shifted additions; float32."""
    x = jnp.pad(x.astype(jnp.float32), ((0, 0), (padding[0],) * 2, (padding[1],) * 2))
    for axis, size in ((1, kernel_size[0]), (2, kernel_size[1])):
        last = x.shape[axis] - dilation * (size - 1)
        taps = [lax.slice_in_dim(x, tap * dilation, tap * dilation + last, strides, axis) for tap in range(size)]
        x = functools.reduce(jnp.add, taps)
    return x


def partial_conv(
    sources: Sequence[Source],
    kernel: jax.Array,
    bias: jax.Array | None = None,
    *,
    strides: int = 1,
    padding: int | None = None,
    dilation: int = 1,
    threshold: float = 0.0,
) -> tuple[jax.Array, jax.Array]:
    """Eq. (1)-(4) on the concatenation of `sources`.

    M (Eq. 1) counts the valid inputs of a window over all channels; zero padding counts as invalid. A source of C
    channels has one mask, so M = sum over sources of C x box(mask): one channel of arithmetic, whatever the width.
    Z (Eq. 2) = kh x kw x (all channels) / M. Eq. (3): (conv(x * m) x Z + b) x m'. Eq. (4): m' = 1 where the number of
    valid positions, sum over sources of box(mask), exceeds `threshold`; the paper prints 1, implementations use 0.

    Args:
      sources: features (B, H, W, C_g) with masks (B, H, W, 1).
      kernel: (kh, kw, sum C_g, O).
      bias: (O,) or None.
      padding: zeros on every side; None keeps the size at stride 1.

    Returns:
      Features (B, H', W', O) in the dtype of `kernel`, zero in holes, and the updated mask (B, H', W', 1), float32.
      No gradient passes through the masks.
    """
    size = (kernel.shape[0], kernel.shape[1])
    pads = zeros_around(kernel, padding=padding, dilation=dilation)
    masks = [lax.stop_gradient(source.mask).astype(jnp.float32) for source in sources]
    linear = conv2d_of_concat(
        [
            source.features.astype(kernel.dtype) * mask.astype(kernel.dtype)
            for source, mask in zip(sources, masks, strict=True)
        ],
        [source.upsample for source in sources],
        kernel,
        strides=strides,
        padding=pads,
        dilation=dilation,
    )
    full = [upsample(mask) if source.upsample else mask for source, mask in zip(sources, masks, strict=True)]
    channels = [source.features.shape[-1] for source in sources]

    def box(mask: jax.Array) -> jax.Array:
        return box_sum(mask[..., 0], size, strides=strides, padding=pads, dilation=dilation)[..., None]

    count = box(functools.reduce(jnp.add, [c * mask for c, mask in zip(channels, full, strict=True)]))
    positions = count if threshold == 0 else box(functools.reduce(jnp.add, full))
    updated = (positions > threshold).astype(jnp.float32)
    scale = size[0] * size[1] * sum(channels) / jnp.maximum(count, 1.0)
    out = linear.astype(jnp.float32) * (scale * updated)
    if bias is not None:
        out = out + bias.astype(jnp.float32) * updated
    return out.astype(kernel.dtype), updated


class PartialConv(nnx.Module):
    """A (dilated) partial convolution with its kernel and bias; `partial_conv` says what it computes.

    He-uniform kernel and zero bias, float32; computation in `dtype`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int,
        *,
        strides: int = 1,
        padding: int | None = None,
        dilation: int = 1,
        threshold: float = 0.0,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        shape = (kernel_size, kernel_size, in_features, out_features)
        self.kernel = nnx.Param(nnx.initializers.he_uniform()(rngs.params(), shape, jnp.float32))
        self.bias = nnx.Param(jnp.zeros((out_features,), jnp.float32))
        self.strides = strides
        self.padding = padding
        self.dilation = dilation
        self.threshold = threshold
        self.dtype = dtype

    def __call__(self, *sources: Source, inside: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """Features and mask, both zero beyond the image where its `inside` is given."""
        features, mask = partial_conv(
            sources,
            self.kernel[...].astype(self.dtype),
            self.bias[...],
            strides=self.strides,
            padding=self.padding,
            dilation=self.dilation,
            threshold=self.threshold,
        )
        return within(features, inside), within(mask, inside)

    def plain(self, features: Sequence[jax.Array], upsampled: Sequence[bool]) -> jax.Array:
        """The same weights without masks: an ordinary convolution of the concatenation of `features`."""
        kernel = self.kernel[...].astype(self.dtype)
        out = conv2d_of_concat(
            [x.astype(self.dtype) for x in features],
            upsampled,
            kernel,
            strides=self.strides,
            padding=zeros_around(kernel, padding=self.padding, dilation=self.dilation),
            dilation=self.dilation,
        )
        return out + self.bias[...].astype(self.dtype)
