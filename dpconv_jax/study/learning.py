"""Which learns faster: the paper's claim of a "faster learning process", DPConv against PConv of the same settings.

    python -m dpconv_jax.study.learning --config=configs/table1.py[:VARIANT] --workdir=DIR [--config.FIELD=VALUE]

Trains both on the first dataset of the table, from three seeds each, in DIR/<method>-<seed>/, and compares their
validation l1 step by step and second by second: DIR/learning.csv, .md and .png. A validation is a point of the curves:
--config.train.eval_every=100 makes more of them. The same command goes on after an interruption.
"""

import csv
import functools
import io
import pathlib
import shlex
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from dpconv_jax import cli, distributed
from dpconv_jax.errors import UsageError
from dpconv_jax.files import write_whole
from dpconv_jax.signals import Stop
from dpconv_jax.study.table1 import lineup
from dpconv_jax.study.table1.bars import colours
from dpconv_jax.study.table1.render import method_title
from dpconv_jax.training import report, train
from dpconv_jax.training.experiment import Experiment
from dpconv_jax.training.report import dress, png
from dpconv_jax.training.workdir import compare

NAMES = {method: method_title(method) for method in ("dpconv", "pconv")}
SEEDS = 3


class Curve(NamedTuple):
    """Validation l1 % of one training, after so many steps and seconds of training; arrays (N,), N >= 1.

    Seconds leave out what is not training: compilation, validation and pictures.
    """

    method: str
    seed: int
    steps: np.ndarray
    seconds: np.ndarray
    l1: np.ndarray


class Reached(NamedTuple):
    """When `method` came to the final l1 of the other method from the same seed, NaN where it never did.

    The ratios are to all the steps and seconds of the other.
    """

    method: str
    seed: int
    target: float
    steps: float
    steps_ratio: float
    seconds: float
    seconds_ratio: float


def settings(config: ConfigDict, *, method: str, seed: int) -> ConfigDict:
    """The config of one training under that of Table 1; UsageError where it has no recipe of the method."""
    if "recipes" not in config or method not in config.recipes:
        raise UsageError(f"--config has no recipe of {method}; it is that of a table, such as configs/table1.py")
    mine = lineup.settings(config, method=method, dataset=config.datasets[0])
    mine.seed += seed
    return mine


def learn(config: ConfigDict, folder: pathlib.Path, *, stop: Stop) -> None:
    """Trains in `folder` unless that is done, as its log says. Raises UsageError as `train.train` does."""
    steps, _ = report.read_curves(folder / "metrics.jsonl").get("val/l1", ((), ()))
    if distributed.agreed(len(steps) > 0 and steps[-1] == config.train.steps):
        compare(config, folder)
        print(f"{folder} is done", flush=True)
        return
    print(f"training in {folder}", flush=True)
    train.train(Experiment.of(config), folder, stop=stop)


def read(folder: pathlib.Path, *, method: str, seed: int) -> Curve:
    """The curve of a finished training; UsageError where its log has none."""
    curves = report.read_curves(folder / "metrics.jsonl")
    if not {"val/l1", "train/seconds"} <= curves.keys():
        raise UsageError(f"{folder / 'metrics.jsonl'} has no validation l1; delete the folder and run the same command")
    steps, l1 = curves["val/l1"]
    return Curve(method, seed, steps, np.interp(steps, *curves["train/seconds"]), l1)


def reached(curve: Curve, other: Curve) -> Reached:
    """When `curve` came to the final l1 of `other`, on straight lines between validations."""
    target = float(other.l1[-1])
    below = np.flatnonzero(curve.l1 <= target)
    steps = seconds = float("nan")
    if len(below):
        last = int(below[0])
        both = slice(max(0, last - 1), last + 1)
        place = np.interp(target, curve.l1[both][::-1], np.arange(last, last - len(curve.l1[both]), -1))
        steps, seconds = (float(np.interp(place, np.arange(len(curve.l1)), v)) for v in (curve.steps, curve.seconds))
    ratios = steps / float(other.steps[-1]), seconds / float(other.seconds[-1])
    return Reached(curve.method, curve.seed, target, steps, ratios[0], seconds, ratios[1])


def compared(curves: Sequence[Curve]) -> list[Reached]:
    """Both ways, seed by seed."""
    by_seed: dict[int, list[Curve]] = {}
    for curve in curves:
        by_seed.setdefault(curve.seed, []).append(curve)
    return [reached(one, other) for pair in by_seed.values() for one, other in (pair, pair[::-1])]


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Of one method's curves: means over seeds at the steps that all have."""
    steps = functools.reduce(np.intersect1d, [curve.steps for curve in curves])
    at = [np.searchsorted(curve.steps, steps) for curve in curves]
    seconds, l1 = (
        np.mean([getattr(curve, field)[places] for curve, places in zip(curves, at, strict=True)], axis=0)
        for field in ("seconds", "l1")
    )
    return Curve(curves[0].method, -1, steps, seconds, l1)


# ---- what is written ----


def spread(values: Sequence[float], digits: int) -> str:
    """Mean [least, largest] of those that are numbers."""
    known = [value for value in values if np.isfinite(value)]
    if not known:
        return "never"
    return f"{np.mean(known):.{digits}f} [{min(known):.{digits}f}, {max(known):.{digits}f}]"


def markdown(curves: Sequence[Curve], found: Sequence[Reached], *, command: str, about: str) -> str:
    """The summary."""
    finals = []
    for method, name in NAMES.items():
        mine = [curve for curve in curves if curve.method == method]
        l1 = spread([curve.l1[-1] for curve in mine], 3)
        finals.append(f"| {name} | {l1} | {mine[0].steps[-1]:,.0f} | {spread([c.seconds[-1] for c in mine], 0)} |")
    lines = []
    for method, name in NAMES.items():
        (other,) = (known for each, known in NAMES.items() if each != method)
        mine = [each for each in found if each.method == method]
        came = sum(np.isfinite(each.steps) for each in mine)
        lines.append(
            f"| {name} reaches the final l1 of {other} | {came} of {len(mine)} | "
            f"{spread([each.steps_ratio for each in mine], 2)} | {spread([each.seconds_ratio for each in mine], 2)} |"
        )
    return "\n".join([
        "# Learning, DPConv and PConv", "", f"{about}.", "",
        "| | final validation l1 % | steps | seconds of training |", "|---|---|---|---|", *finals, "",
        "| | seeds | of the other's steps | of its seconds |", "|---|---|---|---|", *lines, "",
        "![validation l1 against steps and seconds](learning.png)", "",
        "Mean [least, largest] over the seeds. A pair of trainings has one seed: the same batches, holes and "
        "validation masks. Validation l1 % is 100 x the mean absolute error of the composites, mean over images, then "
        "over the three buckets of hole ratio. When a curve comes to a value is read on straight lines between "
        "validations; seeds in which it never does are counted, and left out of the ratios. Seconds are of training on "
        "this machine, without compilation, validation and pictures.", "",
        f"`{command}`", "",
    ])  # fmt: skip


def table(curves: Sequence[Curve]) -> str:
    """Every validation as a line of CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "seed", "step", "seconds", "val_l1_percent"])
    for curve in curves:
        for step, seconds, l1 in zip(curve.steps, curve.seconds, curve.l1, strict=True):
            writer.writerow([curve.method, curve.seed, int(step), f"{seconds:.1f}", f"{l1:.5f}"])
    return text.getvalue()


def draw(curves: Sequence[Curve]) -> Figure:
    """Every seed thin, the means over seeds thick."""
    figure = Figure(figsize=(11, 4), dpi=110, facecolor="white", layout="constrained")
    panels: Sequence[Axes] = figure.subplots(1, 2, sharey=True)
    for panel, field in zip(panels, ("steps", "seconds"), strict=True):
        for method, colour in colours([*NAMES]).items():
            mine = [curve for curve in curves if curve.method == method]
            for curve in mine:
                panel.plot(getattr(curve, field), curve.l1, color=colour, linewidth=0.8, alpha=0.5)
            mean = mean_curve(mine)
            panel.plot(getattr(mean, field), mean.l1, color=colour, linewidth=2.4, label=NAMES[method])
        panel.set_xlim(left=0)
        dress(panel, "Validation l1 %", xlabel="step" if field == "steps" else "seconds of training")
    panels[0].legend(frameon=False)
    return figure


def publish(config: ConfigDict, workdir: pathlib.Path, curves: Sequence[Curve], command: str) -> None:
    """The three files."""
    data, size, width = config.datasets[0], config.data.size, config.model.width
    about = f"{data}, {size} x {size}, width {width:g}, {SEEDS} seeds"
    write_whole(workdir / "learning.csv", table(curves).encode())
    write_whole(workdir / "learning.png", png(draw(curves)))
    text = markdown(curves, compared(curves), command=command, about=about)
    write_whole(workdir / "learning.md", text.encode())
    print(f"{workdir / 'learning.md'}, .csv and .png")


def main(arguments: list[str] | None = None) -> int:
    """The exit code. Raises UsageError for a mistake, SystemExit(42) after a signal, with the training saved."""
    given = sys.argv[1:] if arguments is None else arguments
    parser = cli.Parser(prog="python -m dpconv_jax.study.learning", description=__doc__)
    parser.add_argument("--workdir", required=True, type=pathlib.Path, metavar="DIR")
    options, rest = parser.parse_known_args(given)
    config = cli.read_config(rest)
    command = shlex.join(["python", "-m", "dpconv_jax.study.learning", *given])
    distributed.initialise()
    cli.keep_compiled()
    runs = [(method, seed) for seed in range(SEEDS) for method in NAMES]
    folders = {(method, seed): options.workdir / f"{method}-{seed}" for method, seed in runs}
    with distributed.new_stop().listening() as stop:
        for (method, seed), folder in folders.items():
            learn(settings(config, method=method, seed=seed), folder, stop=stop)
    if distributed.is_main():
        publish(
            config, options.workdir, [read(folder, method=m, seed=s) for (m, s), folder in folders.items()], command
        )
    distributed.barrier("done")
    return 0


if __name__ == "__main__":
    sys.exit(cli.run_with_config(main))
