"""The patch engine: compiled loops against plain ones, the field against an exact search, and what fills may read."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from benchmarks.patchmatch_reference import bare_field, exact_distances, noise, plain_distance, plain_sweep
from dpconv_jax.baselines import patchmatch
from dpconv_jax.errors import UsageError
from dpconv_jax.patches import crops, kernels
from dpconv_jax.patches.field import FALL, mirrored
from dpconv_jax.patches.kernels import PATCH


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
    rng = np.random.default_rng(levels)
    picture = rng.integers(levels, size=(29, 38, 3)).astype(np.float32) / (levels - 1)
    field = bare_field(blob(29, 38))
    field.look(mirrored(picture))
    texture = rng.integers(64, size=field.nearest.shape[:2], dtype=np.uint16)
    kernels.measure(field.pixels, texture, field.targets, field.source, field.found)
    plain = [field.pixels, texture, field.targets, field.nearest, field.source.copy(), field.found.copy()]
    for forward in (True, False, True):
        draws = rng.integers(2**32, size=(len(field.targets), 6), dtype=np.uint32)
        before = field.source.copy()
        kernels.sweep(*plain[:4], field.source, field.found, draws, forward)
        plain_sweep(*plain, draws, forward)
        np.testing.assert_array_equal(field.source, plain[4])
        np.testing.assert_array_equal(field.found, plain[5])
        assert np.any(field.source != before)
    for y, x in field.targets[::7].tolist():
        assert field.found[y, x] == plain_distance(field.pixels, texture, y, x, *field.source[y, x])


def test_what_is_compared_are_colours_slopes_and_the_guide():
    picture, guide = np.random.default_rng(0).random((2, 9, 11, 3), np.float32)
    pixels = np.zeros((9, 12, 8), np.uint8)
    kernels.describe(picture, guide, np.ones((9, 11), bool), pixels)
    grey = picture @ np.array([0.25, 0.5, 0.25])
    down, across = grey[3, 4] - grey[1, 4], grey[2, 5] - grey[2, 3]
    expected = np.array([*picture[2, 4], 0.5 + 0.87 * down, 0.5 + 0.87 * across, *guide[2, 4] / 2])
    assert np.abs(pixels[2, 4] - 255 * expected.clip(0, 1)).max() <= 0.51


def test_sources_are_valid_throughout_and_targets_are_the_rest():
    hole = blob(29, 38)
    field = bare_field(hole)
    field.look(mirrored(noise(29, 38)))
    rng = np.random.default_rng(0)
    field.scatter(rng)
    for _ in range(4):
        field.sweep(rng)
    windows = np.lib.stride_tricks.sliding_window_view(mirrored(hole), (PATCH, PATCH)).any(axis=(2, 3))
    np.testing.assert_array_equal(field.targets, np.argwhere(windows[:, : 38 - PATCH + 1]))
    found = field.source[tuple(field.targets.T)]
    assert not windows[tuple(found.T)].any()
    assert not np.any((found[:, 1] > 38 - PATCH) & (found[:, 1] < 38))  # half photo, half mirror image
    assert np.any(found[:, 1] >= 38)


def test_the_nearest_is_nearly_the_nearest():
    usable = np.random.default_rng(0).random((40, 60)) < 0.02
    places = np.empty((40, 60, 2), np.int32)
    kernels.nearest(usable, places)
    assert usable[tuple(np.moveaxis(places, 2, 0))].all()
    far = np.linalg.norm(places - np.moveaxis(np.indices(usable.shape), 0, -1), axis=2)
    exact = ndimage.distance_transform_edt(~usable)
    assert (far <= exact + 0.5).all() and (far == exact).mean() > 0.98


def test_votes_are_the_weighted_mean_of_the_shifted_patches_over_a_pixel():
    hole, picture = blob(29, 38), mirrored(noise(29, 38))
    field = bare_field(hole)
    field.look(picture)
    field.sweep(np.random.default_rng(0))
    depth = ndimage.distance_transform_edt(hole)
    variance = np.percentile([field.found[y, x] for y, x in field.targets], 80)
    votes, weights = np.zeros((29, 38, 3)), np.zeros((29, 38, 1))
    for y, x in field.targets:
        v, u = field.source[y, x]
        weight = FALL ** -depth[y + 3, x + 3] * np.exp(-field.found[y, x] / (2 * variance))
        source = picture[v : v + 7, u : u + 7]
        shift = (picture[y : y + 7, x : x + 7] - source).mean(axis=(0, 1)).clip(-0.15, 0.15)
        votes[y : y + 7, x : x + 7] += weight * (source + shift)
        weights[y : y + 7, x : x + 7] += weight
    voted = field.mean(picture)
    np.testing.assert_allclose(voted[:, :38][hole], (votes[hole] / weights[hole]).clip(0, 1), atol=2e-4)
    np.testing.assert_array_equal(voted[~mirrored(hole)], picture[~mirrored(hole)])
    best, origin = field.best(picture)
    np.testing.assert_array_equal(best[~hole], picture[:, :38][~hole])
    shifts = best[hole] - picture[tuple(origin[hole].T)]
    assert np.abs(shifts).max() <= 0.1501 and not mirrored(hole)[tuple(origin[hole].T)].any()


def test_smooth_cloth_is_no_source_where_texture_ought_to_be():
    """Between smooth and rough cloth of one colour the search prefers smooth to other rough cloth, without the cost."""
    picture = np.full((40, 60, 3), 0.5, np.float32)
    picture[:, 20:] += np.random.default_rng(0).uniform(-0.1, 0.1, (40, 40, 1)).astype(np.float32)
    hole = np.zeros((40, 60), bool)
    hole[10:30, 34:50] = True
    picture[hole] = 0.5
    texture = np.where(np.arange(60) < 20, 0, 0.1)[None].repeat(40, 0).astype(np.float32)

    def smooth_share(field) -> float:
        field.look(mirrored(picture))
        rng = np.random.default_rng(0)
        field.scatter(rng)
        field.look(mirrored(picture))
        for _ in range(8):
            field.sweep(rng)
        column = field.source[tuple(field.targets.T)][:, 1]
        return np.mean(np.minimum(column, 119 - 6 - column) < 14)

    assert smooth_share(bare_field(hole)) > 0.3 > 0.02 > smooth_share(bare_field(hole, texture=texture))


def test_the_field_comes_close_to_the_exact_search():
    field, rng = bare_field(blob(80, 72)), np.random.default_rng(0)
    field.look(mirrored(noise(80, 72)))
    exact = exact_distances(field).mean()
    at_first = field.found[tuple(field.targets.T)].mean()
    for _ in range(64):
        field.sweep(rng)
    found = field.found[tuple(field.targets.T)].mean()
    assert exact <= found < 1.1 * exact < 0.5 * at_first


def test_differences_are_settled_as_the_equations_say():
    """A hole with the differences of the truth and its colours as border becomes the truth."""
    truth = noise(24, 30)
    hole = np.zeros((24, 30), bool)
    hole[6:18, 5:20] = True
    places = np.argwhere(hole).astype(np.int32)
    origin = np.moveaxis(np.indices(hole.shape), 0, -1).astype(np.int32)
    steps, neighbours = np.zeros((len(places), 3), np.float32), np.zeros(len(places), np.float32)
    kernels.climb(truth, np.zeros_like(hole), places, origin, steps, neighbours)
    filled = np.where(hole[..., None], np.float32(0), truth)
    kernels.settle(filled, places, steps, neighbours, np.zeros_like(truth), np.float32(0), 300)
    np.testing.assert_allclose(filled, truth, atol=1e-4)


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
    hole, image = blob(61, 47), noise(61, 47)
    filled = patchmatch.inpaint(image, mask_of(hole))
    assert filled.dtype == np.float32
    np.testing.assert_array_equal(filled[~hole], image[~hole])
    for hidden in (np.nan, np.inf, 0.0, np.random.default_rng(9).random(image.shape)):
        again = patchmatch.inpaint(np.where(hole[..., None], hidden, image), mask_of(hole))
        np.testing.assert_array_equal(again, filled)
    assert np.any(patchmatch.inpaint(image, mask_of(hole), seed=1) != filled)


def test_crops_hold_every_hole_and_do_not_overlap():
    hole = np.zeros((1000, 1403), bool)
    hole[:3, :2] = hole[-1:, -1:] = hole[400:500, 600:700] = hole[520, 760] = True
    found = crops.crops(hole)
    count = np.zeros(hole.shape, int)
    for box in found:
        count[box] += 1
    assert len(found) == 3 and count.max() == 1 and count[hole].all()
    assert count[400 - 100, 600 - 100] and not count[400 - 120, 600 - 120]
    assert crops.crops(np.zeros((5, 5), bool)) == []


@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    ratio=st.sampled_from([0.0, 0.02, 0.5, 0.99]),
    grain=st.integers(1, 9),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_any_size_and_hole_is_filled(size, ratio, grain, seed):
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
        assert filled.min() >= 0 and filled.max() <= 1


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
