"""Of all tests: four simulated devices, a compilation cache, no skips in CI, the same examples every time, and two
inputs from outside the tree."""

import os
import pathlib
from collections.abc import Generator

ROOT = pathlib.Path(__file__).resolve().parents[1]

# Before jax is imported, and in the environment so that processes started by tests inherit them.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")

import jax
import matplotlib
import pytest
from hypothesis import settings

jax.config.update("jax_num_cpu_devices", 4)  # in this process only: one that a test starts has one device
matplotlib.use("Agg")
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where CI is set, a skipped test is a failed one."""
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome, report.longrepr = "failed", f"skipped, and CI is set: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Where CI is set, a skipped module is a failed one."""
    report = yield
    if os.environ.get("CI") and report.skipped:
        report.outcome, report.longrepr = "failed", f"skipped, and CI is set: {report.longrepr}"
    return report


def _outside(variable: str, default: str) -> pathlib.Path:
    path = pathlib.Path(os.environ.get(variable) or ROOT.parent / "shared" / "data" / default)
    if not path.exists():
        pytest.skip(f"{path} does not exist; set {variable}")
    return path


@pytest.fixture(scope="session")
def clothing() -> pathlib.Path:
    """$CLOTHING, a checkout of clothing-dataset-small: train/CLASS/*.jpg and validation/CLASS/*.jpg."""
    return _outside("CLOTHING", "clothing-dataset-small")


@pytest.fixture(scope="session")
def vgg16_npz() -> pathlib.Path:
    """$VGG16, ImageNet weights of VGG-16: an .npz of float16 arrays `conv1_1/kernel` …, Keras' preprocessing."""
    return _outside("VGG16", "vgg16/vgg16_imagenet_f16.npz")
