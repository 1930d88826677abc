"""What a method is trained with, a class for each publication: its loss, and the discriminator that it learns against.

A recipe holds the fields of config.loss but `recipe`. Images are (B, H, W, 3) in [0, 1], masks (B, H, W, 1), 1 = valid.
"""

import dataclasses
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from dpconv_jax.errors import UsageError
from dpconv_jax.evaluation import metrics
from dpconv_jax.models.discriminator import Discriminator
from dpconv_jax.models.patch_discriminator import PatchDiscriminator
from dpconv_jax.models.vgg16 import VGG16, features, max_pool
from dpconv_jax.training import losses

Array = jax.Array
VGG_TERMS = ("perceptual", "style")  # made of VGG-16's features
Score = Callable[[Array], Array]  # images -> what the discriminator says of them


class Example(NamedTuple):
    """A batch and what the generator made of it; `coarse` are images made on the way, mostly none.

    `composited`: the generator leaves valid pixels as they are, so that I_out is I_comp.
    """

    output: Array
    coarse: tuple[Array, ...]
    target: Array
    mask: Array
    composited: bool = False

    @property
    def composite(self) -> Array:
        """I_comp."""
        return losses.composite(output=self.output, target=self.target, mask=self.mask)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """The fields of a subclass are the weights of its terms; one of 0 leaves its term uncomputed."""

    @property
    @abstractmethod
    def weights(self) -> dict[str, float]:
        """The terms of the generator's loss by name."""

    @property
    def needs_vgg(self) -> bool:
        """Whether a term is made of VGG-16's features."""
        return any(self.weights.get(name) for name in VGG_TERMS)

    @abstractmethod
    def terms(self, example: Example, *, vgg: VGG16 | None, score: Score, dtype: jnp.dtype) -> dict[str, Array]:
        """The unweighted terms of the generator's loss, float32 scalars by name; their weighted sum is the loss.

        None for `vgg` leaves out what needs it. `score` is for adversarial terms, `dtype` for VGG-16.
        """

    def discriminator(self, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> nnx.Module:
        """The network behind `score`; an empty one where the recipe is not adversarial."""
        return nnx.List()


class Adversarial(Recipe):
    """A recipe whose discriminator learns too, unless the term `adversarial` has the weight 0."""

    def judged(self, example: Example) -> Array:
        """The fakes that the discriminator sees."""
        return example.output

    @abstractmethod
    def scores(self, discriminator: nnx.Module, images: Array, mask: Array) -> Array:
        """What the discriminator says of `images`, float32."""

    @abstractmethod
    def discriminator_loss(self, *, real_scores: Array, fake_scores: Array, key: Array) -> Array:
        """A float32 scalar; `key` draws noisy labels where there are any."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kinli2020(Adversarial):
    """Eq. (5)-(14) of the paper: least squares, noisy labels. An image made on the way has a pixel term as well."""

    pixel: float
    hole: float
    style: float
    adversarial: float
    tv: float
    real_target: tuple[float, float]
    fake_target: tuple[float, float]
    flip_target: float

    @property
    def weights(self) -> dict[str, float]:
        """Eq. (5)."""
        return {"pixel": self.pixel, "style": self.style, "adversarial": self.adversarial, "tv": self.tv}

    def terms(self, example: Example, *, vgg: VGG16 | None, score: Score, dtype: jnp.dtype) -> dict[str, Array]:
        """Eq. (6), (11), (12) and (14)."""
        output, coarse, target, mask, _ = example
        terms = dict.fromkeys(self.weights, jnp.zeros(()))
        if self.pixel:
            images = (output, *coarse)
            terms["pixel"] = sum(
                (losses.pixel(output=image, target=target, mask=mask, hole_weight=self.hole) for image in images),
                start=jnp.zeros(()),
            )
        if self.style and vgg is not None:
            ours, theirs, wanted = _features(vgg, example, dtype)
            terms["style"] = losses.style_total(output_features=ours, composite_features=theirs, target_features=wanted)
        if self.adversarial:
            terms["adversarial"] = losses.adversarial_generator(fake_scores=score(output))
        if self.tv:
            terms["tv"] = losses.total_variation(composite=example.composite, mask=mask)
        return terms

    def discriminator(self, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> nnx.Module:
        """Section 3.3."""
        return Discriminator(dtype=dtype, rngs=rngs)

    def scores(self, discriminator: nnx.Module, images: Array, mask: Array) -> Array:
        """(B,)."""
        return discriminator(images)

    def discriminator_loss(self, *, real_scores: Array, fake_scores: Array, key: Array) -> Array:
        """Eq. (13) with noisy labels."""
        real_targets, fake_targets = losses.noisy_targets(
            key, len(real_scores), real=self.real_target, fake=self.fake_target, flip=self.flip_target
        )
        return losses.adversarial_discriminator(
            real_scores=real_scores, fake_scores=fake_scores, real_targets=real_targets, fake_targets=fake_targets
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kinli2020SSIM(Kinli2020):
    """Eq. (5), and what the composite lacks of structural similarity, which is not of the paper."""

    ssim: float

    @property
    def weights(self) -> dict[str, float]:
        """Those of Eq. (5), and `ssim`."""
        return {**super().weights, "ssim": self.ssim}

    def terms(self, example: Example, *, vgg: VGG16 | None, score: Score, dtype: jnp.dtype) -> dict[str, Array]:
        """1 - SSIM (Zhao et al. 2017, "Loss Functions for Image Restoration with Neural Networks", Eq. 7)."""
        terms = super().terms(example, vgg=vgg, score=score, dtype=dtype)
        if self.ssim:
            terms["ssim"] = 1 - jnp.mean(metrics.ssim(example.composite, example.target))
        return terms


@dataclasses.dataclass(frozen=True, kw_only=True)
class Liu2018(Recipe):
    """Image Inpainting for Irregular Holes Using Partial Convolutions, Eq. (3)-(7), on pool1-pool3 of VGG-16."""

    valid: float
    hole: float
    perceptual: float
    style: float
    tv: float

    @property
    def weights(self) -> dict[str, float]:
        """Eq. (7) of Liu et al."""
        return dataclasses.asdict(self)

    def terms(self, example: Example, *, vgg: VGG16 | None, score: Score, dtype: jnp.dtype) -> dict[str, Array]:
        """Their style and total variation are those of our paper's Eq. (9)-(11) and (14)."""
        output, _, target, mask, _ = example
        terms = dict.fromkeys(self.weights, jnp.zeros(()))
        if self.valid:
            terms["valid"] = losses.non_hole(output=output, target=target, mask=mask)
        if self.hole:
            terms["hole"] = losses.hole(output=output, target=target, mask=mask)
        if self.needs_vgg and vgg is not None:
            ours, theirs, wanted = ([max_pool(each) for each in maps[:3]] for maps in _features(vgg, example, dtype))
            pair = {"output_features": ours, "composite_features": theirs, "target_features": wanted}
            terms["perceptual"], terms["style"] = losses.perceptual(**pair), losses.style_total(**pair)
        if self.tv:
            terms["tv"] = losses.total_variation(composite=example.composite, mask=mask)
        return terms


@dataclasses.dataclass(frozen=True, kw_only=True)
class Yu2019(Adversarial):
    """Free-Form Image Inpainting with Gated Convolution: l1 of both stages, hinge loss against SN-PatchGAN."""

    l1: float
    adversarial: float

    @property
    def weights(self) -> dict[str, float]:
        """Both 1 in the paper, for pixels in [-1, 1]."""
        return dataclasses.asdict(self)

    def terms(self, example: Example, *, vgg: VGG16 | None, score: Score, dtype: jnp.dtype) -> dict[str, Array]:
        """The l1 is of all pixels."""
        images = (example.output, *example.coarse)
        terms = {"l1": sum((losses.l1(output=image, target=example.target) for image in images), start=jnp.zeros(()))}
        terms["adversarial"] = jnp.zeros(())
        if self.adversarial:
            terms["adversarial"] = losses.hinge_generator(fake_scores=score(self.judged(example)))
        return terms

    def discriminator(self, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> nnx.Module:
        """SN-PatchGAN."""
        return PatchDiscriminator(dtype=dtype, rngs=rngs)

    def judged(self, example: Example) -> Array:
        """The composite."""
        return example.composite

    def scores(self, discriminator: nnx.Module, images: Array, mask: Array) -> Array:
        """(B, N): one for each patch and channel."""
        return discriminator(images, mask)

    def discriminator_loss(self, *, real_scores: Array, fake_scores: Array, key: Array) -> Array:
        """Eq. (3) of Yu et al."""
        return losses.hinge_discriminator(real_scores=real_scores, fake_scores=fake_scores)


RECIPES: dict[str, type[Recipe]] = {
    "kinli2020": Kinli2020,
    "kinli2020_ssim": Kinli2020SSIM,
    "liu2018": Liu2018,
    "yu2019": Yu2019,
}


def build(name: str, fields: dict[str, Any]) -> Recipe:
    """The recipe `name` with the fields of config.loss; UsageError for a name or field that is not there."""
    if name not in RECIPES:
        raise UsageError(f"loss.recipe is {name!r}; known: {', '.join(RECIPES)}")
    known = [field.name for field in dataclasses.fields(RECIPES[name])]
    if {*known} != {*fields}:
        raise UsageError(f"loss of {name!r} has the fields {', '.join(fields)}; they must be {', '.join(known)}")
    return RECIPES[name](**fields)


def _features(vgg: VGG16, example: Example, dtype: jnp.dtype) -> tuple[list[Array], list[Array], list[Array]]:
    """VGG-16's maps of the output, of the composite and, without gradient, of the target."""
    wanted = jax.lax.stop_gradient(features(vgg, example.target, dtype=dtype))
    if example.composited:
        maps = [*features(vgg, example.composite, dtype=dtype)]
        return maps, maps, [*wanted]
    # One call on both images, side by side in every example: half after half would move them between devices.
    pair = jnp.stack([example.output, example.composite], axis=1)
    maps = features(vgg, pair.reshape(-1, *pair.shape[2:]), dtype=dtype)
    pairs = [stacked.reshape(*pair.shape[:2], *stacked.shape[1:]) for stacked in maps]
    return [each[:, 0] for each in pairs], [each[:, 1] for each in pairs], [*wanted]
