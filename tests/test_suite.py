"""The panel with stand-in networks: what every score is made of, what is missing and why, and what is refused."""

import math
import sys

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dpconv_jax.evaluation import distributions, metrics, suite
from dpconv_jax.evaluation.estimates import bootstrapped
from dpconv_jax.evaluation.suite import PANEL, Networks, Panel, Truth

SIDE, PER_BATCH, COUNT, FEATURES = 12, 4, 10, 5  # the last batch is short


@flax.struct.dataclass
class Projection:
    """Stands for Inception and for VGG-16: a few random projections of the pixels."""

    weights: jax.Array
    head: jax.Array
    head_bias: jax.Array
    official: bool = flax.struct.field(pytree_node=False, default=True)


@flax.struct.dataclass
class Distance:
    """Stands for LPIPS."""

    weight: jax.Array
    name: str = flax.struct.field(pytree_node=False, default="lpips")


def project(params: Projection, image: jax.Array) -> jax.Array:
    return jnp.tanh(image.reshape(len(image), -1) @ params.weights)


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch):
    def features(params, image):
        pool = project(params, image)
        return pool, pool @ params.head + params.head_bias

    def distance(params, a, b):
        return params.weight * jnp.abs(a - b).max(axis=(1, 2, 3))

    monkeypatch.setattr(suite.inception, "features", features)
    monkeypatch.setattr(suite.lpips, "distance", distance)
    monkeypatch.setattr(suite.vgg16, "pooled", lambda params, image: 2 * project(params, image))


def projection(seed: int, *, features: int = FEATURES, official: bool = True) -> Projection:
    rng = np.random.default_rng(seed)
    weights, head = rng.normal(0, 0.1, (SIDE * SIDE * 3, features)), rng.normal(0, 2, (features, 6))
    arrays = (jnp.asarray(array, jnp.float32) for array in (weights, head, rng.normal(0, 1, 6)))
    return Projection(*arrays, official=official)


ALL = Networks(inception=projection(1), lpips=Distance(jnp.float32(0.5)), vgg16=projection(2))


def images(count: int = COUNT) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    target = rng.random((count, SIDE, SIDE, 3), np.float32)
    output = target + rng.normal(0, 0.2, target.shape).astype(np.float32)
    mask = np.ones((count, SIDE, SIDE, 1), np.float32)
    mask[:, 2:9, 3:7] = 0
    return {"output": output, "target": target, "mask": mask}


def fed(networks: Networks, data: dict[str, np.ndarray], *, truth: Truth | None = None, bootstrap: int = 40) -> Panel:
    """A panel that got `data` in batches of one size, the last filled with rows that are no images."""
    filled = Panel(networks, bootstrap=bootstrap, seed=3, truth=truth)
    for start in range(0, len(data["mask"]), PER_BATCH):
        part = {name: rows[start : start + PER_BATCH] for name, rows in data.items()}
        count = len(part["mask"])
        padding = ((0, PER_BATCH - count), (0, 0), (0, 0), (0, 0))
        values = filled.add(**{name: np.pad(x, padding, constant_values=9.0) for name, x in part.items()}, count=count)
        assert {len(column) for column in values.values()} == {count}
    return filled


def test_every_score_is_of_all_images_whatever_their_batches():
    data = images()
    scores = fed(ALL, data).scores()
    assert [*scores] == [metric.name for metric in PANEL]
    composite = np.where(data["mask"] > 0, data["target"], data["output"].clip(0, 1))
    raw = data["output"].clip(0, 1)
    target = data["target"]
    real, fake = (np.asarray(project(ALL.inception, x)) for x in (target, composite))
    real_logits, fake_logits = (x @ np.asarray(ALL.inception.head) for x in (real, fake))
    bias = np.asarray(ALL.inception.head_bias)
    beaten, wrong = distributions.paired_discriminative(real, fake)
    means = {
        **{name: np.asarray(values) for name, values in metrics.per_image(composite, target, data["mask"]).items()},
        "lpips": 0.5 * np.abs(composite - target).max(axis=(1, 2, 3)),
        "p_ids": beaten,
        "u_ids": wrong,
        "inception_kl": distributions.inception_kl(real_logits + bias, fake_logits + bias),
        "raw_l1_percent": 100 * np.abs(raw - target).mean(axis=(1, 2, 3)),
        "raw_psnr_db": -10 * np.log10(np.square(raw - target).mean(axis=(1, 2, 3))),
        "raw_ssim": np.asarray(metrics.ssim(raw, target)),
    }
    for name, values in means.items():
        assert scores[name].value == pytest.approx(values.mean(), rel=1e-4), name
        assert scores[name].n == COUNT
        expected = bootstrapped(values, resamples=40, seed=3)
        assert scores[name][1:3] == pytest.approx(expected[1:3], rel=1e-4), name
    of_vgg16 = (2 * np.asarray(project(ALL.vgg16, x)) for x in (target, composite))
    estimates = {
        "fid": distributions.frechet(real, fake),
        "kid_paired": distributions.paired_kernel(real, fake, seed=3),
        "inception_score": distributions.inception_score(fake_logits),  # without the bias
        "fd_vgg16": distributions.frechet(*of_vgg16),
    }
    for name, estimate in estimates.items():
        assert scores[name].value == pytest.approx(estimate.value, rel=1e-3), name
        assert scores[name][1:3] == pytest.approx(estimate[1:3], rel=1e-3, abs=1e-6), name
        assert scores[name].n == COUNT
    assert scores["kid"][:4] == (pytest.approx(distributions.kernel(real, fake, seed=3), rel=1e-3), None, None, COUNT)
    error = np.square((data["output"] - target) / np.array([0.229, 0.224, 0.225])).mean()
    compat = scores["psnr_paper_compat"]
    assert compat.value == pytest.approx(-10 * np.log10(error), rel=1e-4) and compat.lo < compat.value < compat.hi
    assert {*scores} - {*means} - {*estimates} == {"psnr_paper_compat", "lpips_oxford", "kid"}


def test_what_add_returns_are_the_metrics_that_images_have():
    data = images(PER_BATCH)
    values = Panel(ALL, bootstrap=1, seed=0).add(**data)
    assert {*values} == {metric.name for metric in PANEL if metric.per_image} - {"lpips_oxford"}
    assert {metric.name for metric in PANEL if metric.raw} >= {name for name in values if name.startswith("raw_")}
    assert all(column.dtype == np.float64 for column in values.values())


def test_a_short_batch_compiles_nothing_and_true_images_are_seen_once(monkeypatch):
    data = images()
    truth = Truth(ALL)
    first = fed(ALL, data, truth=truth)
    compiled, seen = suite._measure._cache_size(), []
    monkeypatch.setattr(suite, "_features", lambda *arguments, real=suite._features: seen.append(0) or real(*arguments))
    again = fed(ALL, data, truth=truth)
    assert suite._measure._cache_size() == compiled
    assert len(seen) == 3  # batches, of composites
    assert again.scores() == first.scores()
    assert len(first) == COUNT


def test_without_networks_what_needs_none_is_there_and_the_rest_says_what_to_fetch():
    scores = fed(Networks(), images()).scores()
    for name, score in scores.items():
        needs = next((n for n in ("inception", "lpips", "vgg16") if f"weights fetch {n}" in score.reason), None)
        known = name.startswith(("l1", "hole", "psnr", "ssim", "raw"))
        assert (score.value is None) == (needs is not None) == (not known), score
        assert (score.lo is None) == (score.hi is None) == (score.n == 0) == (not known)
    assert "fetch inception" in scores["fid"].reason and "fetch vgg16" in scores["fd_vgg16"].reason


def test_other_weights_never_make_an_fid_or_an_lpips():
    networks = Networks(
        inception=projection(1, official=False),
        lpips=Distance(jnp.float32(1), name="lpips_oxford"),
        vgg16=projection(2),
    )
    filled = fed(networks, images())
    scores = filled.scores()
    for name in ("fid", "kid", "kid_paired", "p_ids", "u_ids", "inception_score", "inception_kl"):
        assert scores[name][:4] == (None, None, None, 0)
        assert "published" in scores[name].reason
    assert "inception_kl" not in filled.add(**images(PER_BATCH))
    assert scores["fd_vgg16"].value is not None
    assert scores["lpips"].value is None and "lpips_oxford" in scores["lpips"].reason
    assert scores["lpips_oxford"].value > 0
    oxford_is_missing = fed(ALL, images()).scores()["lpips_oxford"]
    assert oxford_is_missing.value is None and oxford_is_missing.reason


def test_identical_images_leave_psnr_and_are_counted():
    data = images()
    data["output"][:3] = data["target"][:3]
    scores = fed(Networks(), data).scores()
    assert {name: scores[name].n for name in ("psnr_db", "raw_psnr_db", "psnr_paper_compat", "ssim")} == {
        "psnr_db": COUNT - 3,
        "raw_psnr_db": COUNT - 3,
        "psnr_paper_compat": COUNT - 3,
        "ssim": COUNT,
    }
    assert all(math.isfinite(score.value + score.lo + score.hi) for score in scores.values() if score.n)
    data["output"] = data["target"]
    scores = fed(ALL, data).scores()
    for name in ("psnr_db", "raw_psnr_db", "psnr_paper_compat"):
        assert scores[name][:4] == (None, None, None, 0) and "identical" in scores[name].reason
    assert [scores[name].value for name in ("l1_percent", "raw_l1_percent", "lpips", "p_ids")] == [0, 0, 0, 0]
    assert [scores[name].value for name in ("fid", "kid_paired", "fd_vgg16")] == pytest.approx([0, 0, 0], abs=1e-10)


def test_one_image_has_neither_an_interval_nor_a_distribution():
    scores = fed(ALL, images(1)).scores()
    assert scores["l1_percent"].value > 0 and scores["l1_percent"][1:] == (None, None, 1, "")
    assert scores["psnr_paper_compat"].value is not None and scores["inception_kl"].value is not None
    for name in ("fid", "kid", "kid_paired", "p_ids", "u_ids", "inception_score", "fd_vgg16"):
        assert scores[name].value is None and "one image" in scores[name].reason
    assert fed(Networks(), images(), bootstrap=0).scores()["ssim"].lo is None


def test_discriminative_scores_need_scikit_learn_and_more_images_than_a_plane_separates(monkeypatch):
    many = Networks(inception=projection(1, features=2 * COUNT - 1))
    scores = fed(many, images()).scores()
    assert scores["u_ids"].value is None and "10 images are too few" in scores["p_ids"].reason
    assert scores["fid"].value > 0
    assert fed(many, images(COUNT + 1)).scores()["u_ids"].value is not None
    monkeypatch.setitem(sys.modules, "sklearn", None)
    scores = fed(ALL, images()).scores()
    assert scores["p_ids"].value is None and "pip install scikit-learn" in scores["p_ids"].reason
    assert scores["fid"].value > 0


def test_an_output_that_is_not_finite_in_a_hole_shows_and_where_it_is_padding_is_nothing():
    data = images(3)
    filled = Panel(Networks(), bootstrap=10, seed=0)
    filled.add(**data)
    before = filled.scores()
    data["output"][2, 4, 4] = np.nan
    filled.add(**data, count=2)
    assert len(filled) == 5 and filled.scores()["ssim"].n == 5
    assert all(np.isfinite(filled.scores()[name].value) for name in before if before[name].n)
    filled.add(**data)
    assert all(np.isnan(found.value) and found.lo is None for found in filled.scores().values() if found.n)


def test_panels_of_several_processes_make_one():
    data = images()
    parts = [{name: rows[part] for name, rows in data.items()} for part in (slice(4), slice(4, None))]
    first, second = (fed(ALL, part) for part in parts)
    first.extend(second)
    assert first.scores() == fed(ALL, data).scores()
    np.testing.assert_array_equal(first.per_image()["ssim"], fed(ALL, data).per_image()["ssim"])


def test_what_else_is_refused():
    data = images(3)
    filled = Panel(Networks(), bootstrap=10, seed=0)
    with pytest.raises(ValueError, match="no image was added"):
        filled.scores()
    for count in (0, 4):
        with pytest.raises(ValueError, match=f"count is {count}; it must lie in 1..3"):
            filled.add(**data, count=count)
    with pytest.raises(ValueError, match="other networks"):
        Panel(ALL, bootstrap=10, seed=0, truth=Truth(Networks()))
