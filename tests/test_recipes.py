"""The recipe of the paper, one step of it: 256 x 256, full width, all terms of Eq. (5) on real VGG-16 weights."""

import io
import pathlib

import jax
import numpy as np
import optax
import pytest
from PIL import Image

from configs import dpconv
from dpconv_jax import steps
from dpconv_jax.data import garments, pipeline
from dpconv_jax.weights import vgg16


class Drawn:
    """Drawn garments in the place of a dataset that nobody may hand on."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict:
        picture, _, _ = garments.draw(np.random.default_rng(index))
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, "PNG")
        return {"image": stream.getvalue(), "id": str(index), "region": None}


@pytest.mark.slow
def test_one_step_of_the_papers_recipe(vgg16_npz: pathlib.Path):
    recipes = [dpconv.get_config(name) for name in dpconv.PAPER]
    config = recipes[0]
    for other in recipes[1:]:  # what follows depends on nothing else
        assert {name: other[name].to_dict() for name in ("model", "loss", "optim", "mask", "train")} == {
            name: config[name].to_dict() for name in ("model", "loss", "optim", "mask", "train")
        }
    batches = pipeline.train_batches(
        Drawn(),
        size=config.data.size,
        crop=config.data.crop,
        flip=config.data.flip,
        max_pixels=config.data.max_pixels,
        threads=1,
        mask_preset=config.mask.preset,
        mask_files=None,
        min_coverage=config.mask.coverage,
        batch_size=2,  # of 64
        seed=config.seed,
    )
    batch = next(batches)
    gan = steps.build(config, steps_per_epoch=1)
    before = steps.initialise(gan, config)
    arrays = {name: batch[name] for name in ("image", "mask")}
    step = jax.jit(lambda state, batch, vgg: steps.train_step(gan, config, state, batch, vgg))
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
        rate = {"generator": 2e-4, "discriminator": 1e-4}[name]
        # Adam's first step is the learning rate in every weight that has a gradient.
        assert float(optax.tree.norm(moved, ord=np.inf)) == pytest.approx(rate, rel=1e-2), name
