"""Masks: every ratio lies in its bucket, every garment is covered, every file says its polarity."""

import dataclasses
import hashlib
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from dpconv_jax import masks
from dpconv_jax.errors import UsageError
from dpconv_jax.masks import drawing, strokes

SIDES = st.integers(8, 72)
SEEDS = st.integers(0, 2**32 - 1)
SHAPES = [*strokes.SHAPES]
DRAWN = st.sampled_from([*SHAPES, "mixed"])
BUCKETS = st.sampled_from([0, 1, 2])
GOLDEN = {
    "qd_imd": "1951e6caf59379f2",
    "thin": "a21d05dea8e07a71",
    "medium": "4970ee2c366a912e",
    "thick": "0a48d84268f22605",
    "boxes": "4b13a8e087a5717a",
    "blobs": "be3f14d8c13d4905",
}
quick = settings(max_examples=60)


def draw(seed, size, **options):
    return masks.draw(np.random.default_rng(seed), size, **options)


@pytest.fixture
def folder(tmp_path):
    """Four files of 40 x 60 whose left 6, 18, 30 and 0 of 60 columns are black."""
    for name, columns in {"a": 6, "b": 18, "c": 30, "empty": 0}.items():
        grey = np.full((40, 60), 255, np.uint8)
        grey[:, :columns] = 0
        Image.fromarray(grey).save(tmp_path / f"{name}.png")
    return tmp_path


# ---- drawn masks ----


@quick
@given(seed=SEEDS, height=SIDES, width=SIDES, preset=DRAWN, bucket=BUCKETS)
def test_ratio_in_bucket_and_form(seed, height, width, preset, bucket):
    mask = draw(seed, (height, width), preset=preset, bucket=bucket)
    assert mask.shape == (height, width, 1) and mask.dtype == np.uint8 and set(np.unique(mask)) == {0, 1}
    low, high = masks.DRAWN[bucket]
    assert low < np.mean(mask == 0) <= high
    assert masks.bucket_of(masks.hole_ratio(mask)) == bucket
    assert np.array_equal(mask, draw(seed, (height, width), preset=preset, bucket=bucket))


@pytest.mark.parametrize("preset", SHAPES)
def test_ratios_are_uniform(preset):
    """Kolmogorov-Smirnov distance of 150 ratios to the uniform law, against its 0.1 % critical value."""
    rng = np.random.default_rng(3)
    for bucket, (low, high) in enumerate(masks.DRAWN):
        ratios = [masks.hole_ratio(masks.draw(rng, (32, 32), preset=preset, bucket=bucket)) for _ in range(150)]
        place = (np.sort(ratios) - low) / (high - low)
        assert np.abs(place - (np.arange(150) + 0.5) / 150).max() < 1.95 / math.sqrt(150)


def test_mixed_draws_every_preset(monkeypatch):
    seen = set()
    boxes = strokes.SHAPES["boxes"]
    spies = {name: lambda *arguments, name=name: seen.add(name) or boxes(*arguments) for name in masks.MIXED}
    monkeypatch.setattr(strokes, "SHAPES", spies)
    for seed in range(60):
        draw(seed, (16, 16), preset="mixed", bucket=0)
    assert seen == set(masks.MIXED)


@quick
@given(seed=SEEDS, preset=st.sampled_from(SHAPES), ratio=st.floats(0.01, 0.6))
def test_shapes_paint_no_more_than_their_area(seed, preset, ratio):
    """Counting is skipped on the strength of this bound: were it broken, a hole could pass its bucket unseen."""
    shapes = strokes.SHAPES[preset](np.random.default_rng(seed), (64, 64), ratio, preset)
    for _ in range(6):
        shape, canvas = next(shapes), Image.new("L", (64, 64))
        shape.paint(ImageDraw.Draw(canvas), 1.0)
        assert np.count_nonzero(np.asarray(canvas)) <= shape.area


@pytest.mark.parametrize("preset", SHAPES)
def test_recorded_masks_come_again(preset):
    """Manifests name masks by what draws them: these are as they were when the first were recorded."""
    digest = hashlib.sha256()
    for seed in range(20):
        region = np.zeros((64, 64), bool)
        region[5:15, 40:60] = True
        for bucket in (0, 1, 2):
            digest.update(draw([seed, bucket], (97, 131), preset=preset, bucket=bucket).tobytes())
            options = {"region": region, "min_coverage": 0.3}
            digest.update(draw([seed, bucket], (64, 64), preset=preset, bucket=bucket, **options).tobytes())
    assert digest.hexdigest()[:16] == GOLDEN[preset]


def test_holes_are_strokes_not_dust():
    """A hole survives an erosion by one pixel: most of it is wider than three pixels."""
    for preset in SHAPES:
        for bucket in (1, 2):
            hole = draw(5, (128, 128), preset=preset, bucket=bucket)[..., 0] == 0
            inner = np.all([np.roll(hole, shift, axis) for axis in (0, 1) for shift in (-1, 1)], axis=0) & hole
            assert inner.sum() > 0.45 * hole.sum()


# ---- coverage ----


@quick
@given(seed=SEEDS, bucket=BUCKETS, preset=DRAWN, data=st.data())
def test_coverage_reached_wherever_it_can_be(seed, bucket, preset, data):
    height, width = data.draw(SIDES), data.draw(SIDES)
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    region = np.zeros((height, width, 1), np.uint8)
    region[top : top + data.draw(st.integers(1, height)), left : left + data.draw(st.integers(1, width))] = 255
    # A drawn hole's largest count may round to a little under the bucket's upper edge.
    share = data.draw(st.floats(0, math.floor(masks.DRAWN[bucket][1] * height * width) / (height * width) - 1e-9))
    mask = draw(seed, (height, width), preset=preset, bucket=bucket, region=region, min_coverage=share)
    assert masks.coverage(mask, region) >= share
    assert masks.bucket_of(masks.hole_ratio(mask)) == bucket


def test_impossible_coverage_does_its_best():
    region = np.ones((32, 32), bool)
    mask = draw(0, (32, 32), preset="thick", bucket=0, region=region, min_coverage=0.9)
    assert masks.coverage(mask, region) == masks.hole_ratio(mask) == pytest.approx(0.2, abs=1 / 1024)


def test_move_is_the_shortest_sufficient_one():
    hole, clothing = np.zeros((2, 12, 20), bool)
    hole[2:4, 2:4] = True
    clothing[2:4, 10:14] = True
    moved = drawing._toward(hole, clothing, 2)
    assert np.argwhere(moved).tolist() == [[2, 9], [2, 10], [3, 9], [3, 10]]


def test_coverage_and_ratio_by_hand():
    mask = np.array([[0, 0, 1, 1], [1, 1, 1, 1]], np.float32)[..., None]
    region = np.array([[0, 9, 9, 0], [0, 0, 9, 9]], np.uint8)
    assert masks.hole_ratio(mask) == 0.25
    assert masks.coverage(mask, region) == masks.coverage(mask, region[..., None]) == 0.25
    assert math.isnan(masks.coverage(mask, np.zeros((2, 4))))
    assert [masks.bucket_of(ratio) for ratio in (1e-6, 0.2, 0.2000001, 0.4, 0.41, 1.0)] == [0, 0, 1, 1, 2, 2]


# ---- files ----


@pytest.mark.parametrize(("hole", "ratio"), [("black", 0.3), ("white", 0.7)])
def test_read_declared_polarity(folder, hole, ratio):
    mask = masks.read(folder / "b.png", hole=hole)
    assert mask.shape == (40, 60, 1) and mask.dtype == np.uint8
    assert masks.hole_ratio(mask) == pytest.approx(ratio)
    assert mask[0, 0, 0] == (0 if hole == "black" else 1)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_read_resizes_by_nearest_neighbour_then_binarises(tmp_path, mode):
    """Of noise in two levels, each pixel of the half-sized mask is one pixel of the file: nothing is averaged."""
    noise = np.random.default_rng(0).random((16, 16)) < 0.5
    levels = Image.fromarray(np.where(noise, 150, 100).astype(np.uint8))
    image = Image.fromarray(noise) if mode == "1" else levels.convert(mode)
    image.save(tmp_path / "mask.png")
    assert np.array_equal(masks.read(tmp_path / "mask.png", hole="black", size=(8, 8))[..., 0], noise[1::2, 1::2])
    assert masks.read(tmp_path / "mask.png", hole="black", size=(5, 7)).shape == (5, 7, 1)


def test_files_by_bucket_flipped_and_moved(folder):
    files = masks.MaskFiles(folder, hole="black")
    assert [[path.stem for path in files.in_bucket(bucket, size=(20, 30))] for bucket in (0, 1, 2)] == [
        ["a"],
        ["b"],
        ["c"],
    ]
    options = {"preset": "files", "files": files}
    sides = {int(draw(seed, (20, 30), bucket=0, **options)[0, 0, 0]) for seed in range(12)}
    assert sides == {0, 1}  # the three black columns come left and, flipped, right
    region = np.zeros((20, 30), bool)
    region[:, 14:16] = True
    mask = draw(0, (20, 30), bucket=0, region=region, min_coverage=0.5, **options)
    assert masks.coverage(mask, region) >= 0.5 and masks.hole_ratio(mask) == pytest.approx(0.1)


# ---- fixed masks and their manifest ----


def fixed(example_id="1", seed=0, bucket=1, **options):
    defaults = {"size": (32, 32), "preset": "mixed", "region": None, "min_coverage": 0.05}
    return masks.eval_mask(seed=seed, example_id=example_id, bucket=bucket, **defaults | options)


def test_eval_masks_are_a_function_of_seed_id_and_bucket(monkeypatch):
    assert np.array_equal(fixed(), fixed())
    monkeypatch.setattr(drawing, "draw", lambda rng, *_, **__: rng.integers(2**62))
    draws = [fixed(), fixed("2"), fixed(seed=1), fixed(bucket=2), fixed("10"), fixed("0", seed=1)]
    assert len(set(draws)) == len(draws) and fixed() == draws[0]


def test_manifest_round_trip_and_tampering(tmp_path, folder):
    region = np.zeros((32, 32), bool)
    region[8:24, 8:24] = True
    files = masks.MaskFiles(folder, hole="black")
    made = {
        ("a/ä.jpg", 1): fixed("a/ä.jpg", region=region),
        ("b.jpg", 2): fixed("b.jpg", bucket=2, preset="files", files=files),
    }
    rows = [
        masks.row(made["a/ä.jpg", 1], example_id="a/ä.jpg", bucket=1, seed=0, preset="mixed", region=region),
        masks.row(
            made["b.jpg", 2].astype(np.float32), example_id="b.jpg", bucket=2, seed=0, preset="files", files=files
        ),
    ]
    path = tmp_path / "manifest.jsonl"
    masks.write_manifest(path, rows)
    assert masks.read_manifest(path) == rows
    assert rows[1].coverage is None and rows[1].files == files.digest != "" == rows[0].files
    masks.verify(rows[0], made["a/ä.jpg", 1], region=region)
    masks.verify(rows[1], made["b.jpg", 2])

    other = made["a/ä.jpg", 1].copy()
    other[0, 0, 0] ^= 1
    with pytest.raises(UsageError, match=r"a/ä.jpg.*sha256"):
        masks.verify(rows[0], other)
    with pytest.raises(UsageError, match="coverage"):
        masks.verify(rows[0], made["a/ä.jpg", 1], region=~region)

    first, second = path.read_text(encoding="utf-8").splitlines()
    for damaged, words in {
        first[:-5]: "not a row",
        first.replace('"seed"', '"sead"'): "not a row",
        json.dumps(dataclasses.asdict(rows[0]) | {"ratio": 0.5}): "does not lie in bucket 1",
        second: "comes twice",
    }.items():
        path.write_text(f"{second}\n{damaged}\n", encoding="utf-8")
        with pytest.raises(UsageError, match=f"line 2.*{words}"):
            masks.read_manifest(path)


def test_digest_follows_content(folder):
    before = masks.MaskFiles(folder, hole="black").digest
    assert before == masks.MaskFiles(folder, hole="black").digest != masks.MaskFiles(folder, hole="white").digest
    (folder / "a.png").rename(folder / "z.png")
    assert masks.MaskFiles(folder, hole="black").digest != before


# ---- a user's mistakes ----


def bad_files(folder, name, content, hole="black"):
    (folder / name).mkdir()
    (folder / name / "x.png").write_bytes(content)
    return masks.MaskFiles(folder / name, hole=hole).in_bucket(0, size=(16, 16))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda folder: draw(0, (16, 16), preset="clouds", bucket=0), "'clouds'.*qd_imd"),
        (lambda folder: draw(0, (16, 16), preset="thin", bucket=3), "bucket 3"),
        (lambda folder: draw(0, (16, 4), preset="thin", bucket=0), "16x4"),
        (lambda folder: draw(0, (16, 16), preset="thin", bucket=0, min_coverage=1.5), r"1\.5"),
        (lambda folder: draw(0, (16, 16), preset="files", bucket=0), "needs a folder"),
        (lambda folder: draw(0, (16, 16), preset="thin", bucket=0, region=np.ones((8, 8))), r"\(8, 8\).*16x16"),
        (lambda folder: masks.bucket_of(0.0), "0.0"),
        (lambda folder: masks.MaskFiles(folder, hole=""), "'black'"),
        (lambda folder: masks.MaskFiles(folder / "nowhere", hole="black"), "nowhere.*does not exist"),
        (lambda folder: masks.MaskFiles((folder / "none").mkdir() or folder / "none", hole="black"), "no image"),
        (lambda folder: bad_files(folder, "torn", b"not an image"), r"x\.png.*not a readable image"),
        (lambda folder: masks.read(folder / "a.png", hole="transparent"), "'transparent'"),
        (lambda folder: masks.read(folder / "gone.png", hole="black"), r"gone\.png"),
        (lambda folder: masks.read_manifest(folder / "gone.jsonl"), r"gone\.jsonl"),
    ],
)
def test_mistakes_are_named_in_one_line(folder, call, words):
    with pytest.raises(UsageError, match=words) as error:
        call(folder)
    assert "\n" not in str(error.value)


def test_no_file_in_bucket_is_named(folder):
    (folder / "c.png").unlink()
    with pytest.raises(UsageError, match=r"none of 3 files.*\(0\.4, 1\.0\] with black holes at 20x30"):
        draw(0, (20, 30), preset="files", bucket=2, files=masks.MaskFiles(folder, hole="black"))
