"""The discriminator: "a simple CNN with a depth of 5" (section 3.3)."""

import jax
import jax.numpy as jnp
from flax import nnx

WIDTHS = (16, 32, 64, 128, 32)


class Discriminator(nnx.Module):
    """Five 3x3 stride-2 convolutions without bias, LeakyReLU(0.2), BatchNorm on the middle three.

    BatchNorm sees the global batch, whatever the number of devices; after `train()` its statistics, which move the
    running ones, otherwise the running ones.
    """

    def __init__(self, *, dtype: jnp.dtype = jnp.float32, rngs: nnx.Rngs):
        inputs = (3, *WIDTHS[:-1])
        self.convs = nnx.List(
            nnx.Conv(i, o, (3, 3), strides=2, padding=1, use_bias=False, dtype=dtype, rngs=rngs)
            for i, o in zip(inputs, WIDTHS, strict=True)
        )
        self.norms = nnx.List(
            nnx.BatchNorm(width, use_running_average=True, momentum=0.9, epsilon=1e-5, dtype=dtype, rngs=rngs)
            for width in WIDTHS[1:-1]
        )

    def __call__(self, image: jax.Array) -> jax.Array:
        """image (B, H, W, 3) in [0, 1] -> one unbounded score an image, (B,) float32: Eq. (12)-(13) take squares."""
        x = image
        for index, conv in enumerate(self.convs):
            x = conv(x)
            if 0 < index < len(self.convs) - 1:
                x = self.norms[index - 1](x)
            x = nnx.leaky_relu(x, 0.2) if index < len(self.convs) - 1 else x
        return x.astype(jnp.float32).mean(axis=(1, 2, 3))
