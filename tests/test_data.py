"""Datasets and the input pipeline: same batches for any process count, exact resume, nothing fatal, nothing silent."""

import dataclasses
import io
import logging
import pathlib
import struct
import zlib
from collections import Counter
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dpconv_jax import masks
from dpconv_jax.data import pipeline, sources
from dpconv_jax.data.decode import BadImageError, decode, resize, square_box
from dpconv_jax.data.image_folder import ImageFolder
from dpconv_jax.errors import UsageError

ROTATED = 6  # EXIF orientation of a camera held upright: the viewer turns the picture by 90 degrees clockwise


def picture(seed: int, width: int = 40, height: int = 52) -> Image.Image:
    """Smooth colours, another for every seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 3, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    header = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + header + struct.pack(">I", 10) + b"IDAT"


class Memory:
    """A source of given examples; a clothing region where a PNG is given."""

    def __init__(self, *images: bytes, region: bytes | None = None):
        self.images, self.region = images, region

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        return {"image": self.images[index], "id": f"picture-{index}", "region": self.region}


def source(count: int = 10) -> Memory:
    return Memory(*(encoded(picture(seed)) for seed in range(count)))


PREPARATION = pipeline.Preparation(
    size=16, crop="square", max_pixels=10_000, mask_preset="boxes", min_coverage=0.05, seed=3
)


def prepared(options: dict[str, Any]) -> pipeline.Preparation:
    """With those of the options that it has, which are taken out."""
    ours = [field.name for field in dataclasses.fields(PREPARATION) if field.name in options]
    return dataclasses.replace(PREPARATION, **{name: options.pop(name) for name in ours})


def train(data: Any, **options: Any) -> Any:
    how = prepared(options)
    return pipeline.train_batches(data, how, **{"flip": True, "threads": 2, "batch_size": 4} | options)


def evaluate(data: Any, **options: Any) -> list[dict[str, Any]]:
    how = prepared(options)
    return list(pipeline.eval_batches(data, how, **{"batch_size": 4, "bucket": 1} | options))


def equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


# ---- pictures ----


def test_a_picture_stands_upright():
    half_red = Image.fromarray(np.repeat([[[255, 0, 0]], [[0, 0, 255]]], 32, 0).repeat(32, 1).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = ROTATED
    image = np.asarray(decode(encoded(half_red, exif=exif), max_pixels=10_000))
    assert image.shape == (32, 64, 3)
    assert image[:, 40:, 0].min() > 200  # the top lies on the right
    assert image[:, :24, 2].min() > 200


@pytest.mark.parametrize(
    ("image", "kind", "expected"),
    [
        (Image.new("RGBA", (4, 4), (255, 0, 0, 0)), "PNG", (255, 255, 255)),
        (Image.new("RGBA", (4, 4), (255, 0, 0, 255)), "WEBP", (255, 0, 0)),
        (Image.fromarray(np.full((4, 4), 32896, np.uint16)), "PNG", (128, 128, 128)),
        (Image.new("L", (4, 4), 7), "BMP", (7, 7, 7)),
        (Image.new("P", (4, 4)), "PNG", (0, 0, 0)),
        (Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", (255, 0, 0)),
    ],
    ids=["transparent", "opaque", "16 bit", "grey", "palette", "CMYK"],
)
def test_every_mode_becomes_rgb(image: Image.Image, kind: str, expected: tuple[int, int, int]):
    options = {"lossless": True} if kind == "WEBP" else {}
    pixels = np.asarray(decode(encoded(image, kind, **options), max_pixels=100))
    assert np.abs(pixels.astype(int) - expected).max() <= 2
    assert pixels.shape == (*image.size, 3)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (png_header(101, 1600), "101 x 1600 pixels, more than 160000"),  # of the header: no pixels follow
        (png_header(60_000, 60_000), "decompression bomb"),
        (encoded(picture(0, 400, 400))[:-900], "truncated"),
        (b"not a picture", "not a JPEG, PNG, WEBP or BMP"),
        (b"", "not a JPEG, PNG, WEBP or BMP"),
        (encoded(picture(0), "GIF"), "not a JPEG, PNG, WEBP or BMP"),
    ],
    ids=["large", "bomb", "truncated", "text", "empty", "GIF"],
)
def test_what_is_no_picture_says_why(data: bytes, reason: str):
    with pytest.raises(BadImageError, match=reason) as caught:
        decode(data, max_pixels=160_000)
    assert "\n" not in str(caught.value)


def test_jpegs_are_decoded_no_larger_than_needed():
    data = encoded(picture(0, 400, 600))
    assert decode(data, max_pixels=10**6).size == (400, 600)
    assert decode(data, max_pixels=10**6, min_side=100).size == (100, 150)
    assert decode(data, max_pixels=10**6, min_side=101).size == (200, 300)
    whole, part = (
        resize(image, size=50, box=(0, 0, 1, 1), flip=False, resample=Image.Resampling.BICUBIC).astype(int)
        for image in (decode(data, max_pixels=10**6), decode(data, max_pixels=10**6, min_side=75))
    )
    assert np.abs(whole - part).mean() < 1.5


def test_square_box():
    assert square_box(100, 40, place=0.0) == (0.0, 0.0, 0.4, 1.0)
    assert square_box(100, 40, place=0.5) == (0.3, 0.0, 0.7, 1.0)
    assert square_box(40, 100, place=1.0) == (0.0, 0.6, 1.0, 1.0)
    assert square_box(100, 40, place=0.5, share=0.5) == (0.4, 0.25, 0.6, 0.75)
    assert square_box(40, 100, place=1.0, across=0.0, share=0.5) == (0.0, 0.8, 0.5, 1.0)


@pytest.mark.parametrize("flip", [False, True])
def test_image_and_region_stay_aligned(flip: bool):
    shape = np.zeros((60, 90), np.uint8)
    shape[10:40, 20:50] = 255
    shape[30:60, 60:70] = 255
    image, region = Image.fromarray(shape).convert("RGB"), Image.fromarray(shape).resize((180, 120), 0)
    box = square_box(90, 60, place=0.3)
    pixels = resize(image, size=30, box=box, flip=flip, resample=Image.Resampling.BICUBIC)[..., 0]
    clothing = resize(region, size=30, box=box, flip=flip, resample=Image.Resampling.NEAREST)
    assert clothing.shape == (30, 30)
    assert set(np.unique(clothing)) == {0, 255}
    assert 0.2 < (clothing == 255).mean() < 0.6
    assert np.mean((pixels > 127) == (clothing > 127)) > 0.95
    assert np.mean((pixels > 127) == (clothing[:, ::-1] > 127)) < 0.8


# ---- training batches ----


def test_zoom_takes_squares_of_half_to_all_of_the_shorter_side():
    """A picture whose red and green say where a pixel lies."""
    height, width = 120, 90
    rows, columns = np.mgrid[:height, :width] + 0.5
    where = np.rint(255 * np.stack([columns / width, rows / height, 0 * rows], axis=-1)).astype(np.uint8)
    batch = next(train(Memory(encoded(Image.fromarray(where), "PNG")), crop="zoom", batch_size=64, max_pixels=20_000))
    image = batch["image"] / 255
    low, high = image.min(axis=(1, 2)), image.max(axis=(1, 2))
    sides = (high - low)[:, :2] * (width, height) * 16 / 15  # the outermost pixels of 16 lie half a pixel inside
    np.testing.assert_allclose(sides[:, 0], sides[:, 1], atol=3)
    assert 42 < sides.min() < 50 and 85 < sides.max() < 93
    centres = (low + high)[:, :2] / 2
    assert (centres.std(axis=0) > 0.05).all()


def test_shapes_ranges_and_buckets():
    iterator = train(source(), batch_size=12)
    batches = [next(iterator) for _ in range(10)]
    for batch in batches:
        assert {key: (value.shape, value.dtype.name) for key, value in batch.items()} == {
            "image": ((12, 16, 16, 3), "uint8"),
            "mask": ((12, 16, 16, 1), "uint8"),
            "bad": ((12,), "int32"),
            "id": ((12,), "str288"),  # nine characters
        }
        assert set(np.unique(batch["mask"])) == {0, 1}
        assert batch["image"].min() < 75 < 180 < batch["image"].max()
        assert not batch["bad"].any()
    drawn = Counter(masks.bucket_of(masks.hole_ratio(mask)) for batch in batches for mask in batch["mask"])
    assert min(drawn[0], drawn[1], drawn[2]) > 25  # of 120, 40 expected


@pytest.mark.parametrize("count", [2, 4])
def test_the_global_batch_is_the_same_for_any_process_count(count: int):
    whole = train(source(), batch_size=8)
    shares = [train(source(), batch_size=8, process_index=index, process_count=count) for index in range(count)]
    for _ in range(3):
        parts = [next(share) for share in shares]
        assert {len(part["bad"]) for part in parts} == {8 // count}
        assert equal(next(whole), {key: np.concatenate([part[key] for part in parts]) for key in parts[0]})


def test_the_position_is_the_step():
    unbroken = train(source())
    batches = [next(unbroken) for _ in range(7)]
    resumed = train(source(), threads=1, start=5)
    assert equal(next(resumed), batches[5])
    assert equal(next(resumed), batches[6])
    assert not equal(batches[5], batches[6])


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("threads", [0, 2])
def test_threads_and_worker_processes_make_the_same_batches(workers: int, threads: int):
    plain, other = train(source(), threads=1, start=3), train(source(), threads=threads, workers=workers, start=3)
    assert all(equal(next(plain), next(other)) for _ in range(5))
    other.close()


def test_every_epoch_shows_every_image_under_new_masks():
    flat = Memory(*(encoded(Image.new("RGB", (20, 20), (20 * shade,) * 3), "PNG") for shade in range(10)))
    iterator = train(flat, batch_size=10)
    epochs = [next(iterator) for _ in range(3)]
    shades = [(epoch["image"][:, 0, 0, 0] // 20).tolist() for epoch in epochs]
    assert [sorted(order) for order in shades] == [[*range(10)]] * 3
    assert shades[0] != shades[1] != shades[2]
    by_shade = [epoch["mask"][np.argsort(order)] for epoch, order in zip(epochs, shades, strict=True)]
    assert all((one != other).any() for one, other in zip(by_shade[0], by_shade[1], strict=True))


def test_flip_and_crop_are_drawn():
    ramp = np.tile(np.linspace(0, 255, 60).astype(np.uint8)[None, :, None], (20, 1, 3))  # bright to the right
    data = Memory(encoded(Image.fromarray(ramp), "PNG"))
    images = next(train(data, batch_size=24))["image"]
    rising = images[:, 0, -1, 0] > images[:, 0, 0, 0]
    assert 4 < rising.sum() < 20
    assert images.mean((1, 2, 3)).std() > 13  # the square lies elsewhere each time
    images = next(train(data, batch_size=24, flip=False, crop="resize"))["image"]
    assert (images == images[0]).all()
    assert images[0, 0, 0, 0] < 13 < 242 < images[0, 0, -1, 0]


def test_a_bad_image_is_replaced_counted_and_named_once(caplog: pytest.LogCaptureFixture):
    good = [encoded(picture(seed)) for seed in range(8)]
    data = Memory(good[0][:300], *good, png_header(101, 100), b"")

    def epochs() -> list[dict[str, Any]]:
        iterator = train(data, batch_size=11, flip=False, crop="resize")
        return [next(iterator) for _ in range(3)]

    with caplog.at_level(logging.WARNING, "dpconv_jax"):
        first = epochs()
    assert [int(epoch["bad"].sum()) for epoch in first] == [3, 3, 3]
    assert sorted(record.getMessage().split(":")[0] for record in caplog.records) == [
        "bad image picture-0",
        "bad image picture-10",
        "bad image picture-9",
    ]
    assert all(equal(one, other) for one, other in zip(first, epochs(), strict=True))
    assert len(np.unique(first[0]["image"], axis=0)) == 8


@pytest.mark.parametrize("run", [lambda data: next(train(data)), evaluate], ids=["train", "evaluate"])
def test_bad_images_alone_are_refused(run: Any):
    with pytest.raises(UsageError, match=r"none of 3 images .*can be used"):
        run(Memory(b"", b"x", png_header(500, 500)))


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"crop": "circle"}, "data.crop 'circle' is unknown; known: resize, square"),
        ({"batch_size": 6, "process_count": 4}, "train.batch_size 6 is not a multiple of the 4 processes"),
        ({"batch_size": 0}, "batch_size 0"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], rule: str):
    with pytest.raises(UsageError, match=rule):
        train(source(), **options)


# ---- evaluation batches ----


def test_evaluation_masks_depend_on_seed_id_and_bucket_alone():
    batches = evaluate(source())
    assert [len(batch["row"]) for batch in batches] == [4, 4, 2]
    rows = [row for batch in batches for row in batch["row"]]
    assert [row.id for row in rows] == [f"picture-{index}" for index in range(10)]
    assert all(0.2 < row.ratio <= 0.4 and row.coverage is None for row in rows)
    for row, mask in zip(rows, np.concatenate([batch["mask"] for batch in batches]), strict=True):
        masks.verify(row, mask)
    for key, shape in {"image": (10, 16, 16, 3), "mask": (10, 16, 16, 1)}.items():
        whole = np.concatenate([batch[key] for batch in batches])
        assert (whole.shape, whole.dtype) == (shape, np.float32)
        (other,) = evaluate(source(), batch_size=7, examples=7)
        assert np.array_equal(whole[:7], other[key])
    for change in ({"seed": 4}, {"bucket": 2}):
        (other,) = evaluate(source(), batch_size=10, **change)
        assert (batches[0]["mask"] != other["mask"][:4]).any((1, 2, 3)).all()


def test_evaluation_leaves_bad_images_out_and_reports_coverage(caplog: pytest.LogCaptureFixture):
    region = np.zeros((52, 40), np.uint8)
    region[:12] = 255
    data = Memory(encoded(picture(0)), b"", encoded(picture(1)), region=encoded(Image.fromarray(region), "PNG"))
    (batch,) = evaluate(data, crop="resize", min_coverage=0.5)
    assert [row.id for row in batch["row"]] == ["picture-0", "picture-2"]
    assert "bad image picture-1" in caplog.text
    coverage = [row.coverage for row in batch["row"]]
    assert min(coverage) >= 0.5
    top = 1 - batch["mask"][:, :4].mean((1, 2, 3))  # the clothing is the topmost 12 of 52 rows, about 3.7 of 16
    np.testing.assert_allclose(top, coverage, atol=0.15)


# ---- datasets ----


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    root = tmp_path / "photos"
    for index, name in enumerate(["a.jpg", "B.JPG", "c.jpeg", "d.png", "deep/er/e.WebP", "deep/f.bmp", "deep/g h.png"]):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        suffix = name.rsplit(".")[-1].upper().replace("JPG", "JPEG")
        (root / name).write_bytes(encoded(picture(index), suffix))
    for name in (".hidden.jpg", "._a.jpg", "notes.txt", ".cache/x.jpg"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def names(data: ImageFolder) -> list[str]:
    return [data[index]["id"] for index in range(len(data))]


def test_image_folder(folder: pathlib.Path):
    opened = [sources.open_source("image_folder", split, dir=str(folder)) for split in ("train", "validation")]
    train_names, validation_names = map(names, opened)
    assert sorted(train_names + validation_names) == [
        *("B.JPG", "a.jpg", "c.jpeg", "d.png", "deep/er/e.WebP", "deep/f.bmp", "deep/g h.png")
    ]
    assert train_names == sorted(train_names)
    assert len(validation_names) == 1
    assert next(train(opened[0]))["bad"].sum() == 0


def test_images_keep_their_split_when_others_come(tmp_path: pathlib.Path):
    for index in range(300):
        (tmp_path / f"{index}.jpg").touch()
    before = set(names(ImageFolder(tmp_path, "validation")))
    assert 15 < len(before) < 50
    for index in range(300, 330):
        (tmp_path / f"{index}.jpg").touch()
    after = set(names(ImageFolder(tmp_path, "validation")))
    assert before == {name for name in after if int(name[:-4]) < 300}
    assert not after & set(names(ImageFolder(tmp_path, "train")))


def test_a_vanished_file_is_a_bad_image(folder: pathlib.Path, caplog: pytest.LogCaptureFixture):
    data = ImageFolder(folder, "train")
    (folder / names(data)[0]).unlink()
    assert next(train(data, batch_size=len(data)))["bad"].sum() == 1
    assert "No such file" in caplog.text


@pytest.fixture
def photos(tmp_path: pathlib.Path) -> pathlib.Path:
    """A miniature clothing-dataset-small without a test split, and with three files that are no use."""
    root = tmp_path / "clothing"
    for split, count in {"train": 5, "validation": 2}.items():
        for label in ("dress", "t-shirt"):
            (root / split / label).mkdir(parents=True)
            for index in range(count):
                (root / split / label / f"{index}.jpg").write_bytes(encoded(picture(index)))
    (root / "train/dress/truncated.jpg").write_bytes(encoded(picture(0))[:-400])
    (root / "train/dress/small.jpg").write_bytes(encoded(picture(0, 31, 90)))
    (root / "train/t-shirt/text.jpg").write_text("404: not found")
    return root


def test_clothing_small(photos: pathlib.Path, capsys: pytest.CaptureFixture[str]):
    where = {"manual_dir": str(photos), "data_dir": str(photos.parent / "built")}
    with pytest.raises(UsageError, match="more than the 1 % allowed"):
        sources.open_source("clothing_small", "train", **where)
    built = photos.parent / "built/clothing_small/originals"
    capsys.readouterr()
    sources.build(sources.make("clothing_small", data_dir=where["data_dir"]), str(photos), allowed=0.5)
    assert capsys.readouterr().out.splitlines() == [f"building clothing_small in {built / '2.0.0'}"]
    bad = (built / "rejected.csv").read_text().splitlines()
    assert [line.rpartition(",")[0] for line in bad[1:]] == [
        'train,dress/small.jpg,"31 x 90 pixels',
        "train,dress/truncated.jpg",
        'train,t-shirt/text.jpg,"not a JPEG, PNG',
    ]
    data = sources.open_source("clothing_small", "train", data_dir=where["data_dir"])  # built: no photos needed
    examples = [data[index] for index in range(len(data))]
    assert {example["id"] for example in examples} == {f"{k}/{i}.jpg" for k in ("dress", "t-shirt") for i in range(5)}
    assert all(example["image"] == (photos / "train" / example["id"]).read_bytes() for example in examples)
    assert all((example["category"], example["region"]) == (example["id"].split("/")[0], None) for example in examples)
    assert next(train(data))["bad"].sum() == 0

    assert len(sources.open_source("clothing_small", "validation", data_dir=where["data_dir"])) == 4
    assert capsys.readouterr().out == ""
    with pytest.raises(UsageError, match="built without a test split"):
        sources.open_source("clothing_small", "test", **where)


def test_a_damaged_record_is_a_bad_image(photos: pathlib.Path, caplog: pytest.LogCaptureFixture):
    sources.build(sources.make("clothing_small", data_dir=str(photos.parent / "built")), str(photos), allowed=0.5)
    (records,) = photos.parent.glob("built/clothing_small/*/*/*train*")
    data = bytearray(records.read_bytes())
    data[data.index(b"\xff\xd8\xff") + 200] ^= 1
    records.write_bytes(data)
    source = sources.open_source("clothing_small", "train", data_dir=str(photos.parent / "built"))
    batch = next(train(source, batch_size=10))
    assert batch["bad"].sum() == 1
    assert "hash mismatch" in caplog.text


def test_a_disk_that_cannot_be_written_is_one_line(photos: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: Any, **__: Any) -> None:
        raise RuntimeError("write() failed:\nNo space left on device")  # as array_record says it

    monkeypatch.setattr(sources.ClothingSmall, "_generate_examples", full)
    with pytest.raises(
        UsageError, match=r"^cannot build clothing_small in .*: write\(\) failed: No space left on device"
    ):
        sources.open_source("clothing_small", "train", manual_dir=str(photos), data_dir=str(photos.parent / "built"))
    assert [path.name for path in photos.parent.glob("built/clothing_small/originals/*")] == [".lock"]  # nothing half


@pytest.mark.parametrize(
    ("name", "options", "rule"),
    [
        ("clothing", {}, "data.name 'clothing' is unknown; known: .*clothing_small, .*image_folder"),
        ("image_folder", {}, "data.dir '' is no folder"),
        ("image_folder", {"dir": "{tmp}/none"}, "data.dir '.*none' is no folder"),
        ("image_folder", {"dir": "{tmp}"}, "holds 0 images"),
        ("clothing_small", {}, "data.manual_dir '' is no folder; .* git clone https://github.com/"),
        ("clothing_small", {"manual_dir": "{tmp}/none"}, "none' is no folder; .* git clone https://github.com/"),
        ("clothing_small", {"manual_dir": "{tmp}"}, "lacks train; it holds .*note.txt; git clone https://github.com/"),
        ("clothing_small", {"manual_dir": "{tmp}", "data_dir": "/dev/null/x"}, "cannot build"),
    ],
)
def test_missing_data_is_refused_in_one_line(name: str, options: dict[str, str], rule: str, tmp_path: pathlib.Path):
    (tmp_path / "note.txt").touch()
    options = {"data_dir": "{tmp}/built", **options}
    filled = {key: value.replace("{tmp}", str(tmp_path)) for key, value in options.items()}
    with pytest.raises(UsageError, match=rule) as caught:
        sources.open_source(name, "train", **filled)
    assert "\n" not in str(caught.value)


def test_real_photos(clothing: pathlib.Path):
    """The validation photos as a plain folder: all decode, and the masks hit their buckets."""
    data = ImageFolder(clothing / "validation", "validation")
    assert len(data) > 20
    (batch,) = evaluate(data, size=64, max_pixels=64_000_000, mask_preset="mixed", batch_size=999)
    assert len(batch["row"]) == len(data)
    assert batch["image"].std((1, 2, 3)).min() > 0.02


@pytest.mark.slow
def test_clothing_small_of_the_real_photos(clothing: pathlib.Path, tmp_path: pathlib.Path):
    lengths = {
        split: len(sources.open_source("clothing_small", split, manual_dir=str(clothing), data_dir=str(tmp_path)))
        for split in ("train", "validation")
    }
    assert lengths == {"train": 3068, "validation": 341}
