"""PConv: a U-Net of partial convolutions (Liu et al. 2018, "Image Inpainting for Irregular Holes").

Convention: NHWC; mask (B, H, W, 1), 1 = valid, 0 = hole.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from dpconv_jax.layers.inside import within
from dpconv_jax.layers.norm import BatchNorm, instance_norm
from dpconv_jax.layers.partial_conv import PartialConv, Source
from dpconv_jax.models.convention import UNIT
from dpconv_jax.models.generator import Generator, Masks, channels

# Of the network that the paper compares with: channels, kernel size and strides of e0-e4; channels of u1-u3.
ENCODER = ((64, 7, 2), (128, 5, 2), (256, 5, 1), (256, 5, 2), (128, 3, 2))
DECODER = (128, 128, 64)


class PConv(Generator):
    """Each decoder layer undoes one stride: it sees the layer before it, enlarged, and what the strided layer saw.

    `benchmark`: the comparator of the paper, e0-e4 and u1-u4; InstanceNorm; output sigmoid.
    `liu2018`: as published, log2(size) - 1 layers e0, e1, ..., all strided, and as many u1, u2, ...; BatchNorm; output
    linear. A fresh network is in evaluation mode; `train()` makes BatchNorm use and record the statistics of the batch.

    Both: ReLU in the encoder and LeakyReLU(0.2) in the decoder; e0 and the last layer have no norm.

    Args:
      variant: "benchmark" or "liu2018".
      width: multiplies every channel count, at least 8 each. 1.0 is 3,965,012 parameters of `benchmark`, and of
        `liu2018` 32,865,236 at size 512 and 25,784,276 at 256.
      size: of the training images. `liu2018`: a power of two, at least 16; its e-layers reduce it to 2.
      dtype: of computation; parameters, mask sums and norm statistics are float32.

    Raises:
      ValueError: an argument has no meaning.
    """

    convention = UNIT

    def __init__(
        self,
        *,
        variant: str = "benchmark",
        width: float = 1.0,
        size: int = 256,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        if variant not in ("benchmark", "liu2018"):
            raise ValueError(f"variant is {variant!r}; it must be 'benchmark' or 'liu2018'")
        if not width > 0:
            raise ValueError(f"width is {width}; it must be greater than 0")
        encoder, decoder = (ENCODER, DECODER) if variant == "benchmark" else _liu2018(size)

        def stage(inputs: int, outputs: int, side: int, strides: int, activation: Callable, normed: bool) -> _Stage:
            conv = PartialConv(inputs, outputs, side, strides=strides, dtype=dtype, rngs=rngs)
            if not normed:
                return _Stage(conv, None, activation)
            return _Stage(conv, instance_norm if variant == "benchmark" else BatchNorm(outputs, rngs=rngs), activation)

        self.encoder, self.decoder = nnx.List[_Stage](), nnx.List[_Stage]()
        last, skips = 3, []
        for base, side, strides in encoder:
            if strides == 2:
                skips.append(last)
            inputs, last = last, channels(base, width)
            self.encoder.append(stage(inputs, last, side, strides, nnx.relu, normed=len(self.encoder) > 0))
        for base in decoder:
            inputs, last = last + skips.pop(), channels(base, width)
            self.decoder.append(stage(inputs, last, 3, 1, _leaky_relu, normed=True))
        self.decoder.append(stage(last + skips.pop(), 3, 3, 1, jax.nn.identity, normed=False))
        self.stride = 2 ** len(self.decoder)
        self.variant = variant

    def __call__(
        self,
        x: jax.Array,
        mask: jax.Array,
        *,
        inside: jax.Array | None = None,
        dropout_key: jax.Array | None = None,
    ) -> tuple[jax.Array, Masks]:
        """`Generator` says it all; `stride` is 16 (`benchmark`) or size / 2, and there is no dropout."""
        self.check(x, mask)
        masks: Masks = {"input": within(jax.lax.stop_gradient(mask).astype(jnp.float32), inside)}
        seen, skips = Source(x, masks["input"]), []
        for index, stage in enumerate(self.encoder):
            if stage.conv.strides == 2:
                skips.append(seen)
            seen = stage(seen, inside=inside)
            masks[f"e{index}"] = seen.mask
        for index, stage in enumerate(self.decoder, start=1):
            seen = stage(seen._replace(upsample=True), skips.pop(), inside=inside)
            masks[f"u{index}"] = seen.mask
        out = seen.features.astype(jnp.float32)
        return nnx.sigmoid(out) if self.variant == "benchmark" else out, masks

    def freeze_encoder(self) -> None:
        """As in the second phase of Liu et al.: statistics are frozen; scale and bias go on learning."""
        if self.variant == "benchmark":
            super().freeze_encoder()
        self.encoder.set_attributes(use_running_average=True)


class _Stage(nnx.Module):
    """A partial convolution, its norm where there is one, and its activation."""

    def __init__(self, conv: PartialConv, norm: Callable | None, activation: Callable[[jax.Array], jax.Array]):
        self.conv = conv
        self.norm = norm
        self.activation = activation

    def __call__(self, *sources: Source, inside: jax.Array | None) -> Source:
        x, mask = self.conv(*sources, inside=inside)
        return Source(self.finish(x, inside), mask)

    def finish(self, x: jax.Array, inside: jax.Array | None = None) -> jax.Array:
        """What follows the convolution."""
        return self.activation(x if self.norm is None else self.norm(x, inside))


def _leaky_relu(x: jax.Array) -> jax.Array:
    return nnx.leaky_relu(x, 0.2)


def _liu2018(size: int) -> tuple[Sequence[tuple[int, int, int]], Sequence[int]]:
    """As `ENCODER` and `DECODER`: e-layers from `size` down to 2; a u-layer is as wide as the e-layer it sees."""
    if size < 16 or size & (size - 1):
        raise ValueError(f"size is {size}; 'liu2018' needs a power of two, at least 16")
    layers = size.bit_length() - 2
    widths = [min(64 * 2**index, 512) for index in range(layers)]
    sides = [7, 5, 5] + [3] * (layers - 3)
    return [(width, side, 2) for width, side in zip(widths, sides, strict=True)], widths[-2::-1]
