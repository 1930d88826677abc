"""Clothing regions against areas known by hand; and that nothing shipped, however wild, breaks or floods them."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from dpconv_jax.data.builders import regions

SIZE = (512, 1024)  # so that a pixel of the region is 2 x 4 of the picture
WILD = st.floats(-1e12, 1e12)
quick = settings(max_examples=60)


def share(region: np.ndarray) -> float:
    assert region.shape == (256, 256) and region.dtype == bool
    return region.mean()


def test_polygons_are_united_and_cut_at_the_border():
    left = [(0, 0), (128, 0), (128, 1023), (0, 1023)]
    triangle = [(256, 0), (512, 0), (512, 1024)]
    beyond = [(400, -500), (900, -500), (900, 2000), (400, 2000)]
    assert share(regions.of_polygons([left], size=SIZE)) == pytest.approx(0.25, abs=0.01)
    assert share(regions.of_polygons([left, left, triangle], size=SIZE)) == pytest.approx(0.5, abs=0.01)
    assert share(regions.of_polygons([beyond], size=SIZE)) == pytest.approx(112 / 512, abs=0.01)


def test_what_has_no_area_is_no_region():
    for flat in ([], [[(5, 5)]], [[(5, 5), (300, 600)]], [[(5, 5), (300, 600), (5, 5)]], [[]]):
        assert not regions.of_polygons(flat, size=SIZE).any()
    assert not regions.of_key_points([], size=SIZE).any()
    assert not regions.of_box(10, 10, 10, 500, size=SIZE).any()


def test_key_points_span_a_dilated_hull():
    corners = [(128, 256), (384, 256), (384, 768), (128, 768), (256, 512)]  # the last lies inside
    hull = regions.of_key_points(corners, size=SIZE)
    reach = regions.REACH * 128 * 2**0.5  # half of the sides, in pixels of the region
    assert hull[64:192, 64:192].all()
    assert not hull[: int(63 - reach)].any() and not hull[:, int(194 + reach) :].any()
    assert share(hull) == pytest.approx((128 + 2 * reach) ** 2 / 256**2, rel=0.05)
    line = regions.of_key_points([(128, 512), (384, 512), (256, 512)], size=SIZE)
    assert line[128, 64:192].all() and 0 < share(line) < 0.1
    assert regions.of_key_points([(256, 512)], size=SIZE)[128, 128]


def test_the_garment_is_what_differs_from_a_plain_backdrop():
    rng = np.random.default_rng(0)
    ramp = np.linspace(225, 235, 200)[:, None, None] + rng.normal(0, 2, (200, 300, 3))  # shaded and noisy
    pixels = ramp.astype(np.uint8)
    pixels[40:200, 100:200] = (180, 40, 60)  # cut off below
    pixels[60:80, 140:160] = pixels[:20, :20]  # a hole in it is cloth, too
    pixels[10:20, 10:20] = (0, 0, 0)  # a small thing apart is none
    expected = np.zeros((200, 300), bool)
    expected[40:, 100:200] = True
    region = np.asarray(Image.fromarray(regions.off_backdrop(pixels)).resize((300, 200), Image.Resampling.NEAREST))
    assert np.count_nonzero(region ^ expected) < 0.02 * expected.sum()


def test_without_a_plain_backdrop_the_middle_is_taken():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    empty = np.full((256, 256, 3), 240, np.uint8)
    for pixels in (noise, empty):
        assert np.array_equal(regions.off_backdrop(pixels), regions.central())
    assert share(regions.central()) == pytest.approx(np.pi / 4 * 0.6 * 0.8, abs=0.01)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_region_turns_with_its_photo(orientation: int):
    """As Pillow turns the picture of the same EXIF orientation."""
    region = np.zeros((256, 256), bool)
    region[:100, :30] = True
    photo = Image.fromarray(np.where(region, 255, 0).astype(np.uint8))
    photo.getexif()[0x0112] = orientation
    upright = np.asarray(Image.open(io.BytesIO(regions.encoded(region, orientation=orientation))))
    assert np.array_equal(upright, np.asarray(ImageOps.exif_transpose(photo)) > 0)


@quick
@given(points=st.lists(st.tuples(WILD, WILD), max_size=8), sides=st.tuples(st.integers(1, 4000), st.integers(1, 4000)))
def test_any_finite_points_give_a_region(points: list[tuple[float, float]], sides: tuple[int, int]):
    for region in (regions.of_polygons([points], size=sides), regions.of_key_points(points, size=sides)):
        assert 0 <= share(region) <= 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_points_that_are_not_finite_are_refused(value: float):
    for call in (
        lambda points: regions.of_polygons([points], size=SIZE),
        lambda points: regions.of_key_points(points, size=SIZE),
    ):
        with pytest.raises(ValueError, match="not finite"):
            call([(0, 0), (5, value), (5, 5)])
