"""One step of each method as its config says; the paper's at 256 x 256, full width, on real VGG-16 weights."""

import functools
import io
import pathlib
import re

import jax
import numpy as np
import optax
import pytest
from flax import nnx
from ml_collections import ConfigDict
from PIL import Image
from skimage.metrics import structural_similarity
from toy import flat_vgg, rate

from dpconv_jax.configs import dpconv, gconv, pconv
from dpconv_jax.data import pipeline
from dpconv_jax.data.synthetic import painting
from dpconv_jax.errors import UsageError
from dpconv_jax.models import generator
from dpconv_jax.training import objectives, steps
from dpconv_jax.training.experiment import preparation
from dpconv_jax.weights import vgg16


class Drawn:
    """Drawn garments in the place of a dataset that nobody may hand on."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict:
        picture, _, _ = painting.draw(np.random.default_rng(index))
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, "PNG")
        return {"image": stream.getvalue(), "id": str(index), "region": None}


@pytest.mark.slow
def test_one_step_of_the_papers_recipe(vgg16_npz: pathlib.Path):
    configs = [dpconv.get_config(name) for name in dpconv.PAPER]
    config = configs[0]
    for other in configs[1:]:  # what follows depends on nothing else
        assert {name: other[name].to_dict() for name in ("model", "loss", "optim", "mask", "train")} == {
            name: config[name].to_dict() for name in ("model", "loss", "optim", "mask", "train")
        }
    batches = pipeline.train_batches(
        Drawn(),
        preparation(config, "train"),
        flip=config.data.flip,
        threads=1,
        batch_size=2,  # of 64
    )
    batch = next(batches)
    gan = steps.build(config)
    before = steps.initialise(gan)
    arrays = {name: batch[name] for name in ("image", "mask")}
    step = jax.jit(lambda state, batch, vgg: steps.train_step(gan, rate(config), state, batch, vgg, False))
    after, metrics = step(before, arrays, vgg16.load(vgg16_npz))

    terms = {name: float(metrics[name]) for name in ("pixel", "style", "adversarial", "tv")}
    assert float(metrics["total"]) == pytest.approx(sum(terms.values()), rel=1e-5)
    assert 0.5 < terms["pixel"] < 5  # 10 x a mean error of an untrained network
    assert 1 < terms["style"] < 1000  # of the order of torchvision's features, not of Oxford's
    assert 0 < terms["tv"] < terms["adversarial"] < 0.1
    assert float(metrics["skipped"]) == 0
    assert float(metrics["learning_rate"]) == pytest.approx(2e-4)
    for name in ("generator", "discriminator"):
        moved = optax.tree.sub(getattr(after, name), getattr(before, name))
        size = {"generator": 2e-4, "discriminator": 1e-4}[name]
        # Adam's first step is the learning rate in every weight that has a gradient.
        assert float(optax.tree.norm(moved, ord=np.inf)) == pytest.approx(size, rel=1e-2), name


def small(config: ConfigDict, *, style: float) -> ConfigDict:
    """32 x 32 and narrow."""
    config.model.width = 0.125
    config.data.size = 32
    if "dilations" in config.model:
        config.model.dilations = (1, 1, 1, 1)
    if "style" in config.loss:
        config.loss.style = style
    return config


METHODS = {
    "pconv": (pconv, ""),
    "pconv_liu2018": (pconv, "liu2018"),
    "gconv": (gconv, ""),
    "gconv_yu2019": (gconv, "yu2019"),
}


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_one_step_of_a_compared_method(method: str):
    file, variant = METHODS[method]
    vgg = flat_vgg() if variant == "liu2018" else None  # it compiles slowly; the paper's style term is tested above
    config = small(file.get_config(variant), style=120.0 if vgg else 0.0)
    config.optim.ema = 0.9
    gan = steps.build(config)
    before = steps.initialise(gan)
    rng = np.random.default_rng(0)
    batch = {"image": rng.random((2, 32, 32, 3), np.float32), "mask": np.ones((2, 32, 32, 1), np.float32)}
    batch["mask"][:, 8:20, 8:24] = 0
    step = jax.jit(lambda state: steps.train_step(gan, rate(config), state, batch, vgg, False))
    after, metrics = step(before)
    assert float(metrics["skipped"]) == 0
    terms = {name: float(metrics[name]) for name in gan.recipe.weights}
    assert float(metrics["total"]) == pytest.approx(sum(terms.values()), rel=1e-5)
    assert {name for name, term in terms.items() if not term} <= {"style", "perceptual"}
    assert bool(terms.get("style")) == (vgg is not None)
    moved = {
        name: float(optax.tree.norm(optax.tree.sub(getattr(before, name), getattr(after, name))))
        for name in ("generator", "generator_stats", "discriminator", "discriminator_stats", "ema")
    }
    has_discriminator, has_stats = method != "pconv_liu2018", method == "pconv_liu2018"
    assert moved["generator"] > 0 and moved["ema"] > 0
    assert (moved["generator_stats"] > 0) == has_stats
    assert (moved["discriminator"] > 0) == (moved["discriminator_stats"] > 0) == has_discriminator
    # What evaluation uses is whole: it merges with the graph, and gives the images that it should.
    infer = jax.jit(functools.partial(generator.infer, nnx.graphdef(gan.generator)))
    output = infer(after.best_generator, batch["image"], batch["mask"])
    assert output.shape == (2, 32, 32, 3) and np.isfinite(output).all()


@pytest.mark.slow
def test_fine_tuning_of_liu2018_freezes_the_encoders_statistics_and_has_its_own_rate():
    config = small(pconv.get_config("liu2018"), style=0.0)
    config.train.steps, config.optim.finetune = 3, 0.67
    config.optim.warmup_steps = 0
    gan = steps.build(config)
    state = steps.initialise(gan)
    rng = np.random.default_rng(0)
    batch = {"image": rng.random((2, 32, 32, 3), np.float32), "mask": np.ones((2, 32, 32, 1), np.float32)}
    step = jax.jit(functools.partial(steps.train_step, gan, rate(config)), static_argnums=3)
    rates, moved = [], []
    for frozen in (False, True):
        after, metrics = step(state, batch, None, frozen)
        rates.append(float(metrics["learning_rate"]))
        change = optax.tree.sub(state.generator_stats, after.generator_stats)
        moved.append({side: float(optax.tree.norm(change[side])) > 0 for side in ("encoder", "decoder")})
        state = after
    assert moved == [{"encoder": True, "decoder": True}, {"encoder": False, "decoder": True}]
    assert rates == pytest.approx([config.optim.generator_lr, config.optim.finetune_lr])


def test_the_pixel_term_is_of_every_image_a_generator_makes():
    """Of GConv's coarse stage too; the other terms of Eq. (5) are of its last image."""
    recipe = steps.build(dpconv.get_config()).recipe
    rng = np.random.default_rng(0)
    target, one, two = rng.random((3, 2, 16, 16, 3), np.float32)
    mask = (rng.random((2, 16, 16, 1)) < 0.5).astype(np.float32)

    def terms(output: np.ndarray, *coarse: np.ndarray) -> dict[str, float]:
        example = objectives.Example(output, coarse, target, mask)
        found = recipe.terms(example, vgg=None, score=lambda fake: fake.mean(axis=(1, 2, 3)), dtype=np.float32)
        return {name: float(value) for name, value in found.items()}

    alone, both = terms(one), terms(one, two)
    assert both["pixel"] == pytest.approx(alone["pixel"] + terms(two)["pixel"])
    assert {**both, "pixel": 0} == {**alone, "pixel": 0}


def test_structural_similarity_is_a_term_of_its_own_beside_eq_5():
    """Of the composite: what an image has in its valid pixels is neither counted nor moved."""
    config = dpconv.get_config("starter_ssim")
    ours = steps.build(config).recipe
    config.loss.recipe = "kinli2020"
    del config.loss["ssim"]
    papers = steps.build(config).recipe
    assert ours.weights == {**papers.weights, "ssim": 0.5}
    rng = np.random.default_rng(0)
    target, output = rng.random((2, 2, 16, 16, 3), np.float32)
    mask = np.ones((2, 16, 16, 1), np.float32)
    mask[:, 4:9, 3:12] = 0

    def terms(output: jax.Array, *, recipe: objectives.Recipe = ours) -> dict[str, jax.Array]:
        example = objectives.Example(output, (), target, mask)
        return recipe.terms(example, vgg=None, score=lambda fake: fake.mean(axis=(1, 2, 3)), dtype=np.float32)

    found, others = ({**jax.jit(functools.partial(terms, recipe=recipe))(output)} for recipe in (ours, papers))
    composite = np.where(mask > 0, target, output)
    options = {"channel_axis": -1, "gaussian_weights": True, "use_sample_covariance": False, "data_range": 1.0}
    expected = 1 - np.mean([structural_similarity(*pair, **options) for pair in zip(composite, target, strict=True)])
    assert float(found.pop("ssim")) == pytest.approx(expected, rel=1e-4)
    assert jax.tree.map(float, found) == pytest.approx(jax.tree.map(float, others))
    gradient = jax.jit(jax.grad(lambda output: terms(output)["ssim"]))(output)
    assert np.abs(gradient[:, 4:9, 3:12]).min() > 0 and not np.where(mask > 0, gradient, 0).any()


@pytest.mark.slow
def test_an_output_that_is_its_composite_has_the_same_loss_and_gradient_from_one_look_at_it():
    config = pconv.get_config("liu2018-clothing_small")  # style and perceptual: all that is made of features
    recipe, vgg = steps.build(config).recipe, flat_vgg()
    rng = np.random.default_rng(0)
    added, target = rng.random((2, 1, 16, 16, 3), np.float32)
    mask = (rng.random((1, 16, 16, 1)) < 0.5).astype(np.float32)

    def loss(added: jax.Array, composited: bool) -> jax.Array:
        example = objectives.Example(mask * target + (1 - mask) * added, (), target, mask, composited)
        terms = recipe.terms(example, vgg=vgg, score=lambda fake: fake.mean(axis=(1, 2, 3)), dtype=np.float32)
        return terms["style"] + terms["perceptual"]

    (once, gradient), (twice, expected) = (jax.value_and_grad(loss)(added, whether) for whether in (True, False))
    assert float(once) == pytest.approx(float(twice), rel=1e-5)
    np.testing.assert_allclose(gradient, expected, atol=1e-5 * np.abs(expected).max())
    assert np.abs(expected).max() > 1e-4


@pytest.mark.parametrize("fields", [{"l1": 1.0}, {"adversarial": 1.0, "l1": 1.0, "tv": 1.0}], ids=["less", "more"])
def test_a_recipe_has_its_fields_and_no_others(fields: dict[str, float]):
    config = dpconv.get_config()
    config.loss = ConfigDict({"recipe": "yu2019", **fields})
    message = f"loss of 'yu2019' has the fields {', '.join(fields)}; they must be l1, adversarial"
    with pytest.raises(UsageError, match=re.escape(message)):
        steps.build(config)


def test_the_hole_weighs_as_the_config_says():
    config = dpconv.get_config()
    rng = np.random.default_rng(0)
    output, target = (rng.random((1, 8, 8, 3), np.float32) for _ in range(2))
    mask = (rng.random((1, 8, 8, 1)) < 0.5).astype(np.float32)
    found = []
    for weight in (1.0, 6.0):
        config.loss.hole = weight
        example = objectives.Example(output, (), target, mask)
        terms = steps.build(config).recipe.terms(
            example, vgg=None, score=lambda images: images.mean(), dtype=np.float32
        )
        found.append(float(terms["pixel"]))
    expected = 5 * np.abs((1 - mask) * (output - target)).mean()
    assert found[1] - found[0] == pytest.approx(expected, rel=1e-5)
