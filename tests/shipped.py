"""Miniatures of the four fashion datasets in the form their owners ship them, drawn here, with what is ugly about them.

Every picture shows one or two rectangles of cloth on a plain backdrop, and every annotation is true of it.
"""

import csv
import io
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np
from PIL import Image, ImageDraw

ROTATED = 6  # EXIF: to be turned by 90 degrees clockwise
Box = tuple[int, int, int, int]


def picture(seed: int, *, size: tuple[int, int], boxes: Sequence[Box]) -> Image.Image:
    """Rectangles of cloth on a pale backdrop."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", size, tuple(rng.integers(225, 240, 3).tolist()))
    for box in boxes:
        ImageDraw.Draw(image).rectangle(box, fill=tuple(rng.integers(20, 150, 3).tolist()))
    return image


def jpeg(image: Image.Image, **options: Any) -> bytes:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=92, **options)
    return data.getvalue()


def rotated(image: Image.Image) -> bytes:
    """A JPEG whose EXIF says that it lies on its side."""
    exif = Image.Exif()
    exif[0x0112] = ROTATED
    return jpeg(image, exif=exif)


def write(path: pathlib.Path, content: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def corners(box: Box) -> list[int]:
    x0, y0, x1, y1 = box
    return [x0, y0, x1, y0, x1, y1, x0, y1]


# ---- DeepFashion2 ----

DRESS, BAG = (60, 40, 140, 280), (150, 100, 190, 160)
SIZE = (200, 320)


def item(category: str, number: int, box: Box, **changes: Any) -> dict[str, Any]:
    landmarks = [value for x, y in zip(*[iter(corners(box))] * 2, strict=True) for value in (x, y, 2)]
    return {
        "segmentation": [corners(box)],
        "scale": 1,
        "viewpoint": 2,
        "zoom_in": 1,
        "landmarks": landmarks,
        "style": 1,
        "bounding_box": list(box),
        "category_id": number,
        "occlusion": 1,
        "category_name": category,
    } | changes


def annotation(*items: dict[str, Any]) -> str:
    named = {f"item{index}": each for index, each in enumerate(items, start=1)}
    return json.dumps({"source": "shop", "pair_id": 7} | named)


def deepfashion2(root: pathlib.Path) -> pathlib.Path:
    """8 good photos and 4 bad ones to train on, 3 for validation."""
    dress, bag = item("long sleeve dress", 11, DRESS), item("vest", 5, BAG)
    plain = picture(0, size=SIZE, boxes=[DRESS])
    both = picture(1, size=SIZE, boxes=[DRESS, BAG])
    flat = item("skirt", 9, DRESS, segmentation=[[60, 40, 140, 280, 60, 40]])  # a polygon without area
    outside = item("shorts", 7, DRESS, landmarks=[-50, 40, 1, 900, 280, 1])
    train = {
        "000001": (jpeg(both), annotation(bag, dress)),
        "000002": (jpeg(plain.convert("CMYK")), annotation(dress)),
        "000003": (jpeg(plain.convert("L")), annotation(dress)),
        "000004": (jpeg(plain)[:-1000], annotation(dress)),  # truncated
        "000005": (rotated(plain), annotation(dress)),
        "000006": (jpeg(plain), annotation(flat)),
        "000007": (jpeg(plain), annotation(outside)),
        "000008": (jpeg(plain), '{"source": "user", "item1": {"category_na'),
        "000009": (jpeg(plain), annotation()),
        "000010": (jpeg(plain), None),
        "000011": (jpeg(plain.resize((800, 1280))), annotation(item("dress", 11, (240, 160, 560, 1120)))),
        "000012": (jpeg(plain.transpose(Image.Transpose.FLIP_TOP_BOTTOM)), annotation(dress)),
    }
    validation = {f"{index:06d}": (jpeg(plain), annotation(dress)) for index in (1, 2, 3)}
    for split, photos in {"train": train, "validation": validation}.items():
        for name, (image, text) in photos.items():
            write(root / split / "image" / f"{name}.jpg", image)
            if text is not None:
                write(root / split / "annos" / f"{name}.json", text)
    return root


# ---- DeepFashion ----

BODY = (60, 60, 140, 220)


def table(header: str, rows: Sequence[str]) -> str:
    """Padded columns below a count and a header, as the lists are shipped."""
    return "\n".join([str(len(rows)), header, *rows]) + "\n"


def deepfashion(root: pathlib.Path, *, annotations: str = "Anno_coarse", variation_type: bool = True) -> pathlib.Path:
    """6 photos to train on, one of them without its file; 2 for validation and 2 for the test.

    Copies differ in whether the rows of list_landmarks.txt have a `variation_type`.
    """
    folders = ["Sheer_Pleated-Front_Blouse"] * 6 + ["Striped_Maxi_Dress"] * 4
    names = [f"img/{folder}/img_{index:08d}.jpg" for index, folder in enumerate(folders, start=1)]
    for index, name in enumerate(names):
        if index != 5:
            write(root / "Img" / name, jpeg(picture(index, size=SIZE, boxes=[BODY])))
    write(root / "Img" / names[4], jpeg(picture(4, size=SIZE, boxes=[BODY]).convert("CMYK")))
    parts = ["train"] * 6 + ["val"] * 2 + ["test"] * 2
    x0, y0, x1, y1 = BODY
    upper = f"0 {x0:03} {y0:03}  0 {x1:03} {y0:03}  1 {x0:03} {y1:03}  1 {x1:03} {y1:03}  2 000 000  0 {x0:03} 120"
    whole = f"0 {x0:03} {y0:03}  0 {x1:03} {y0:03}  0 {x1:03} {y1:03}  0 {x0:03} {y1:03}"
    outside = "0 -40 060  0 140 060  1 140 900"
    landmarks = [upper, outside, upper, upper, upper, "", *[whole] * 4]  # ragged, and none at all for one
    kinds = ["1"] * 6 + ["3"] * 4
    variation, column = (" 1", "  variation_type") if variation_type else ("", "")
    rows = {
        f"{annotations}/list_bbox.txt": (
            "image_name  x_1  y_1  x_2  y_2",
            [f"{name:<70} {x0:03d}  {y0:03d}  {x1:03d}  {y1:03d}" for name in names],
        ),
        f"{annotations}/list_landmarks.txt": (
            f"image_name  clothes_type{column}  landmark_visibility_1  landmark_location_x_1 ...",
            [f"{name:<70} {kind}{variation}  {row}" for name, kind, row in zip(names, kinds, landmarks, strict=True)],
        ),
        f"{annotations}/list_category_img.txt": (
            "image_name  category_label",
            [f"{name:<70} {2 if 'Blouse' in name else 3}" for name in names],
        ),
        f"{annotations}/list_category_cloth.txt": (
            "category_name  category_type",
            ["Anorak         1", "Blouse         1", "Dress          3"],
        ),
        "Eval/list_eval_partition.txt": (
            "image_name  evaluation_status",
            [f"{name:<70} {part}" for name, part in zip(names, parts, strict=True)],
        ),
    }
    for path, (header, lines) in rows.items():
        write(root / path, table(header, lines))
    return root


# ---- FashionAI ----

POINTS = (
    *("neckline_left", "neckline_right", "center_front", "shoulder_left", "shoulder_right", "armpit_left"),
    *("armpit_right", "waistline_left", "waistline_right", "cuff_left_in", "cuff_left_out", "cuff_right_in"),
    *("cuff_right_out", "top_hem_left", "top_hem_right", "waistband_left", "waistband_right", "hemline_left"),
    *("hemline_right", "crotch", "bottom_left_in", "bottom_left_out", "bottom_right_in", "bottom_right_out"),
)


def rows_of(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def fashionai_attributes(root: pathlib.Path, *, rank: bool = True) -> pathlib.Path:
    """20 photos to train on, one of them truncated and one listed twice; 3 for the test if `rank`."""
    rows = []
    for index in range(20):
        attribute = ("skirt_length", "coat_length")[index % 2]
        path = f"Images/{attribute}_labels/{index:032x}.jpg"
        image = jpeg(picture(index, size=(160, 160), boxes=[(40, 30, 120, 130)]))
        write(root / "base" / path, image[:-900] if index == 7 else image)
        rows.append((path, f"{attribute}_labels", ("nnnnyn", "mnynnn", "nymnnn")[index % 3]))  # m: maybe
    write(root / "base/Annotations/label.csv", rows_of([*rows, rows[0]]))
    if rank:
        rows = [(f"Images/skirt_length_labels/{index:032x}.jpg", "skirt_length_labels", "") for index in (30, 31, 32)]
        for path, *_ in rows:
            write(root / "rank" / path, jpeg(picture(3, size=(160, 160), boxes=[(40, 30, 120, 130)])))
        write(root / "rank/Tests/question.csv", rows_of(rows))
    return root


def fashionai_keypoints(root: pathlib.Path) -> pathlib.Path:
    """4 photos to train on, one with a damaged key point, and 1 for the test, whose points were never published."""
    box = (40, 30, 120, 130)
    x0, y0, x1, y1 = box
    there = {"waistband_left": f"{x0}_{y0}_1", "waistband_right": f"{x1}_{y0}_1"}
    there |= {"hemline_left": f"{x0}_{y1}_0", "hemline_right": f"{x1}_{y1}_1"}
    known = [there.get(name, "-1_-1_-1") for name in POINTS]
    outside = [cell.replace(f"_{y1}_", "_999_") for cell in known]
    cells = [known, outside, ["-1_-1_-1"] * 24, ["40_30", *known[1:]]]
    rows = [(f"Images/skirt/{index:032x}.jpg", "skirt", *row) for index, row in enumerate(cells)]
    for path, *_ in rows:
        write(root / "train" / path, jpeg(picture(5, size=(160, 160), boxes=[box])))
    write(root / "train/Annotations/train.csv", rows_of([("image_id", "image_category", *POINTS), *rows]))
    write(root / "test/Images/dress/0.jpg", jpeg(picture(6, size=(160, 160), boxes=[box])))
    write(root / "test/test.csv", rows_of([("image_id", "image_category"), ("Images/dress/0.jpg", "dress")]))
    return root


# ---- FashionGen ----

PERSON = (90, 40, 160, 255)  # cut off below


def fashiongen(root: pathlib.Path) -> pathlib.Path:
    """6 rows to train on, of which 4 are of the nine categories, and 2 for validation."""
    root.mkdir(parents=True, exist_ok=True)
    categories = {
        "train": ["TOPS", "JACKETS & COATS", "BAGS", "JEANS", "SNEAKERS", "DRESSES"],
        "validation": ["SKIRTS", "SHORTS"],
    }
    for split, names in categories.items():
        count = len(names)
        texts = {
            "input_category": names,
            "input_subcategory": names,
            "input_description": ["Pull élégant à col roulé. Crème."] * count,
            "input_name": ["Robe d'été"] * count,
            "input_gender": ["Women"] * count,
            "input_brand": ["Chloé"] * count,
        }
        images = [picture(index, size=(256, 256), boxes=[PERSON]) for index in range(count)]
        with h5py.File(root / f"fashiongen_256_256_{split}.h5", "w") as file:
            file["input_image"] = np.stack([np.asarray(image) for image in images])
            file["index"] = np.arange(count, dtype=np.int64).reshape(-1, 1)
            file["input_productID"] = np.array([[5000 + index // 2] for index in range(count)], np.int64)
            for key, values in texts.items():
                file[key] = np.array([[value.encode("latin-1")] for value in values])
    return root
