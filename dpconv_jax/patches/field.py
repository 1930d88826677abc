"""The sources that the patches over a hole have found at one scale, and what these make of the hole."""

import numpy as np
from scipy import ndimage

from dpconv_jax.patches import kernels
from dpconv_jax.patches.kernels import CHANNELS, PATCH, SPARE

FALL = 2.2  # a vote weighs less by this factor for each pixel that its patch lies deeper in the hole
ALIKE = 80  # percentile of the distances that is the variance of votes
TEXTURE = 8.0  # how much the mean slope of the cloth counts


class Field:
    """Of a hole (h, w) in a picture that is searched together with its mirror image, (h, 2w), to its right.

    Patches are named by their upper left corners. Those that touch the hole are the targets; all others, valid
    throughout, the sources. The mirror image has sources only.

    hole, texture, guide: (h, w), (h, w) float32, (h, w, 3) float32: what sources are to be like beside the picture.

    Attributes, on the grid of patches (rows, columns), whose columns are those of the left image alone:
      targets: int32 (N, 2), the places of the targets, row by row.
      nearest: int32 (rows, columns of both images, 2), the source closest to each place; a source is its own.
      source: int32 (rows, columns, 2), what was found; at first the nearest.
      found: int32 (rows, columns), the distances of the targets to that, in the picture last looked at.
      pixels: uint8 (h, 2w + SPARE, CHANNELS), what is compared of that picture.
      depth: float (N,), how many pixels the middle of each target lies from the closest valid one.
    """

    def __init__(self, hole: np.ndarray, *, texture: np.ndarray, guide: np.ndarray):
        self._hole, self.unknown = hole, mirrored(hole)
        height, width = hole.shape
        rows, columns = height - PATCH + 1, width - PATCH + 1
        middle = (slice(PATCH // 2, PATCH // 2 + rows), slice(PATCH // 2, PATCH // 2 + columns))
        touches = ndimage.maximum_filter(hole, PATCH)[middle]
        usable = np.zeros((rows, width + columns), bool)  # but for the patches over both images
        usable[:, :columns], usable[:, width:] = ~touches, ~touches[:, ::-1]
        self.sources = int(np.count_nonzero(~touches))
        self.targets = np.ascontiguousarray(np.argwhere(touches), np.int32)
        self._at = tuple(self.targets.T)
        self.nearest = np.empty((*usable.shape, 2), np.int32)
        kernels.nearest(usable, self.nearest)
        closest = np.empty((height, width, 2), np.int32)
        kernels.nearest(~hole, closest)
        centres = self.targets + PATCH // 2
        self.depth = np.linalg.norm(closest[tuple(centres.T)] - centres, axis=1)
        self.source = np.ascontiguousarray(self.nearest[:, :columns])
        self.found = np.zeros((rows, columns), np.int32)
        mean = ndimage.uniform_filter(texture, PATCH)[middle] * (255 * TEXTURE)
        self._texture = np.zeros(usable.shape, np.uint16)
        self._texture[:, :columns], self._texture[:, width:] = np.rint(mean), np.rint(mean[:, ::-1])
        self._guide = mirrored(guide)
        self.pixels = np.zeros((height, 2 * width + SPARE, CHANNELS), np.uint8)
        self._looked = self._forward = False

    def scatter(self, rng: np.random.Generator) -> None:
        """Random sources for all targets."""
        rows, columns = (rng.integers(side, size=len(self.targets)) for side in self.nearest.shape[:2])
        self.source[self._at] = self.nearest[rows, columns]

    def start_from(self, half: "Field") -> None:
        """Takes over what the field of half the scale has found."""
        parents = np.minimum(self.targets // 2, np.subtract(half.found.shape, 1))
        found = 2 * half.source[tuple(parents.T)] + self.targets % 2
        self.source[self._at] = self.nearest[tuple(np.minimum(found, np.subtract(self.nearest.shape[:2], 1)).T)]

    def take(self, other: "Field") -> None:
        """Takes over what a field of the same hole has found."""
        self.source[...] = other.source

    def look(self, picture: np.ndarray) -> None:
        """Measures the distances in a picture with its mirror image; only its hole may have changed since the last."""
        if self._looked:
            moving = np.zeros_like(self.unknown)
            moving[:, : self._hole.shape[1]] = ndimage.maximum_filter(self._hole, 3)  # the slopes beside it, too
        else:
            moving = np.ones_like(self.unknown)
        self._looked = True
        kernels.describe(picture, self._guide, moving, self.pixels)
        kernels.measure(self.pixels, self._texture, self.targets, self.source, self.found)

    def sweep(self, rng: np.random.Generator) -> None:
        """Every target once, by turns in the order of `targets` and the other way round."""
        self._forward = not self._forward
        radii = (max(self.nearest.shape).bit_length() + 1) // 2
        draws = rng.integers(2**32, size=(len(self.targets), radii), dtype=np.uint32)
        arrays = (self.pixels, self._texture, self.targets, self.nearest, self.source, self.found)
        kernels.sweep(*arrays, draws, self._forward)

    def distances(self) -> np.ndarray:
        """Of the targets to what was found for them, int32 (N,), in the picture last looked at."""
        return self.found[self._at]

    def mean(self, picture: np.ndarray) -> np.ndarray:
        """The picture with, in its hole, the mean of the votes of all patches over a pixel."""
        return self._voted(picture, picture, self.unknown, times=1)

    def enlarged(self, picture: np.ndarray, larger: np.ndarray, unknown: np.ndarray) -> np.ndarray:
        """`larger`, of twice the scale, with the votes from its own pixels, 2 x 2 for each of a patch (Wexler 2007).

        Where there is no vote it stays as it is. unknown: its hole.
        """
        return self._voted(picture, larger, unknown, times=2)

    def best(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The image (h, w, 3) with the heaviest votes in its hole, and the pixels they are, int32 (h, w, 2)."""
        width = self._hole.shape[1]
        heaviest, origin = np.zeros(self._hole.shape, np.float32), np.zeros((*self._hole.shape, 2), np.int32)
        filled = picture[:, :width].copy()
        arrays = (self.targets, self.source, self._weights(), heaviest, origin, filled)
        kernels.choose(picture, self.unknown, *arrays)
        return filled.clip(0, 1), origin

    def _voted(self, picture: np.ndarray, larger: np.ndarray, unknown: np.ndarray, *, times: int) -> np.ndarray:
        total = np.zeros((unknown.shape[0], unknown.shape[1] // 2, 4), np.float32)
        kernels.vote(picture, larger, unknown, times, self.targets, self.source, self._weights(), total)
        voted = larger.copy()
        places = np.nonzero(unknown[:, : unknown.shape[1] // 2])
        votes = total[places]
        none = votes[:, 3:] == 0
        voted[places] = np.where(none, voted[places], (votes[:, :3] / np.where(none, 1, votes[:, 3:])).clip(0, 1))
        return voted

    def _weights(self) -> np.ndarray:
        """A vote weighs more the closer its target is to valid pixels and the more like its source."""
        distances = self.distances().astype(np.float64)
        variance = max(np.percentile(distances, ALIKE), 1.0)
        weights = FALL**-self.depth * np.exp(-distances / (2 * variance))
        return np.maximum(weights, 1e-30).astype(np.float32)


def mirrored(image: np.ndarray) -> np.ndarray:
    """With its mirror image to its right."""
    return np.concatenate([image, image[:, ::-1]], axis=1)
