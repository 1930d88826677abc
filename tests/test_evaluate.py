"""Evaluation and report on tiny fake batches: who sees what, which numbers come out, and what the files hold."""

import csv
import hashlib
import json

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from dpconv_jax import masks
from dpconv_jax.baselines import classical
from dpconv_jax.errors import UsageError
from dpconv_jax.evaluation import evaluate
from dpconv_jax.evaluation.methods import blind
from dpconv_jax.evaluation.metrics import METRICS
from dpconv_jax.training import report

SIDE, PER_BATCH, COUNT = 16, 3, 5  # the last batch is short
HOLE_ROWS = (2, 5, 8)  # of each bucket


def batches_for_bucket(bucket: int):
    rng = np.random.default_rng(bucket)
    images = rng.random((COUNT, SIDE, SIDE, 3), np.float32)
    holes = np.ones((COUNT, SIDE, SIDE, 1), np.float32)
    holes[:, 3 : 3 + HOLE_ROWS[bucket]] = 0
    region = np.zeros((SIDE, SIDE))
    region[3:5] = region[-2:] = 1  # half of it in the hole
    rows = [
        masks.row(
            mask,
            example_id=f"shirt, {i}",
            bucket=bucket,
            seed=0,
            preset="boxes",
            region=region if i else None,
        )
        for i, mask in enumerate(holes)
    ]
    for start in range(0, COUNT, PER_BATCH):
        part = slice(start, start + PER_BATCH)
        yield {"image": images[part], "mask": holes[part], "row": rows[part]}


def all_of(bucket: int) -> tuple[np.ndarray, np.ndarray]:
    batches = list(batches_for_bucket(bucket))
    return np.concatenate([b["image"] for b in batches]), np.concatenate([b["mask"] for b in batches])


def grey(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    return np.full_like(images, 0.5)


def run(tmp_path, **fills):
    found = [blind(name, fill, identity={}) for name, fill in fills.items()]
    return evaluate.evaluate(found, batches_for_bucket, out_dir=tmp_path / "eval", bootstrap=50, seed=0)


def test_rows_are_means_of_the_composites_over_all_images(tmp_path):
    result = run(tmp_path, grey=grey, **classical.batched(["mean"]))
    assert [*result.scores] == [(name, bucket) for bucket in range(3) for name in ("grey", "mean")]
    for bucket in range(3):
        images, holes = all_of(bucket)
        hole = np.broadcast_to(holes == 0, images.shape)
        found = result.scores["grey", bucket]
        row = found["hole_l1_percent"]
        assert row.value == pytest.approx(100 * np.abs(0.5 - images[hole]).mean(), rel=1e-5)
        assert row.lo < row.value < row.hi and row.n == COUNT
        error = np.where(hole, np.abs(0.5 - images), 0.0)
        assert found["l1_percent"].value == pytest.approx(100 * error.mean(), rel=1e-5)
        mse = np.square(error).mean(axis=(1, 2, 3))
        assert found["psnr_db"].value == pytest.approx(np.mean(-10 * np.log10(mse)), rel=1e-5)
    l1 = [np.abs(np.where(m == 0, classical.mean_fill(i, m), i) - i).mean() for i, m in zip(*all_of(2), strict=True)]
    assert result.scores["mean", 2]["l1_percent"].value == pytest.approx(100 * np.mean(l1), rel=1e-5)


def test_methods_see_zeroed_holes_and_full_batches_and_cannot_change_the_truth(tmp_path):
    seen = []

    def vandal(images, masks):
        seen.append(images.shape)
        assert (np.where(masks == 0, images, 0) == 0).all()
        images[:], masks[:] = 0.0, 1.0
        return images

    alone = run(tmp_path / "a", grey=grey).scores
    after = run(tmp_path / "b", vandal=vandal, grey=grey).scores
    assert {key: found for key, found in after.items() if key[0] == "grey"} == alone
    assert set(seen) == {(PER_BATCH, SIDE, SIDE, 3)}
    with pytest.raises(ValueError, match="'half' gave"):
        run(tmp_path, half=lambda images, masks: images[:, ::2])


def test_files_hold_every_image_and_the_hash_of_every_mask(tmp_path):
    result = run(tmp_path, grey=grey)
    again = run(tmp_path / "again", other=grey)
    text = (tmp_path / "eval/manifest.jsonl").read_text()
    assert result.manifest == again.manifest == hashlib.sha256(text.encode()).hexdigest()
    manifest = masks.read_manifest(tmp_path / "eval/manifest.jsonl")
    assert len(manifest) == 3 * COUNT and manifest[0].coverage is None and manifest[1].coverage == 0.5
    masks.verify(manifest[2 * COUNT - 1], all_of(1)[1][4])
    with pytest.raises(UsageError, match="sha256"):
        masks.verify(manifest[2 * COUNT - 1], 1 - all_of(1)[1][4])
    with open(tmp_path / "eval/metrics.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["id"] for line in lines[:COUNT]] == [f"shirt, {i}" for i in range(COUNT)]
    value = np.mean([float(line["ssim"]) for line in lines if line["bucket"] == "2"])
    assert value == pytest.approx(result.scores["grey", 2]["ssim"].value)
    assert sorted(p.name for p in (tmp_path / "eval").iterdir()) == ["manifest.jsonl", "metrics.csv"]


def test_identical_images_leave_psnr_and_are_counted(tmp_path):
    truth = {i.tobytes(): i for b in range(3) for i, m in zip(*all_of(b), strict=True)}
    first_pixels = {k[:12]: v for k, v in truth.items()}

    def cheat(images, masks):  # knows the first four images of each bucket by their first pixel
        known = [all_of(b)[0][i, 0, 0].tobytes() for b in range(3) for i in range(4)]
        keys = [image[0, 0].tobytes() for image in images]
        return np.stack([first_pixels[k] if k in known else image for k, image in zip(keys, images, strict=True)])

    found = run(tmp_path, cheat=cheat).scores["cheat", 0]
    assert found["psnr_db"].n == 1 and found["l1_percent"].n == COUNT
    assert np.isfinite(found["psnr_db"].value)
    perfect = run(tmp_path, p=lambda i, m: all_truth(i, first_pixels)).scores["p", 1]
    assert perfect["psnr_db"].n == 0 and perfect["psnr_db"].value is None
    assert perfect["ssim"].value == pytest.approx(1.0)


def all_truth(images, first_pixels):
    return np.stack([first_pixels[image[0, 0].tobytes()] for image in images])


def test_nan_in_a_hole_shows_and_outside_does_not(tmp_path):
    def broken(inside):
        return lambda images, masks: np.where((masks == 0) == inside, np.nan, 0.5) * np.ones(3)

    for inside in (True, False):
        for found in run(tmp_path, broken=broken(inside)).scores.values():
            assert [np.isnan(found[metric.name].value) for metric in METRICS] == [inside] * len(METRICS)
    assert np.isnan(evaluate.validation_l1(blind("broken", broken(True), identity={}), batches_for_bucket))


def test_validation_l1_is_the_mean_over_the_buckets(tmp_path):
    expected = np.mean([found["l1_percent"].value for found in run(tmp_path, grey=grey).scores.values()])
    assert evaluate.validation_l1(blind("grey", grey, identity={}), batches_for_bucket) == pytest.approx(
        expected, rel=1e-6
    )


def test_an_empty_bucket_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="no validation image"):
        evaluate.evaluate([blind("grey", grey, identity={})], lambda b: [], out_dir=tmp_path, bootstrap=1, seed=0)
    assert not list(tmp_path.iterdir())


def test_examples_show_what_each_method_made_of_the_same_images_every_time(tmp_path):
    examples = run(tmp_path, grey=grey, **classical.batched(["mean"])).examples
    assert [e.bucket for e in examples] == [0, 0, 1, 1, 2, 2]
    assert [e.id for e in run(tmp_path, mean=classical.batched(["mean"])["mean"]).examples] == [e.id for e in examples]
    for example in examples:
        image, mask = (array[int(example.id[-1])] for array in all_of(example.bucket))
        np.testing.assert_array_equal(example.target, image)
        np.testing.assert_array_equal(example.masked, image * mask)
        np.testing.assert_array_equal(example.raw["grey"], np.full_like(image, 0.5))
        np.testing.assert_array_equal(example.composite["grey"], np.where(mask > 0, image, 0.5))
        np.testing.assert_array_equal(example.composite["mean"], classical.mean_fill(image, mask))


CONFIG = ConfigDict(
    {
        "seed": 3,
        "model": {"name": "dpconv", "variant": "paper", "width": 0.5, "dilations": (1, 2, 3, 1)},
        "vgg": {"start": 100},
        "data": {"name": "drawn", "size": SIDE},
        "mask": {"preset": "mixed"},
        "train": {"steps": 400, "batch_size": 4},
        "eval": {"bootstrap": 50},
    }
)


def write_report(workdir, result, *, style=0.0, **others):
    told = report.Run(
        config=CONFIG,
        terms={"pixel": 10.0, "style": style, "adversarial": 1e-3, "tv": 1e-4, **others},
        split="test",
        step=300,
        seconds=3725.0,
        hardware="2 CPU cores",
        command="python -m dpconv_jax.main --workdir=runs/x",
        notes=["seen by nobody"],
    )
    return report.write(workdir, told, result._replace(examples=result.examples[::2]))


def test_report_states_the_run_the_numbers_and_what_they_mean(tmp_path):
    log = [{"step": s, "train/pixel": 5.0 / s, "train/style": 0.0, "train/tv": 0.01} for s in (100, 200, 300, 400)]
    log += [{"step": s, "val/l1": v} for s, v in ((100, 9.0), (200, 8.0), (200, 5.0), (300, 4.0), (400, 4.2))]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log) + '{"step": 500, "val')
    result = run(tmp_path, dpconv=grey, **classical.batched(["mean", "telea"]))
    path = write_report(tmp_path, result)
    text = path.read_text()
    for found in result.scores.values():
        assert "{:.2f} [{:.2f}, {:.2f}]".format(*found["psnr_db"]) in text.replace("**", "")
    means = {
        name: np.mean([result.scores[name, bucket]["hole_l1_percent"].value for bucket in range(3)])
        for name in ("dpconv", "mean")
    }
    assert f"dpconv {means['dpconv']:.2f} % = {means['dpconv'] / means['mean']:.2f} x mean colour" in text
    for fact in ("off: the style term", "1,200", "1 h 02 min", "2 CPU cores", "seen by nobody", "--workdir=runs/x"):
        assert fact in text
    assert "from 9.00 % at step 100 to 4.20 % at step 400; the lowest was 4.00 % at step 300" in text
    assert "From step 300 to the end, about the last quarter, it changed by +5.0 %" in text
    assert result.manifest in text and "5 images with holes of (40, 100] %, of the test split." in text
    assert "bicubic" in text
    curves = report.read_curves(tmp_path / "metrics.jsonl")
    np.testing.assert_array_equal(curves["val/l1"], [[100, 200, 300, 400], [9.0, 5.0, 4.0, 4.2]])
    with Image.open(tmp_path / "report.png") as picture:
        assert picture.width > 1000 and picture.height > 1000
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 1000


def test_report_without_a_log_or_baselines_and_with_a_broken_network(tmp_path):
    result = run(tmp_path, dpconv=lambda images, masks: np.full_like(images, np.nan))
    text = write_report(tmp_path, result, style=120.0).read_text()
    assert "| dpconv | nan | nan |" in text and "120 style" in text and "style from step 101 on" in text
    assert "off:" not in text and "## Learning" not in text
    text = write_report(tmp_path, result, perceptual=0.05).read_text()
    assert "perceptual from step 101 on" in text and "off: the style term" in text and "no VGG-16" not in text
    assert (tmp_path / "report.png").stat().st_size > 10_000
