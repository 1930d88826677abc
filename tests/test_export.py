"""A generator exported for those without this package: the same numbers, at every batch and size, or one line."""

import functools
import importlib.util
import pathlib
import subprocess
import sys

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from toy import weight_file

import dpconv_jax
from dpconv_jax import UsageError, cli, export


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """paper.safetensors, any size; released.safetensors, any size; limited.safetensors, at most 64 x 64."""
    folder = tmp_path_factory.mktemp("weights")
    weight_file(folder / "paper.safetensors")
    weight_file(folder / "released.safetensors", variant="released")
    weight_file(folder / "prefilled.safetensors", variant="prefilled")
    weight_file(folder / "limited.safetensors", dilations=(2, 4, 8, 2), size=64)
    return folder


def example(batch: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Holes of 8 x 8 and values that nobody may read in them."""
    rng = np.random.default_rng(1)
    mask = (rng.random((batch, height // 8, width // 8, 1)) < 0.7).astype(np.float32).repeat(8, 1).repeat(8, 2)
    return np.where(mask > 0, rng.random((batch, height, width, 3), np.float32), np.float32(np.nan)), mask


def assert_is_the_live_model(exported: export.Inpaint, path: pathlib.Path, shape: tuple[int, int, int], atol: float):
    image, mask = example(*shape)
    model = dpconv_jax.load(path)
    output, _ = model.generator(model.convention.prepare(image, mask), mask)
    composite = np.asarray(exported(image, mask))
    assert composite.shape == image.shape and composite.dtype == np.float32
    np.testing.assert_array_equal(composite[mask[..., 0] > 0], image[mask[..., 0] > 0])
    np.testing.assert_allclose(composite, np.where(mask > 0, image, np.clip(output, 0, 1)), rtol=0, atol=atol)


def test_stablehlo_takes_every_batch_and_size(folder, tmp_path, capsys):
    path, out = folder / "paper.safetensors", tmp_path / "model.stablehlo"
    assert cli.run(export.main, [f"--checkpoint={path}", f"--out={out}"]) == 0
    line = capsys.readouterr().out
    assert line.startswith(f"{out}: dpconv paper, step 7, ") and line.count("\n") == 1
    assert "batch and size free (multiples of 8), max |difference| to the live model " in line
    assert [*tmp_path.iterdir()] == [out]

    exported = jax.export.deserialize(bytearray(out.read_bytes()))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    for shape in ((1, 16, 16), (2, 24, 16)):
        assert_is_the_live_model(exported.call, path, shape, 1e-5)
    for sides in ((20, 16), (16, 20)):
        with pytest.raises(ValueError, match="remainder 4"):
            exported.call(jnp.zeros((1, *sides, 3)), jnp.zeros((1, *sides, 1)))


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["paper", "released", "prefilled"])
def test_stablehlo_with_more_positions_than_a_block_of_attention(folder, variant):
    path = folder / f"{variant}.safetensors"
    exported = export.from_stablehlo(export.to_stablehlo(dpconv_jax.load(path)))
    assert_is_the_live_model(exported, path, (3, 136, 144), 1e-5)


def test_stablehlo_of_a_network_of_another_stride(tmp_path, capsys):
    path = weight_file(
        tmp_path / "pconv.safetensors", model="pconv", options={"variant": "benchmark", "width": 0.125}, size=32
    )
    assert cli.run(export.main, [f"--checkpoint={path}", f"--out={tmp_path / 'model.stablehlo'}"]) == 0
    assert "batch and size free (multiples of 16), max" in capsys.readouterr().out


def test_a_model_with_a_largest_size_keeps_it(folder):
    model = dpconv_jax.load(folder / "limited.safetensors")
    exported = jax.export.deserialize(bytearray(export.to_stablehlo(model)))
    compiled = jax.jit(exported.call)
    beyond = [jax.ShapeDtypeStruct((1, 72, 64, channels), jnp.float32) for channels in (3, 1)]
    with pytest.raises(UsageError, match="at most 64 x 64"):
        jax.eval_shape(model.generator, *beyond)
    with pytest.raises(ValueError, match="Error refining shapes") as raised:
        compiled.lower(*beyond).compile()
    assert "h <= 8" in str(raised.value.__cause__)


@pytest.mark.parametrize(
    ("out", "options", "fault"),
    [
        ("model.pt", [], r"model.pt: an exported model is named *.stablehlo or *.onnx"),
        ("model", [], r"an exported model is named"),
        ("absent/model.stablehlo", [], "cannot be written: No such file or directory"),
        ("model.stablehlo", ["--checkpoint=nowhere"], "nowhere: no such workdir or weight file"),
        ("model.stablehlo", ["--size=16x16"], "--size is for an .onnx"),
        ("model.onnx", ["--size=16"], "'16' is not HEIGHTxWIDTH"),
        ("model.onnx", ["--size=0x8"], "'0x8' is not HEIGHTxWIDTH"),
        ("model.onnx", ["--size=20x16"], "the image is 20 x 16; both sides must be multiples of 8"),
        ("model.onnx", [], "needs jax2onnx, which is not installed"),
    ],
)
def test_refusals_are_one_line_and_leave_nothing(folder, tmp_path, capsys, monkeypatch, out, options, fault):
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    given = [f"--checkpoint={folder / 'paper.safetensors'}", f"--out={tmp_path / out}", *options]
    assert cli.run(export.main, given) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1 and fault in captured.err
    assert not captured.out and not [*tmp_path.iterdir()]


@pytest.mark.parametrize("shift", [2e-5, np.nan])
def test_a_file_that_differs_is_not_written(folder, tmp_path, capsys, monkeypatch, shift):
    out = tmp_path / "model.stablehlo"
    out.write_text("earlier")
    live = functools.partial(export.inpaint, model := dpconv_jax.load(folder / "paper.safetensors"), model.generator)
    monkeypatch.setattr(export, "from_stablehlo", lambda _: lambda *given: live(*map(jnp.asarray, given)) + shift)
    assert cli.run(export.main, [f"--checkpoint={folder / 'paper.safetensors'}", f"--out={out}"]) == 2
    assert "is not written: it differs by" in capsys.readouterr().err
    assert out.read_text() == "earlier" and [*tmp_path.iterdir()] == [out]


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("jax2onnx"), reason="jax2onnx is not installed")
def test_onnx_takes_every_batch(folder, tmp_path):
    """In a process of its own: importing jax2onnx registers hundreds of plugins."""
    path, out = folder / "paper.safetensors", tmp_path / "model.onnx"
    command = [sys.executable, "-m", "dpconv_jax.export", f"--checkpoint={path}", f"--out={out}", "--size=136x144"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{out}: dpconv paper, step 7, ") and "batch free, size 136 x 144" in done.stdout
    exported = export.from_onnx(out.read_bytes())
    for batch in (1, 3):
        assert_is_the_live_model(exported, path, (batch, 136, 144), 1e-4)
