"""The embedded dataset: its pictures, and a small build read back through TFDS."""

import io

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image, ImageDraw

from dpconv_jax.data.synthetic import dataset, fabrics, painting

INDICES = range(24)


@pytest.fixture(scope="module")
def drawn() -> list[tuple[np.ndarray, np.ndarray, str]]:
    return [painting.draw(np.random.default_rng([3, index])) for index in INDICES]


def test_a_seed_gives_one_picture_and_another_seed_another(drawn):
    rgb, region, category = painting.draw(np.random.default_rng([3, 5]))
    np.testing.assert_array_equal(rgb, drawn[5][0])
    np.testing.assert_array_equal(region, drawn[5][1])
    assert category == drawn[5][2]
    assert not np.array_equal(drawn[5][0], painting.draw(np.random.default_rng([4, 5]))[0])


def test_every_category_occurs(drawn):
    assert {category for _, _, category in drawn} == set(painting.GARMENTS)


def test_the_region_is_one_connected_garment_of_sensible_size(drawn):
    for rgb, region, _ in drawn:
        assert rgb.shape == (256, 256, 3) and rgb.dtype == np.uint8
        assert region.shape == (256, 256) and set(np.unique(region)) == {0, 1}
        assert 0.1 <= region.mean() <= 0.8
        rows, columns = np.nonzero(region)
        start = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
        flood = Image.fromarray(region).copy()
        ImageDraw.floodfill(flood, (int(columns[start]), int(rows[start])), 2)
        assert (np.asarray(flood) == 2).sum() >= 0.97 * region.sum()


def test_the_picture_changes_at_the_region_border(drawn):
    """The region is where the garment was painted: its two sides differ far more than other neighbours."""
    for rgb, region, _ in drawn:
        grey = rgb.astype(float).mean(-1)
        step = np.abs(grey[:, 2:] - grey[:, :-2])
        border = region[:, 2:] != region[:, :-2]
        background = (region[:, 2:] == 0) & (region[:, :-2] == 0)
        assert step[border].mean() > 3 * step[background].mean()


def test_pictures_have_contrast_texture_and_no_clipping(drawn):
    for rgb, region, _ in drawn:
        assert rgb.std() > 8
        assert rgb[region == 1].std() > 4
        assert ((rgb == 0) | (rgb == 255)).mean() < 0.2
    means = np.array([rgb.mean((0, 1)) for rgb, _, _ in drawn])
    assert means.std(0).min() > 10  # the pictures differ from one another


def test_the_size_is_free():
    rgb, region, _ = painting.draw(np.random.default_rng(0), size=96)
    assert rgb.shape == (96, 96, 3) and region.shape == (96, 96)


@pytest.mark.parametrize("name", fabrics.PATTERNS)
def test_fabrics_stay_within_colour_and_have_a_pattern(name):
    rng = np.random.default_rng(1)
    base = fabrics.PALETTE[8]
    v, u = np.mgrid[0:60, -30:30].astype(np.float32)
    cloth = fabrics.PATTERNS[name](rng, base, fabrics.against(rng, base))(u, v)
    assert cloth.shape == (60, 60, 3)
    assert cloth.min() >= 0 and cloth.max() <= 1.25
    assert (cloth.std() > cloth.std((0, 1)).min()) and (name == "plain" or cloth.std((0, 1)).max() > 0.01)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_build_reads_back_what_was_drawn(tmp_path, monkeypatch, processes):
    monkeypatch.setattr(painting, "CHUNK", 2)
    config = dataset.GarmentsConfig(name="few", train=4, validation=2, seed=11, processes=processes)
    builder = dataset.SyntheticGarments(data_dir=tmp_path, file_format="array_record", config=config)
    builder.download_and_prepare()
    skip = {"image": tfds.decode.SkipDecoding(), "region": tfds.decode.SkipDecoding()}
    source = builder.as_data_source(split="train", decoders=skip)
    examples = {example["id"].decode(): example for example in (source[i] for i in range(len(source)))}
    assert sorted(examples) == [f"train-{i:05d}" for i in range(4)]
    assert len(builder.as_data_source(split="validation", decoders=skip)) == 2

    rgb, region, category = painting.draw(np.random.default_rng([11, 3]))
    example = examples["train-00003"]
    assert example["category"].decode() == category
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(example["region"]))), region == 1)
    read = np.asarray(Image.open(io.BytesIO(example["image"])), float)
    assert np.abs(read - rgb).mean() < 4
