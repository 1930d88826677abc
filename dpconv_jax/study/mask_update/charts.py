"""Fig. 6: layers until the mask is full, as bars over ranges of the hole ratio (a) and smoothed against it (b)."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.signal import savgol_filter

from dpconv_jax.study.mask_update.counting import RANGES, Comparison, Filling, Series
from dpconv_jax.study.published import FIG_6A
from dpconv_jax.training.report import INK, dress

PALETTES = {  # of so many series: without dilation, and with it
    2: ("#d9730d", "#2a78d6"),
    3: ("#d9730d", "#efb680", "#2a78d6"),
    4: ("#d9730d", "#9cc3ef", "#2a78d6", "#123f78"),
}
PRINTED = {"pconv_9x9": FIG_6A["PConv"], "dpconv_5x5_d4": FIG_6A["DPConv"]}
WINDOW, ORDER = 1 / 12, 2  # of the Savitzky-Golay filter: the share of the masks that it sees, its polynomial


def bars(filling: Filling, comparison: Comparison) -> Figure:
    """Mean layers of the masks that become full, a group of bars for each range; below, the share that does not.

    The paper's own values are marked where it printed any.
    """
    figure, rows = _figure(filling, comparison)
    for (title, series), (layers, left) in zip(comparison.panels.items(), rows, strict=True):
        dress(layers, title or comparison.title, xlabel="hole ratio")
        width = 0.84 / len(series)
        for place, (each, colour) in enumerate(zip(series, PALETTES[len(series)], strict=True)):
            x = np.arange(len(RANGES)) + (place - (len(series) - 1) / 2) * width
            layers.bar(x, means(filling, each), width * 0.92, color=colour, label=each.title)
            if each.name in PRINTED:
                label = "the paper's figure" if place == len(series) - 1 else None
                layers.plot(x, PRINTED[each.name], "D", mfc="white", mec=INK, markersize=5, label=label)
            if left is not None:
                left.bar(x, 100 * unfilled(filling, each), width * 0.92, color=colour)
        layers.set_xticks(range(len(RANGES)), [range_title(index) for index in range(len(RANGES))])
    _finish(figure, rows)
    return figure


def curves(filling: Filling, comparison: Comparison) -> Figure:
    """Layers of the masks that become full against their hole ratio, smoothed; below, the share that does not."""
    figure, rows = _figure(filling, comparison)
    middles = [50 * (low + high) for low, high in RANGES]
    for (title, series), (layers, left) in zip(comparison.panels.items(), rows, strict=True):
        dress(layers, title or comparison.title, xlabel="hole ratio, %")
        for each, colour in zip(series, PALETTES[len(series)], strict=True):
            full = np.flatnonzero(filling.layers[each.name])
            order = full[np.argsort(filling.ratios[full], kind="stable")]
            counts = smooth(filling.layers[each.name][order], window=round(WINDOW * len(filling.ratios)))
            layers.plot(100 * filling.ratios[order], counts, color=colour, linewidth=2, label=each.title)
            if left is not None:
                left.plot(middles, 100 * unfilled(filling, each), "o-", color=colour, markersize=4)
    _finish(figure, rows)
    return figure


def smooth(values: np.ndarray, *, window: int) -> np.ndarray:
    """Through a Savitzky-Golay filter of `window` values, made odd; of all of them where they are fewer."""
    window = min(window | 1, len(values) - 1 | 1)
    return savgol_filter(values, window, ORDER) if ORDER < window <= len(values) else values.astype(float)


def means(filling: Filling, series: Series) -> np.ndarray:
    """Of each range, over the masks that become full; nan where none does."""
    layers = filling.layers[series.name]
    of_ranges = [layers[filling.of_range(index) & (layers > 0)] for index in range(len(RANGES))]
    return np.array([found.mean() if len(found) else np.nan for found in of_ranges])


def unfilled(filling: Filling, series: Series) -> np.ndarray:
    """The share of each range, in [0, 1], that is not full after the last layer; nan for a range without masks."""
    layers = filling.layers[series.name]
    of_ranges = [layers[filling.of_range(index)] for index in range(len(RANGES))]
    return np.array([np.mean(found == 0) if len(found) else np.nan for found in of_ranges])


def range_title(index: int) -> str:
    """For people, such as 10-20 %."""
    low, high = RANGES[index]
    return f"{100 * low:.0f}-{100 * high:.0f} %"


def _figure(filling: Filling, comparison: Comparison) -> tuple[Figure, list[tuple[Axes, Axes | None]]]:
    """Of each panel the axes of the layers, and of what is left where anything is."""
    panels = len(comparison.panels)
    anything = any((filling.layers[series.name] == 0).any() for series in comparison.series)
    size = (7.2 if panels == 1 else 5.6 * panels, 5.6 if anything else 4.2)
    figure = Figure(figsize=size, dpi=110, layout="constrained", facecolor="white")
    if panels > 1:
        figure.suptitle(comparison.title, fontsize=11.5, color=INK, x=0.01, ha="left")
    heights = (3, 1) if anything else (1,)
    axes = figure.subplots(len(heights), panels, squeeze=False, sharex="col", sharey="row", height_ratios=heights)
    return figure, [(axes[0, panel], axes[1, panel] if anything else None) for panel in range(panels)]


def _finish(figure: Figure, rows: list[tuple[Axes, Axes | None]]) -> None:
    for layers, left in rows:
        layers.set_ylabel("layers until full", fontsize=9, color=INK)
        layers.set_ylim(bottom=0)
        if left is not None:
            dress(left, "", xlabel=layers.get_xlabel())
            layers.set_xlabel("")
            left.set_ylabel("never full, %", fontsize=9, color=INK)
            left.set_ylim(0, 100)
    handles, labels = rows[0][0].get_legend_handles_labels()  # the same series in every panel
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
