"""Contextual attention against NumPy loops over its four steps, and what each image of a batch may see."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from dpconv_jax.layers.contextual_attention import contextual_attention

CHANNELS = 3


def pixel(array: np.ndarray, row: int, column: int) -> np.ndarray:
    """Zero beyond the array."""
    known = 0 <= row < array.shape[0] and 0 <= column < array.shape[1]
    return array[row, column] if known else np.zeros_like(array[0, 0])


def naive(x: np.ndarray, hole: np.ndarray, scale: float) -> np.ndarray:
    """One image (2h, 2w, C) and its holes (h, w), one query and one patch at a time, float64."""
    x, small = x.astype(np.float64), x[::2, ::2].astype(np.float64)
    height, width = hole.shape
    around = [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1)]

    def patch(array, i, j):
        return np.stack([pixel(array, i + di, j + dj) for di, dj in around])

    positions = [*np.ndindex(height, width)]
    scores = {}
    for q in positions:
        for k in positions:
            key = patch(small, *k)
            scores[q, k] = (patch(small, *q) * key).sum() / max(np.linalg.norm(key), 1e-4)

    def fused(q, k):
        moved = [tuple((p[0] + di, p[1] + dj) for p in (q, k)) for di, dj in around]
        return sum(scores.get(pair, 0.0) for pair in moved)

    keys = [k for k in positions if not patch(hole, *k).any()]
    out = np.zeros_like(x)
    for q in positions if keys else []:
        logits = scale * np.array([fused(q, k) for k in keys])
        weights = np.exp(logits - logits.max())
        weights /= weights.sum()
        for (i, j), weight in zip(keys, weights, strict=True):
            for u, v in np.ndindex(4, 4):
                row, column = 2 * q[0] + u - 1, 2 * q[1] + v - 1
                if 0 <= row < x.shape[0] and 0 <= column < x.shape[1]:
                    out[row, column] += weight * pixel(x, 2 * i + u - 1, 2 * j + v - 1) / 4
    return out


@functools.cache
def example() -> tuple[np.ndarray, np.ndarray]:
    """Features (4, 12, 10, C), so small that the softmax mixes patches, and masks four times as large: a hole in a
    corner, two thin holes of which one is seen, no hole, and nothing but a hole."""
    rng = np.random.default_rng(0)
    x = 0.04 * rng.standard_normal((4, 12, 10, CHANNELS)).astype(np.float32)
    x[1, :4, :6] = 0  # patches of norm 0
    mask = np.ones((4, 48, 40, 1), np.float32)
    mask[0, :17, :9] = 0
    mask[1, 16] = 0  # on the grid of queries
    mask[1, :, 37] = 0  # beside it: invisible
    mask[3] = 0
    return x, mask


@pytest.fixture(scope="module")
def answers() -> np.ndarray:
    return np.asarray(jax.jit(contextual_attention)(*example()))


def test_it_is_that_of_numpy(answers):
    x, mask = example()
    holes = 1 - mask[:, ::8, ::8, 0]
    assert [hole.sum() for hole in holes] == [6, 5, 0, 30]
    expected = np.stack([naive(*pair, scale=10.0) for pair in zip(x, holes, strict=True)])
    assert answers.dtype == jnp.float32
    np.testing.assert_allclose(answers, expected, atol=1e-6)
    assert np.abs(answers[:3]).max(axis=(1, 2, 3)).min() > 0.02


def test_the_example_tells_other_attentions_apart(answers):
    x, mask = example()
    others = {
        "scale": jax.jit(functools.partial(contextual_attention, scale=9.0))(x, mask),
        "keys": jax.jit(contextual_attention)(x, np.ones_like(mask)),
    }
    for name, other in others.items():
        assert np.abs(other - answers)[:2].max(axis=(1, 2, 3)).min() > 1e-3, name


def test_an_image_of_holes_only_gets_zero(answers):
    assert np.all(answers[3] == 0)


def test_images_of_a_batch_do_not_see_each_other(answers):
    x, mask = example()
    alone = jax.jit(contextual_attention)
    for image in range(4):
        np.testing.assert_allclose(alone(x[image : image + 1], mask[image : image + 1])[0], answers[image], atol=1e-7)


@pytest.mark.parametrize("rows", [1, 4], ids=["whole blocks", "a rest"])
def test_blocks_give_the_values_and_gradients_of_one_block(rows):
    x, mask = example()
    weights = np.random.default_rng(1).standard_normal(x.shape).astype(np.float32)

    @jax.jit
    def both(x):
        forms = [functools.partial(contextual_attention, mask=mask, rows=count) for count in (rows, 6)]
        return [(y := jax.vjp(form, x))[0:1] + y[1](weights) for form in forms]

    for ours, whole in zip(*both(x), strict=True):
        np.testing.assert_allclose(ours, whole, atol=1e-5 * np.abs(whole).max())
        assert np.isfinite(whole).all()
        assert np.all(np.asarray(ours)[3] == 0)


def test_the_gradient_is_that_of_differences():
    x, mask = example()
    x = 10 * np.where(x[:2] == 0, 0.04, x[:2])  # away from the kink of the norm at 0
    attend = jax.jit(lambda x: contextual_attention(x, mask[:2], scale=2.0, rows=4))
    check_grads(attend, (x,), order=1, modes=["rev"], atol=2e-2, rtol=2e-2, eps=1e-2)


def test_all_scores_never_exist_at_once():
    """16 rows of queries with a margin of 2 on each side, (20, 68) of them, is the most that meets all 64 x 64 keys."""
    x, mask = (jax.ShapeDtypeStruct((1, 128, 128, c), jnp.float32) for c in (8, 1))
    jaxpr = str(jax.make_jaxpr(jax.grad(lambda x, mask: contextual_attention(x, mask).sum()))(x, mask))
    assert "[1,20,68,64,64]" in jaxpr
    assert not [shape for shape in ("[1,68,68,64,64]", "[1,64,64,64,64]", "[4,1,16,64,64,64]") if shape in jaxpr]


def test_what_is_not_inside_counts_for_nothing(answers):
    x, mask = example()
    inside = np.zeros((4, 64, 64, 1), np.float32)
    inside[:, :48, :40] = 1
    around = [np.pad(x, ((0, 0), (0, 4), (0, 6), (0, 0))), np.pad(mask, ((0, 0), (0, 16), (0, 24), (0, 0)))]
    for beyond in (0, 1):
        around[1] = np.where(inside > 0, around[1], beyond)
        wide = np.asarray(jax.jit(functools.partial(contextual_attention, rows=4))(*around, inside))
        np.testing.assert_allclose(wide[:, :12, :10], answers, atol=1e-6)
        assert not wide[:, 12:].any() and not wide[:, :, 10:].any()


def test_bfloat16_keeps_its_dtype_and_stays_near():
    x, mask = example()
    narrow = jax.jit(contextual_attention)(x.astype(jnp.bfloat16), mask)
    assert narrow.dtype == jnp.bfloat16
    wide = jax.jit(contextual_attention)(np.asarray(x.astype(jnp.bfloat16), np.float32), mask)
    np.testing.assert_allclose(np.asarray(narrow, np.float32), wide, atol=0.01 * np.abs(wide).max())
