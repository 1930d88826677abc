"""How a photo of any size passes through the network: what it sees, and how that is joined."""

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from dpconv_jax import windows
from dpconv_jax.windows import Canvas, Sight

SIGHT = Sight(size=64, limit=128, stride=8)


def photo(height: int, width: int) -> np.ndarray:
    """uint8: smooth, so that its reductions are nearly itself."""
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / 40 + c) + np.cos(columns / (50 + 9 * c)) for c in range(3)]
    return np.rint(127.5 + 60 * np.stack(waves, axis=2)).astype(np.uint8)


def strokes(height: int, width: int, *, thickness: int, number: int = 4) -> np.ndarray:
    """Bands in both directions that cross each other."""
    hole = np.zeros((height, width), bool)
    for side, band in ((height, hole), (width, hole.T)):
        for start in np.linspace(thickness, side - 2 * thickness, number).astype(int):
            band[start : start + thickness] = True
    return hole


def filled(image, hole, generate, *, wanted=None, sight=SIGHT) -> np.ndarray:
    canvas = Canvas(image, hole, hole if wanted is None else wanted, sight=sight)
    windows.run(generate, [canvas])
    return canvas.fill()


class Recorder:
    """A network that keeps what it sees and paints one grey."""

    def __init__(self):
        self.seen: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def __call__(self, images, masks, insides):
        self.seen.append((images, masks, insides))
        return np.full_like(images, 0.5)


# ---- place ----


@settings(max_examples=200)
@given(
    side=st.integers(1, 3000),
    limit=st.sampled_from([64, 96, 128, 512]),
    size=st.sampled_from([16, 64, 128, 256]),
    seed=st.integers(0, 9),
    share=st.sampled_from([0.001, 0.3]),
)
@example(side=205, limit=128, size=16, seed=5, share=0.001)  # as long as a window, from an odd pixel to the last one
def test_windows_of_a_line_cover_what_is_to_fill(side, limit, size, seed, share):
    target = np.random.default_rng(seed).random(side) < share
    target[seed * side // 10] = True
    line = windows._Line.over(target, sight=Sight(size=min(size, limit), limit=limit, stride=8))
    assert line.length <= limit and (line.length % windows.STEP == 0 or line.length == limit)
    fades = np.zeros(side)
    for start, (place, fade) in zip(line.starts, line.spans(), strict=True):
        assert start % 2 == 0 and place.start == start and place.stop == min(side, start + line.length)
        assert start == 0 or place.stop - start >= line.length - 1, "a window moves rather than leave the photo"
        fades[place] += fade
    np.testing.assert_allclose(fades[target], 1, atol=1e-6)


def test_what_needs_no_window_gets_none():
    hole = np.zeros((1000, 1000), bool)
    hole[10:14, 10:14] = hole[980:984, 980:984] = True
    canvas = Canvas(photo(1000, 1000), hole, hole, sight=SIGHT)
    assert len(canvas.levels[0].windows) == 2
    assert not Canvas(photo(9, 9), hole[:9, :9], hole[:9, :9], sight=SIGHT).levels[0].windows


# ---- shape ----


def test_a_window_is_continued_by_reflection_and_what_is_beyond_is_not_inside():
    image, hole = photo(45, 70), np.zeros((45, 70), bool)
    hole[40:, 30:60] = True
    recorder = Recorder()
    filled(image, hole, recorder)
    ((seen, mask, inside),) = recorder.seen
    assert seen.shape == (1, 64, 128, 3) and mask.shape == inside.shape == (1, 64, 128, 1)
    expected = np.pad(image, ((0, 3), (0, 2), (0, 0)), mode="reflect") / np.float32(255)
    np.testing.assert_array_equal(seen[0, :48, :72], expected)
    np.testing.assert_array_equal(mask[0, :48, :72, 0], ~np.pad(hole, ((0, 3), (0, 2)), mode="reflect"))
    assert inside[0, :48, :72].all() and not inside[0, 48:].any() and not inside[0, :, 72:].any()
    assert not seen[0, 48:].any() and not mask[0, :, 72:].any()


def test_a_window_is_a_multiple_of_a_long_stride():
    image, hole = photo(150, 300), np.zeros((150, 300), bool)
    hole[40:50, 30:60] = True
    recorder = Recorder()
    filled(image, hole, recorder, sight=Sight(size=256, limit=256, stride=128))
    assert {seen.shape[1:3] for seen, _, _ in recorder.seen} == {(256, 256)}


def test_few_shapes_serve_photos_of_all_sizes():
    recorder = Recorder()
    rng = np.random.default_rng(0)
    canvases = []
    for height, width in rng.integers(90, 140, (40, 2)):
        hole = strokes(height, width, thickness=6)
        canvases.append(Canvas(photo(height, width), hole, hole, sight=SIGHT))
    windows.run(recorder, canvases)
    shapes = {images.shape for images, _, _ in recorder.seen}
    assert {shape[1] % windows.STEP for shape in shapes} == {0}
    assert len({shape[1:] for shape in shapes}) <= 4 and len(shapes) <= 2 * 4
    assert all(np.prod(shape[:3]) <= windows.PIXELS for shape in shapes)
    assert sum(len(images) for images, _, _ in recorder.seen) == sum(
        len(level.windows) for canvas in canvases for level in canvas.levels
    )


# ---- scale ----


@pytest.mark.parametrize(
    ("height", "width", "scales"), [(64, 64, 1), (90, 900, 1), (92, 92, 2), (1000, 700, 4), (5, 5, 1)]
)
def test_the_smallest_scale_is_about_as_large_as_the_photos_of_the_training(height, width, scales):
    hole = np.zeros((height, width), bool)
    hole[: height // 2, : height // 2] = True
    canvas = Canvas(photo(height, width), hole, hole, sight=SIGHT)
    assert [bool(level.windows) for level in canvas.levels[:scales]] == [False] * (scales - 1) + [True]
    assert not any(level.windows for level in canvas.levels[scales:])


def test_halved_images_are_means_of_the_valid_pixels():
    rng = np.random.default_rng(0)
    image, hole = rng.integers(0, 256, (7, 9, 3), np.uint8), rng.random((7, 9)) < 0.5
    small, small_hole = windows._halved(image, hole)
    assert small.shape == (4, 5, 3)
    for row, column in np.ndindex(4, 5):
        block = slice(2 * row, 2 * row + 2), slice(2 * column, 2 * column + 2)
        pixels, valid = image[block].reshape(-1, 3) / 255, ~hole[block].ravel()
        np.testing.assert_allclose(small[row, column], pixels[valid].mean(0) if valid.any() else 0, atol=1e-6)
        assert small_hole[row, column] == (not valid.any())


def test_the_network_fills_what_is_neither_too_wide_nor_too_narrow():
    """A stroke of 8 pixels that runs into a square of 40, and a scratch of 2; squares of 3 to 17 pixels are suited."""
    hole = np.zeros((128, 128), bool)
    hole[64:72, :60] = hole[60:100, 60:100] = hole[21:23, 30:120] = True
    large, small, *rest = Canvas(photo(128, 128), hole, hole, sight=SIGHT).levels
    suited = np.zeros_like(hole)
    suited[64:72, :60] = True
    np.testing.assert_array_equal(large._target, suited)
    np.testing.assert_array_equal(small._target, hole[::2, ::2] & (np.arange(64) > 20)[:, None])
    assert not rest, "the scratch has no pixel left at half the side"

    around = np.ones_like(hole)
    large, *_ = Canvas(photo(128, 128), hole, around, sight=SIGHT).levels
    assert large._target[50:90, :40].all()
    assert not large._target[50:110, 62:110].any() and not large._target[16:28, 50:110].any()


def test_narrow_holes_are_interpolated():
    image, hole = photo(128, 128), np.zeros((128, 128), bool)
    hole[20:22, 30:120] = hole[40:120, 50] = True
    holed = np.where(hole[..., None], np.uint8(0), image)
    assert np.abs(filled(holed, hole, Recorder()) - image / 255)[hole].max() < 0.03


# ---- what comes out ----


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (130, 201), (401, 333)])
def test_a_network_that_knows_the_photo_restores_it(height, width, dtype):
    """At every level it paints what the photo without holes is there; what is joined is the photo."""
    image = photo(height, width)
    image = image if dtype == np.uint8 else (image / 255).astype(dtype)
    hole = strokes(height, width, thickness=9)
    canvas = Canvas(np.where(hole[..., None], dtype(0), image), hole, hole, sight=SIGHT)
    truths = [image / np.float32(255) if dtype == np.uint8 else image]
    while len(truths) < len(canvas.levels):
        truths.append(windows._halved(truths[-1], np.zeros(truths[-1].shape[:2], bool))[0])
    below = None
    for level, truth in zip(canvas.levels[::-1], truths[::-1], strict=True):
        for window in level.windows:
            level.paste(window, truth[window.rows, window.columns], below)
        level.finish(below)
        below = level
    assert np.abs(canvas.fill() - truths[0])[hole].max() < 0.02


def test_fills_stay_in_range():
    """Details added to colours overshoot where the photo is black and white."""
    rng = np.random.default_rng(0)
    image, hole = rng.integers(0, 2, (128, 128, 3), np.uint8) * 255, strokes(128, 128, thickness=5)
    canvas = Canvas(image, hole, hole, sight=SIGHT)
    windows.run(lambda images, *_: rng.integers(0, 2, images.shape).astype(np.float32), [canvas])
    assert canvas.levels[0].result.max() > 1.1
    assert canvas.fill().min() >= 0 and canvas.fill().max() <= 1


def test_pixels_of_holes_are_never_read():
    hole = strokes(200, 150, thickness=9)
    other = photo(200, 150)
    other[hole] = np.random.default_rng(0).integers(0, 256, (np.count_nonzero(hole), 3))
    first, second = Recorder(), Recorder()
    blind = [filled(image, hole, recorder) for image, recorder in ((photo(200, 150), first), (other, second))]
    for (ours, mask, _), (theirs, *_) in zip(first.seen, second.seen, strict=True):
        np.testing.assert_array_equal(ours * mask, theirs * mask)
    np.testing.assert_array_equal(blind[0][hole], blind[1][hole])


def test_photos_filled_together_are_those_filled_alone():
    sizes = [(70, 64), (64, 70), (200, 150), (150, 201), (90, 90)]

    def moody(images, masks, insides):
        return np.broadcast_to((images * masks).mean(axis=(1, 2), keepdims=True), images.shape)

    alone = [filled(photo(*size), strokes(*size, thickness=5), moody) for size in sizes]
    canvases = [
        Canvas(photo(*size), strokes(*size, thickness=5), strokes(*size, thickness=5), sight=SIGHT) for size in sizes
    ]
    windows.run(moody, canvases)
    for canvas, fill in zip(canvases, alone, strict=True):
        np.testing.assert_allclose(canvas.fill(), fill, atol=1e-6)


def seam(fill: np.ndarray, hole: np.ndarray, level: windows.Level) -> float:
    """Mean |gradient| across the borders of windows inside holes, over that elsewhere inside them."""
    across, elsewhere = [], []
    for axis in (0, 1):
        steps = np.abs(np.diff(fill, axis=axis)).mean(axis=2)
        inside = hole[1:] & hole[:-1] if axis == 0 else hole[:, 1:] & hole[:, :-1]
        borders = np.zeros(steps.shape, bool)
        for window in level.windows:
            span = (window.rows, window.columns)[axis]
            for line in (span.start - 1, span.stop - 1):
                if 0 <= line < steps.shape[axis]:
                    place = [window.rows, window.columns]
                    place[axis] = slice(line, line + 1)
                    borders[tuple(place)] = True
        across.append(steps[inside & borders])
        elsewhere.append(steps[inside & ~borders])
    return float(np.concatenate(across).mean() / np.concatenate(elsewhere).mean())


@pytest.mark.parametrize("faded", [True, False])
def test_no_seam_between_windows_that_disagree(faded: bool):
    """Each is painted in a colour of its own; without their fades the measure sees it."""
    rng = np.random.default_rng(0)
    canvas = Image.new("1", (900, 700))
    for ends in rng.uniform(0, (900, 700), (50, 2, 2)):
        ImageDraw.Draw(canvas).line(list(map(tuple, ends)), fill=1, width=8)
    hole = np.asarray(canvas)
    canvas = Canvas(photo(700, 900), hole, hole, sight=SIGHT)
    level = canvas.levels[0]
    if not faded:
        whole = [(np.ones(len(down)), np.ones(len(across))) for *_, (down, across) in level.windows]
        level.windows = [window._replace(fade=fade) for window, fade in zip(level.windows, whole, strict=True)]
    assert len(level.windows) > 40

    windows.run(lambda images, *_: np.full_like(images, 0.5) + rng.uniform(-0.2, 0.2, (len(images), 1, 1, 3)), [canvas])
    ratio = seam(canvas.fill(), hole, level)
    assert ratio <= 1.1 if faded else ratio > 1.5


def test_batches_are_full_or_of_one_and_nothing_twice():
    for count, most in itertools.product(range(1, 40), (1, 2, 3, 8)):
        batches = list(windows._batches(list(range(count)), most=most))
        assert [item for batch in batches for item in batch] == list(range(count))
        assert {len(batch) for batch in batches} <= {most, 1}
