"""The weights that come with the package: what its card says of them, and what they do where no others are named."""

import hashlib
import re

import numpy as np
import pytest
from PIL import Image

from dpconv_jax import cli, inpaint
from dpconv_jax.baselines.classical import mean_fill
from dpconv_jax.data.synthetic import painting
from dpconv_jax.weights import model_file

CARD = model_file.STARTER.with_name("README.md")


def test_the_card_is_of_this_file():
    content = model_file.STARTER.read_bytes()
    assert len(content) <= 8 * 2**20
    assert f"`{hashlib.sha256(content).hexdigest()}`" in CARD.read_text()
    _, metadata = model_file.read(model_file.STARTER)
    assert str(metadata) in CARD.read_text() and f"{metadata.size} x {metadata.size}" in CARD.read_text()


@pytest.mark.parametrize("size", [128, 200])
def test_without_a_checkpoint_they_fill_better_than_a_flat_colour(size, tmp_path, capsys):
    photo, _, _ = painting.draw(np.random.default_rng(0), size=size)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    hole = np.zeros((size, size), bool)
    hole[size // 4 : size // 2, size // 3 : size // 2] = True
    box = f"{size // 3},{size // 4},{size // 2},{size // 2}"
    flags = [f"--image={tmp_path / 'photo.png'}", f"--box={box}", f"--out={tmp_path / 'clean.png'}"]
    assert cli.run(inpaint.main, flags) == 0
    assert re.search(
        r"no --checkpoint: using the starter weights .*dpconv prefilled in the order of the released code, step",
        capsys.readouterr().out,
    )
    clean = np.asarray(Image.open(tmp_path / "clean.png"))
    np.testing.assert_array_equal(clean[~hole], photo[~hole])
    flat = mean_fill(photo / 255, ~hole[..., None])
    ours, theirs = (np.abs(filled - photo / 255)[hole].mean() for filled in (clean / 255, flat))
    assert ours < 0.8 * theirs
