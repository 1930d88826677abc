"""Fixtures of all tests: four simulated devices, a compilation cache, and the two data sets that lie outside the tree."""

import os
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[1]

# Before anything imports jax, and in the environment so that processes started by tests share both.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")

import jax
import matplotlib
import pytest

jax.config.update("jax_num_cpu_devices", 4)  # this process only: a started process sees the one device of a laptop
matplotlib.use("Agg")


def outside_data(variable: str, default: str) -> pathlib.Path:
    """Where the data lie: $VARIABLE, else a folder beside the checkout. Absence skips, but fails where CI is set."""
    path = pathlib.Path(os.environ.get(variable) or ROOT.parent / "shared" / "data" / default)
    if not path.exists():
        reason = f"{path} does not exist; set {variable}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@pytest.fixture(scope="session")
def clothing() -> pathlib.Path:
    """The checkout of clothing-dataset-small: folders train and validation, one folder of JPEGs a class."""
    return outside_data("CLOTHING", "clothing-dataset-small")


@pytest.fixture(scope="session")
def vgg16_npz() -> pathlib.Path:
    """The ImageNet weights of VGG-16, an .npz of float16 arrays."""
    return outside_data("VGG16", "vgg16/vgg16_imagenet_f16.npz")
