"""Table 1 as bars: a panel for each metric and dataset, its methods side by side in each bucket, with intervals."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch

from dpconv_jax.evaluation.metrics import Metric
from dpconv_jax.masks import BUCKETS
from dpconv_jax.study.table1.render import ARROWS, dataset_title, method_title
from dpconv_jax.study.table1.results import Results
from dpconv_jax.training.report import INK, bucket_title, dress

COLOURS = {
    "dpconv": "#2a78d6",
    "pconv": "#d9730d",
    "pconv_liu2018": "#efb680",
    "gconv": "#1a9e77",
    "gconv_yu2019": "#8ccbb5",
    "patchmatch": "#8a5cc2",
    "pypatchmatch": "#c3a6e3",
    "telea": "#b8435a",
    "ns": "#dc96a4",
    "biharmonic": "#8b6f47",
    "mean": "#9aa1a9",
}
OTHERS = ("#30363d", "#5fb3d4", "#b59f00", "#6b7f2a")  # of external methods
WIDTH, PANEL_HEIGHT, HEAD, LEGEND = 15.0, 2.9, 0.55, 0.22  # inches; the last of a line of the legend
IN_A_LINE = 10  # of the legend
WRAP = 3  # panels in a row, where there is one dataset


def draw(results: Results, *, title: str) -> Figure:
    """Every metric with a number; errors as bars from zero, the others, whose zero means nothing here, as points."""
    pairs = [(metric, dataset) for metric in results.metrics for dataset in results.datasets]
    columns = len(results.datasets) if len(results.datasets) > 1 else WRAP
    lines = max(1, math.ceil(len(pairs) / columns))
    head = HEAD + LEGEND * math.ceil(len(results.methods) / IN_A_LINE)
    height = head + lines * PANEL_HEIGHT
    figure = Figure(figsize=(WIDTH, height), dpi=110, facecolor="white")
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    room = (0, 0, 1, 1 - head / height)
    figure.set_layout_engine(ConstrainedLayoutEngine(rect=room, hspace=0.06, wspace=0.03))
    for panel, (metric, dataset) in zip(panels, pairs, strict=False):
        _panel(panel, results, metric, dataset)
    for panel in panels[len(pairs) :]:
        panel.set_visible(False)
    figure.text(0.01, 1 - 0.22 / height, title, fontsize=14, color=INK, va="center")
    handles = [Patch(color=colour, label=method_title(method)) for method, colour in colours(results.methods).items()]
    place = (0.005, 1 - 0.36 / height)
    figure.legend(handles=handles, loc="upper left", bbox_to_anchor=place, ncols=IN_A_LINE, frameon=False, fontsize=9.5)
    return figure


def colours(methods: Sequence[str]) -> dict[str, str]:
    """Of each method, the same in every table."""
    others = itertools.cycle(OTHERS)
    return {method: COLOURS.get(method) or next(others) for method in methods}


def _panel(ax: Axes, results: Results, metric: Metric, dataset: str) -> None:
    name = f"{metric.label} {ARROWS[metric.higher_is_better]}"
    dress(ax, f"{name}, {dataset_title(dataset)}" if len(results.datasets) > 1 else name, xlabel="hole ratio")
    width = 0.84 / len(results.methods)
    for i, (method, colour) in enumerate(colours(results.methods).items()):
        of_buckets = (
            (bucket, results.find(metric, method=method, dataset=dataset, bucket=bucket))
            for bucket in range(len(BUCKETS))
        )
        mine = {bucket: found for bucket, found in of_buckets if found is not None and found.value is not None}
        x = np.array([*mine]) + (i - (len(results.methods) - 1) / 2) * width
        values = np.array([found.value for found in mine.values()], float)
        ends = [(found.value, found.value) if found.lo is None else (found.lo, found.hi) for found in mine.values()]
        spread = np.abs(np.array(ends, float).reshape(-1, 2).T - values)
        if metric.higher_is_better:
            ax.errorbar(x, values, yerr=spread, fmt="o", color=colour, elinewidth=1.4, markersize=4.5)
        else:
            ax.bar(x, values, width * 0.92, color=colour, yerr=spread, error_kw={"ecolor": INK, "elinewidth": 0.8})
    ax.set_xticks(range(len(BUCKETS)), [bucket_title(bucket) for bucket in range(len(BUCKETS))])
    ax.set_xlim(-0.5, len(BUCKETS) - 0.5)
