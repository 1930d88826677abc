"""The hot loops of the patch search, compiled by Numba.

A patch has PATCH x PATCH pixels and is named by its upper left corner. What is compared of a pixel are CHANNELS bytes,
so that a distance is a whole number and no order of summation can change a fill.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

PATCH = 7  # pixels, odd
CHANNELS = 8  # bytes of a pixel that are compared
LANES = 64  # bytes of a row of a patch that are read at once, PATCH * CHANNELS of them its own
SLOPE = np.float32(0.87)  # sqrt(3) / 2: a slope is half the difference of the neighbours, and stands for three colours
GUIDE = np.float32(0.5)  # of the guide's colours: half the weight is a quarter of the squares
BOUND = np.float32(0.15)  # of colour shifts
SPARE = 1  # pixels after each row, so that the last patch may be read so


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Numba's, without Python's lock; what it compiled is kept beside the file or in the user's cache, if it can be."""
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # there is no place to write: a process compiles its own
        return numba.njit(nogil=True)(function)


def _squared_differences(typing, pixels, y, x, v, u):
    """The sum over the patches at (y, x) and (v, u), for Numba's compiler; each of their rows is one vector of LLVM's.

    From a loop over pixels the compiler makes no vectors: it unrolls the short row, and works on single bytes.
    """
    signature = numba.int32(pixels, *[numba.intp] * 4)
    byte, short, whole = (ir.VectorType(ir.IntType(bits), LANES) for bits in (8, 16, 32))
    inside = ir.Constant(short, [-1 if lane < CHANNELS * PATCH else 0 for lane in range(LANES)])

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


_differences: Callable[..., int] = intrinsic(_squared_differences)


@compiled
def distance(pixels, texture, y, x, v, u):
    """Between the patches at (y, x) and at (v, u), int32.

    The sum of squared differences, and what it costs to fill a place that ought to be textured with smoother cloth:
    twice, for each pixel, the square of what the source lacks to half the target's texture.
    """
    lack = max(np.int32(texture[y, x]) // 2 - np.int32(texture[v, u]), 0)
    return _differences(pixels, y, x, v, u) + 2 * PATCH * PATCH * lack * lack


@compiled
def measure(pixels, texture, targets, source, found):
    """The distances of all targets to their sources, in place."""
    for k in range(len(targets)):
        y, x = targets[k, 0], targets[k, 1]
        found[y, x] = distance(pixels, texture, y, x, source[y, x, 0], source[y, x, 1])


@compiled
def sweep(pixels, texture, targets, nearest, source, found, draws, forward):
    """Propagation and random search for each target in turn, in place; `Field` says what the arrays are.

    Propagation tries what the two neighbours found that came before, moved by the one step to here. The search looks
    around the best so far, within a radius of the whole grid, then a quarter of it, and so on; draws, uint32
    (N, radii), say where: their upper 16 bits as a share of the rows within the radius, their lower 16 of the columns.
    A place that is no source stands for the nearest one.
    """
    rows, columns = nearest.shape[0], nearest.shape[1]
    step = 1 if forward else -1
    for turn in range(len(targets)):
        k = turn if forward else len(targets) - 1 - turn
        y, x = targets[k, 0], targets[k, 1]
        v, u, best = source[y, x, 0], source[y, x, 1], found[y, x]
        for down, right in ((step, 0), (0, step)):
            if 0 <= y - down < found.shape[0] and 0 <= x - right < found.shape[1]:
                row = min(max(source[y - down, x - right, 0] + down, 0), rows - 1)
                column = min(max(source[y - down, x - right, 1] + right, 0), columns - 1)
                a, b = nearest[row, column, 0], nearest[row, column, 1]
                if a != v or b != u:
                    new = distance(pixels, texture, y, x, a, b)
                    if new < best:
                        v, u, best = a, b, new
        radius = max(rows, columns)
        for draw in range(draws.shape[1]):
            down, right = draws[k, draw] >> 16, draws[k, draw] & 0xFFFF
            top, left = max(v - radius, 0), max(u - radius, 0)
            row = top + ((min(v + radius, rows - 1) - top + 1) * down >> 16)
            column = left + ((min(u + radius, columns - 1) - left + 1) * right >> 16)
            a, b = nearest[row, column, 0], nearest[row, column, 1]
            new = distance(pixels, texture, y, x, a, b)
            if new < best:
                v, u, best = a, b, new
            radius >>= 2
        source[y, x, 0], source[y, x, 1], found[y, x] = v, u, best


@compiled
def describe(picture, guide, where, pixels):
    """Writes what is compared of the pixels `where`, bool (h, w): colours, the slopes of grey, the guide's colours.

    Slopes are differences of the two neighbours; SLOPE makes them count about as much as those of all three colours.
    """
    height, width, _ = picture.shape
    for y in range(height):
        for x in range(width):
            if not where[y, x]:
                continue
            above, below = max(y - 1, 0), min(y + 1, height - 1)
            left, right = max(x - 1, 0), min(x + 1, width - 1)
            down = across = np.float32(0)
            for c in range(3):
                share = np.float32(0.5 if c == 1 else 0.25)
                down += share * (picture[below, x, c] - picture[above, x, c])
                across += share * (picture[y, right, c] - picture[y, left, c])
                pixels[y, x, c] = _byte(picture[y, x, c])
                pixels[y, x, 5 + c] = _byte(GUIDE * guide[y, x, c])
            pixels[y, x, 3] = _byte(np.float32(0.5) + SLOPE * down)
            pixels[y, x, 4] = _byte(np.float32(0.5) + SLOPE * across)


@compiled
def _byte(value):
    return np.uint8(min(max(value * np.float32(255) + np.float32(0.5), np.float32(0)), np.float32(255)))


@compiled
def nearest(usable, places):
    """The usable place closest to each, in `places`, int32 (rows, columns, 2); -1 where there is none.

    It is handed on from neighbour to neighbour: in time that grows with the pixels alone, and now and then not the
    closest.
    """
    rows, columns = usable.shape
    for y in range(rows):
        for x in range(columns):
            places[y, x, 0] = y if usable[y, x] else -1
            places[y, x, 1] = x if usable[y, x] else -1
    for turn in range(2):
        step = 1 if turn == 0 else -1
        for i in range(rows):
            y = i if turn == 0 else rows - 1 - i
            for way in (step, -step):
                for j in range(columns):
                    x = j if way == 1 else columns - 1 - j
                    if usable[y, x]:
                        continue
                    best = np.int64(2**62)
                    if places[y, x, 0] >= 0:
                        best = (places[y, x, 0] - y) ** 2 + (places[y, x, 1] - x) ** 2
                    for down, right in ((-step, -1), (-step, 0), (-step, 1), (0, -way)):
                        a, b = y + down, x + right
                        if 0 <= a < rows and 0 <= b < columns and places[a, b, 0] >= 0:
                            far = (places[a, b, 0] - y) ** 2 + (places[a, b, 1] - x) ** 2
                            if far < best:
                                best = far
                                places[y, x, 0], places[y, x, 1] = places[a, b, 0], places[a, b, 1]


@compiled
def _shift(picture, y, x, v, u):
    """The mean colour of the patch at (y, x) less that of the patch at (v, u), within BOUND (Darabi et al. 2012)."""
    red = green = blue = np.float32(0)
    for i in range(PATCH):
        for j in range(PATCH):
            red += picture[y + i, x + j, 0] - picture[v + i, u + j, 0]
            green += picture[y + i, x + j, 1] - picture[v + i, u + j, 1]
            blue += picture[y + i, x + j, 2] - picture[v + i, u + j, 2]
    share = np.float32(1 / PATCH**2)
    return (
        min(max(red * share, -BOUND), BOUND),
        min(max(green * share, -BOUND), BOUND),
        min(max(blue * share, -BOUND), BOUND),
    )


@compiled
def vote(picture, larger, unknown, times, targets, source, weights, total):
    """Adds the votes of all targets at the pixels of the hole to `total`, float32 (h, w, 4): weighted colours, weights.

    With times = 2 the votes are taken from, and given to, a picture of twice the scale: `larger`, in which `unknown` is
    the hole. With times = 1 that is the picture itself.
    """
    for k in range(len(targets)):
        y, x = targets[k, 0], targets[k, 1]
        v, u = source[y, x, 0], source[y, x, 1]
        red, green, blue = _shift(picture, y, x, v, u)
        for i in range(times * PATCH):
            for j in range(times * PATCH):
                row, column, a, b = times * y + i, times * x + j, times * v + i, times * u + j
                if unknown[row, column] and not unknown[a, b]:
                    total[row, column, 0] += weights[k] * (larger[a, b, 0] + red)
                    total[row, column, 1] += weights[k] * (larger[a, b, 1] + green)
                    total[row, column, 2] += weights[k] * (larger[a, b, 2] + blue)
                    total[row, column, 3] += weights[k]


@compiled
def choose(picture, unknown, targets, source, weights, heaviest, origin, filled):
    """The heaviest vote for each pixel of the hole, of near ties the one from the middle of a patch, in place.

    heaviest: float32 (h, w), at first 0. origin: int32 (h, w, 2), the pixels whose colours, with the shift of their
    patches, become those of `filled`, (h, w, 3).
    """
    for k in range(len(targets)):
        y, x = targets[k, 0], targets[k, 1]
        v, u = source[y, x, 0], source[y, x, 1]
        red, green, blue = _shift(picture, y, x, v, u)
        for i in range(PATCH):
            for j in range(PATCH):
                row, column = y + i, x + j
                away = (i - PATCH // 2) ** 2 + (j - PATCH // 2) ** 2
                weight = weights[k] * np.float32(1 - 1e-5 * away)
                if unknown[row, column] and weight > heaviest[row, column]:
                    heaviest[row, column] = weight
                    origin[row, column, 0], origin[row, column, 1] = v + i, u + j
                    filled[row, column, 0] = picture[v + i, u + j, 0] + red
                    filled[row, column, 1] = picture[v + i, u + j, 1] + green
                    filled[row, column, 2] = picture[v + i, u + j, 2] + blue


@compiled
def climb(picture, unknown, places, origin, steps, neighbours):
    """What each pixel of the hole differs from its neighbours by, summed over these, float32 (N, 3), in `steps`.

    The photo says it twice where both lie in the hole: at the origin of the one and at that of the other. The larger
    difference is taken, so that joins do not become smooth (Perez et al. 2003 mix gradients so). neighbours: float32
    (N,), how many there are.
    """
    height = len(unknown)
    for k in range(len(places)):
        y, x = places[k, 0], places[k, 1]
        v, u = origin[y, x, 0], origin[y, x, 1]
        for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            row, column = y + down, x + right
            if not (0 <= row < height and 0 <= column < origin.shape[1]):
                continue
            neighbours[k] += 1
            a, b, c, d = v, u, v + down, u + right
            largest = _known_difference(picture, unknown, a, b, c, d)
            if unknown[row, column]:
                e, f = origin[row, column, 0], origin[row, column, 1]
                other = _known_difference(picture, unknown, e - down, f - right, e, f)
                if other > largest:
                    a, b, c, d, largest = e - down, f - right, e, f, other
            if largest >= 0:
                for channel in range(3):
                    steps[k, channel] += picture[a, b, channel] - picture[c, d, channel]


@compiled
def _known_difference(picture, unknown, a, b, c, d):
    """The squared difference of two pixels, -1 where one of them lies in a hole or outside."""
    height, width = unknown.shape
    if not (0 <= a < height and 0 <= c < height and 0 <= b < width and 0 <= d < width):
        return np.float32(-1)
    if unknown[a, b] or unknown[c, d]:
        return np.float32(-1)
    total = np.float32(0)
    for channel in range(3):
        total += (picture[a, b, channel] - picture[c, d, channel]) ** 2
    return total


@compiled
def settle(filled, places, steps, neighbours, anchor, screen, turns):
    """Brings the pixels of the hole to those differences, and to the colours of `anchor` with the weight `screen`.

    Successive over-relaxation, from the first pixel to the last and back by turns, in place.
    """
    height, width, _ = filled.shape
    for turn in range(turns):
        for i in range(len(places)):
            k = i if turn % 2 == 0 else len(places) - 1 - i
            y, x = places[k, 0], places[k, 1]
            for c in range(3):
                total = steps[k, c] + screen * anchor[y, x, c]
                if y > 0:
                    total += filled[y - 1, x, c]
                if y < height - 1:
                    total += filled[y + 1, x, c]
                if x > 0:
                    total += filled[y, x - 1, c]
                if x < width - 1:
                    total += filled[y, x + 1, c]
                filled[y, x, c] += np.float32(1.5) * (total / (neighbours[k] + screen) - filled[y, x, c])
