"""A photo of 24 megapixels through the command and a network of full width: memory, and what may change."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw
from toy import weight_file

ROOT = pathlib.Path(__file__).resolve().parents[1]
WIDTH, HEIGHT = 6000, 4000
MEMORY = 4 * 2**30  # bytes


@pytest.mark.slow
def test_a_photo_of_24_megapixels_in_four_gibibytes(tmp_path):
    weights = weight_file(tmp_path / "full.safetensors", width=1.0, dilations=(2, 4, 8, 2), size=256)
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    image = np.stack([(rows // 3 + columns // step) % 256 for step in (5, 7, 11)], axis=2).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "photo.png", compress_level=1)
    mask = Image.new("1", (WIDTH, HEIGHT))
    ImageDraw.Draw(mask).line([(100, 300), (5800, 2100), (4000, 3900)], fill=1, width=40)
    ImageDraw.Draw(mask).ellipse((900, 2200, 2300, 3600), fill=1)
    mask.save(tmp_path / "mask.png")

    command = [sys.executable, "-m", "dpconv_jax.inpaint", f"--checkpoint={weights}", "--mask_hole=white"]
    command += [f"--{name}={tmp_path / file}" for name, file in (("image", "photo.png"), ("mask", "mask.png"))]
    process = subprocess.Popen([*command, f"--out={tmp_path / 'out.png'}"], cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    assert usage.ru_maxrss * 1024 <= MEMORY

    hole = np.asarray(mask)
    changed = (np.asarray(Image.open(tmp_path / "out.png")) != image).any(axis=2)
    assert not (changed & ~hole).any()
    assert changed[hole].mean() > 0.9
    print(f"peak {usage.ru_maxrss / 2**20:.2f} GiB")
