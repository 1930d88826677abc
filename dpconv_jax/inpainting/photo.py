"""A photo on disk: read as the network sees it, written with only its holes changed."""

import io
import os
import pathlib
import re
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from PIL import (
    BmpImagePlugin,
    ExifTags,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from dpconv_jax.data.decode import BadImageError
from dpconv_jax.errors import UsageError
from dpconv_jax.files import write_whole


class _Tiff(TiffImagePlugin.TiffImageFile):
    """Pillow's, without the check of its size by the process's limit."""

    def load_prepare(self) -> None:
        self.im = Image.core.new(self.mode, self._tile_size)
        super().load_prepare()


_KINDS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
SUFFIXES = tuple(_KINDS)  # of what is read and written

# Image.open would warn of large pictures or refuse them by a limit of the whole process; here each call has its own.
# A phone's MPO starts as a JPEG and is read as one, which is its first picture.
_READERS = (
    (re.compile(rb"\xff\xd8\xff"), JpegImagePlugin.JpegImageFile),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), PngImagePlugin.PngImageFile),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), WebPImagePlugin.WebPImageFile),
    (re.compile(rb"BM"), BmpImagePlugin.BmpImageFile),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), _Tiff),
)
_MODES = {  # of 8 bits a channel, or less
    "1": "black and white",
    "L": "greyscale",
    "LA": "greyscale with alpha",
    "P": "palette",
    "PA": "palette with alpha",
    "RGB": "RGB",
    "RGBA": "RGBA",
    "CMYK": "CMYK",
    "YCbCr": "YCbCr",
    "LAB": "Lab",
    "HSV": "HSV",
}
_METADATA = {"icc_profile": "ICC profile", "exif": "EXIF", "xmp": "XMP"}  # names to Image.save and to people
_JPEG_BLOCK = 65_000  # bytes: a JPEG's EXIF and XMP are one marker each, of 64 KiB with its header
_LOSSLESS_TIFF = ("raw", "packbits", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate")  # that hold every mode
_LUMA = np.array([[0.299], [0.587], [0.114]], np.float32)  # ITU-R 601, as Pillow's

_XMP_TAG = 700
_IFDS = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
_TELLING = (  # the tags of a TIFF that tell of the photo; the others tell where its pixels lie
    *(ExifTags.Base.ImageDescription, ExifTags.Base.Make, ExifTags.Base.Model, ExifTags.Base.Orientation),
    *(ExifTags.Base.Software, ExifTags.Base.DateTime, ExifTags.Base.Artist, ExifTags.Base.Copyright),
    *_IFDS,
)


@dataclass(frozen=True, kw_only=True)
class Photo:
    """A photo and all that `write` needs to write it again."""

    rgb: np.ndarray  # uint8 (H, W, 3), read-only: upright, white where transparent; what a viewer shows
    notes: tuple[str, ...]  # the conversions that reading had to make, each a short phrase: "CMYK became RGB"

    stored: np.ndarray  # uint8 (h, w), (h, w, 2), (h, w, 3) or (h, w, 4), or uint16 (h, w): not turned, with its alpha
    orientation: int  # EXIF's, 1 to 8, which turns `stored` upright
    kind: str  # one of _KINDS' values
    encoding: dict[str, Any]  # options of Image.save that repeat its compression in a file of the same kind
    metadata: dict[str, bytes]  # of _METADATA, those it has
    dpi: tuple[float, float] | None


def read(path: str | os.PathLike[str], *, max_pixels: int) -> Photo:
    """The JPEG (or a phone's MPO), PNG, WebP, BMP or TIFF at `path`, whatever its suffix.

    max_pixels: a larger picture is refused from its header, before anything is decoded.
    Raises BadImageError, whose one line says why, for whatever cannot be opened, is truncated, too large, animated, has
    several pages or is of another format, and for grey levels of 32 bits or floats.
    """
    try:
        with open(path, "rb") as stream:
            return _read(stream, max_pixels)
    except BadImageError:
        raise
    except Exception as error:  # decoders raise anything at all on damaged bytes: OSError, SyntaxError, zlib.error, ...
        raise BadImageError(_reason(error)) from error


def write(photo: Photo, path: str | os.PathLike[str], fill: np.ndarray, weight: np.ndarray) -> tuple[str, ...]:
    """Writes the photo with `fill` in its holes, in the format of the path's suffix; an older file is replaced at once.

    fill: float32 (H, W, 3) in [0, 1]; weight: float32 (H, W) in [0, 1]; both upright, as photo.rgb. Stored values
    become stored * (1 - weight) + fill * weight: where the weight is 0 they stay to the bit, as far as the format is
    lossless. Alpha stays everywhere. Returns notes on what the format could not hold, like Photo.notes.
    Raises UsageError for an unknown suffix, BadImageError for a photo that the format cannot hold, and OSError where
    the file cannot be written; whatever lay at `path` then stays.
    """
    path = pathlib.Path(path)
    kind = _KINDS.get(path.suffix.lower())
    if kind is None:
        raise UsageError(f"photo {str(path)!r}: suffix {path.suffix!r} is none of {', '.join(SUFFIXES)}")
    stored = photo.stored.copy()
    upright = _upright(stored, photo.orientation)
    _blend(upright, fill, weight)
    options, option_notes = _options(photo, kind)
    # Without EXIF, as in a BMP, a file has nowhere to say how it is turned.
    pixels, pixel_notes = _fitted(stored if "exif" in options else upright, kind)
    try:
        content = _encoded(pixels, kind, options)
    except BadImageError:
        if not options.get("progressive"):
            raise
        # Pillow keeps a whole progressive file in two bytes a pixel, which a grainy photo exceeds.
        content = _encoded(pixels, kind, options | {"progressive": False})
        option_notes.append("progressive became sequential")
    write_whole(path, content)
    return (*pixel_notes, *option_notes)


def _encoded(pixels: np.ndarray, kind: str, options: dict[str, Any]) -> bytes:
    data = io.BytesIO()
    try:
        Image.fromarray(pixels).save(data, kind, **options)
    except Exception as error:  # encoders refuse sizes by OSError, ValueError, struct.error, ...
        raise BadImageError(f"cannot be written as {kind}: {_reason(error)}") from error
    return data.getvalue()


def _reason(error: Exception) -> str:
    said = (isinstance(error, OSError) and error.strerror) or str(error)
    return " ".join(said.split()) or type(error).__name__


# ---- reading ----


def _read(stream: BinaryIO, max_pixels: int) -> Photo:
    image = _header(stream)
    width, height = image.size
    if width * height > max_pixels:
        raise BadImageError(f"{width} x {height} pixels, more than {max_pixels}")
    if getattr(image, "is_animated", False):
        raise BadImageError("animated, or of several pages")
    kind, encoding = str(image.format), _encoding(image, stream)
    rawmode = _rawmode(image)
    image.load()
    plain, notes = _plain(_true_levels(image, rawmode), rawmode)  # `image` keeps what the file says beside its pixels
    if "mp" in image.info:
        notes.append("only the first of its pictures was read")

    metadata = {name: image.info[name] for name in ("icc_profile", "xmp") if image.info.get(name)}
    exif = image.getexif()  # of a TIFF, which Pillow has turned upright, without its orientation
    if exif:
        content = image.info.get("exif") or _telling(exif).tobytes()
        metadata["exif"] = _without_thumbnail(b"Exif\0\0" + content.removeprefix(b"Exif\0\0"))
    profile = metadata.get("icc_profile")
    if profile and plain.mode != image.mode and not _profile_fits(profile, grey=plain.mode in ("L", "LA")):
        del metadata["icc_profile"]
        notes.append(f"the ICC profile of {_MODES[image.mode]} was dropped")
    dpi = tuple(map(float, image.info.get("dpi", ())))
    orientation = exif.get(ExifTags.Base.Orientation, 1)
    orientation = orientation if orientation in range(1, 9) else 1

    stored = np.asarray(plain)
    if stored.dtype != np.uint8:
        stored = stored.astype(np.uint16, copy=False)  # in the machine's order of bytes
    return Photo(
        rgb=_shown(_upright(stored, orientation)),
        notes=tuple(notes),
        stored=stored,
        orientation=orientation,
        kind=kind,
        encoding=encoding,
        metadata=metadata,
        dpi=(dpi[0], dpi[1]) if len(dpi) == 2 and min(dpi) > 1 else None,  # Pillow gives a TIFF without one a 1
    )


def _header(stream: BinaryIO) -> ImageFile.ImageFile:
    start = stream.read(12)
    stream.seek(0)
    for magic, reader in _READERS:
        if magic.match(start):
            return reader(stream)
    raise BadImageError("not a JPEG, PNG, WebP, BMP or TIFF")


def _encoding(image: ImageFile.ImageFile, stream: BinaryIO) -> dict[str, Any]:
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        return {
            "qtables": [table for _, table in sorted(image.quantization.items())],
            "subsampling": JpegImagePlugin.get_sampling(image),
            "progressive": "progressive" in image.info,
        }
    if isinstance(image, WebPImagePlugin.WebPImageFile):
        return {"lossless": b"VP8L" in _chunks(stream)}
    return {"compression": image.info["compression"]} if isinstance(image, TiffImagePlugin.TiffImageFile) else {}


def _chunks(stream: BinaryIO) -> set[bytes]:
    """The names of the chunks of a RIFF file."""
    names = set()
    stream.seek(12)
    while len(head := stream.read(8)) == 8:
        names.add(head[:4])
        size = int.from_bytes(head[4:], "little")
        stream.seek(size + size % 2, os.SEEK_CUR)
    return names


def _rawmode(image: ImageFile.ImageFile) -> str:
    """How the pixels lie in the file, in Pillow's words, such as "RGB;16B"; "" where it does not say."""
    arguments = image.tile[0].args if image.tile else ""
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _true_levels(image: Image.Image, rawmode: str) -> Image.Image:
    """The loaded image with white the largest value. Raises BadImageError where Pillow misread a TIFF's samples."""
    tags = getattr(image, "tag_v2", {})
    bits, grey = max(tags.get(TiffImagePlugin.BITSPERSAMPLE, (0,))), image.mode.startswith("I;16")
    if (grey and 0 < bits != 16) or (image.mode in _MODES and bits > 8 and not _deep(rawmode)):  # 12 bits; bare planes
        raise BadImageError(f"a TIFF of {bits} bits a channel in this layout is not supported")
    if grey and tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0:  # white is 0; Pillow turns 8 bits only
        return Image.fromarray(65535 - np.asarray(image).astype(np.uint16))
    return image


def _deep(rawmode: str) -> bool:
    return bool(re.search(";16[BLN]?$", rawmode)) and rawmode != "BGR;16"  # which is a BMP's 16 bits a pixel


def _plain(image: Image.Image, rawmode: str) -> tuple[Image.Image, list[str]]:
    """The loaded image as one of L, LA, RGB, RGBA or a 16-bit grey, and notes on what that took."""
    deep = _deep(rawmode)
    if deep and "transparency" in image.info:
        raise BadImageError("16 bits with a transparent colour are not supported")
    if image.mode.startswith("I;16"):
        return image, []
    if image.mode not in _MODES:
        raise BadImageError(f"mode {image.mode} is not supported")
    notes = ["16 bits a channel became 8"] if deep else []
    if rawmode == "LA;16B":  # which Pillow expands to RGBA
        image = image.convert("LA")
    mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
    mode += "A" if image.has_transparency_data else ""
    if mode != image.mode:
        notes.append(f"{_MODES[image.mode]} became {_MODES[mode]}")
        image = image.convert(mode)
    return image, notes


def _telling(exif: Image.Exif) -> Image.Exif:
    told = Image.Exif()
    for tag in filter(exif.__contains__, _TELLING):
        told[tag] = exif.get_ifd(tag) if tag in _IFDS else exif[tag]
        if tag in _IFDS:
            told[tag].pop(ExifTags.IFD.Interop, None)  # an offset into the old file
    return told


def _without_thumbnail(exif: bytes) -> bytes:
    """EXIF after "Exif\\0\\0" without its second directory, whose thumbnail still shows what was in the holes."""
    start = 6
    order = "little" if exif[start : start + 2] == b"II" else "big"
    first = start + int.from_bytes(exif[start + 4 : start + 8], order)
    link = first + 2 + 12 * int.from_bytes(exif[first : first + 2], order)
    return exif[:link] + bytes(4) + exif[link + 4 :]


def _profile_fits(profile: bytes, *, grey: bool) -> bool:
    return profile[16:20] == (b"GRAY" if grey else b"RGB ")  # the header's colour space


# ---- pixels ----


def _upright(stored: np.ndarray, orientation: int) -> np.ndarray:
    """A view of (h, w) or (h, w, C) turned as EXIF says; what is written to it lands in `stored`."""
    upright = stored[
        :: -1 if orientation in (3, 4, 6, 7) else 1,
        :: -1 if orientation in (2, 3, 7, 8) else 1,
    ]
    return upright.swapaxes(0, 1) if orientation >= 5 else upright


def _blend(pixels: np.ndarray, fill: np.ndarray, weight: np.ndarray) -> None:
    """In place, by rows: floats of a whole photo would be hundreds of megabytes."""
    colours = pixels[..., None] if pixels.ndim == 2 else pixels[..., : 1 if pixels.shape[2] == 2 else 3]
    white = np.iinfo(pixels.dtype).max
    for row in np.flatnonzero(weight.any(axis=1)):
        hole = np.flatnonzero(weight[row])
        share = weight[row, hole, None]
        new = fill[row, hole] @ _LUMA if colours.shape[2] == 1 else fill[row, hole]
        colours[row, hole] = np.rint(colours[row, hole] * (1 - share) + white * new * share)


def _shown(pixels: np.ndarray) -> np.ndarray:
    """What a viewer shows of upright pixels: uint8 (H, W, 3), read-only; a view where it can be."""
    shown = _over_white(_in_8_bits(pixels))
    return np.broadcast_to(shown[..., None] if shown.ndim == 2 else shown, (*shown.shape[:2], 3))


def _in_8_bits(pixels: np.ndarray) -> np.ndarray:
    return (pixels // 257).astype(np.uint8) if pixels.dtype == np.uint16 else pixels


def _over_white(pixels: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 2) as (H, W), (H, W, 4) as (H, W, 3), others as they are."""
    if pixels.ndim == 2 or pixels.shape[2] == 3:
        return pixels
    image = Image.fromarray(pixels)
    canvas = Image.new(image.mode.removesuffix("A"), image.size, "white")
    canvas.paste(image, mask=image)
    return np.asarray(canvas)


# ---- writing ----


def _fitted(pixels: np.ndarray, kind: str) -> tuple[np.ndarray, list[str]]:
    """Pixels that a file of this kind can hold, and notes on what that took."""
    notes = []
    if pixels.dtype == np.uint16 and kind not in ("PNG", "TIFF"):
        pixels = _in_8_bits(pixels)
        notes.append("16 bits became 8")
    if kind in ("JPEG", "BMP") and pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        pixels = _over_white(pixels)
        notes.append("transparency became white")
    if kind == "WEBP" and (pixels.ndim == 2 or pixels.shape[2] == 2):
        mode = Image.fromarray(pixels).mode
        pixels = pixels[..., [0, 0, 0, 1]] if mode == "LA" else np.repeat(pixels[..., None], 3, axis=2)
        notes.append(f"{_MODES[mode]} became {_MODES[mode.replace('L', 'RGB')]}")
    return pixels, notes


def _options(photo: Photo, kind: str) -> tuple[dict[str, Any], list[str]]:
    """Options of Image.save, and notes on what the format cannot hold."""
    options: dict[str, Any] = dict(photo.encoding) if kind == photo.kind else {}
    notes = []
    if kind == "JPEG" and not options:
        options = {"quality": 95}
    elif kind == "WEBP":
        options = {"quality": 95, "exact": True, "lossless": options.get("lossless", photo.kind != "JPEG")}

    metadata = dict(photo.metadata)
    for name, content in photo.metadata.items():
        if (
            kind == "BMP"
            or (kind == "JPEG" and name != "icc_profile" and len(content) > _JPEG_BLOCK)
            or (kind == "WEBP" and name == "icc_profile" and content[16:20] == b"GRAY")
        ):
            del metadata[name]
            notes.append(f"{_METADATA[name]} was dropped")
    if kind == "PNG" and "xmp" in metadata:
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", metadata.pop("xmp").decode(errors="replace"))
    if kind == "TIFF":
        exif = Image.Exif()
        exif.load(metadata.get("exif", b""))
        tags = _telling(exif)
        if "xmp" in metadata:
            tags[_XMP_TAG] = metadata.pop("xmp")
        metadata["exif"] = tags.tobytes()
        # Pillow writes directories within EXIF into uncompressed files only.
        compression = options.get("compression", "raw")
        if compression not in _LOSSLESS_TIFF or (compression != "raw" and any(tag in tags for tag in _IFDS)):
            options["compression"] = "raw"
            notes.append(f"{compression} compression became none")
    if photo.dpi:
        options["dpi"] = photo.dpi
    return options | metadata, notes
