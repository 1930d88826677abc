"""Metrics against scikit-image and plain NumPy; the bootstrap against the truth it estimates."""

import jax
import numpy as np
import pytest
from skimage import metrics as reference

from dpconv_jax.evaluation import metrics
from dpconv_jax.evaluation.estimates import bootstrapped


def pairs(seed: int, *, noise: float, level: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Smooth images about one grey level, and the same with noise, in [0, 1]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:32, 0:40] / 32.0
    phases = rng.uniform(0, 6, (3, 1, 1, 3))
    target = level + 0.4 * np.sin(5 * x[None, ..., None] + phases) * np.cos(4 * y[None, ..., None])
    image = target + noise * rng.standard_normal(target.shape)
    return image.clip(0, 1).astype(np.float32), target.clip(0, 1).astype(np.float32)


@pytest.mark.parametrize("noise", [0.3, 0.05, 0.002])
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_ssim_and_psnr_equal_scikit_image(noise, level):
    image, target = pairs(1, noise=noise, level=level)
    ssim, psnr = jax.jit(metrics.ssim)(image, target), metrics.psnr(image, target)
    for i in range(len(image)):
        expected = reference.structural_similarity(
            image[i].astype(np.float64),
            target[i].astype(np.float64),
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1.0,
            channel_axis=-1,
        )
        assert ssim[i] == pytest.approx(expected, abs=1e-4)
        assert psnr[i] == pytest.approx(reference.peak_signal_noise_ratio(target[i], image[i], data_range=1), abs=1e-3)


def test_ssim_of_flat_images_is_the_luminance_term():
    a, b = np.full((1, 16, 16, 3), 1.0, np.float32), np.full((1, 16, 16, 3), 0.25, np.float32)
    ssim = jax.jit(metrics.ssim)
    assert ssim(a, a)[0] == pytest.approx(1.0, abs=1e-6)
    assert ssim(a, b)[0] == pytest.approx((2 * 0.25 + 1e-4) / (1 + 0.0625 + 1e-4), abs=1e-5)


def test_l1_counts_all_pixels_and_hole_l1_the_holes():
    image, target = pairs(2, noise=0.2)
    mask = (np.random.default_rng(0).random((3, 32, 40, 1)) > 0.3).astype(np.float32)
    named = jax.jit(metrics.per_image)(image, target, mask)
    assert set(named) == {metric.name for metric in metrics.METRICS}
    for i in range(3):
        error = np.abs(image[i].astype(np.float64) - target[i])
        in_holes = error[mask[i, ..., 0] == 0]
        assert named["l1_percent"][i] == pytest.approx(100 * error.mean(), rel=1e-5)
        assert named["hole_l1_percent"][i] == pytest.approx(100 * in_holes.mean(), rel=1e-5)


def test_edge_values():
    image, target = pairs(3, noise=0.1)
    assert np.isposinf(metrics.psnr(target, target)).all()
    assert np.isnan(metrics.hole_l1(image, target, np.ones((3, 32, 40, 1)))).all()
    with pytest.raises(ValueError, match="at least 11"):
        metrics.ssim(image[:, :10], target[:, :10])
    with pytest.raises(ValueError, match="one shape"):
        metrics.l1(image, target[:1])


def test_composite_takes_clipped_output_in_holes_and_truth_elsewhere():
    target = np.full((1, 2, 2, 3), 0.5, np.float32)
    mask = np.array([[1, 0], [1, 0]], np.float32).reshape(1, 2, 2, 1)
    output = np.array([[np.nan, 1.5], [-1.0, 0.25]], np.float32).reshape(1, 2, 2, 1) * np.ones(3, np.float32)
    composite = np.asarray(metrics.composite(output=output, target=target, mask=mask))
    np.testing.assert_array_equal(composite[0, :, :, 0], [[0.5, 1.0], [0.5, 0.25]])


def test_the_papers_psnr_pools_64_images_of_normalised_pixels():
    rng = np.random.default_rng(4)
    target = rng.random((70, 12, 12, 3), np.float32)
    output = target + rng.normal(0, 0.1, target.shape).astype(np.float32)  # not clipped
    output[5] = output[6] = 2.5
    errors = np.asarray(metrics.normalised_error(output, target))
    wide = ((output.astype(np.float64) - target) / np.array([0.229, 0.224, 0.225])) ** 2
    np.testing.assert_allclose(errors, wide.mean(axis=(1, 2, 3)), rtol=1e-5)
    expected = np.mean([10 * np.log10(1 / wide[:64].mean()), 10 * np.log10(1 / wide[64:].mean())])
    assert metrics.psnr_paper_compat(errors) == pytest.approx(expected, rel=1e-5)
    assert metrics.psnr_paper_compat(errors[:3]) == pytest.approx(-10 * np.log10(errors[:3].mean()))


def test_bootstrap_covers_the_mean_about_95_percent_of_the_time():
    rng = np.random.default_rng(0)
    intervals = [bootstrapped(rng.exponential(size=60), resamples=300, seed=s)[1:3] for s in range(200)]
    covered = np.mean([low <= 1.0 <= high for low, high in intervals])
    assert 0.88 <= covered <= 0.98
    values = rng.standard_normal(400)
    mean, low, high, *_ = bootstrapped(values, resamples=1000, seed=1)
    assert mean == values.mean()
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert (mean, low, high, 400, "") == bootstrapped(values, resamples=1000, seed=1)
    assert bootstrapped(np.ones(1), resamples=10, seed=0) == (1, None, None, 1, "")
    assert bootstrapped(values, resamples=0, seed=0)[1:3] == (None, None)
    mirrored = bootstrapped(values, resamples=1000, seed=1, statistic=lambda drawn: -drawn.mean())
    assert mirrored[1:3] == pytest.approx((-high, -low))
