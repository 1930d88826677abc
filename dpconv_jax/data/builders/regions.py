"""Where the clothes are: polygons, boxes, key points or a plain backdrop, made a small bitmap.

A region is bool (256, 256), True on the clothing. It spans the whole picture whatever its shape: rows and columns are
shares of the picture's sides. Points are (x, y) in pixels of the picture, `size` is its (width, height), both of the
pixels as they are stored, before EXIF turns them. What lies outside the picture is cut off.
"""

import io
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike
from PIL import ExifTags, Image, ImageDraw, ImageOps
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

SIDE = 256
REACH = 0.05  # of the hull's diagonal: key points lie on seams and hems, cloth goes a little beyond
LEVELS = 20  # of 256: less of a difference is shading of the backdrop
PLAIN = 0.5  # least share of the picture's edge that a plain backdrop fills
LEAST = 0.02  # share of the picture below which a component is no garment


def of_polygons(polygons: Iterable[ArrayLike], *, size: tuple[int, int]) -> np.ndarray:
    """The union of polygons; those without area are passed over. Raises ValueError for a point that is not finite."""
    canvas = Image.new("1", (SIDE, SIDE))
    pen = ImageDraw.Draw(canvas)
    for polygon in polygons:
        corners = _scaled(polygon, size)
        x, y = corners.T
        if len(corners) > 2 and abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) > 0:
            pen.polygon(corners.ravel().tolist(), fill=1)
    return np.asarray(canvas)


def of_box(x0: float, y0: float, x1: float, y1: float, *, size: tuple[int, int]) -> np.ndarray:
    """A box. Raises ValueError for a corner that is not finite."""
    return of_polygons([[(x0, y0), (x1, y0), (x1, y1), (x0, y1)]], size=size)


def of_key_points(points: ArrayLike, *, size: tuple[int, int]) -> np.ndarray:
    """The convex hull of points, dilated; empty where there are none. Raises ValueError for one that is not finite."""
    spots = _scaled(points, size).clip(0, SIDE - 1)  # beyond the picture lies no cloth to cover
    if not len(spots):
        return np.zeros((SIDE, SIDE), bool)
    try:
        hull = spots[ConvexHull(spots).vertices]
    except QhullError:  # of a few points or of a line
        hull = spots[np.lexsort(spots.T)]
    canvas = Image.new("1", (SIDE, SIDE))
    pen = ImageDraw.Draw(canvas)
    pen.line([*hull.ravel().tolist(), *hull[0].tolist()], fill=1)
    if len(hull) > 2:
        pen.polygon(hull.ravel().tolist(), fill=1)
    reach = REACH * float(np.hypot(*np.ptp(spots, axis=0)))
    return ndimage.distance_transform_edt(~np.asarray(canvas)) <= max(1.0, reach)


def central() -> np.ndarray:
    """Where clothes are in most photos of clothes: an ellipse of 0.6 of the width and 0.8 of the height."""
    rows, columns = np.ogrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    return (columns / 0.6) ** 2 + (rows / 0.8) ** 2 <= 1


def off_backdrop(pixels: np.ndarray) -> np.ndarray:
    """The largest component that differs from a plain backdrop; `central` where the backdrop is not plain.

    pixels: uint8 (H, W, 3). The backdrop's colour is the median of the picture's outermost pixels.
    """
    small = np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BOX)).astype(np.int16)
    edge = np.concatenate([small[:2].reshape(-1, 3), small[:, :2].reshape(-1, 3), small[:, -2:].reshape(-1, 3)])
    backdrop = np.median(edge, axis=0)  # without the lower edge, where people are often cut off
    if np.mean(np.abs(edge - backdrop).max(axis=-1) <= LEVELS) < PLAIN:
        return central()
    apart = ndimage.binary_opening(np.abs(small - backdrop).max(axis=-1) > LEVELS, iterations=2)
    parts, _ = ndimage.label(apart)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    if sizes.max() < LEAST * parts.size:
        return central()
    return ndimage.binary_fill_holes(parts == sizes.argmax())


def encoded(region: np.ndarray, *, orientation: int) -> bytes:
    """A region as a PNG of one bit a pixel, white on the clothing, turned upright from an EXIF orientation (1 to 8)."""
    image = Image.fromarray(region)
    image.getexif()[ExifTags.Base.Orientation] = orientation
    data = io.BytesIO()
    ImageOps.exif_transpose(image).save(data, "PNG", optimize=True)
    return data.getvalue()


def _scaled(points: ArrayLike, size: tuple[int, int]) -> np.ndarray:
    """Points in pixels of the region, float (n, 2)."""
    scaled = np.asarray(points, float).reshape(-1, 2) * (SIDE / np.asarray(size, float))
    if not np.isfinite(scaled).all():
        raise ValueError("a point that is not finite")
    return scaled.clip(-SIDE, 2 * SIDE)  # Pillow would draw far points for minutes, or nothing


UNKNOWN = encoded(np.zeros((SIDE, SIDE), bool), orientation=1)
