"""Encoded bytes to RGB pictures, and pictures to square arrays."""

import io

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")

Box = tuple[float, float, float, float]  # left, top, right, bottom in shares of a picture's sides
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)


class BadImageError(ValueError):
    """These bytes are no picture that can be used; the message says why, on one line."""


def decode(data: bytes, *, max_pixels: int, min_side: int | None = None) -> Image.Image:
    """The picture in `data` as RGB, upright, with white where it is transparent.

    max_pixels: a larger picture is refused from its header, before anything is decoded.
    min_side: a JPEG may come out at a half, a quarter or an eighth of its size, no side below this; None: as stored.
    Raises BadImageError for whatever is truncated, too large or not a JPEG, PNG, WebP or BMP.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        width, height = image.size
        if width * height > max_pixels:
            raise BadImageError(f"{width} x {height} pixels, more than {max_pixels}")
        if min_side:
            image.draft(image.mode, (min_side, min_side))
        image.load()
        ImageOps.exif_transpose(image, in_place=True)  # else it copies what stands upright
        return _rgb(image)
    except BadImageError:
        raise
    except UnidentifiedImageError as error:
        raise BadImageError(f"not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]}") from error
    except Exception as error:  # decoders raise anything at all on damaged bytes: OSError, SyntaxError, zlib.error, ...
        raise BadImageError(" ".join(str(error).split()) or type(error).__name__) from error


def header(data: bytes) -> tuple[tuple[int, int], int]:
    """((width, height) as stored, EXIF's orientation, 1 to 8) of a picture that `decode` takes."""
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    return image.size, orientation if orientation in range(1, 9) else 1


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # Pillow would clip 16 bits to 8 instead of scaling them
        image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == "RGB" else image.convert("RGB")


def square_box(width: int, height: int, *, place: float, across: float = 0.5, share: float = 1.0) -> Box:
    """A square of a picture, its side `share` of the shorter side.

    place, across: in [0, 1], from the left or top end of the longer and of the shorter side to the other; 0.5 is the
    centre.
    """
    side = round(share * min(width, height))
    along = (place, across) if width > height else (across, place)
    left, top = (round(way * (length - side)) for way, length in zip(along, (width, height), strict=True))
    return left / width, top / height, (left + side) / width, (top + side) / height


def resize(image: Image.Image, *, size: int, box: Box, flip: bool, resample: Image.Resampling) -> np.ndarray:
    """The part `box` (shares of the sides) of a picture as uint8 (size, size, 3), or (size, size) of an L picture.

    Pillow widens its filter where it reduces, so every filter but NEAREST is free of aliasing.
    """
    width, height = image.size
    left, top, right, bottom = box
    pixels = (left * width, top * height, min(right * width, width), min(bottom * height, height))
    image = image.resize((size, size), resample, box=pixels)
    return np.asarray(ImageOps.mirror(image) if flip else image)
