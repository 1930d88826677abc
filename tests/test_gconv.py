"""GConv and its discriminator: parameters, shapes, the whole graphs against NumPy, what may reach what."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dpconv_jax.layers.contextual_attention import contextual_attention
from dpconv_jax.layers.gated_conv import GatedConv
from dpconv_jax.layers.pyramid_fill import pyramid_fill
from dpconv_jax.models.gconv import GConv
from dpconv_jax.models.patch_discriminator import PatchDiscriminator, SpectralConv

TINY = {"width": 0.25, "dilations": (1, 2, 3, 4)}

# (kernel side, inputs, outputs) of every convolution at width 1. Those with a gate make twice their outputs, which are
# half of the 48, 96 and 192 that Yu et al. count.
DILATED = [(3, 96, 96)] * 4
TO_IMAGE = [(3, 96, 96), (3, 96, 48), (3, 48, 48), (3, 48, 24), (3, 24, 12), (3, 12, 3)]
LAYERS = {
    "first": [(5, 5, 24), (3, 24, 48), (3, 48, 48), (3, 48, 96), *[(3, 96, 96)] * 2, *DILATED, (3, 96, 96), *TO_IMAGE],
    "dilated": [(5, 3, 24), (3, 24, 24), (3, 24, 48), (3, 48, 48), (3, 48, 96), (3, 96, 96), *DILATED],
    "matched": [(5, 3, 24), (3, 24, 24), (3, 24, 48), (3, 48, 96), *[(3, 96, 96)] * 2],
    "pasted": [(3, 96, 96)] * 2,
    "decoder": [(3, 192, 96), *TO_IMAGE],
}


def shapes_of(module_type: type[nnx.Module], **options) -> nnx.Module:
    """The module without values."""
    return nnx.eval_shape(lambda: module_type(**options, rngs=nnx.Rngs(0)))


def parameters(module: nnx.Module) -> int:
    return sum(x.size for x in jax.tree.leaves(nnx.state(module, nnx.Param)))


def outputs_of(model: nnx.Module, *shape: int):
    """Shapes of (image, masks) for images of `shape` (B, H, W)."""
    graph, state = nnx.split(model)
    image, mask = (jax.ShapeDtypeStruct((*shape, channels), jnp.float32) for channels in (3, 1))
    return jax.eval_shape(lambda state, x, m: nnx.merge(graph, state)(x, m), state, image, mask)


def random_parameters(model: nnx.Module) -> dict:
    """As large as keeps the signal, with biases that show."""
    rng = np.random.default_rng(0)

    def draw(leaf):
        deviation = 2 / np.sqrt(np.prod(leaf.shape[:-1])) if len(leaf.shape) > 1 else 0.1
        return (deviation * rng.standard_normal(leaf.shape)).astype(np.float32)

    return jax.tree.map(draw, nnx.to_pure_dict(nnx.state(model, nnx.Param)))


# ---- shapes ----


def test_every_layer():
    model = shapes_of(GConv)
    for name, layers in LAYERS.items():
        convs = getattr(model, name).layers
        gated = [conv.activation is not None for conv in convs]
        assert gated == [out != 3 for _, _, out in layers]
        made = [(side, side, inputs, out if out == 3 else 2 * out) for side, inputs, out in layers]
        assert [conv.kernel.shape for conv in convs] == made
    assert parameters(model) == 4_052_478
    assert model.largest is None
    assert parameters(shapes_of(GConv, width=0.5)) == 1_018_934


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("size", [(64, 64), (96, 128)])
def test_parameters_output_and_mask_are_float32(size, dtype):
    model = shapes_of(GConv, dtype=dtype, **TINY)
    image, masks = outputs_of(model, 2, *size)
    assert image.shape == (2, *size, 3)
    assert {name: mask.shape for name, mask in masks.items()} == {"input": (2, *size, 1)}
    everything = nnx.state(model, nnx.Param), image, masks
    assert {leaf.dtype for leaf in jax.tree.leaves(everything)} == {jnp.dtype(jnp.float32)}


def test_what_has_no_meaning_is_refused():
    for options, named in [
        ({"dilations": (2, 4, 8)}, "a stage needs four"),
        ({"dilations": (2, 4, 0, 2)}, "at least 1"),
        ({"width": 0.0}, "width is 0.0"),
        ({"variant": "v2"}, "variant is 'v2'"),
    ]:
        with pytest.raises(ValueError, match=named):
            shapes_of(GConv, **options)
    model = shapes_of(GConv, **TINY)
    with pytest.raises(ValueError, match=r"60 x 64.*multiples of 8"):
        outputs_of(model, 1, 60, 64)
    with pytest.raises(ValueError, match="must be"):
        model(np.zeros((2, 64, 64, 3)), np.zeros((1, 64, 64, 1)))


def test_a_dilation_that_reaches_the_side_of_the_map_warns_and_limits_the_size():
    model = shapes_of(GConv, width=0.25, size=64)
    assert (model.largest, shapes_of(GConv, width=0.25, size=72).largest) == (64, None)
    outputs_of(model, 1, 72, 80)  # a map of 18 x 20; a warning fails the test
    with pytest.warns(UserWarning, match="dilation 16 reaches the side of the 16 x 16 map"):
        outputs_of(model, 1, 72, 64)


# ---- the graph in NumPy, but for the attention, which has tests of its own ----


def conv(x, layer, stride=1, dilation=1):
    """Zero-padded convolution of odd kernels, with its bias, one tap at a time, float64."""
    kernel, (height, width) = layer["kernel"], x.shape[1:3]
    pad = dilation * (len(kernel) // 2)
    padded = np.pad(x.astype(np.float64), ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    total = layer["bias"].astype(np.float64)
    for u, v in np.ndindex(kernel.shape[:2]):
        seen = padded[:, u * dilation : u * dilation + height : stride, v * dilation : v * dilation + width : stride]
        total = total + seen @ kernel[u, v]
    return total


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def relu(x):
    return np.maximum(x, 0)


def gated(x, layer, stride=1, dilation=1, activation=elu):
    y = conv(x, layer, stride, dilation)
    half = y.shape[-1] // 2
    return activation(y[..., :half]) * sigmoid(y[..., half:])


def up(x):
    return x.repeat(2, axis=1).repeat(2, axis=2)


def encode(p, x, last=elu):
    for index, stride in enumerate((1, 2, 1, 2, 1)):
        x = gated(x, p[index], stride)
    return gated(x, p[5], activation=last)


def dilate(p, x, first):
    for index, dilation in enumerate(TINY["dilations"]):
        x = gated(x, p[first + index], dilation=dilation)
    return x


def decode(p, x, first):
    for index in (0, 1):
        x = gated(x, p[first + index])
    x = gated(gated(up(x), p[first + 2]), p[first + 3])
    x = gated(gated(up(x), p[first + 4]), p[first + 5])
    return np.tanh(conv(x, p[first + 6]))


def naive(p, x, mask):
    """RGB of the fine and of the coarse image."""
    p = {name: chain["layers"] for name, chain in p.items()}
    seen = np.concatenate([x, np.ones_like(mask), 1 - mask], axis=-1)
    coarse = decode(p["first"], dilate(p["first"], encode(p["first"], seen), 6), 10)
    painted = np.where(mask > 0, x, coarse)
    dilated = dilate(p["dilated"], encode(p["dilated"], painted), 6)
    copied = np.asarray(jax.jit(contextual_attention)(np.float32(encode(p["matched"], painted, relu)), mask))
    pasted = gated(gated(copied, p["pasted"][0]), p["pasted"][1])
    fine = decode(p["decoder"], np.concatenate([dilated, pasted], axis=-1), 0)
    return (fine + 1) / 2, (coarse + 1) / 2


def prefilled(p, x, mask):
    """RGB: what the first stage, its last layer linear, adds to the fill in the holes."""
    p = p["first"]["layers"]
    fill = np.asarray(pyramid_fill(x, mask), np.float64)  # tests/test_layers.py has it in NumPy
    seen = np.concatenate([x, np.ones_like(mask), 1 - mask, fill], axis=-1)
    y = dilate(p, encode(p, seen), 6)
    for index in (10, 11):
        y = gated(y, p[index])
    y = gated(gated(up(y), p[12]), p[13])
    y = gated(gated(up(y), p[14]), p[15])
    return (fill + (1 - mask) * conv(y, p[16]) + 1) / 2


def test_the_prefilled_first_stage_is_that_of_numpy_and_starts_at_its_fill():
    _, _, image, x, mask = example()
    model = shapes_of(GConv, variant="prefilled", **TINY)
    assert model.composited and parameters(model) == parameters(shapes_of(GConv, **TINY).first) + 25 * 3 * 16
    params = random_parameters(model)
    run = jax.jit(lambda params, x, mask, inside: nnx.merge(nnx.graphdef(model), params)(x, mask, inside=inside)[0])
    output = np.asarray(run(params, x, mask, np.ones_like(mask)))
    np.testing.assert_allclose(output, prefilled(params, x, mask), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(output[0][mask[0, ..., 0] > 0], image[0][mask[0, ..., 0] > 0], atol=1e-6)
    beyond = ((0, 0), (0, 16), (0, 16), (0, 0))
    wide = [np.pad(each, beyond) for each in (x, mask, np.ones_like(mask))]
    np.testing.assert_allclose(np.asarray(run(params, *wide))[:, :64, :48], output, rtol=1e-4, atol=1e-4)
    fresh = jax.jit(
        lambda: nnx.to_pure_dict(nnx.state(GConv(variant="prefilled", **TINY, rngs=nnx.Rngs(0)).first.layers[-1]))
    )()
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(fresh))


@functools.cache
def example():
    """Graph, parameters, images, x and mask of two holes each: with known patches to copy, and all hole but a pixel."""
    model = shapes_of(GConv, **TINY)
    rng = np.random.default_rng(1)
    mask = np.ones((2, 64, 48, 1), np.float32)
    mask[0, 20:40, :20] = mask[0, 50:, 30:] = 0
    mask[1] = 0
    mask[1, 9, 9] = 1
    image = rng.random((2, 64, 48, 3)).astype(np.float32)
    return nnx.graphdef(model), random_parameters(model), image, np.asarray(model.convention.prepare(image, mask)), mask


@functools.cache
def compiled():
    graph = example()[0]

    def run(params, x, mask, inside=None):
        model = nnx.merge(graph, params)
        output, masks = model(x, mask, inside=inside)
        (coarse,) = jax.tree.leaves(nnx.to_pure_dict(nnx.pop(model, nnx.Intermediate)))
        return output, coarse, masks["input"]

    return jax.jit(run)


@functools.cache
def run():
    _, params, _, x, mask = example()
    return [np.asarray(array) for array in compiled()(params, x, mask)]


def test_the_graph_is_that_of_numpy():
    _, params, _, x, mask = example()
    fine, coarse, known = run()
    expected_fine, expected_coarse = naive(params, x, mask)
    np.testing.assert_array_equal(known, mask)
    np.testing.assert_allclose(coarse, expected_coarse, atol=1e-5)
    np.testing.assert_allclose(fine, expected_fine, atol=1e-4)
    for array in (fine, coarse):
        assert 0 <= array.min() < 0.4 and 0.6 < array.max() <= 1


def test_what_is_not_inside_counts_for_nothing():
    """In a larger array, with anything at all around it, an image gives what it gives alone."""
    _, params, _, x, mask = example()
    rng = np.random.default_rng(2)
    beyond = ((0, 0), (0, 32), (0, 24), (0, 0))
    inside = np.pad(np.ones_like(mask), beyond)
    wide, valid = (
        np.where(inside > 0, np.pad(array, beyond), rng.integers(0, 2, np.pad(array, beyond).shape)).astype(np.float32)
        for array in (x, mask)
    )
    fine, coarse, known = compiled()(params, wide, valid, inside)
    for ours, alone in zip((fine, coarse, known), run(), strict=True):
        np.testing.assert_allclose(ours[:, :64, :48], alone, atol=2e-5)
    assert not np.asarray(known)[:, 64:].any() and not np.asarray(known)[:, :, 48:].any()


def test_pixels_of_holes_are_never_read():
    graph, params, image, _, mask = example()
    scrambled = np.where(mask > 0, image, np.nan).astype(np.float32)
    x = nnx.merge(graph, params).convention.prepare(scrambled, mask)
    for ours, whole in zip(compiled()(params, x, mask), run(), strict=True):
        np.testing.assert_array_equal(ours, whole)
    filled = np.where(mask > 0, x, 0.7).astype(np.float32)  # a caller that did not prepare the image
    np.testing.assert_array_equal(compiled()(params, filled, mask)[0], run()[0])


@pytest.mark.slow
def test_gradients_reach_both_stages():
    _, params, image, x, mask = example()

    @jax.jit
    def gradient(params, mask, weights):
        def loss(params):
            fine, coarse, _ = compiled()(params, x, mask)
            return weights[0] * jnp.abs(fine - image).mean() + weights[1] * jnp.abs(coarse - image).mean()

        return jax.grad(loss)(params)

    def reached(mask, *weights):
        """The stages and branches whose every parameter gets a gradient; the others get none at all."""
        found = set()
        for name, chain in gradient(params, mask, weights).items():
            norms = [np.linalg.norm(leaf) for leaf in jax.tree.leaves(chain)]
            assert np.isfinite(norms).all() and (min(norms) > 0 or max(norms) == 0), name
            found |= {name} if max(norms) > 0 else set()
        return found

    assert reached(mask, 1.0, 0.0) == {*LAYERS}
    assert reached(mask, 0.0, 1.0) == {"first"}
    # Without a hole the second stage sees nothing of the first.
    assert reached(np.ones_like(mask), 1.0, 0.0) == {*LAYERS} - {"first"}


def test_a_new_layer_keeps_the_size_of_a_faint_signal():
    """Its gates are near a half, which a kernel of twice the usual size makes up for; ten layers do not fade."""
    layer = GatedConv(32, 32, 3, rngs=nnx.Rngs(0))
    x = 0.1 * np.random.default_rng(0).standard_normal((1, 40, 40, 32)).astype(np.float32)
    y = np.asarray(layer(x))[:, 1:-1, 1:-1]  # zeros lie around it
    assert y.std() == pytest.approx(0.1, rel=0.1)


# ---- discriminator ----


def leaky(x):
    return np.maximum(x, 0.2 * x)


def iterate(layer, u):
    """The kernel as a matrix, and v and the next u of one power iteration from u."""
    matrix = layer["kernel"].reshape(-1, layer["kernel"].shape[-1]).astype(np.float64)
    v = matrix @ u
    v /= np.linalg.norm(v)
    after = v @ matrix
    after /= np.linalg.norm(after)
    return matrix, v, after


@pytest.mark.parametrize("train", [True, False])
def test_discriminator_is_that_of_numpy(train):
    model = shapes_of(PatchDiscriminator)
    kernels = [(4, 64), (64, 128), (128, 256), (256, 256), (256, 256), (256, 256)]
    assert [conv.kernel.shape for conv in model.convs] == [(5, 5, *channels) for channels in kernels]
    assert parameters(model) == sum(25 * i * o + o for i, o in kernels) == 5_946_816

    model = shapes_of(PatchDiscriminator, width=0.125)
    graph, _, statistics = nnx.split(model, nnx.Param, nnx.BatchStat)
    rng = np.random.default_rng(0)
    params = random_parameters(model)
    statistics = jax.tree.map(lambda u: np.full(u.shape, u.size**-0.5, np.float32), nnx.to_pure_dict(statistics))
    image, mask = rng.random((2, 72, 130, 3), np.float32), rng.integers(0, 2, (2, 72, 130, 1)).astype(np.float32)

    @jax.jit
    def score(params, statistics, image, mask):
        module = nnx.merge(graph, params, statistics)
        (module.train if train else module.eval)()
        return module(image, mask), nnx.to_pure_dict(nnx.state(module, nnx.BatchStat))

    scores, moved = score(params, statistics, image, mask)
    x = np.concatenate([2 * image - 1, 1 - mask], axis=-1)
    for index, layer in params["convs"].items():
        u = statistics["convs"][index]["u"]
        matrix, v, after = iterate(layer, u)
        after = after if train else u
        np.testing.assert_allclose(moved["convs"][index]["u"], after, atol=1e-5)
        kernel = (matrix / (v @ matrix @ after)).reshape(layer["kernel"].shape)
        x = leaky(conv(x, {"kernel": kernel, "bias": layer["bias"]}, stride=2))
    assert (scores.shape, scores.dtype) == ((2, 2 * 3 * 32), jnp.float32)
    np.testing.assert_allclose(scores, x.reshape(2, -1), atol=1e-4 * np.abs(x).max())
    assert scores.std() > 0.01


def test_scores_of_64_pixels_are_of_one_position():
    scores = jax.eval_shape(
        lambda image, mask: PatchDiscriminator(dtype=jnp.bfloat16, rngs=nnx.Rngs(0))(image, mask),
        *(jax.ShapeDtypeStruct((4, 64, 64, channels), jnp.float32) for channels in (3, 1)),
    )
    assert (scores.shape, scores.dtype) == ((4, 256), jnp.float32)


def test_a_spectral_convolution_has_norm_1_once_trained():
    layer = SpectralConv(3, 8, 5, rngs=nnx.Rngs(0))
    matrix = np.asarray(layer.kernel[...]).reshape(-1, 8)
    # A kernel as an image: the response to an impulse, turned over.
    impulse = np.zeros((3, 5, 5, 3), np.float32)
    impulse[range(3), 2, 2, range(3)] = 1
    graph, params, statistics = nnx.split(layer, nnx.Param, nnx.BatchStat)

    @functools.partial(jax.jit, static_argnames="train")
    def respond(statistics, train):
        module = nnx.merge(graph, params, statistics)
        (module.train if train else module.eval)()
        return module(impulse), nnx.state(module, nnx.BatchStat)

    def norm(response):
        return np.linalg.svd(np.asarray(response).reshape(3 * 25, 8), compute_uv=False)[0]

    first, _ = respond(statistics, train=False)
    for _ in range(100):
        _, statistics = respond(statistics, train=True)
    response, same = respond(statistics, train=False)
    assert norm(first) > 1.05
    assert norm(response) == pytest.approx(1, abs=1e-3)
    jax.tree.map(np.testing.assert_array_equal, same, statistics)
    kernel = np.asarray(response)[:, ::-1, ::-1].transpose(1, 2, 0, 3).reshape(-1, 8)
    np.testing.assert_allclose(kernel, matrix / np.linalg.svd(matrix, compute_uv=False)[0], rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(nnx.merge(graph, params, statistics).kernel[...].reshape(-1, 8), matrix)


def test_the_gradient_of_a_spectral_convolution_takes_u_and_v_for_constants():
    """W' = W / s with s = v^T W u has the gradient G / s - <G, W> / s^2 v u^T, where G is that of W'."""
    layer = SpectralConv(2, 6, 3, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)
    x, weights = (rng.standard_normal((2, 5, 4, channels)).astype(np.float32) for channels in (2, 6))
    graph, params, statistics = nnx.split(layer, nnx.Param, nnx.BatchStat)
    kernel = np.asarray(layer.kernel[...])
    matrix, v, u = iterate({"kernel": kernel}, np.asarray(layer.u[...]))
    norm = v @ matrix @ u

    params, statistics = nnx.to_pure_dict(params), nnx.to_pure_dict(statistics)

    @jax.jit
    @jax.grad
    def gradient(params):
        module = nnx.merge(graph, params, statistics)
        module.train()
        return (module(x) * weights).sum()

    plain = np.zeros(kernel.shape)  # the gradient by W' is linear: of one tap at a time
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    for row, column in np.ndindex(3, 3):
        plain[row, column] = np.einsum("bhwi,bhwo->io", padded[:, row : row + 5, column : column + 4], weights)
    plain = plain.reshape(matrix.shape)
    expected = plain / norm - (plain * matrix).sum() / norm**2 * np.outer(v, u)
    np.testing.assert_allclose(gradient(params)["kernel"].reshape(matrix.shape), expected, rtol=1e-3, atol=1e-4)
