"""The networks without their masks, whose arithmetic is counted beside that of the real ones (study/arithmetic.py)."""

from collections.abc import Callable

import jax
from flax import nnx

from dpconv_jax.layers.norm import instance_norm
from dpconv_jax.layers.partial_conv import Source
from dpconv_jax.models.dpconv import DPConv, _leaky
from dpconv_jax.models.generator import Generator, Masks
from dpconv_jax.models.pconv import PConv


class PlainDPConv(DPConv):
    """The `paper` graph with ordinary convolutions: what the mask path is measured against."""

    def _paper(
        self, seen: list[Source], masks: Masks, inside: jax.Array | None, dropout_key: jax.Array | None
    ) -> jax.Array:
        up, same = True, False
        x = seen[0].features
        e0 = _leaky(self.e0.plain([x], [same]))
        e2 = _activation(self.e2.plain([_activation(self.e1.plain([e0], [same]))], [same]))
        e3 = _activation(self.e3.plain([e2], [same]))
        d = _activation(self.d1.plain([e3], [same]))
        for layer in (self.d2, self.d3, self.d4):
            d = _activation(layer.plain([d], [same])) + d
        u1 = _activation(self.u1.plain([e3, self.a1(d)], [up, up]))
        u2 = self.a2(_activation(self.u2.plain([e2, u1], [same, same])))
        u3 = _activation(self.u3.plain([u2, e0], [up, same]))
        return self.u4.plain([u3, x], [up, same])


def _activation(x: jax.Array) -> jax.Array:
    return _leaky(instance_norm(x))


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


def generator(model: type[Generator], width: float, **options: str) -> Callable:
    """(parameters, image, mask) -> output, for a state of `model`'s parameters."""
    graph = nnx.split(nnx.eval_shape(lambda: model(width=width, **options, rngs=nnx.Rngs(0))))[0]

    def generate(parameters: nnx.State, image: jax.Array, mask: jax.Array) -> jax.Array:
        return nnx.merge(graph, parameters)(image, mask)[0]

    return generate
