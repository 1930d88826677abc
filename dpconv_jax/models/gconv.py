"""GConv, the generator of DeepFill v2 (Yu et al. 2019): gated convolutions, coarse to fine, with contextual attention.

Convention: NHWC; mask (B, H, W, 1), 1 = valid, 0 = hole.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from dpconv_jax.layers.contextual_attention import contextual_attention
from dpconv_jax.layers.gated_conv import GatedConv
from dpconv_jax.layers.inside import within
from dpconv_jax.layers.pyramid_fill import pyramid_fill
from dpconv_jax.models.convention import SIGNED
from dpconv_jax.models.generator import Generator, Masks, channels


class GConv(Generator):
    """Two stages, as in the code of Yu et al.; strides halve the image twice.

    The first paints a coarse image from the input, ones, and the hole (5 channels). The second sees the input with its
    hole painted so, 3 channels, in two branches: one dilated, one of contextual attention. Both end in tanh. Widths
    below are those after the gate; the convolutions make twice as many channels, of which theirs count 48, 96, 192.

    `yu2019`: as published. `prefilled`: not of the paper, the first stage alone, which sees the input with its holes
    filled by `pyramid_fill` as well. Its last layer is linear and at first 0; the output is that fill with it added in
    the holes, and elsewhere the input.

    Args:
      variant: "yu2019" or "prefilled".
      width: multiplies every channel count (24, 48, 96 and 12), at least 8 each; 1.0 is 4,052,478 parameters.
      dilations: of the four dilated layers of each stage. A dilation that reaches the side of their map (input / 4)
        leaves outer taps untrained.
      size: of the training images. Where a dilation reaches the side of their map, larger images are refused.
      dtype: of computation; parameters, and scores of the attention, are float32.

    Raises:
      ValueError: an argument has no meaning.
    """

    stride = 8  # 4 of the layers, 2 of the attention
    convention = SIGNED

    def __init__(
        self,
        *,
        variant: str = "yu2019",
        width: float = 1.0,
        dilations: Sequence[int] = (2, 4, 8, 16),
        size: int = 256,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        if variant not in ("yu2019", "prefilled"):
            raise ValueError(f"variant is {variant!r}; it must be 'yu2019' or 'prefilled'")
        if len(dilations) != 4 or min(dilations) < 1:
            raise ValueError(f"dilations are {tuple(dilations)}; a stage needs four, each at least 1")
        if not width > 0:
            raise ValueError(f"width is {width}; it must be greater than 0")
        c12, c24, c48, c96 = (channels(base, width) for base in (12, 24, 48, 96))

        def conv(inputs: int, outputs: int, side: int = 3, **options) -> GatedConv:
            return GatedConv(inputs, outputs, side, dtype=dtype, rngs=rngs, **options)

        def encoder(inputs: int, *widths: int, last: Callable[[jax.Array], jax.Array] = nnx.elu) -> list[GatedConv]:
            c0, c1, c2, c3 = widths
            return [
                conv(inputs, c0, 5),
                conv(c0, c1, strides=2),
                conv(c1, c2),
                conv(c2, c3, strides=2),
                conv(c3, c96),
                conv(c96, c96, activation=last),
            ]

        def dilated() -> list[GatedConv]:
            return [conv(c96, c96, dilation=rate) for rate in dilations]

        def decoder(inputs: int) -> list[GatedConv]:
            return [
                conv(inputs, c96),
                conv(c96, c96),
                conv(c96, c48, upsample=True),
                conv(c48, c48),
                conv(c48, c24, upsample=True),
                conv(c24, c12),
                conv(c12, 3, activation=None),
            ]

        self.variant = variant
        self.composited = variant == "prefilled"
        self.first = _Chain([*encoder(8 if self.composited else 5, c24, c48, c48, c96), *dilated(), *decoder(c96)])
        if self.composited:
            last = self.first.layers[-1]
            last.kernel = nnx.Param(jnp.zeros_like(last.kernel[...]))
        else:
            self.dilated = _Chain([*encoder(3, c24, c24, c48, c48), *dilated()])
            self.matched = _Chain(encoder(3, c24, c24, c48, c96, last=nnx.relu))
            self.pasted = _Chain([conv(c96, c96), conv(c96, c96)])
            self.decoder = _Chain(decoder(2 * c96))
        self.dilations = tuple(dilations)
        self.largest = size if max(dilations) >= size // 4 else None
        self.dtype = dtype

    def __call__(
        self,
        x: jax.Array,
        mask: jax.Array,
        *,
        inside: jax.Array | None = None,
        dropout_key: jax.Array | None = None,
    ) -> tuple[jax.Array, Masks]:
        """Sides must be multiples of 8; `Generator` says the rest. No layer has a mask, and none has dropout."""
        self.check(x, mask)
        self.warn_of_untrained_taps(x, self.dilations, reduction=4)
        mask = within(lax.stop_gradient(mask).astype(jnp.float32), inside)
        image = jnp.where(mask > 0, x, 0.0)
        ones = within(jnp.ones_like(mask), inside)
        hole = ones - mask
        if self.composited:
            fill = within(pyramid_fill(image, mask, inside), inside)
            added = self.first(jnp.concatenate([image, ones, hole, fill], axis=-1), inside).astype(jnp.float32)
            return within((fill + hole * added + 1) / 2, inside), {"input": mask}

        coarse = jnp.tanh(self.first(jnp.concatenate([image, ones, hole], axis=-1), inside).astype(jnp.float32))
        self.coarse = nnx.Intermediate((coarse + 1) / 2)

        painted = image + hole * coarse
        dilated = self.dilated(painted, inside)
        matched = contextual_attention(self.matched(painted, inside), mask, inside)
        both = jnp.concatenate([dilated, self.pasted(matched, inside)], axis=-1)
        fine = jnp.tanh(self.decoder(both, inside).astype(jnp.float32))
        return (fine + 1) / 2, {"input": mask}


class _Chain(nnx.Module):
    """One layer after the other."""

    def __init__(self, layers: Sequence[GatedConv]):
        self.layers = nnx.List(layers)

    def __call__(self, x: jax.Array, inside: jax.Array | None) -> jax.Array:
        for layer in self.layers:
            x = layer(x, inside)
        return x
