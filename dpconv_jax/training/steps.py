"""The pure half of training: the state, and one training step of both networks. No files, no loops.

Modules live only while a function is traced: what passes through `jax.jit` is the parameters as nested dicts.
Batches hold "image" (B, H, W, 3) float32 in [0, 1] and "mask" (B, H, W, 1) float32, 1 = valid, 0 = hole; those of a
training step may be bytes, a quarter of that to collect and to send to devices.
"""

import dataclasses
import functools
from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import nnx, traverse_util
from ml_collections import ConfigDict

from dpconv_jax import models
from dpconv_jax.models.generator import Generator
from dpconv_jax.models.trees import Tree, merged
from dpconv_jax.models.vgg16 import VGG16
from dpconv_jax.training import objectives
from dpconv_jax.training.objectives import Adversarial, Example, Recipe

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
LearningRate = Callable[[jax.Array], jax.Array]  # step -> factor of the rates of both networks
SCHEDULES = ("constant", "exponential", "cosine")


@flax.struct.dataclass
class GanState:
    """Everything a checkpoint holds. Parameters, statistics and optimizer moments are float32.

    Statistics are what a network keeps beside its parameters: BatchNorm's running ones, vectors of spectral norms.
    """

    step: jax.Array  # int32: finished steps, skipped ones included
    generator: Tree
    generator_stats: Tree
    discriminator: Tree
    discriminator_stats: Tree
    generator_optimizer: optax.OptState
    discriminator_optimizer: optax.OptState
    ema: Tree | None  # averaged parameters and statistics of the generator, None where it is off

    @property
    def best_generator(self) -> Tree:
        """The parameters and statistics that evaluation and export use."""
        return merged(self.generator, self.generator_stats) if self.ema is None else self.ema


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gan:
    """Both networks and how they are trained, without a parameter: the networks are of shapes."""

    new_generator: Callable[[nnx.Rngs], Generator]
    generator: Generator
    discriminator: nnx.Module
    recipe: Recipe
    generator_optimizer: optax.GradientTransformation
    discriminator_optimizer: optax.GradientTransformation
    generator_lr: float
    discriminator_lr: float
    ema: float  # decay of the averaged generator, 0 is off
    dtype: jnp.dtype  # of computation
    seed: int  # of the first parameters, dropout and noisy labels


def build(config: ConfigDict) -> Gan:
    """What config.model, config.loss and config.optim describe; UsageError where a field of theirs has no meaning."""
    dtype, optim = DTYPES[config.train.dtype], config.optim
    recipe = objectives.build(
        config.loss.recipe, {name: value for name, value in config.loss.items() if name != "recipe"}
    )
    model = {name: value for name, value in config.model.items() if name != "name"}
    new_generator = functools.partial(models.build, config.model.name, model, size=config.data.size, dtype=dtype)
    adam = optax.scale_by_adam(b1=optim.b1, b2=optim.b2)
    clip = [optax.clip_by_global_norm(optim.clip_norm)] if optim.clip_norm else []
    return Gan(
        new_generator=lambda rngs: new_generator(rngs=rngs),
        generator=new_generator(),
        discriminator=nnx.eval_shape(lambda: recipe.discriminator(dtype=dtype, rngs=nnx.Rngs(0))),
        recipe=recipe,
        generator_optimizer=optax.chain(*clip, adam),
        discriminator_optimizer=adam,
        generator_lr=optim.generator_lr,
        discriminator_lr=optim.discriminator_lr,
        ema=optim.ema,
        dtype=dtype,
        seed=config.seed,
    )


def initialise(gan: Gan) -> GanState:
    """The state at step 0, from the seed."""

    def make() -> list[Tree]:
        # XLA's own generator: threefry for every shape of weights takes four times as long to compile.
        keys = jax.random.split(jax.random.key(gan.seed, impl="rbg"))
        generator = gan.new_generator(nnx.Rngs(keys[0]))
        discriminator = gan.recipe.discriminator(dtype=gan.dtype, rngs=nnx.Rngs(keys[1]))
        return [
            nnx.to_pure_dict(nnx.state(network, kind))
            for network in (generator, discriminator)
            for kind in (nnx.Param, nnx.BatchStat)
        ]

    generator, generator_stats, discriminator, discriminator_stats = jax.jit(make)()
    whole = merged(generator, generator_stats)
    return GanState(
        step=jnp.zeros((), jnp.int32),
        generator=generator,
        generator_stats=generator_stats,
        discriminator=discriminator,
        discriminator_stats=discriminator_stats,
        generator_optimizer=gan.generator_optimizer.init(generator),
        discriminator_optimizer=gan.discriminator_optimizer.init(discriminator),
        ema=jax.tree.map(jnp.copy, whole) if gan.ema else None,
    )


def with_generator(state: GanState, whole: Tree) -> GanState:
    """`state` with a generator that is trained already, `whole` its parameters and statistics."""
    leaves = traverse_util.flatten_dict(whole)

    def taken(tree: Tree) -> Tree:
        return traverse_util.unflatten_dict({keys: leaves[keys] for keys in traverse_util.flatten_dict(tree)})

    return dataclasses.replace(
        state,
        generator=taken(state.generator),
        generator_stats=taken(state.generator_stats),
        ema=None if state.ema is None else taken(state.ema),
    )


def schedule(optim: ConfigDict, *, steps: int, steps_per_epoch: int) -> LearningRate:
    """step -> the factor of both learning rates: linear warm-up times the schedule; that of the fine-tuning at last."""

    def factor(step: jax.Array) -> jax.Array:
        warmup = jnp.minimum(1.0, (step + 1) / max(1, optim.warmup_steps))
        if optim.schedule == "exponential":  # 0.9 an epoch, as in the authors' release
            return warmup * 0.9 ** (step // steps_per_epoch)
        if optim.schedule == "cosine":
            return warmup * 0.5 * (1 + jnp.cos(jnp.pi * jnp.minimum(1.0, step / steps)))
        return warmup

    def tuned(step: jax.Array) -> jax.Array:
        is_last = step >= finetuning_from(optim, steps=steps)
        return jnp.where(is_last, optim.finetune_lr / optim.generator_lr, factor(step))

    return tuned if optim.finetune else factor


def finetuning_from(optim: ConfigDict, *, steps: int) -> int:
    """How many steps go before the fine-tuning."""
    return steps - round(optim.finetune * steps)


def floats(batch: Batch) -> Batch:
    """Image and mask as float32; an image of bytes is divided by 255."""
    image = batch["image"]
    if image.dtype == jnp.uint8:
        image = image.astype(jnp.float32) / 255
    return {"image": image, "mask": batch["mask"].astype(jnp.float32)}


def generate(
    gan: Gan,
    params: Tree,
    stats: Tree,
    batch: Batch,
    *,
    dropout_key: jax.Array | None = None,
    frozen: bool = False,
) -> tuple[tuple[jax.Array, ...], Tree]:
    """In training mode: (I_out, then the images that the generator made on the way), and its moved statistics.

    `frozen`: the encoder keeps its statistics.
    """
    generator = nnx.merge(nnx.graphdef(gan.generator), params, stats)
    generator.train()
    if frozen:
        generator.freeze_encoder()
    x = generator.convention.prepare(batch["image"], batch["mask"])
    output, _ = generator(x, batch["mask"], dropout_key=dropout_key)
    coarse = jax.tree.leaves(nnx.to_pure_dict(nnx.pop(generator, nnx.Intermediate)))
    return (output, *coarse), nnx.to_pure_dict(nnx.state(generator, nnx.BatchStat))


def discriminate(gan: Gan, params: Tree, stats: Tree, image: jax.Array, mask: jax.Array) -> tuple[jax.Array, Tree]:
    """The recipe's scores of `image` in training mode, and the moved statistics."""
    discriminator = nnx.merge(nnx.graphdef(gan.discriminator), params, stats)
    discriminator.train()
    assert isinstance(gan.recipe, Adversarial)
    scores = gan.recipe.scores(discriminator, image, mask)
    return scores, nnx.to_pure_dict(nnx.state(discriminator, nnx.BatchStat))


def discriminator_loss(
    gan: Gan, params: Tree, stats: Tree, batch: Batch, *, fake: jax.Array, key: jax.Array
) -> tuple[jax.Array, Tree]:
    """The recipe's of `fake` beside the batch; they are two batches to BatchNorm. Returns (loss, new statistics)."""
    real_scores, stats = discriminate(gan, params, stats, batch["image"], batch["mask"])
    fake_scores, stats = discriminate(gan, params, stats, jax.lax.stop_gradient(fake), batch["mask"])
    assert isinstance(gan.recipe, Adversarial)
    return gan.recipe.discriminator_loss(real_scores=real_scores, fake_scores=fake_scores, key=key), stats


def example_of(gan: Gan, images: tuple[jax.Array, ...], batch: Batch) -> Example:
    """`batch` with `images`, as from `generate`."""
    return Example(images[0], images[1:], batch["image"], batch["mask"], composited=gan.generator.composited)


def generator_loss(
    gan: Gan, images: tuple[jax.Array, ...], batch: Batch, *, vgg: VGG16 | None, discriminator: Tree, stats: Tree
) -> tuple[jax.Array, Metrics]:
    """The recipe's loss as a function of `images`, as from `generate`: (total, its weighted terms)."""
    example = example_of(gan, images, batch)

    def score(fake: jax.Array) -> jax.Array:
        return discriminate(gan, discriminator, stats, fake, batch["mask"])[0]

    terms = gan.recipe.terms(example, vgg=vgg, score=score, dtype=gan.dtype)
    weighted = {name: weight * terms[name] for name, weight in gan.recipe.weights.items()}
    return sum(weighted.values(), start=jnp.zeros(())), weighted


def train_step(
    gan: Gan, learning_rate: LearningRate, state: GanState, batch: Batch, vgg: VGG16 | None, frozen: bool
) -> tuple[GanState, Metrics]:
    """One update of the discriminator, then one of the generator, from a single forward pass of the generator.

    batch: as from `data.pipeline.train_batches`, or floats.
    Without `vgg` the terms made of its features are 0; `frozen` as in `generate`. A loss or gradient that is not finite
    leaves everything but `step` as it was ("skipped" is 1).
    Metrics, float32 scalars: total; the recipe's terms, weighted; discriminator, its loss; gradient_norm and
    learning_rate of the generator; discriminator_gradient_norm; skipped.
    """
    batch = floats(batch)
    dropout_key, label_key = jax.random.split(jax.random.fold_in(jax.random.key(gan.seed), state.step))
    factor = learning_rate(state.step)

    def forward(params: Tree) -> tuple[tuple[jax.Array, ...], Tree]:
        return generate(gan, params, state.generator_stats, batch, dropout_key=dropout_key, frozen=frozen)

    images, pull_back, generator_stats = jax.vjp(forward, state.generator, has_aux=True)

    discriminator, discriminator_stats, discriminator_optimizer = (
        state.discriminator, state.discriminator_stats, state.discriminator_optimizer
    )  # fmt: skip
    discriminator_value = discriminator_norm = jnp.zeros(())
    if isinstance(gan.recipe, Adversarial) and gan.recipe.weights["adversarial"]:
        fake = gan.recipe.judged(example_of(gan, images, batch))

        def discriminator_objective(params: Tree) -> tuple[jax.Array, Tree]:
            return discriminator_loss(gan, params, state.discriminator_stats, batch, fake=fake, key=label_key)

        (discriminator_value, discriminator_stats), gradient = jax.value_and_grad(
            discriminator_objective, has_aux=True
        )(state.discriminator)
        discriminator_norm = optax.tree.norm(gradient)
        update, discriminator_optimizer = gan.discriminator_optimizer.update(gradient, state.discriminator_optimizer)
        discriminator = _descend(state.discriminator, update, factor * gan.discriminator_lr)

    def generator_objective(images: tuple[jax.Array, ...]) -> tuple[jax.Array, Metrics]:
        return generator_loss(gan, images, batch, vgg=vgg, discriminator=discriminator, stats=discriminator_stats)

    (total, terms), image_gradients = jax.value_and_grad(generator_objective, has_aux=True)(images)
    (gradient,) = pull_back(image_gradients)
    generator_norm = optax.tree.norm(gradient)
    update, generator_optimizer = gan.generator_optimizer.update(gradient, state.generator_optimizer)
    generator = _descend(state.generator, update, factor * gan.generator_lr)

    new = GanState(
        step=state.step,
        generator=generator,
        generator_stats=generator_stats,
        discriminator=discriminator,
        discriminator_stats=discriminator_stats,
        generator_optimizer=generator_optimizer,
        discriminator_optimizer=discriminator_optimizer,
        ema=_average(state.ema, merged(generator, generator_stats), decay=gan.ema, step=state.step),
    )
    finite = jnp.isfinite(total + discriminator_value + generator_norm + discriminator_norm)
    new = jax.tree.map(lambda new, old: jnp.where(finite, new, old), new, state)
    metrics = {
        "total": total,
        **terms,
        "discriminator": discriminator_value,
        "gradient_norm": generator_norm,
        "discriminator_gradient_norm": discriminator_norm,
        "learning_rate": factor * gan.generator_lr,
        "skipped": 1.0 - finite,
    }
    return new.replace(step=state.step + 1), metrics


def _descend(params: Tree, update: Tree, rate: jax.Array) -> Tree:
    return jax.tree.map(lambda param, step: param - rate * step, params, update)


def _average(ema: Tree | None, whole: Tree, *, decay: float, step: jax.Array) -> Tree | None:
    if ema is None:
        return None
    kept = jnp.minimum(decay, (1 + step) / (10 + step))  # the first steps must not remember the initial weights
    return jax.tree.map(lambda average, new: kept * average + (1 - kept) * new, ema, whole)
