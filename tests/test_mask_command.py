"""`python -m dpconv_jax.masks`: fixed sets that say what they are, are the same every time, and can be trained with."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image
from test_quickdraw import drawn

from dpconv_jax import cli, masks
from dpconv_jax.masks import __main__ as command


def run(capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[int, list[str], list[str]]:
    code = cli.run(command.main, list(flags))
    said = capsys.readouterr()
    return code, said.out.splitlines(), said.err.splitlines()


def tree(root: pathlib.Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("hole", ["white", "black"])
def test_a_set_of_masks(hole: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]):
    flags = [f"--out={tmp_path / 'set'}", "--count=9", "--size=48", f"--hole={hole}"]
    code, lines, errors = run(capsys, *flags)
    assert (code, errors) == (0, [])
    assert lines[:3] == [f"ratio {bucket}: 3 masks" for bucket in ("(0.0, 0.2]", "(0.2, 0.4]", "(0.4, 1.0]")]
    assert sum(map(int, lines[3].split()[2:])) == 9 and lines[4] == f"9 masks, a hole is {hole}: {tmp_path / 'set'}"
    rows = masks.read_manifest(tmp_path / "set/manifest.jsonl")
    assert [(row.id, row.bucket) for row in rows] == [(f"{index:05d}.png", index % 3) for index in range(9)]
    for row in rows:
        with Image.open(tmp_path / "set/masks" / row.id) as image:
            assert image.mode == "1"
        masks.verify(row, masks.read(tmp_path / "set/masks" / row.id, hole=hole))
    with Image.open(tmp_path / "set/histogram.png") as image:
        assert np.asarray(image).std() > 10

    opened = masks.open_files(tmp_path / "set", name="", hole="", split="train")  # it says its polarity itself
    assert (opened.hole, [len(opened.in_bucket(bucket, size=(48, 48))) for bucket in (0, 1, 2)]) == (hole, [3, 3, 3])


def test_the_same_command_makes_the_same_bytes_and_mends_what_was_interrupted(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
):
    flags = [f"--out={tmp_path / 'set'}", "--count=6", "--size=32", "--preset=thin", "--bucket=1", "--seed=3"]
    run(capsys, *flags)
    first = tree(tmp_path / "set")
    assert {row.bucket for row in masks.read_manifest(tmp_path / "set/manifest.jsonl")} == {1}
    for name in ("manifest.jsonl", "masks/00004.png", "histogram.png"):
        (tmp_path / "set" / name).unlink()
    (tmp_path / "set/masks/00002.png").write_bytes(b"half")
    run(capsys, *flags)
    assert tree(tmp_path / "set") == first
    code, _, errors = run(capsys, *flags, "--seed=4")
    assert code == 2 and "holds another set of masks, see its set.json" in errors[0]
    assert tree(tmp_path / "set") == first


@pytest.mark.parametrize("preset", ["quickdraw", "quickdraw_published"])
def test_sets_of_peoples_strokes(preset: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]):
    drawn(tmp_path / "dress.ndjson")
    flags = [f"--out={tmp_path / 'set'}", "--count=12", "--size=64", f"--dir={tmp_path}", f"--preset={preset}"]
    assert run(capsys, *flags)[0] == 0
    buckets = [row.bucket for row in masks.read_manifest(tmp_path / "set/manifest.jsonl")]
    assert buckets == [0, 1, 2] * 4 if preset == "quickdraw" else buckets.count(0) > 6
    about = json.loads((tmp_path / "set/set.json").read_text())
    assert about["files"] == masks.QuickDraw(tmp_path).digest and about["preset"] == preset


@pytest.mark.parametrize(
    ("flags", "rule"),
    [
        (["--count=0"], "--count is 0; it must be at least 1"),
        (["--count=3", "--size=4"], "--size is 4; it must be at least 8"),
        (["--count=3", "--preset=files"], "invalid choice: 'files'"),
        (["--count=3", "--bucket=3"], "invalid choice: 3"),
        (["--count=3", "--preset=quickdraw"], "'' is no .ndjson file"),
        (["--count=3", "--dir=."], "--dir: preset mixed needs no files"),
        (
            ["--count=3", "--preset=quickdraw_published", "--bucket=0", "--dir=."],
            "--bucket: the ratios of quickdraw_pub",
        ),
        (["--count=3", "--out=/dev/null/x"], "--out /dev/null/x cannot be written"),
    ],
)
def test_mistakes(flags: list[str], rule: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]):
    code, _, errors = run(capsys, f"--out={tmp_path / 'set'}", *flags)
    assert code == 2 and len(errors) == 1 and rule in errors[0]
    assert not (tmp_path / "set").exists()
