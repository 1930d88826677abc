"""Do LPIPS and Inception-v3 give the numbers of the packages that published results were made with?

    python -m benchmarks.networks [--vgg16=FILE] [--inception=FILE]

Gives the same weights and images to this package and to `lpips` and `torch-fidelity`, and prints the largest
differences. Weights are seeded NumPy numbers, and those of the files; heads of LPIPS are seeded ones, and those in the
package `lpips`. What the packages make of the seeded ones is in tests/test_lpips.py and tests/test_inception.py.
"""

import argparse
import pathlib
import tempfile

import jax
import lpips
import numpy as np
import torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from benchmarks import seeded
from dpconv_jax.models import inception, vgg16
from dpconv_jax.models import lpips as ours
from dpconv_jax.weights import inception as inception_file
from dpconv_jax.weights import lpips as lpips_file
from dpconv_jax.weights import vgg16 as vgg16_file

SIZES = ((64, 48), (299, 299), (400, 533))


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
    for a, b in (seeded.pair(*size) for size in SIZES):
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
    compare_lpips(seeded.trunk(), heads=seeded.heads())
    print("LPIPS, seeded trunk, published heads")
    compare_lpips(seeded.trunk(), heads=None)
    if options.vgg16:
        print(f"LPIPS, trunk {options.vgg16}, published heads")
        compare_lpips(vgg16_file.load(options.vgg16), heads=None)
    with tempfile.TemporaryDirectory() as place:
        random = pathlib.Path(place) / "seeded.pth"
        torch.save({name: torch.from_numpy(array) for name, array in seeded.inception().items()}, random)
        for file in filter(None, (random, options.inception)):
            print(f"Inception-v3, {file.name}")
            compare_inception(file)


if __name__ == "__main__":
    main()
