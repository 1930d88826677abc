"""PatchMatch: the compiled sweep against plain loops, the field against an exact search, and what fills may read."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from benchmarks.patchmatch_reference import exact_distances, plain_sweep, texture
from dpconv_jax.baselines import patchmatch
from dpconv_jax.baselines.patchmatch import PATCH, Field
from dpconv_jax.errors import UsageError


def cloth(height: int, width: int, *, period: int) -> np.ndarray:
    """A checked pattern (H, W, 3)."""
    y, x = np.mgrid[:height, :width] * (2 * np.pi / period)
    return 0.5 + 0.2 * np.stack([np.sin(x) + np.sin(y), np.sin(x) * np.sin(y), np.cos(x + y)], axis=-1)


def blob(height: int, width: int) -> np.ndarray:
    """A hole (H, W) of a fifth of the image: an ellipse, and a stroke to the right edge."""
    y, x = np.mgrid[:height, :width]
    hole = ((y / height - 0.45) / 0.25) ** 2 + ((x / width - 0.4) / 0.2) ** 2 < 1
    hole[height // 2 : height // 2 + 4, width // 2 :] = True
    return hole


def mask_of(hole: np.ndarray) -> np.ndarray:
    return np.logical_not(hole)[..., None].astype(np.float32)


@pytest.mark.parametrize("levels", [4, 256])
def test_a_sweep_is_the_plain_loop(levels):
    height, width = 29, 38
    rng = np.random.default_rng(levels)
    picture = rng.integers(levels, size=(height, width, 3)).astype(np.float32) / (levels - 1)
    field = Field(blob(height, width))
    field.look(picture)
    plain = [field.pixels[:, :width].copy(), field.targets, field.nearest, field.source.copy(), field.distance.copy()]
    for forward in (True, False, True):
        draws = rng.integers(2**32, size=(len(field.targets), 6), dtype=np.uint32)
        before = field.source.copy()
        patchmatch.sweep(field.pixels, field.targets, field.nearest, field.source, field.distance, draws, forward)
        plain_sweep(*plain, draws, forward)
        np.testing.assert_array_equal(field.source, plain[3])
        np.testing.assert_array_equal(field.distance, plain[4])
        assert np.any(field.source != before)
    y, x = field.targets[7]
    v, u = field.source[y, x]
    ours, found = (plain[0][a : a + PATCH, b : b + PATCH].astype(int) for a, b in ((y, x), (v, u)))
    assert field.distance[y, x] == np.sum((ours - found) ** 2)


def test_sources_are_valid_throughout_and_targets_are_the_rest():
    hole = blob(29, 38)
    field = Field(hole)
    field.look(texture(29, 38))
    rng = np.random.default_rng(0)
    for _ in range(4):
        field.sweep(rng)
    touches = np.lib.stride_tricks.sliding_window_view(hole, (PATCH, PATCH)).any(axis=(2, 3))
    np.testing.assert_array_equal(field.targets, np.argwhere(touches))
    assert not touches[field.source[..., 0], field.source[..., 1]].any()


def test_votes_are_the_weighted_mean_of_the_patches_over_a_pixel():
    hole, picture = blob(29, 38), texture(29, 38)
    field = Field(hole)
    field.look(picture)
    field.sweep(np.random.default_rng(0))
    depth = ndimage.distance_transform_edt(hole)
    variance = np.percentile([field.distance[y, x] for y, x in field.targets], 75)
    votes, weights = np.zeros((29, 38, 3)), np.zeros((29, 38, 1))
    for y, x in field.targets:
        v, u = field.source[y, x]
        weight = 1.6 ** -depth[y + 3, x + 3] * np.exp(-field.distance[y, x] / (2 * variance))
        votes[y : y + 7, x : x + 7] += weight * picture[v : v + 7, u : u + 7]
        weights[y : y + 7, x : x + 7] += weight
    voted = field.vote(picture, alike=75)
    np.testing.assert_allclose(voted[hole], votes[hole] / weights[hole], rtol=1e-5)
    np.testing.assert_array_equal(voted[~hole], picture[~hole])


def test_the_field_comes_close_to_the_exact_search():
    hole, picture = blob(80, 72), texture(80, 72)
    exact, rng = exact_distances(picture, hole).mean(), np.random.default_rng(0)
    field = Field(hole)
    field.look(picture)
    at_first = field.distance[tuple(field.targets.T)].mean()
    for _ in range(64):
        field.sweep(rng)
    found = field.distance[tuple(field.targets.T)].mean()
    assert exact <= found < 1.1 * exact < 0.5 * at_first


@pytest.mark.parametrize("period", [5, 8, 12])
def test_a_periodic_pattern_is_restored(period):
    hole, image = blob(96, 80), cloth(96, 80, period=period)
    filled = patchmatch.inpaint(image, mask_of(hole))
    assert np.abs(filled - image)[hole].mean() < 0.05


def test_an_edge_goes_on_sharply():
    image = np.zeros((64, 64, 3), np.float32)
    image[:, 32:] = (0.9, 0.6, 0.3)
    hole = np.zeros((64, 64), bool)
    hole[20:44, 22:42] = True
    filled = patchmatch.inpaint(image, mask_of(hole))
    assert np.abs(filled - image)[hole].mean() < 0.02


def test_a_texture_goes_on():
    """Dots at about every ninth pixel: an interpolation has a fifth of their contrast."""
    rng, dots = np.random.default_rng(0), np.zeros((96, 80), np.float32)
    y, x = np.mgrid[4:92:9, 4:76:9]
    dots[y + rng.integers(-1, 2, y.shape), x + rng.integers(-1, 2, x.shape)] = 0.6
    image = 0.2 + np.repeat(ndimage.maximum_filter(dots, 3)[..., None], 3, axis=2)
    hole = blob(96, 80)
    assert patchmatch.inpaint(image, mask_of(hole))[hole].std() > 0.7 * image[~hole].std()


def test_the_hole_is_not_read_and_the_seed_decides():
    hole, image = blob(61, 47), texture(61, 47)
    filled = patchmatch.inpaint(image, mask_of(hole))
    assert filled.dtype == np.float32
    np.testing.assert_array_equal(filled[~hole], image[~hole])
    for hidden in (np.nan, np.inf, 0.0, np.random.default_rng(9).random(image.shape)):
        again = patchmatch.inpaint(np.where(hole[..., None], hidden, image), mask_of(hole))
        np.testing.assert_array_equal(again, filled)
    assert np.any(patchmatch.inpaint(image, mask_of(hole), seed=1) != filled)


@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    ratio=st.sampled_from([0.0, 0.02, 0.5, 0.99]),
    grain=st.integers(1, 9),
    seed=st.integers(0, 99),
)
@settings(max_examples=40)
def test_any_size_and_hole_is_filled_with_colours_of_the_image(size, ratio, grain, seed):
    rng = np.random.default_rng(seed)
    coarse = rng.random([-(-side // grain) for side in size]) < ratio
    hole = np.kron(coarse, np.ones((grain, grain), bool))[: size[0], : size[1]]
    image = rng.random((*size, 3), np.float32)
    filled = patchmatch.inpaint(np.where(hole[..., None], np.nan, image), mask_of(hole))
    assert filled.shape == image.shape and filled.dtype == np.float32
    np.testing.assert_array_equal(filled[~hole], image[~hole])
    if hole.all():
        np.testing.assert_array_equal(filled, 0.5)
    else:
        assert np.all(filled >= image[~hole].min(axis=0) - 1e-6)
        assert np.all(filled <= image[~hole].max(axis=0) + 1e-6)


def test_one_valid_pixel_colours_all():
    hole = np.ones((30, 21), bool)
    hole[11, 7] = False
    image = np.random.default_rng(0).random((30, 21, 3), np.float32)
    filled = patchmatch.inpaint(image, mask_of(hole))
    np.testing.assert_allclose(filled, np.broadcast_to(image[11, 7], image.shape), atol=1e-6)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ((8, 8), (8, 8, 1)),
        ((8, 8, 4), (8, 8, 1)),
        ((8, 8, 3), (8, 8)),
        ((8, 8, 3), (8, 9, 1)),
        ((1, 8, 8, 3), (8, 8, 1)),
    ],
)
def test_other_shapes_are_refused(image, mask):
    with pytest.raises(UsageError, match=r"they must be \(H, W, 3\) and \(H, W, 1\)"):
        patchmatch.inpaint(np.zeros(image, np.float32), np.zeros(mask, np.float32))
