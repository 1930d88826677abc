"""Holes from mask files, shapes and boxes: which pixels they are, to the pixel, and what is refused."""

import json
import pathlib
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image
from scipy import ndimage

from dpconv_jax.data.decode import BadImageError
from dpconv_jax.errors import UsageError
from dpconv_jax.inpainting import holes

SIZE = HEIGHT, WIDTH = 20, 30
RECTANGLE = np.zeros(SIZE, bool)
RECTANGLE[5:9, 10:16] = True


def read(path: pathlib.Path, *, colour: str | None = None) -> tuple[np.ndarray, tuple[str, ...]]:
    return holes.read(path, size=SIZE, colour=colour, max_pixels=1000)


def grey(hole: np.ndarray, dtype: type = np.uint8) -> np.ndarray:
    return hole.astype(dtype) * np.iinfo(dtype).max


def layers(*, paint: int, alpha: np.ndarray) -> Image.Image:
    return Image.fromarray(np.dstack([np.full(SIZE, paint, np.uint8), grey(alpha)]))


TURNED = Image.Exif()
TURNED[ExifTags.Base.Orientation] = 6  # a quarter, clockwise, to be upright

MASKS: dict[str, tuple[Image.Image, dict[str, Any]]] = {
    "grey": (Image.fromarray(grey(RECTANGLE)), {}),
    "1 bit": (Image.fromarray(grey(RECTANGLE)).convert("1"), {}),
    "16 bits": (Image.fromarray(grey(RECTANGLE, np.uint16)), {}),
    "palette": (Image.fromarray(grey(RECTANGLE)).convert("P"), {}),
    "colours": (Image.fromarray(np.where(RECTANGLE[..., None], (250, 240, 240), (60, 0, 90)).astype(np.uint8)), {}),
    "turned": (Image.fromarray(np.rot90(grey(RECTANGLE))), {"exif": TURNED}),
    "transparent where it is a hole": (layers(paint=0, alpha=~RECTANGLE), {}),
}


@pytest.mark.parametrize(("image", "options"), MASKS.values(), ids=MASKS)
def test_a_picture_is_a_hole_where_it_is_white(image, options, tmp_path):
    image.save(path := tmp_path / "mask.png", **options)
    hole, notes = read(path)
    assert np.array_equal(hole, RECTANGLE)
    assert notes == ()


def test_the_colour_is_taken_at_its_word(tmp_path):
    Image.fromarray(grey(~RECTANGLE)).save(path := tmp_path / "mask.PNG")
    assert np.array_equal(read(path, colour="black")[0], RECTANGLE)
    assert np.array_equal(read(path, colour="white")[0], ~RECTANGLE)
    with pytest.raises(holes.PolarityError, match=r"has a hole of 96% if white is hole: is it the other way round\?"):
        read(path)


def test_half_a_photo_is_no_question(tmp_path):
    half = np.zeros(SIZE, bool)
    half[: HEIGHT // 2] = True
    Image.fromarray(grey(half)).save(path := tmp_path / "mask.png")
    assert np.array_equal(read(path)[0], half)
    half[HEIGHT // 2, 0] = True
    Image.fromarray(grey(half)).save(path)
    with pytest.raises(holes.PolarityError, match="50%"):
        read(path)


@pytest.mark.parametrize(
    ("levels", "notes"),
    [((0, 255), ()), ((20, 230), ()), ((0, 127), ("4.00% of the mask is grey, cut at half",))],
)
def test_a_soft_mask_is_cut_at_half_and_that_is_said(levels, notes, tmp_path):
    Image.fromarray(np.where(RECTANGLE, *levels[::-1]).astype(np.uint8)).save(path := tmp_path / "mask.png")
    hole, said = read(path)
    assert np.array_equal(hole, RECTANGLE & (levels[1] >= 128))
    assert said == notes


# ---- LabelMe ----


def labelme(path: pathlib.Path, *shapes: dict[str, Any], **fields: Any) -> pathlib.Path:
    content = {"version": "5.5.0", "shapes": shapes, "imagePath": "a.jpg", "imageHeight": HEIGHT, "imageWidth": WIDTH}
    path.write_text(json.dumps(content | fields), encoding="utf-8")
    return path


def shape(kind: str | None, *points: tuple[float, float]) -> dict[str, Any]:
    return {"label": "logo", "points": points, "shape_type": kind, "flags": {}}


def test_shapes_are_holes_with_their_edges(tmp_path):
    """As labelme's own `shape_to_mask`, which draws outlines too."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    box = (rows >= 4) & (rows <= 9) & (columns >= 3) & (columns <= 12)
    disc = np.hypot(rows - 10, columns - 20) <= 5
    triangle = (rows + columns <= 9) & (columns >= 2) & (rows >= 1)
    for drawn, expected in (
        (shape("rectangle", (12, 4), (3, 9)), box),  # from any corner
        (shape("polygon", (3, 4), (12, 4), (12, 9), (3, 9)), box),
        (shape(None, (2, 1), (8, 1), (2, 7)), triangle),
        (shape("rectangle", (-50, -50), (99, 3)), rows <= 3),
    ):
        assert np.array_equal(read(labelme(tmp_path / "a.json", drawn))[0], expected), drawn
    circle = read(labelme(tmp_path / "a.JSON", shape("circle", (20, 10), (24, 7))))[0]
    assert not (circle ^ disc)[np.abs(np.hypot(rows - 10, columns - 20) - 5) > 0.5].any()
    both = labelme(tmp_path / "a.json", shape("rectangle", (3, 4), (12, 9)), shape("circle", (20, 10), (24, 7)))
    assert np.array_equal(read(both)[0], box | circle)


def test_a_file_of_no_size_or_no_shapes_or_with_a_mark_of_its_encoding(tmp_path):
    path = labelme(tmp_path / "a.json", imageHeight=None, imageWidth=None)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    hole, notes = read(path)
    assert (hole.shape, hole.any(), notes) == (SIZE, False, ())


BROKEN: dict[str, tuple[str, str]] = {
    "no JSON": ("{", "holds no LabelMe shapes: JSONDecodeError"),
    "a list": ("[]", "holds no LabelMe shapes: TypeError"),
    "other JSON": ("{}", "holds no LabelMe shapes: KeyError('shapes')"),
    "no points": ('{"shapes": [{}]}', "holds no LabelMe shapes: KeyError('points')"),
    "text": ('{"shapes": ["polygon"]}', "holds no LabelMe shapes: AttributeError"),
    "points of one number": ('{"shapes": [{"points": [[1], [2], [3]]}]}', "holds no LabelMe shapes: ValueError"),
    "not finite": ('{"shapes": [{"points": [[NaN, 1]]}]}', "a point far outside"),
    "a circle that would take minutes": (
        '{"shapes": [{"points": [[0, 0], [1e7, 0]], "shape_type": "circle"}]}',
        "a point far outside",
    ),
    "too large for a float": (f'{{"shapes": [{{"points": [[1{"0" * 400}, 1]]}}]}}', "OverflowError"),
    "nested without end": ("[" * 100_000, "RecursionError"),
    "another kind": ('{"shapes": [{"points": [[1, 1]], "shape_type": "point"}]}', "has a point of 1 points; known: "),
    "a polygon of two": ('{"shapes": [{"points": [[1, 1], [2, 2]]}]}', "has a polygon of 2 points"),
    "no text": ("\udcff", "holds no LabelMe shapes: UnicodeDecodeError"),
}


@pytest.mark.parametrize(("content", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_json_is_one_line(content, message, tmp_path):
    (path := tmp_path / "a.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(BadImageError) as refusal:
        read(path)
    assert str(refusal.value).startswith(f"{path} ")
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_shapes_of_another_photo(tmp_path):
    path = labelme(tmp_path / "a.json", imageHeight=WIDTH, imageWidth=HEIGHT)
    with pytest.raises(UsageError, match=r"a\.json was drawn on 20 x 30, the photo is 30 x 20"):
        read(path)


# ---- what is refused of pictures ----


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((HEIGHT, WIDTH + 1), np.uint8), r"mask .*mask\.png is 31 x 20, the photo 30 x 20"),
        (np.zeros((40, 40), np.uint8), r"mask .*mask\.png: 40 x 40 pixels, more than 1000"),
        (RECTANGLE.astype(np.uint8), r"mask .*mask\.png has levels 0 to 1 of 255; they must be 0 and 255"),
        (
            np.dstack([RECTANGLE.astype(np.uint8)] * 3 + [np.full(SIZE, 255, np.uint8)]),
            r"mask .*mask\.png has levels 0 to 1 of 255; they must be 0 and 255",
        ),
        (RECTANGLE.astype(np.uint16), r"levels 0 to 1 of 65535; they must be 0 and 65535"),
        (RECTANGLE.astype(np.uint16) * 255, r"levels 0 to 255 of 65535; they must be 0 and 65535"),
        (None, r"mask .*mask\.png: not a JPEG"),
    ],
)
def test_a_mask_that_cannot_be_used_says_which(pixels, message, tmp_path):
    path = tmp_path / "mask.png"
    path.touch() if pixels is None else Image.fromarray(pixels).save(path)
    with pytest.raises((BadImageError, UsageError), match=message):
        read(path)
    with pytest.raises(BadImageError, match=r"mask .*none\.png: No such file"):
        read(tmp_path / "none.png")


# ---- boxes ----


def test_a_box_is_what_lies_between_its_corners():
    expected = np.zeros(SIZE, bool)
    expected[5:9, 10:16] = True
    assert np.array_equal(holes.Box.parse("10,5,16,9").hole(SIZE), expected)
    assert holes.Box.parse("0, 0, 99, 99").hole(SIZE).all()
    assert np.argwhere(holes.Box.parse("29,19,99,99").hole(SIZE)).tolist() == [[19, 29]]
    with pytest.raises(UsageError, match="box 30,0,31,1 lies outside the photo of 30 x 20"):
        holes.Box.parse("30,0,31,1").hole(SIZE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *(
            (text, "must be four whole numbers")
            for text in ("", "1,2,3", "1,2,3,4,5", "a,b,c,d", "1.5,2,3,4", "1 2 3 4")
        ),
        *((text, "is empty: it needs 0 <= x0 < x1") for text in ("3,0,1,9", "0,9,9,3", "1,1,1,1", "-1,0,5,5")),
    ],
)
def test_a_box_that_is_none(text, message):
    with pytest.raises(UsageError, match=message):
        holes.Box.parse(text)


# ---- grown, and blended ----


@pytest.mark.parametrize("pixels", [0, 1, 4, 999_999])
def test_a_hole_grows_by_so_many_pixels(pixels):
    hole = RECTANGLE.copy()
    hole[0, 0] = True
    once = ndimage.binary_dilation
    expected = once(hole, np.ones((3, 3)), iterations=min(pixels, 40)) if pixels else hole
    assert np.array_equal(holes.grown(hole, pixels), expected)
    assert not holes.grown(np.zeros(SIZE, bool), pixels).any()


def test_a_weight_falls_to_nothing_beyond_its_width():
    line = np.zeros((1, 12), bool)
    line[0, :2] = True
    assert holes.weight(line, 0)[0].tolist() == [1] * 2 + [0] * 10
    np.testing.assert_allclose(holes.weight(line, 3)[0], [1, 1, 0.75, 0.5, 0.25, 0, 0, 0, 0, 0, 0, 0])
    around = holes.weight(RECTANGLE, 2)
    assert around.dtype == np.float32
    assert np.array_equal(around == 1, RECTANGLE)
    assert np.array_equal(around > 0, holes.grown(RECTANGLE, 2))
    assert not holes.weight(np.zeros(SIZE, bool), 3).any()
    assert np.isfinite(holes.weight(RECTANGLE, 999_999)).all()
