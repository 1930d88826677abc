"""The feature network against plain NumPy, and its weight files."""

import dataclasses
import pathlib
import sys

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from jax import lax
from PIL import Image, ImageFilter

from dpconv_jax.errors import UsageError
from dpconv_jax.models import vgg16
from dpconv_jax.training import losses
from dpconv_jax.weights import vgg16 as files

LAYERS = [layer for block in vgg16.BLOCKS for layer in block]


@pytest.fixture(scope="module")
def tensors() -> dict[str, np.ndarray]:
    """Random weights under Keras' names, of a size that keeps the signal's scale."""
    rng = np.random.default_rng(0)
    found = {}
    for name, inputs, outputs in LAYERS:
        found[f"{name}/kernel"] = rng.normal(0, (2 / (9 * inputs)) ** 0.5, (3, 3, inputs, outputs)).astype(np.float32)
        found[f"{name}/bias"] = rng.normal(0, 0.1, outputs).astype(np.float32)
    return found


def network(tensors: dict[str, np.ndarray], convention: vgg16.Preprocessing) -> vgg16.VGG16:
    return vgg16.VGG16(
        kernels={name: tensors[f"{name}/kernel"] for name, _, _ in LAYERS},
        biases={name: tensors[f"{name}/bias"] for name, _, _ in LAYERS},
        convention=convention,
    )


def torchvision_names(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """torchvision's `features` counts a convolution and its ReLU as two entries and a pooling as one."""
    found, index = {}, 0
    for block in vgg16.BLOCKS:
        for name, _, _ in block:
            found[f"features.{index}.weight"] = np.ascontiguousarray(tensors[f"{name}/kernel"].transpose(3, 2, 0, 1))
            found[f"features.{index}.bias"] = tensors[f"{name}/bias"]
            index += 2
        index += 1
    return found


def keras_names(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """As Keras publishes them; its network takes BGR."""
    found = {}
    for name, _, _ in LAYERS:
        stem = name.replace("conv", "block").replace("_", "_conv")
        kernel = tensors[f"{name}/kernel"]
        found[f"{stem}/{stem}_W_1:0"] = kernel[:, :, ::-1].copy() if name == "conv1_1" else kernel
        found[f"{stem}/{stem}_b_1:0"] = tensors[f"{name}/bias"]
    return found


def to_unit_inputs(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same network for inputs (x - mean) / std: x * 255 = 255 std * ((x - mean) / std) + 255 mean."""
    scaled = {name: value.astype(np.float32) for name, value in tensors.items()}
    scaled["conv1_1/kernel"] *= 255 * np.array(vgg16.IMAGENET_STD, np.float32)[:, None] / 57.6
    return {name: value / 57.6 if name.endswith("bias") else value for name, value in scaled.items()}


def naive_features(tensors: dict[str, np.ndarray], x: np.ndarray) -> list[np.ndarray]:
    """x: the preprocessed image (H, W, 3)."""
    maps = []
    for number, block in enumerate(vgg16.BLOCKS):
        if number:
            windows = x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2, -1)
            x = windows.max(axis=(1, 3))
        for name, _, outputs in block:
            padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
            out = np.zeros((*x.shape[:2], outputs)) + tensors[f"{name}/bias"]
            for dy in range(3):
                for dx in range(3):
                    shifted = padded[dy : dy + x.shape[0], dx : dx + x.shape[1]]
                    out += shifted @ tensors[f"{name}/kernel"][dy, dx]
            x = np.maximum(out, 0)
        maps.append(x)
    return maps


def test_features_are_those_of_plain_numpy(tensors):
    image = np.random.default_rng(1).random((16, 32, 3))
    oxford = naive_features(tensors, image * 255 - np.array([123.68, 116.779, 103.939]))
    unit = naive_features(tensors, (image - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225]))
    trunk = jax.jit(vgg16.trunk)
    for expected, convention, scale in ((oxford, "oxford", 57.6), (unit, "torchvision", 1)):
        found = trunk(network(tensors, convention), image[None])
        channels = (64, 128, 256, 512, 512)
        assert [each.shape for each in found] == [(1, 16 >> p, 32 >> p, c) for p, c in enumerate(channels)]
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours[0], theirs / scale, atol=2e-5 * np.abs(theirs / scale).max())


def test_features_and_the_pooled_ones_are_those_of_the_trunk(tensors):
    params, image = network(tensors, "oxford"), np.random.default_rng(1).random((1, 16, 32, 3))
    functions = vgg16.features, vgg16.trunk, vgg16.pooled
    features, trunk, pooled = jax.jit(lambda *operands: [function(*operands) for function in functions])(params, image)
    for ours, theirs in zip(features, trunk[:4], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())
    assert (pooled.shape, pooled.dtype) == ((1, 512), jnp.float32)
    np.testing.assert_allclose(pooled, np.mean(trunk[4], axis=(1, 2)), atol=1e-5 * np.abs(pooled).max())


def test_the_style_loss_needs_no_conv5(tensors):
    whole = network(tensors, "oxford")
    short = dataclasses.replace(
        whole,
        kernels={name: each for name, each in whole.kernels.items() if "conv5" not in name},
        biases={name: each for name, each in whole.biases.items() if "conv5" not in name},
    )
    image = np.random.default_rng(1).random((1, 16, 16, 3))
    features = jax.jit(vgg16.features)
    assert all(map(np.array_equal, features(short, image), features(whole, image)))
    with pytest.raises(ValueError, match="end before conv5_3"):
        vgg16.pooled(short, image)


def test_bfloat16_features(tensors):
    image = np.random.default_rng(1).random((1, 8, 8, 3))
    exact = vgg16.features(network(tensors, "oxford"), image)
    low = vgg16.features(network(tensors, "oxford"), image, dtype=jnp.bfloat16)
    for ours, theirs in zip(low, exact, strict=True):
        assert ours.dtype == jnp.bfloat16
        assert np.abs(ours - theirs).mean() < 0.03 * np.abs(theirs).mean()


def test_only_the_image_has_a_gradient(tensors):
    image = jnp.asarray(np.random.default_rng(1).random((1, 8, 8, 3)), jnp.float32)

    def total(params: vgg16.VGG16, image: jax.Array) -> jax.Array:
        return sum(each.sum() for each in vgg16.features(params, image))

    of_params, of_image = jax.jit(jax.grad(total, argnums=(0, 1)))(network(tensors, "oxford"), image)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(of_params))
    assert np.abs(of_image).max() > 0


def test_max_pool_and_its_gradient_are_reduce_windows():
    """With many equal values, as in the flat backdrop of a catalogue photo."""
    rng = np.random.default_rng(2)
    x = jnp.asarray(rng.integers(0, 3, (2, 6, 8, 5)), jnp.float32)
    cotangent = jnp.asarray(rng.random((2, 3, 4, 5)), jnp.float32)

    def plain(x: jax.Array) -> jax.Array:
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    (ours, pull_ours), (theirs, pull_theirs) = jax.vjp(vgg16.max_pool, x), jax.vjp(plain, x)
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(*pull_ours(cotangent), *pull_theirs(cotangent))


def test_odd_sides_lose_their_last_pixel(tensors):
    found = jax.eval_shape(vgg16.features, network(tensors, "torchvision"), np.zeros((1, 9, 17, 3)))
    assert [each.shape[1:3] for each in found] == [(9, 17), (4, 8), (2, 4), (1, 2)]


def equal(ours: vgg16.VGG16, theirs: vgg16.VGG16) -> bool:
    same = jax.tree.map(np.array_equal, dataclasses.replace(ours, convention="oxford"), theirs)
    return all(jax.tree.leaves(same))


def test_every_kind_of_file_gives_the_same_network(tensors, tmp_path):
    expected = network(tensors, "oxford")
    unused = {"fc6/kernel": np.zeros(3), "classifier.0.weight": np.zeros(3, np.float32)}

    np.savez(tmp_path / "keras.npz", **tensors, **unused, convention="torchvision")
    safetensors.numpy.save_file({**tensors, **unused}, tmp_path / "keras.safetensors", {"convention": "torchvision"})
    renamed = torchvision_names(tensors)
    safetensors.numpy.save_file({**renamed, **unused}, tmp_path / "torch.safetensors")
    assert list(renamed)[-1] == "features.28.bias"
    safetensors.numpy.save_file(keras_names(tensors), tmp_path / "bgr.safetensors", {"convention": "torchvision"})

    for name in ("keras.npz", "keras.safetensors", "torch.safetensors", "bgr.safetensors"):
        found = files.load(tmp_path / name)
        assert found.convention == "torchvision"
        assert equal(found, expected)


def test_the_file_of_keras(vgg16_npz, tmp_path, monkeypatch):
    with np.load(vgg16_npz) as archive, h5py.File(tmp_path / "keras.h5", "w") as file:
        for name, value in keras_names(dict(archive)).items():
            file[name] = value.astype(np.float32)
    found = files.load(tmp_path / "keras.h5")
    assert found.convention == "oxford" and "conv5_3" in found.kernels
    assert equal(found, files.load(vgg16_npz))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UsageError, match=r"keras\.h5: reading \.h5 needs h5py, which is not installed"):
        files.load(tmp_path / "keras.h5")


def test_float16_files_load_as_float32(tensors, tmp_path):
    np.savez(
        tmp_path / "half.npz",
        **{name: value.astype(np.float16) for name, value in tensors.items()},
        convention="oxford",
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(files.load(tmp_path / "half.npz"))} == {jnp.dtype("float32")}


def test_unknown_weights_are_not_guessed(tensors, tmp_path):
    np.savez(tmp_path / "other.npz", **tensors)
    with pytest.raises(UsageError, match="cannot tell which inputs"):
        files.load(tmp_path / "other.npz")
    np.savez(tmp_path / "other.npz", **tensors, convention="caffe")
    with pytest.raises(UsageError, match="'caffe' is neither 'oxford' nor 'torchvision'"):
        files.load(tmp_path / "other.npz")


def test_all_faults_are_named_at_once(tensors, tmp_path):
    wrong = dict(tensors)
    del wrong["conv1_2/bias"]
    wrong["conv3_1/kernel"] = np.zeros((3, 3, 256, 128), np.float32)
    wrong["conv4_3/bias"] = np.full(512, np.nan, np.float32)
    del wrong["conv5_2/kernel"]
    np.savez(tmp_path / "wrong.npz", **wrong, convention="oxford")
    with pytest.raises(UsageError) as raised:
        files.load(tmp_path / "wrong.npz")
    assert "conv1_2/bias is missing" in str(raised.value)
    assert "conv3_1/kernel has shape (3, 3, 256, 128), not (3, 3, 128, 256)" in str(raised.value)
    assert "conv4_3/bias is not finite" in str(raised.value)
    assert "conv5_2/kernel is missing" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".h5", ".pth"])
def test_damaged_and_missing_files(tmp_path, suffix):
    path = tmp_path / f"vgg{suffix}"
    with pytest.raises(UsageError, match="no such file"):
        files.load(path)
    whole, tensors = tmp_path / f"whole{suffix}", {"conv1_1/kernel": np.zeros((300, 300))}
    if suffix == ".npz":
        np.savez(whole, **tensors)
    elif suffix == ".h5":
        with h5py.File(whole, "w") as file:
            file["conv1_1/kernel"] = tensors["conv1_1/kernel"]
    else:
        safetensors.numpy.save_file(tensors, whole)
    path.write_bytes(whole.read_bytes()[:100_000])
    with pytest.raises(UsageError, match="cannot be read"):
        files.load(path)
    path.write_bytes(b"")
    with pytest.raises(UsageError, match="cannot be read"):
        files.load(path)


def test_other_kinds_of_files_are_refused(tmp_path):
    (tmp_path / "vgg16.ckpt").write_bytes(b"")
    with pytest.raises(UsageError, match=r"expected a file named \*\.npz, \*\.safetensors, \*\.pth, \*\.h5"):
        files.load(tmp_path / "vgg16.ckpt")


def photos(clothing: pathlib.Path, *, count: int) -> list[Image.Image]:
    paths = sorted(clothing.glob("validation/*/*.jpg"))
    return [Image.open(path).convert("RGB").resize((64, 64)) for path in paths[:: len(paths) // count][:count]]


def array(images: list[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(image, np.float32) / 255 for image in images])


def test_weighted_style_of_a_blurred_photo_is_of_the_order_of_ten(vgg16_npz, clothing):
    """At 128 x 128 it is 6-25; without the factor of 57.6, the same weights give 20,000-80,000."""
    params = files.load(vgg16_npz)
    assert params.convention == "oxford"
    sharp = photos(clothing, count=2)
    blurred = [image.filter(ImageFilter.GaussianBlur(1.5)) for image in sharp]
    style = losses.style(
        features=vgg16.features(params, array(blurred)), target_features=vgg16.features(params, array(sharp))
    )
    assert 1 < 120 * style < 100


def test_oxford_weights_for_unit_inputs_give_equal_features(vgg16_npz, tmp_path):
    """The same network in torchvision's convention and names: features agree in scale."""
    with np.load(vgg16_npz) as archive:
        oxford = dict(archive)
    image = np.random.default_rng(3).random((1, 32, 32, 3))
    expected = vgg16.features(files.load(vgg16_npz), image)

    safetensors.numpy.save_file(torchvision_names(to_unit_inputs(oxford)), tmp_path / "unit.safetensors")
    unit = files.load(tmp_path / "unit.safetensors")
    assert unit.convention == "torchvision"
    for ours, theirs in zip(vgg16.features(unit, image), expected, strict=True):
        # The two conventions' means differ by up to 0.5 of 255.
        np.testing.assert_allclose(ours, theirs, atol=1e-2 * np.abs(theirs).max())

    safetensors.numpy.save_file(torchvision_names(oxford), tmp_path / "renamed.safetensors")
    assert files.load(tmp_path / "renamed.safetensors").convention == "oxford"
