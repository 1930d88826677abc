"""Gated convolution (Yu et al. 2019, Eq. (2)): each feature has a gate of its own, learned, in place of a mask."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from dpconv_jax.layers.conv import conv2d_of_concat
from dpconv_jax.layers.inside import within


class GatedConv(nnx.Module):
    """activation(a) x sigmoid(b); a and b are the halves of one zero-padded convolution to 2 x `outputs` channels.

    Without `activation` there is no gate either: a plain convolution to `outputs` channels. Odd kernels keep the size
    at stride 1. Kernel and bias are float32, computation in `dtype`. The kernel's initial variance is 4 / fan-in where
    there is a gate: gates start near a half, and with less the image would fade from layer to layer.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel_size: int,
        *,
        strides: int = 1,
        dilation: int = 1,
        upsample: bool = False,
        activation: Callable[[jax.Array], jax.Array] | None = nnx.elu,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        made, variance = (outputs, 1.0) if activation is None else (2 * outputs, 4.0)
        draw = nnx.initializers.variance_scaling(variance, "fan_in", "uniform")
        self.kernel = nnx.Param(draw(rngs.params(), (kernel_size, kernel_size, inputs, made), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((made,), jnp.float32))
        self.strides = strides
        self.dilation = dilation
        self.upsample = upsample
        self.activation = activation
        self.dtype = dtype

    def __call__(self, x: jax.Array, inside: jax.Array | None = None) -> jax.Array:
        """x (B, H, W, C), with `upsample` enlarged by nearest x2 -> (B, H', W', outputs); 0 where not `inside`."""
        pad = self.dilation * (self.kernel.shape[0] // 2)
        x = conv2d_of_concat(
            [x.astype(self.dtype)],
            [self.upsample],
            self.kernel[...].astype(self.dtype),
            strides=self.strides,
            padding=(pad, pad),
            dilation=self.dilation,
        )
        x = x + self.bias[...].astype(self.dtype)
        if self.activation is not None:
            features, gate = jnp.split(x, 2, axis=-1)
            x = self.activation(features) * nnx.sigmoid(gate)
        return within(x, inside)
