"""PatchMatch hole filling (Barnes et al. 2009): what is missing is put together from whole patches of the same image.

A patch has PATCH x PATCH pixels and is named by its upper left corner, (row, column), in a grid of
(H - PATCH + 1, W - PATCH + 1). Those that touch the hole are the targets; all others, valid throughout, the sources.

From the smallest scale to the image itself, two steps take turns until the hole stands still (Wexler et al. 2007):
`sweep` looks for sources that are more like the targets, then the targets vote for the colours of the hole. Distances
are sums of squared differences of 8-bit colours, whole numbers, so that no order of summation can change a fill.
"""

from collections.abc import Callable

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic
from scipy import ndimage

from dpconv_jax.errors import UsageError

PATCH = 7  # pixels, odd
LANES = 32  # bytes of a row of a patch that are read at once, 3 * PATCH of them its own
SPARE = 4  # pixels after each row, so that the last patch may be read so
FEWEST = 256  # sources: a scale with fewer is only interpolated
STILL = 0.1  # mean change of the hole in a round, of 255, with which a scale is done
ROUNDS = 100  # at a scale, at most
FALL = 1.6  # a vote weighs less by this factor for each pixel that its patch lies deeper in the hole
# The percentile of the distances that is the variance of votes: wide at the smallest scale, for shapes, then narrow, so
# that textures are not averaged.
ALIKE = (90, 50)


def inpaint(image: np.ndarray, mask: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Fills the holes of an image (H, W, 3), float in [0, 1], with its own patches.

    mask: (H, W, 1), 1 = valid and 0 = hole. Returns the composite (H, W, 3) float32: valid pixels as they are. The
    pixels of the hole are not read; the same seed gives the same fill. Where an image has too few valid patches its
    fill is a smooth interpolation, and without any valid pixel mid-grey.
    Raises UsageError for other shapes.
    """
    image, mask = np.asarray(image, np.float32), np.asarray(mask)
    if image.ndim != 3 or image.shape[2] != 3 or mask.shape != (*image.shape[:2], 1):
        raise UsageError(f"image {image.shape} and mask {mask.shape}: they must be (H, W, 3) and (H, W, 1)")
    valid = mask > 0.5
    if not valid.any():
        return np.full_like(image, 0.5)
    rng = np.random.default_rng(seed)
    scales = [(np.where(valid, image, 0).clip(0, 1), ~valid[..., 0])]
    while scales[-1][1].any():
        scales.append(_halved(*scales[-1]))
    filled, field = scales.pop()[0], None
    for seen, hole in reversed(scales):
        filled, field = _fill(np.where(hole[..., None], _doubled(filled, hole.shape), seen), hole, field, rng)
    return np.where(valid, image, filled)


class Field:
    """The sources that the targets of a hole, bool (H, W), have found: int32 (row, column) for every patch.

    Attributes, on the grid of patches unless said otherwise:
      targets: int32 (N, 2), the places of the targets, row by row.
      nearest: int32 (..., 2), the source closest to each place; a source is its own.
      source: int32 (..., 2), what was found; at first the nearest.
      distance: int32, of the targets to what they found, in the picture last looked at.
      pixels: uint8 (H, W + SPARE, 3), that picture.
    """

    def __init__(self, hole: np.ndarray):
        self._hole, inner = hole, tuple(slice(PATCH // 2, side - PATCH // 2) for side in hole.shape)
        self._touches = ndimage.maximum_filter(hole, PATCH)[inner]
        self._depth = ndimage.distance_transform_edt(hole)[inner][self._touches]
        nearest = ndimage.distance_transform_edt(self._touches, return_distances=False, return_indices=True)
        self.targets = np.ascontiguousarray(np.argwhere(self._touches), np.int32)
        self.nearest = np.ascontiguousarray(np.moveaxis(nearest, 0, -1), np.int32)
        self.source = self.nearest.copy()
        self.distance = np.zeros(self._touches.shape, np.int32)
        self._forward = False

    def start_from(self, half: "Field") -> None:
        """Takes over what the field of half the scale has found."""
        parents = np.minimum(self.targets // 2, np.subtract(half.distance.shape, 1))
        found = 2 * half.source[tuple(parents.T)] + self.targets % 2
        found = np.minimum(found, np.subtract(self.distance.shape, 1))
        self.source[tuple(self.targets.T)] = self.nearest[tuple(found.T)]

    def look(self, picture: np.ndarray) -> None:
        """Measures the distances in a picture, float32 (H, W, 3) in [0, 1]."""
        bytes_ = np.rint(picture * np.float32(255)).astype(np.uint8)
        self.pixels = np.pad(bytes_, ((0, 0), (0, SPARE), (0, 0)))
        _measure(self.pixels, self.targets, self.source, self.distance)

    def sweep(self, rng: np.random.Generator) -> None:
        """Every target once, by turns in the order of `targets` and the other way round."""
        self._forward = not self._forward
        radii = max(self.distance.shape).bit_length()
        draws = rng.integers(2**32, size=(len(self.targets), radii), dtype=np.uint32)
        sweep(self.pixels, self.targets, self.nearest, self.source, self.distance, draws, self._forward)

    def vote(self, picture: np.ndarray, *, alike: float) -> np.ndarray:
        """The picture with, in the hole, the mean of the colours that the sources of all patches over a pixel have.

        A vote weighs more the closer its target is to valid pixels and the more like its source: as a normal density
        of the distance, whose variance is the percentile `alike` of all distances.
        """
        distance = self.distance[self._touches].astype(np.float64)
        variance = max(np.percentile(distance, alike), 1.0)
        weights = FALL**-self._depth * np.exp(-distance / (2 * variance))
        weights = np.maximum(weights, np.finfo(np.float64).tiny)
        votes, total = _votes(picture, self.targets, self.source, weights)
        return np.where(self._hole[..., None], (votes / np.maximum(total, weights.min())).astype(np.float32), picture)


def _fill(
    picture: np.ndarray, hole: np.ndarray, half: Field | None, rng: np.random.Generator
) -> tuple[np.ndarray, Field | None]:
    """Search and vote, from what the picture (h, w, 3) has in its hole (h, w) and the field of half the scale."""
    if min(hole.shape) < PATCH:
        return picture, None
    field = Field(hole)
    if field.distance.size - len(field.targets) < FEWEST:
        return picture, None
    alike = ALIKE[0 if half is None else 1]
    if half is not None:
        # Before anything is compared with the picture: that is smooth as yet, and so would be what is like it.
        field.start_from(half)
        field.look(picture)
        picture = field.vote(picture, alike=alike)
    for _ in range(ROUNDS):
        field.look(picture)
        field.sweep(rng)
        before, picture = picture, field.vote(picture, alike=alike)
        if 255 * np.abs(picture - before)[hole].mean() < STILL:
            break
    return picture, field


def _halved(image: np.ndarray, hole: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean of the valid pixels of each 2 x 2, (h, w, 3), and a hole where there is none."""
    valid = np.logical_not(hole)[..., None]
    count = _sums(valid.astype(np.float32))
    return _sums(image * valid) / np.maximum(count, 1), count[..., 0] == 0


def _sums(array: np.ndarray) -> np.ndarray:
    """Of each 2 x 2 of (h, w, C), of less at the lower and right edges where sides are odd."""
    rows = np.add.reduceat(array, np.arange(0, array.shape[0], 2), axis=0)
    return np.add.reduceat(rows, np.arange(0, array.shape[1], 2), axis=1)


def _doubled(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Bilinear x2 of (h, w, 3), cropped to a shape."""
    return ndimage.zoom(image, (2, 2, 1), order=1, mode="nearest", grid_mode=True)[: shape[0], : shape[1]]


@numba.njit(nogil=True)
def sweep(pixels, targets, nearest, source, distance, draws, forward):
    """Propagation and random search for each target in turn, in place; `Field` says what the arrays are.

    Propagation tries what the two neighbours found that came before, moved by the one step to here. The search looks
    around the best so far, within a radius of the whole grid, then half of it, and so on; draws, uint32 (N, radii), say
    where: their upper 16 bits as a share of the rows within the radius, their lower 16 of the columns. A place that is
    no source stands for the nearest one.
    """
    rows, columns = distance.shape
    step = 1 if forward else -1
    for turn in range(len(targets)):
        k = turn if forward else len(targets) - 1 - turn
        y, x = targets[k, 0], targets[k, 1]
        v, u, best = source[y, x, 0], source[y, x, 1], distance[y, x]
        for down, right in ((step, 0), (0, step)):
            if 0 <= y - down < rows and 0 <= x - right < columns:
                row = min(max(source[y - down, x - right, 0] + down, 0), rows - 1)
                column = min(max(source[y - down, x - right, 1] + right, 0), columns - 1)
                a, b = nearest[row, column, 0], nearest[row, column, 1]
                found = _distance(pixels, y, x, a, b)
                if found < best:
                    v, u, best = a, b, found
        radius = max(rows, columns)
        for halving in range(draws.shape[1]):
            down, right = draws[k, halving] >> 16, draws[k, halving] & 0xFFFF
            top, left = max(v - radius, 0), max(u - radius, 0)
            row = top + ((min(v + radius, rows - 1) - top + 1) * down >> 16)
            column = left + ((min(u + radius, columns - 1) - left + 1) * right >> 16)
            a, b = nearest[row, column, 0], nearest[row, column, 1]
            found = _distance(pixels, y, x, a, b)
            if found < best:
                v, u, best = a, b, found
            radius >>= 1
        source[y, x, 0], source[y, x, 1], distance[y, x] = v, u, best


@numba.njit(nogil=True)
def _measure(pixels, targets, source, distance):
    for k in range(len(targets)):
        y, x = targets[k, 0], targets[k, 1]
        distance[y, x] = _distance(pixels, y, x, source[y, x, 0], source[y, x, 1])


@numba.njit(nogil=True)
def _votes(picture, targets, source, weights):
    """Sums over the patches at each pixel, float64 (h, w, 3) of weighted colours and (h, w, 1) of weights."""
    height, width, _ = picture.shape
    votes, total = np.zeros((height, width, 3)), np.zeros((height, width, 1))
    for k in range(len(targets)):
        y, x = targets[k, 0], targets[k, 1]
        v, u = source[y, x, 0], source[y, x, 1]
        for i in range(PATCH):
            for j in range(PATCH):
                total[y + i, x + j, 0] += weights[k]
                for c in range(3):
                    votes[y + i, x + j, c] += weights[k] * picture[v + i, u + j, c]
    return votes, total


def _squared_differences(typing, pixels, y, x, v, u):
    """The sum over the patches at (y, x) and (v, u), for Numba's compiler; each of their rows is one vector of LLVM's.

    From a loop over pixels the compiler makes no vectors: it unrolls the short row, and works on single bytes.
    """
    signature = numba.int32(pixels, *[numba.intp] * 4)
    byte, short, whole = (ir.VectorType(ir.IntType(bits), LANES) for bits in (8, 16, 32))
    inside = ir.Constant(short, [-1 if lane < 3 * PATCH else 0 for lane in range(LANES)])

    def build(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        down, across, _ = cgutils.unpack_tuple(builder, array.strides)
        corners = [
            builder.gep(array.data, [builder.add(builder.mul(row, down), builder.mul(column, across))])
            for row, column in (arguments[1:3], arguments[3:])
        ]
        total = ir.Constant(whole, [0] * LANES)
        for i in range(PATCH):
            below = builder.mul(down, ir.Constant(down.type, i))
            places = [builder.bitcast(builder.gep(corner, [below]), byte.as_pointer()) for corner in corners]
            rows = [builder.zext(builder.load(place, align=1), short) for place in places]
            difference = builder.sext(builder.and_(builder.sub(*rows), inside), whole)
            total = builder.add(total, builder.mul(difference, difference))
        kind = ir.FunctionType(ir.IntType(32), [whole])
        add_lanes = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.add.v{LANES}i32")
        return builder.call(add_lanes, [total])

    return signature, build


_distance: Callable[..., int] = intrinsic(_squared_differences)
