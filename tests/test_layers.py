"""Every fast form of a layer against the plain one: NumPy loops over Eq. (1)-(4), or XLA's own convolution."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jax import lax
from jax.test_util import check_grads

from dpconv_jax.layers.attention import SelfAttention, attend
from dpconv_jax.layers.conv import conv2d, upsample, upsampled_conv3x3
from dpconv_jax.layers.norm import instance_norm
from dpconv_jax.layers.partial_conv import Source, box_sum, partial_conv
from dpconv_jax.layers.pyramid_fill import LEVELS, pyramid_fill

BATCH = 3


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# ---- partial convolution ----


def naive_partial_conv(features, masks, kernel, bias, *, strides, padding, dilation, threshold):
    """Eq. (1)-(4) one window at a time, on sources of one size, masks of one channel; Z multiplies."""
    kh, kw, channels, out = kernel.shape
    batch, height, width, _ = features[0].shape
    rows = (height + 2 * padding[0] - dilation * (kh - 1) - 1) // strides + 1
    columns = (width + 2 * padding[1] - dilation * (kw - 1) - 1) // strides + 1
    values, updated = np.zeros((batch, rows, columns, out)), np.zeros((batch, rows, columns, 1))
    for b, i, j in np.ndindex(batch, rows, columns):
        total, count, positions = np.zeros(out), 0.0, 0.0
        for u, v in np.ndindex(kh, kw):
            y, x = i * strides - padding[0] + u * dilation, j * strides - padding[1] + v * dilation
            if not (0 <= y < height and 0 <= x < width):
                continue
            first = 0
            for f, m in zip(features, masks, strict=True):
                last = first + f.shape[-1]
                if m[b, y, x, 0]:
                    total += f[b, y, x].astype(np.float64) @ kernel[u, v, first:last]
                    count += f.shape[-1]
                    positions += 1
                first = last
        if positions > threshold:
            values[b, i, j] = total * (kh * kw * channels / count) + bias
            updated[b, i, j] = 1
    return values, updated


@st.composite
def layers(draw):
    """Kernel size, strides, padding, dilation, channels and upsampling of each source, size of the map."""
    size = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    strides, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    sources = draw(st.lists(st.tuples(st.integers(1, 3), st.booleans()), min_size=1, max_size=3))
    height, width = draw(st.tuples(st.sampled_from([4, 6, 8]), st.sampled_from([4, 6, 8])))
    short = max(dilation * (size[0] - 1) + 1 - height, dilation * (size[1] - 1) + 1 - width, 0)
    padding = draw(st.integers((short + 1) // 2, (short + 1) // 2 + 3))
    if size[0] % 2 and size[1] % 2 and draw(st.booleans()):
        padding = None
    return size, strides, padding, dilation, tuple(sources), (height, width)


@given(layer=layers(), seed=st.integers(0, 1000))
@example(layer=((3, 3), 1, None, 1, ((2, True), (1, False), (3, True)), (6, 8)), seed=0)  # the sub-pixel form
@example(layer=((3, 3), 1, None, 8, ((2, False),), (6, 4)), seed=1)  # outer taps see padding only
@settings(max_examples=10)
def test_partial_conv_is_equations_1_to_4(layer, seed):
    size, strides, padding, dilation, sources, shape = layer
    rng = np.random.default_rng(seed)
    small, large, masks = [], [], []
    for channels, up in sources:
        factor = 2 if up else 1
        sides = (BATCH, shape[0] // factor, shape[1] // factor)
        share = np.array([0.1, 0.5, 0.9]).reshape(BATCH, 1, 1, 1)
        mask = (rng.random((*sides, 1)) < share).astype(np.float32)
        features = rng.standard_normal((*sides, channels)).astype(np.float32)
        small.append((features, mask))
        large.append(features.repeat(factor, 1).repeat(factor, 2))
        masks.append(mask.repeat(factor, 1).repeat(factor, 2))
    kernel = rng.standard_normal((*size, sum(c for c, _ in sources), 2)).astype(np.float32)
    bias = rng.standard_normal(2).astype(np.float32)

    @jax.jit
    def layer(pairs, kernel, bias):
        operands = [Source(*pair, upsample=up) for pair, (_, up) in zip(pairs, sources, strict=True)]
        options = {"strides": strides, "padding": padding, "dilation": dilation}
        return [partial_conv(operands, kernel, bias, threshold=threshold, **options) for threshold in (0, 1)]

    pads = tuple(dilation * (k // 2) for k in size) if padding is None else (padding, padding)
    for threshold, (values, updated) in enumerate(layer(small, kernel, bias)):
        expected, mask = naive_partial_conv(
            large, masks, kernel, bias, strides=strides, padding=pads, dilation=dilation, threshold=threshold
        )
        np.testing.assert_array_equal(updated, mask)
        np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-4)


def test_a_full_mask_gives_the_plain_convolution_away_from_the_border():
    x, kernel, bias = normal(0, 2, 9, 11, 3), normal(1, 3, 3, 3, 4), normal(2, 4)

    @jax.jit
    def both(x, kernel, bias):
        partial = partial_conv([Source(x, jnp.ones((2, 9, 11, 1)))], kernel, bias, dilation=2)
        return *partial, conv2d(x, kernel, padding=(2, 2), dilation=2) + bias

    values, mask, plain = both(x, kernel, bias)
    np.testing.assert_allclose(values[:, 2:-2, 2:-2], plain[:, 2:-2, 2:-2], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(values[:, 0, 0], (plain[:, 0, 0] - bias) * 9 / 4 + bias, rtol=1e-4, atol=1e-5)
    assert mask.min() == 1


def test_an_empty_window_gives_zero_and_stays_a_hole():
    mask = np.zeros((1, 6, 6, 1), np.float32)
    mask[0, 0, 0] = 1
    layer = jax.jit(lambda x, mask, kernel: partial_conv([Source(x, mask)], kernel, jnp.ones(4)))
    values, updated = map(np.asarray, layer(normal(0, 1, 6, 6, 2), mask, normal(1, 3, 3, 2, 4)))
    reached = np.zeros((1, 6, 6, 1))
    reached[0, :2, :2] = 1
    np.testing.assert_array_equal(updated, reached)
    assert np.all(values[0, 2:] == 0)
    assert np.all(values[0, :, 2:] == 0)
    assert np.all(values[0, :2, :2] != 0)


@pytest.mark.parametrize(
    ("size", "strides", "dilation", "upsampled"),
    [(3, 1, 1, (True, False)), (5, 2, 1, (False,)), (3, 1, 2, (False, True))],
    ids=["sub-pixel", "strided", "dilated"],
)
def test_gradients_of_partial_conv(size, strides, dilation, upsampled):
    maps = [normal(i, 2, 3, 4, 2) if up else normal(i, 2, 6, 8, 2) for i, up in enumerate(upsampled)]
    masks = [(normal(7 + i, *x.shape[:3], 1) > 0).astype(np.float32) for i, x in enumerate(maps)]

    @jax.jit
    def layer(maps, kernel, bias, masks=masks):
        sources = [Source(x, mask, up) for x, mask, up in zip(maps, masks, upsampled, strict=True)]
        return partial_conv(sources, kernel, bias, strides=strides, dilation=dilation)[0]

    kernel, bias = normal(3, size, size, 2 * len(maps), 3), normal(4, 3)
    check_grads(layer, (maps, kernel, bias), order=1, modes=["rev"], atol=2e-2, rtol=2e-2, eps=1e-2)
    through_masks = jax.jit(jax.grad(lambda masks: jnp.square(layer(maps, kernel, bias, masks)).sum()))(masks)
    assert all(np.all(gradient == 0) for gradient in through_masks)


def test_bfloat16_stays_near_float32_and_counts_in_float32():
    x, kernel = normal(0, 2, 8, 8, 40), normal(1, 3, 3, 40, 4) / 19
    mask = (normal(2, 2, 8, 8, 1) > 0).astype(np.float32)

    @jax.jit
    def both(x, kernel):
        return [partial_conv([Source(x, mask)], kernel.astype(dtype)) for dtype in (jnp.float32, jnp.bfloat16)]

    (values, updated), (narrow, narrow_updated) = both(x, kernel)
    assert (values.dtype, narrow.dtype, narrow_updated.dtype) == (jnp.float32, jnp.bfloat16, jnp.float32)
    np.testing.assert_array_equal(narrow_updated, updated)
    np.testing.assert_allclose(np.asarray(narrow, np.float32), values, atol=0.02 * np.abs(values).max())
    count = jax.jit(lambda: box_sum(jnp.ones((1, 17, 17), jnp.bfloat16), (17, 17)))()
    assert count.dtype == jnp.float32
    assert count.item() == 289  # bfloat16 knows 288 and 290


# ---- convolution ----


@pytest.mark.parametrize("outputs", [2, 9])
def test_upsampled_conv3x3_is_a_convolution_of_the_upsampled_map(outputs: int):
    x, kernel, weights = normal(0, 2, 4, 5, 3), normal(1, 3, 3, 3, outputs), normal(2, 2, 8, 10, outputs)

    def plain(x, kernel):
        return conv2d(upsample(x), kernel, padding=(1, 1))

    @jax.jit
    def values_and_gradients(x, kernel, weights):
        return [(y := jax.vjp(form, x, kernel))[0:1] + y[1](weights) for form in (upsampled_conv3x3, plain)]

    np.testing.assert_array_equal(jax.jit(upsample)(x), x.repeat(2, 1).repeat(2, 2))
    for ours, theirs in zip(*values_and_gradients(x, kernel, weights), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    half = [each.astype(jnp.bfloat16) for each in (x, kernel, weights)]
    for ours, theirs in zip(values_and_gradients(*half)[0], values_and_gradients(x, kernel, weights)[1], strict=True):
        assert ours.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.asarray(ours, np.float32), theirs, atol=0.03 * np.abs(theirs).max())


@pytest.mark.parametrize(
    ("size", "strides", "padding", "dilation", "shape"),
    [
        ((1, 1), 1, (0, 0), 1, (6, 5)),
        ((2, 2), 1, (1, 1), 1, (7, 6)),
        ((3, 3), 1, (1, 1), 1, (6, 5)),
        ((3, 3), 1, (1, 2), 1, (72, 64)),
        ((3, 3), 1, (8, 8), 8, (6, 5)),
        ((3, 2), 1, (0, 3), 2, (7, 6)),
        ((3, 3), 1, (4, 4), 4, (64, 72)),
        ((5, 5), 1, (2, 2), 1, (7, 6)),
        ((3, 3), 2, (1, 1), 1, (9, 8)),
        ((7, 7), 2, (3, 3), 1, (10, 12)),
        ((5, 5), 2, (2, 2), 1, (72, 71)),
        ((4, 3), 3, (0, 2), 1, (11, 8)),
        ((3, 3), 2, (3, 3), 2, (9, 8)),
    ],
)
def test_the_gradients_of_conv2d_are_those_of_xla(size, strides, padding, dilation, shape):
    x, kernel = normal(0, 2, *shape, 3), normal(1, *size, 3, 4)

    def ours(x, kernel):
        return conv2d(x, kernel, strides=strides, padding=padding, dilation=dilation)

    def theirs(x, kernel):
        return lax.conv_general_dilated(
            x,
            kernel,
            (strides, strides),
            [(p, p) for p in padding],
            rhs_dilation=(dilation, dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    weights = normal(2, *jax.eval_shape(theirs, x, kernel).shape)

    @jax.jit
    def values_and_gradients(x, kernel):
        return [(y := jax.vjp(form, x, kernel))[0:1] + y[1](weights) for form in (ours, theirs)]

    for ours_, theirs_ in zip(*values_and_gradients(x, kernel), strict=True):
        np.testing.assert_allclose(ours_, theirs_, rtol=1e-3, atol=1e-5 * np.abs(theirs_).max())


# ---- attention ----


def plain_attention(query, key, value, valid):
    """softmax(query . key) over the valid keys, times value; 0 for an image without one."""
    logits = jnp.where(valid[:, None] > 0, jnp.einsum("bqc,bkc->bqk", query, key), -jnp.inf)
    some = (valid.max(axis=1) > 0)[:, None, None]
    return jnp.einsum("bqk,bkc->bqc", jnp.where(some, jax.nn.softmax(jnp.where(some, logits, 0)), 0), value)


@pytest.mark.parametrize(
    ("positions", "block"),
    [(3, 4), (12, 4), (10, 4), (10, None), (1100, None)],
    ids=["one block", "whole blocks", "a rest", "at once", "blocks of this device"],
)
def test_blocked_attention_is_plain_attention(positions, block):
    query, key, value = normal(0, 3, positions, 4), normal(1, 3, positions, 4), normal(2, 3, positions, 5)
    valid = np.stack([np.ones(positions), np.arange(positions) % 3 == 0, np.zeros(positions)]).astype(np.float32)
    weights = normal(3, *value.shape)
    blocked = functools.partial(attend, block=block)

    @jax.jit
    def values_and_gradients(*operands):
        forms = [lambda *operands, form=form: form(*operands, valid) for form in (blocked, plain_attention)]
        return [(y := jax.vjp(form, *operands))[0:1] + y[1](weights) for form in forms]

    for ours, theirs in zip(*values_and_gradients(query, key, value), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
        assert np.all(np.asarray(ours)[2] == 0)  # the image without a valid key


def test_attention_excludes_what_is_not_valid_and_only_that():
    query, key, value = normal(0, 1, 6, 2), normal(1, 1, 6, 2), normal(2, 1, 6, 3)
    valid = np.array([[1, 1, 0, 1, 1, 1]], np.float32)
    other = 50 * (1 - valid[..., None])

    @jax.jit
    def answers(query, key, value):
        masked = attend(query, key, value, valid), attend(query, key + other, value + other, valid)
        return *masked, attend(query, key, value), attend(query, key, value + other)

    masked, masked_other, every, every_other = answers(query, key, value)
    np.testing.assert_array_equal(masked, masked_other)
    assert np.abs(every - every_other).max() > 1


def test_self_attention_starts_as_the_identity():
    x = normal(0, 2, 3, 4, 16)
    np.testing.assert_array_equal(
        jax.jit(lambda x: SelfAttention(16, rngs=nnx.Rngs(0))(x, jnp.ones((2, 3, 4, 1))))(x), x
    )


# ---- norm ----


def test_instance_norm():
    x = 3 * normal(0, 2, 5, 4, 3) + 100
    x[0, ..., 1] = 0.01 * normal(1, 5, 4)  # faint, where epsilon shows
    x[1, ..., 2] = 7
    wide = x.astype(np.float64)
    mean, variance = wide.mean(axis=(1, 2), keepdims=True), wide.var(axis=(1, 2), keepdims=True)
    normed, narrow = jax.jit(lambda x: (instance_norm(x), instance_norm(x.astype(jnp.bfloat16))))(x)
    np.testing.assert_allclose(normed, (wide - mean) / np.sqrt(variance + 1e-5), atol=1e-4)
    assert np.all(np.asarray(normed)[1, ..., 2] == 0)
    assert (normed.dtype, narrow.dtype) == (jnp.float32, jnp.bfloat16)


# ---- the fill that `prefilled` starts from ----


def naive_fill(x, mask, levels=LEVELS):
    """One image x (H, W, C) with mask (H, W), recursively, a pixel at a time; float64."""
    height, width, _ = x.shape
    if levels == 0:
        seen = mask > 0
        mean = x[seen].mean(axis=0) if seen.any() else np.zeros(x.shape[-1])
        return np.where(seen[..., None], x, mean)
    rows, columns = -(-height // 2), -(-width // 2)
    above, valid = np.zeros((rows, columns, x.shape[-1])), np.zeros((rows, columns))
    for i, j in np.ndindex(rows, columns):
        four = np.s_[2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        if mask[four].any():
            above[i, j], valid[i, j] = x[four][mask[four] > 0].mean(axis=0), 1
    above = naive_fill(above, valid, levels - 1)
    filled = x.astype(np.float64)
    for i, j in np.argwhere(mask == 0):
        y, x_ = (i - 0.5) / 2, (j - 0.5) / 2  # between the centres of the cells above
        total = 0.0
        for row, column in np.ndindex(2, 2):
            row, column = int(np.floor(y)) + row, int(np.floor(x_)) + column
            weight = (1 - abs(y - row)) * (1 - abs(x_ - column))
            total = total + weight * above[np.clip(row, 0, rows - 1), np.clip(column, 0, columns - 1)]
        filled[i, j] = total
    return filled


def some_holes(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Images of noise, NaN in the holes, and masks: much valid, three pixels valid, none valid."""
    mask = (np.random.default_rng(0).random((3, *shape, 1)) < 0.6).astype(np.float32)
    mask[0, 3:11, 2:13], mask[1:] = 0, 0
    mask[1, 0, 5] = mask[1, 1, 5] = mask[1, -1, 0] = 1
    return np.where(mask > 0, normal(1, 3, *shape, 3), np.nan), mask


@pytest.mark.parametrize("shape", [(16, 16), (13, 22)])
def test_pyramid_fill_is_the_recursive_one(shape):
    x, mask = some_holes(shape)
    filled = jax.jit(pyramid_fill)(x, mask)
    expected = [naive_fill(np.nan_to_num(image), valid[..., 0]) for image, valid in zip(x, mask, strict=True)]
    np.testing.assert_allclose(filled, expected, atol=1e-6)
    np.testing.assert_array_equal(filled[0][mask[0, ..., 0] > 0], x[0][mask[0, ..., 0] > 0])
    assert not np.asarray(filled[2]).any() and filled.dtype == jnp.float32


def test_pyramid_fill_of_an_image_in_a_larger_array():
    x, mask = some_holes((24, 40))
    beyond = [(0, 0), (0, 8), (0, 24), (0, 0)]
    inside = np.pad(np.ones_like(mask), beyond)
    wide = np.pad(x, beyond, constant_values=np.nan)
    filled = jax.jit(pyramid_fill)(wide, np.pad(mask, beyond), inside)
    np.testing.assert_allclose(filled[:, :24, :40], jax.jit(pyramid_fill)(x, mask), atol=1e-6)
