"""What the network sees of a photo: windows, what is reduced into them, and what comes back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpconv_jax.inpainting import context

SIZE = 32


def boxes(*places: tuple[int, int, int, int], shape: tuple[int, int]) -> np.ndarray:
    """A hole of rectangles, (first row, first column, height, width)."""
    hole = np.zeros(shape, bool)
    for row, column, height, width in places:
        hole[row : row + height, column : column + width] = True
    return hole


def test_a_window_shows_as_much_around_a_hole_as_it_is_long():
    (window,) = context.windows(boxes((200, 300, 40, 60), shape=(600, 800)), size=SIZE)
    assert window.holes == (slice(200, 240), slice(300, 360))
    assert (window.rows, window.columns) == (slice(130, 310), slice(240, 420))  # 60 on both sides of 60


def test_a_small_hole_is_seen_at_the_scale_of_the_photo():
    hole = boxes((50, 700, 3, 4), shape=(600, 800))
    (window,) = context.windows(hole, size=SIZE)
    seen = context.see(np.zeros((*hole.shape, 3), np.uint8), hole, window, size=SIZE, stride=8)
    assert seen.scale == 1 and seen.mask.shape == (SIZE, SIZE, 1)
    assert (seen.mask == 0).sum() == 12 and seen.inside.all()


def test_holes_near_each_other_share_a_window_and_others_have_their_own():
    near = boxes((100, 100, 20, 20), (100, 135, 20, 20), shape=(400, 400))
    far = boxes((100, 100, 20, 20), (300, 330, 20, 20), shape=(400, 400))
    assert [window.holes for window in context.windows(near, size=SIZE)] == [(slice(100, 120), slice(100, 155))]
    assert len(context.windows(far, size=SIZE)) == 2


def test_a_window_at_the_border_stays_inside_the_photo():
    (window,) = context.windows(boxes((0, 380, 30, 20), shape=(200, 400)), size=SIZE)
    assert (window.rows, window.columns) == (slice(0, 90), slice(310, 400))


def test_no_hole_no_window():
    assert context.windows(np.zeros((50, 60), bool), size=SIZE) == []


@given(
    height=st.integers(1, 150),
    width=st.integers(1, 150),
    seed=st.integers(0, 99),
    holes=st.integers(1, 6),
)
def test_every_hole_is_in_the_holes_of_one_window(height, width, seed, holes):
    rng = np.random.default_rng(seed)
    hole = np.zeros((height, width), bool)
    for _ in range(holes):
        row, column = rng.integers(height), rng.integers(width)
        hole[row : row + rng.integers(1, 30), column : column + rng.integers(1, 30)] = True
    times = np.zeros(hole.shape, int)
    for window in context.windows(hole, size=SIZE):
        times[window.holes] += 1
        for inner, outer, side in zip(window.holes, (window.rows, window.columns), hole.shape, strict=True):
            assert 0 <= outer.start <= inner.start < inner.stop <= outer.stop <= side
    assert (times[hole] == 1).all() and times.max() == 1


def test_a_reduced_pixel_is_the_mean_of_the_valid_ones_in_it():
    rng = np.random.default_rng(0)
    image = rng.random((128, 64, 3)).astype(np.float32)
    hole = rng.random((128, 64)) < 0.6
    seen = context.see(np.where(hole[..., None], np.nan, image), hole, context.whole(hole.shape), size=SIZE, stride=8)
    assert seen.scale == 4 and seen.shape == (32, 16)
    for row in range(32):
        for column in range(16):
            place = slice(4 * row, 4 * row + 4), slice(4 * column, 4 * column + 4)
            valid = ~hole[place]
            assert seen.mask[row, column, 0] == (valid.mean() >= context.KNOWN)
            expected = image[place][valid].mean(axis=0) if valid.mean() >= context.KNOWN else 0
            np.testing.assert_allclose(seen.image[row, column], expected, atol=1e-5)
    assert not seen.inside[:, 16:].any() and not seen.image[:, 16:].any() and not seen.mask[:, 16:].any()
    assert seen.inside[:, :16].all()


def test_bytes_and_floats_are_seen_alike():
    rng = np.random.default_rng(0)
    image, hole = rng.integers(0, 256, (70, 50, 3), np.uint8), rng.random((70, 50)) < 0.3
    of = {"size": SIZE, "stride": 8}
    ours = context.see(image, hole, context.whole(hole.shape), **of)
    theirs = context.see(image / np.float32(255), hole, context.whole(hole.shape), **of)
    np.testing.assert_allclose(ours.image, theirs.image, atol=1e-6)


def test_sides_that_the_stride_does_not_divide_are_continued_by_reflection():
    image = np.random.default_rng(0).random((29, 13, 3)).astype(np.float32)
    seen = context.see(image, np.zeros((29, 13), bool), context.whole((29, 13)), size=SIZE, stride=8)
    np.testing.assert_array_equal(seen.image[29:32, :13], image[[27, 26, 25]])
    assert seen.inside[:32, :16].all() and not seen.inside[:, 16:].any()
    assert seen.enlarged(seen.image).shape == (29, 13, 3)
    np.testing.assert_array_equal(seen.enlarged(seen.image), image)


@pytest.mark.parametrize("valid", [0, 1])
def test_a_window_with_hardly_a_valid_pixel(valid):
    """One in 64 x 64: the reduced pixel that it lies in is valid, though less of it is than elsewhere is asked."""
    hole, image = np.ones((64, 64), bool), np.full((64, 64, 3), 200, np.uint8)
    hole[10, 20] = not valid
    seen = context.see(image, hole, context.whole(hole.shape), size=SIZE, stride=8)
    assert seen.mask.sum() == (valid or SIZE**2)
    if valid:
        np.testing.assert_allclose(seen.image[5, 10], 200 / 255, atol=1e-5)


def test_answers_come_in_order_in_two_shapes():
    shapes = []

    def generate(images, masks, insides):
        shapes.append(images.shape)
        return images + masks

    rng = np.random.default_rng(0)
    photos = [rng.random((40, 40, 3)).astype(np.float32) for _ in range(11)]
    seen = [
        context.see(photo, np.zeros((40, 40), bool), context.whole((40, 40)), size=SIZE, stride=8) for photo in photos
    ]
    for each, answer in zip(seen, context.answers(generate, seen), strict=True):
        np.testing.assert_array_equal(answer, each.image + 1)
    assert [*context.answers(generate, [])] == []
    assert shapes == [(8, SIZE, SIZE, 3), *[(1, SIZE, SIZE, 3)] * 3]
