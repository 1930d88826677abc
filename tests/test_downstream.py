"""The study of a classifier: the regression against arithmetic, who sees what, and the command over flat photos."""

import csv
import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image
from toy import Toy, weight_file

from dpconv_jax import cli, masks
from dpconv_jax.errors import UsageError
from dpconv_jax.evaluation import evaluate, methods
from dpconv_jax.models import GENERATORS
from dpconv_jax.models.vgg16 import BLOCKS, VGG16
from dpconv_jax.study import contenders, downstream
from dpconv_jax.weights import model_file

SIZE = 16


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy among the generators."""
    monkeypatch.setitem(GENERATORS, "toy", functools.partial(Toy, dropout=0.0))


@pytest.fixture
def network(tmp_path: pathlib.Path) -> pathlib.Path:
    """A file of a toy with random weights."""
    shapes = model_file.shapes(nnx.eval_shape(lambda: Toy(dropout=0.0, size=SIZE, rngs=nnx.Rngs(0))))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.1, leaf.shape).astype(leaf.dtype), shapes)
    path = tmp_path / "toy.safetensors"
    model_file.save(path, params, model_file.Metadata(model="toy", options={}, size=SIZE, step=1))
    return path


# ---- the classifier ----


def cross_entropy(classifier: downstream.Classifier, features: np.ndarray, labels: np.ndarray, penalty: float) -> float:
    """The objective, photo by photo and class by class."""
    total = 0.0
    for row, label in zip(features, labels, strict=True):
        standard = (row - classifier.mean) / classifier.deviation
        scores = standard @ classifier.weights + classifier.biases
        total += np.log(sum(np.exp(score) for score in scores)) - scores[label]
    return total / len(labels) + 0.5 * penalty * float((classifier.weights**2).sum())


def data(photos: int = 90, signal: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, 5) of three classes; the last one never changes."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, photos)
    features = rng.normal(3, 2, (photos, 5)) + signal * np.eye(3, 5)[labels]
    features[:, 4] = 7
    return features, labels


def test_the_fit_is_the_least_of_its_objective():
    features, labels = data()
    fitted = downstream.fit(features, labels, classes=3, penalty=0.03)
    least = cross_entropy(fitted, features, labels, 0.03)
    rng = np.random.default_rng(1)
    for _ in range(20):
        near = fitted._replace(
            weights=fitted.weights + rng.normal(0, 0.02, (5, 3)), biases=fitted.biases + rng.normal(0, 0.02, 3)
        )
        assert cross_entropy(near, features, labels, 0.03) > least
    assert np.allclose(np.exp(fitted.scores(features)).sum(axis=1), 1)


def test_under_a_great_penalty_only_the_frequencies_are_left():
    features, labels = data()
    scores = downstream.fit(features, labels, classes=3, penalty=1e3).scores(features)
    np.testing.assert_allclose(np.exp(scores[0]), np.bincount(labels) / len(labels), atol=1e-3)


def test_scales_of_features_do_not_matter():
    features, labels = data()
    scales = np.array([1, 100, 0.01, 5, 3])
    one = downstream.fit(features, labels, classes=3, penalty=0.1).scores(features)
    other = downstream.fit(features * scales + 8, labels, classes=3, penalty=0.1).scores(features * scales + 8)
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_noise_asks_for_the_greater_penalty():
    choose = functools.partial(downstream.cross_validate, classes=3, penalties=(1e-4, 10.0), folds=3, seed=0)
    penalty, accuracy = choose(*data(signal=0.0))
    assert penalty == 10.0 and accuracy < 0.55
    penalty, accuracy = choose(*data(signal=20.0))
    assert penalty == 1e-4 and accuracy > 0.95


def test_features_do_not_depend_on_the_batch(monkeypatch):
    monkeypatch.setattr(downstream, "BATCH", 2)
    rng = np.random.default_rng(0)
    layers = [layer for block in BLOCKS for layer in block]
    kernels = {
        name: jnp.asarray(rng.normal(0, (2 / (9 * i)) ** 0.5, (3, 3, i, o)), jnp.float32) for name, i, o in layers
    }
    features = downstream.features_of(VGG16(kernels, {name: jnp.zeros(o) for name, _, o in layers}, "torchvision"))
    images = rng.random((3, SIZE, SIZE, 3), np.float32)
    together = features(images)
    assert together.shape == (3, 512) and together.std() > 0
    np.testing.assert_allclose(np.concatenate([features(image[None]) for image in images]), together, rtol=1e-5)


# ---- what is measured ----


def batch(ids: list[str]) -> dict[str, Any]:
    """Flat photos whose left half is missing."""
    images = np.full((len(ids), SIZE, SIZE, 3), 0.9, np.float32)
    mask = np.ones((len(ids), SIZE, SIZE, 1), np.float32)
    mask[:, :, : SIZE // 2] = 0
    rows = [masks.row(m, example_id=name, bucket=2, seed=0, preset="boxes") for name, m in zip(ids, mask, strict=True)]
    return {"image": images, "mask": mask, "row": rows}


def test_the_methods_see_masked_photos_only(network, monkeypatch):
    seen = []

    def spy(images, masks):
        seen.append((images.copy(), masks.copy()))
        images[:], masks[:] = 0.3, 1
        return images

    monkeypatch.setattr(methods.classical, "batched", lambda names: dict.fromkeys(names, spy))
    chosen, size = contenders.opened(["spy"], {"toy": network}, batch_size=4)
    assert [method.name for method in chosen] == ["spy", "toy"] and size == SIZE
    whole, short = evaluate.padded([batch(["hat/a.jpg", "hat/b.jpg"]), batch(["hat/c.jpg"])], 2)
    assert [len(filled) for _, filled in contenders.composites(chosen, short)] == [1, 1]
    seen.clear()
    filled = dict(contenders.composites(chosen, whole))
    ((images, holes),) = seen
    given = batch(["hat/a.jpg", "hat/b.jpg"])
    np.testing.assert_array_equal(images, given["image"] * given["mask"])
    np.testing.assert_array_equal(holes, given["mask"])
    for name in filled:
        np.testing.assert_array_equal(filled[name][:, :, SIZE // 2 :], given["image"][:, :, SIZE // 2 :])
    assert (filled["spy"][:, :, : SIZE // 2] == np.float32(0.3)).all()
    assert filled["toy"][:, :, : SIZE // 2].std() > 0
    shown = contenders.masked(whole)  # the spy wrote into copies of its own
    assert (shown[:, :, : SIZE // 2] == 0.5).all() and (shown[:, :, SIZE // 2 :] == np.float32(0.9)).all()


def test_intervals_are_of_the_differences_photo_by_photo():
    rng = np.random.default_rng(0)
    before = rng.integers(0, 2, (3, 200)).astype(float)
    better = np.maximum(before, rng.integers(0, 2, (3, 200)))
    rows = downstream.rows_of({"clean": np.ones((3, 200)), "masked": before, "ours": better}, resamples=200, seed=0)
    found = {(row.method, row.bucket): row for row in rows}
    assert [row.bucket for row in rows[:4]] == ["0.0-0.2", "0.2-0.4", "0.4-1.0", "mean"]
    assert found["masked", "0.2-0.4"].gain[:3] == (0, 0, 0)
    ours, mean = found["ours", "0.2-0.4"], found["ours", "mean"]
    assert ours.accuracy.value == pytest.approx(100 * better[1].mean()) and ours.accuracy.n == 200
    assert ours.gain.value == pytest.approx(100 * (better[1] - before[1]).mean())
    accuracy, gain = ours.accuracy, ours.gain
    assert accuracy.lo < accuracy.value < accuracy.hi and 0 < gain.lo < gain.value < gain.hi
    assert gain.hi - gain.lo < accuracy.hi - accuracy.lo  # pairs tell more
    assert mean.accuracy.value == pytest.approx(100 * better.mean())
    assert mean.accuracy.hi - mean.accuracy.lo < accuracy.hi - accuracy.lo
    assert found["clean", "mean"].accuracy[:3] == (100, 100, 100)


# ---- the command ----


@pytest.fixture
def flags(tmp_path: pathlib.Path, network: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Bright hats and dark dresses, told apart by their mean colour in place of VGG-16."""
    for split, photos in (("train", 10), ("validation", 4)):
        for label, level in (("dress", 150), ("hat", 230)):
            folder = tmp_path / "photos" / split / label
            folder.mkdir(parents=True)
            for index in range(photos):
                Image.new("RGB", (40, 50), (level + index,) * 3).save(folder / f"{index}.jpg")
    monkeypatch.setattr(downstream.vgg16, "load", lambda path: None)
    monkeypatch.setattr(downstream, "features_of", lambda vgg: lambda images: images.mean(axis=(1, 2)))
    (tmp_path / "vgg.npz").write_bytes(b"weights")
    return [
        f"--manual_dir={tmp_path / 'photos'}", f"--data_dir={tmp_path / 'built'}", f"--model=toy={network}",
        f"--vgg_weights={tmp_path / 'vgg.npz'}", f"--out={tmp_path / 'out'}",
    ]  # fmt: skip


def test_the_command_on_flat_photos(flags, tmp_path, capsys):
    """Grey holes darken a bright hat, and the mean colour of a flat photo restores it."""
    assert cli.run(downstream.main, [*flags, "--baselines=mean"]) == 0
    output = capsys.readouterr().out
    assert "20 training photos; penalty" in output and ": 100.0 % of those left out" in output
    lines = list(csv.DictReader((tmp_path / "out" / "downstream.csv").read_text().splitlines()))
    assert len(lines) == 4 * 4 and {line["photos"] for line in lines} == {"8"}
    accuracy = {(line["method"], line["bucket"]): float(line["accuracy"]) for line in lines}
    assert list(dict.fromkeys(line["method"] for line in lines)) == ["clean", "masked", "mean", "toy"]
    assert {accuracy[method, "mean"] for method in ("clean", "mean")} == {100}
    assert accuracy["masked", "0.0-0.2"] == 100 and 50 <= accuracy["masked", "0.4-1.0"] < 100
    gain = {(line["method"], line["bucket"]): float(line["gain"]) for line in lines}
    assert gain["mean", "0.4-1.0"] == 100 - accuracy["masked", "0.4-1.0"] > 0 == gain["masked", "mean"]
    text = (tmp_path / "out" / "downstream.md").read_text()
    assert f"8 validation photos of 10 classes, {SIZE} x {SIZE}" in text
    assert "| clean | 100.0 [100.0, 100.0] |" in text and "--baselines=mean" in text
    with Image.open(tmp_path / "out" / "downstream.png") as picture:
        assert min(picture.size) > 300


def test_models_of_several_sizes(network, tmp_path):
    other = weight_file(tmp_path / "other.safetensors", size=64)
    with pytest.raises(UsageError, match="trained at several sizes, so that no images suit all: toy at 16, b at 64"):
        contenders.opened([], {"toy": network, "b": other}, batch_size=4)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--model=toy"], "--model=toy: NAME=PATH, the name of its column and a workdir or weight file"),
        (["--model=b={tmp}/none"], "none: no such workdir or weight file"),
        (["--model=toy={tmp}/toy.safetensors"], "--model: at least one, and no two methods of one name"),
        (["--model=mean={tmp}/toy.safetensors"], "--model: at least one, and no two methods of one name"),
        (["--model=clean={tmp}/toy.safetensors"], "clean and masked are the photos themselves"),
        (["--baselines=magic"], "unknown baseline 'magic'"),
        (["--manual_dir={tmp}"], "lacks train"),
        (["--out={tmp}/vgg.npz"], "vgg.npz cannot be written: File exists"),
        (["--size=64"], "unrecognized arguments: --size=64"),
    ],
)
def test_mistakes(more, message, flags, tmp_path, capsys):
    more = [each.replace("{tmp}", str(tmp_path)) for each in more]
    assert cli.run(downstream.main, [*flags, *more]) == 2
    errors = capsys.readouterr().err
    assert message in errors and errors.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_no_model_at_all(tmp_path, capsys):
    flags = [f"--{name}={tmp_path}" for name in ("manual_dir", "vgg_weights", "out")]
    assert cli.run(downstream.main, flags) == 2
    assert "--model: at least one" in capsys.readouterr().err
