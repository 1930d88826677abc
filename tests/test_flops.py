"""The arithmetic of the generators, exact on every machine: the mask path stays almost free."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from benchmarks.flops import PlainDPConv, PlainPConv, generator
from dpconv_jax.models.dpconv import DPConv
from dpconv_jax.models.generator import Generator
from dpconv_jax.models.pconv import PConv
from dpconv_jax.study.arithmetic import flops


def count(model: type[Generator], **options: str) -> int:
    """FLOPs of a forward pass of one image at 256 x 256."""
    parameters = nnx.state(nnx.eval_shape(lambda: model(**options, rngs=nnx.Rngs(0))), nnx.Param)
    image, mask = (jax.ShapeDtypeStruct((1, 256, 256, channels), jnp.float32) for channels in (3, 1))
    return flops(jax.make_jaxpr(generator(model, 1.0, **options))(parameters, image, mask).jaxpr)


@pytest.mark.parametrize(
    ("network", "without_masks", "most", "masks"),
    [(DPConv, PlainDPConv, 24.0e9, 39_914_496), (PConv, PlainPConv, 17.9e9, 18_558_400)],
)
def test_the_arithmetic_of_a_forward_pass_and_the_part_of_its_masks(network, without_masks, most, masks):
    masked, plain = count(network), count(without_masks)
    assert 0.98 * most < masked < most
    assert masked - plain == masks < 0.002 * plain


def test_the_prefill_adds_its_channels_at_both_ends():
    """Products of e0 and u4 with three more channels, without those that meet zeros around the image."""
    seven = sum(sum(0 <= 2 * row + tap - 3 < 256 for tap in range(7)) for row in range(128))
    three = 3 * 256 - 2
    added = 2 * 3 * (64 * seven**2 + 3 * three**2)
    assert count(DPConv, variant="prefilled") - count(DPConv) == pytest.approx(added, rel=0.02)  # and the fill itself


def test_counting_against_arithmetic_by_hand():
    def both(x, kernel, matrix):
        y = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), [(1, 1), (1, 1)], dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jnp.tanh(y) @ matrix

    shapes = (1, 4, 4, 2), (3, 3, 2, 5), (5, 7)
    jaxpr = jax.make_jaxpr(both)(*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)).jaxpr
    inside = 10 * 10  # along one axis 2 + 3 + 3 + 2 of the 12 products are of pixels
    assert flops(jaxpr) == 2 * inside * 2 * 5 + 16 * 5 + 2 * 16 * 5 * 7


@pytest.mark.parametrize(("side", "stride"), [(8, 1), (8, 2), (9, 2), (9, 3)])
def test_both_gradients_of_a_convolution_are_as_much_as_itself(side, stride):
    """Each product of a pixel and a tap is one of either gradient too, however the gradient is written."""
    x, kernel = jnp.ones((2, side, side, 3)), jnp.ones((5, 5, 3, 4))

    def conv(x, kernel):
        sides = [(2, 2), (2, 2)]
        return jax.lax.conv_general_dilated(x, kernel, (stride,) * 2, sides, dimension_numbers=("NHWC", "HWIO", "NHWC"))

    made = jax.eval_shape(conv, x, kernel)
    back = jax.make_jaxpr(lambda g: jax.linear_transpose(lambda x: conv(x, kernel), x)(g))(made)
    taps = jax.make_jaxpr(lambda g: jax.linear_transpose(lambda kernel: conv(x, kernel), kernel)(g))(made)
    assert flops(jax.make_jaxpr(conv)(x, kernel).jaxpr) == flops(back.jaxpr) == flops(taps.jaxpr)
