"""The linear part of a convolution, in the forms that are fastest for the shapes of this network.

NHWC features, HWIO kernels. Every fast form equals the plain one (tests/test_layers.py).
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

Pair = tuple[int, int]


def conv2d(x: jax.Array, kernel: jax.Array, *, strides: int = 1, padding: Pair = (0, 0), dilation: int = 1) -> jax.Array:
    """Zero-padded cross-correlation of x (B, H, W, C) with kernel (kh, kw, C, O); padding is (rows, columns), each on both sides."""
    return _conv2d(x, kernel, strides, tuple(padding), dilation)


def _plain(x: jax.Array, kernel: jax.Array, strides: int, padding: Pair, dilation: int) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(strides, strides),
        padding=[(p, p) for p in padding],
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _conv2d(x: jax.Array, kernel: jax.Array, strides: int, padding: Pair, dilation: int) -> jax.Array:
    return _plain(x, kernel, strides, padding, dilation)


def _forward(x, kernel, strides, padding, dilation):
    return _plain(x, kernel, strides, padding, dilation), (x, kernel)


def _backward(strides, padding, dilation, residuals, gradient):
    x, kernel = residuals
    (x_gradient,) = jax.vjp(lambda x: _plain(x, kernel, strides, padding, dilation), x)[1](gradient)

    def by_xla(x, gradient):
        return jax.vjp(lambda k: _plain(x, k, strides, padding, dilation), kernel)[1](gradient)[0]

    def by_taps(x, gradient):
        return _kernel_gradient_by_taps(x, gradient, kernel.shape, padding, dilation).astype(kernel.dtype)

    taps = kernel.shape[0] * kernel.shape[1]
    if strides != 1 or taps > 9:
        return x_gradient, by_xla(x, gradient)
    # XLA:CPU falls off a cliff on large maps; other backends keep their own algorithm.
    return x_gradient, lax.platform_dependent(x, gradient, cpu=by_taps, default=by_xla)


def _kernel_gradient_by_taps(x, gradient, shape, padding, dilation):
    """One matrix product over batch x height x width for each tap of the kernel."""
    height, width = gradient.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (padding[0],) * 2, (padding[1],) * 2, (0, 0)))
    taps = [
        lax.dot_general(
            padded[:, row * dilation :, column * dilation :][:, :height, :width],
            gradient,
            (((0, 1, 2), (0, 1, 2)), ((), ())),
            preferred_element_type=jnp.float32,
        )
        for row in range(shape[0])
        for column in range(shape[1])
    ]
    return jnp.stack(taps).reshape(shape)


_conv2d.defvjp(_forward, _backward)


def upsample(x: jax.Array) -> jax.Array:
    """Nearest x2: (B, h, w, C) -> (B, 2h, 2w, C)."""
    batch, height, width, channels = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None], (batch, height, 2, width, 2, channels))
    return x.reshape(batch, 2 * height, 2 * width, channels)


def upsampled_conv3x3(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """conv2d(upsample(x), kernel, padding=(1, 1)) as one 2x2 convolution to 4 x O channels at low resolution.

    Along one axis output 2i sees the rows (i-1, i, i) and output 2i+1 the rows (i, i, i+1): two taps each, so that
    4/9 of the multiplications remain. (B, h, w, C), (3, 3, C, O) -> (B, 2h, 2w, O).
    """
    batch, height, width, _ = x.shape
    out = kernel.shape[-1]
    even = jnp.stack([kernel[0], kernel[1] + kernel[2]])  # (2, 3, C, O)
    odd = jnp.stack([kernel[0] + kernel[1], kernel[2]])
    quarters = [
        jnp.stack([rows[:, 0], rows[:, 1] + rows[:, 2]] if side == 0 else [rows[:, 0] + rows[:, 1], rows[:, 2]], axis=1)
        for rows in (even, odd)
        for side in (0, 1)
    ]  # (row parity, column parity) in order 00, 01, 10, 11, each (2, 2, C, O)
    y = conv2d(x, jnp.concatenate(quarters, axis=-1), padding=(1, 1))  # (B, h+1, w+1, 4 O)
    parts = [
        y[:, row : row + height, column : column + width, (2 * row + column) * out : (2 * row + column + 1) * out]
        for row in (0, 1)
        for column in (0, 1)
    ]
    y = jnp.stack(parts, axis=3).reshape(batch, height, width, 2, 2, out)
    return y.transpose(0, 1, 3, 2, 4, 5).reshape(batch, 2 * height, 2 * width, out)


def conv2d_of_concat(
    features: Sequence[jax.Array],
    upsampled: Sequence[bool],
    kernel: jax.Array,
    *,
    strides: int = 1,
    padding: Pair = (0, 0),
    dilation: int = 1,
) -> jax.Array:
    """Convolution of the concatenation of features, those marked `upsampled` after nearest x2, without making either."""
    sub_pixel = kernel.shape[:2] == (3, 3) and (strides, padding, dilation) == (1, (1, 1), 1)
    groups: dict[bool, tuple[list[jax.Array], list[jax.Array]]] = {}
    start = 0
    for x, up in zip(features, upsampled, strict=True):
        weights = kernel[:, :, start : start + x.shape[-1]]
        start += x.shape[-1]
        if up and not sub_pixel:
            x, up = upsample(x), False
        inputs, kernels = groups.setdefault(up, ([], []))
        inputs.append(x)
        kernels.append(weights)
    total = None
    for up, (inputs, kernels) in groups.items():
        x = inputs[0] if len(inputs) == 1 else jnp.concatenate(inputs, axis=-1)
        weights = kernels[0] if len(kernels) == 1 else jnp.concatenate(kernels, axis=2)
        part = (
            upsampled_conv3x3(x, weights)
            if up
            else conv2d(x, weights, strides=strides, padding=padding, dilation=dilation)
        )
        total = part if total is None else total + part
    return total
