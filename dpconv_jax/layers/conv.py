"""The linear part of a convolution, in the forms that are fastest for the shapes of this network.

NHWC features, HWIO kernels. Every fast form equals the plain one (tests/test_layers.py).
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

Pair = tuple[int, int]


def conv2d(
    x: jax.Array, kernel: jax.Array, *, strides: int = 1, padding: Pair = (0, 0), dilation: int = 1
) -> jax.Array:
    """Zero-padded cross-correlation of x (B, H, W, C) with kernel (kh, kw, C, O); padding: of rows and columns."""
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
    height, width, inputs, outputs = kernel.shape
    # XLA:CPU falls off cliffs here; the gates were measured on it, and other backends keep their own algorithms.
    # Kernel: XLA slides the gradient, as large as the map, over the input: up to 2x slower on maps beyond 32 x 32.
    taps = height * width <= 49 and gradient.shape[1] * gradient.shape[2] > 32 * 32
    # Input: at a stride it multiplies the zeros between the outputs; for 2 x 2 kernels it is slow with many outputs.
    phases = strides > 1 and dilation == 1 and min(height, width) >= strides
    product = (height, width, strides, dilation) == (2, 2, 1, 1) and outputs >= inputs

    def by_xla(x, kernel, gradient):
        return jax.vjp(lambda x, kernel: _plain(x, kernel, strides, padding, dilation), x, kernel)[1](gradient)

    def on_cpu(x, kernel, gradient):
        x_gradient, kernel_gradient = by_xla(x, kernel, gradient)
        if phases:
            x_gradient = _input_gradient_by_phases(gradient, kernel, x.shape, strides, padding)
        elif product:
            x_gradient = _input_gradient_by_product(gradient, kernel, x.shape, padding)
        if taps:
            kernel_gradient = _kernel_gradient_by_taps(x, gradient, kernel.shape, strides, padding, dilation)
        return x_gradient.astype(x.dtype), kernel_gradient.astype(kernel.dtype)

    if not (phases or product or taps):
        return by_xla(x, kernel, gradient)
    return lax.platform_dependent(x, kernel, gradient, cpu=on_cpu, default=by_xla)


def _kernel_gradient_by_taps(x, gradient, shape, strides, padding, dilation):
    """One matrix product over height x width for each tap and image: faster on XLA:CPU than with the batch in it.

    The gradient is transposed once for all taps: XLA would read it across its rows in every product.
    """
    batch, height, width, outputs = gradient.shape
    padded = jnp.pad(x, ((0, 0), (padding[0],) * 2, (padding[1],) * 2, (0, 0)))
    transposed = lax.optimization_barrier(gradient.reshape(batch, height * width, outputs).swapaxes(1, 2))
    taps = []
    for row in range(shape[0]):
        for column in range(shape[1]):
            seen = padded[:, row * dilation :: strides, column * dilation :: strides][:, :height, :width]
            seen = seen.reshape(batch, height * width, shape[2])
            taps.append(jnp.einsum("bop,bpi->boi", transposed, seen, preferred_element_type=jnp.float32).sum(0))
    return jnp.stack(taps).swapaxes(1, 2).reshape(shape)


def _input_gradient_by_phases(gradient, kernel, shape, strides, padding):
    """Pixels of one residue modulo the stride see the same taps: a convolution of stride 1 for each residue."""
    sides = [-(-side // strides) for side in shape[1:3]]

    def phase(*residues: int) -> jax.Array:
        firsts = [(residue + pad) % strides for residue, pad in zip(residues, padding, strict=True)]
        taps = kernel[firsts[0] :: strides, firsts[1] :: strides]
        pads = []
        for axis in (0, 1):
            before = taps.shape[axis] - 1 - (residues[axis] + padding[axis]) // strides
            pads.append((before, sides[axis] + taps.shape[axis] - 1 - gradient.shape[1 + axis] - before))
        return lax.conv_general_dilated(
            gradient, taps[::-1, ::-1].swapaxes(2, 3), (1, 1), pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    rows = [jnp.stack([phase(row, column) for column in range(strides)], axis=3) for row in range(strides)]
    full = jnp.stack(rows, axis=2).reshape(shape[0], sides[0] * strides, sides[1] * strides, shape[3])
    return full[:, : shape[1], : shape[2]]


def _input_gradient_by_product(gradient, kernel, shape, padding):
    """One matrix product to all taps of a 2 x 2 kernel at once, then four shifted additions."""
    taps = jnp.einsum("bhwo,klio->bhwkli", gradient, kernel)
    total = 0
    for row in (0, 1):
        for column in (0, 1):
            shifts = ((0, 0, 0), (row, 1 - row, 0), (column, 1 - column, 0), (0, 0, 0))
            total = total + lax.pad(taps[:, :, :, row, column], jnp.zeros((), taps.dtype), shifts)
    return total[:, padding[0] :, padding[1] :][:, : shape[1], : shape[2]]


_conv2d.defvjp(_forward, _backward)


def upsample(x: jax.Array) -> jax.Array:
    """Nearest x2: (B, h, w, C) -> (B, 2h, 2w, C)."""
    batch, height, width, channels = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None], (batch, height, 2, width, 2, channels))
    return x.reshape(batch, 2 * height, 2 * width, channels)


@jax.custom_vjp
def upsampled_conv3x3(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """conv2d(upsample(x), kernel, padding=(1, 1)) as one 2x2 convolution to 4 x O channels at low resolution.

    Along one axis output 2i sees the rows (i-1, i, i) and output 2i+1 the rows (i, i, i+1): two taps each, so that
    4/9 of the multiplications remain. (B, h, w, C), (3, 3, C, O) -> (B, 2h, 2w, O).
    """
    return _sub_pixel(x, kernel)


def _sub_pixel(x: jax.Array, kernel: jax.Array) -> jax.Array:
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


def _upsampled_forward(x, kernel):
    return _sub_pixel(x, kernel), (x, kernel)


def _upsampled_backward(residuals, gradient):
    """Along one axis tap a of the kernel takes x[i] to the outputs 2i+1-a and 2i+2-a: their sums, times x, all at once.

    That is 9/16 of the products of the 2x2 form, and what devices send each other has the size of the kernel.
    """
    x, kernel = residuals
    (x_gradient,) = jax.vjp(lambda x: _sub_pixel(x, kernel), x)[1](gradient)

    def by_sums(x, kernel, gradient):
        sums = [both for rows in _pair_sums(gradient, axis=1) for both in _pair_sums(rows, axis=2)]
        return jnp.stack([jnp.einsum("bhwi,bhwo->io", x, each) for each in sums]).reshape(kernel.shape)

    def by_xla(x, kernel, gradient):
        return jax.vjp(lambda kernel: _sub_pixel(x, kernel), kernel)[1](gradient)[0]

    if kernel.shape[-1] >= 8:
        return x_gradient, by_sums(x, kernel, gradient)
    # A TPU keeps 3 channels in the place of 128: nine sums of them would be dear to write and read.
    return x_gradient, lax.platform_dependent(x, kernel, gradient, cpu=by_sums, default=by_xla)


def _pair_sums(gradient: jax.Array, *, axis: int) -> list[jax.Array]:
    """For each of three taps a and all i, the sum of the entries 2i+1-a and 2i+2-a, zero beyond the ends."""
    size = gradient.shape[axis]
    padded = jnp.pad(gradient, [(1, 1) if each == axis else (0, 0) for each in range(gradient.ndim)])

    def every_other(start: int) -> jax.Array:
        return lax.slice_in_dim(padded, start, start + size - 1, 2, axis)

    return [every_other(2 - tap) + every_other(3 - tap) for tap in range(3)]


upsampled_conv3x3.defvjp(_upsampled_forward, _upsampled_backward)


def conv2d_of_concat(
    features: Sequence[jax.Array],
    upsampled: Sequence[bool],
    kernel: jax.Array,
    *,
    strides: int = 1,
    padding: Pair = (0, 0),
    dilation: int = 1,
) -> jax.Array:
    """Convolution of the concatenation of features, those `upsampled` after nearest x2, without making either."""
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
    parts = []
    for up, (inputs, kernels) in groups.items():
        x, weights = jnp.concatenate(inputs, axis=-1), jnp.concatenate(kernels, axis=2)
        if up:
            parts.append(upsampled_conv3x3(x, weights))
        else:
            parts.append(conv2d(x, weights, strides=strides, padding=padding, dilation=dilation))
    return functools.reduce(jnp.add, parts)
