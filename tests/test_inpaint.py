"""The command on photos and folders: what it changes, skips, names and refuses; and Fig. 5 from what it wrote."""

import errno
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from PIL import ExifTags, Image, ImageOps
from toy import weight_file

from dpconv_jax import cli, inpaint, progress
from dpconv_jax.inpainting import folder, photo
from dpconv_jax.study import figures
from dpconv_jax.weights import model_file

ROOT = pathlib.Path(__file__).resolve().parents[1]
HEIGHT, WIDTH = 40, 56
HOLE = np.zeros((HEIGHT, WIDTH), bool)  # as all holes here, such that every window is 64 x 64
HOLE[12:22, 20:34] = True


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return weight_file(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


class Said(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    errors: str


Command = Callable[..., Said]


@pytest.fixture
def fill(weights: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command: `fill(image=..., box=[...], overwrite=True)`, without texture where nothing else is said.

    Patches of black and white noise leave every other pixel of a hole as it was, so that nobody sees what was filled.
    """

    def run(**flags: Any) -> Said:
        code = cli.run(inpaint.main, arguments({"checkpoint": weights, "texture": "off"} | flags))
        return Said(code, *capsys.readouterr())

    return run


def arguments(flags: dict[str, Any]) -> list[str]:
    given = []
    for name, value in flags.items():
        values = value if isinstance(value, list) else [value]
        given += [f"--{name}" if one is True else f"--{name}={one}" for one in values]
    return given


def noise(seed: int = 0, channels: int = 3) -> np.ndarray:
    """Black and white, which the network's output never is: what was filled has changed."""
    return np.random.default_rng(seed).integers(0, 2, (HEIGHT, WIDTH, channels), np.uint8) * 255


def saved(path: pathlib.Path, pixels: np.ndarray, **options: Any) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def pixels(path: pathlib.Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def changed(before: pathlib.Path, after: pathlib.Path) -> np.ndarray:
    """Where any channel of two files differs, bool (h, w)."""
    one, other = pixels(before), pixels(after)
    assert (one.shape, one.dtype) == (other.shape, other.dtype)
    return (one != other).reshape(*one.shape[:2], -1).any(axis=2)


def tree(path: pathlib.Path) -> dict[str, bytes | None]:
    """All below a folder, with the content of files."""
    return {
        str(each.relative_to(path)): each.read_bytes() if each.is_file() else None for each in sorted(path.rglob("*"))
    }


@pytest.fixture
def place(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """photos/ with three photos, masks/ with theirs, mask.png; whatever a test does, these stay as they are."""
    for index, name in enumerate(("a.png", "b.png", "sub/[red] é :apple:.PNG")):
        saved(tmp_path / "photos" / name, noise(index))
        saved((tmp_path / "masks" / name).with_suffix(".png"), HOLE)
    saved(tmp_path / "mask.png", HOLE)
    before = tree(tmp_path)
    yield tmp_path
    after = tree(tmp_path)
    assert {name: after.get(name) for name in before} == before


# ---- what changes ----


@pytest.mark.parametrize("texture", ["auto", "off"])
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "I;16"])
def test_only_the_hole_changes(mode, suffix, texture, fill, tmp_path):
    channels = {"RGB": 3, "RGBA": 4, "L": 1, "LA": 2, "I;16": 1}[mode]
    values = np.squeeze(noise(channels=channels))
    image = saved(tmp_path / f"photo{suffix}", values.astype(np.uint16) * 257 if mode == "I;16" else values)
    mask, out = saved(tmp_path / "mask.png", HOLE), tmp_path / f"out{suffix}"
    said = fill(image=image, mask=mask, out=out, texture=texture)
    assert (said.code, said.errors) == (0, "")
    different = changed(image, out)
    assert not different[~HOLE].any() and different[HOLE].mean() > (0.3 if texture == "auto" else 0.99)
    assert ("--texture=off: the network's fill alone" in said.out) == (texture == "off")
    if mode in ("RGBA", "LA"):
        assert np.array_equal(pixels(out)[..., -1], values[..., -1])
    assert "white is hole in the masks; if it is valid, say --mask_hole=black" in said.out
    assert "1 photos in " in said.out and "photos/s; 0 failed" in said.out


def test_a_photo_with_too_little_for_patches_is_said(fill, tmp_path):
    image, mask = saved(tmp_path / "photo.png", noise()), np.ones((HEIGHT, WIDTH), bool)
    mask[3, 4] = False
    said = fill(
        image=image,
        mask=saved(tmp_path / "mask.png", mask),
        mask_hole="white",
        out=tmp_path / "out.png",
        texture="auto",
    )
    assert said.code == 0 and "too little of the photo is valid for its texture" in said.out
    assert not changed(image, tmp_path / "out.png")[3, 4]


def test_a_turned_photo_takes_an_upright_mask_and_stays_turned(fill, tmp_path):
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    image = saved(tmp_path / "photo.png", np.rot90(noise()), exif=turned)
    mask, out = saved(tmp_path / "mask.png", HOLE), tmp_path / "out.png"
    assert fill(image=image, mask=mask, out=out).code == 0
    with Image.open(image) as before, Image.open(out) as after:
        assert after.size == before.size == (HEIGHT, WIDTH)
        assert after.getexif()[ExifTags.Base.Orientation] == 6
        upright = [np.asarray(ImageOps.exif_transpose(each)) for each in (before, after)]
    assert np.array_equal((upright[0] != upright[1]).any(axis=2), HOLE)


def test_dilate_and_feather_reach_so_far_and_no_farther(fill, place):
    image, mask = place / "photos" / "a.png", place / "mask.png"
    flags = {"image": image, "mask": mask, "out": place / "out.png", "overwrite": True}
    grown = np.zeros_like(HOLE)
    grown[10:24, 18:36] = True  # by two
    assert fill(**flags, dilate=2).code == 0
    assert np.array_equal(changed(image, place / "out.png"), grown)
    filled = pixels(place / "out.png").astype(int)
    assert fill(**flags, feather=2).code == 0
    assert np.array_equal(changed(image, place / "out.png"), grown)
    before, after = pixels(image).astype(int), pixels(place / "out.png").astype(int)
    assert 0 < np.abs(after - before)[grown & ~HOLE].mean() < np.abs(filled - before)[grown & ~HOLE].mean()


def test_the_format_is_that_of_the_suffix_and_a_jpeg_keeps_its_quality(fill, place):
    image, mask = saved(place / "photo.jpg", noise(), quality=60, subsampling=1), place / "mask.png"
    for name in ("out.JPG", "out.png", "out.webp", "out.bmp"):
        assert fill(image=image, mask=mask, out=place / name).code == 0
    with Image.open(image) as before, Image.open(place / "out.JPG") as after:
        assert after.quantization == before.quantization
    assert np.array_equal(changed(image, place / "out.png"), HOLE)
    with Image.open(place / "out.webp") as webp, Image.open(place / "out.bmp") as bmp:
        assert (webp.format, bmp.format) == ("WEBP", "BMP")


def test_boxes_and_shapes_are_holes(fill, place):
    image, out = place / "photos" / "a.png", place / "out.png"
    assert fill(image=image, box=["20,12,27,22", "27,12,34,22"], out=out).code == 0
    assert np.array_equal(changed(image, out), HOLE)
    content = {"shapes": [{"points": [[20, 12], [26, 21]], "shape_type": "rectangle"}], "imageHeight": HEIGHT}
    (place / "a.json").write_text(json.dumps(content))
    said = fill(image=image, mask=place / "a.json", box="27,12,34,22", out=out, overwrite=True)
    assert said.code == 0 and "is hole in the masks" not in said.out
    assert np.array_equal(changed(image, out), HOLE)


@pytest.mark.parametrize("size", [(1, 2), (8, 900), (900, 8), (3, 3)])
def test_small_and_narrow_photos(size, fill, tmp_path):
    values = np.random.default_rng(0).integers(0, 2, (*size, 3), np.uint8) * 255
    image = saved(tmp_path / "photo.png", values)
    assert fill(image=image, box="0,0,1,1", out=tmp_path / "out.png").code == 0
    assert np.argwhere(changed(image, tmp_path / "out.png")).tolist() == [[0, 0]]


# ---- folders ----


def test_a_folder_with_a_folder_of_masks(fill, place, monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0)  # seconds between lines where there is no terminal
    said = fill(image=place / "photos", mask=place / "masks", out=place / "clean")
    assert (said.code, said.errors) == (0, "")
    for name in ("a.png", "b.png", "sub/[red] é :apple:.PNG"):
        assert np.array_equal(changed(place / "photos" / name, place / "clean" / name), HOLE)
    assert [line.split(", ")[0] for line in said.out.splitlines()[2:5]] == [f"{done}/3 photos" for done in (1, 2, 3)]
    assert "3 photos in " in said.out
    assert [*tree(place / "clean")] == [*tree(place / "photos")]


def test_partners_that_are_missing_are_named_and_the_rest_goes_on(fill, place):
    saved(place / "photos" / "sub" / "lonely.jpg", noise())
    saved(place / "photos" / "twice.png", noise())
    for name in ("twice.png", "twice.bmp", "sub/a.png", *(f"spare{index:02}.png" for index in range(12))):
        saved(place / "masks" / name, HOLE)
    said = fill(image=place / "photos", mask=place / "masks", out=place / "clean")
    assert said.code == 1
    assert said.errors.splitlines() == [
        f"failed: sub/lonely.jpg: no mask below {place / 'masks'}",
        "failed: twice.png: several masks, twice.bmp and twice.png",
    ]
    assert "masks without a photo: spare00, spare01, " in said.out and "spare09 and 3 more" in said.out
    assert "3 photos in " in said.out and "2 failed" in said.out
    assert [*tree(place / "clean")] == ["a.png", "b.png", "sub", "sub/[red] é :apple:.PNG"]


def test_one_mask_for_all_and_results_within_the_photos(fill, place):
    """Results are no photos when the command runs again, nor is the mask."""
    mask, out = saved(place / "photos" / "mask.png", HOLE), place / "photos" / "clean"
    for _ in range(2):
        assert fill(image=place / "photos", mask=mask, out=out).code == 0
        assert [*tree(out)] == ["a.png", "b.png", "sub", "sub/[red] é :apple:.PNG"]


def test_photos_that_are_done_are_skipped_until_told_otherwise(fill, place):
    flags = {"image": place / "photos", "mask": place / "masks", "out": place / "clean"}
    (place / "clean").mkdir()
    (place / "clean" / "a.png").write_bytes(b"done before")
    said = fill(**flags)
    assert said.code == 0
    assert "1 done already, skipped; --overwrite fills them again" in said.out and "2 photos in " in said.out
    before = tree(place / "clean")
    assert before["a.png"] == b"done before"
    said = fill(**flags)
    assert (said.code, "3 done already" in said.out, "photos in" in said.out) == (0, True, False)
    assert tree(place / "clean") == before
    assert "3 photos in " in fill(**flags, overwrite=True).out
    assert tree(place / "clean").items() ^ before.items() == {("a.png", b"done before")} | {
        ("a.png", (place / "clean" / "a.png").read_bytes())
    }


def test_variants_lie_beside_the_first_and_are_made_again_where_one_is_missing(fill, tmp_path):
    cloth = np.random.default_rng(0).integers(96, 160, (72, 88, 3), np.uint8)
    image, out = saved(tmp_path / "photos" / "shirt.png", cloth), tmp_path / "out"
    flags = {"image": image.parent, "box": "30,30,50,45", "out": out, "texture": "auto", "variants": 3}
    assert fill(**flags).code == 0
    files = [out / "shirt.png", out / "shirt-2.png", out / "shirt-3.png"]
    made = [file.read_bytes() for file in files]
    assert sorted(out.iterdir()) == sorted(files) and len(set(made)) == 3
    assert "1 done already" in fill(**flags).out and "1 done already" in fill(**flags | {"variants": 2}).out
    files[2].unlink()
    assert "1 photos in" in fill(**flags).out
    assert [file.read_bytes() for file in files] == made

    saved(tmp_path / "photos" / "shirt-2.png", cloth)
    said = fill(**flags | {"out": tmp_path / "other"})
    assert said.code == 2 and "shirt-2.png would be made of shirt-2.png and of shirt.png" in said.errors
    assert not (tmp_path / "other").exists()
    for wrong in ({"variants": 0}, {"variants": "many"}, {"variants": 2, "texture": "off"}):
        assert fill(**flags | wrong).code == 2


def test_a_bad_photo_or_mask_is_named_the_rest_goes_on_and_nothing_is_lost(fill, place, monkeypatch):
    photos, masks, older = place / "photos", place / "masks", {}
    monkeypatch.setattr(folder, "MAX_PIXELS", HEIGHT * WIDTH)
    huge = np.zeros((HEIGHT, WIDTH + 1), bool)
    bad = {
        "cut": lambda: saved(photos / "cut.png", noise()).write_bytes((photos / "a.png").read_bytes()[:200]),
        "no photo": lambda: (photos / "no photo.png").write_bytes(b"<html>404</html>"),
        "huge": lambda: saved(photos / "huge.png", huge),
        "link": lambda: (photos / "link.png").symlink_to(photos / "link.png"),
        "mask cut": lambda: saved(masks / "mask cut.png", HOLE).write_bytes((masks / "a.png").read_bytes()[:60]),
        "mask huge": lambda: saved(masks / "mask huge.png", huge),
        "mask of another size": lambda: saved(masks / "mask of another size.png", HOLE.T),
        "mask is broken json": lambda: (masks / "mask is broken json.json").write_text("{"),
    }
    for name, spoil in bad.items():
        spoil()
        if name.startswith("mask"):
            saved(photos / f"{name}.png", noise())
        else:
            saved(masks / f"{name}.png", HOLE)
        saved(place / "clean" / f"{name}.png", noise(9))
        older[f"{name}.png"] = (place / "clean" / f"{name}.png").read_bytes()
    said = fill(image=photos, mask=masks, out=place / "clean", overwrite=True)
    assert said.code == 1
    reasons = dict(line.removeprefix("failed: ").split(".png: ", 1) for line in said.errors.splitlines())
    assert reasons.keys() == bad.keys()
    for name, reason in {
        "cut": "truncated",
        "no photo": "not a JPEG, PNG, WebP, BMP or TIFF",
        "huge": "57 x 40 pixels, more than 2240",
        "link": "Too many levels of symbolic links",
        "mask cut": f"mask {masks / 'mask cut.png'}: ",
        "mask huge": f"mask {masks / 'mask huge.png'}: 57 x 40 pixels, more than 2240",
        "mask of another size": f"mask {masks / 'mask of another size.png'} is 40 x 56, the photo 56 x 40",
        "mask is broken json": "mask is broken json.json holds no LabelMe shapes: ",
    }.items():
        assert reason in reasons[name]
    after = tree(place / "clean")
    assert older.items() <= after.items()
    assert after.keys() - older.keys() == {"a.png", "b.png", "sub", "sub/[red] é :apple:.PNG"}
    assert "3 photos in " in said.out and "8 failed" in said.out


def test_an_empty_mask_gives_the_photo_as_it_was(fill, place):
    image = saved(place / "photo.jpg", noise(), quality=40)
    mask = saved(place / "empty.png", np.zeros_like(HOLE))
    said = fill(image=image, mask=mask, out=place / "out.JPG", dilate=3, feather=3)
    assert (said.code, said.errors) == (0, "")
    assert (place / "out.JPG").read_bytes() == image.read_bytes()
    assert "no hole: the photo as it was" in said.out
    assert fill(image=image, mask=mask, out=place / "out.png").code == 0
    assert not changed(image, place / "out.png").any()
    with Image.open(place / "out.png") as out:
        assert out.format == "PNG"


def test_a_full_mask_fails(fill, place):
    flags = {"image": place / "photos" / "a.png", "out": place / "out.png"}
    mask = saved(place / "full.png", np.ones_like(HOLE))
    for hole in (
        {"mask": mask, "mask_hole": "white"},
        {"box": "0,0,99,99"},
        {"mask": place / "mask.png", "dilate": 99},
    ):
        said = fill(**flags, **hole)
        assert (said.code, "the hole is the whole photo: there is nothing" in said.errors) == (1, True)
    assert not (place / "out.png").exists()


def test_a_soft_mask_is_noted_and_works(fill, place):
    mask = saved(place / "soft.png", np.where(HOLE, 200, 100).astype(np.uint8))
    said = fill(image=place / "photos" / "a.png", mask=mask, out=place / "out.png")
    assert said.code == 0 and "a.png: 100.00% of the mask is grey, cut at half" in said.out
    assert np.array_equal(changed(place / "photos" / "a.png", place / "out.png"), HOLE)


def test_a_mask_that_may_be_the_wrong_way_round_is_a_question(fill, place):
    flags = {"image": place / "photos", "mask": saved(place / "inverse.png", ~HOLE), "out": place / "clean"}
    said = fill(**flags)
    assert said.code == 2
    assert said.errors.startswith(f"error: mask {place / 'inverse.png'} has a hole of 94% if white is hole: ")
    assert said.errors.count("\n") == 1 and not (place / "clean").exists()
    said = fill(**flags, mask_hole="black")
    assert (said.code, said.errors, "is hole in the masks" in said.out) == (0, "", False)
    assert np.array_equal(changed(place / "photos" / "a.png", place / "clean" / "a.png"), HOLE)


def test_a_place_that_cannot_be_written_is_named(fill, place):
    (place / "clean" / "b.png").mkdir(parents=True)
    (place / "clean" / "sub").touch()
    said = fill(image=place / "photos", mask=place / "mask.png", out=place / "clean")
    assert said.code == 1
    first, second = said.errors.splitlines()
    assert first == "failed: b.png: cannot be written: Is a directory"
    assert second.startswith("failed: sub/[red] é :apple:.PNG: cannot be written: ")
    assert [*tree(place / "clean")] == ["a.png", "b.png", "sub"]


def test_any_name_can_be_said(fill, place, monkeypatch):
    """On a terminal too, where some of them would be markup."""
    empty = saved(place / "empty.png", np.zeros_like(HOLE))
    name = os.fsdecode(b"caf\xe9\nfailed: [red].png")
    shutil.copy(place / "photos" / "a.png", place / "photos" / name)
    for terminal in ("", "1"):
        monkeypatch.setenv("FORCE_COLOR", terminal)
        monkeypatch.setenv("COLUMNS", "200")
        said = fill(image=place / "photos", mask=empty, out=place / "clean", overwrite=True)
        assert said.code == 0
        assert r"caf\udce9\nfailed: [red].png: no hole" in said.out
        assert (place / "clean" / name).read_bytes() == (place / "photos" / name).read_bytes()


def test_an_interrupt_leaves_what_is_done(fill, place, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(folder, "TOGETHER", 1)
        patch.setattr(photo, "_fitted", interrupt)
        said = fill(image=place / "photos", mask=place / "masks", out=place / "clean")
    assert said.code == 130 and said.errors == "interrupted\n"
    assert not [name for name in tree(place / "clean") if name.endswith(("png", "PNG"))]
    assert fill(image=place / "photos", mask=place / "masks", out=place / "clean").code == 0


def test_a_full_disk_stops_in_one_line(fill, place, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(photo, "write_whole", full)
    said = fill(image=place / "photos", mask=place / "masks", out=place / "clean")
    assert said.code == 2 and said.errors.startswith("error: no space left for ") and said.errors.count("\n") == 1


@pytest.mark.slow
def test_a_kill_leaves_whole_files_and_the_same_command_finishes(weights, tmp_path):
    number, hole = 40, np.zeros((400, 600), bool)
    hole[12:22, 20:34] = True
    for index in range(number):
        values = np.random.default_rng(index).integers(0, 2, (*hole.shape, 3), np.uint8) * 255
        saved(tmp_path / "photos" / f"{index:02}.png", values)
    out = tmp_path / "out"
    flags = {"checkpoint": weights, "image": tmp_path / "photos", "box": "20,12,34,22", "out": out, "texture": "off"}
    command = [sys.executable, "-m", "dpconv_jax.inpaint", *arguments(flags)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    while process.poll() is None and len([*out.glob("[!.]*")]) < 5:
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    done = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(out.glob("[!.]*"))}
    assert 5 <= len(done) < number
    assert all(np.array_equal(changed(tmp_path / "photos" / path.name, path), hole) for path in done)
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"{len(done)} done already, skipped" in again.stdout
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in done} == done
    assert len([*out.glob("[!.]*")]) == number
    assert all(np.array_equal(changed(path, out / path.name), hole) for path in (tmp_path / "photos").iterdir())


# ---- mistakes in the command ----

PHOTO, MASK, OUT = "{place}/photos/a.png", "{place}/mask.png", "{place}/out.png"
PHOTOS, MASKS, CLEAN = "{place}/photos", "{place}/masks", "{place}/clean"
LONG = "{place}/" + "a" * 300 + ".png"
MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "no hole": ({"image": PHOTO, "out": OUT}, "there is no hole: give --mask, or --box"),
    "no photo": ({"image": "{place}/none.png", "mask": MASK, "out": OUT}, "--image {place}/none.png: no such file"),
    "no mask": ({"image": PHOTO, "mask": "{place}/none.png", "out": OUT}, "--mask {place}/none.png: no such file"),
    "too long a name": ({"image": LONG, "mask": MASK, "out": OUT}, LONG),
    "no photo in a folder": ({"image": "{place}/empty", "mask": MASK, "out": CLEAN}, "empty holds no photo (.jpg, "),
    "photos among masks": ({"image": PHOTOS, "mask": PHOTOS, "out": CLEAN}, "photos is the folder of the photos; "),
    "one photo, many masks": ({"image": PHOTO, "mask": MASKS, "out": OUT}, "masks is a folder; one photo takes one"),
    "photos into a file": ({"image": PHOTOS, "mask": MASK, "out": MASK}, "mask.png is a file; for a folder of photos"),
    "suffix": ({"image": PHOTO, "mask": MASK, "out": "{place}/o.gif"}, "o.gif: a photo's suffix is one of .jpg"),
    "no suffix": ({"image": PHOTO, "mask": MASK, "out": "{place}/out"}, "out: a photo's suffix is one of .jpg, "),
    "over the photo": ({"image": PHOTO, "mask": MASK, "out": PHOTO}, "photos/a.png would replace {place}/photos/a.png"),
    "over the photo's place": ({"image": PHOTO, "mask": MASK, "out": PHOTOS}, "a.png would replace "),
    "over the mask": ({"image": PHOTO, "mask": MASK, "out": MASK}, "mask.png would replace {place}/mask.png, which"),
    "over the photos": ({"image": PHOTOS, "mask": MASKS, "out": PHOTOS}, "a.png would replace {place}/photos/a.png"),
    "over the photos by a link": ({"image": PHOTOS, "mask": MASK, "out": "{place}/link"}, "a.png would replace "),
    "over the masks": ({"image": PHOTOS, "mask": MASKS, "out": MASKS}, "masks is the folder of the masks; "),
    "over another photo": ({"image": "{place}/x", "mask": MASK, "out": "{place}"}, "x/a.png would replace {place}/x/"),
    "box": ({"image": PHOTO, "box": "1,2,3", "out": OUT}, "box '1,2,3' must be four whole numbers x0,y0,x1,y1"),
    "reversed box": ({"image": PHOTO, "box": ["1,2,3,4", "9,0,3,9"], "out": OUT}, "box '9,0,3,9' is empty: "),
    "dilate": ({"image": PHOTO, "mask": MASK, "out": OUT, "dilate": -1}, "--dilate: '-1' is no number of pixels"),
    "feather": ({"image": PHOTO, "mask": MASK, "out": OUT, "feather": 10**400}, " is no number of pixels, 0 to 999999"),
    "half a pixel": ({"image": PHOTO, "mask": MASK, "out": OUT, "feather": 1.5}, "--feather: '1.5' is no number"),
    "polarity": ({"image": PHOTO, "mask": MASK, "out": OUT, "mask_hole": "grey"}, "--mask_hole: invalid choice: "),
    "another flag": ({"image": PHOTO, "mask": MASK, "out": OUT, "dilat": 1}, "--dilat=1"),
    "no output": ({"image": PHOTO, "mask": MASK}, "--out"),
}  # fmt: skip


@pytest.mark.parametrize(("flags", "message"), MISTAKES.values(), ids=MISTAKES)
@pytest.mark.parametrize("overwrite", [{}, {"overwrite": True}], ids=["", "overwrite"])
def test_a_mistake_is_one_line_before_anything_is_loaded(flags, message, overwrite, fill, place):
    """The checkpoint does not exist, and that is not what is said."""
    (place / "empty").mkdir()
    (place / "link").symlink_to(place / "photos")
    saved(place / "x" / "x" / "a.png", noise())
    saved(place / "x" / "a.png", noise())
    before = tree(place)
    named = {name: value.format(place=place) if isinstance(value, str) else value for name, value in flags.items()}
    said = fill(**named, **overwrite, checkpoint=place / "none")
    assert (said.code, said.out) == (2, "")
    assert message.format(place=place) in said.errors
    assert said.errors.startswith("error: ") and said.errors.count("\n") == 1
    assert tree(place) == before


def test_a_folder_that_cannot_be_listed_is_a_mistake(fill, place, monkeypatch):
    scan = os.scandir

    def refuse(path: str) -> Any:
        if os.fspath(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        said = fill(image=place / "photos", mask=place / "mask.png", out=place / "clean")
    assert said == Said(2, "", f"error: {place / 'photos' / 'sub'}: Permission denied\n")


def test_a_box_outside_fails_for_those_photos(fill, place):
    saved(place / "photos" / "wide.png", np.zeros((HEIGHT, 80, 3), np.uint8))
    said = fill(image=place / "photos", box="60,12,70,22", out=place / "clean")
    assert said.code == 1
    assert "failed: a.png: box 60,12,70,22 lies outside the photo of 56 x 40\n" in said.errors
    assert [*tree(place / "clean")] == ["wide.png"]


def test_mistakes_are_said_without_jax(place):
    flags = arguments(
        {"checkpoint": "none", "image": place / "photos", "mask": place / "mask.png", "out": place / "mask.png"}
    )
    code = "import sys; from dpconv_jax import cli, inpaint; print(cli.run(inpaint.main, sys.argv[1:]), *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, *flags], cwd=ROOT, capture_output=True, text=True, check=True)
    code, *modules = done.stdout.split()
    assert (code, "numpy" in modules, "jax" in modules) == ("2", True, False)


def relabelled(path: pathlib.Path, **fields: str) -> None:
    """The same tensors with other metadata, signed anew."""
    with safetensors.safe_open(path, framework="numpy") as file:
        header = dict(file.metadata()) | fields
    tensors = safetensors.numpy.load_file(path)
    header.pop("sha256")
    header["sha256"] = model_file._sha256(tensors, header)
    safetensors.numpy.save_file(tensors, path, header)


CHECKPOINTS: dict[str, tuple[Callable[[pathlib.Path], object], str]] = {
    "missing": (pathlib.Path.unlink, "no such workdir or weight file"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-9]), "is no whole .safetensors file"),
    "damaged": (lambda path: path.write_bytes(path.read_bytes()[:-9] + bytes(9)), "is damaged: its content has not"),
    "text": (lambda path: path.write_bytes(b"{}"), "is no whole .safetensors file"),
    "another format": (lambda path: relabelled(path, format="pt"), "format is 'pt'"),
    "another model": (lambda path: relabelled(path, model="unet"), "model.name is 'unet'; known: dpconv"),
    "another width": (lambda path: relabelled(path, options='{"width": 0.25}'), "does not fit its model: "),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "holds no checkpoint of a training run"),
}


@pytest.mark.parametrize(("spoil", "message"), CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_a_checkpoint_that_cannot_be_used(spoil, message, fill, place, weights):
    spoil(path := pathlib.Path(shutil.copy(weights, place / "bad.safetensors")))
    before = tree(place)
    said = fill(checkpoint=path, image=place / "photos", mask=place / "masks", out=place / "clean")
    assert said.code == 2
    assert message in said.errors and said.errors.count("\n") == 1
    assert tree(place) == before


# ---- Fig. 5 ----


@pytest.fixture
def draw(capsys: pytest.CaptureFixture[str]) -> Command:
    def run(**flags: Any) -> Said:
        return Said(cli.run(figures.main, ["fig5", *arguments(flags)]), *capsys.readouterr())

    return run


def reduced(values: np.ndarray) -> np.ndarray:
    return np.asarray(ImageOps.pad(Image.fromarray(values), (256, 256), Image.Resampling.LANCZOS, color="white"))


def test_figure_5_shows_truth_masked_and_result(draw, place):
    for index in range(3):
        name = ("a.png", "b.png", "sub/[red] é :apple:.PNG")[index]
        saved(place / "clean" / name, noise(10 + index))
    flags = {"image": place / "photos", "mask": place / "masks", "result": place / "clean"}
    said = draw(**flags, photos=2, out=place / "fig5.png")
    assert said == Said(0, f"{place / 'fig5.png'}: 2 photos, truth | masked | result\n", "")
    figure = pixels(place / "fig5.png")
    assert figure.shape == (2 * 256 + 2, 3 * 256 + 2 * 2, 3)
    for row in range(2):
        masked = np.where(HOLE[..., None], np.uint8(255), noise(row))
        for column, expected in enumerate((noise(row), masked, noise(10 + row))):
            cell = figure[258 * row :, 258 * column :][:256, :256]
            assert np.array_equal(cell, reduced(expected)), (row, column)
    assert draw(**flags, out=place / "fig5.png").out.endswith("3 photos, truth | masked | result\n")


FIGURES: dict[str, tuple[dict[str, Any], str]] = {
    "no result": ({"result": "{place}/none"}, "{place}/none/a.png: No such file or directory"),
    "a result of another size": ({"result": "{place}/wide"}, "wide/a.png has not the size of {place}/photos/a.png"),
    "photos as results": ({"result": "{place}/photos"}, "photos/a.png would replace"),
    "a mask is missing": ({"mask": "{place}/wide"}, "b.png: no mask below {place}/wide"),
    "a mask of another size": ({"mask": "{place}/tall.png"}, "a.png: mask {place}/tall.png is 40 x 56, the photo"),
    "a mask that is none": ({"mask": "{place}/text.png"}, "a.png: mask {place}/text.png: not a JPEG"),
    "no photos": ({"photos": 0}, "--photos=0: at least 1"),
    "fewer": ({"photos": -1}, "--photos=-1: at least 1"),
    "another format": ({"out": "{place}/fig5.pdf"}, "fig5.pdf: a figure is a .png or a .jpg"),
    "no folder": ({"out": "{place}/none/fig5.png"}, "fig5.png cannot be written: No such file or directory"),
    "over a photo": ({"out": "{place}/photos/b.png"}, "photos/b.png would replace what was given"),
    "over a result": ({"out": "{place}/clean/b.png"}, "clean/b.png would replace what was given"),
}


@pytest.mark.parametrize(("flags", "message"), FIGURES.values(), ids=FIGURES)
def test_a_figure_that_cannot_be_drawn(flags, message, draw, place):
    shutil.copytree(place / "photos", place / "clean")
    saved(place / "wide" / "a.png", np.zeros((HEIGHT, 80, 3), np.uint8))
    saved(place / "tall.png", HOLE.T)
    (place / "text.png").write_text("no picture")
    before = tree(place)
    known = {"image": PHOTOS, "mask": MASKS, "result": CLEAN, "out": "{place}/fig5.png"}
    given = {
        name: value.format(place=place) if isinstance(value, str) else value for name, value in (known | flags).items()
    }
    said = draw(**given)
    assert said.code == 2
    assert message.format(place=place) in said.errors and said.errors.count("\n") == 1
    assert tree(place) == before
