"""Do LPIPS and Inception-v3 give the numbers of the packages that published results were made with?

    python benchmarks/networks.py [--vgg16=FILE] [--inception=FILE]

Gives the same weights and images to this package and to `lpips` and `torch-fidelity`, and prints the largest
differences. Weights are seeded NumPy numbers, and those of the files; heads of LPIPS are seeded ones, and those in the
package `lpips`. What the packages make of the seeded ones is in tests/test_lpips.py and tests/test_inception.py.
"""

import argparse
import pathlib
import tempfile
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import lpips
import numpy as np
import torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from dpconv_jax.models import inception, vgg16
from dpconv_jax.models import lpips as ours
from dpconv_jax.weights import inception as inception_file
from dpconv_jax.weights import lpips as lpips_file
from dpconv_jax.weights import vgg16 as vgg16_file

SIZES = ((64, 48), (299, 299), (400, 533))


def seeded_trunk() -> vgg16.VGG16:
    rng = np.random.default_rng(0)
    kernels, biases = {}, {}
    for name, inputs, outputs in (layer for block in vgg16.BLOCKS for layer in block):
        kernels[name] = jnp.asarray(rng.normal(0, (2 / (9 * inputs)) ** 0.5, (3, 3, inputs, outputs)), jnp.float32)
        biases[name] = jnp.asarray(rng.normal(0, 0.1, outputs), jnp.float32)
    return vgg16.VGG16(kernels=kernels, biases=biases, convention="torchvision")


def seeded_heads() -> tuple[jax.Array, ...]:
    rng = np.random.default_rng(1)
    return tuple(jnp.asarray(rng.random(channels), jnp.float32) for channels in ours.CHANNELS)


def seeded_inception() -> dict[str, np.ndarray]:
    """Tensors by their published names; variances are positive."""
    rng = np.random.default_rng(0)
    found = {}
    for name, shape in inception_file.shapes().items():
        if name.endswith(("bn.weight", "running_var")):
            values = rng.uniform(0.5, 1.5, shape)
        elif len(shape) == 1:
            values = rng.normal(0, 0.1, shape)
        else:
            values = rng.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape)
        found[name] = values.astype(np.float32)
    return found


def pairs() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images (2, H, W, 3) in [0, 1], and what noise makes of them."""
    for height, width in SIZES:
        rng = np.random.default_rng(height)
        a = rng.random((2, height, width, 3), np.float32)
        yield a, np.clip(a + rng.normal(0, 0.1, a.shape), 0, 1).astype(np.float32)


def nchw(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def compare_lpips(trunk: vgg16.VGG16, *, heads: tuple[jax.Array, ...] | None) -> None:
    """Prints the distances of both; None for the heads takes those of the package."""
    theirs = lpips.LPIPS(net="vgg", version="0.1", pnet_rand=True, verbose=False)
    if heads is None:
        published = {name: tensor.numpy() for name, tensor in theirs.state_dict().items() if name.startswith("lin")}
        heads = lpips_file.heads(published, source="the package lpips")
    with torch.no_grad():
        convolutions = [module for module in theirs.net.modules() if isinstance(module, torch.nn.Conv2d)]
        for layer, name in zip(convolutions, trunk.kernels, strict=True):
            layer.weight.copy_(torch.from_numpy(np.array(trunk.kernels[name].transpose(3, 2, 0, 1))))
            layer.bias.copy_(torch.from_numpy(np.array(trunk.biases[name])))
        for layer, head in zip(theirs.lins, heads, strict=True):
            layer.model[-1].weight.copy_(torch.from_numpy(np.array(head))[None, :, None, None])
    params, difference = ours.LPIPS(trunk=trunk, heads=heads), 0.0
    for a, b in pairs():
        with torch.no_grad():
            expected = theirs(nchw(a), nchw(b), normalize=True).numpy().reshape(-1)
        found = np.asarray(jax.jit(ours.distance)(params, a, b))
        difference = max(difference, float(np.abs(found - expected).max()))
        print(f"  {a.shape[1]} x {a.shape[2]}: lpips {expected}, here {found}")
    print(f"  largest difference {difference:.2g}")
    assert difference <= 1e-4


def compare_inception(file: pathlib.Path) -> None:
    """Prints the first values of both."""
    names = ["2048", "logits"]
    theirs = FeatureExtractorInceptionV3("inception", names, feature_extractor_weights_path=str(file))
    params = inception_file.load(file)
    print(f"  {params.name}")
    for height, width in SIZES:
        images = np.random.default_rng(height).integers(0, 256, (2, height, width, 3), np.uint8)
        with torch.no_grad():
            expected = [each.numpy() for each in theirs(nchw(images))]
        found = jax.jit(inception.features)(params, images / np.float32(255))
        for name, here, there in zip(names, found, expected, strict=True):
            difference = np.abs(here - there).max() / np.abs(there).max()
            print(f"  {height} x {width}, {name}: torch-fidelity {there[0, :4]}, difference / maximum {difference:.2g}")
            assert difference <= 1e-4


def main() -> None:
    """Prints all comparisons; AssertionError where one is too far off."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vgg16", type=pathlib.Path, help="weights of torchvision's convention")
    parser.add_argument("--inception", type=pathlib.Path, help="a .pth file")
    options = parser.parse_args()
    print("LPIPS, seeded trunk and heads")
    compare_lpips(seeded_trunk(), heads=seeded_heads())
    print("LPIPS, seeded trunk, published heads")
    compare_lpips(seeded_trunk(), heads=None)
    if options.vgg16:
        print(f"LPIPS, trunk {options.vgg16}, published heads")
        compare_lpips(vgg16_file.load(options.vgg16), heads=None)
    with tempfile.TemporaryDirectory() as place:
        seeded = pathlib.Path(place) / "seeded.pth"
        torch.save({name: torch.from_numpy(array) for name, array in seeded_inception().items()}, seeded)
        for file in filter(None, (seeded, options.inception)):
            print(f"Inception-v3, {file.name}")
            compare_inception(file)


if __name__ == "__main__":
    main()
