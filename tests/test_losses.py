"""Eq. (5)-(14) against plain NumPy loops over images, pixels and channels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dpconv_jax.training import losses

SHAPE = (3, 7, 6, 3)


@pytest.fixture
def example() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    mask = (rng.random((*SHAPE[:3], 1)) < 0.6).astype(np.float32)
    return {
        "output": rng.random(SHAPE, np.float32),
        "target": rng.random(SHAPE, np.float32),
        "mask": mask,
    }


def naive_l1(output: np.ndarray, target: np.ndarray, where: np.ndarray) -> float:
    sums = []
    for ours, theirs, selected in zip(output, target, where, strict=True):
        total = 0.0
        for y, x in zip(*np.nonzero(selected[..., 0]), strict=True):
            total += sum(abs(float(ours[y, x, c]) - float(theirs[y, x, c])) for c in range(3))
        sums.append(total / (3 * SHAPE[1] * SHAPE[2]))
    return float(np.mean(sums))


def test_composite_takes_the_output_in_the_hole_only(example):
    composite = losses.composite(**example)
    hole = example["mask"][..., 0] == 0
    np.testing.assert_array_equal(composite[hole], example["output"][hole])
    np.testing.assert_array_equal(composite[~hole], example["target"][~hole])


def test_pixel_terms(example):
    hole = naive_l1(example["output"], example["target"], example["mask"] == 0)
    valid = naive_l1(example["output"], example["target"], example["mask"] == 1)
    assert hole != pytest.approx(valid, rel=0.05)
    assert losses.hole(**example) == pytest.approx(hole, rel=1e-5)
    assert losses.non_hole(**example) == pytest.approx(valid, rel=1e-5)
    assert losses.pixel(**example) == pytest.approx(hole + valid, rel=1e-5)
    assert losses.pixel(**example, hole_weight=6) == pytest.approx(6 * hole + valid, rel=1e-5)


def naive_gram(features: np.ndarray) -> np.ndarray:
    """Of one image (H, W, C)."""
    gram = np.zeros((features.shape[2],) * 2)
    for row in features.astype(np.float64):
        for pixel in row:
            gram += np.outer(pixel, pixel)
    return gram


def random_maps(seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.random((2, side, side + 1, channels), np.float32) for side, channels in ((6, 4), (3, 5))]


def naive_style(features: list[np.ndarray], target_features: list[np.ndarray]) -> float:
    losses_of_images = []
    for image in range(2):
        total = 0.0
        for ours, theirs in zip(features, target_features, strict=True):
            _, height, width, channels = ours.shape
            k = 1 / (channels * height * width)
            difference = k * naive_gram(ours[image]) - k * naive_gram(theirs[image])
            total += np.abs(difference).sum() / channels**2
        losses_of_images.append(total)
    return float(np.mean(losses_of_images))


def test_gram():
    features = random_maps(0)[0]
    expected = np.stack([naive_gram(image) for image in features])
    np.testing.assert_allclose(losses.gram(features), expected, rtol=1e-5)


def test_gram_of_bfloat16_sums_in_float32():
    """4,096 ones: a bfloat16 sum would stop at 256."""
    gram = losses.gram(jnp.ones((1, 64, 64, 2), jnp.bfloat16))
    assert gram.dtype == jnp.float32
    np.testing.assert_array_equal(gram, np.full((1, 2, 2), 4096))


def test_gradient_of_gram():
    features = random_maps(0)[1]
    cotangent = np.random.default_rng(1).random((2, 5, 5), np.float32)  # not symmetric
    _, pull_ours = jax.vjp(losses.gram, features)
    _, pull_theirs = jax.vjp(lambda f: jnp.einsum("bhwc,bhwd->bcd", f, f), features)
    np.testing.assert_allclose(*pull_ours(cotangent), *pull_theirs(cotangent), rtol=1e-5)


def test_style():
    output, composite, target = map(random_maps, range(3))
    ours, theirs = naive_style(output, target), naive_style(composite, target)
    assert losses.style(features=output, target_features=target) == pytest.approx(ours, rel=1e-4)
    total = losses.style_total(output_features=output, composite_features=composite, target_features=target)
    assert total == pytest.approx(ours + theirs, rel=1e-4)


def test_style_normalises_maps_of_vgg_size():
    """C^3 H W of relu4_3 at 256 x 256 is 2^37."""
    ours, theirs = jnp.ones((1, 32, 32, 512)), jnp.zeros((1, 32, 32, 512))
    assert losses.style(features=[ours], target_features=[theirs]) == pytest.approx(1 / 512)


def test_no_gradient_reaches_the_target_of_style():
    features, target = map(random_maps, range(2))

    def style(ours: list[np.ndarray], theirs: list[np.ndarray]) -> jax.Array:
        return losses.style(features=ours, target_features=theirs)

    of_features, of_target = jax.jit(jax.grad(style, argnums=(0, 1)))(features, target)
    assert all(np.abs(gradient).max() > 0 for gradient in of_features)
    assert not any(np.any(gradient) for gradient in of_target)


def test_adversarial_terms():
    real, fake = np.array([0.9, 0.2, 1.4]), np.array([0.1, -0.3, 0.8])
    assert losses.adversarial_generator(fake_scores=fake) == pytest.approx(
        ((0.1 - 1) ** 2 + (-0.3 - 1) ** 2 + (0.8 - 1) ** 2) / 3
    )
    assert losses.adversarial_discriminator(real_scores=real, fake_scores=fake) == pytest.approx(
        (0.1**2 + 0.3**2 + 0.8**2) / 3 + (0.1**2 + 0.8**2 + 0.4**2) / 3
    )
    noisy = losses.adversarial_discriminator(
        real_scores=real, fake_scores=fake, real_targets=np.array([1.1, 0.7, 0.1]), fake_targets=np.array([0.3, 0, 1])
    )
    assert noisy == pytest.approx((0.2**2 + 0.3**2 + 0.2**2) / 3 + (0.2**2 + 0.5**2 + 1.3**2) / 3)


def test_noisy_targets():
    @jax.jit
    def draw(seed: int, flip: float) -> tuple[jax.Array, jax.Array]:
        return losses.noisy_targets(jax.random.key(seed), 20_000, real=(0.7, 1.2), fake=(0.0, 0.3), flip=flip)

    real, fake = map(np.asarray, draw(0, 0.1))
    for own, targets in (((0.7, 1.2), real), ((0.0, 0.3), fake)):
        kept = targets[(targets >= own[0]) & (targets <= own[1])]
        flipped = 1 - len(kept) / len(targets)
        assert flipped == pytest.approx(0.1, abs=0.01)
        assert kept.mean() == pytest.approx(np.mean(own), abs=0.01)
        assert (kept.min(), kept.max()) == pytest.approx(own, abs=0.01)
    flips = np.array([real < 0.5, fake > 0.5])
    assert np.mean(flips[0] & flips[1]) == pytest.approx(0.01, abs=0.005)  # drawn apart
    assert float(real.min()) >= 0 and float(fake.max()) <= 1.2

    np.testing.assert_array_equal(draw(0, 0.1), (real, fake))
    assert not np.array_equal(draw(1, 0.1)[0], real)

    real, fake = draw(0, 0.0)
    assert float(real.min()) >= 0.7 and float(fake.max()) <= 0.3


def naive_total_variation(composite: np.ndarray, mask: np.ndarray) -> float:
    batch, height, width, _ = composite.shape
    losses_of_images = []
    for image in range(batch):
        region = {
            (y + dy, x + dx)
            for y, x in zip(*np.nonzero(mask[image, ..., 0] == 0), strict=True)
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
            if 0 <= y + dy < height and 0 <= x + dx < width
        }
        total = 0.0
        for y, x in region:
            for neighbour in ((y, x + 1), (y + 1, x)):
                if neighbour in region:
                    total += np.abs(composite[image, *neighbour] - composite[image, y, x]).sum()
        losses_of_images.append(total / (3 * height * width))
    return float(np.mean(losses_of_images))


def test_total_variation():
    rng = np.random.default_rng(1)
    composite = rng.random((3, 8, 9, 3), np.float32)
    mask = np.ones((3, 8, 9, 1), np.float32)
    mask[0, 2:4, 3] = 0  # inside
    mask[1, 0, 8] = mask[1, 6, 2] = 0  # a corner and a lone pixel; the third image has no hole
    expected = naive_total_variation(composite, mask)
    assert losses.total_variation(composite=composite, mask=mask) == pytest.approx(expected, rel=1e-5)


def test_total_variation_of_no_hole_is_zero():
    composite = np.random.default_rng(1).random((1, 8, 8, 3), np.float32)
    assert losses.total_variation(composite=composite, mask=np.ones((1, 8, 8, 1))) == 0


def test_hinge_losses_and_l1():
    real, fake = np.array([[2.0, 0.5], [-1.0, 1.0]]), np.array([[-2.0, 0.5], [1.0, -0.5]])
    assert losses.hinge_discriminator(real_scores=real, fake_scores=fake) == pytest.approx((2.5 + 4.0) / 4)
    assert losses.hinge_generator(fake_scores=fake) == pytest.approx(0.25)
    assert losses.l1(output=real, target=fake) == pytest.approx((4 + 0 + 2 + 1.5) / 4)


def test_perceptual_is_a_mean_for_each_map_of_both_images():
    one, two = np.ones((2, 4, 4, 3)), np.full((2, 2, 2, 5), 2.0)
    pair = {"output_features": [2 * one, two], "composite_features": [one, 1.5 * two]}
    assert losses.perceptual(**pair, target_features=[one, two]) == pytest.approx(1 + 1)
    gradient = jax.grad(lambda target: losses.perceptual(**pair, target_features=[target, two]))(jnp.zeros_like(one))
    assert not gradient.any()


def test_bfloat16_images_give_float32_losses(example):
    low = {name: jnp.asarray(value, jnp.bfloat16) for name, value in example.items()}
    assert losses.pixel(**low).dtype == jnp.float32
    assert losses.pixel(**low) == pytest.approx(float(losses.pixel(**example)), rel=0.02)
