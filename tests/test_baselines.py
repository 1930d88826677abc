"""The methods that do not learn: what they may read, and what they must restore."""

import sys

import numpy as np
import pytest

from dpconv_jax.baselines import classical
from dpconv_jax.errors import UsageError


def image_and_mask(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mask = np.ones((24, 32, 1), np.float32)
    mask[5:12, 8:20] = 0
    mask[18:, 28:] = 0
    return rng.random((24, 32, 3), np.float32), mask


@pytest.mark.parametrize("name", classical.METHODS)
def test_a_method_does_not_read_the_holes(name):
    image, mask = image_and_mask()
    method = classical.METHODS[name]
    expected = method(image, mask)
    for hidden in (np.nan, 0.0, 1.0, np.random.default_rng(9).random(image.shape)):
        np.testing.assert_array_equal(method(np.where(mask > 0, image, hidden), mask), expected)
    assert expected.dtype == np.float32
    np.testing.assert_array_equal(expected[mask[..., 0] > 0], image[mask[..., 0] > 0])


@pytest.mark.parametrize("name", classical.METHODS)
def test_a_constant_image_is_restored(name):
    _, mask = image_and_mask()
    image = np.broadcast_to(np.array([0.2, 0.5, 0.9], np.float32), (24, 32, 3))
    restored = classical.METHODS[name](image * mask, mask)
    np.testing.assert_allclose(restored, image, atol=4 / 255)  # Telea adds gradients of rounded values


def test_mean_fill_is_the_mean_valid_colour():
    image, mask = image_and_mask()
    filled = classical.mean_fill(image, mask)
    np.testing.assert_allclose(filled[6, 10], image[mask[..., 0] > 0].mean(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(classical.mean_fill(image, np.zeros_like(mask)), np.full_like(image, 0.5))


@pytest.mark.parametrize("name", ["telea", "ns", "biharmonic"])
def test_a_ramp_is_continued_better_than_the_mean(name):
    _, mask = image_and_mask()
    ramp = np.broadcast_to(np.linspace(0.1, 0.9, 32, dtype=np.float32)[None, :, None], (24, 32, 3))

    def error(method: str) -> float:
        return float(np.abs(classical.METHODS[method](ramp * mask, mask) - ramp).sum())

    assert error(name) < 0.5 * error("mean")


@pytest.mark.parametrize("name", ["mean", "biharmonic", "patchmatch", "pypatchmatch"])
def test_without_a_valid_pixel_all_is_grey(name):
    image, mask = image_and_mask()
    np.testing.assert_array_equal(classical.METHODS[name](image, np.zeros_like(mask)), np.full_like(image, 0.5))


@pytest.mark.parametrize("name", classical.METHODS)
def test_batched_fills_an_image_as_it_would_be_alone(name):
    pairs = [image_and_mask(seed) for seed in range(5)]
    images, masks = (np.stack(each)[:, ::-1] for each in zip(*pairs, strict=True))
    fill = classical.batched([name])[name]
    alone = np.stack([classical.METHODS[name](image, mask) for image, mask in zip(images, masks, strict=True)])
    np.testing.assert_array_equal(fill(images, masks), alone)
    np.testing.assert_array_equal(fill(images[::-1], masks[::-1])[::-1], alone)


def test_batched_names_unknown_methods():
    with pytest.raises(UsageError, match=r"'magic'; known: mean, telea, ns, biharmonic, patchmatch, pypatchmatch"):
        classical.batched(["mean", "magic"])


@pytest.mark.parametrize(
    ("names", "module", "package"),
    [
        (("telea", "ns"), "cv2", "opencv-python-headless"),
        (("biharmonic",), "skimage", "scikit-image"),
        (("pypatchmatch",), "patchmatch", "pypatchmatch"),
    ],
)
def test_a_missing_library_is_said_before_any_image(monkeypatch, names, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    assert [*classical.batched(set(classical.METHODS) - {*names})]
    for name in names:
        with pytest.raises(UsageError, match=f"'{name}'.*pip install {package}$"):
            classical.batched(["mean", name])
