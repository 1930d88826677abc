"""Hole filling without learning: the mean valid colour, `patchmatch`, and what three libraries do.

Each method takes an image (H, W, 3), float in [0, 1], and a mask (H, W, 1), 1 = valid and 0 = hole, and returns the
composite (H, W, 3) float32: its fill in the holes, the image itself elsewhere. None reads a hole's pixels.
"""

import contextlib
import functools
import os
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from dpconv_jax.errors import UsageError

RADIUS = 3  # neighbourhood of OpenCV's methods, in pixels

Fill = Callable[[np.ndarray, np.ndarray], np.ndarray]  # image, mask -> composite


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


def biharmonic(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The biharmonic equation (Damelin and Hoang 2018), scikit-image; mid-grey where no pixel is valid.

    Raises UsageError without scikit-image.
    """
    valid = np.asarray(mask) > 0.5
    if not valid.any():
        return mean_fill(image, mask)
    image = np.asarray(image, np.float32)
    filled = _restoration().inpaint_biharmonic(np.where(valid, image, 0.0), ~valid[..., 0], channel_axis=-1)
    return np.where(valid, image, filled.astype(np.float32))


def patchmatch(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """PatchMatch (Barnes et al. 2009), `patchmatch.inpaint` with seed 0."""
    from dpconv_jax.baselines import patchmatch  # Numba takes most of a second to import

    return patchmatch.inpaint(image, mask)


def pypatchmatch(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """PatchMatch as PyPatchMatch 2.2 has it, 7 x 7 pixels a patch; mid-grey where no pixel is valid.

    Each of its fills starts from the same seed and has a state of its own: a photo has one fill, in any thread.
    Raises UsageError without PyPatchMatch, or where it came without its compiled part.
    """
    valid = np.asarray(mask) > 0.5
    if not valid.any():
        return mean_fill(image, mask)
    image = np.asarray(image, np.float32)
    filled = _pypatchmatch().inpaint(_bytes(image, valid), ~valid[..., 0], patch_size=3)  # from the middle to the side
    return np.where(valid, image, filled.astype(np.float32) / 255.0)


METHODS: dict[str, Fill] = {
    "mean": mean_fill,
    "telea": telea,
    "ns": navier_stokes,
    "biharmonic": biharmonic,
    "patchmatch": patchmatch,
    "pypatchmatch": pypatchmatch,
}


@contextlib.contextmanager
def _needed(by: str, library: str, package: str) -> Generator[None]:
    try:
        yield
    except ImportError:
        raise UsageError(f"{by} needs {library}, which is not installed: pip install {package}") from None


def _cv2():
    with _needed("baseline 'telea' or 'ns'", "OpenCV", "opencv-python-headless"):
        import cv2
    return cv2


def _restoration():
    with _needed("baseline 'biharmonic'", "scikit-image", "scikit-image"):
        from skimage import restoration
    return restoration


def _pypatchmatch():
    with _needed("baseline 'pypatchmatch'", "PyPatchMatch", "pypatchmatch"):
        import patchmatch
    if not patchmatch.patchmatch_available:
        raise UsageError("baseline 'pypatchmatch': PyPatchMatch was installed without its compiled part")
    return patchmatch


_LIBRARIES = {  # by method
    "telea": _cv2,
    "ns": _cv2,
    "biharmonic": _restoration,
    "pypatchmatch": _pypatchmatch,
}


def _opencv(image: np.ndarray, mask: np.ndarray, *, algorithm: int) -> np.ndarray:
    valid = np.asarray(mask) > 0.5
    image = np.asarray(image, np.float32)
    filled = _cv2().inpaint(_bytes(image, valid), (~valid[..., 0]).astype(np.uint8), RADIUS, algorithm)
    return np.where(valid, image, filled.astype(np.float32) / 255.0)


def _bytes(image: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """What libraries for 8-bit images take, 0 in the holes; their results get the valid pixels back unrounded."""
    return np.rint(np.where(valid, image, 0.0).clip(0.0, 1.0) * 255.0).astype(np.uint8)


def side_by_side(fill: Callable[..., np.ndarray], *batches: np.ndarray) -> np.ndarray:
    """What `fill` makes of each image of batches (B, ...), as it would alone, on all cores: (B, ...)."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.stack([*pool.map(lambda arrays: fill(*arrays), zip(*batches, strict=True))])


def batched(names: Iterable[str]) -> dict[str, Fill]:
    """The named methods over batches: images (B, H, W, 3) and masks (B, H, W, 1) -> composites (B, H, W, 3).

    Images are filled side by side, each as it would be alone.
    Raises UsageError for an unknown name and where a library is missing, before any image is filled.
    """

    methods = {}
    for name in names:
        if name not in METHODS:
            raise UsageError(f"unknown baseline {name!r}; known: {', '.join(METHODS)}")
        if name in _LIBRARIES:
            _LIBRARIES[name]()
        methods[name] = functools.partial(side_by_side, METHODS[name])
    return methods
