"""Inception-v3 against plain NumPy, block by block, against torch-fidelity, and its weight file."""

import dataclasses
import functools
import math

import jax
import numpy as np
import pytest
import safetensors.numpy

from benchmarks import seeded
from dpconv_jax import UsageError
from dpconv_jax.models import inception
from dpconv_jax.weights import inception as files
from dpconv_jax.weights import tensor_file

INPUTS = {"Mixed_5b": 192, "Mixed_6a": 288, "Mixed_6b": 768, "Mixed_7a": 768, "Mixed_7b": 1280, "Mixed_7c": 2048}


def naive_conv(x, kernel, bias, *, stride=1, same=True):
    """Of one image (H, W, C), a window at a time."""
    kh, kw = kernel.shape[:2]
    if same:
        x = np.pad(x, ((kh // 2,) * 2, (kw // 2,) * 2, (0, 0)))
    rows, columns = (x.shape[0] - kh) // stride + 1, (x.shape[1] - kw) // stride + 1
    out = np.zeros((rows, columns, kernel.shape[3]))
    for i, j in np.ndindex(rows, columns):
        window = x[i * stride : i * stride + kh, j * stride : j * stride + kw]
        out[i, j] = np.einsum("hwc,hwco->o", window, kernel) + bias
    return np.maximum(out, 0)


def naive_pool(x, reduce, *, stride, same):
    """Windows of 3 x 3; beyond the border there is nothing."""
    size = x.shape[:2] if same else tuple((side - 3) // stride + 1 for side in x.shape[:2])
    out, first = np.zeros((*size, x.shape[2])), -1 if same else 0
    for i, j in np.ndindex(*size):
        top, left = i * stride + first, j * stride + first
        out[i, j] = reduce(x[max(top, 0) : top + 3, max(left, 0) : left + 3], axis=(0, 1))
    return out


def naive_block(name, x, conv):
    """The published graph, written out; conv(x, layer) is a convolution by its name."""

    def chain(x, *layers):
        return functools.reduce(conv, layers, x)

    average = naive_pool(x, np.mean, stride=1, same=True)
    halved = naive_pool(x, np.max, stride=2, same=False)
    if name == "Mixed_5b":
        parts = [
            conv(x, "branch1x1"),
            chain(x, "branch5x5_1", "branch5x5_2"),
            chain(x, "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"),
            conv(average, "branch_pool"),
        ]
    elif name == "Mixed_6a":
        parts = [conv(x, "branch3x3"), chain(x, "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"), halved]
    elif name == "Mixed_6b":
        parts = [
            conv(x, "branch1x1"),
            chain(x, "branch7x7_1", "branch7x7_2", "branch7x7_3"),
            chain(x, "branch7x7dbl_1", "branch7x7dbl_2", "branch7x7dbl_3", "branch7x7dbl_4", "branch7x7dbl_5"),
            conv(average, "branch_pool"),
        ]
    elif name == "Mixed_7a":
        parts = [
            chain(x, "branch3x3_1", "branch3x3_2"),
            chain(x, "branch7x7x3_1", "branch7x7x3_2", "branch7x7x3_3", "branch7x7x3_4"),
            halved,
        ]
    else:
        wide, deep = conv(x, "branch3x3_1"), chain(x, "branch3x3dbl_1", "branch3x3dbl_2")
        pooled = average if name == "Mixed_7b" else naive_pool(x, np.max, stride=1, same=True)
        parts = [
            conv(x, "branch1x1"),
            conv(wide, "branch3x3_2a"),
            conv(wide, "branch3x3_2b"),
            conv(deep, "branch3x3dbl_3a"),
            conv(deep, "branch3x3dbl_3b"),
            conv(pooled, "branch_pool"),
        ]
    return np.concatenate(parts, axis=-1)


@pytest.mark.parametrize("name", INPUTS)
def test_each_kind_of_block_is_that_of_plain_numpy(name):
    """With kernels of the true sizes and few channels: 3 into the block, 2 out of each convolution."""
    rng, prefix = np.random.default_rng(0), f"{name}."
    kernels, biases = {}, {}
    for layer, (height, width, inputs, _) in inception.shapes().items():
        if layer.startswith(prefix):
            shape = (height, width, 3 if inputs == INPUTS[name] else 2, 2)
            kernels[layer] = rng.normal(0, 0.5, shape).astype(np.float32)
            biases[layer] = rng.normal(0, 0.5, 2).astype(np.float32)
    params = inception.Inception(kernels, biases, np.zeros((1, 1)), np.zeros(1))

    def conv(x, layer):
        halves = name in ("Mixed_6a", "Mixed_7a") and layer in ("branch3x3", "branch3x3dbl_3", "branch3x3_2")
        halves |= layer == "branch7x7x3_4"
        layer = prefix + layer
        return naive_conv(x, kernels[layer], biases[layer], stride=2 if halves else 1, same=not halves)

    x = rng.normal(0, 1, (2, 7, 9, 3)).astype(np.float32)
    found = jax.jit(lambda x: inception.apply_block(params, inception.BLOCKS[name], x, prefix=prefix))(x)
    for ours, image in zip(found, x, strict=True):
        np.testing.assert_allclose(ours, naive_block(name, image, conv), rtol=1e-5, atol=1e-5)


def test_averages_leave_out_the_padding():
    np.testing.assert_array_equal(inception.average_pool(np.ones((1, 3, 4, 2), np.float32)), np.ones((1, 3, 4, 2)))


def test_resizing_is_that_of_the_published_graph():
    """Position i * size / 299: no half pixels, no antialiasing; the last pixel stands for those beyond it."""
    image = np.random.default_rng(0).random((1, 40, 600, 2)).astype(np.float32)
    found = np.asarray(inception.resize(image))
    assert found.shape == (1, 299, 299, 2)
    for i, j in ((0, 0), (0, 298), (298, 298), (17, 101), (298, 3)):
        y, x = i * 40 / 299, j * 600 / 299
        top, left = math.floor(y), math.floor(x)
        bottom, right = min(top + 1, 39), min(left + 1, 599)
        above = image[0, top, left] * (1 - x + left) + image[0, top, right] * (x - left)
        below = image[0, bottom, left] * (1 - x + left) + image[0, bottom, right] * (x - left)
        np.testing.assert_allclose(found[0, i, j], above * (1 - y + top) + below * (y - top), atol=1e-4)
    whole = np.random.default_rng(1).random((1, 299, 299, 3)).astype(np.float32)
    np.testing.assert_array_equal(inception.resize(whole), whole)


def test_the_number_of_parameters_is_the_published_one():
    """23,850,960 without the auxiliary classifier, of which folding leaves out one a channel."""
    channels = sum(shape[-1] for shape in inception.shapes().values())
    convolutions = sum(math.prod(shape) for shape in inception.shapes().values())
    assert convolutions + 2 * channels + 2048 * 1008 + 1008 == 23_850_960
    assert sum(math.prod(shape) for shape in files.shapes().values()) == 23_850_960 + 2 * channels


@pytest.fixture(scope="module")
def tensors() -> tensor_file.Tensors:
    """Random weights by their published names."""
    return seeded.inception()


def test_the_whole_network_is_that_of_torch_fidelity(tensors):
    """The values are torch-fidelity 0.4.0's for these weights and this image, by benchmarks/networks.py."""
    images = np.random.default_rng(64).integers(0, 256, (2, 64, 48, 3), np.uint8)
    params = files.parameters(tensors, source="random")
    pool, logits = jax.jit(inception.features)(params, images / np.float32(255))
    assert (pool.shape, logits.shape, pool.dtype, logits.dtype) == ((2, 2048), (2, 1008), np.float32, np.float32)
    np.testing.assert_allclose(pool[0, :4], [3.3929152, 4.16144, 28.077381, 23.174187], rtol=1e-5)
    np.testing.assert_allclose(logits[0, :4], [-1.9514836, -13.812119, 18.56467, 18.78405], rtol=1e-5)
    unbiased = np.asarray(pool, np.float64) @ tensors["fc.weight"].T
    np.testing.assert_allclose(logits - params.head_bias, unbiased, atol=1e-4)


def test_a_normalised_convolution_is_folded_into_one(tensors):
    params, name = files.parameters(tensors, source="random"), "Mixed_6b.branch7x7_2"
    x = np.random.default_rng(0).normal(0, 1, (1, 7, 128))
    part = {key: tensors[f"{name}.bn.{key}"].astype(float) for key in ("weight", "bias", "running_mean", "running_var")}
    plain = np.einsum("hwc,ochw->o", x, tensors[f"{name}.conv.weight"])
    normed = (plain - part["running_mean"]) / np.sqrt(part["running_var"] + 0.001) * part["weight"] + part["bias"]
    folded = np.einsum("hwc,hwco->o", x, params.kernels[name]) + params.biases[name]
    np.testing.assert_allclose(folded, normed, atol=1e-5)


def test_only_the_published_file_is_official(tensors, tmp_path, monkeypatch):
    safetensors.numpy.save_file(tensors, tmp_path / "other.safetensors")
    other = files.load(tmp_path / "other.safetensors")
    assert (other.official, other.name) == (False, "inception_unofficial")
    monkeypatch.setattr(files, "SHA256", tensor_file.sha256(tmp_path / "other.safetensors"))
    published = files.load(tmp_path / "other.safetensors")
    assert (published.official, published.name) == (True, "inception-2015-12-05")
    same = jax.tree.map(np.array_equal, dataclasses.replace(published, official=False), other)
    assert all(jax.tree.leaves(same))


def test_all_faults_are_named_at_once(tensors):
    wrong = {**tensors, "fc.weight": np.zeros((1000, 2048)), "fc.bias": np.full(1008, np.nan)}
    del wrong["Mixed_7c.branch_pool.bn.running_var"]
    with pytest.raises(UsageError) as raised:
        files.parameters(wrong, source="wrong.pth")
    message = str(raised.value)
    assert message.startswith("wrong.pth is no Inception-v3 of 2015-12-05: ") and "\n" not in message
    assert "fc.weight has shape (1000, 2048), not (1008, 2048)" in message
    assert "fc.bias is not finite" in message
    assert "Mixed_7c.branch_pool.bn.running_var is missing" in message
