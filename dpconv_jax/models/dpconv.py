"""The DPConv generator (Fig. 3): a U-Net of partial convolutions with a dilated bottleneck and self-attention.

Convention: NHWC; mask (B, H, W, 1), 1 = valid, 0 = hole.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from dpconv_jax.layers.attention import SelfAttention
from dpconv_jax.layers.inside import resized, within
from dpconv_jax.layers.norm import instance_norm
from dpconv_jax.layers.partial_conv import PartialConv, Source
from dpconv_jax.layers.pyramid_fill import pyramid_fill
from dpconv_jax.models.convention import IMAGENET, UNIT
from dpconv_jax.models.generator import Generator, Masks, channels


def _leaky(x: jax.Array) -> jax.Array:
    return nnx.leaky_relu(x, 0.2)


class DPConv(Generator):
    """The graph of Fig. 3, that of the authors' code, and one that is not of the paper.

    `paper`: Fig. 3 as it is drawn. PConv-IN-LeakyReLU(0.2) everywhere, no norm at e0 and u4, nothing after an
    attention; u1 and u2 at a quarter of the side, a2 after u2; output sigmoid.
    `released`: what the authors' published weights need to give the authors' outputs: plain convolutions and no masks
    after d4, d2 = ReLU(IN(its mask)) + d1, no residual on d4, ReLU in the encoder and after attentions, a2 before u2
    over both of its inputs, u2 at half the side; output tanh, of ImageNet-normalised input.
    `prefilled`: the graph `paper`, whose e0 and u4 also see the input with its holes filled by `pyramid_fill`, valid
    everywhere. The output is that fill with u4, linear and at first 0, added in the holes; elsewhere it is the input.

    Args:
      variant: "paper", "released" or "prefilled".
      width: multiplies every channel count of Fig. 3, at least 8 each; 1.0 is 3,334,806 parameters.
      dilations: of d1-d4. A dilation that reaches the side of their map (input / 8) leaves outer taps untrained.
      norm: "instance", or "none" (not of the paper, nor for `released`).
      dropout: rate after u1-u3 (not of `released`), in effect where a key is given.
      size: of the training images. Where a dilation reaches the side of their map, larger images are refused.
      dtype: of computation; parameters, mask sums and norm statistics are float32.
      released_order: for weights from before `paper` and `prefilled` were Fig. 3 (`models.named_in`): ReLU in the
        encoder and after attentions, a2 and u2 as in `released`.

    Raises:
      ValueError: an argument has no meaning.
    """

    stride = 8

    def __init__(
        self,
        *,
        variant: str = "paper",
        width: float = 1.0,
        dilations: Sequence[int] = (2, 4, 8, 2),
        norm: str = "instance",
        dropout: float = 0.0,
        size: int = 256,
        dtype: jnp.dtype = jnp.float32,
        released_order: bool = False,
        rngs: nnx.Rngs,
    ):
        if variant not in ("paper", "released", "prefilled"):
            raise ValueError(f"variant is {variant!r}; it must be 'paper', 'released' or 'prefilled'")
        if len(dilations) != 4 or min(dilations) < 1:
            raise ValueError(f"dilations are {tuple(dilations)}; d1-d4 need four, each at least 1")
        if norm not in ("instance", "none") or (norm == "none" and variant == "released"):
            raise ValueError(f"norm is {norm!r}; it must be 'instance' or, but of 'released', 'none'")
        if not width > 0:
            raise ValueError(f"width is {width}; it must be greater than 0")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout}; it must lie in [0, 1)")
        c64, c128, c256 = (channels(base, width) for base in (64, 128, 256))

        def conv(inputs: int, outputs: int, side: int, strides: int = 1, dilation: int = 1) -> PartialConv:
            return PartialConv(inputs, outputs, side, strides=strides, dilation=dilation, dtype=dtype, rngs=rngs)

        seen = 6 if variant == "prefilled" else 3
        self.e0 = conv(seen, c64, 7, 2)
        self.e1 = conv(c64, c128, 5, 2)
        self.e2 = conv(c128, c256, 5)
        self.e3 = conv(c256, c128, 5, 2)
        self.d1, self.d2, self.d3, self.d4 = (conv(c128, c128, 3, dilation=rate) for rate in dilations)
        self.a1 = SelfAttention(c128, dtype=dtype, rngs=rngs)
        self.u1 = conv(2 * c128, c128, 3)
        self.u2 = conv(c256 + c128, c128, 3)
        self.released_order = released_order or variant == "released"
        self.a2 = SelfAttention(c256 + c128 if self.released_order else c128, dtype=dtype, rngs=rngs)
        self.u3 = conv(c128 + c64, c64, 3)
        self.u4 = conv(c64 + seen, 3, 3)
        if variant == "prefilled":
            self.u4.kernel = nnx.Param(jnp.zeros_like(self.u4.kernel[...]))
        self.variant = variant
        self.composited = variant == "prefilled"
        self.convention = IMAGENET if variant == "released" else UNIT
        self.largest = size if max(dilations) >= size // self.stride else None
        self.dilations = tuple(dilations)
        self.norm = norm
        self.dropout = dropout
        self.dtype = dtype

    def __call__(
        self,
        x: jax.Array,
        mask: jax.Array,
        *,
        inside: jax.Array | None = None,
        dropout_key: jax.Array | None = None,
    ) -> tuple[jax.Array, Masks]:
        """Sides must be multiples of 8; `Generator` says the rest. Masks of every layer but the attentions."""
        self.check(x, mask)
        self.warn_of_untrained_taps(x, self.dilations, reduction=self.stride)
        x = within(x.astype(self.dtype), inside)
        masks: Masks = {"input": within(jax.lax.stop_gradient(mask).astype(jnp.float32), inside)}
        seen = [Source(x, masks["input"])]
        if self.variant == "released":
            return jnp.tanh(self._released(seen, masks, inside).astype(jnp.float32)), masks
        if self.variant == "paper":
            return nnx.sigmoid(self._paper(seen, masks, inside, dropout_key).astype(jnp.float32)), masks
        fill = within(pyramid_fill(x, masks["input"], inside), inside)
        seen.append(Source(fill.astype(self.dtype), within(jnp.ones_like(masks["input"]), inside)))
        added = self._paper(seen, masks, inside, dropout_key).astype(jnp.float32)
        return fill + (1 - masks["input"]) * added, masks

    def _encode(
        self, seen: list[Source], masks: Masks, inside: jax.Array | None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        e0, masks["e0"] = self.e0(*seen, inside=inside)
        e0 = self._encoder_activation(e0)
        e1, masks["e1"] = self.e1(Source(e0, masks["e0"]), inside=inside)
        e1 = self._encoder_activation(self._normed(e1, inside))
        e2, masks["e2"] = self.e2(Source(e1, masks["e1"]), inside=inside)
        e2 = self._encoder_activation(self._normed(e2, inside))
        e3, masks["e3"] = self.e3(Source(e2, masks["e2"]), inside=inside)
        return e0, e2, self._encoder_activation(self._normed(e3, inside))

    def _paper(
        self, seen: list[Source], masks: Masks, inside: jax.Array | None, dropout_key: jax.Array | None
    ) -> jax.Array:
        keys = [None] * 3 if dropout_key is None or self.dropout == 0 else list(jax.random.split(dropout_key, 3))
        e0, e2, e3 = self._encode(seen, masks, inside)

        d1, masks["d1"] = self.d1(Source(e3, masks["e3"]), inside=inside)
        d1 = self._encoder_activation(self._normed(d1, inside))
        # Stride 1 with a centre tap: the mask of a convolution contains its input's, so it serves the sum as well.
        d2, masks["d2"] = self.d2(Source(d1, masks["d1"]), inside=inside)
        d2 = self._encoder_activation(self._normed(d2, inside)) + d1
        d3, masks["d3"] = self.d3(Source(d2, masks["d2"]), inside=inside)
        d3 = self._encoder_activation(self._normed(d3, inside)) + d2
        d4, masks["d4"] = self.d4(Source(d3, masks["d3"]), inside=inside)
        d4 = self._encoder_activation(self._normed(d4, inside)) + d3

        a1 = self._attention_activation(self.a1(d4 * masks["d4"].astype(d4.dtype), masks["d4"]))
        u1, masks["u1"] = self.u1(
            Source(e3, masks["e3"], upsample=True), Source(a1, masks["d4"], upsample=True), inside=inside
        )
        u1 = self._drop(_leaky(self._normed(u1, inside)), keys[0])

        if self.released_order:
            u2 = self._u2_of_the_release(e2, u1, masks, inside)
        else:
            u2, masks["u2"] = self.u2(Source(e2, masks["e2"]), Source(u1, masks["u1"]), inside=inside)
        u2 = self._drop(_leaky(self._normed(u2, inside)), keys[1])
        if not self.released_order:
            u2 = self.a2(u2 * masks["u2"].astype(u2.dtype), masks["u2"])

        u3, masks["u3"] = self.u3(
            Source(u2, masks["u2"], upsample=not self.released_order), Source(e0, masks["e0"]), inside=inside
        )
        u3 = self._drop(_leaky(self._normed(u3, inside)), keys[2])

        u4, masks["u4"] = self.u4(Source(u3, masks["u3"], upsample=True), *seen, inside=inside)
        return u4

    def _u2_of_the_release(self, e2: jax.Array, u1: jax.Array, masks: Masks, inside: jax.Array | None) -> jax.Array:
        """a2 over both inputs of u2, then u2 of them enlarged."""
        valid = [features * masks[name].astype(features.dtype) for features, name in ((e2, "e2"), (u1, "u1"))]
        a2 = self.a2(jnp.concatenate(valid, axis=-1), jnp.maximum(masks["e2"], masks["u1"]))
        a2_e2, a2_u1 = jnp.split(nnx.relu(a2), [e2.shape[-1]], axis=-1)
        u2, masks["u2"] = self.u2(
            Source(a2_e2, masks["e2"], upsample=True), Source(a2_u1, masks["u1"], upsample=True), inside=inside
        )
        return u2

    def _normed(self, x: jax.Array, inside: jax.Array | None) -> jax.Array:
        return instance_norm(x, inside) if self.norm == "instance" else x

    def _encoder_activation(self, x: jax.Array) -> jax.Array:
        return nnx.relu(x) if self.released_order else _leaky(x)

    def _attention_activation(self, x: jax.Array) -> jax.Array:
        return nnx.relu(x) if self.released_order else x

    def _released(self, seen: list[Source], masks: Masks, inside: jax.Array | None) -> jax.Array:
        e0, e2, e3 = self._encode(seen, masks, inside)

        d1, masks["d1"] = self.d1(Source(e3, masks["e3"]), inside=inside)
        d1 = nnx.relu(instance_norm(d1, inside))
        _, masks["d2"] = self.d2(Source(d1, masks["d1"]), inside=inside)
        d2 = nnx.relu(instance_norm(masks["d2"], inside)).astype(d1.dtype) + d1
        d3, masks["d3"] = self.d3(Source(d2, masks["d2"]), inside=inside)
        d3 = nnx.relu(instance_norm(d3, inside)) + d2
        d4, masks["d4"] = self.d4(Source(d3, masks["d3"]), inside=inside)
        d4 = nnx.relu(instance_norm(d4, inside))

        a1 = within(nnx.relu(self.a1(d4, resized(inside, d4))), inside)
        u1 = _leaky(instance_norm(self.u1.plain([e3, a1], [True, True]), inside))
        a2 = jnp.concatenate([e2, u1], axis=-1)
        a2 = within(nnx.relu(self.a2(a2, resized(inside, a2))), inside)
        u2 = _leaky(instance_norm(self.u2.plain([a2], [True]), inside))
        u3 = _leaky(instance_norm(self.u3.plain([u2, e0], [False, False]), inside))
        return self.u4.plain([u3, seen[0].features], [True, False])

    def _drop(self, x: jax.Array, key: jax.Array | None) -> jax.Array:
        if key is None:
            return x
        kept = jax.random.bernoulli(key, 1 - self.dropout, x.shape)
        return jnp.where(kept, x / (1 - self.dropout), 0).astype(x.dtype)
