"""One process with one device, one with four, and two with two each: the same batches, gradients and training."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from toy import twenty_photos

ROOT = pathlib.Path(__file__).resolve().parents[1]


def trained(optimizer: str, photos: pathlib.Path, out: pathlib.Path, *, processes: int, devices: int) -> dict:
    """What toy_steps.py writes with so many processes of so many devices each."""
    words = [
        "bash",
        ROOT / "launch" / "local.sh",
        str(processes),
        "--",
        sys.executable,
        ROOT / "tests" / "toy_steps.py",
    ]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)}
    done = subprocess.run([*words, optimizer, photos, out], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with np.load(out) as file:
        return dict(file)


def apart(params: np.ndarray, others: np.ndarray) -> float:
    """Their distance, relative to the others."""
    return float(np.linalg.norm(params - others) / np.linalg.norm(others))


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "tolerance"), [("sgd", 1e-4), ("adam", 1e-2)])
def test_devices_and_processes_train_alike(optimizer, tolerance, tmp_path):
    """Gradients are means over the global batch and so are the statistics of BatchNorm, however it is divided."""
    (tmp_path / "photos").mkdir()
    photos = twenty_photos(tmp_path / "photos")
    one = trained(optimizer, photos, tmp_path / "one.npz", processes=1, devices=1)
    assert apart(one["params"], one["initial"]) > 10 * tolerance  # there was something to differ in
    for processes, devices in ((1, 4), (2, 2)):
        other = trained(optimizer, photos, tmp_path / "other.npz", processes=processes, devices=devices)
        assert other["devices"] == 4 and other["batch"] == one["batch"]
        for name in ("total", "gradient_norm", "discriminator_gradient_norm"):
            assert other[name][0] == pytest.approx(one[name][0], rel=1e-5)
            assert other[name][-1] == pytest.approx(one[name][-1], rel=tolerance)
        difference = apart(other["params"], one["params"])
        print(f"{optimizer}, {processes} x {devices}: parameters {difference:.1e} apart after 20 steps")
        assert difference < tolerance
