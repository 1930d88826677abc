"""The networks: shapes and parameters of every layer, and the whole graphs against NumPy."""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dpconv_jax.layers.attention import SelfAttention
from dpconv_jax.layers.partial_conv import PartialConv
from dpconv_jax.layers.pyramid_fill import pyramid_fill
from dpconv_jax.models.discriminator import Discriminator
from dpconv_jax.models.dpconv import DPConv
from dpconv_jax.weights import model_file

# Name, parameters, output at 256 x 256 (height, width, channels).
LAYERS = [
    ("e0", 9_472, (128, 128, 64)),
    ("e1", 204_928, (64, 64, 128)),
    ("e2", 819_456, (64, 64, 256)),
    ("e3", 819_328, (32, 32, 128)),
    ("d1", 147_584, (32, 32, 128)),
    ("d2", 147_584, (32, 32, 128)),
    ("d3", 147_584, (32, 32, 128)),
    ("d4", 147_584, (32, 32, 128)),
    ("a1", 20_641, (32, 32, 128)),
    ("u1", 295_040, (64, 64, 128)),
    ("u2", 442_496, (64, 64, 128)),
    ("a2", 20_641, (64, 64, 128)),
    ("u3", 110_656, (128, 128, 64)),
    ("u4", 1_812, (256, 256, 3)),
]
TINY = {"width": 0.125, "dilations": (1, 2, 3, 1)}


def shapes_of(model_type: type[nnx.Module], **options) -> nnx.Module:
    """The module without values."""
    return nnx.eval_shape(lambda: model_type(**options, rngs=nnx.Rngs(0)))


def parameters(module: nnx.Module) -> int:
    return sum(x.size for x in jax.tree.leaves(nnx.state(module, nnx.Param)))


def outputs_of(model: nnx.Module, *shape: int, **options):
    """Shapes of (image, masks) for images of `shape` (B, H, W)."""
    graph, state = nnx.split(model)
    image, mask = (jax.ShapeDtypeStruct((*shape, channels), jnp.float32) for channels in (3, 1))
    return jax.eval_shape(lambda state, x, m: nnx.merge(graph, state)(x, m, **options), state, image, mask)


# ---- shapes ----


def test_every_layer_at_256(monkeypatch):
    shapes = []

    def recorded(call):
        def wrapper(self, *args, **options):
            out = call(self, *args, **options)
            shapes.append((out[0] if isinstance(self, PartialConv) else out).shape)
            return out

        return wrapper

    for layer in (PartialConv, SelfAttention):
        monkeypatch.setattr(layer, "__call__", recorded(layer.__call__))
    model = shapes_of(DPConv)
    image, masks = outputs_of(model, 2, 256, 256)
    assert [
        (name, parameters(getattr(model, name)), shape[1:]) for (name, _, _), shape in zip(LAYERS, shapes, strict=True)
    ] == LAYERS
    assert parameters(model) == sum(count for _, count, _ in LAYERS) == 3_334_806
    assert (image.shape, image.dtype) == ((2, 256, 256, 3), jnp.float32)
    expected = {name: (2, *shape[:2], 1) for name, _, shape in LAYERS if name[0] != "a"} | {"input": (2, 256, 256, 1)}
    assert {name: mask.shape for name, mask in masks.items()} == expected
    assert {mask.dtype for mask in masks.values()} == {jnp.dtype(jnp.float32)}


def test_the_released_graph_has_the_same_weights_but_those_of_a2_and_no_masks_after_d4():
    model = shapes_of(DPConv, variant="released")
    image, masks = outputs_of(model, 1, 256, 256)
    assert image.shape == (1, 256, 256, 3)
    assert {*masks} == {"input", "e0", "e1", "e2", "e3", "d1", "d2", "d3", "d4"}
    paper, released = (model_file.flat(model_file.shapes(each)) for each in (shapes_of(DPConv), model))
    differing = {name for name in paper | released if paper[name].shape != released[name].shape}
    assert differing == {f"a2.{part}.{leaf}" for part in ("query", "key", "value") for leaf in ("kernel", "bias")}
    assert parameters(model) == 3_498_966


def test_the_prefilled_graph_sees_three_channels_more():
    model = shapes_of(DPConv, variant="prefilled")
    assert parameters(model) - parameters(shapes_of(DPConv)) == 49 * 3 * 64 + 9 * 3 * 3
    assert outputs_of(model, 1, 256, 256)[0].shape == (1, 256, 256, 3)


def test_width_multiplies_every_layer():
    assert parameters(shapes_of(DPConv, width=0.5)) == 836_982
    model = shapes_of(DPConv, width=0.125)
    assert model.e2.kernel.shape == (5, 5, 16, 32)
    assert model.u3.kernel.shape == (3, 3, 24, 8)
    assert model.u4.kernel.shape == (3, 3, 11, 3)


@pytest.mark.parametrize("graph", ["paper", "released", "prefilled", "prefilled, released order"])
def test_bfloat16_leaves_parameters_output_and_masks_float32(graph):
    model = shapes_of(DPConv, dtype=jnp.bfloat16, **options(graph))
    everything = nnx.state(model, nnx.Param), outputs_of(model, 1, 64, 40)
    assert {leaf.dtype for leaf in jax.tree.leaves(everything)} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize("shape", [(1, 60, 64), (1, 64, 36)])
def test_sides_must_be_multiples_of_8(shape):
    with pytest.raises(ValueError, match=f"{shape[1]} x {shape[2]}.*multiples of 8"):
        outputs_of(shapes_of(DPConv, **TINY), *shape)


def test_image_and_mask_must_agree():
    model = shapes_of(DPConv, **TINY)
    for image, mask in [
        ((2, 64, 64, 3), (2, 64, 64, 3)),
        ((2, 64, 64, 3), (1, 64, 64, 1)),
        ((1, 64, 64, 4), (1, 64, 64, 1)),
    ]:
        with pytest.raises(ValueError, match="must be"):
            model(np.zeros(image), np.zeros(mask))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"variant": "papier"}, "variant is 'papier'"),
        ({"dilations": (2, 4, 8)}, "d1-d4 need four"),
        ({"dilations": (2, 4, 0, 2)}, "dilations"),
        ({"width": 0.0}, "width is 0.0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"norm": "batch"}, "norm is 'batch'"),
        ({"variant": "released", "norm": "none"}, "norm is 'none'"),
    ],
)
def test_options_without_meaning_are_refused(options, named):
    with pytest.raises(ValueError, match=named):
        shapes_of(DPConv, **options)


def test_a_dilation_that_reaches_the_side_of_the_map_warns():
    model = shapes_of(DPConv, width=0.125)
    outputs_of(model, 1, 128, 72)  # a map of 16 x 9; a warning fails the test
    with pytest.warns(UserWarning, match="dilation 8 reaches the side of the 8 x 8 map"):
        outputs_of(model, 1, 128, 64)


# ---- the graphs in NumPy, as multi-channel masks and nested loops over taps ----


def random_parameters(model: nnx.Module) -> dict:
    """Of the size that initialisers give, but no bias, gamma or weight is zero."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key == "gamma":
            return np.float32(0.7)
        fan_in = np.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 25
        return (rng.standard_normal(leaf.shape) / np.sqrt(fan_in)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, nnx.to_pure_dict(nnx.state(model)))


def conv(x, kernel, stride=1, dilation=1):
    """Zero-padded "same" convolution of odd kernels, float64."""
    kh, kw = kernel.shape[:2]
    (top, left), (height, width) = (dilation * (kh // 2), dilation * (kw // 2)), x.shape[1:3]
    padded = np.pad(x.astype(np.float64), ((0, 0), (top, top), (left, left), (0, 0)))
    total = 0.0
    for u in range(kh):
        for v in range(kw):
            window = padded[:, u * dilation : u * dilation + height, v * dilation : v * dilation + width]
            total = total + window[:, ::stride, ::stride] @ kernel[u, v].astype(np.float64)
    return total


def pconv(p, *sources, stride=1, dilation=1):
    """Eq. (1)-(4); the mask has as many channels as the features."""
    x = np.concatenate([x * m for x, m in sources], axis=-1)
    mask = np.concatenate([np.broadcast_to(m, x.shape) for x, m in sources], axis=-1)
    count = conv(mask, np.ones((*p["kernel"].shape[:3], 1)), stride, dilation)
    scale = np.prod(p["kernel"].shape[:3]) / np.where(count > 0, count, 1)
    return np.where(count > 0, conv(x, p["kernel"], stride, dilation) * scale + p["bias"], 0), (count > 0) * 1.0


def attention(p, x, valid):
    """x + gamma x softmax(q . k) v over the valid keys."""
    out = x.copy()
    for image in range(x.shape[0]):
        flat, seen = x[image].reshape(-1, x.shape[-1]), valid[image].any(axis=-1).reshape(-1)
        if not seen.any():
            continue
        query, key, value = (flat @ p[name]["kernel"] + p[name]["bias"] for name in ("query", "key", "value"))
        logits = query @ key[seen].T
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        out[image] += p["gamma"] * (weights / weights.sum(axis=1, keepdims=True) @ value[seen]).reshape(x.shape[1:])
    return out


def norm(x):
    return (x - x.mean(axis=(1, 2), keepdims=True)) / np.sqrt(x.var(axis=(1, 2), keepdims=True) + 1e-5)


def relu(x):
    return np.maximum(x, 0)


def leaky(x):
    return np.maximum(x, 0.2 * x)


def up(x):
    return x.repeat(2, axis=1).repeat(2, axis=2)


def encoder(p, x, m, *more, act):
    e0, m0 = pconv(p["e0"], (x, m), *more, stride=2)
    e0 = act(e0)
    e1, m1 = pconv(p["e1"], (e0, m0), stride=2)
    e1 = act(norm(e1))
    e2, m2 = pconv(p["e2"], (e1, m1))
    e2 = act(norm(e2))
    e3, m3 = pconv(p["e3"], (e2, m2), stride=2)
    return e0, e2, act(norm(e3)), {"input": m, "e0": m0, "e1": m1, "e2": m2, "e3": m3}


def dilated(p, e3, masks, *, act):
    d, md = pconv(p["d1"], (e3, masks["e3"]), dilation=1)
    d, masks["d1"] = act(norm(d)), md
    for name, dilation in (("d2", 2), ("d3", 3), ("d4", 1)):
        y, md = pconv(p[name], (d, md), dilation=dilation)
        d, masks[name] = act(norm(y)) + d, md
    return d, md


def figure_3(p, x, m, *more):
    """Up to u4; `more`: sources beside the input."""
    e0, e2, e3, masks = encoder(p, x, m, *more, act=leaky)
    d, md = dilated(p, e3, masks, act=leaky)
    a1 = attention(p["a1"], d * md, md)
    u1, masks["u1"] = pconv(p["u1"], (up(e3), up(masks["e3"])), (up(a1), up(md)))
    u2, masks["u2"] = pconv(p["u2"], (e2, masks["e2"]), (leaky(norm(u1)), masks["u1"]))
    a2 = attention(p["a2"], leaky(norm(u2)) * masks["u2"], masks["u2"])
    u3, masks["u3"] = pconv(p["u3"], (up(a2), up(masks["u2"])), (e0, masks["e0"]))
    u3 = leaky(norm(u3))
    u4, masks["u4"] = pconv(p["u4"], (up(u3), up(masks["u3"])), (x, m), *more)
    return u4, masks


def released_order(p, x, m, *more):
    """The same with the activations of the released code and its order: a2 before u2, which sees both enlarged."""
    e0, e2, e3, masks = encoder(p, x, m, *more, act=relu)
    d, md = dilated(p, e3, masks, act=relu)
    a1 = relu(attention(p["a1"], d * md, md))
    u1, masks["u1"] = pconv(p["u1"], (up(e3), up(masks["e3"])), (up(a1), up(md)))
    u1 = leaky(norm(u1))
    both = np.concatenate([e2 * masks["e2"], u1 * masks["u1"]], axis=-1)
    a2 = relu(attention(p["a2"], both, np.concatenate([masks["e2"], masks["u1"]], axis=-1)))
    first, second = a2[..., : e2.shape[-1]], a2[..., e2.shape[-1] :]
    u2, masks["u2"] = pconv(p["u2"], (up(first), up(masks["e2"])), (up(second), up(masks["u1"])))
    u2 = leaky(norm(u2))
    u3, masks["u3"] = pconv(p["u3"], (u2, masks["u2"]), (e0, masks["e0"]))
    u3 = leaky(norm(u3))
    u4, masks["u4"] = pconv(p["u4"], (up(u3), up(masks["u3"])), (x, m), *more)
    return u4, masks


def paper(p, x, m, *, graph=figure_3):
    u4, masks = graph(p, x, m)
    return 1 / (1 + np.exp(-u4)), masks


def prefilled(p, x, m, *, graph=figure_3):
    fill = np.asarray(pyramid_fill(x, m), np.float64)  # tests/test_layers.py has it in NumPy
    u4, masks = graph(p, x, m, (fill, np.ones_like(m)))
    return fill + (1 - m) * u4, masks


def released(p, x, m):
    e0, e2, e3, masks = encoder(p, x, m, act=relu)
    d1, masks["d1"] = pconv(p["d1"], (e3, masks["e3"]), dilation=1)
    d1 = relu(norm(d1))
    _, masks["d2"] = pconv(p["d2"], (d1, masks["d1"]), dilation=2)
    d2 = relu(norm(masks["d2"])) + d1
    d3, masks["d3"] = pconv(p["d3"], (d2, masks["d2"]), dilation=3)
    d3 = relu(norm(d3)) + d2
    d4, masks["d4"] = pconv(p["d4"], (d3, masks["d3"]), dilation=1)
    d4 = relu(norm(d4))
    a1 = relu(attention(p["a1"], d4, np.ones_like(d4)))
    u1 = leaky(norm(conv(up(np.concatenate([e3, a1], axis=-1)), p["u1"]["kernel"]) + p["u1"]["bias"]))
    both = np.concatenate([e2, u1], axis=-1)
    a2 = relu(attention(p["a2"], both, np.ones_like(both)))
    u2 = leaky(norm(conv(up(a2), p["u2"]["kernel"]) + p["u2"]["bias"]))
    u3 = leaky(norm(conv(np.concatenate([u2, e0], axis=-1), p["u3"]["kernel"]) + p["u3"]["bias"]))
    return np.tanh(conv(np.concatenate([up(u3), x], axis=-1), p["u4"]["kernel"]) + p["u4"]["bias"]), masks


GRAPHS = {
    "paper": paper,
    "released": released,
    "prefilled": prefilled,
    "paper, released order": functools.partial(paper, graph=released_order),
    "prefilled, released order": functools.partial(prefilled, graph=released_order),
}


def options(graph: str) -> dict:
    """What DPConv takes for a name of GRAPHS."""
    variant, *order = graph.split(", ")
    return {"variant": variant, "released_order": bool(order), **TINY}


@functools.cache
def example(graph: str):
    """Graph, parameters, x and mask of one valid corner pixel, of half the pixels, and of nothing at all; 96 x 64."""
    model = shapes_of(DPConv, **options(graph))
    variant = model.variant
    graph, _ = nnx.split(model)
    params = random_parameters(model)
    rng = np.random.default_rng(1)
    mask = np.zeros((3, 96, 64, 1), np.float32)
    mask[0, 0, 0] = 1
    mask[1] = (rng.random((12, 8, 1)) < 0.5).repeat(8, axis=0).repeat(8, axis=1)
    x = rng.random((3, 96, 64, 3)).astype(np.float32)
    x = np.where(mask > 0, 4 * x - 2, 0.5).astype(np.float32) if variant == "released" else x * mask
    return graph, params, x, mask


@functools.cache
def run(variant: str):
    """Ours and NumPy's (image, masks) of the example."""
    graph, params, x, mask = example(variant)
    ours = jax.jit(lambda params, x, mask: nnx.merge(graph, params)(x, mask))(params, x, mask)
    return jax.tree.map(np.asarray, ours), GRAPHS[variant](params, x, mask)


@pytest.mark.parametrize("variant", GRAPHS)
def test_the_graph_is_that_of_numpy(variant):
    (image, masks), (expected, expected_masks) = run(variant)
    assert {*masks} == {*expected_masks}
    for name, mask in masks.items():
        np.testing.assert_array_equal(mask, expected_masks[name], err_msg=name)
        hidden = (mask[0] == 0).any() or (variant.startswith("prefilled") and name != "input")
        assert hidden, f"no hole left in {name}: the example proves nothing about it"
    np.testing.assert_allclose(image, expected, atol=2e-4)
    assert image[1].std() > 0.05


def test_without_norm_the_graph_is_that_of_numpy(monkeypatch):
    _, params, x, mask = example("paper")
    params = jax.tree.map(lambda leaf: np.float32(0.75) * leaf, params)  # nothing else keeps the sigmoid's input small
    graph = nnx.graphdef(shapes_of(DPConv, norm="none", **TINY))
    image, _ = jax.jit(lambda params, x, mask: nnx.merge(graph, params)(x, mask))(params, x, mask)
    monkeypatch.setattr(sys.modules[__name__], "norm", lambda x: x)
    expected, _ = paper(params, x, mask)
    np.testing.assert_allclose(image, expected, atol=2e-4)
    assert expected[1].std() > 0.03


@pytest.mark.parametrize("variant", GRAPHS)
def test_what_is_not_inside_counts_for_nothing(variant):
    """In a larger array, with anything at all around it, an image gives what it gives alone."""
    (alone, masks_alone), _ = run(variant)
    graph, params, x, mask = example(variant)
    rng = np.random.default_rng(2)
    beyond = ((0, 0), (0, 32), (0, 24), (0, 0))
    inside = np.pad(np.ones_like(mask), beyond)
    around = [np.pad(array, beyond, constant_values=0) for array in (x, mask)]
    wide, valid = (np.where(inside > 0, array, rng.integers(0, 2, array.shape)).astype(np.float32) for array in around)
    image, masks = jax.jit(lambda *arrays: nnx.merge(graph, params)(*arrays[:2], inside=arrays[2]))(wide, valid, inside)
    rtol = 2e-5 if variant.startswith("prefilled") else 1e-7  # linear and far beyond 1 here; the others lie in [-1, 1]
    np.testing.assert_allclose(image[:, :96, :64], alone, rtol=rtol, atol=2e-5)
    for name, alone in masks_alone.items():
        height, width = alone.shape[1:3]
        np.testing.assert_array_equal(masks[name][:, :height, :width], alone, err_msg=name)
        assert not np.asarray(masks[name][:, height:]).any() and not np.asarray(masks[name][:, :, width:]).any()


def test_the_prefilled_graph_starts_at_its_fill_and_keeps_what_is_valid():
    u4 = jax.jit(lambda: nnx.to_pure_dict(nnx.state(DPConv(variant="prefilled", **TINY, rngs=nnx.Rngs(0)).u4)))()
    assert not any(np.asarray(leaf).any() for leaf in u4.values())
    (image, _), _ = run("prefilled")
    _, _, x, mask = example("prefilled")
    valid = np.broadcast_to(mask > 0, x.shape)
    np.testing.assert_array_equal(image[valid], x[valid])
    variants = ("paper", "released", "prefilled")
    assert [shapes_of(DPConv, variant=variant).composited for variant in variants] == [False, False, True]


def test_a_hole_that_survives_is_grey():
    (image, masks), _ = run("paper")
    holes = masks["u4"][..., 0] == 0
    assert holes[2].all()
    assert 0 < holes[0].sum() < holes[0].size
    assert np.all(image[holes] == 0.5)
    assert np.abs(image[1] - 0.5).max() > 0.1


# ---- dropout ----


def test_dropout_needs_a_key(monkeypatch):
    shapes, draw = [], jax.random.bernoulli
    monkeypatch.setattr(jax.random, "bernoulli", lambda key, p, shape: shapes.append(shape) or draw(key, p, shape))
    model = shapes_of(DPConv, dropout=0.5, **TINY)
    outputs_of(model, 1, 64, 64)
    assert not shapes
    outputs_of(model, 1, 64, 64, dropout_key=jax.random.key(0))
    assert shapes == [(1, 16, 16, 16), (1, 16, 16, 16), (1, 32, 32, 8)]  # after u1, u2 and u3


def test_dropout_obeys_its_key_and_keeps_the_mean():
    drop = jax.jit(functools.partial(shapes_of(DPConv, dropout=0.25, **TINY)._drop, np.ones((100, 100), np.float32)))
    first, again, other = (np.asarray(drop(jax.random.key(seed))) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() == pytest.approx(2 * 0.25 * 0.75, abs=0.02)
    np.testing.assert_allclose(np.unique(first), [0, 4 / 3], rtol=1e-6)
    assert first.mean() == pytest.approx(1, abs=0.02)


# ---- discriminator ----


def naive_discriminator(p, statistics, image, *, train):
    """Scores, and the running statistics after them."""
    x, after = image.astype(np.float64), {}
    for i in range(5):
        x = conv(x, p["convs"][i]["kernel"], stride=2)
        if i in (1, 2, 3):
            running = statistics["norms"][i - 1]
            mean, var = (x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))) if train else (running["mean"], running["var"])
            after[i - 1] = {"mean": 0.9 * running["mean"] + 0.1 * mean, "var": 0.9 * running["var"] + 0.1 * var}
            x = (x - mean) / np.sqrt(var + 1e-5) * p["norms"][i - 1]["scale"] + p["norms"][i - 1]["bias"]
        x = leaky(x) if i < 4 else x
    return x.mean(axis=(1, 2, 3)), after if train else statistics["norms"]


@pytest.mark.parametrize("train", [True, False])
def test_discriminator_is_that_of_numpy(train):
    model = shapes_of(Discriminator)
    graph, params, statistics = nnx.split(model, nnx.Param, nnx.BatchStat)
    assert parameters(model) == 134_512
    rng = np.random.default_rng(0)

    def draw(low, part):
        return jax.tree.map(lambda leaf: rng.uniform(low, 1, leaf.shape).astype(np.float32), nnx.to_pure_dict(part))

    params, statistics = draw(-3, params), draw(0.5, statistics)
    image = rng.random((3, 32, 48, 3)).astype(np.float32)

    @jax.jit
    def score(params, statistics, image):
        module = nnx.merge(graph, params, statistics)
        if train:
            module.train()
        return module(image), nnx.to_pure_dict(nnx.state(module, nnx.BatchStat))

    scores, after = score(params, statistics, image)
    expected, expected_after = naive_discriminator(params, statistics, image, train=train)
    assert (scores.shape, scores.dtype) == ((3,), jnp.float32)
    np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    assert np.abs(scores).max() > 1  # no sigmoid
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), after["norms"], expected_after)


def test_discriminator_gives_one_score_an_image():
    scores = jax.eval_shape(
        lambda image: Discriminator(dtype=jnp.bfloat16, rngs=nnx.Rngs(0))(image),
        jax.ShapeDtypeStruct((4, 256, 256, 3), jnp.float32),
    )
    assert (scores.shape, scores.dtype) == ((4,), jnp.float32)
