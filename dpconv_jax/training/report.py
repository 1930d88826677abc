"""report.md and report.png: what was run, how it learned, what came out, and what each number means."""

import io
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from ml_collections import ConfigDict

from dpconv_jax.evaluation.estimates import Estimate
from dpconv_jax.evaluation.evaluate import Evaluation
from dpconv_jax.evaluation.metrics import METRICS, Metric
from dpconv_jax.files import write_whole
from dpconv_jax.masks import BUCKETS
from dpconv_jax.training.objectives import VGG_TERMS
from dpconv_jax.training.writers import read_scalars

TERM_COLOURS = ("#2a78d6", "#d9730d", "#8a5cc2", "#1a9e77", "#b8435a")
NETWORK_COLOUR = "#2a78d6"
OTHER_COLOURS = ("#b3b8bf", "#e0a458", "#6f9c8b", "#a98bb8")
NAMES = {"mean": "mean colour", "telea": "Telea", "ns": "Navier-Stokes"}
INK, FAINT = "#22262b", "#c9ced4"
Curves = dict[str, tuple[np.ndarray, np.ndarray]]  # name -> (steps, values)

RESIZE_FILTER = "Pillow's bicubic, widened where it reduces"  # of data.pipeline


class Run(NamedTuple):
    """The training that is reported, and what was evaluated of it."""

    config: ConfigDict
    terms: Mapping[str, float]  # weights of the loss by name
    split: str  # of the dataset, of which the evaluation is
    step: int  # of the evaluated checkpoint
    seconds: float  # of training up to there
    hardware: str
    command: str
    notes: Sequence[str] = ()  # join "What was run"

    @property
    def title(self) -> str:
        """What was trained on what."""
        return f"{self.config.model.name} on {self.config.data.name}, {self.config.data.size} x {self.config.data.size}"


def write(workdir: Path, run: Run, evaluation: Evaluation) -> Path:
    """Writes `workdir`/report.md and report.png, each whole or not at all, and returns the path of the former.

    The network is the first method of the evaluation. Learning curves come from `workdir`/metrics.jsonl and are left
    out where it is absent.
    """
    config, images_seen = run.config, run.step * run.config.train.batch_size
    curves = read_curves(workdir / "metrics.jsonl")
    write_whole(workdir / "report.png", png(draw(run, curves, evaluation)))
    facts = {
        "command": f"`{run.command}`",
        "data": f"{config.data.name}, {config.data.size} x {config.data.size}",
        "model": ", ".join(value if name == "name" else f"{name} {value}" for name, value in config.model.items()),
        "loss": _loss(run.terms, vgg_start=config.vgg.start),
        "masks": f"preset {config.mask.preset}, seed {config.seed}",
        "checkpoint": f"step {run.step:,} of {config.train.steps:,}, batch size {config.train.batch_size}",
        "images seen": f"{images_seen:,}",
        "time": f"{_duration(run.seconds)} of training"
        + (f", {images_seen / run.seconds:.1f} images/s" if run.seconds > 0 and images_seen else ""),
        "hardware": run.hardware,
    }
    text = "\n\n".join(
        [
            f"# {run.title}",
            "## What was run",
            table(["", ""], [[f"**{name}**", fact] for name, fact in facts.items()]),
            *([bullets(run.notes)] if run.notes else []),
            "## Results",
            _results(evaluation),
            _mean_over_buckets(evaluation),
            "![learning curves, metrics and examples](report.png)",
            *_learning(curves),
            "## What the numbers mean",
            bullets(_card(run, evaluation)),
            "<details><summary>The whole config</summary>",
            f"```json\n{json.dumps(config.to_dict(), indent=2)}\n```",
            "</details>",
        ]
    )
    write_whole(workdir / "report.md", (text + "\n").encode())
    return workdir / "report.md"


def read_curves(path: Path) -> Curves:
    """Scalars of a metrics.jsonl by name: (steps, values), ascending; a step logged twice counts once, the last."""
    series: dict[str, dict[float, float]] = {}
    for row in read_scalars(path):
        step = row.pop("step")
        for name, value in row.items():
            if step is not None and value is not None:
                series.setdefault(name, {})[step] = value
    ordered = {name: sorted(points.items()) for name, points in series.items()}
    return {
        name: (np.array([s for s, _ in points]), np.array([v for _, v in points])) for name, points in ordered.items()
    }


# --- report.md -------------------------------------------------------------------------------------------------------


def _loss(terms: Mapping[str, float], *, vgg_start: int) -> str:
    text = " + ".join(f"{weight:g} {name}" for name, weight in terms.items() if weight)
    of_vgg = [name for name in VGG_TERMS if terms.get(name)]
    if of_vgg and vgg_start:
        text += f"; {' and '.join(of_vgg)} from step {vgg_start + 1} on"
    off = [name for name, weight in terms.items() if not weight]
    if off:
        text += "; **off: " + ", ".join(f"the {name} term" for name in off) + "**"
    if "style" in off and not of_vgg:
        text += " (so no VGG-16 was used, and the result is not the full loss of the paper)"
    return text


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def bucket_title(bucket: int) -> str:
    """Of a bucket of hole ratio, such as (20, 40] %."""
    low, high = BUCKETS[bucket]
    return f"({100 * low:.0f}, {100 * high:.0f}] %"


def _method_name(method: str) -> str:
    return NAMES.get(method, method)


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """In Markdown."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def png(figure: Figure) -> bytes:
    """A picture file of a figure."""
    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_png(picture)
    return picture.getvalue()


def bullets(lines: Sequence[str]) -> str:
    """A list in Markdown."""
    return "\n".join(f"- {line}" for line in lines)


def _cell(found: Estimate, metric: Metric, *, best: float | None) -> str:
    if found.value is None:
        return "identical"
    form = f".{metric.digits}f"
    value = f"{found.value:{form}}"
    return (f"**{value}**" if found.value == best else value) + found.interval(form)


def _best(column: Sequence[Estimate], metric: Metric) -> float | None:
    values = (math.inf if found.value is None else found.value for found in column)  # identical images: their PSNR
    finite = [value for value in values if not math.isnan(value)]
    return (max if metric.higher_is_better else min)(finite, default=None)


def _results(evaluation: Evaluation) -> str:
    methods, scores, body = evaluation.methods, evaluation.scores, []
    for bucket in range(len(BUCKETS)):
        columns = []
        for metric in METRICS:
            column = [scores[method, bucket][metric.name] for method in methods]
            best = _best(column, metric)
            columns.append([_cell(found, metric, best=best) for found in column])
        for method, *cells in zip(methods, *columns, strict=True):
            images = scores[method, bucket]["l1_percent"].n
            body.append([bucket_title(bucket), _method_name(method), *cells, str(images)])
    arrows = [f"{metric.label} {'↑' if metric.higher_is_better else '↓'}" for metric in METRICS]
    return table(["hole ratio", "method", *arrows, "images"], body)


def _mean_over_buckets(evaluation: Evaluation) -> str:
    network, *others = evaluation.methods
    means = {
        method: float(np.mean([evaluation.scores[method, b]["hole_l1_percent"].value for b in range(len(BUCKETS))]))
        for method in evaluation.methods
    }
    text = f"Hole l1, mean over the three buckets: {_method_name(network)} {means[network]:.2f} %"
    ratios = [f"{means[network] / means[o]:.2f} x {_method_name(o)} ({means[o]:.2f} %)" for o in others if means[o] > 0]
    return text + (" = " + " = ".join(ratios) if ratios else "") + "."


def _learning(curves: Curves) -> list[str]:
    steps, values = curves.get("val/l1", (np.array([]), np.array([])))
    finite = np.isfinite(values)
    steps, values = steps[finite], values[finite]
    if len(steps) < 2:
        return []
    best = int(np.argmin(values))
    earlier = int(np.argmin(np.abs(steps - 0.75 * steps[-1])))
    change = 100 * (values[-1] / values[earlier] - 1)
    return [
        "## Learning",
        f"Validation l1 went from {values[0]:.2f} % at step {steps[0]:,} to {values[-1]:.2f} % at step {steps[-1]:,}; "
        f"the lowest was {values[best]:.2f} % at step {steps[best]:,}. From step {steps[earlier]:,} to the end, about "
        f"the last quarter, it changed by {change:+.1f} % of its value.",
    ]


def _card(run: Run, evaluation: Evaluation) -> list[str]:
    counts = {bucket: scores["l1_percent"].n for (_, bucket), scores in evaluation.scores.items()}
    lines = [
        "Every number is of the **composite** (the method's output in the holes, the truth elsewhere), clipped to "
        "[0, 1], computed per image and then averaged; raw outputs are in the picture only.",
        f"Region: {'; '.join(f'{metric.label}: {metric.region}' for metric in METRICS)}.",
        f"N: {', '.join(f'{n} images with holes of {bucket_title(b)}' for b, n in sorted(counts.items()))}, of the "
        f"{run.split} split. Every method saw the same images with the same holes, and no pixel under them.",
        f"Brackets: bootstrap 95 % interval of the mean over images, {run.config.eval.bootstrap} resamples. It covers "
        "the choice of images, not of the training seed. Bold: best of its bucket.",
        "l1 % is 100 x the mean absolute error of pixels in [0, 1]; PSNR has peak 1; SSIM has an 11 x 11 Gaussian "
        "window of sigma 1.5, as scikit-image with gaussian_weights.",
        f"Images were resized with {RESIZE_FILTER}.",
        f"Masks: `eval/manifest.jsonl`, sha256 `{evaluation.manifest}`. Values per image: `eval/metrics.csv`.",
        "The checkpoint was selected by its l1 on images of the same split, which favours the network a little.",
        "The examples are drawn by a hash of the image's name, not chosen.",
    ]
    left_out = [
        f"{counts[bucket] - scores['psnr_db'].n} of {_method_name(method)} {bucket_title(bucket)}"
        for (method, bucket), scores in evaluation.scores.items()
        if scores["psnr_db"].n < counts[bucket]
    ]
    if left_out:
        lines.append(f"Left out of PSNR, being identical to the truth: {', '.join(left_out)}.")
    return lines


# --- report.png ------------------------------------------------------------------------------------------------------

WIDTH, CELL_GAP, LEFT, RIGHT = 15.0, 0.06, 0.95, 0.25  # inches
CURVES, BARS, GAP, HEAD, TOP, BOTTOM = 2.9, 2.3, 0.85, 0.3, 0.95, 0.25


def draw(run: Run, curves: Curves, evaluation: Evaluation) -> Figure:
    """Curves on top, then one panel a metric, then the examples, one line each."""
    examples = evaluation.examples
    network, *others = evaluation.methods
    columns = 5 + len(others)
    group_gap = 0.25 if others else 0.0
    cell = (WIDTH - LEFT - RIGHT - group_gap - CELL_GAP * (columns - 1)) / columns
    cell = min(cell, 2.25)
    breaks = sum(a.bucket != b.bucket for a, b in itertools.pairwise(examples))
    grid = HEAD + len(examples) * (cell + CELL_GAP) + 0.15 * breaks
    height = TOP + CURVES + GAP + BARS + GAP + grid + BOTTOM
    figure = Figure(figsize=(WIDTH, height), dpi=110, facecolor="white")
    figure.text(LEFT / WIDTH, 1 - 0.3 / height, f"{run.title}, step {run.step:,}", fontsize=14, color=INK, va="center")

    def axes(left: float, top: float, width: float, tall: float) -> Axes:
        return figure.add_axes((left / WIDTH, 1 - (top + tall) / height, width / WIDTH, tall / height))

    inner = WIDTH - LEFT - RIGHT
    half = (inner - 0.95) / 2
    _loss_curves(axes(LEFT, TOP, half, CURVES), curves, [*run.terms])
    _validation_curve(axes(LEFT + half + 0.95, TOP, half, CURVES), curves, step=run.step)

    top = TOP + CURVES + GAP
    quarter = (inner - 3 * 0.75) / 4
    for i, metric in enumerate(METRICS):
        _metric_panel(axes(LEFT + i * (quarter + 0.75), top, quarter, BARS), evaluation, metric)
    top += BARS + GAP

    heads = ["masked", "mask (black = hole)", "raw output", "composite", "truth", *map(_method_name, others)]
    y = top + HEAD
    for line, example in enumerate(examples):
        if line and example.bucket != examples[line - 1].bucket:
            y += 0.15
        mask = np.repeat(example.mask, 3, axis=-1)
        pictures = [example.masked, mask, example.raw[network], example.composite[network], example.target]
        pictures += [example.composite[name] for name in others]
        for column, image in enumerate(pictures):
            x = LEFT + column * (cell + CELL_GAP) + (group_gap if column >= 5 else 0.0)
            ax = axes(x, y, cell, cell)
            ax.imshow(np.nan_to_num(image).clip(0, 1))
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set(color=FAINT, linewidth=0.6)
            if line == 0:
                ax.set_title(heads[column], fontsize=9.5, color=INK, pad=5)
            if column == 0:
                label = f"{bucket_title(example.bucket)}\n{100 * example.ratio:.0f} % hole"
                ax.set_ylabel(label, fontsize=8.5, color=INK, rotation=0, ha="right", va="center", labelpad=6)
        y += cell + CELL_GAP
    return figure


def dress(ax: Axes, title: str, *, xlabel: str) -> None:
    """A panel's title, label and quiet frame."""
    ax.set_title(title, fontsize=10.5, color=INK, loc="left", pad=8)
    ax.set_xlabel(xlabel, fontsize=9, color=INK)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(FAINT)
    ax.tick_params(labelsize=8.5, colors=INK, length=0, which="both")
    ax.grid(axis="y", color="#eceef1", linewidth=0.8)
    ax.set_axisbelow(True)


def _nothing(ax: Axes, text: str) -> None:
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color="#8a9099", fontsize=9)
    ax.set(xticks=[], yticks=[])


def _smooth(values: np.ndarray) -> np.ndarray:
    """Running mean over 1/20 of the points each side, shorter at the ends."""
    reach = len(values) // 20
    total = np.concatenate([[0.0], np.cumsum(values)])
    i = np.arange(len(values))
    low, high = np.maximum(i - reach, 0), np.minimum(i + reach + 1, len(values))
    return (total[high] - total[low]) / (high - low)


def _loss_curves(ax: Axes, curves: Curves, terms: Sequence[str]) -> None:
    dress(ax, "Weighted terms of the loss, training", xlabel="step")
    drawn = False
    for term, colour in zip(terms, TERM_COLOURS, strict=False):
        steps, values = curves.get(f"train/{term}", (np.array([]), np.array([])))
        positive = np.isfinite(values) & (
            values > 0
        )  # a term of weight 0 is logged as 0 and has no place on a log scale
        if positive.any():
            steps, values = steps[positive], values[positive]
            ax.plot(steps, values, color=colour, linewidth=0.8, alpha=0.25)
            ax.plot(steps, _smooth(values), color=colour, linewidth=1.8, label=term)
            drawn = True
    if not drawn:
        return _nothing(ax, "no training log in this folder")
    ax.set_yscale("log")
    ax.margins(x=0.01)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.legend(frameon=False, fontsize=8.5, ncols=4, loc="lower right", bbox_to_anchor=(1.0, 0.99), borderpad=0)
    return None


def _validation_curve(ax: Axes, curves: Curves, *, step: int) -> None:
    dress(ax, "Validation l1 %, composites, mean of the three buckets", xlabel="step")
    steps, values = curves.get("val/l1", (np.array([]), np.array([])))
    if not np.isfinite(values).any():
        return _nothing(ax, "no validation in this folder's log")
    ax.plot(steps, values, color=NETWORK_COLOUR, linewidth=1.8, marker="o", markersize=4)
    here = np.flatnonzero(steps == step)
    if here.size and np.isfinite(values[here[0]]):
        value = values[here[0]]
        ax.plot([step], [value], "o", markersize=10, markerfacecolor="none", markeredgecolor=INK, markeredgewidth=1.2)
        label = f"○ evaluated below: {value:.2f} %, step {step:,}"
        ax.text(0.99, 0.95, label, transform=ax.transAxes, ha="right", va="top", fontsize=9, color=INK)
    ax.margins(x=0.03, y=0.15)
    ax.set_xlim(left=0)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    return None


def _metric_panel(ax: Axes, evaluation: Evaluation, metric: Metric) -> None:
    """Bars from zero for errors; for PSNR and SSIM, whose zero means nothing here, points."""
    dress(ax, f"{metric.label}, {'higher' if metric.higher_is_better else 'lower'} is better", xlabel="hole ratio")
    methods = evaluation.methods
    width = 0.8 / len(methods)
    for i, method in enumerate(methods):
        colour = NETWORK_COLOUR if i == 0 else OTHER_COLOURS[(i - 1) % len(OTHER_COLOURS)]
        of_buckets = ((b, evaluation.scores[method, b][metric.name]) for b in range(len(BUCKETS)))
        mine = {b: found for b, found in of_buckets if found.value is not None and math.isfinite(found.value)}
        x = np.array([*mine]) + (i - (len(methods) - 1) / 2) * width
        value = np.array([found.value for found in mine.values()])
        ends = [[found.lo for found in mine.values()], [found.hi for found in mine.values()]]
        spread = np.abs(np.array(ends, float) - value)  # NaN, which is not drawn, where there is no interval
        style: dict[str, Any] = {"yerr": spread, "label": _method_name(method)}
        if metric.higher_is_better:
            ax.errorbar(x, value, fmt="o", color=colour, ecolor=colour, elinewidth=1.4, markersize=6, **style)
        else:
            ax.bar(x, value, width * 0.92, color=colour, error_kw={"ecolor": INK, "elinewidth": 0.9}, **style)
    ax.set_xticks(range(len(BUCKETS)), [bucket_title(b) for b in range(len(BUCKETS))])
    ax.set_xlim(-0.5, len(BUCKETS) - 0.5)
    if metric is METRICS[0]:
        ax.legend(frameon=False, fontsize=8.5, loc="upper left")
