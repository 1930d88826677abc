"""LPIPS (Zhang et al., 2018, Eq. 1), version 0.1 on VGG-16: how far apart two images look.

`weights/lpips.py` reads the heads from a file. The published network shifts and scales inputs in [-1, 1], which makes
them torchvision's: (2x - 1 + 0.030) / 0.458 = (x - 0.485) / 0.229, and so for the other channels.
"""

import flax.struct
import jax
import jax.numpy as jnp

from dpconv_jax.models.vgg16 import VGG16, trunk

CHANNELS = (64, 128, 256, 512, 512)  # of relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3
EPSILON = 1e-10  # keeps a pixel whose features are all zero at zero


@flax.struct.dataclass
class LPIPS:
    """VGG-16 with conv5, and for each of its five maps one weight a channel, (C,) float32, not negative."""

    trunk: VGG16
    heads: tuple[jax.Array, ...]

    @property
    def name(self) -> str:
        """What its numbers are called: the heads were fitted to torchvision's weights, others do not give LPIPS."""
        return "lpips" if self.trunk.convention == "torchvision" else "lpips_oxford"


def distance(params: LPIPS, a: jax.Array, b: jax.Array) -> jax.Array:
    """Images (B, H, W, 3) RGB in [0, 1], sides at least 16 -> (B,) float32, 0 for equal images.

    At each pixel of each map: features of length 1, their squared difference, weighted over channels; the mean over
    pixels; the sum over maps. Raises ValueError where the trunk lacks conv5.
    """
    total = jnp.zeros(jnp.shape(a)[0], jnp.float32)
    for of_a, of_b, head in zip(trunk(params.trunk, a), trunk(params.trunk, b), params.heads, strict=True):
        weighted = jnp.square(_unit(of_a) - _unit(of_b)) * head
        total += jnp.mean(jnp.sum(weighted, axis=-1), axis=(1, 2))
    return total


def _unit(features: jax.Array) -> jax.Array:
    """Each pixel's channels divided by their length."""
    return features / (jnp.sqrt(jnp.sum(jnp.square(features), axis=-1, keepdims=True)) + EPSILON)
