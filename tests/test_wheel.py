"""The wheel by itself: it trains in an empty folder, by the recipe that it holds."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from test_main import tiny

ROOT = pathlib.Path(__file__).resolve().parents[1]


def run(*words: str | pathlib.Path, cwd: pathlib.Path, **environment: str) -> str:
    """What a Python command prints, that has to succeed."""
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_wheel_trains_in_an_empty_folder(tmp_path):
    wheels, site, photos, empty = (tmp_path / name for name in ("wheels", "site", "photos", "empty"))
    empty.mkdir()
    photos.mkdir()
    for index in range(12):
        Image.fromarray(np.full((40, 40, 3), 20 * index, np.uint8)).save(photos / f"{index}.png")
    run("-m", "hatchling", "build", "--target=wheel", f"--directory={wheels}", cwd=ROOT)
    (wheel,) = wheels.iterdir()
    run("-m", "pip", "install", "--quiet", "--no-index", "--no-deps", f"--target={site}", wheel, cwd=tmp_path)
    where = run("-c", "import dpconv_jax; print(dpconv_jax.__file__)", cwd=empty, PYTHONPATH=str(site))
    assert pathlib.Path(where.strip()).is_relative_to(site)
    flags = [*tiny(photos), "--config.train.steps=2", "--workdir=run"]
    said = run("-m", "dpconv_jax.main", *flags, cwd=empty, PYTHONPATH=str(site))
    assert "configs/dpconv.py is not here: the recipe of that name in the package is taken" in said
    assert [path.name for path in empty.iterdir()] == ["run"] and (empty / "run" / "report.md").is_file()
