"""Hole filling without learning: the mean valid colour, and OpenCV's two inpainting algorithms.

Each method takes an image (H, W, 3), float in [0, 1], and a mask (H, W, 1), 1 = valid and 0 = hole, and returns the
composite (H, W, 3) float32: its fill in the holes, the image itself elsewhere. None reads a hole's pixels.
"""

from collections.abc import Callable, Iterable

import numpy as np

from dpconv_jax.errors import UsageError

RADIUS = 3  # neighbourhood of OpenCV's methods, in pixels

Method = Callable[[np.ndarray, np.ndarray], np.ndarray]


def mean_fill(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Fills the holes with the mean colour of the valid pixels (mid-grey where no pixel is valid)."""
    valid = np.asarray(mask)[..., 0] > 0.5
    image = np.asarray(image, np.float32)
    colour = image[valid].mean(axis=0, dtype=np.float64) if valid.any() else np.full(3, 0.5)
    return np.where(valid[..., None], image, colour.astype(np.float32))


def telea(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Fast marching (Telea 2004), OpenCV, radius 3. Raises UsageError without OpenCV."""
    return _opencv(image, mask, algorithm=_cv2().INPAINT_TELEA)


def navier_stokes(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Fluid dynamics (Bertalmio et al. 2001), OpenCV, radius 3. Raises UsageError without OpenCV."""
    return _opencv(image, mask, algorithm=_cv2().INPAINT_NS)


METHODS: dict[str, Method] = {"mean": mean_fill, "telea": telea, "ns": navier_stokes}


def _cv2():
    try:
        import cv2
    except ImportError:
        raise UsageError(
            "baselines 'telea' and 'ns' need OpenCV, which is not installed: pip install opencv-python-headless"
        ) from None
    return cv2


def _opencv(image: np.ndarray, mask: np.ndarray, *, algorithm: int) -> np.ndarray:
    valid = np.asarray(mask) > 0.5
    image = np.asarray(image, np.float32)
    # OpenCV fills 8-bit images only; the valid pixels of the result come from the float image, unrounded.
    bytes_ = np.rint(np.where(valid, image, 0.0).clip(0.0, 1.0) * 255.0).astype(np.uint8)
    filled = _cv2().inpaint(bytes_, (~valid[..., 0]).astype(np.uint8), RADIUS, algorithm)
    return np.where(valid, image, filled.astype(np.float32) / 255.0)


def batched(names: Iterable[str]) -> dict[str, Method]:
    """The named methods over batches: images (B, H, W, 3) and masks (B, H, W, 1) -> composites (B, H, W, 3).

    Raises UsageError for an unknown name and where OpenCV is missing, before any image is filled.
    """

    def over_batch(method: Method) -> Method:
        return lambda images, masks: np.stack([method(i, m) for i, m in zip(images, masks, strict=True)])

    methods = {}
    for name in names:
        if name not in METHODS:
            raise UsageError(f"unknown baseline {name!r}; known: {', '.join(METHODS)}")
        if name != "mean":
            _cv2()
        methods[name] = over_batch(METHODS[name])
    return methods
