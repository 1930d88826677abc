"""What a generator is given: the one place that knows how an input is prepared.

The output needs no such rule, it is RGB as it is; what lies outside [0, 1] is clipped by whoever shows or measures it.
"""

import dataclasses

import jax
import jax.numpy as jnp

from dpconv_jax.models.vgg16 import IMAGENET_MEAN, IMAGENET_STD


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convention:
    """x = (rgb - mean) / std where the mask is valid, `hole` elsewhere; rgb in [0, 1], mean and std per channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    hole: float

    def prepare(self, image: jax.Array, mask: jax.Array) -> jax.Array:
        """image (B, H, W, 3) in [0, 1], mask (B, H, W, 1), 1 = valid -> x; pixels of holes are never read."""
        return jnp.where(mask > 0, (image - jnp.array(self.mean)) / jnp.array(self.std), self.hole)


UNIT = Convention(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), hole=0.0)  # [0, 1]
SIGNED = Convention(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), hole=0.0)  # [-1, 1]
IMAGENET = Convention(mean=IMAGENET_MEAN, std=IMAGENET_STD, hole=0.5)  # of the authors' published weights
