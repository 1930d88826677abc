"""The pure half of training: the state, one training step of both networks, and inference. No files, no loops.

Modules live only while a function is traced: what passes through `jax.jit` is the parameters as nested dicts.
Batches hold "image" (B, H, W, 3) float32 in [0, 1] and "mask" (B, H, W, 1), 1 = valid, 0 = hole.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import nnx
from ml_collections import ConfigDict

from dpconv_jax import losses
from dpconv_jax.errors import UsageError
from dpconv_jax.models import GENERATORS
from dpconv_jax.models.convention import CONVENTIONS
from dpconv_jax.models.discriminator import Discriminator
from dpconv_jax.models.vgg16 import VGG16, features

Tree = Any  # nested dict of arrays
Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
SCHEDULES = ("constant", "exponential", "cosine")


@flax.struct.dataclass
class GanState:
    """Everything a checkpoint holds. Parameters, statistics and optimizer moments are float32."""

    step: jax.Array  # int32: finished steps, skipped ones included
    generator: Tree
    discriminator: Tree
    batch_stats: Tree  # running BatchNorm statistics of the discriminator
    generator_optimizer: optax.OptState
    discriminator_optimizer: optax.OptState
    ema: Tree | None  # averaged generator, None where it is off

    @property
    def best_generator(self) -> Tree:
        """The parameters that evaluation and export use."""
        return self.generator if self.ema is None else self.ema


@dataclasses.dataclass(frozen=True)
class Gan:
    """The static half of both networks and how they are optimised."""

    generator: nnx.GraphDef
    discriminator: nnx.GraphDef
    generator_optimizer: optax.GradientTransformation
    discriminator_optimizer: optax.GradientTransformation
    learning_rate: Callable[[jax.Array], jax.Array]  # step -> factor of both learning rates
    variant: str
    dtype: jnp.dtype


def build_generator(model: ConfigDict, *, dtype: jnp.dtype = jnp.float32, rngs: nnx.Rngs) -> nnx.Module:
    """The generator that config.model describes; UsageError where a field has no meaning."""
    if model.name not in GENERATORS:
        raise UsageError(f"model.name is {model.name!r}; known: {', '.join(GENERATORS)}")
    try:
        return GENERATORS[model.name](
            variant=model.variant,
            width=model.width,
            dilations=tuple(model.dilations),
            dropout=model.dropout,
            dtype=dtype,
            rngs=rngs,
        )
    except ValueError as error:
        raise UsageError(f"config.model: {error}") from error


def build(config: ConfigDict, *, steps_per_epoch: int) -> Gan:
    """The static half; no parameter is made. UsageError where the model's fields have no meaning."""
    generator, discriminator = nnx.eval_shape(functools.partial(_networks, config))
    optim = config.optim
    adam = optax.scale_by_adam(b1=optim.b1, b2=optim.b2)
    clip = [optax.clip_by_global_norm(optim.clip_norm)] if optim.clip_norm else []
    return Gan(
        generator=nnx.graphdef(generator),
        discriminator=nnx.graphdef(discriminator),
        generator_optimizer=optax.chain(*clip, adam),
        discriminator_optimizer=adam,
        learning_rate=schedule(optim, steps=config.train.steps, steps_per_epoch=steps_per_epoch),
        variant=config.model.variant,
        dtype=DTYPES[config.train.dtype],
    )


def initialise(gan: Gan, config: ConfigDict) -> GanState:
    """The state at step 0, from config.seed."""

    def make() -> list[Tree]:
        generator, discriminator = _networks(config)
        parts = (generator, nnx.Param), (discriminator, nnx.Param), (discriminator, nnx.BatchStat)
        return [nnx.to_pure_dict(nnx.state(module, kind)) for module, kind in parts]

    generator, discriminator, batch_stats = jax.jit(make)()
    return GanState(
        step=jnp.zeros((), jnp.int32),
        generator=generator,
        discriminator=discriminator,
        batch_stats=batch_stats,
        generator_optimizer=gan.generator_optimizer.init(generator),
        discriminator_optimizer=gan.discriminator_optimizer.init(discriminator),
        ema=jax.tree.map(jnp.copy, generator) if config.optim.ema else None,
    )


def _networks(config: ConfigDict) -> tuple[nnx.Module, Discriminator]:
    dtype = DTYPES[config.train.dtype]
    # XLA's own generator: threefry for every shape of weights takes four times as long to compile.
    generator_key, discriminator_key = jax.random.split(jax.random.key(config.seed, impl="rbg"))
    generator = build_generator(config.model, dtype=dtype, rngs=nnx.Rngs(generator_key))
    return generator, Discriminator(dtype=dtype, rngs=nnx.Rngs(discriminator_key))


def schedule(optim: ConfigDict, *, steps: int, steps_per_epoch: int) -> Callable[[jax.Array], jax.Array]:
    """step -> the factor of both learning rates: linear warm-up times the schedule."""

    def factor(step: jax.Array) -> jax.Array:
        warmup = jnp.minimum(1.0, (step + 1) / max(1, optim.warmup_steps))
        if optim.schedule == "exponential":  # 0.9 an epoch, as in the authors' release
            return warmup * 0.9 ** (step // steps_per_epoch)
        if optim.schedule == "cosine":
            return warmup * 0.5 * (1 + jnp.cos(jnp.pi * jnp.minimum(1.0, step / steps)))
        return warmup

    return factor


def generate(
    gan: Gan, params: Tree, image: jax.Array, mask: jax.Array, *, dropout_key: jax.Array | None = None
) -> jax.Array:
    """I_out (B, H, W, 3) float32, RGB in [0, 1], of the holes of `image`."""
    x = CONVENTIONS[gan.variant].prepare(image, mask)
    output, _ = nnx.merge(gan.generator, params)(x, mask, dropout_key=dropout_key)
    return output


def discriminate(gan: Gan, params: Tree, batch_stats: Tree, image: jax.Array) -> tuple[jax.Array, Tree]:
    """Scores (B,) by the batch's statistics, and the running statistics moved by them."""
    discriminator = nnx.merge(gan.discriminator, params, batch_stats)
    scores = discriminator(image, train=True)
    return scores, nnx.to_pure_dict(nnx.state(discriminator, nnx.BatchStat))


def discriminator_loss(
    gan: Gan, params: Tree, batch_stats: Tree, *, real: jax.Array, fake: jax.Array, key: jax.Array, loss: ConfigDict
) -> tuple[jax.Array, Tree]:
    """Eq. (13) with noisy labels; real and fake are two batches to BatchNorm. Returns (loss, new statistics)."""
    real_targets, fake_targets = losses.noisy_targets(
        key, len(real), real=loss.real_target, fake=loss.fake_target, flip=loss.flip_target
    )
    real_scores, batch_stats = discriminate(gan, params, batch_stats, real)
    fake_scores, batch_stats = discriminate(gan, params, batch_stats, jax.lax.stop_gradient(fake))
    value = losses.adversarial_discriminator(
        real_scores=real_scores, fake_scores=fake_scores, real_targets=real_targets, fake_targets=fake_targets
    )
    return value, batch_stats


def generator_loss(
    gan: Gan,
    output: jax.Array,
    batch: Batch,
    *,
    vgg: VGG16 | None,
    discriminator: Tree,
    batch_stats: Tree,
    weights: losses.Weights,
) -> tuple[jax.Array, Metrics]:
    """Eq. (5) as a function of I_out: (total, the four weighted terms).

    A weight of 0 leaves its term uncomputed, and so does None for `vgg` the style term.
    """
    target, mask = batch["image"], batch["mask"]
    composite = losses.composite(output=output, target=target, mask=mask)
    terms = dict.fromkeys(("pixel", "style", "adversarial", "tv"), jnp.zeros(()))
    if weights.pixel:
        terms["pixel"] = losses.pixel(output=output, target=target, mask=mask)
    if weights.style and vgg is not None:
        wanted = jax.lax.stop_gradient(features(vgg, target, dtype=gan.dtype))
        # One call on both images; each half of its maps is one of Eq. (11)'s two sums.
        maps = features(vgg, jnp.concatenate([output, composite]), dtype=gan.dtype)
        ours = [jnp.split(stacked, 2) for stacked in maps]
        terms["style"] = losses.style_total(
            output_features=[of_output for of_output, _ in ours],
            composite_features=[of_composite for _, of_composite in ours],
            target_features=wanted,
        )
    if weights.adversarial:
        scores, _ = discriminate(gan, discriminator, batch_stats, output)
        terms["adversarial"] = losses.adversarial_generator(fake_scores=scores)
    if weights.tv:
        terms["tv"] = losses.total_variation(composite=composite, mask=mask)
    weighted = {name: getattr(weights, name) * term for name, term in terms.items()}
    return losses.total(**terms, weights=weights), weighted


def train_step(
    gan: Gan, config: ConfigDict, state: GanState, batch: Batch, vgg: VGG16 | None
) -> tuple[GanState, Metrics]:
    """One update of the discriminator, then one of the generator, from a single forward pass of the generator.

    Without `vgg` the style term is 0. A loss or gradient that is not finite leaves everything but `step` as it was
    ("skipped" is 1).
    Metrics, float32 scalars: total; pixel, style, adversarial and tv, weighted; discriminator, its loss; gradient_norm
    and learning_rate of the generator; discriminator_gradient_norm; skipped.
    """
    weights = losses.Weights(**{name: config.loss[name] for name in ("pixel", "style", "adversarial", "tv")})
    dropout_key, label_key = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), state.step))
    factor = gan.learning_rate(state.step)

    def forward(params: Tree) -> jax.Array:
        return generate(gan, params, batch["image"], batch["mask"], dropout_key=dropout_key)

    output, pull_back = jax.vjp(forward, state.generator)

    discriminator, batch_stats, discriminator_optimizer = (
        state.discriminator, state.batch_stats, state.discriminator_optimizer
    )  # fmt: skip
    discriminator_value = discriminator_norm = jnp.zeros(())
    if weights.adversarial:

        def discriminator_objective(params: Tree) -> tuple[jax.Array, Tree]:
            return discriminator_loss(
                gan, params, state.batch_stats, real=batch["image"], fake=output, key=label_key, loss=config.loss
            )

        (discriminator_value, batch_stats), gradient = jax.value_and_grad(discriminator_objective, has_aux=True)(
            state.discriminator
        )
        discriminator_norm = optax.tree.norm(gradient)
        update, discriminator_optimizer = gan.discriminator_optimizer.update(gradient, state.discriminator_optimizer)
        discriminator = _descend(state.discriminator, update, factor * config.optim.discriminator_lr)

    def generator_objective(output: jax.Array) -> tuple[jax.Array, Metrics]:
        return generator_loss(
            gan, output, batch, vgg=vgg, discriminator=discriminator, batch_stats=batch_stats, weights=weights
        )

    (total, terms), output_gradient = jax.value_and_grad(generator_objective, has_aux=True)(output)
    (gradient,) = pull_back(output_gradient)
    generator_norm = optax.tree.norm(gradient)
    update, generator_optimizer = gan.generator_optimizer.update(gradient, state.generator_optimizer)
    generator = _descend(state.generator, update, factor * config.optim.generator_lr)

    new = GanState(
        step=state.step,
        generator=generator,
        discriminator=discriminator,
        batch_stats=batch_stats,
        generator_optimizer=generator_optimizer,
        discriminator_optimizer=discriminator_optimizer,
        ema=_average(state.ema, generator, decay=config.optim.ema, step=state.step),
    )
    finite = jnp.isfinite(total + discriminator_value + generator_norm + discriminator_norm)
    new = jax.tree.map(lambda new, old: jnp.where(finite, new, old), new, state)
    metrics = {
        "total": total,
        **terms,
        "discriminator": discriminator_value,
        "gradient_norm": generator_norm,
        "discriminator_gradient_norm": discriminator_norm,
        "learning_rate": factor * config.optim.generator_lr,
        "skipped": 1.0 - finite,
    }
    return new.replace(step=state.step + 1), metrics


def _descend(params: Tree, update: Tree, rate: jax.Array) -> Tree:
    return jax.tree.map(lambda param, step: param - rate * step, params, update)


def _average(ema: Tree | None, params: Tree, *, decay: float, step: jax.Array) -> Tree | None:
    if ema is None:
        return None
    kept = jnp.minimum(decay, (1 + step) / (10 + step))  # the first steps must not remember the initial weights
    return jax.tree.map(lambda average, param: kept * average + (1 - kept) * param, ema, params)
