"""The authors' published generator: a random state dict of its names, to our weight file, to an inpainted photo."""

import pathlib

import numpy as np
import pytest
from pickled import torch_pickles
from PIL import Image

from dpconv_jax import UsageError, cli, inpaint, load
from dpconv_jax.layers.conv import conv2d
from dpconv_jax.weights import __main__ as command
from dpconv_jax.weights import released

# Name, outputs, inputs, side of the kernel.
CONVOLUTIONS = [
    ("block_0", 64, 3, 7),
    ("block_1", 128, 64, 5),
    ("block_2", 256, 128, 5),
    ("block_3", 128, 256, 5),
    *((f"dilated_block_{i}", 128, 128, 3) for i in (1, 2, 3, 4)),
    *(
        (f"s_attention_6.{part}_conv", outputs, 128, 1)
        for part, outputs in (("query", 16), ("key", 16), ("value", 128))
    ),
    *(
        (f"s_attention_7.{part}_conv", outputs, 384, 1)
        for part, outputs in (("query", 48), ("key", 48), ("value", 384))
    ),
    ("block_6", 128, 256, 3),
    ("block_7", 128, 384, 3),
    ("block_8", 64, 192, 3),
    ("block_9", 3, 67, 3),
]


@pytest.fixture(scope="module")
def state() -> dict[str, np.ndarray]:
    """PyTorch's layout: kernels (O, I, kh, kw)."""
    rng = np.random.default_rng(0)
    found = {"s_attention_6.gamma": np.float32([0.5]), "s_attention_7.gamma": np.float32([-0.25])}
    for name, outputs, inputs, side in CONVOLUTIONS:
        shape = (outputs, inputs, side, side)
        found[f"{name}.weight"] = (rng.standard_normal(shape) / np.sqrt(inputs * side**2)).astype(np.float32)
        found[f"{name}.bias"] = rng.normal(0, 0.1, outputs).astype(np.float32)
    return found


def file(folder: pathlib.Path, state: dict[str, np.ndarray]) -> pathlib.Path:
    path = folder / "released.pth"
    path.write_bytes(torch_pickles(state))
    return path


def run(source: pathlib.Path, out: pathlib.Path) -> int:
    return cli.run(command.main, ["convert", "--from=released-pth", str(source), f"--out={out}"])


def hwio(kernel: np.ndarray) -> np.ndarray:
    return kernel.transpose(2, 3, 1, 0)


def test_every_tensor_finds_its_place(state):
    ours = released.parameters(state, source="here")
    assert len(ours) == len(state)
    np.testing.assert_array_equal(ours["e2.kernel"], hwio(state["block_2.weight"]))
    np.testing.assert_array_equal(ours["d3.bias"], state["dilated_block_3.bias"])
    np.testing.assert_array_equal(ours["a1.query.kernel"], state["s_attention_6.query_conv.weight"][:, :, 0, 0].T)
    np.testing.assert_array_equal(ours["a2.value.bias"], state["s_attention_7.value_conv.bias"])
    assert ours["a2.gamma"] == np.float32(-0.25) and ours["a2.gamma"].shape == ()
    np.testing.assert_array_equal(ours["u1.kernel"], hwio(state["block_6.weight"]))


@pytest.mark.parametrize(("ours", "theirs", "skip", "main"), [("u3", "block_8", 64, 128), ("u4", "block_9", 3, 64)])
def test_skip_connections_come_last(state, ours, theirs, skip, main):
    rng = np.random.default_rng(1)
    old, new = (rng.standard_normal((1, 5, 6, channels)).astype(np.float32) for channels in (skip, main))
    expected = conv2d(np.concatenate([old, new], axis=-1), hwio(state[f"{theirs}.weight"]))
    kernel = released.parameters(state, source="here")[f"{ours}.kernel"]
    np.testing.assert_allclose(conv2d(np.concatenate([new, old], axis=-1), kernel), expected, atol=1e-5)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_photo_through_the_converted_file(state, tmp_path, prefix, capsys):
    out = tmp_path / "released.safetensors"
    assert run(file(tmp_path, {prefix + name: tensor for name, tensor in state.items()}), out) == 0
    assert capsys.readouterr().out == f"{out}: DPConv released, {len(state)} tensors\n"
    model = load(out)
    assert model.metadata.options["variant"] == "released" and model.metadata.step is None
    if prefix:
        return  # the network is the same
    photo = np.random.default_rng(2).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    arguments = [f"--checkpoint={out}", f"--image={tmp_path / 'photo.png'}", f"--out={tmp_path / 'clean.png'}"]
    assert cli.run(inpaint.main, [*arguments, "--box=16,16,40,48", "--texture=off"]) == 0
    clean = np.asarray(Image.open(tmp_path / "clean.png")).astype(int)
    hole = np.zeros((64, 64), bool)
    hole[16:48, 16:40] = True
    np.testing.assert_array_equal(clean[~hole], photo[~hole])
    x = (photo / np.float32(255) - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
    x[hole] = 0.5
    output, _ = model.generator(x[None].astype(np.float32), ~hole[None, ..., None])
    assert np.abs(np.clip(np.asarray(output[0]), 0, 1)[hole] * 255 - clean[hole]).max() <= 0.51


def test_all_that_does_not_fit_is_named_at_once(state, tmp_path, capsys):
    wrong = dict(state)
    del wrong["block_0.weight"], wrong["s_attention_6.gamma"]
    wrong["norm_1.weight"] = np.ones(128, np.float32)
    wrong["block_9.weight"] = np.zeros((3, 64, 3, 3), np.float32)
    wrong["block_6.bias"] = np.full(128, np.nan, np.float32)
    out = tmp_path / "out.safetensors"
    assert run(file(tmp_path, wrong), out) == 2
    error = capsys.readouterr().err
    for fault in (
        "block_0.weight is missing",
        "s_attention_6.gamma is missing",
        "norm_1.weight is unexpected",
        "block_9.weight has shape (3, 64, 3, 3), not (3, 67, 3, 3)",
        "block_6.bias is not finite",
    ):
        assert fault in error
    assert error.count("\n") == 1 and not out.exists()


def test_a_file_that_would_run_something(state, tmp_path):
    path = tmp_path / "released.pth"
    path.write_bytes(torch_pickles(state).replace(b"ctorch._utils\n_rebuild_tensor\n", b"cbuiltins\nexec\n", 1))
    with pytest.raises(UsageError, match=r"names builtins\.exec.* it was not run"):
        command.convert_released(path, tmp_path / "out.safetensors")
