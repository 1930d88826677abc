"""Masks of Quick, Draw! strokes: drawings as they are shipped, the published parameters, every bucket filled."""

import json
import pathlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpconv_jax import masks
from dpconv_jax.errors import UsageError
from dpconv_jax.masks import quickdraw


def line(*strokes: list[list[int]], word: str = "skirt") -> str:
    about = {"word": word, "countrycode": "US", "timestamp": "2017-03-09 00:28:55", "recognized": True, "key_id": "5"}
    return json.dumps(about | {"drawing": strokes})


def drawn(path: pathlib.Path, *, seed: int = 0, count: int = 200) -> pathlib.Path:
    """Arcs and zigzags of three to twenty points, as of a simplified drawing: whole numbers, some of them 0 or 255."""
    rng, lines = np.random.default_rng(seed), []
    for _ in range(count):
        strokes = []
        for _ in range(rng.integers(1, 5)):
            turn = np.linspace(0, rng.uniform(1, 6), rng.integers(3, 20)) + rng.uniform(0, 6)
            radius = rng.uniform(30, 127)
            centre = rng.uniform(radius, 255 - radius, 2)
            x, y = centre[0] + radius * np.cos(turn), centre[1] + radius * np.sin(turn)
            strokes.append([np.rint(each).astype(int).clip(0, 255).tolist() for each in (x, y)])
        lines.append(line(*strokes))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    root = tmp_path_factory.mktemp("quickdraw")
    for seed, name in enumerate(("dress", "t-shirt")):
        drawn(root / f"{name}.ndjson", seed=seed)
    return root


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), side=st.integers(16, 96), bucket=st.sampled_from([0, 1, 2]))
def test_every_bucket_is_hit(seed: int, side: int, bucket: int, folder: pathlib.Path):
    options = {"preset": "quickdraw", "bucket": bucket, "files": masks.QuickDraw(folder)}
    mask = masks.draw(np.random.default_rng(seed), (side, side + 8), **options)
    assert mask.shape == (side, side + 8, 1) and {*np.unique(mask)} == {0, 1}
    assert masks.bucket_of(masks.hole_ratio(mask)) == bucket and masks.hole_ratio(mask) <= 0.6
    again = masks.draw(np.random.default_rng(seed), (side, side + 8), **options)
    assert np.array_equal(mask, again)


def test_published_masks_have_the_published_width(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    """Of one straight stroke of the whole canvas a mask is a band as wide as the stroke, enlarged."""
    monkeypatch.setattr(quickdraw, "NUMBER", (1, 0))
    (tmp_path / "a.ndjson").write_text(line([[0, 255], [128, 128]]) + "\n")
    drawings, widths = masks.QuickDraw(tmp_path), []
    for seed in range(300):
        mask = drawings.published(np.random.default_rng(seed), (512, 512))[..., 0]
        assert (mask[:, 16:-16] == mask[:, 256:257]).all()  # from edge to edge: the zoom is at least 1
        widths.append(512 - mask[:, 256].sum())
    assert 5 <= min(widths) < 7 and 19 < max(widths) <= 23  # U(5, 15) times U(1, 1.5)
    assert abs(np.mean(widths) - 12.5) < 1


def test_the_number_of_strokes_is_normal(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    counts: list[int] = []
    drawings = masks.QuickDraw(folder)
    stroke = masks.QuickDraw.stroke

    def counted(self: masks.QuickDraw, rng: np.random.Generator) -> np.ndarray:
        counts[-1] += 1
        return stroke(self, rng)

    monkeypatch.setattr(masks.QuickDraw, "stroke", counted)
    for seed in range(400):
        counts.append(0)
        drawings.published(np.random.default_rng(seed), (64, 64))
    assert abs(np.mean(counts) - 4.1) < 0.4 and abs(np.std(counts) - 1.9) < 0.3  # a little more: empty masks come again
    assert min(counts) >= 1


def test_published_masks_seldom_have_large_holes(folder: pathlib.Path):
    drawings = masks.QuickDraw(folder)
    ratios = [masks.hole_ratio(drawings.published(np.random.default_rng(seed), (128, 128))) for seed in range(200)]
    assert min(ratios) > 0 and np.mean(np.array(ratios) > 0.4) < 0.02


def test_strokes_come_from_all_lines_of_all_files(tmp_path: pathlib.Path):
    for name, start in {"a": 0, "b": 10}.items():
        lines = [line([[start + index, 255], [0, 255]]) for index in range(10)]
        (tmp_path / f"{name}.ndjson").write_text("\n".join(lines) + ("\n" if name == "a" else ""))
    drawings, rng = masks.QuickDraw(tmp_path), np.random.default_rng(0)
    seen = [round(255 * drawings.stroke(rng)[0, 0]) for _ in range(2000)]
    counts = np.bincount(seen, minlength=20)
    assert len(counts) == 20 and counts.min() > 50 and counts.max() < 150


def test_damaged_lines_are_passed_over(tmp_path: pathlib.Path):
    damaged = [
        "",
        "{",
        '{"drawing": []}',
        '{"drawing": [[[1], [2]]]}',
        '{"drawing": [[[1, 999], [2, 3]]]}',
        "null",
        "[1]",
    ]
    damaged += [
        '{"drawing": [[[1, 2], [3]]]}',
        '{"drawing": [[["a", "b"], [1, 2]]]}',
        '{"drawing": [[[1, NaN], [1, 2]]]}',
    ]
    (tmp_path / "a.ndjson").write_text("\n".join([*damaged, line([[0, 255], [0, 255]])]))
    drawings = masks.QuickDraw(tmp_path)
    for seed in range(30):
        assert np.array_equal(drawings.stroke(np.random.default_rng(seed)), [[0, 0], [1, 1]])
    (tmp_path / "a.ndjson").write_text("\n".join(damaged))
    with pytest.raises(UsageError, match=f"{quickdraw.TRIES} lines in a row are none of Quick, Draw!"):
        masks.QuickDraw(tmp_path / "a.ndjson").stroke(np.random.default_rng(0))


def test_digest_follows_content(folder: pathlib.Path, tmp_path: pathlib.Path):
    first = masks.QuickDraw(folder).digest
    one = drawn(tmp_path / "a.ndjson", seed=5)
    assert masks.QuickDraw(folder).digest == first != masks.QuickDraw(one).digest
    before = masks.QuickDraw(one).digest
    one.write_text(one.read_text().replace("skirt", "shirt", 1))
    assert masks.QuickDraw(one).digest != before


def test_rows_name_the_drawings(folder: pathlib.Path):
    drawings = masks.QuickDraw(folder)
    options = {"seed": 0, "example_id": "a", "bucket": 1, "preset": "quickdraw", "files": drawings}
    mask = masks.eval_mask(size=(32, 32), region=None, min_coverage=0.05, **options)
    assert masks.row(mask, **options).files == drawings.digest


@pytest.mark.parametrize("content", [None, b""])
def test_missing_drawings_are_named(content: bytes | None, tmp_path: pathlib.Path):
    if content is not None:
        (tmp_path / "a.ndjson").write_bytes(content)
    with pytest.raises(UsageError, match=r"is no \.ndjson file|is empty"):
        masks.QuickDraw(tmp_path)
    with pytest.raises(UsageError, match=r"needs \.ndjson files"):
        masks.draw(np.random.default_rng(0), (16, 16), preset="quickdraw", bucket=0)
