"""Ablation 2: layers until the mask is full, against binary dilation by SciPy, and what the command writes of them."""

import csv

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from scipy import ndimage
from scipy.signal import savgol_filter

from dpconv_jax import cli, masks
from dpconv_jax.errors import UsageError
from dpconv_jax.study.mask_update import __main__ as mask_update
from dpconv_jax.study.mask_update import charts, counting
from dpconv_jax.study.published import FIG_6A

Geometry = tuple[int, int, int, int]  # kernel side, dilation, stride, what is cut off each side
STACKS: dict[str, list[Geometry]] = {
    "pconv_9x9": [(9, 1, 1, 4)] * 19,
    "dpconv_5x5_d4": [(5, 4, 1, 4)] * 19,
    **{f"{side}x{side}_d{rate}": [(side, rate, 1, 0)] * 20 for side in (3, 5) for rate in (1, 2, 4, 8)},
    "encoder_pconv": [(7, 1, 2, 0), (5, 1, 2, 0), (5, 1, 1, 0), (5, 1, 2, 0), (3, 1, 2, 0)],
    "encoder_pconv_liu2018": [(7, 1, 2, 0), (5, 1, 2, 0), (5, 1, 2, 0), *[(3, 1, 2, 0)] * 4],
    "encoder_dpconv": [
        *[(7, 1, 2, 0), (5, 1, 2, 0), (5, 1, 1, 0), (5, 1, 2, 0)],
        *[(3, rate, 1, 0) for rate in (2, 4, 8, 2)],
    ],
}


def dilated(mask: np.ndarray, layers: list[Geometry]) -> int:
    """Layers until a mask (H, W, 1) is full; 0: never."""
    valid = mask[..., 0] == 1
    for number, (side, dilation, stride, cut) in enumerate(layers, start=1):
        taps = np.zeros((dilation * (side - 1) + 1,) * 2, bool)
        taps[::dilation, ::dilation] = True
        valid = ndimage.binary_dilation(valid, taps)
        valid = valid[cut : len(valid) - cut, cut : len(valid) - cut][::stride, ::stride]
        if valid.all():
            return number
    return 0


@pytest.fixture(scope="module")
def compared():
    return counting.comparisons()


@pytest.fixture(scope="module")
def fifty():
    """Eight masks or more of each range, of all presets."""
    presets = ("qd_imd", "thick", "blobs", "thin", "boxes")
    every = [[*counting.drawn(preset, each=2, seed=7)] for preset in presets]
    found = [mask for pair in range(6) for some in every for mask in some[2 * pair : 2 * pair + 2]][:50]
    assert len(found) == 50
    return found


def test_every_count_is_that_of_binary_dilation(compared, fifty):
    found = counting.measure(fifty, compared)
    assert [*found.layers] == [*STACKS]
    np.testing.assert_allclose(found.ratios, [np.mean(mask == 0) for mask in fifty])
    for name, layers in STACKS.items():
        assert found.layers[name].tolist() == [dilated(mask, layers) for mask in fifty], name
    assert (found.layers["3x3_d1"] == 0).any() and (found.layers["encoder_pconv"] == 0).any()


def test_a_hole_by_hand(compared):
    """40 pixels wide: a 9x9 layer fills four from each side, and 5 layers that; nothing fills what is all hole."""
    mask = np.ones((2, 256, 256, 1), np.uint8)
    mask[0, 100:140, 30:200] = 0
    mask[1] = 0
    found = counting.measure(mask, compared[:1])
    assert {name: layers.tolist() for name, layers in found.layers.items()} == {
        "pconv_9x9": [5, 0],
        "dpconv_5x5_d4": [3, 0],
    }


@pytest.mark.parametrize(("depth", "of_19", "of_20"), [(19, 19, 19), (20, 0, 20)])
def test_the_published_pair_stops_after_19_layers_and_the_others_after_20(compared, depth, of_19, of_20):
    """A strip from side to side: a 9x9 layer closes 4 pixels from each edge of it, a 3x3 layer of dilation 4 too."""
    mask = np.ones((1, 256, 256, 1), np.uint8)
    mask[0, 128 - 4 * depth : 128 + 4 * depth] = 0
    found = counting.measure(mask, compared[:2])
    assert found.layers["pconv_9x9"].tolist() == [of_19]
    assert found.layers["3x3_d4"].tolist() == [of_20]


# ---- which masks ----


def test_ranges_are_tenths_in_whole_pixels():
    def of(holes: int) -> int | None:
        mask = np.ones(1000, np.uint8)
        mask[:holes] = 0
        return counting.range_of(mask.reshape(10, 100, 1))

    assert [of(holes) for holes in (0, 1, 100, 101, 300, 301, 600, 601, 1000)] == [None, 0, 0, 1, 2, 3, 5, None, None]


def test_as_many_masks_in_each_range():
    drawn = [*counting.drawn("boxes", each=3, seed=1)]
    assert [counting.range_of(mask) for mask in drawn] == np.repeat(range(6), 3).tolist()
    again = [*counting.drawn("boxes", each=3, seed=1)]
    assert np.array_equal(drawn, again) and not np.array_equal(drawn, [*counting.drawn("boxes", each=3, seed=2)])


@pytest.fixture
def folder(tmp_path):
    """White holes of 5, 15, ..., 65 % in files of 512 x 512, the first range twice."""
    (tmp_path / "masks").mkdir()
    for number, percent in enumerate((5, 5, 15, 25, 35, 45, 55, 65)):
        hole = np.zeros((512, 512), np.uint8)
        hole[:, : 512 * percent // 100] = 255
        Image.fromarray(hole).save(tmp_path / "masks" / f"{number}.png")
    return tmp_path / "masks"


def test_files_at_most_once_and_no_more_than_asked_for(folder):
    files = masks.MaskFiles(folder, hole="white")
    for each, expected in {1: [0, 1, 2, 3, 4, 5], 2: [0, 0, 1, 2, 3, 4, 5]}.items():
        read = [*counting.read(files, each=each, seed=0)]
        assert [counting.range_of(mask) for mask in read] == expected
    assert read[0].shape == (256, 256, 1) and {*np.unique(read[0])} == {0, 1}


# ---- figures and tables ----


@pytest.fixture
def two_full(compared):
    """Two masks a range: PConv leaves one of the last range; DPConv takes half of PConv's layers."""
    ratios = np.repeat(np.arange(6) / 10 + 0.05, 2)
    plain = np.array([2, 4] * 5 + [8, 0])
    layers = dict.fromkeys(STACKS, np.ones(12, np.int64))
    return counting.Filling(ratios, layers | {"pconv_9x9": plain, "dpconv_5x5_d4": plain // 2})


def test_means_are_over_those_that_become_full_and_the_others_are_counted(compared, two_full):
    plain, dilated = compared[0].series
    assert charts.means(two_full, plain).tolist() == [3, 3, 3, 3, 3, 8]
    assert charts.unfilled(two_full, plain).tolist() == [0, 0, 0, 0, 0, 0.5]
    assert charts.means(two_full, dilated).tolist() == [1.5, 1.5, 1.5, 1.5, 1.5, 4]
    text = mask_update.text(two_full, compared, source="preset toy", command="toy")
    assert "| PConv, 9x9: layers | 3.00 | 3.00 | 3.00 | 3.00 | 3.00 | 8.00 | 3.83 |" in text
    assert "| PConv, 9x9: never full, % | 0.0 | 0.0 | 0.0 | 0.0 | 0.0 | 50.0 | 8.3 |" in text
    assert "| **DPConv / PConv** | 0.50 | 0.50 | 0.50 | 0.50 | 0.50 | 0.50 | 0.50 |" in text
    assert "is full 1.92 layers earlier, 50 % fewer" in text


def test_the_printed_figure_has_the_papers_mean_gap():
    gap = np.subtract(FIG_6A["PConv"], FIG_6A["DPConv"]).mean()
    assert gap == pytest.approx(2.09, abs=0.005)


def test_smoothing():
    values = np.random.default_rng(0).random(40)
    assert np.array_equal(charts.smooth(values, window=8), savgol_filter(values, 9, 2))
    assert np.array_equal(charts.smooth(values[:6], window=8), savgol_filter(values[:6], 5, 2))
    assert np.array_equal(charts.smooth(values[:2], window=8), values[:2])


def test_bars_and_curves_show_the_numbers(compared, two_full):
    for comparison in compared:
        for draw in (charts.bars, charts.curves):
            figure = draw(two_full, comparison)
            assert isinstance(figure, Figure)
            assert len(figure.axes) == len(comparison.panels) * (2 if comparison.name == "published" else 1)
    layers, left = charts.bars(two_full, compared[0]).axes
    assert [bar.get_height() for bar in layers.patches] == [3, 3, 3, 3, 3, 8, 1.5, 1.5, 1.5, 1.5, 1.5, 4]
    assert [bar.get_height() for bar in left.patches][5] == 50
    assert [tuple(line.get_ydata()) for line in layers.lines] == [FIG_6A["PConv"], FIG_6A["DPConv"]]


# ---- the command ----


def test_the_command_writes_all_and_again(folder, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = [f"--mask_dir={folder}", "--mask_hole=white", "--masks=12", f"--out={out}"]
    assert mask_update.main(arguments) == 0
    assert "| **DPConv / PConv** |" in capsys.readouterr().out
    parts = [f"{name}{part}.png" for name in ("fig6", "like_for_like_", "encoders_") for part in "ab"]
    assert {path.name for path in out.iterdir()} == {"README.md", "mask_update.csv", "summary.csv", *parts}
    with (out / "mask_update.csv").open() as stream:
        rows = [*csv.DictReader(stream)]
    assert [*rows[0]] == ["ratio", *STACKS] and len(rows) == 7
    assert [round(float(row["ratio"]), 2) for row in rows] == [0.05, 0.05, 0.15, 0.25, 0.35, 0.45, 0.55]
    assert rows[-1]["3x3_d1"] == ""  # 141 pixels deep
    with (out / "summary.csv").open() as stream:
        summary = [*csv.DictReader(stream)]
    assert len(summary) == 6 * len(STACKS) and [row["masks"] for row in summary[:6]] == ["2", "1", "1", "1", "1", "1"]
    text = (out / "README.md").read_text()
    assert "7 masks (2, 1, 1, 1, 1, 1 in the ranges)" in text and "of the files of masks" in text
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    (out / "mask_update.csv").unlink()  # as in docs/results, which keeps no row of every mask
    assert mask_update.main(arguments) == 0
    assert before == {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--masks=100"], "multiple of 6"),
        (["--masks=0"], "multiple of 6"),
        (["--seed=-1"], "at least 0"),
        (["--preset=clouds"], "clouds"),
        (["--preset=thick", "--mask_dir=x"], "not allowed with"),
        (["--mask_hole=white"], "--mask_dir"),
        (["--mask_dir=nowhere", "--mask_hole=white"], "does not exist"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(arguments, words, tmp_path, capsys):
    assert cli.run(mask_update.main, [*arguments, f"--out={tmp_path / 'out'}"]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_what_the_user_has_is_kept(tmp_path):
    for name in ("README.md", "summary.csv"):
        (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match="holds other files"):
        mask_update.main([f"--out={tmp_path}"])
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"README.md": "mine", "summary.csv": "mine"}


def test_a_folder_without_such_masks(tmp_path):
    (tmp_path / "full").mkdir()
    Image.new("L", (64, 64), 255).save(tmp_path / "full" / "a.png")
    with pytest.raises(UsageError, match="no mask has a hole ratio"):
        mask_update.main([f"--mask_dir={tmp_path / 'full'}", "--mask_hole=white", f"--out={tmp_path / 'out'}"])
