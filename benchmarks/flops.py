"""The networks without their masks, whose arithmetic is counted beside that of the real ones (study/arithmetic.py)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from dpconv_jax.layers.partial_conv import Source
from dpconv_jax.models.dpconv import DPConv, _decoder_activation, _encoder_activation
from dpconv_jax.models.generator import Generator, Masks
from dpconv_jax.models.pconv import PConv


class PlainDPConv(DPConv):
    """The `paper` graph with ordinary convolutions: what the mask path is measured against."""

    def _paper(
        self, seen: list[Source], masks: Masks, inside: jax.Array | None, dropout_key: jax.Array | None
    ) -> jax.Array:
        up, same = True, False
        x = seen[0].features
        e0 = nnx.relu(self.e0.plain([x], [same]))
        e2 = _encoder_activation(self.e2.plain([_encoder_activation(self.e1.plain([e0], [same]))], [same]))
        e3 = _encoder_activation(self.e3.plain([e2], [same]))
        d = _encoder_activation(self.d1.plain([e3], [same]))
        for layer in (self.d2, self.d3, self.d4):
            d = _encoder_activation(layer.plain([d], [same])) + d
        u1 = _decoder_activation(self.u1.plain([e3, nnx.relu(self.a1(d))], [up, up]))
        a2 = nnx.relu(self.a2(jnp.concatenate([e2, u1], axis=-1)))
        u2 = _decoder_activation(self.u2.plain([a2], [up]))
        u3 = _decoder_activation(self.u3.plain([u2, e0], [same, same]))
        return self.u4.plain([u3, x], [up, same])


class PlainPConv(PConv):
    """The `benchmark` graph likewise."""

    def __call__(
        self,
        x: jax.Array,
        mask: jax.Array,
        *,
        inside: jax.Array | None = None,
        dropout_key: jax.Array | None = None,
    ) -> tuple[jax.Array, Masks]:
        skips = []
        for stage in self.encoder:
            if stage.conv.strides == 2:
                skips.append(x)
            x = stage.finish(stage.conv.plain([x], [False]))
        for stage in self.decoder:
            x = stage.finish(stage.conv.plain([x, skips.pop()], [True, False]))
        return nnx.sigmoid(x), {}


def generator(model: type[Generator], width: float) -> Callable:
    """(parameters, image, mask) -> output, for a state of `model`'s parameters."""
    graph = nnx.split(nnx.eval_shape(lambda: model(width=width, rngs=nnx.Rngs(0))))[0]

    def generate(parameters: nnx.State, image: jax.Array, mask: jax.Array) -> jax.Array:
        return nnx.merge(graph, parameters)(image, mask)[0]

    return generate
