"""What the methods cost: layers, parameters and maps counted in the networks, against tables and graphs by hand."""

import csv
import pathlib

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from dpconv_jax import cli
from dpconv_jax.study import cost
from dpconv_jax.study.arithmetic import Path, longest_path


@pytest.mark.parametrize(
    ("method", "depth", "with_projections", "smallest_map", "parameters"),
    [
        ("dpconv", 4 + 4 + 4, 4 + 5 + 5, 32, 3_334_806),
        ("pconv", 5 + 4, 5 + 4, 16, 3_965_012),
        ("pconv_liu2018", 7 + 7, 7 + 7, 2, 25_784_276),
        ("gconv", 17 + 17, 17 + 17, 64, 4_052_478),
    ],
)
def test_the_networks_at_256(method, depth, with_projections, smallest_map, parameters):
    counted = cost.count(method, size=256)
    assert counted[:4] == (method, depth, with_projections, parameters)
    assert counted.smallest_map == smallest_map


def test_parameters_and_flops_of_a_narrow_pconv_by_hand():
    """Every layer of the comparator at half width and 32 x 32: (kernel side, inputs, outputs, output side)."""
    layers = [(7, 3, 32, 16), (5, 32, 64, 8), (5, 64, 128, 8), (5, 128, 128, 4), (3, 128, 64, 2)]
    layers += [(3, 64 + 128, 64, 4), (3, 64 + 128, 64, 8), (3, 64 + 32, 32, 16), (3, 32 + 3, 3, 32)]
    counted = cost.count("pconv", size=32, width=0.5)
    assert counted.parameters == sum(k * k * i * o + o for k, i, o, _ in layers)
    # Less: padding is not counted, and enlarged maps take 4/9 of the products. More: masks, norms and activations.
    dense = sum(2 * k * k * i * o * side * side for k, i, o, side in layers) / 1e9
    assert 0.5 * dense < counted.gflop < dense


def test_cost_grows_with_the_pixels_and_not_the_parameters():
    small, large = (cost.count("gconv", size=size, width=0.25) for size in (64, 128))
    assert small.parameters == large.parameters and small.depth == large.depth
    assert large.gflop > 4 * small.gflop  # attention grows with their square
    assert (small.smallest_map, large.smallest_map) == (16, 32)


def test_layers_on_the_longest_path():
    """Only products of what depends on the image with what depends on weights, through calls and loops."""

    def conv(x, kernel, stride=1):
        return lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def network(kernel, matrix, image):
        one = conv(image, kernel, 2)  # a layer
        two = jax.jit(conv, static_argnums=2)(one, kernel, 4) @ matrix  # two more, in a call
        three = lax.map(lambda x: jnp.tanh(x @ matrix), image)  # one, beside them
        blurred = conv(image, jnp.ones((3, 3, 2, 2)))  # not learned
        attended = jnp.einsum("bijc,bklc->bijkl", three, three)  # of two things that depend on the image
        joined = conv(kernel[None, ..., 0], kernel)  # of weights alone
        return two.sum() + three.sum() + blurred.sum() + attended.sum() + joined.sum()

    shapes = (3, 3, 2, 2), (2, 2), (1, 16, 16, 2)
    jaxpr = jax.make_jaxpr(network)(*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes))
    assert longest_path(jaxpr, weights=2) == Path(convolutions=2, layers=3, smallest=2, learned=True, seen=True)
    assert longest_path(jaxpr, weights=3).layers == 0


def test_the_command_prints_the_table_and_writes_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cost, "METHODS", {name: cost.METHODS[name] for name in ("pconv",)})
    out = tmp_path / "cost.csv"
    assert cli.run(cost.main, ["--size=32", "--width=0.125", "--batch=2", f"--out={out}"]) == 0
    printed = capsys.readouterr().out
    ((name, depth, projections, parameters, gflop, smallest, ms),) = list(csv.reader(out.read_text().splitlines()))[1:]
    assert printed.startswith("2 x 32 x 32, width 0.125\n")
    row = f"| pconv | {depth} | {projections} | {int(parameters):,} | {float(gflop):.2f} | {smallest} | "
    assert row + f"{float(ms):.1f} |\n" in printed
    counted = cost.count("pconv", size=32, width=0.125)
    assert (name, int(depth), int(parameters), float(gflop)) == (
        "pconv",
        counted.depth,
        counted.parameters,
        counted.gflop,
    )
    assert float(ms) > 0


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--size=31", "--size=31: at least 32, and for dpconv a multiple of 8"),
        ("--size=16", "--size=16: at least 32"),
        ("--size=48", "size is 48; 'liu2018' needs a power of two"),
        ("--width=0", "width is 0.0; it must be greater than 0"),
        ("--batch=0", "--batch=0: at least 1"),
        ("--rounds=3", "unrecognized arguments: --rounds=3"),
    ],
)
def test_mistakes(flag: str, message: str, capsys: pytest.CaptureFixture[str]):
    assert cli.run(cost.main, [flag]) == 2
    errors = capsys.readouterr().err
    assert message in errors and errors.count("\n") == 1


def test_a_table_that_cannot_be_written(tmp_path: pathlib.Path, capsys, monkeypatch):
    monkeypatch.setattr(cost, "METHODS", {})
    assert cli.run(cost.main, [f"--out={tmp_path / 'none' / 'cost.csv'}"]) == 2
    assert "cannot be written: No such file or directory" in capsys.readouterr().err
