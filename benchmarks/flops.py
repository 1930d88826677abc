"""Arithmetic of a network, counted in its jaxpr: exact, and the same on every backend.

2 for each multiply-add of a matrix product or convolution (of pixels, not padding), 1 for each element of any other
arithmetic.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.extend import core

from dpconv_jax.models.dpconv import DPConv, _decoder_activation, _encoder_activation
from dpconv_jax.models.generator import Generator, Masks
from dpconv_jax.models.pconv import PConv

MOVES = {
    "broadcast_in_dim", "concatenate", "convert_element_type", "copy", "gather", "iota", "pad", "reshape", "rev",
    "slice", "split", "squeeze", "stop_gradient", "transpose", "dynamic_slice", "platform_index",
}  # fmt: skip


class PlainDPConv(DPConv):
    """The `paper` graph with ordinary convolutions: what the mask path is measured against."""

    def _paper(self, x: jax.Array, masks: Masks, inside: jax.Array | None, dropout_key: jax.Array | None) -> jax.Array:
        up, same = True, False
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


def _convolution_flops(equation: core.JaxprEqn) -> int:
    """Of an ungrouped convolution without dilation of its input; products with padding are not counted."""
    inputs, kernel = (variable.aval.shape for variable in equation.invars)
    options = equation.params
    numbers = options["dimension_numbers"]
    total = 2 * inputs[numbers.lhs_spec[0]] * kernel[numbers.rhs_spec[0]] * kernel[numbers.rhs_spec[1]]
    for axis, stride in enumerate(options["window_strides"]):
        size, taps = inputs[numbers.lhs_spec[2 + axis]], kernel[numbers.rhs_spec[2 + axis]]
        outputs = equation.outvars[0].aval.shape[numbers.out_spec[2 + axis]]
        before, dilation = options["padding"][axis][0], options["rhs_dilation"][axis]
        places = np.arange(outputs)[:, None] * stride + np.arange(taps) * dilation - before
        total *= int(np.sum((places >= 0) & (places < size)))
    return total


def flops(jaxpr: core.Jaxpr) -> int:
    """Arithmetic of a jaxpr, loops and calls included."""
    total = 0
    for equation in jaxpr.eqns:
        name, shape = equation.primitive.name, equation.outvars[0].aval.shape
        inner = [p.jaxpr if isinstance(p, core.ClosedJaxpr) else p for p in equation.params.values()]
        inner = [p for p in inner if isinstance(p, core.Jaxpr)]
        if name == "conv_general_dilated":
            total += _convolution_flops(equation)
        elif name == "dot_general":
            contracted = equation.params["dimension_numbers"][0][0]
            total += 2 * math.prod(shape) * math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
        elif name == "cond":
            total += max(flops(branch.jaxpr) for branch in equation.params["branches"])
        elif inner:
            total += equation.params.get("length", 1) * sum(flops(p) for p in inner)
        elif name.startswith("reduce_"):
            total += equation.invars[0].aval.size
        elif name not in MOVES:
            total += math.prod(shape)
    return total


def generator(model: type[Generator], width: float) -> Callable:
    """(parameters, image, mask) -> output, for a state of `model`'s parameters."""
    graph = nnx.split(nnx.eval_shape(lambda: model(width=width, rngs=nnx.Rngs(0))))[0]

    def generate(parameters: nnx.State, image: jax.Array, mask: jax.Array) -> jax.Array:
        return nnx.merge(graph, parameters)(image, mask)[0]

    return generate
