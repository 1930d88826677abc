"""LPIPS against plain arithmetic and against the authors' package, and its weight file."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from benchmarks import seeded
from dpconv_jax import UsageError
from dpconv_jax.models import lpips, vgg16
from dpconv_jax.weights import lpips as files


@pytest.fixture(scope="module")
def params() -> lpips.LPIPS:
    """Random weights."""
    return lpips.LPIPS(trunk=seeded.trunk(), heads=seeded.heads())


@pytest.fixture(scope="module")
def images() -> tuple[np.ndarray, np.ndarray]:
    """Two, and what noise makes of them."""
    return seeded.pair(64, 48)


def test_distance_is_that_of_the_package(params, images):
    """lpips 0.1.4, net="vgg", version="0.1", with these weights, by benchmarks/networks.py."""
    found = jax.jit(lpips.distance)(params, *images)
    assert (found.shape, found.dtype) == ((2,), jnp.float32)
    np.testing.assert_allclose(found, [0.09561403, 0.10233219], atol=1e-6)


def test_distance_is_that_of_plain_arithmetic(params, images):
    """One pixel at a time, from the features of images that are shifted and scaled as the package does it."""
    a, b = (image[:, :16, :32].copy() for image in images)
    a[0] = a[0, 0, 0]  # flat: equal features, some of them zero

    trunk = jax.jit(vgg16.trunk)

    def features(image: np.ndarray) -> list[np.ndarray]:
        shifted = (2 * image - 1 - np.array([-0.030, -0.088, -0.188])) / np.array([0.458, 0.448, 0.450])
        undone = shifted * np.array(vgg16.IMAGENET_STD) + np.array(vgg16.IMAGENET_MEAN)
        return [np.asarray(each, np.float64) for each in trunk(params.trunk, undone)]

    expected = np.zeros(2)
    for of_a, of_b, head in zip(features(a), features(b), params.heads, strict=True):
        for image, row, column in np.ndindex(of_a.shape[:3]):
            units = [x / (np.sqrt((x**2).sum()) + 1e-10) for x in (of_a[image, row, column], of_b[image, row, column])]
            expected[image] += ((units[0] - units[1]) ** 2 * head).sum() / (of_a.shape[1] * of_a.shape[2])
    np.testing.assert_allclose(jax.jit(lpips.distance)(params, a, b), expected, rtol=1e-4)


def test_a_distance_is_symmetric_and_zero_for_equal_images(params, images):
    a, b = images
    distance = jax.jit(lpips.distance)
    np.testing.assert_array_equal(distance(params, a, b), distance(params, b, a))
    np.testing.assert_array_equal(distance(params, a, a), np.zeros(2))


def test_a_pixel_without_features_is_finite(params):
    dark = dataclasses.replace(params, trunk=jax.tree.map(jnp.zeros_like, params.trunk))
    black, white = np.zeros((1, 16, 16, 3)), np.ones((1, 16, 16, 3))
    np.testing.assert_array_equal(jax.jit(lpips.distance)(dark, black, white), [0.0])


def test_another_trunk_has_another_name(params):
    oxford = dataclasses.replace(params, trunk=dataclasses.replace(params.trunk, convention="oxford"))
    assert (params.name, oxford.name) == ("lpips", "lpips_oxford")


def published(params: lpips.LPIPS) -> dict[str, np.ndarray]:
    """The heads as their file has them."""
    return {f"lin{i}.model.1.weight": np.asarray(head).reshape(1, -1, 1, 1) for i, head in enumerate(params.heads)}


def test_the_file_gives_the_heads(params, tmp_path):
    safetensors.numpy.save_file(published(params), tmp_path / "heads.safetensors")
    found = files.load(tmp_path / "heads.safetensors", trunk=params.trunk)
    assert found.trunk is params.trunk
    assert all(map(np.array_equal, found.heads, params.heads))
    assert {head.shape for head in found.heads} == {(64,), (128,), (256,), (512,)}


def test_files_of_another_kind_are_refused(params):
    heads = published(params)
    with pytest.raises(UsageError, match=r"lin3\.model\.1\.weight is missing"):
        files.heads({name: head for name, head in heads.items() if "lin3" not in name}, source="x")
    with pytest.raises(UsageError, match=r"not negative, but lin0\.model\.1\.weight has some"):
        files.heads({**heads, "lin0.model.1.weight": -heads["lin0.model.1.weight"]}, source="x")


def test_a_trunk_must_reach_conv5(params, tmp_path):
    short = dataclasses.replace(
        params.trunk, kernels={name: each for name, each in params.trunk.kernels.items() if "conv5" not in name}
    )
    with pytest.raises(UsageError, match="must reach conv5_3"):
        files.load(tmp_path / "absent.pth", trunk=short)
    with pytest.raises(ValueError, match="end before conv5_3"):
        lpips.distance(dataclasses.replace(params, trunk=short), np.zeros((1, 16, 16, 3)), np.zeros((1, 16, 16, 3)))
