"""The table of bad input: one line with the value and the rule, and nothing changed on the disk.

Flags and fields that are misspelt, and the exit code, are in test_main.py: those need the command.
"""

import collections
import logging
import pathlib
import re
import shutil
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image
from toy import SIZE, Toy, tiny

import dpconv_jax
from dpconv_jax import UsageError
from dpconv_jax.models import GENERATORS
from dpconv_jax.training import train
from dpconv_jax.training.workdir import remember
from dpconv_jax.training.writers import read_scalars

STEPS = 4


@pytest.fixture(scope="module", autouse=True)
def toy() -> Iterator[None]:
    """The toy among the generators."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(GENERATORS, "toy", Toy)
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """What the rows below call {place}: photos/ with two bad files, folders and files that are of no use."""
    path = tmp_path_factory.mktemp("place")
    rng = np.random.default_rng(0)
    for name in ("photos", "empty", "single"):
        (path / name).mkdir()
    for index in range(10):
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(path / "photos" / f"{index}.png")
    (path / "photos" / "broken.jpg").write_bytes(b"no image")
    Image.new("1", (3000, 2000)).save(path / "photos" / "huge.png")
    shutil.copy(path / "photos" / "1.png", path / "single")
    (path / "vgg.npz").write_bytes(b"no weights")
    (path / "file").touch()
    return path


def recipe(place: pathlib.Path, **fields: object) -> ConfigDict:
    """That of `run`, with the `fields` of a row."""
    config = tiny()
    changes = {"data.dir": "{place}/photos", "data.max_pixels": 10_000, "train.devices": 1, "train.steps": STEPS}
    changes |= {name.replace("__", "."): value for name, value in fields.items()}
    filled = {key: value.format(place=place) if isinstance(value, str) else value for key, value in changes.items()}
    config.update_from_flattened_dict(filled)
    return config


@pytest.fixture(scope="module")
def trained(place: pathlib.Path) -> tuple[pathlib.Path, list[str]]:
    """A finished run on those photos, and what it had to say about them."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logging.getLogger("dpconv_jax").addHandler(handler)
    try:
        train.train_and_evaluate(recipe(place), place / "run", command="a test")
    finally:
        logging.getLogger("dpconv_jax").removeHandler(handler)
    return place / "run", said


@pytest.fixture
def run(trained: tuple[pathlib.Path, list[str]], tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of the finished run."""
    return shutil.copytree(trained[0], tmp_path / "run")


def tree(folder: pathlib.Path) -> dict[str, bytes | None]:
    """All below a folder, with the content of files."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def assert_refused(call: Callable[[], object], message: str, *, untouched: pathlib.Path) -> None:
    """UsageError with `message` in its one line, and the tree below `untouched` as it was."""
    before = tree(untouched)
    with pytest.raises(UsageError) as refusal:
        call()
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert tree(untouched) == before


CONFIGS = [
    ("data.name", "mnist", "data.name 'mnist' is unknown; known: "),
    ("data.dir", "", "data.dir '' is no folder; image_folder needs one with images"),
    ("data.dir", "{place}/none", "data.dir '{place}/none' is no folder; image_folder needs one with images"),
    ("data.dir", "{place}/empty", "data.dir '{place}/empty' holds 0 images"),
    ("data.dir", "{place}/single", "holds 1 images (.jpg, .jpeg, .png, .webp, .bmp); image_folder needs at least 2"),
    ("data.size", 36, "data.size is 36; it must be a multiple of 8"),
    ("data.size", 8, "data.size is 8; it must be a multiple of 8 and at least 16"),
    ("data.size", 0, "data.size is 0; it must be a multiple of 8 and at least 16"),
    ("data.crop", "x", "data.crop is 'x'; known: resize, square"),
    ("data.threads", -1, "data.threads is -1; it must be at least 0"),
    ("data.max_pixels", 0, "data.max_pixels is 0; it must be at least 1"),
    ("mask.preset", "strokes", "mask.preset is 'strokes'; known: qd_imd, thin"),
    ("mask.preset", "files", "mask.dir is empty"),
    ("mask.coverage", 1.5, "mask.coverage is 1.5; it must lie in [0, 1]"),
    ("mask.coverage", float("nan"), "mask.coverage is nan; it must lie in [0, 1]"),
    ("model.name", "unet", "model.name is 'unet'; known: dpconv"),
    ("loss.recipe", "l1", "loss.recipe is 'l1'; known: kinli2020, kinli2020_ssim, liu2018, yu2019"),
    ("optim.finetune", 1.5, "optim.finetune is 1.5; it must lie in [0, 1]"),
    ("optim.finetune", 0.2, "optim.finetune is 0.2, but Toy has no BatchNorm in its encoder to freeze"),
    ("loss.style", 120.0, "vgg.weights is empty; where loss.style is not 0 it must name a file"),
    ("vgg.start", -1, "vgg.start is -1; it must be at least 0"),
    ("optim.generator_lr", 0.0, "optim.generator_lr is 0.0; it must be above 0"),
    ("optim.discriminator_lr", -1.0, "optim.discriminator_lr is -1.0; it must be above 0"),
    ("optim.ema", 1.5, "optim.ema is 1.5; it must lie in [0, 1)"),
    ("optim.schedule", "step", "optim.schedule is 'step'; known: constant, exponential, cosine"),
    ("train.batch_size", 0, "train.batch_size is 0; it must be a multiple of the 1 devices"),
    ("train.devices", 9, "train.devices is 9; it must be 0 (all) or at most 4"),
    ("train.dtype", "float16", "train.dtype is 'float16'; known: float32, bfloat16"),
    ("train.log_every", 0, "train.log_every is 0; it must be at least 1"),
    ("eval.examples", -1, "eval.examples is -1; it must be at least 0"),
    ("eval.baselines", ("magic",), "unknown baseline 'magic'"),
    ("seed", -1, "seed is -1; it must be at least 0"),
]


@pytest.mark.parametrize(("field", "value", "message"), CONFIGS, ids=[f"{row[0]}={row[1]}" for row in CONFIGS])
def test_a_config_that_cannot_train(field, value, message, place):
    config = recipe(place, **{field: value})
    call = lambda: train.train_and_evaluate(config, place / "new", command="")  # noqa: E731
    assert_refused(call, message.replace("{place}", str(place)), untouched=place)


PAIRS = {
    "batch not divisible by devices": (
        {"train.batch_size": 6, "train.devices": 4},
        "train.batch_size is 6; it must be a multiple of the 4 devices",
    ),
    "no VGG-16 file": ({"loss.style": 120.0, "vgg.weights": "{place}/none.npz"}, "{place}/none.npz: no such file"),
    "damaged VGG-16 file": ({"loss.style": 120.0, "vgg.weights": "{place}/vgg.npz"}, "vgg.npz cannot be read"),
    "missing mask folder": (
        {"mask.preset": "files", "mask.hole": "black", "mask.dir": "{place}/none"},
        "mask folder '{place}/none' does not exist",
    ),
    "empty mask folder": (
        {"mask.preset": "files", "mask.hole": "black", "mask.dir": "{place}/empty"},
        "mask folder '{place}/empty' holds no image",
    ),
}


@pytest.mark.parametrize(("fields", "message"), PAIRS.values(), ids=PAIRS)
def test_fields_that_do_not_go_together(fields, message, place):
    config = recipe(place, **fields)
    call = lambda: train.train_and_evaluate(config, place / "new", command="")  # noqa: E731
    assert_refused(call, message.replace("{place}", str(place)), untouched=place)


def test_places_that_are_no_workdir(place):
    config = recipe(place)
    file = place / "file"
    for call, message in (
        (lambda: train.train_and_evaluate(config, file / "run", command=""), f"{file / 'run'} cannot be written: "),
        (lambda: train.evaluate_only(config, place / "empty", command=""), "empty holds no training run to evaluate"),
        (lambda: dpconv_jax.load(place / "empty"), "empty holds no checkpoint of a training run"),
        (lambda: dpconv_jax.load(place / "none"), "none: no such workdir or weight file"),
        (lambda: dpconv_jax.load(file), "file is no whole .safetensors file"),
    ):
        assert_refused(call, message, untouched=place)


RERUNS = [
    ("train_and_evaluate", "train.steps", 2, "train.steps is 2; it must be at least 4"),
    ("train_and_evaluate", "data.size", 64, "data.size was 32, is 64"),
    ("train_and_evaluate", "optim.generator_lr", 1e-3, "optim.generator_lr was 0.0002, is 0.001"),
    ("train_and_evaluate", "eval.examples", 1, "eval.examples was 0, is 1"),
    ("evaluate_only", "mask.preset", "thin", 'mask.preset was "mixed", is "thin"'),
    ("evaluate_only", "seed", 1, "seed was 0, is 1"),
]


@pytest.mark.parametrize(("mode", "field", "value", "message"), RERUNS)
def test_a_rerun_that_is_another_run(mode, field, value, message, place, run):
    config = recipe(place, **{field: value})
    assert_refused(lambda: getattr(train, mode)(config, run, command=""), message, untouched=run)


def cut_checkpoints(run: pathlib.Path) -> None:
    for step in (run / "checkpoints").iterdir():
        file = max((path for path in step.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
        file.write_bytes(file.read_bytes()[:-1])


def lose_config(run: pathlib.Path) -> None:
    (run / "config.json").unlink()


def cut_config(run: pathlib.Path) -> None:
    path = run / "config.json"
    path.write_text(path.read_text()[:-3])


DAMAGES = [
    (cut_checkpoints, "train", "no intact checkpoint under "),
    (cut_checkpoints, "evaluate", "no intact checkpoint under "),
    (cut_checkpoints, "load", "no intact checkpoint under "),
    (lose_config, "train", "holds checkpoints without their config.json; start in another workdir"),
    (lose_config, "evaluate", "holds no training run to evaluate"),
    (lose_config, "load", "holds no checkpoint of a training run"),
    (cut_config, "train", "config.json is damaged: "),
    (cut_config, "evaluate", "config.json is damaged: "),
    (cut_config, "load", "config.json is damaged: "),
]


@pytest.mark.parametrize(("damage", "use", "message"), DAMAGES)
def test_a_damaged_run(damage, use, message, place, run):
    damage(run)
    uses = {
        "train": lambda: train.train_and_evaluate(recipe(place), run, command=""),
        "evaluate": lambda: train.evaluate_only(recipe(place), run, command=""),
        "load": lambda: dpconv_jax.load(run),
    }
    assert_refused(uses[use], message, untouched=run)


def test_a_mask_of_another_size(run):
    model = dpconv_jax.load(run)
    image, mask = np.zeros((1, SIZE, SIZE, 3), np.float32), np.ones((1, SIZE, SIZE // 2, 1), np.float32)
    message = "x (1, 32, 32, 3) and mask (1, 32, 16, 1) must be (B, H, W, 3) and (B, H, W, 1)"
    assert_refused(lambda: model.generator(image, mask), message, untouched=run)


def test_a_full_disk(place, run, monkeypatch):
    """Steps are lost, checkpoints are not."""
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, 0))
    config = recipe(place, **{"train.steps": STEPS + 2})
    call = lambda: train.train_and_evaluate(config, run, command="")  # noqa: E731
    assert_refused(call, f"no space left for checkpoint {STEPS + 2} under", untouched=run / "checkpoints")


def test_images_that_cannot_be_used_are_named_and_counted_and_no_reason_to_stop(trained):
    run, said = trained
    for name, reason in (("broken.jpg", "not a JPEG"), ("huge.png", "3000 x 2000 pixels, more than 10000")):
        assert [line for line in said if re.match(f"bad image {name}: {reason}", line)]
    rows = read_scalars(run / "metrics.jsonl")
    assert sum(row.get("train/bad_images", 0) for row in rows) >= 2
    assert rows[-1]["step"] == STEPS


def test_until_the_first_checkpoint_a_folder_belongs_to_no_config(place, tmp_path):
    remember(recipe(place, seed=1), tmp_path, step=None)
    remember(recipe(place), tmp_path, step=None)
    message = "seed was 0, is 1"
    assert_refused(lambda: remember(recipe(place, seed=1), tmp_path, step=2), message, untouched=tmp_path)
