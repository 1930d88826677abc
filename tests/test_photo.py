"""Photos on disk: outside the holes a written photo is the one that was read, in its pixels and in all around them."""

import io
import pathlib
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import tifffile  # of scikit-image
from PIL import ExifTags, Image, ImageCms, ImageFile, ImageOps, JpegImagePlugin, PngImagePlugin

from dpconv_jax.data.decode import BadImageError
from dpconv_jax.errors import UsageError
from dpconv_jax.inpainting import photo

WIDTH, HEIGHT = 23, 17
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'


def of_space(space: bytes) -> bytes:
    """A profile that says to be of this colour space."""
    return SRGB[:16] + space + SRGB[20:]


def drawn(mode: str, *, smooth: bool = False) -> Image.Image:
    rng = np.random.default_rng(len(mode))
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 65536, (HEIGHT, WIDTH), dtype=np.uint16))
    pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 4), dtype=np.uint8)
    pixels[: HEIGHT // 2, :, 3] = 0
    if smooth:
        return Image.fromarray(pixels[:3, :3, :3]).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).convert(mode)
    if mode in ("P", "1", "CMYK"):
        return Image.fromarray(pixels[..., :3]).convert(mode)
    return Image.fromarray({"L": pixels[..., 0], "LA": pixels[..., 2:], "RGB": pixels[..., :3], "RGBA": pixels}[mode])


def exif(orientation: int, *, xmp: bool = False, nested: bool = True) -> bytes:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    tags[ExifTags.Base.Model] = "Camera"
    if nested:
        tags[ExifTags.IFD.Exif] = {ExifTags.Base.FNumber: 2.5}
    if xmp:  # where a TIFF has it
        tags[700] = XMP
    return tags.tobytes()


def holes(size: tuple[int, int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A random fill and a weight that is 1 in half of the pixels and 0 in the others."""
    rng = np.random.default_rng(seed)
    return rng.random((size[1], size[0], 3), np.float32), rng.integers(0, 2, size[::-1]).astype(np.float32)


def saved(path: pathlib.Path, image: Image.Image, **options: Any) -> pathlib.Path:
    image.save(path, **options)
    return path


def opened(path: pathlib.Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
    return image


def read(path: pathlib.Path) -> photo.Photo:
    return photo.read(path, max_pixels=20_000)


def rewritten(source: pathlib.Path, suffix: str) -> tuple[Image.Image, tuple[str, ...]]:
    """The photo with holes, written in the format of the suffix; and the notes on that."""
    one, target = read(source), source.with_name(f"out{suffix}")
    notes = photo.write(one, target, *holes((one.rgb.shape[1], one.rgb.shape[0])))
    return opened(target), notes


# ---- what is kept ----


@pytest.mark.parametrize(
    ("suffix", "mode", "options"),
    [
        *((".png", mode, {}) for mode in ("L", "LA", "RGB", "RGBA", "I;16")),
        *((".tiff", mode, {}) for mode in ("L", "LA", "RGB", "RGBA", "I;16")),
        *((".tif", mode, {"compression": "tiff_lzw"}) for mode in ("L", "LA", "RGB", "RGBA", "I;16")),
        *((".webp", mode, {"lossless": True, "exact": True}) for mode in ("RGB", "RGBA")),
        *((".bmp", mode, {}) for mode in ("L", "RGB")),
    ],
)
def test_only_holes_change(suffix: str, mode: str, options: dict[str, Any], tmp_path: pathlib.Path):
    image = drawn(mode)
    profile = of_space(b"GRAY") if mode[0] in "LI" else SRGB
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    tags = exif(1, xmp=suffix.startswith(".tif"), nested="compression" not in options)  # Pillow cannot write both
    around = {"icc_profile": profile, "exif": tags, "xmp": XMP, "pnginfo": text}
    source = saved(tmp_path / f"in{suffix}", image, dpi=(300, 300), **options, **around)
    one = read(source)
    out, notes = rewritten(source, suffix)
    fill, weight = holes(image.size)

    before, after, hole = np.asarray(image), np.asarray(out), weight == 1
    assert (one.notes, notes) == ((), ())
    assert (out.mode, out.size) == (image.mode, image.size)
    assert np.array_equal(after[~hole], before[~hole])
    colours = fill @ np.array([0.299, 0.587, 0.114], np.float32) if mode[0] in "LI" else fill
    channels = 0 if mode == "LA" else slice(3)
    expected = np.rint(colours * (65535 if mode == "I;16" else 255))[hole]
    found = after[hole][:, channels] if mode.endswith("A") else after[hole]
    assert np.abs(found - expected).max() <= (mode[0] in "LI")  # a sum's last bit
    if mode.endswith("A"):
        assert np.array_equal(out.getchannel("A"), image.getchannel("A"))

    if suffix != ".webp":
        assert [round(one) for one in out.info["dpi"]] == [300, 300]
    if suffix != ".bmp":
        assert out.info["icc_profile"] == profile
        assert out.getexif()[ExifTags.Base.Model] == "Camera"
        if "compression" not in options:
            assert out.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FNumber] == 2.5
        assert out.info["xmp"] == XMP
    if "compression" in options:
        assert out.info["compression"] == "tiff_lzw"


def test_weights_between_blend(tmp_path: pathlib.Path):
    one = read(saved(tmp_path / "in.png", drawn("RGB")))
    fill, weight = holes((WIDTH, HEIGHT))
    photo.write(one, tmp_path / "out.png", fill, weight / 4)
    expected = np.rint(one.rgb * (1 - weight[..., None] / 4) + fill * 255 * weight[..., None] / 4)
    assert np.abs(np.asarray(opened(tmp_path / "out.png")) - expected).max() <= 1
    assert np.array_equal(one.rgb, np.asarray(drawn("RGB")))


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tiff", ".bmp", ".jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_stays_turned(orientation: int, suffix: str, tmp_path: pathlib.Path):
    image = drawn("RGB", smooth=suffix == ".jpg")
    source = saved(tmp_path / "in.png", image, exif=exif(orientation))
    upright = ImageOps.exif_transpose(opened(source))
    assert np.array_equal(read(source).rgb, upright)

    fill, weight = holes(upright.size)
    if suffix == ".jpg":  # one of which the frequencies survive
        fill, weight[:] = np.broadcast_to(np.float32([1, 0, 0]), fill.shape), 0
        weight[: upright.height // 2] = 1
    photo.write(read(source), target := tmp_path / f"out{suffix}", fill, weight)
    out = opened(target)
    expected = np.where(weight[..., None] == 1, np.rint(fill * 255), upright)
    error = np.abs(np.asarray(ImageOps.exif_transpose(out)) - expected)
    assert error.mean() < 25 if suffix == ".jpg" else error.max() == 0
    if suffix not in (".bmp", ".tiff"):  # Pillow turns a TIFF as it reads
        assert (out.size, out.getexif()[ExifTags.Base.Orientation]) == (image.size, orientation)


def test_the_thumbnail_goes(tmp_path: pathlib.Path):
    """It shows what was in the holes."""
    # Two directories, big-endian: a model; a thumbnail's offset.
    tags = b"Exif\0\0MM\0*" + struct.pack(">IHHHI4sI", 8, 1, 0x0110, 2, 3, b"me\0\0", 26)
    tags += struct.pack(">HHHIII", 1, 0x0201, 4, 1, 44, 0)
    source = saved(tmp_path / "in.jpg", drawn("RGB"), exif=tags)
    assert opened(source).getexif().get_ifd(ExifTags.IFD.IFD1)
    out, _ = rewritten(source, ".jpg")
    assert out.getexif()[0x0110] == "me"
    assert not out.getexif().get_ifd(ExifTags.IFD.IFD1)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize(
    "options",
    [{"quality": 60, "subsampling": 1}, {"quality": 97, "subsampling": 0, "progressive": True}, {"quality": 30}],
    ids=str,
)
def test_a_jpeg_keeps_its_quality(mode: str, options: dict[str, Any], tmp_path: pathlib.Path):
    source = saved(tmp_path / "in.jpg", drawn(mode), icc_profile=SRGB, exif=exif(6), xmp=XMP, dpi=(72, 72), **options)
    before, (after, notes) = opened(source), rewritten(source, ".jpeg")
    assert after.quantization == before.quantization
    assert JpegImagePlugin.get_sampling(after) == JpegImagePlugin.get_sampling(before)
    for name in ("progressive", "icc_profile", "exif", "xmp", "dpi"):
        assert after.info.get(name) == before.info.get(name), name
    assert notes == ()


@pytest.mark.parametrize(("suffix", "lossless"), [(".webp", True), (".webp", False), (".png", True), (".jpg", False)])
def test_a_webp_is_lossless_where_its_source_was(suffix: str, lossless: bool, tmp_path: pathlib.Path):
    options = {"lossless": lossless} if suffix == ".webp" else {}
    source = saved(tmp_path / f"in{suffix}", drawn("RGB"), icc_profile=SRGB, **options)
    rewritten(source, ".webp")
    assert (b"VP8L" in (tmp_path / "out.webp").read_bytes()) == lossless


def test_the_first_picture_of_a_phone(tmp_path: pathlib.Path):
    first, second = drawn("RGB"), drawn("L").convert("RGB")
    source = saved(tmp_path / "in.jpg", first, format="MPO", save_all=True, append_images=[second])
    assert read(source).notes == ("only the first of its pictures was read",)
    plain = saved(tmp_path / "plain.jpg", first)
    assert np.array_equal(read(source).rgb, read(plain).rgb)
    assert rewritten(source, ".jpg")[0].format == "JPEG"


# ---- what is converted ----


def png(color_type: int, channels: int, *, depth: int = 16, value: int = 0x8040, transparent: bytes = b"") -> bytes:
    """A PNG of 4 x 4 equal values in each channel, as Pillow cannot write them."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    rows = (b"\0" + value.to_bytes(depth // 8, "big") * channels * 4) * 4
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, depth, color_type, 0, 0, 0))
    trns = chunk(b"tRNS", transparent) if transparent else b""
    return b"\x89PNG\r\n\x1a\n" + header + trns + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


BMP_565 = (  # 16 bits a pixel, 4 x 4
    struct.pack("<2sIIIIiiHHIIIIII", b"BM", 98, 0, 66, 40, 4, 4, 1, 16, 3, 32, 0, 0, 0, 0)
    + struct.pack("<III", 0xF800, 0x07E0, 0x001F)
    + bytes(range(32))
)


@pytest.mark.parametrize(
    ("data", "mode", "notes"),
    [
        (encoded(drawn("P"), "PNG"), "RGB", ["palette became RGB"]),
        (encoded(drawn("P"), "TIFF"), "RGB", ["palette became RGB"]),
        (encoded(drawn("P"), "PNG", transparency=3), "RGBA", ["palette became RGBA"]),
        (encoded(drawn("1"), "PNG"), "L", ["black and white became greyscale"]),
        (encoded(drawn("L"), "PNG", transparency=3), "LA", ["greyscale became greyscale with alpha"]),
        (encoded(drawn("RGB"), "PNG", transparency=(1, 2, 3)), "RGBA", ["RGB became RGBA"]),
        (
            encoded(drawn("CMYK"), "JPEG", icc_profile=of_space(b"CMYK")),
            "RGB",
            ["CMYK became RGB", "the ICC profile of CMYK was dropped"],
        ),
        (encoded(Image.new("LAB", (4, 4), (99, 120, 9)), "TIFF"), "RGB", ["Lab became RGB"]),
        (encoded(drawn("RGB"), "TIFF"), "RGB", []),
        (BMP_565, "RGB", []),
        (png(2, 3), "RGB", ["16 bits a channel became 8"]),
        (png(6, 4), "RGBA", ["16 bits a channel became 8"]),
        (png(4, 2), "LA", ["16 bits a channel became 8"]),
    ],
)
def test_reading_notes_what_it_converts(data: bytes, mode: str, notes: list[str], tmp_path: pathlib.Path):
    (source := tmp_path / "photo").write_bytes(data)
    one = read(source)
    assert [*one.notes] == notes
    white = Image.new("RGBA", one.rgb.shape[1::-1], "white")
    seen = Image.alpha_composite(white, opened(source).convert("RGBA")).convert("RGB")
    assert np.abs(one.rgb - np.asarray(seen, int)).max() <= 1
    out, _ = rewritten(source, ".png")
    assert out.mode == mode
    assert not {"icc_profile", "dpi"} & {*out.info}


@pytest.mark.parametrize(
    ("mode", "suffix", "out_mode", "notes"),
    [
        ("RGBA", ".jpg", "RGB", ["transparency became white"]),
        ("LA", ".bmp", "L", ["transparency became white", "ICC profile was dropped", "EXIF was dropped"]),
        ("I;16", ".jpg", "L", ["16 bits became 8"]),
        ("I;16", ".webp", "RGB", ["16 bits became 8", "greyscale became RGB", "ICC profile was dropped"]),
        ("LA", ".webp", "RGBA", ["greyscale with alpha became RGBA", "ICC profile was dropped"]),
        ("I;16", ".tif", "I;16", []),
        ("RGBA", ".tif", "RGBA", []),
    ],
)
def test_writing_notes_what_it_converts(
    mode: str, suffix: str, out_mode: str, notes: list[str], tmp_path: pathlib.Path
):
    profile = of_space(b"GRAY") if mode[0] in "LI" else SRGB
    source = saved(tmp_path / "in.png", drawn(mode), icc_profile=profile, exif=exif(1))
    one = read(source)
    out, said = rewritten(source, suffix)
    assert (out.mode, [*said]) == (out_mode, notes)
    if suffix in (".bmp", ".webp", ".tif"):
        _, weight = holes(out.size)
        (target := tmp_path / "again").write_bytes((tmp_path / f"out{suffix}").read_bytes())
        assert np.array_equal(read(target).rgb[weight == 0], one.rgb[weight == 0])


def test_what_is_too_long_for_a_jpeg_is_left_out(tmp_path: pathlib.Path):
    source = saved(tmp_path / "in.webp", drawn("RGB"), exif=exif(6) + bytes(70_000), xmp=XMP + b" " * 70_000)
    out, notes = rewritten(source, ".jpg")
    assert {*notes} == {"EXIF was dropped", "XMP was dropped"}
    assert out.size == (HEIGHT, WIDTH)  # upright, with nothing left to say otherwise


def test_grey_levels_of_big_endian_files(tmp_path: pathlib.Path):
    levels = np.asarray(drawn("I;16"))
    source = saved(tmp_path / "in.tif", Image.fromarray(levels.astype(">u2")))
    assert np.array_equal(read(source).rgb, np.repeat((levels // 257)[..., None], 3, 2))
    _, weight = holes((WIDTH, HEIGHT))
    assert np.array_equal(np.asarray(rewritten(source, ".tif")[0])[weight == 0], levels[weight == 0])


def test_grey_levels_where_white_is_0(tmp_path: pathlib.Path):
    levels, source = np.asarray(drawn("I;16")), tmp_path / "in.tif"
    said = {"description": "a scan", "resolution": (300, 300), "metadata": None}
    tifffile.imwrite(source, 65535 - levels, photometric="miniswhite", **said)
    assert np.array_equal(read(source).rgb, np.repeat((levels // 257)[..., None], 3, 2))
    _, weight = holes((WIDTH, HEIGHT))
    out, _ = rewritten(source, ".tif")
    assert np.array_equal(np.asarray(out)[weight == 0], levels[weight == 0])
    assert out.info["dpi"] == (300, 300) and out.getexif()[ExifTags.Base.ImageDescription] == "a scan"


def test_a_grainy_progressive_jpeg_becomes_sequential(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    grain = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8))
    with monkeypatch.context() as patch:
        patch.setattr(ImageFile, "MAXBLOCK", 2**20)  # else Pillow could not write it either
        source = saved(tmp_path / "in.jpg", grain, quality=100, subsampling=0, progressive=True)
    one = photo.read(source, max_pixels=40_000)
    assert photo.write(one, source, *holes((200, 200))) == ("progressive became sequential",)
    assert "progressive" not in opened(source).info and one.encoding["progressive"]


def test_a_tiff_loses_a_compression_that_cannot_hold_it(tmp_path: pathlib.Path):
    source = saved(tmp_path / "in.tif", drawn("RGB"), compression="jpeg")
    out, notes = rewritten(source, ".tif")
    assert (out.info["compression"], notes) == ("raw", ("jpeg compression became none",))

    # Another program's: the exposure's directory in a compressed file.
    data = bytearray(encoded(drawn("RGB"), "TIFF", compression="tiff_lzw", exif=exif(1, nested=False)))
    at = data.index(struct.pack("<HHI", ExifTags.Base.Model, 2, 7))
    data += bytes(len(data) % 2)
    data[at : at + 12] = struct.pack("<HHII", ExifTags.IFD.Exif, 4, 1, len(data))
    data += struct.pack("<HHHI4sHHIII", 2, 0x9000, 7, 4, b"0232", ExifTags.IFD.Interop, 4, 1, 8, 0)
    source.write_bytes(data)
    out, notes = rewritten(source, ".tif")
    assert (out.info["compression"], notes) == ("raw", ("tiff_lzw compression became none",))
    assert out.getexif().get_ifd(ExifTags.IFD.Exif) == {0x9000: b"0232"}


# ---- what is refused ----


def animated(kind: str) -> bytes:
    return encoded(drawn("RGB"), kind, save_all=True, append_images=[drawn("L").convert("RGB")])


def planes_of_16_bits() -> bytes:
    tifffile.imwrite(data := io.BytesIO(), np.zeros((3, 8, 8), np.uint16), photometric="rgb", planarconfig="separate")
    return data.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (png(2, 3)[:16] + struct.pack(">II", 60_000, 60_000) + b"\x10\2\0\0\0", "60000 x 60000 pixels, more than"),
        (b"GIF89a not", "not a JPEG, PNG, WebP, BMP or TIFF"),
        (b"", "not a JPEG, PNG, WebP, BMP or TIFF"),
        (animated("PNG"), "animated, or of several pages"),
        (animated("WEBP"), "animated, or of several pages"),
        (animated("TIFF"), "animated, or of several pages"),
        (encoded(Image.new("F", (4, 4)), "TIFF"), "mode F is not supported"),
        (planes_of_16_bits(), "a TIFF of 16 bits a channel in this layout is not supported"),
        (png(0, 1, transparent=b"\x80\x40"), "16 bits with a transparent colour"),
        (png(2, 3, transparent=b"\x80\x40" * 3), "16 bits with a transparent colour"),
        *((encoded(drawn("RGB"), kind)[:-300], ".") for kind in ("JPEG", "PNG", "WEBP", "BMP", "TIFF")),
    ],
)
def test_what_cannot_be_read_says_why(data: bytes, reason: str, tmp_path: pathlib.Path):
    if b"IHDR" in data and len(data) < 40:  # a header alone
        data += struct.pack(">I", zlib.crc32(data[12:])) + struct.pack(">I", 10) + b"IDAT"
    (source := tmp_path / "photo.png").write_bytes(data)
    with pytest.raises(BadImageError, match=reason) as caught:
        read(source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "reason"), [("none.png", "No such file or directory"), (".", "Is a directory")])
def test_what_cannot_be_opened_says_why(name: str, reason: str, tmp_path: pathlib.Path):
    with pytest.raises(BadImageError, match=f"^{reason}$"):
        read(tmp_path / name)


@pytest.mark.parametrize("suffix", photo.SUFFIXES)
def test_the_only_limit_is_the_callers(suffix: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    source = saved(tmp_path / f"in{suffix}", drawn("RGB"))
    # Twice the limit is too much for a WebP of Pillow 13 whoever opens it; 391 pixels lie between.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300 if suffix == ".webp" else 10)
    one = read(source)
    photo.write(one, tmp_path / f"out{suffix}", *holes((WIDTH, HEIGHT)))
    assert one.rgb.shape == read(tmp_path / f"out{suffix}").rgb.shape == (HEIGHT, WIDTH, 3)


def test_an_unknown_suffix_is_refused(tmp_path: pathlib.Path):
    one = read(saved(tmp_path / "in.png", drawn("RGB")))
    with pytest.raises(UsageError, match=r"out\.gif.*'\.gif' is none of \.jpg, .*\.tiff"):
        photo.write(one, tmp_path / "out.gif", *holes((WIDTH, HEIGHT)))


def test_a_failed_write_leaves_what_was_there(tmp_path: pathlib.Path):
    size = (16_400, 1)  # wider than a WebP can be
    one = read(saved(tmp_path / "in.png", Image.new("L", size)))
    older = saved(tmp_path / "out.webp", Image.new("L", (4, 4)))
    before = older.read_bytes()
    with pytest.raises(BadImageError, match="cannot be written as WEBP"):
        photo.write(one, older, *holes(size))
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OSError):
        photo.write(one, tmp_path / "folder.png", *holes(size))
    assert older.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"in.png", "out.webp", "folder.png"}
