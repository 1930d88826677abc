"""A generator and a config small enough to train within a test, and a weight file small enough to run."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict
from PIL import Image

from dpconv_jax.configs import base
from dpconv_jax.models.convention import UNIT
from dpconv_jax.models.generator import Generator
from dpconv_jax.models.vgg16 import BLOCKS, VGG16
from dpconv_jax.training import steps
from dpconv_jax.weights import model_file

SIZE = 32


class Toy(Generator):
    """Two convolutions with the interface of a generator: the step is tested, and it compiles fast."""

    stride = 8
    convention = UNIT

    def __init__(self, *, dropout: float, size: int, dtype=jnp.float32, rngs: nnx.Rngs):
        self.first = nnx.Conv(4, 8, (3, 3), strides=2, dtype=dtype, rngs=rngs)
        self.last = nnx.Conv(8, 12, (3, 3), dtype=dtype, rngs=rngs)
        self.dropout = dropout

    def __call__(self, x: jax.Array, mask: jax.Array, *, inside=None, dropout_key: jax.Array | None = None):
        hidden = nnx.leaky_relu(self.first(jnp.concatenate([x, mask], axis=-1)), 0.2)
        if dropout_key is not None and self.dropout:
            hidden = hidden * jax.random.bernoulli(dropout_key, 1 - self.dropout, hidden.shape) / (1 - self.dropout)
        out = self.last(hidden)
        out = out.reshape(*out.shape[:3], 2, 2, 3).swapaxes(2, 3).reshape(*x.shape)
        return nnx.sigmoid(out.astype(jnp.float32)), {"input": mask}


def tiny(*, name: str = "toy") -> ConfigDict:
    """Dropout, noisy labels and the average on; no style term."""
    config = base.get_config()
    config.model = ConfigDict({"name": name, "dropout": 0.3})
    if name == "dpconv":
        config.model.update(variant="paper", width=0.125, dilations=(1, 1, 1, 1))
    config.loss.style = 0.0
    config.optim.ema = 0.9
    config.data.name = "image_folder"
    config.data.size = SIZE
    config.data.threads = 1
    config.train.batch_size = 4
    config.train.steps = 4
    config.train.log_every = 1
    config.train.image_every = 100
    config.train.eval_every = 100
    config.train.checkpoint_every = 2
    config.eval.batch_size = 4
    config.eval.bootstrap = 10
    return config


def rate(config: ConfigDict) -> steps.LearningRate:
    """As for twenty photos."""
    return steps.schedule(config.optim, steps=config.train.steps, steps_per_epoch=5)


def twenty_photos(path: pathlib.Path) -> pathlib.Path:
    """The folder `path` with twenty little photos."""
    path.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for index in range(20):
        small = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
        small.resize((40, 40), Image.Resampling.BICUBIC).save(path / f"{index}.png")
    return path


def flat_vgg() -> VGG16:
    """A feature network of the right shapes; its values are random."""
    rng = np.random.default_rng(0)
    layers = [layer for block in BLOCKS for layer in block]
    kernels = {
        name: jnp.asarray(rng.normal(0, (2 / (9 * i)) ** 0.5, (3, 3, i, o)), jnp.float32) for name, i, o in layers
    }
    return VGG16(kernels, {name: jnp.zeros(o) for name, _, o in layers}, "torchvision")


def weight_file(path: pathlib.Path, **fields: Any) -> pathlib.Path:
    """A narrow DPConv with random parameters, trained at 16 x 16 if it had been; `fields`: of metadata, or options."""
    options: dict[str, Any] = {"variant": "paper", "width": 0.125, "dilations": (1, 1, 1, 1), "dropout": 0.25}
    options |= {name: fields.pop(name) for name in options if name in fields}
    known: dict[str, Any] = {"model": "dpconv", "options": options, "size": 16, "step": 7}
    metadata = model_file.Metadata(**known | fields)
    rng = np.random.default_rng(0)
    shapes = model_file.shapes(model_file.build(metadata))
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.1, leaf.shape).astype(leaf.dtype), shapes)
    model_file.save(path, params, metadata)
    return path
