"""The study of learning: curves by hand, the command over trainings of a toy, and the flags of a config."""

import csv
import json
import pathlib

import numpy as np
import pytest
from PIL import Image
from toy import SIZE, Toy

from dpconv_jax import cli
from dpconv_jax.errors import UsageError
from dpconv_jax.models import GENERATORS
from dpconv_jax.signals import Stop
from dpconv_jax.study import learning
from dpconv_jax.training import report, train, workdir
from dpconv_jax.training.experiment import Experiment

TABLE = str(pathlib.Path(__file__).resolve().parents[1] / "configs" / "table1.py")


def curve(method: str, l1: list[float], *, pace: float, seed: int = 0) -> learning.Curve:
    """A validation every 10 steps, `pace` seconds a step."""
    steps = 10.0 * np.arange(1, len(l1) + 1)
    return learning.Curve(method, seed, steps, pace * steps, np.array(l1, float))


FAST, SLOW = curve("dpconv", [8, 4, 3, 3.5], pace=2), curve("pconv", [10, 9, 8, 5], pace=1)


def test_when_a_curve_reaches_the_others_end():
    # 5 lies three quarters of the way from 8 at step 10 to 4 at step 20.
    assert learning.reached(FAST, SLOW) == ("dpconv", 0, 5.0, 17.5, 17.5 / 40, 35.0, 35 / 40)
    never = learning.reached(SLOW, FAST)
    assert never[:3] == ("pconv", 0, 3.5) and np.isnan(never[3:]).all()
    at_once = learning.reached(curve("dpconv", [4, 3], pace=2), SLOW)
    assert (at_once.steps, at_once.seconds) == (10, 20)  # its first validation
    assert learning.reached(SLOW, SLOW).steps_ratio == 1


def test_a_bump_after_the_target_does_not_matter():
    assert learning.reached(curve("dpconv", [6, 5, 9, 1], pace=1), SLOW).steps == 20


def test_pairs_are_of_one_seed():
    others = [curve("dpconv", [2, 2], pace=1, seed=1), curve("pconv", [6, 1], pace=1, seed=1)]
    found = learning.compared([FAST, SLOW, *others])
    assert [(each.method, each.seed, each.target) for each in found] == [
        ("dpconv", 0, 5), ("pconv", 0, 3.5), ("dpconv", 1, 1), ("pconv", 1, 2)
    ]  # fmt: skip


def test_the_mean_curve_is_of_the_steps_that_all_have():
    sparse = learning.Curve("dpconv", 1, np.array([20.0, 40.0]), np.array([10.0, 20.0]), np.array([6.0, 1.5]))
    mean = learning.mean_curve([FAST, sparse])
    assert [values.tolist() for values in mean[2:]] == [[20, 40], [25, 50], [5, 2.5]]


def test_the_summary_counts_seeds_and_leaves_the_others_out():
    other = [curve("dpconv", [9, 9], pace=1, seed=1), curve("pconv", [7, 6], pace=1, seed=1)]
    curves = [FAST, SLOW, *other]
    text = learning.markdown(curves, learning.compared(curves), command="a command", about="drawn by hand")
    assert "| DPConv | 6.250 [3.500, 9.000] | 40 | 50 [20, 80] |" in text
    assert "| DPConv reaches the final l1 of PConv | 1 of 2 | 0.44 [0.44, 0.44] | 0.88 [0.88, 0.88] |" in text
    assert "| PConv reaches the final l1 of DPConv | 1 of 2 | 0.50 [0.50, 0.50] | 0.50 [0.50, 0.50] |" in text
    assert learning.spread([np.nan, np.nan], 2) == "never"


def test_pconv_differs_from_dpconv_in_its_model_alone():
    config = cli.read_config([f"--config={TABLE}:clothing_small", "--config.seed=5"])
    ours, theirs = (learning.settings(config, method=method, seed=2) for method in ("dpconv", "pconv"))
    assert config.seed == 5 and ours.seed == theirs.seed == 7
    assert (
        ours.model.to_dict() == config.model.to_dict()
        and ours.data.name == "clothing_small"
        and ours.eval.baselines == ()
    )
    assert theirs.model.to_dict() == {"name": "pconv", "variant": "benchmark", "width": config.model.width}
    without = [{name: value for name, value in each.items() if name != "model"} for each in (ours, theirs)]
    assert without[0] == without[1]


# ---- the command ----


@pytest.fixture
def flags(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of the command, which takes one seed here."""
    monkeypatch.setattr(learning, "SEEDS", 1)
    fields = {
        "data.dir": tmp_path / "photos", "data.size": SIZE, "data.threads": 1, "loss.style": 0.0, "train.steps": 40,
        "train.batch_size": 4, "train.log_every": 10, "train.eval_every": 20, "train.image_every": 99,
        "eval.batch_size": 4, "eval.bootstrap": 10,
    }  # fmt: skip
    overrides = [f"--config.{name}={value}" for name, value in fields.items()]
    return [f"--config={TABLE}", "--config.datasets=('image_folder',)", *overrides, f"--workdir={tmp_path / 'runs'}"]


def test_the_command_trains_what_is_not_done_and_compares(flags, tmp_path, capsys, monkeypatch):
    runs, trained = tmp_path / "runs", []

    def fake(experiment: Experiment, folder: pathlib.Path, *, stop: Stop) -> None:
        """The log of a training."""
        config = experiment.config
        trained.append(folder.name)
        workdir.remember(config, folder, step=None)
        known = {"dpconv": FAST, "pconv": SLOW}[config.model.name]
        rows = []
        for i in range(len(known.steps)):
            rows.append({"step": known.steps[i], "train/seconds": known.seconds[i]})
            if i % 2:
                rows.append({"step": known.steps[i], "val/l1": known.l1[i]})
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    monkeypatch.setattr(train, "train", fake)
    assert cli.run(learning.main, flags) == 0
    assert trained == ["dpconv-0", "pconv-0"]
    assert (runs / "learning.csv").read_text().splitlines() == [
        "method,seed,step,seconds,val_l1_percent",
        *("dpconv,0,20,40.0,4.00000", "dpconv,0,40,80.0,3.50000"),
        *("pconv,0,20,20.0,9.00000", "pconv,0,40,40.0,5.00000"),
    ]
    text = (runs / "learning.md").read_text()
    assert f"image_folder, {SIZE} x {SIZE}, width 0.5, 1 seeds" in text and "--config.train.steps=40" in text
    assert "| DPConv reaches the final l1 of PConv | 1 of 1 | 0.50 [0.50, 0.50] | 1.00 [1.00, 1.00] |" in text
    with Image.open(runs / "learning.png") as picture:
        assert min(picture.size) > 300

    (runs / "learning.md").unlink()
    capsys.readouterr()
    assert cli.run(learning.main, flags) == 0
    assert (runs / "learning.md").read_text() == text
    assert capsys.readouterr().out.count("is done") == 2 and len(trained) == 2
    assert cli.run(learning.main, [*flags, "--config.optim.ema=0.5"]) == 2
    assert "optim.ema was 0.9, is 0.5" in capsys.readouterr().err
    learning.main([*flags, "--config.train.steps=60"])
    assert trained[2:] == ["dpconv-0", "pconv-0"]  # what is longer goes on


class Anything(Toy):
    """The toy under the fields of either network."""

    def __init__(self, *, variant, width, dilations=(), norm="", dropout=0.0, **options):
        super().__init__(dropout=dropout, **options)


@pytest.mark.slow
def test_the_command_over_real_trainings(flags, tmp_path, monkeypatch):
    for method in learning.NAMES:
        monkeypatch.setitem(GENERATORS, method, Anything)
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for index in range(8):
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(tmp_path / "photos" / f"{index}.png")
    assert cli.run(learning.main, flags) == 0
    lines = list(csv.DictReader((tmp_path / "runs" / "learning.csv").read_text().splitlines()))
    assert [(line["method"], line["step"]) for line in lines] == [
        ("dpconv", "20"), ("dpconv", "40"), ("pconv", "20"), ("pconv", "40")
    ]  # fmt: skip
    logged = report.read_curves(tmp_path / "runs" / "pconv-0" / "metrics.jsonl")
    assert [float(line["val_l1_percent"]) for line in lines[2:]] == pytest.approx(logged["val/l1"][1], abs=1e-4)
    assert float(lines[3]["seconds"]) == pytest.approx(logged["train/seconds"][1][-1], abs=0.1)


def test_a_log_without_validation_is_refused(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "train/seconds": 0.5}\n')
    with pytest.raises(UsageError, match="has no validation l1"):
        learning.read(tmp_path, method="dpconv", seed=0)


def test_a_config_with_its_fields():
    config = cli.read_config(["--config", f"{TABLE}:clothing_small", "--config.train.steps", "7"])
    assert (config.train.steps, config.data.size) == (7, 64)
    config = cli.read_config([f"--config={TABLE}", "--config.model.dilations=(1, 1, 1, 1)", "--noconfig.data.flip"])
    assert (config.train.steps, config.model.dilations, config.data.flip) == (60, (1, 1, 1, 1), False)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--config must have a value"),
        (["--config=configs/none.py"], "No such file or directory: 'configs/none.py'"),
        (
            [f"--config={TABLE}:mnist"],
            "no variant 'mnist' of configs/table1.py; known: clothing_small, starter, paper",
        ),
        ([f"--config={TABLE}", "--config.train.stepz=3"], "stepz"),
        ([f"--config={TABLE}", "--config.train.steps=many"], "many"),
        ([f"--config={TABLE}", "--stepz=3"], "stepz"),
        ([f"--config={TABLE}", "evaluate"], "'evaluate' is no flag"),
        (["--config.seed=1", f"--config={TABLE}"], "before a value for --config"),
        ([f"--config={TABLE.replace('table1', 'dpconv')}"], "no recipe of dpconv; it is that of a table"),
    ],
)
def test_mistakes_in_flags(flags: list[str], message: str, tmp_path, capsys):
    assert cli.run(learning.main, [*flags, f"--workdir={tmp_path}"]) == 2
    errors = capsys.readouterr().err
    assert message in errors and errors.count("\n") == 1 and "Traceback" not in errors
    assert not [*tmp_path.iterdir()]
