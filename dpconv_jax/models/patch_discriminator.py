"""SN-PatchGAN, the discriminator of DeepFill v2 (Yu et al. 2019, section 3.3)."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from dpconv_jax.layers.conv import conv2d
from dpconv_jax.models.generator import channels

WIDTHS = (64, 128, 256, 256, 256, 256)


class PatchDiscriminator(nnx.Module):
    """Six spectrally normalised 5x5 stride-2 convolutions, LeakyReLU(0.2) after each, as in the code of Yu et al.

    The parameters are those before normalisation, float32; `width` multiplies every channel count, at least 8 each.
    """

    def __init__(self, *, width: float = 1.0, dtype: jnp.dtype = jnp.float32, rngs: nnx.Rngs):
        widths = [channels(base, width) for base in WIDTHS]
        self.convs = nnx.List(
            SpectralConv(inputs, outputs, 5, strides=2, dtype=dtype, rngs=rngs)
            for inputs, outputs in zip((4, *widths[:-1]), widths, strict=True)
        )

    def __call__(self, image: jax.Array, mask: jax.Array) -> jax.Array:
        """image (B, H, W, 3) in [0, 1], mask (B, H, W, 1), 1 = valid, 0 = hole -> unbounded scores for the hinge loss.

        (B, N) float32: every channel of every position of the last map scores the image as seen from there.
        """
        x = jnp.concatenate([2 * image - 1, lax.stop_gradient(1 - mask)], axis=-1)
        for conv in self.convs:
            x = nnx.leaky_relu(conv(x), 0.2)
        return x.astype(jnp.float32).reshape(x.shape[0], -1)


class SpectralConv(nnx.Module):
    """A convolution whose kernel, as a matrix (kh kw in, out), is divided by its largest singular value.

    That is v^T W u of one power iteration (Miyato et al. 2018). After `train()` each call moves u on; otherwise,
    as in the beginning, u stays. u and v are constants to the gradient, which is that of the kernel W itself.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel_size: int,
        *,
        strides: int = 1,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        shape = (kernel_size, kernel_size, inputs, outputs)
        self.kernel = nnx.Param(nnx.initializers.he_uniform()(rngs.params(), shape, jnp.float32))
        self.bias = nnx.Param(jnp.zeros((outputs,), jnp.float32))
        self.u = nnx.BatchStat(_unit(jax.random.normal(rngs.params(), (outputs,), jnp.float32)))
        self.strides = strides
        self.dtype = dtype
        self.use_running_average = True

    def __call__(self, x: jax.Array) -> jax.Array:
        """x (B, H, W, inputs), zero-padded -> (B, H', W', outputs); a side of n becomes n / strides, rounded up."""
        pad = self.kernel.shape[0] // 2
        kernel = self._normalised().astype(self.dtype)
        x = conv2d(x.astype(self.dtype), kernel, strides=self.strides, padding=(pad, pad))
        return x + self.bias[...].astype(self.dtype)

    def _normalised(self) -> jax.Array:
        kernel = self.kernel[...]
        matrix = kernel.reshape(-1, kernel.shape[-1])
        constant, u = lax.stop_gradient(matrix), self.u[...]
        v = _unit(constant @ u)
        if not self.use_running_average:
            u = _unit(v @ constant)
            self.u[...] = u
        return kernel / (v @ matrix @ u)


def _unit(x: jax.Array) -> jax.Array:
    return x / (jnp.linalg.norm(x) + 1e-12)
