"""Figs. 1, 4 and 7: which photos and holes they show, where, and what is refused; tests/test_inpaint.py has Fig. 5."""

import json
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps
from toy import SIZE, Toy, tiny

from dpconv_jax import cli
from dpconv_jax.baselines import classical
from dpconv_jax.checkpoints import Checkpoints
from dpconv_jax.inpainting import model
from dpconv_jax.models import GENERATORS
from dpconv_jax.study import figures
from dpconv_jax.training import steps, workdir
from dpconv_jax.training.experiment import open_validation
from dpconv_jax.weights import model_file

PHOTOS = 40
CELL, GAP, HEAD, SIDE = figures.CELL, figures.GAP, figures.HEAD, figures.SIDE


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pathlib.Path]:
    """photos/, two workdirs a/ and b/ of toys that have not learned, and toy.safetensors, for tests that only read."""
    path = tmp_path_factory.mktemp("place")
    rng = np.random.default_rng(0)
    (path / "photos").mkdir()
    for index in range(PHOTOS):
        small = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
        small.resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(path / "photos" / f"{index}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(GENERATORS, "toy", Toy)
        for seed, name in enumerate("ab"):
            config = tiny()
            config.data.dir = str(path / "photos")
            config.seed = seed
            state = steps.initialise(steps.build(config))
            workdir.remember(config, path / name, step=None)
            checkpoints = Checkpoints(path / name / "checkpoints", keep=1)
            checkpoints.save(1, state, metric=1.0)
            checkpoints.close()
        loaded = model.load(path / "a")
        model_file.save(path / "toy.safetensors", loaded.params, loaded.metadata)
        yield path


def cells(path: pathlib.Path, *, columns: int, left: int = 0) -> list[list[np.ndarray]]:
    """The pictures of a block of a figure, row by row."""
    with Image.open(path) as opened:
        pixels = np.asarray(opened)
    rows = (pixels.shape[0] - HEAD + GAP) // (CELL + GAP)
    return [
        [
            pixels[HEAD + row * (CELL + GAP) :, left + SIDE + column * (CELL + GAP) :][:CELL, :CELL]
            for column in range(columns)
        ]
        for row in range(rows)
    ]


def enlarged(pixels: np.ndarray) -> np.ndarray:
    """A float picture as a cell shows it."""
    image = Image.fromarray(np.rint(255 * pixels).astype(np.uint8))
    return np.asarray(ImageOps.pad(image, (CELL, CELL), Image.Resampling.LANCZOS))


def expected(place: pathlib.Path, bucket: int) -> dict[str, dict[str, Any]]:
    """Photo and mask of the whole validation by id."""
    config = tiny()
    config.data.dir = str(place / "photos")
    found = {}
    for batch in open_validation(config)(bucket):
        for image, mask, row in zip(batch["image"], batch["mask"], batch["row"], strict=True):
            found[row.id] = {"image": image, "mask": mask, "row": row}
    return found


def test_photos_are_drawn_by_a_hash():
    ids = [f"{index}\udce9.png" for index in range(50)]  # in Latin-1
    few, many = (figures.chosen(ids, bucket=1, photos=photos, seed=3) for photos in (2, 6))
    assert few == many[:2] and len({*many}) == 6
    assert figures.chosen(ids[::-1], bucket=1, photos=6, seed=3) == many
    others = [figures.chosen(ids, bucket=bucket, photos=6, seed=seed) for bucket, seed in ((1, 4), (2, 3))]
    assert many not in others


def test_figure_4_shows_each_method_on_the_validation_of_the_first_model(place, tmp_path, capsys):
    ids = sorted(expected(place, 0))[:2]
    out = tmp_path / "fig4.png"
    flags = ["--baselines=mean", f"--model=B={place / 'toy.safetensors'}", f"--out={out}", f"--ids={','.join(ids)}"]
    assert cli.run(figures.main, ["fig4", f"--model=A={place / 'a'}", *flags]) == 0
    assert capsys.readouterr().out == f"{out}: IN | Mean colour | A | B | GT\n"
    rows = cells(out, columns=5)
    assert len(rows) == 6
    for bucket in range(3):
        for row, known in zip(rows[2 * bucket :], [expected(place, bucket)[name] for name in ids], strict=False):
            image, mask = known["image"], known["mask"]
            shown, mean, ours, file, truth = row
            np.testing.assert_array_equal(truth, enlarged(image))
            np.testing.assert_array_equal(shown, enlarged(np.where(mask > 0, image, 0.5)))
            np.testing.assert_array_equal(mean, enlarged(classical.mean_fill(image, mask)))
            np.testing.assert_array_equal(ours, file)  # one network, from its workdir and its file
            filled = model.load(place / "a").output(image, mask)
            error = enlarged(np.where(mask > 0, image, filled)).astype(int) - ours
            assert np.abs(error).max() <= 1
    with Image.open(out) as opened:
        heads = np.asarray(opened)[:HEAD]
    for column in range(5):  # something is written above each
        assert heads[:, SIDE + column * (CELL + GAP) :][:, :CELL].min() == 0
    assert heads[:, :SIDE].min() == 255


def test_figures_1_and_7_stand_in_blocks_and_drawn_photos_come_back(place, tmp_path, capsys):
    model_, out = f"--model=Ours={place / 'a'}", tmp_path / "fig.png"
    assert cli.run(figures.main, ["fig7", model_, "--photos=1", f"--out={out}"]) == 0
    assert capsys.readouterr().out == f"{out}: IN | OUT | GT\n"
    width = SIDE + 3 * CELL + 2 * GAP
    left, right = cells(out, columns=3), cells(out, columns=3, left=width)
    assert len(left) == len(right) == 2
    assert (right[1][0] == 255).all()  # three photos in two blocks
    truths = [left[0][2], left[1][2], right[0][2]]
    for bucket, truth in enumerate(truths):
        known = expected(place, bucket)
        (name,) = figures.chosen(known, bucket=bucket, photos=1, seed=0)
        np.testing.assert_array_equal(truth, enlarged(known[name]["image"]))

    first = out.read_bytes()
    assert cli.run(figures.main, ["fig7", model_, "--photos=1", f"--out={out}"]) == 0
    assert out.read_bytes() == first
    assert cli.run(figures.main, ["fig1", model_, "--photos=1", f"--out={out}"]) == 0
    width = SIDE + 2 * CELL + GAP
    for bucket in range(3):
        ((shown, filled),) = cells(out, columns=2, left=bucket * width)
        np.testing.assert_array_equal(shown, [left[0], left[1], right[0]][bucket][0])
        np.testing.assert_array_equal(filled, [left[0], left[1], right[0]][bucket][1])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["fig4"], "--model: at least one, and no two methods of one name"),
        (["fig4", "--model=a"], "--model=a: NAME=PATH"),
        (["fig4", "--model=A={place}/a", "--model=A={place}/b"], "no two methods of one name"),
        (["fig4", "--model=A={place}/photos"], "photos holds no checkpoint of a training run"),
        (
            ["fig4", "--model=A={place}/toy.safetensors"],
            "cannot be read; the first --model must be a workdir",
        ),
        (["fig4", "--model=A={place}/a", "--baselines=magic"], "unknown baseline 'magic'"),
        (["fig1", "--model=A={place}/a", "--model=B={place}/b"], "fig1 shows one --model; fig4 compares several"),
        (["fig7", "--model=A={place}/a", "--baselines=mean"], "fig7 shows one --model; fig4 compares several"),
        (["fig7", "--model=A={place}/a", "--ids=no.png,0.png"], "--ids: no photo no.png"),
        (["fig7", "--model=A={place}/a", "--photos=0"], "--photos=0: at least 1"),
        (["fig7", "--model=A={place}/a", "--out={tmp}/fig.pdf"], "fig.pdf: a figure is a .png or a .jpg"),
        (["fig7", "--model=A={place}/a", "--out={place}/photos/0.png"], "0.png lies among the photos or masks"),
        (["fig7", "--model=A={place}/a", "--out={tmp}/none/a.png"], "a.png cannot be written: No such file"),
        (["fig3"], "invalid choice: 'fig3'"),
    ],
)
def test_mistakes(flags, message, place, tmp_path, capsys):
    before = (place / "photos" / "0.png").read_bytes()
    flags = [each.replace("{place}", str(place)).replace("{tmp}", str(tmp_path)) for each in flags]
    out = [] if any("--out" in each for each in flags) else [f"--out={tmp_path / 'fig.png'}"]
    assert cli.run(figures.main, [*flags, *out]) == 2
    errors = capsys.readouterr().err
    assert message in errors and errors.count("\n") == 1
    assert not [*tmp_path.iterdir()] and (place / "photos" / "0.png").read_bytes() == before


def test_photos_that_are_gone(place, tmp_path, capsys):
    path = shutil.copytree(place / "a", tmp_path / "a") / "config.json"
    config = json.loads(path.read_text())
    config["data"]["dir"] = str(tmp_path / "none")
    path.write_text(json.dumps(config))
    assert cli.run(figures.main, ["fig7", f"--model=A={tmp_path / 'a'}", f"--out={tmp_path / 'fig.png'}"]) == 2
    assert "none' is no folder" in capsys.readouterr().err
