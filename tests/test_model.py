"""What `dpconv_jax.load` gives: images and masks of every kind, filled where there are holes and nowhere else."""

import dataclasses

import numpy as np
import pytest
from flax import nnx
from PIL import Image
from toy import weight_file

import dpconv_jax
from dpconv_jax import UsageError
from dpconv_jax.inpainting.model import Model
from dpconv_jax.weights import model_file

SIDE = 64


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return dpconv_jax.load(weight_file(tmp_path_factory.mktemp("weights") / "model.safetensors", size=SIDE))


def photo(*, height: int = SIDE, width: int = SIDE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def mask(*, height: int = SIDE, width: int = SIDE) -> np.ndarray:
    """bool, a hole of a quarter."""
    valid = np.ones((height, width), bool)
    valid[height // 4 : height // 4 + height // 2, width // 4 : width // 4 + width // 2] = False
    return valid


def test_at_the_size_of_its_training_the_fill_is_what_the_generator_gives(model):
    image, valid = photo()[None] / np.float32(255), mask()[None, ..., None].astype(np.float32)
    output, _ = model.generator(model.convention.prepare(image, valid), valid)
    composite = np.where(valid > 0, image, output)
    np.testing.assert_allclose(model(image, valid, texture=False), composite, atol=1e-5)
    np.testing.assert_allclose(model.output(image[0], valid[0]), output[0], atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(64, 40), (8, 64), (56, 48)])
def test_padding_moves_nothing(model, height, width):
    """Sides that are multiples of the stride and not those of the training."""
    image = photo(height=height, width=width)[None] / np.float32(255)
    valid = mask(height=height, width=width)[None, ..., None].astype(np.float32)
    output, _ = model.generator(model.convention.prepare(image, valid), valid)
    composite = np.where(valid > 0, image, output)
    np.testing.assert_allclose(model(image, valid, texture=False), composite, atol=1e-5)


def test_reflection_up_to_the_stride_moves_little(model):
    """Of a photo that goes on as its reflection would, seven rows and columns are cut off."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    waves = [np.cos((rows - 56) / 9) * np.cos((columns - 56) / (7 + c)) for c in range(3)]
    image, valid = 0.5 + 0.4 * np.stack(waves, axis=2).astype(np.float32), mask()
    cut = model.output(image[:57, :57], valid[:57, :57])
    assert np.abs(cut - model.output(image, valid)[:57, :57]).mean() <= 1 / 255


def test_every_kind_of_image_comes_back_as_it_was_given(model):
    image, valid = photo(), mask()
    filled = model(image, valid)
    assert filled.dtype == np.uint8 and (filled[valid] == image[valid]).all() and (filled != image)[~valid].mean() > 0.9

    floats = model(image / 255, valid[..., None].astype(np.uint8) * 255)
    assert floats.dtype == np.float32 and (floats[valid] == (image / 255).astype(np.float32)[valid]).all()
    np.testing.assert_allclose(floats, filled / 255, atol=0.51 / 255)

    picture = model(Image.fromarray(image), Image.fromarray(valid))
    assert isinstance(picture, Image.Image)
    np.testing.assert_array_equal(picture, filled)

    batch = model(np.stack([image, image]), np.stack([valid, valid]))
    assert batch.shape == (2, SIDE, SIDE, 3) and batch.dtype == np.uint8
    assert np.abs(batch.astype(int) - filled).max() <= 1

    several = model([Image.fromarray(image), photo(height=40, width=90)], [valid, mask(height=40, width=90)])
    assert isinstance(several[0], Image.Image) and several[1].shape == (40, 90, 3)


def test_what_lies_in_a_hole_is_never_read(model):
    image, valid = photo() / np.float32(255), mask()
    other = image.copy()
    other[~valid] = np.nan
    np.testing.assert_array_equal(model(image, valid)[~valid], model(other, valid)[~valid])
    np.testing.assert_array_equal(model(image, np.ones_like(valid)), image)


def test_a_larger_photo_is_seen_at_the_size_of_the_training(model, monkeypatch):
    """So also by a network that takes no more: at 64 x 64 a dilation of 8 reaches the side of its map."""
    metadata = dataclasses.replace(model.metadata, options=model.metadata.options | {"dilations": (2, 4, 8, 2)})
    limited = dataclasses.replace(model, graph=nnx.graphdef(model_file.build(metadata)), metadata=metadata)
    assert limited.largest == SIDE
    seen, generate = [], Model.generator
    monkeypatch.setattr(
        Model, "generator", lambda *args, **options: seen.append(args[1].shape) or generate(*args, **options)
    )
    image, valid = photo(height=230, width=190), mask(height=230, width=190)
    filled = limited(image, valid)
    assert (filled[valid] == image[valid]).all() and (filled != image)[~valid].any()
    assert seen == [(1, SIDE, SIDE, 3)]


def test_the_texture_is_that_of_the_photo(model):
    """The network's fill is smooth here, the photo is noise; the same call gives the same fill."""
    image, valid = photo(height=120, width=100) // 4 + 96, mask(height=120, width=100)
    filled, smooth = model(image, valid), model(image, valid, texture=False)
    np.testing.assert_array_equal(model(image, valid), filled)
    for result in (filled, smooth):
        assert (result[valid] == image[valid]).all()

    def roughness(pixels: np.ndarray) -> float:
        inner = pixels[32:88, 27:73].astype(float)
        return np.abs(np.diff(inner, axis=0)).mean()

    assert roughness(smooth) < 0.6 * roughness(image) < 0.8 * roughness(filled)


def test_variants_differ_and_each_changes_only_the_hole(model):
    image, valid = photo(height=120, width=100) // 4 + 96, mask(height=120, width=100)
    variants = model(image, valid, variants=4)
    assert len(variants) == 4 and len({each.tobytes() for each in variants}) == 4
    assert all((each[valid] == image[valid]).all() for each in variants)
    assert any((each == model(image, valid)).all() for each in variants)  # what the network leads is one of them
    (pictures,) = model([Image.fromarray(image)], [valid], variants=1)
    np.testing.assert_array_equal(pictures[0], model(image, valid))
    for wrong in ({"variants": 0}, {"variants": 2, "texture": False}):
        with pytest.raises(UsageError, match="variants is"):
            model(image, valid, **wrong)


def test_holes_far_from_each_other_are_filled_as_if_alone(model):
    image, first, second = photo(height=300, width=280), np.ones((300, 280), bool), np.ones((300, 280), bool)
    first[20:40, 30:60], second[250:280, 200:230] = False, False
    both = model(image, first & second)
    np.testing.assert_array_equal(both, np.where(first[..., None], model(image, second), model(image, first)))


@pytest.mark.parametrize(
    ("image", "valid", "rule"),
    [
        (photo(), mask()[:32], r"\(32, 64\).*must agree"),
        (photo(), photo(), "must agree"),
        (photo()[..., 0], mask(), r"must be \(H, W, 3\)"),
        (photo().astype(np.int32), mask(), "int32; it must be uint8"),
        (photo().astype(np.float32), mask(), "must lie in"),
        (np.full((SIDE, SIDE, 3), np.nan, np.float32), mask(), "must lie in"),
        (photo(), mask() * np.uint8(200), "soft"),
        (photo(), mask() * 0.5, "soft"),
        (photo(), mask() & False, "no valid pixel"),
        (Image.fromarray(photo()).convert("L"), mask(), "mode L; convert it to RGB"),
        (photo()[None], mask(), "a mask each"),
        ([photo()], [mask(), mask()], "1 images need as many masks, not 2"),
    ],
)
def test_what_cannot_be_filled_is_refused(model, image, valid, rule):
    with pytest.raises(UsageError, match=rule):
        model(image, valid)
