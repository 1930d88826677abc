"""PConv: parameters and shapes, both graphs against one written out layer by layer, and the modes of BatchNorm."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dpconv_jax.layers.norm import BatchNorm
from dpconv_jax.layers.partial_conv import Source, partial_conv
from dpconv_jax.models.convention import UNIT
from dpconv_jax.models.pconv import PConv

VARIANTS = ("benchmark", "liu2018")
TINY = {"width": 0.125, "size": 32}  # liu2018: four layers and four, stride 16 as of the other


def shapes_of(**options) -> PConv:
    """The module without values."""
    return nnx.eval_shape(lambda: PConv(**options, rngs=nnx.Rngs(0)))


def parameters(module: nnx.Module) -> int:
    return sum(x.size for x in jax.tree.leaves(nnx.state(module, nnx.Param)))


def outputs_of(model: PConv, *shape: int):
    """Shapes of (image, masks) for images of `shape` (B, H, W)."""
    graph, state = nnx.split(model)
    image, mask = (jax.ShapeDtypeStruct((*shape, channels), jnp.float32) for channels in (3, 1))
    return jax.eval_shape(lambda state, x, m: nnx.merge(graph, state)(x, m), state, image, mask)


# ---- shapes ----


def conv(side: int, inputs: int, outputs: int, *, norm: bool = False) -> int:
    """Parameters of a convolution with bias and, with `norm`, of scale and bias after it."""
    return side * side * inputs * outputs + outputs + 2 * norm * outputs


def test_parameters_of_benchmark():
    stages = [
        *(conv(7, 3, 64), conv(5, 64, 128), conv(5, 128, 256), conv(5, 256, 256), conv(3, 256, 128)),
        *(conv(3, 128 + 256, 128), conv(3, 128 + 256, 128), conv(3, 128 + 64, 64), conv(3, 64 + 3, 3)),
    ]
    model = shapes_of()
    assert [parameters(stage) for stage in (*model.encoder, *model.decoder)] == stages
    assert parameters(model) == sum(stages) == 3_965_012
    assert not jax.tree.leaves(nnx.state(model, nnx.BatchStat))


def test_parameters_of_liu2018():
    """Their paper's table has eight layers and eight, for 512 x 512; a halved side leaves out a 512 of each."""
    encoder = [conv(7, 3, 64), conv(5, 64, 128, norm=True), conv(5, 128, 256, norm=True), conv(3, 256, 512, norm=True)]
    encoder += 4 * [conv(3, 512, 512, norm=True)]
    decoder = 4 * [conv(3, 512 + 512, 512, norm=True)]
    decoder += [
        conv(3, 512 + 256, 256, norm=True),
        conv(3, 256 + 128, 128, norm=True),
        conv(3, 128 + 64, 64, norm=True),
    ]
    decoder += [conv(3, 64 + 3, 3)]
    model = shapes_of(variant="liu2018", size=512)
    assert [parameters(stage) for stage in model.encoder] == encoder
    assert [parameters(stage) for stage in model.decoder] == decoder
    assert parameters(model) == sum(encoder) + sum(decoder) == 32_865_236
    assert parameters(shapes_of(variant="liu2018", size=256)) == 32_865_236 - encoder[-1] - decoder[0] == 25_784_276


def test_width_multiplies_every_layer():
    assert [stage.conv.kernel.shape for stage in shapes_of(width=0.25).decoder] == [
        *((3, 3, 32 + 64, 32), (3, 3, 32 + 64, 32), (3, 3, 32 + 16, 16), (3, 3, 16 + 3, 3))
    ]


@pytest.mark.parametrize(
    ("options", "shape", "sides"),
    [
        (
            {"variant": "benchmark"},
            (256, 256),
            {"e0": 2, "e1": 4, "e2": 4, "e3": 8, "e4": 16, "u1": 8, "u2": 4, "u3": 2, "u4": 1},
        ),
        (
            {"variant": "liu2018", "size": 64},
            (64, 96),
            {"e0": 2, "e1": 4, "e2": 8, "e3": 16, "e4": 32, "u1": 16, "u2": 8, "u3": 4, "u4": 2, "u5": 1},
        ),
        ({"variant": "liu2018", "size": 16}, (16, 16), {"e0": 2, "e1": 4, "e2": 8, "u1": 4, "u2": 2, "u3": 1}),
    ],
)
def test_output_and_the_mask_of_every_layer(options, shape, sides):
    model = shapes_of(**options)
    image, masks = outputs_of(model, 2, *shape)
    assert (image.shape, image.dtype) == ((2, *shape, 3), jnp.float32)
    expected = {name: (2, shape[0] // by, shape[1] // by, 1) for name, by in sides.items()}
    assert {name: mask.shape for name, mask in masks.items()} == expected | {"input": (2, *shape, 1)}
    assert {mask.dtype for mask in masks.values()} == {jnp.dtype(jnp.float32)}
    assert (model.stride, model.convention, model.largest) == (max(sides.values()), UNIT, None)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"variant": "liu2019"}, "variant is 'liu2019'"),
        ({"width": 0.0}, "width is 0.0"),
        ({"variant": "liu2018", "size": 96}, "size is 96; .* power of two"),
        ({"variant": "liu2018", "size": 8}, "size is 8; .* at least 16"),
    ],
)
def test_options_without_meaning_are_refused(options, named):
    with pytest.raises(ValueError, match=named):
        shapes_of(**options)


def test_images_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"64 x 40.*multiples of 16"):
        outputs_of(shapes_of(**TINY), 1, 64, 40)
    with pytest.raises(ValueError, match=r"64 x 96.*multiples of 64"):
        outputs_of(shapes_of(variant="liu2018", width=0.125, size=128), 1, 64, 96)
    with pytest.raises(ValueError, match="must be"):
        shapes_of(**TINY)(np.zeros((2, 32, 32, 3)), np.zeros((1, 32, 32, 1)))


# ---- the graphs, written out ----


def double(x):
    return x.repeat(2, axis=1).repeat(2, axis=2)


class Written:
    """The stages of a graph over `state`; `masks` and the running `statistics` after it by name of the stage."""

    def __init__(self, state: dict, mask: jax.Array, *, instance: bool, training: str):
        self.state, self.instance, self.training = state, instance, training
        self.masks, self.statistics = {"input": mask}, {}

    def __call__(self, name, *features, strides=1, norm=True):
        """`features` by the names of their masks; those with "up " are enlarged, and so is their mask."""
        own = self.state["encoder" if name[0] == "e" else "decoder"][int(name[1:]) - (name[0] == "u")]
        sources = [
            Source(double(x), double(self.masks[source[3:]])) if source[:3] == "up " else Source(x, self.masks[source])
            for source, x in features
        ]
        x, self.masks[name] = partial_conv(sources, own["conv"]["kernel"], own["conv"]["bias"], strides=strides)
        if norm and self.instance:
            x = (x - x.mean((1, 2), keepdims=True)) / jnp.sqrt(x.var((1, 2), keepdims=True) + 1e-5)
        elif norm:
            running = own["norm"]["norm"]
            mean, var = running["mean"], running["var"]
            if name[0] in self.training:
                mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
                self.statistics[name] = 0.9 * running["mean"] + 0.1 * mean, 0.9 * running["var"] + 0.1 * var
            else:
                self.statistics[name] = mean, var
            x = (x - mean) / jnp.sqrt(var + 1e-5) * running["scale"] + running["bias"]
        return x

    def down(self, name, source, x, strides=2, norm=True):
        return jnp.maximum(self(name, (source, x), strides=strides, norm=norm), 0)

    def up(self, name, *features):
        x = self(name, *features)
        return jnp.where(x > 0, x, 0.2 * x)


def benchmark(state, x, mask, training):
    stage = Written(state, mask, instance=True, training=training)
    e0 = stage.down("e0", "input", x, norm=False)
    e1 = stage.down("e1", "e0", e0)
    e2 = stage.down("e2", "e1", e1, strides=1)
    e3 = stage.down("e3", "e2", e2)
    e4 = stage.down("e4", "e3", e3)
    u1 = stage.up("u1", ("up e4", e4), ("e3", e3))
    u2 = stage.up("u2", ("up u1", u1), ("e2", e2))
    u3 = stage.up("u3", ("up u2", u2), ("e0", e0))
    u4 = stage("u4", ("up u3", u3), ("input", x), norm=False)
    return 1 / (1 + jnp.exp(-u4)), stage.masks, stage.statistics


def liu2018(state, x, mask, training):
    stage = Written(state, mask, instance=False, training=training)
    e0 = stage.down("e0", "input", x, norm=False)
    e1 = stage.down("e1", "e0", e0)
    e2 = stage.down("e2", "e1", e1)
    e3 = stage.down("e3", "e2", e2)
    u1 = stage.up("u1", ("up e3", e3), ("e2", e2))
    u2 = stage.up("u2", ("up u1", u1), ("e1", e1))
    u3 = stage.up("u3", ("up u2", u2), ("e0", e0))
    u4 = stage("u4", ("up u3", u3), ("input", x), norm=False)
    return u4, stage.masks, stage.statistics


GRAPHS = {"benchmark": benchmark, "liu2018": liu2018}
TRAINING = {"evaluation": "", "training": "eu", "frozen": "u"}  # e and u: stages that use the batch's statistics


@functools.cache
def state_of(variant: str) -> dict:
    """Of the size that initialisers give, but nothing is zero or one."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key in ("scale", "var"):
            return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        fan_in = np.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 25
        return (rng.standard_normal(leaf.shape) / np.sqrt(fan_in)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, nnx.to_pure_dict(nnx.state(shapes_of(variant=variant, **TINY))))


@functools.cache
def function_of(variant: str, mode: str):
    """(state, x, mask, inside) -> image, masks, running (mean, var) by stage after it."""
    model = shapes_of(variant=variant, **TINY)
    if mode != "evaluation":
        model.train()
    if mode == "frozen":
        model.freeze_encoder()
    graph, _ = nnx.split(model)

    @jax.jit
    def call(state, x, mask, inside=None):
        module = nnx.merge(graph, state)
        image, masks = module(x, mask, inside=inside)
        stages = {f"e{i}": stage for i, stage in enumerate(module.encoder)}
        stages |= {f"u{i}": stage for i, stage in enumerate(module.decoder, start=1)}
        norms = {name: stage.norm.norm for name, stage in stages.items() if isinstance(stage.norm, BatchNorm)}
        return image, masks, {name: (norm.mean[...], norm.var[...]) for name, norm in norms.items()}

    return call


def example() -> tuple[np.ndarray, np.ndarray]:
    """x and mask of one valid corner pixel, of half the pixels and of nothing at all; 96 x 64."""
    rng = np.random.default_rng(1)
    mask = np.zeros((3, 96, 64, 1), np.float32)
    mask[0, 0, 0] = 1
    mask[1] = (rng.random((12, 8, 1)) < 0.5).repeat(8, axis=0).repeat(8, axis=1)
    return rng.random((3, 96, 64, 3)).astype(np.float32) * mask, mask


@pytest.mark.parametrize(("variant", "mode"), [("benchmark", "evaluation"), *(("liu2018", mode) for mode in TRAINING)])
def test_the_graph_is_the_written_one(variant, mode):
    x, mask = example()
    image, masks, statistics = function_of(variant, mode)(state_of(variant), x, mask)
    written = jax.jit(functools.partial(GRAPHS[variant], training=TRAINING[mode]))
    expected, expected_masks, expected_statistics = written(state_of(variant), x, mask)
    assert {*masks} == {*expected_masks}
    for name, updated in masks.items():
        np.testing.assert_array_equal(updated, expected_masks[name], err_msg=name)
        assert (updated[0] == 0).any(), f"no hole left in {name}: the example proves nothing about it"
    np.testing.assert_allclose(image, expected, atol=1e-3 if variant == "liu2018" else 2e-4)
    assert image[1].std() > 0.05
    assert (
        {*statistics} == {*expected_statistics} == ({*masks} - {"input", "e0", "u4"} if variant == "liu2018" else set())
    )
    for name in statistics:
        np.testing.assert_allclose(statistics[name], expected_statistics[name], rtol=1e-3, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_not_inside_counts_for_nothing(variant):
    """In a larger array, with anything at all around it, an image gives what it gives alone."""
    x, mask = example()
    run, state = function_of(variant, "evaluation"), state_of(variant)
    alone, masks_alone, _ = run(state, x, mask)
    rng = np.random.default_rng(2)
    beyond = ((0, 0), (0, 32), (0, 16), (0, 0))
    inside = np.pad(np.ones_like(mask), beyond)
    wide, valid = (
        np.where(inside > 0, np.pad(a, beyond), rng.integers(0, 2, (3, 128, 80, a.shape[-1]))).astype(np.float32)
        for a in (x, mask)
    )
    image, masks, _ = run(state, wide, valid, inside)
    np.testing.assert_allclose(image[:, :96, :64], alone, atol=2e-5)
    for name, alone in masks_alone.items():
        height, width = alone.shape[1:3]
        np.testing.assert_array_equal(masks[name][:, :height, :width], alone, err_msg=name)
        assert not np.asarray(masks[name][:, height:]).any() and not np.asarray(masks[name][:, :, width:]).any()


@pytest.mark.parametrize(("variant", "unknown"), [("benchmark", 0.5), ("liu2018", 0.0)])
def test_pixels_of_holes_never_matter_and_a_hole_that_survives_is_one_colour(variant, unknown):
    x, mask = example()
    run, state = function_of(variant, "evaluation"), state_of(variant)
    image, masks, _ = map(jax.device_get, run(state, x, mask))
    other, _, _ = run(state, np.where(mask > 0, x, 7), mask)
    np.testing.assert_array_equal(image, other)
    holes = masks["u4"][..., 0] == 0
    assert holes[2].all()
    assert 0 < holes[0].sum() < holes[0].size
    assert np.all(image[holes] == unknown)
    full = run(state, x, np.ones_like(mask))[1]
    assert all(np.all(updated == 1) for updated in full.values())


def test_liu2018_is_linear_in_the_end():
    x, mask = example()
    image = np.asarray(function_of("liu2018", "evaluation")(state_of("liu2018"), x, mask)[0])
    assert image.min() < 0 and image.max() > 1


# ---- modes, dtypes, gradients ----


def test_only_an_encoder_with_batch_norm_can_be_frozen():
    with pytest.raises(ValueError, match="PConv has no BatchNorm"):
        shapes_of(**TINY).freeze_encoder()


def test_train_and_eval_undo_a_frozen_encoder():
    model = shapes_of(variant="liu2018", **TINY)

    def modes():
        """Of e1 and u1: whether the running statistics are used."""
        return [stages[0].norm.norm.use_running_average for stages in (model.encoder[1:], model.decoder)]

    fresh, _ = modes(), model.train()
    training, _ = modes(), model.freeze_encoder()
    frozen, _ = modes(), model.train()
    again, _ = modes(), model.eval()
    assert (fresh, training, frozen, again, modes()) == (
        [True] * 2,
        [False] * 2,
        [True, False],
        [False] * 2,
        [True] * 2,
    )


def test_batch_norm_of_what_is_inside():
    """Of images of several sizes: the statistics are those of their pixels, float32 though the images are bfloat16."""
    rng = np.random.default_rng(3)
    inside = np.zeros((2, 8, 6, 1), np.float32)
    inside[0, :8, :4] = inside[1, :4, :6] = 1
    x = jnp.asarray(rng.normal(3, 2, (2, 4, 3, 5)), jnp.bfloat16)
    norm = BatchNorm(5, rngs=nnx.Rngs(0))
    norm.train()
    y = norm(x, inside)
    pixels = np.asarray(x, np.float64)[inside[:, ::2, ::2, 0] > 0]
    assert y.dtype == jnp.bfloat16
    assert norm.norm.mean[...].dtype == norm.norm.var[...].dtype == jnp.float32
    np.testing.assert_allclose(norm.norm.mean[...], 0.1 * pixels.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(norm.norm.var[...], 0.9 + 0.1 * pixels.var(axis=0), rtol=1e-5)
    assert np.all(np.asarray(y, np.float32)[inside[:, ::2, ::2, 0] == 0] == 0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_bfloat16_stays_near_float32(variant):
    x, mask = example()
    state = state_of(variant)
    graph, shapes = nnx.split(shapes_of(variant=variant, dtype=jnp.bfloat16, **TINY))
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype(jnp.float32)}
    image, masks = jax.jit(lambda state: nnx.merge(graph, state)(x, mask))(state)
    exact, exact_masks, _ = function_of(variant, "evaluation")(state, x, mask)
    assert {leaf.dtype for leaf in jax.tree.leaves((image, masks))} == {jnp.dtype(jnp.float32)}
    jax.tree.map(np.testing.assert_array_equal, masks, exact_masks)
    np.testing.assert_allclose(image, exact, atol=0.05 * np.ptp(exact))


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_are_finite_and_reach_every_kernel(variant):
    """An image without a valid pixel is in the batch: its features are constant before every norm."""
    x, mask = (array[:, :32, :32] for array in example())
    run = function_of(variant, "training")
    gradients = jax.jit(jax.grad(lambda state: jnp.square(run(state, x, mask)[0] - 0.3).mean()))(state_of(variant))
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.all(np.isfinite(gradient)), path
        assert path[-1].key != "kernel" or np.abs(gradient).max() > 0, path
