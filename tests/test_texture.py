"""Fills led by a guide: what they read, what they keep of the guide, and what becomes of strange holes."""

import numpy as np
import pytest
from scipy import ndimage

from dpconv_jax.errors import UsageError
from dpconv_jax.inpainting import texture
from dpconv_jax.patches import crops, kernels

HOLES = {
    "middle": np.s_[30:60, 40:75],
    "top": np.s_[:25, 20:60],
    "left": np.s_[20:70, :20],
    "bottom right": np.s_[70:, 90:],
    "frame": np.s_[[*range(12), *range(84, 96)], :],
}


def knit(height: int = 96, width: int = 112) -> np.ndarray:
    """A cloth of ribs that vary, float32 (H, W, 3) in [0, 1]."""
    y, x = np.mgrid[:height, :width]
    ribs = 0.12 * np.sin(2 * np.pi * x / 8) + 0.06 * np.sin(2 * np.pi * (y + x % 8) / 6)
    grain = np.random.default_rng(0).normal(0, 0.02, (height, width))
    return np.clip(np.array([0.5, 0.4, 0.3]) + (ribs + grain)[..., None], 0, 1).astype(np.float32)


def mask_with(*holes, size: tuple[int, int] = (96, 112)) -> np.ndarray:
    mask = np.ones((*size, 1), np.float32)
    for hole in holes:
        mask[hole] = 0
    return mask


def blurred(image: np.ndarray) -> np.ndarray:
    return ndimage.gaussian_filter(image, (6, 6, 0))


@pytest.mark.parametrize("where", HOLES)
def test_a_knit_goes_on_where_the_guide_is_smooth(where):
    image, mask = knit(), mask_with(HOLES[where])
    filled, smooth, _ = texture.fill(image, mask, blurred(image))
    hole = mask[..., 0] == 0
    np.testing.assert_array_equal(filled[~hole], image[~hole])
    assert filled.dtype == np.float32 and not smooth.any()
    found, true, led = (each[hole].std(axis=0).mean() for each in (filled, image, blurred(image)))
    assert found > 0.8 * true > 4 * led
    assert np.abs(filled - image)[hole].mean() < 0.85 * np.abs(blurred(image) - image)[hole].mean()


def test_a_large_crop_is_filled_part_by_part(monkeypatch):
    """Each pixel of the hole is filled once, by a search over no more than a part and what is around it."""
    monkeypatch.setattr(crops, "TILE", 32)
    monkeypatch.setattr(crops, "FARTHEST", 16)
    image = knit(130, 150)
    mask = mask_with(np.s_[20:110, 30:60], np.s_[60:90, 30:130], size=(130, 150))
    searched, search = [], texture._fill
    monkeypatch.setattr(
        texture, "_fill", lambda led, hole, *options: searched.append(hole.shape) or search(led, hole, *options)
    )
    filled, smooth, _ = texture.fill(image, mask, blurred(image))
    hole = mask[..., 0] == 0
    np.testing.assert_array_equal(filled[~hole], image[~hole])
    assert len(searched) > 4 and np.max(searched) <= 32 + 2 * 16 and not smooth.any()
    assert filled[hole].std(axis=0).mean() > 0.8 * image[hole].std(axis=0).mean()


def test_the_parts_of_a_crop_are_all_of_it():
    crop = (slice(8, 3000), slice(16, 1700))
    times = np.zeros((3100, 1800), int)
    for part, around in crops.tiles(crop):
        times[part] += 1
        for inner, outer, side in zip(part, around, crop, strict=True):
            assert side.start <= outer.start <= inner.start < inner.stop <= outer.stop <= side.stop
            assert inner.stop - inner.start <= crops.TILE + 2 * crops.FARTHEST
    assert (times[crop] == 1).all() and times.sum() == times[crop].size


def test_neither_the_hole_nor_the_guide_outside_it_is_read_and_the_seed_decides():
    image, mask = knit(), mask_with(HOLES["middle"], HOLES["bottom right"])
    guide = blurred(image)
    expected = texture.fill(image, mask, guide).image
    for hidden in (np.nan, 0.0, np.random.default_rng(9).random(image.shape)):
        again = texture.fill(np.where(mask > 0, image, hidden), mask, np.where(mask > 0, hidden, guide)).image
        np.testing.assert_array_equal(again, expected)
    assert np.any(texture.fill(image, mask, guide, seed=1).image != expected)


def test_without_trust_the_guide_is_not_read_and_the_score_prefers_what_goes_on():
    image, mask = knit(), mask_with(HOLES["middle"])
    alone = texture.fill(image, mask, blurred(image), trust=0.0).image
    np.testing.assert_array_equal(texture.fill(image, mask, 1 - blurred(image), trust=0.0).image, alone)
    scores = [texture.fill(image, mask, guide, judged=True).score for guide in (blurred(image), 1 - blurred(image))]
    assert scores[0] < scores[1]
    assert np.isnan(texture.fill(image, mask, blurred(image)).score)


def test_a_cast_of_the_guide_is_taken_away():
    image, mask = knit(), mask_with(HOLES["middle"])
    hole = mask[..., 0] == 0
    cast = np.array([-0.1, 0.0, 0.15], np.float32)
    filled = texture.fill(image, mask, (blurred(image) + cast).clip(0, 1)).image
    assert np.abs(filled[hole].mean(axis=0) - image[hole].mean(axis=0)).max() < 0.02


def test_the_guide_says_where_an_edge_runs():
    """Two plain cloths meet along a line with a step, and where in the hole that is cannot be seen outside it."""
    grain, mask = np.random.default_rng(0).normal(0, 0.02, (96, 112, 1)), mask_with(np.s_[30:66, 40:72])

    def photo(step: int) -> np.ndarray:
        image = np.full((96, 112, 3), 0.2, np.float32)
        image[42:, :step] = image[56:] = 0.5
        return (image + grain).astype(np.float32)

    early, late = photo(46), photo(66)
    for true, other in ((early, late), (late, early)):
        filled = texture.fill(true, mask, ndimage.gaussian_filter(true, (2, 2, 0))).image
        errors = [np.abs(filled - each)[43:55, 46:66].mean() for each in (true, other)]
        assert errors[0] < 0.5 * errors[1]


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 7), (12, 40)])
def test_too_few_patches_leave_the_guide_and_say_so(size):
    rng = np.random.default_rng(0)
    image, guide = rng.random((2, *size, 3), np.float32)
    mask = np.ones((*size, 1))
    mask[0, 0] = 0
    if size != (1, 1):
        mask[:, : size[1] // 2] = 0
    filled, smooth, _ = texture.fill(image, mask, guide)
    np.testing.assert_array_equal(smooth, mask[..., 0] == 0)
    assert np.isfinite(filled).all() and filled.min() >= 0 and filled.max() <= 1
    np.testing.assert_array_equal(filled[mask[..., 0] == 1], image[mask[..., 0] == 1])


def test_a_hole_of_the_whole_photo_is_the_guide():
    guide = knit()
    filled, smooth, _ = texture.fill(np.full_like(guide, np.nan), mask_with(np.s_[:]), guide)
    np.testing.assert_array_equal(filled, guide)
    assert smooth.all()


def test_one_valid_pixel_gives_the_guide_its_colour():
    image, guide = np.full((40, 40, 3), 0.3, np.float32), np.full((40, 40, 3), 0.6, np.float32)
    mask = np.zeros((40, 40, 1))
    mask[20, 20] = 1
    filled, smooth, _ = texture.fill(image, mask, guide)
    np.testing.assert_allclose(filled, 0.3, atol=1e-6)
    assert np.count_nonzero(smooth) == 40 * 40 - 1


def test_a_plain_photo_stays_plain():
    image = np.full((90, 70, 3), (0.2, 0.5, 0.9), np.float32)
    filled = texture.fill(image, mask_with(np.s_[20:60, 20:50], size=(90, 70)), image * 0.8).image
    np.testing.assert_allclose(filled, image, atol=2 / 255)


def test_a_hole_is_filled_alike_whatever_else_is_missing_far_away():
    image = knit(96, 900)
    one, two = np.s_[30:60, 40:75], np.s_[30:60, 800:830]
    first = texture.fill(image, mask_with(one, size=(96, 900)), blurred(image)).image
    both = texture.fill(image, mask_with(one, two, size=(96, 900)), blurred(image)).image
    np.testing.assert_array_equal(both[one], first[one])
    assert np.any(both[two] != image[two])


def test_other_shapes_are_refused():
    image, mask = knit(), mask_with(HOLES["middle"])
    for wrong in ((image[..., :1], mask, image), (image, mask[..., 0], image), (image, mask, image[1:])):
        with pytest.raises(UsageError, match="they must be"):
            texture.fill(*wrong)


def test_where_nothing_can_be_kept_every_process_compiles(monkeypatch):
    def refuse(*, nogil: bool, cache: bool = False):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: ("compiled", nogil, function)

    monkeypatch.setattr(kernels.numba, "njit", refuse)
    assert kernels.compiled(max) == ("compiled", True, max)
