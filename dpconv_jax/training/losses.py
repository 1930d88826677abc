"""The training objective, Eq. (5)-(14), one function each, in the paper's order; then those of the compared methods.

Images are (B, H, W, 3) in [0, 1], masks (B, H, W, 1) with 1 = valid and 0 = hole. Every loss is summed per image as
printed, then averaged over the batch; inputs of any float type are computed in float32 and the result is a float32
scalar.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array


def composite(*, output: Array, target: Array, mask: Array) -> Array:
    """I_comp: the output in the hole, the target elsewhere; (B, H, W, 3) float32."""
    output, target, mask = _float32(output, target, mask)
    return mask * target + (1 - mask) * output


def pixel(*, output: Array, target: Array, mask: Array, hole_weight: float = 1.0) -> Array:
    """Eq. (6): the hole and the non-hole term, in the paper with equal weight."""
    in_hole = hole(output=output, target=target, mask=mask)
    return hole_weight * in_hole + non_hole(output=output, target=target, mask=mask)


def hole(*, output: Array, target: Array, mask: Array) -> Array:
    """Eq. (7): l1 over the hole, divided by C*H*W of the whole image."""
    output, target, mask = _float32(output, target, mask)
    return jnp.mean(jnp.abs((1 - mask) * (output - target)))


def non_hole(*, output: Array, target: Array, mask: Array) -> Array:
    """Eq. (8): l1 over the valid pixels, divided by C*H*W of the whole image."""
    output, target, mask = _float32(output, target, mask)
    return jnp.mean(jnp.abs(mask * (output - target)))


@jax.custom_vjp
def gram(features: Array) -> Array:
    """Psi^T Psi of Eq. (9), unnormalised: features (B, H, W, C) of any float type -> (B, C, C) float32.

    Its gradient is one matrix product, F (G' + G'^T), where differentiating the product would make two.
    """
    pixels = features.reshape(features.shape[0], -1, features.shape[-1])
    return jnp.einsum("bnc,bnd->bcd", pixels, pixels, preferred_element_type=jnp.float32)


def _gram_forward(features: Array) -> tuple[Array, Array]:
    return gram(features), features


def _gram_backward(features: Array, cotangent: Array) -> tuple[Array]:
    symmetric = (cotangent + cotangent.swapaxes(1, 2)).astype(features.dtype)
    pixels = features.reshape(features.shape[0], -1, features.shape[-1])
    gradient = jnp.einsum("bnc,bcd->bnd", pixels, symmetric, preferred_element_type=jnp.float32)
    return (gradient.reshape(features.shape).astype(features.dtype),)


gram.defvjp(_gram_forward, _gram_backward)


def style(*, features: Sequence[Array], target_features: Sequence[Array]) -> Array:
    """Eq. (9) or (10): the l1 distance of Gram matrices, for one of the two images of a pair.

    `features` and `target_features` are the maps (B, H_p, W_p, C_p) of the layers p. K_p = 1 / (C_p H_p W_p)
    normalises both Gram matrices (as printed, it stands before the first only), and 1 / C_p^2 the sum.
    No gradient reaches `target_features`.
    """
    loss = jnp.zeros((), jnp.float32)
    for ours, theirs in zip(features, target_features, strict=True):
        _, height, width, channels = ours.shape
        normaliser = 1.0 / (channels * height * width)  # K_p
        distance = jnp.abs(gram(ours) - gram(lax.stop_gradient(theirs)))
        loss += normaliser * jnp.mean(distance)  # the mean over (C_p, C_p) is the sum over C_p^2
    return loss


def style_total(
    *, output_features: Sequence[Array], composite_features: Sequence[Array], target_features: Sequence[Array]
) -> Array:
    """Eq. (11): the style term of I_out plus that of I_comp."""
    return style(features=output_features, target_features=target_features) + style(
        features=composite_features, target_features=target_features
    )


def adversarial_generator(*, fake_scores: Array) -> Array:
    """Eq. (12): (D(I_out) - 1)^2, least squares; scores (B,)."""
    (fake_scores,) = _float32(fake_scores)
    return jnp.mean((fake_scores - 1) ** 2)


def adversarial_discriminator(
    *, real_scores: Array, fake_scores: Array, real_targets: Array | float = 1.0, fake_targets: Array | float = 0.0
) -> Array:
    """Eq. (13), no factor 1/2; scores (B,), targets scalar or (B,) as from `noisy_targets`."""
    real_scores, fake_scores = _float32(real_scores, fake_scores)
    return jnp.mean((fake_scores - fake_targets) ** 2) + jnp.mean((real_scores - real_targets) ** 2)


def noisy_targets(
    key: Array, batch: int, *, real: tuple[float, float], fake: tuple[float, float], flip: float
) -> tuple[Array, Array]:
    """Labels of the discriminator (section 3.3): (real_targets, fake_targets), each (B,) float32.

    Every image draws its label uniformly from its range, and with probability `flip` from the other one's.
    """
    real_key, fake_key, real_flip_key, fake_flip_key = jax.random.split(key, 4)

    def draw(value_key: Array, flip_key: Array, own: tuple[float, float], other: tuple[float, float]) -> Array:
        low, high = jnp.where(jax.random.bernoulli(flip_key, flip, (batch, 1)), jnp.array(other), jnp.array(own)).T
        return low + (high - low) * jax.random.uniform(value_key, (batch,), jnp.float32)

    return draw(real_key, real_flip_key, real, fake), draw(fake_key, fake_flip_key, fake, real)


def total_variation(*, composite: Array, mask: Array) -> Array:
    """Eq. (14): l1 differences of neighbours that both lie in R, divided by C*H*W.

    R is the hole dilated by one pixel (3 x 3).
    """
    composite, mask = _float32(composite, mask)
    region = lax.reduce_window(1 - mask, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 1, 1, 1), "SAME")
    region = lax.stop_gradient(region)
    horizontal = jnp.abs(composite[:, :, 1:] - composite[:, :, :-1]) * region[:, :, 1:] * region[:, :, :-1]
    vertical = jnp.abs(composite[:, 1:] - composite[:, :-1]) * region[:, 1:] * region[:, :-1]
    return (jnp.sum(horizontal) + jnp.sum(vertical)) / composite.size


def l1(*, output: Array, target: Array) -> Array:
    """Mean absolute error over all pixels and channels (Yu et al. 2019)."""
    output, target = _float32(output, target)
    return jnp.mean(jnp.abs(output - target))


def perceptual(
    *, output_features: Sequence[Array], composite_features: Sequence[Array], target_features: Sequence[Array]
) -> Array:
    """l1 between features, mean over each map, sum over maps and over output and composite (Liu et al. 2018, Eq. 3).

    No gradient reaches `target_features`.
    """
    loss = jnp.zeros((), jnp.float32)
    for ours in (output_features, composite_features):
        for our_map, their_map in zip(ours, target_features, strict=True):
            loss += l1(output=our_map, target=lax.stop_gradient(their_map))
    return loss


def hinge_generator(*, fake_scores: Array) -> Array:
    """-D(fake), mean over all scores (Yu et al. 2019, Eq. 4)."""
    (fake_scores,) = _float32(fake_scores)
    return -jnp.mean(fake_scores)


def hinge_discriminator(*, real_scores: Array, fake_scores: Array) -> Array:
    """max(0, 1 - D(real)) + max(0, 1 + D(fake)), each a mean over all scores (Yu et al. 2019, Eq. 3)."""
    real_scores, fake_scores = _float32(real_scores, fake_scores)
    return jnp.mean(jax.nn.relu(1 - real_scores)) + jnp.mean(jax.nn.relu(1 + fake_scores))


def _float32(*arrays: Array) -> tuple[Array, ...]:
    return tuple(jnp.asarray(array, jnp.float32) for array in arrays)
