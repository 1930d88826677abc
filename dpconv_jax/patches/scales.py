"""From the smallest scale to the photo: search and vote by turns, scale by scale (Wexler et al. 2007).

Beside colours and slopes, the cloth that a place ought to have and the guide's low frequencies are compared. What is
known at a small scale, the mean of what is valid in 2 x 2, keeps its value there.
"""

import functools
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from dpconv_jax.patches.field import Field, mirrored
from dpconv_jax.patches.kernels import PATCH
from dpconv_jax.patches.pyramid import doubled, halved, interpolated, sums

FEWEST = 256  # sources: a scale with fewer is only interpolated
LOW = 2.0  # pixels, the standard deviation of the blur that leaves a guide's low frequencies
AROUND = 5  # pixels, the side of the square whose mean slope is the texture


class Scale(NamedTuple):
    """Image, hole, texture (h, w) and guide (h, w, 3), 0 where there is none."""

    image: np.ndarray
    hole: np.ndarray
    texture: np.ndarray
    guide: np.ndarray


class Filled(NamedTuple):
    """The image with its hole filled, and the last field with the picture it has voted for; None without sources."""

    image: np.ndarray
    field: Field | None
    picture: np.ndarray


def fill(
    image: np.ndarray,
    hole: np.ndarray,
    guide: np.ndarray | None = None,
    *,
    halvings: int,
    trust: float = 1.0,
    rng: np.random.Generator,
) -> Filled:
    """Fills the hole of an image from the scale of so many halvings on, both sides multiples of 2 ** halvings.

    What the image has in its hole is not read. With a guide the smallest scale starts from it, else from an
    interpolation; trust, above 0 to 1, is how much the guide's low frequencies count. At least one pixel must be valid.
    """
    image = np.where(hole[..., None], np.float32(0), image)
    known = np.zeros_like(image) if guide is None else np.where(hole[..., None], guide, image)
    scales = [Scale(image, hole, texture(image, hole), known)]
    for _ in range(halvings):
        last = scales[-1]
        scales.append(Scale(*halved(last.image, last.hole), _mean(last.texture[..., None])[..., 0], _mean(last.guide)))
    smallest = scales[-1]
    filled = interpolated(smallest.image, smallest.hole) if guide is None else smallest.guide
    picture, field = mirrored(filled), None
    for exponent in reversed(range(len(scales))):
        scale = scales[exponent]
        led = None if guide is None else np.float32(trust) * _low(scale)
        picture, field = _search(picture, field, scale, guide=led, exponent=exponent, rng=rng)
        if exponent:
            picture = _enlarged(picture, field, scales[exponent - 1])
    return Filled(picture[:, : hole.shape[1]], field, picture)


def deepest(hole: np.ndarray) -> int:
    """How many halvings leave no hole, with a pixel a hole where none of its 2 x 2 is valid."""
    halvings = 0
    while (hole := sums(np.logical_not(hole)[..., None].astype(np.float32))[..., 0] == 0).any():
        halvings += 1
    return halvings


def _search(
    picture: np.ndarray,
    half: Field | None,
    scale: Scale,
    *,
    guide: np.ndarray | None,
    exponent: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, Field | None]:
    """Search and vote at a scale; the last vote is left to the caller. Few rounds where there are many pixels."""
    if not scale.hole.any() or min(scale.hole.shape) < PATCH:
        return picture, None
    field = Field(scale.hole, texture=scale.texture, guide=scale.guide if guide is None else guide)
    if field.sources < FEWEST:
        return picture, None
    if half is None:
        field.scatter(rng)
    else:
        field.start_from(half)
    rounds = 2 + (4 if guide is None else 3) * exponent  # without a guide there is more to find
    for rounds_left in reversed(range(rounds)):
        field.look(picture)
        for _ in range(2 * min(7, 1 + exponent)):
            field.sweep(rng)
        if rounds_left:
            picture = field.mean(picture)
    return picture, field


def _enlarged(picture: np.ndarray, field: Field | None, scale: Scale) -> np.ndarray:
    """The picture, with its mirror image, at the next larger scale."""
    small = picture[:, : picture.shape[1] // 2]
    # Only smooth where there are no votes to come: enlarging takes long.
    large = doubled(small, scale.hole.shape) if field is None else small.repeat(2, axis=0).repeat(2, axis=1)
    larger = mirrored(np.where(scale.hole[..., None], large, scale.image))
    return larger if field is None else field.enlarged(picture, larger, mirrored(scale.hole))


def _low(scale: Scale) -> np.ndarray:
    """The low frequencies of the guide in the hole; of the valid pixels alone outside."""
    blur = functools.partial(ndimage.gaussian_filter, sigma=(LOW, LOW, 0), truncate=2.5)
    valid = np.logical_not(scale.hole)[..., None].astype(np.float32)
    own = blur(scale.image * valid)
    own /= np.maximum(blur(valid), np.float32(1e-6))
    composite = np.where(scale.hole[..., None], scale.guide, scale.image)
    return np.where(scale.hole[..., None], blur(composite), own)


def texture(image: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """The mean slope of grey around each pixel, float32 (h, w), of valid pixels, interpolated where none are."""
    grey, total, count = image.mean(axis=2), *np.zeros((2, *hole.shape), np.float32)
    for later, earlier in ((np.s_[1:, :], np.s_[:-1, :]), (np.s_[:, 1:], np.s_[:, :-1])):
        valid = ~(hole[later] | hole[earlier])
        total[later] += np.abs(grey[later] - grey[earlier]) * valid
        count[later] += valid
    total, count = (ndimage.uniform_filter(each, AROUND, mode="constant") for each in (total, count))
    missing = count < 0.5 / AROUND**2
    if missing.all():
        return np.zeros_like(total)
    slopes = np.where(missing, 0, 2 * total / np.where(missing, 1, count))
    return interpolated(slopes[..., None], missing)[..., 0]


def _mean(array: np.ndarray) -> np.ndarray:
    return sums(array) / 4
