"""How far an inpainted image is from the truth: l1, hole l1, PSNR, SSIM and the paper's PSNR.

Every metric takes float images (B, H, W, 3) in [0, 1] and returns one float32 value an image, shape (B,).
Masks are (B, H, W, 1) with 1 = valid and 0 = hole. All are pure jnp and may be jitted.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from dpconv_jax.models.vgg16 import IMAGENET_STD

WINDOW = 11  # of SSIM, in pixels (Wang et al. 2004)
SIGMA = 1.5
C1 = 0.01**2  # (K1 L)^2 with L = 1
C2 = 0.03**2
PAPER_BATCH = 64  # images whose squared errors the paper's PSNR pools


@dataclasses.dataclass(frozen=True)
class Metric:
    """What a column of the results means: name in files, heading, pixels it covers, which way is better.

    raw: of the raw output, not of the composite. per_image: one value an image, whose mean is reported; else one value
    of all images together.
    """

    name: str
    label: str
    region: str
    higher_is_better: bool
    digits: int
    raw: bool = False
    per_image: bool = True


METRICS = (
    Metric("l1_percent", "l1 %", "all pixels", False, 2),
    Metric("hole_l1_percent", "hole l1 %", "hole pixels only", False, 2),
    Metric("psnr_db", "PSNR dB", "all pixels", True, 2),
    Metric("ssim", "SSIM", "all pixels but a border of 5", True, 4),
)


def _pair(image: ArrayLike, target: ArrayLike) -> tuple[jax.Array, jax.Array]:
    a, b = jnp.asarray(image, jnp.float32), jnp.asarray(target, jnp.float32)
    if a.ndim != 4 or a.shape != b.shape:
        raise ValueError(f"images {a.shape} and {b.shape}: both must be of one shape (B, H, W, C)")
    return a, b


def composite(*, output: ArrayLike, target: ArrayLike, mask: ArrayLike) -> jax.Array:
    """The output, clipped to [0, 1], in the holes and the truth elsewhere, (B, H, W, 3) float32.

    Chosen by `where`: a value that is not finite outside the holes is no part of the composite, inside it stays.
    """
    output, target = _pair(output, target)
    return jnp.where(jnp.asarray(mask) > 0.5, target, jnp.clip(output, 0.0, 1.0))


def l1(image: ArrayLike, target: ArrayLike) -> jax.Array:
    """Mean absolute error over all pixels and channels, in [0, 1]."""
    image, target = _pair(image, target)
    return jnp.mean(jnp.abs(image - target), axis=(1, 2, 3))


def hole_l1(image: ArrayLike, target: ArrayLike, mask: ArrayLike) -> jax.Array:
    """Mean absolute error over hole pixels and channels, in [0, 1]; NaN for an image without a hole."""
    image, target = _pair(image, target)
    hole = jnp.broadcast_to(jnp.asarray(mask) <= 0.5, image.shape)
    return jnp.sum(jnp.where(hole, jnp.abs(image - target), 0.0), axis=(1, 2, 3)) / jnp.sum(hole, axis=(1, 2, 3))


def psnr(image: ArrayLike, target: ArrayLike) -> jax.Array:
    """10 log10(1 / MSE) over all pixels and channels, in dB; +inf for identical images."""
    image, target = _pair(image, target)
    return -10.0 * jnp.log10(jnp.mean(jnp.square(image - target), axis=(1, 2, 3)))


def normalised_error(output: ArrayLike, target: ArrayLike) -> jax.Array:
    """Mean of ((output - target) / the ImageNet standard deviation of the channel)^2; the output is not clipped."""
    output, target = _pair(output, target)
    return jnp.mean(jnp.square((output - target) / jnp.array(IMAGENET_STD)), axis=(1, 2, 3))


def psnr_paper_compat(errors: np.ndarray) -> float:
    """The closest reading of the paper's PSNR: 10 log10(1 / error) in dB, of `normalised_error` values (N,) > 0.

    Errors are pooled over batches of 64 consecutive images, then the batches averaged; the last may be short and counts
    as much as a full one. It depends on the order of the images.
    """
    starts = np.arange(0, len(errors), PAPER_BATCH)
    sizes = np.minimum(PAPER_BATCH, len(errors) - starts)
    return float(np.mean(-10.0 * np.log10(np.add.reduceat(errors, starts) / sizes)))


def _blur(images: jax.Array) -> jax.Array:
    """Gaussian window average, (B, H, W, C) -> (B, H - 10, W - 10, C).

    Shifted sums rather than a convolution: accelerators round a convolution's inputs to fewer bits by default, and the
    variances below are small differences of such averages.
    """
    offsets = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-0.5 * (offsets / SIGMA) ** 2)
    weights /= weights.sum()
    for axis in (1, 2):
        kept = images.shape[axis] - WINDOW + 1
        shifted = [w * jax.lax.slice_in_dim(images, i, i + kept, axis=axis) for i, w in enumerate(weights.tolist())]
        images = sum(shifted[1:], start=shifted[0])
    return images


def ssim(image: ArrayLike, target: ArrayLike) -> jax.Array:
    """Structural similarity, Wang et al. 2004, Eq. (13): 11 x 11 Gaussian window, valid positions, mean over channels.

    Equals scikit-image's with gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.
    Raises ValueError for a side below 11.
    """
    x, y = _pair(image, target)
    if min(x.shape[1:3]) < WINDOW:
        raise ValueError(f"images of {x.shape[1]} x {x.shape[2]}: SSIM needs sides of at least {WINDOW}")
    # Variances do not change when an image is shifted; about its own mean they lose least to rounding.
    shift_x, shift_y = jnp.mean(x, axis=(1, 2), keepdims=True), jnp.mean(y, axis=(1, 2), keepdims=True)
    x, y = x - shift_x, y - shift_y
    means = _blur(jnp.concatenate([x, y, x * x, y * y, x * y], axis=-1))
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = jnp.split(means, 5, axis=-1)
    var_x, var_y = mean_xx - mean_x * mean_x, mean_yy - mean_y * mean_y
    cov = mean_xy - mean_x * mean_y
    mean_x, mean_y = mean_x + shift_x, mean_y + shift_y
    luminance = (2 * mean_x * mean_y + C1) / (mean_x * mean_x + mean_y * mean_y + C1)
    structure = (2 * cov + C2) / (var_x + var_y + C2)
    return jnp.mean(luminance * structure, axis=(1, 2, 3))


def per_image(image: ArrayLike, target: ArrayLike, mask: ArrayLike) -> dict[str, jax.Array]:
    """Every metric of `METRICS` by name, (B,) float32 each; the two l1 in percent."""
    return {
        "l1_percent": 100.0 * l1(image, target),
        "hole_l1_percent": 100.0 * hole_l1(image, target, mask),
        "psnr_db": psnr(image, target),
        "ssim": ssim(image, target),
    }
