"""Our own weight files: written, read, damaged, exported from a workdir and loaded without a config."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx
from ml_collections import ConfigDict

import dpconv_jax
from dpconv_jax import UsageError, checkpoints, cli, models
from dpconv_jax.inpainting.model import Model
from dpconv_jax.models.convention import Convention
from dpconv_jax.models.dpconv import DPConv
from dpconv_jax.training import workdir as workdir_file
from dpconv_jax.weights import __main__ as command
from dpconv_jax.weights import model_file

OPTIONS = {"variant": "paper", "width": 0.125, "dilations": (1, 1, 1, 1), "dropout": 0.25}
METADATA = model_file.Metadata(model="dpconv", options=OPTIONS, size=16, step=7)
SIDE = 16


def abstract() -> nnx.Module:
    """The generator that METADATA describes, without values: its initialisation takes seconds."""
    return nnx.eval_shape(lambda: DPConv(width=0.125, dilations=(1, 1, 1, 1), dropout=0.25, rngs=nnx.Rngs(0)))


@pytest.fixture(scope="module")
def params() -> model_file.Params:
    rng = np.random.default_rng(0)
    shapes = nnx.to_pure_dict(nnx.state(abstract(), nnx.Param))
    return jax.tree.map(lambda leaf: np.asarray(rng.normal(0, 0.1, leaf.shape), leaf.dtype), shapes)


@pytest.fixture
def file(params, tmp_path) -> pathlib.Path:
    path = tmp_path / "model.safetensors"
    model_file.save(path, params, METADATA)
    return path


def rewrite(path: pathlib.Path, *, tensors: dict[str, np.ndarray] | None = None, **fields: str) -> None:
    """The file with other tensors or metadata, and a hash that agrees."""
    with safetensors.safe_open(path, framework="numpy") as opened:
        header = {**opened.metadata(), **fields}
        if tensors is None:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    del header["sha256"]
    header["sha256"] = model_file._sha256(tensors, header)
    safetensors.numpy.save_file(tensors, path, header)


def example() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    mask = (rng.random((2, SIDE, SIDE, 1)) < 0.7).astype(np.float32)
    return rng.random((2, SIDE, SIDE, 3), np.float32) * mask, mask


def assert_same_tree(ours: model_file.Params, theirs: model_file.Params) -> None:
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_round_trip(file, params):
    found, metadata = model_file.read(file)
    assert metadata == METADATA
    assert_same_tree(found, params)


def test_a_file_of_half_the_size(params, file, tmp_path):
    half = tmp_path / "half.safetensors"
    model_file.save(half, params, METADATA, dtype=np.float16)
    found, metadata = model_file.read(half)
    assert metadata == METADATA
    assert_same_tree(found, jax.tree.map(lambda leaf: leaf.astype(np.float16).astype(np.float32), params))
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype(np.float32)}
    assert half.stat().st_size < 0.6 * file.stat().st_size


def test_a_file_explains_itself(file):
    """Readable by any safetensors library: dotted names, text metadata."""
    with safetensors.safe_open(file, framework="numpy") as opened:
        names, metadata = list(opened.keys()), opened.metadata()
    assert {"e0.kernel", "u4.bias"} <= {*names}
    assert json.loads(metadata["options"]) == {**OPTIONS, "dilations": [1, 1, 1, 1]}
    assert json.loads(metadata["input"]) == {"mean": [0, 0, 0], "std": [1, 1, 1], "hole": 0}


def test_the_loaded_generator_is_the_saved_one(file, params):
    x, mask = example()
    model = dpconv_jax.load(file)
    output, masks = model.generator(x, mask)
    graph = nnx.graphdef(abstract())
    expected, expected_masks = jax.jit(lambda params, x, mask: nnx.merge(graph, params)(x, mask))(params, x, mask)
    np.testing.assert_allclose(output, expected, atol=1e-6)
    assert_same_tree(masks, expected_masks)
    assert output.shape == (2, SIDE, SIDE, 3) and output.dtype == jnp.float32
    np.testing.assert_array_equal(model.generator(x, mask.astype(bool))[0], output)


def test_convention_of_each_variant():
    assert model_file.build(METADATA).convention == Convention(mean=(0, 0, 0), std=(1, 1, 1), hole=0)
    released = dataclasses.replace(METADATA, options=OPTIONS | {"variant": "released"})
    assert model_file.build(released).convention == Convention(
        mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), hole=0.5
    )


@pytest.mark.parametrize("place", [0.3, 0.6, 0.999])
def test_a_flipped_bit_is_noticed(file, place):
    content = bytearray(file.read_bytes())
    content[int(place * len(content))] ^= 1
    file.write_bytes(content)
    with pytest.raises(UsageError, match="damaged"):
        model_file.read(file)


def test_changed_metadata_is_noticed(file):
    content = file.read_bytes()
    file.write_bytes(content.replace(rb"[1, 1, 1, 1]", rb"[1, 2, 1, 1]", 1))
    assert file.read_bytes() != content
    with pytest.raises(UsageError, match="damaged"):
        model_file.read(file)


@pytest.mark.parametrize("kept", [0, 4, 1000, 20_000])
def test_a_cut_file_is_noticed(file, kept):
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(UsageError, match="no whole"):
        dpconv_jax.load(file)


def test_files_of_other_kinds(tmp_path, params):
    with pytest.raises(UsageError, match="no such workdir or weight file"):
        dpconv_jax.load(tmp_path / "absent.safetensors")
    with pytest.raises(UsageError, match="holds no checkpoint"):
        dpconv_jax.load(tmp_path)
    safetensors.numpy.save_file({"x": np.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(UsageError, match="format is None"):
        dpconv_jax.load(tmp_path / "other.safetensors")
    with pytest.raises(UsageError, match=r"named \*\.safetensors"):
        model_file.save(tmp_path / "model.npz", params, METADATA)
    with pytest.raises(UsageError, match="cannot be written: No such file or directory"):
        model_file.save(tmp_path / "absent" / "model.safetensors", params, METADATA)
    with pytest.raises(UsageError, match="cannot be written: Not a directory"):
        model_file.save(tmp_path / "other.safetensors" / "model.safetensors", params, METADATA)
    assert [path.name for path in tmp_path.iterdir()] == ["other.safetensors"]


def test_all_misfits_are_named_at_once(file):
    with safetensors.safe_open(file, framework="numpy") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    del tensors["d3.bias"]
    tensors["d5.bias"] = np.zeros(3, np.float32)
    tensors["e0.bias"] = np.zeros(5, np.float32)
    tensors["e1.bias"] = tensors["e1.bias"].astype(np.float64)
    rewrite(file, tensors=tensors)
    with pytest.raises(UsageError) as raised:
        model_file.read(file)
    message = str(raised.value)
    assert "\n" not in message
    for fault in ("d3.bias is missing", "d5.bias is unexpected", "e0.bias is float32 (5,), not float32 (8,)"):
        assert fault in message
    assert "e1.bias is float64" in message


def test_unknown_models_are_refused(file):
    rewrite(file, model="nonesuch")
    with pytest.raises(UsageError, match=r"model.name is 'nonesuch'; known: .*dpconv"):
        dpconv_jax.load(file)
    rewrite(file, model="dpconv", options=json.dumps(OPTIONS | {"variant": "draft"}))
    with pytest.raises(UsageError, match="variant is 'draft'"):
        dpconv_jax.load(file)
    rewrite(file, options=json.dumps(OPTIONS | {"depth": 9}))
    with pytest.raises(UsageError, match="model 'dpconv': got an unexpected keyword argument 'depth'"):
        dpconv_jax.load(file)


@pytest.mark.parametrize("variant", ["paper", "prefilled"])
def test_a_file_from_before_fig_3_is_run_as_what_it_is(variant, tmp_path):
    """Its format is the older one, and its options say nothing of the order of the blocks."""
    rng, options = np.random.default_rng(0), OPTIONS | {"variant": variant}
    before = dataclasses.replace(METADATA, options=options | {"released_order": True})
    shapes = model_file.shapes(model_file.build(before))
    params = jax.tree.map(lambda leaf: np.asarray(rng.normal(0, 0.1, leaf.shape), leaf.dtype), shapes)
    path = tmp_path / "before.safetensors"
    model_file.save(path, params, before)
    rewrite(path, format="dpconv_jax generator 2", options=json.dumps(options))
    model = dpconv_jax.load(path)
    assert model.metadata == before and "order of the released code" in str(model.metadata)
    x, mask = example()
    graph = nnx.graphdef(model_file.build(before))
    expected, _ = jax.jit(lambda params, x, mask: nnx.merge(graph, params)(x, mask))(params, x, mask)
    np.testing.assert_allclose(model.generator(x, mask)[0], expected, atol=1e-6)
    model_file.save(path, params, model.metadata)  # as today's file
    assert dpconv_jax.load(path).metadata == before
    rewrite(path, options=json.dumps(options))
    with pytest.raises(UsageError, match=r"does not fit its model: .*a2\.value\.kernel is float32 \(48, 48\), not"):
        dpconv_jax.load(path)


def test_an_older_file_of_another_graph_is_what_it_was(tmp_path):
    path = tmp_path / "pconv.safetensors"
    metadata = model_file.Metadata(model="pconv", options={"variant": "benchmark", "width": 0.125}, size=16, step=7)
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), model_file.shapes(model_file.build(metadata)))
    model_file.save(path, params, metadata)
    rewrite(path, format="dpconv_jax generator 2")
    assert model_file.read(path)[1] == metadata
    rewrite(path, format="dpconv_jax generator 1")
    with pytest.raises(UsageError, match="format is 'dpconv_jax generator 1', not 'dpconv_jax generator 3'"):
        model_file.read(path)


def test_a_failed_save_leaves_the_earlier_file(file, params, monkeypatch):
    before = file.read_bytes()

    def full(*_) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UsageError, match="No space left on device"):
        model_file.save(file, params, METADATA)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_inputs_that_cannot_be_are_refused(file):
    model = dpconv_jax.load(file)
    x, mask = example()
    with pytest.raises(UsageError, match="multiples of 8"):
        model.generator(x[:, :12], mask[:, :12])
    with pytest.raises(UsageError, match="must be"):
        model.generator(x, mask[:, :8])
    with pytest.raises(UsageError, match="must be"):
        model.generator(x[0], mask[0])
    with pytest.raises(UsageError, match="uint8"):
        model.generator((x * 255).astype(np.uint8), mask)


def test_untrained_taps_are_refused_at_larger_sizes(file):
    """Trained at 64 x 64, a dilation of 8 reached the side of its 8 x 8 map; at 128 x 128 it did not."""
    model = dpconv_jax.load(file)
    x, mask = np.zeros((1, 72, 64, 3), np.float32), np.ones((1, 72, 64, 1))

    def trained(size: int) -> Model:
        metadata = model_file.Metadata(model="dpconv", options=OPTIONS | {"dilations": (2, 4, 8, 2)}, size=size, step=7)
        return dataclasses.replace(model, graph=nnx.graphdef(model_file.build(metadata)), metadata=metadata)

    with pytest.raises(UsageError, match="72 x 64, but a dilation could not train at 64 x 64"):
        trained(64).generator(x, mask)
    shapes = jax.eval_shape(trained(72).generator, x, mask)
    assert shapes[0].shape == x.shape


@pytest.fixture
def workdir(tmp_path, params) -> pathlib.Path:
    """Of a finished training: an average and a worse newest step, as train.py leaves it."""
    path = tmp_path / "run"
    path.mkdir()
    config = {
        "format": models.FORMAT,
        "model": {"name": "dpconv", "variant": "paper", "width": 0.125, "dilations": [1, 1, 1, 1], "dropout": 0.25},
        "data": {"size": 16},
    }
    (path / "config.json").write_text(json.dumps(config))
    saved = checkpoints.Checkpoints(path / "checkpoints", keep=3)
    zeros = jax.tree.map(np.zeros_like, params)
    saved.save(7, {"generator": zeros, "ema": params}, metric=0.1)
    saved.save(9, {"generator": zeros, "ema": zeros}, metric=0.2)
    saved.close()
    return path


def test_export_then_load(workdir, params, tmp_path, capsys):
    file = tmp_path / "exported.safetensors"
    assert cli.run(command.main, ["export", str(workdir), str(file)]) == 0
    assert "step 7" in capsys.readouterr().out
    from_file, from_workdir = dpconv_jax.load(file), dpconv_jax.load(str(workdir))
    assert from_file.metadata == from_workdir.metadata == METADATA
    assert_same_tree(from_file.params, params)
    assert_same_tree(from_workdir.params, params)
    np.testing.assert_array_equal(from_file.generator(*example())[0], from_workdir.generator(*example())[0])


def test_a_workdir_from_before_fig_3_is_run_as_what_it_is(params, tmp_path):
    config = {
        "model": {"name": "dpconv", **OPTIONS},
        "data": {"size": 16},
        "train": {"steps": 9},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    before = dataclasses.replace(METADATA, options=OPTIONS | {"released_order": True})
    shapes = model_file.shapes(model_file.build(before))
    saved = checkpoints.Checkpoints(tmp_path / "checkpoints", keep=1)
    ones = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes)
    saved.save(7, {"generator": ones, "ema": ones})
    saved.close()
    assert dpconv_jax.load(tmp_path).metadata == before
    with pytest.raises(UsageError, match=r"what 'paper' was before it was Fig\. 3: .*; train in another --workdir"):
        workdir_file.remember(ConfigDict(config), tmp_path, step=7)
    assert json.loads((tmp_path / "config.json").read_text())["model"]["variant"] == "paper"
    workdir_file.remember(ConfigDict(config), tmp_path / "new", step=None)
    workdir_file.remember(ConfigDict(config), tmp_path / "new", step=7)


def test_export_of_a_step_in_half_the_size(workdir, params, tmp_path, capsys):
    file = tmp_path / "exported.safetensors"
    assert cli.run(command.main, ["export", str(workdir), str(file), "--step=9", "--dtype=float16"]) == 0
    assert "step 9" in capsys.readouterr().out
    assert_same_tree(dpconv_jax.load(file).params, jax.tree.map(np.zeros_like, params))
    with safetensors.safe_open(file, framework="numpy") as opened:
        assert opened.get_tensor("e0.kernel").dtype == np.float16
    assert cli.run(command.main, ["export", str(workdir), str(file), "--step=8"]) == 2
    assert "no checkpoint of step 8; it has 7, 9" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("{", "Expecting property name"),
        ("{}", "no field 'model'"),
        ('{"model": 3}', "not iterable"),
        ('{"model": {"name": "dpconv", "variant": "draft"}, "data": {"size": 16}}', "'draft'"),
        ('{"model": {"name": "dpconv", "width": "wide"}, "data": {"size": 16}}', "'dpconv'"),
    ],
)
def test_a_damaged_config_ends_an_export_in_one_line(workdir, tmp_path, capsys, content, fault):
    (workdir / "config.json").write_text(content)
    assert cli.run(command.main, ["export", str(workdir), str(tmp_path / "x.safetensors")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {workdir / 'config.json'} is damaged: ") and error.count("\n") == 1
    assert fault in error
    with pytest.raises(UsageError, match=r"config\.json is damaged"):
        dpconv_jax.load(workdir)


def test_a_failed_export_is_one_line(tmp_path, capsys):
    assert cli.run(command.main, ["export", str(tmp_path / "nowhere"), str(tmp_path / "x.safetensors")]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1 and "nowhere" in captured.err
    assert not (tmp_path / "x.safetensors").exists()
    assert cli.run(command.main, ["export", "n" * 300, str(tmp_path / "x.safetensors")]) == 2
    assert capsys.readouterr().err.endswith(f"{'n' * 300}/checkpoints: File name too long\n")


def test_importing_the_package_imports_no_jax():
    code = "import sys, dpconv_jax; dpconv_jax.load; sys.exit(bool({'jax', 'flax', 'numpy'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
