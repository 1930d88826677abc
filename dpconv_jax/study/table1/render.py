"""Table 1 as files: long rows as CSV; as the paper has it, metric and method against bucket and dataset, as MD and TeX.

The best number of each column of a metric is bold; the paper's stand below ours where the dataset is the same.
"""

import csv
import io
import re
from collections.abc import Callable, Sequence

from dpconv_jax.evaluation.estimates import Estimate
from dpconv_jax.evaluation.methods import TEXTURE
from dpconv_jax.evaluation.metrics import Metric
from dpconv_jax.evaluation.suite import PANEL
from dpconv_jax.masks import BUCKETS
from dpconv_jax.study import published
from dpconv_jax.study.table1.results import FAILED, Results, Row, bucket_range, printed
from dpconv_jax.training.report import bucket_title, bullets

FIELDS = ("method", "dataset", "bucket", "metric", "value", "lo", "hi", "n")
METHODS = {
    "dpconv": "DPConv",
    "pconv": "PConv",
    "pconv_liu2018": "PConv (Liu 2018)",
    "gconv": "GConv",
    "gconv_yu2019": "GConv (Yu 2019)",
    "patchmatch": "PatchMatch",
    "pypatchmatch": "PyPatchMatch",
    "telea": "Telea",
    "ns": "Navier-Stokes",
    "biharmonic": "Biharmonic",
    "mean": "Mean colour",
}
DATASETS = {
    "fashiongen": "FashionGen",
    "fashionai": "FashionAI",
    "deepfashion": "DeepFashion",
    "deepfashion2": "DeepFashion2",
}
ARROWS = {True: "↑", False: "↓"}  # higher is better
SPECIAL = re.compile(r"[&%$#_{}]")  # of TeX
WORDS = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
PAPERS = "in the paper"


def method_title(name: str) -> str:
    """For people; an external method's is its name."""
    network = name.removesuffix(TEXTURE)
    return METHODS.get(network, network) + (" + texture" if network != name else "")


def dataset_title(name: str) -> str:
    """For people."""
    return DATASETS.get(name, name)


def csv_text(results: Results) -> str:
    """A line a number, in full; what is missing is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(FIELDS)
    for row in results.rows:
        writer.writerow([row.method, row.dataset, bucket_range(row.bucket), row.metric, *row.found[:4]])
    return text.getvalue()


def markdown(results: Results, *, title: str, card: Sequence[str], failures: Sequence[str], picture: str) -> str:
    """The table, what is missing and why, and the metric card; `picture` is the name of the bars' file."""
    columns = results.columns
    head = ["metric", "method", *(_column_title(*column, results) for column in columns)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for metric in results.metrics:
        for method in results.methods:
            name = f"{metric.label} {ARROWS[metric.higher_is_better]}"
            lines.append(_line(name, method_title(method), _cells(results, metric, method, _markdown_cell)))
            theirs = _published(results, metric, method)
            if any(theirs):
                lines.append(_line(name, f"{method_title(method)} {PAPERS}", theirs))
    missing = _reasons(results)
    parts = [
        f"# {title}",
        "\n".join(lines),
        f"![bars]({picture})",
        *(["## Failed", bullets(failures)] if failures else []),
        *(["## Not computed", bullets(missing)] if missing else []),
        "## What the numbers mean",
        bullets(card),
    ]
    return "\n\n".join(parts) + "\n"


def tex(results: Results, *, caption: str) -> str:
    """A `table` that needs the package booktabs; the intervals are left to the CSV."""
    columns, datasets = results.columns, results.datasets
    spans = [
        rf"\multicolumn{{{len(datasets)}}}{{c}}{{{escaped(bucket_title(bucket))}}}" for bucket in range(len(BUCKETS))
    ]
    lines = [
        r"\begin{table}",
        r"\centering\scriptsize",
        rf"\caption{{{escaped(caption)}}}",
        rf"\begin{{tabular}}{{l{'r' * len(columns)}}}",
        r"\toprule",
        " & ".join(["Mask ratios", *spans]) + r" \\",
        " & ".join(["Datasets", *(escaped(dataset_title(dataset)) for _, dataset in columns)]) + r" \\",
    ]
    for metric in results.metrics:
        lines.append(r"\midrule")
        for method in results.methods:
            name = escaped(f"{metric.label}, {method_title(method)}")
            lines.append(" & ".join([name, *_cells(results, metric, method, _tex_cell)]) + r" \\")
            theirs = _published(results, metric, method)
            if any(theirs):
                slanted = [rf"\textit{{{value}}}" if value else "" for value in theirs]
                lines.append(" & ".join([rf"\quad\textit{{{PAPERS}}}", *slanted]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def escaped(text: str) -> str:
    """As TeX prints it."""
    return "".join(WORDS.get(letter, SPECIAL.sub(r"\\\g<0>", letter)) for letter in text)


def _column_title(bucket: int, dataset: str, results: Results) -> str:
    name = bucket_title(bucket)
    return f"{name} {dataset_title(dataset)}" if len(results.datasets) > 1 else name


def _line(*parts: str | Sequence[str]) -> str:
    cells = [cell for part in parts for cell in ([part] if isinstance(part, str) else part)]
    return "| " + " | ".join(cells) + " |"


def _cells(
    results: Results, metric: Metric, method: str, draw: Callable[[Estimate | None, Metric, str], str]
) -> list[str]:
    return [
        draw(
            results.find(metric, method=method, dataset=dataset, bucket=bucket),
            metric,
            results.best(metric, dataset=dataset, bucket=bucket),
        )
        for bucket, dataset in results.columns
    ]


def _markdown_cell(found: Estimate | None, metric: Metric, best: str) -> str:
    if found is None:
        return "…"
    if found.value is None:
        return "failed" if found.reason.startswith(FAILED) else ""
    value = printed(found.value, metric)
    return (f"**{value}**" if value == best else value) + found.interval(f".{metric.digits}f")


def _tex_cell(found: Estimate | None, metric: Metric, best: str) -> str:
    if found is None or found.value is None:
        return ""
    value = printed(found.value, metric)
    return rf"\textbf{{{value}}}" if value == best else value


def _published(results: Results, metric: Metric, method: str) -> list[str]:
    found = (
        published.printed(method=method, dataset=dataset, bucket=bucket, metric=metric.name)
        for bucket, dataset in results.columns
    )
    return [value or "" for value in found]


def _reasons(results: Results) -> list[str]:
    """One a reason: the metrics it is of, and the columns and methods unless it is of all."""
    missing: dict[str, list[Row]] = {}
    for row in results.rows:
        if row.found.value is None and not row.found.reason.startswith(FAILED):
            missing.setdefault(row.found.reason, []).append(row)
    finished = len({row[:3] for row in results.rows if not row.found.reason.startswith(FAILED)})
    lines = []
    for reason, rows in missing.items():
        names = dict.fromkeys(row.metric for row in rows)
        text = f"{', '.join(metric.label for metric in PANEL if metric.name in names)}: {reason}"
        cells = dict.fromkeys(row[:3] for row in rows)
        if len(cells) < finished:
            where = (f"{method_title(m)} on {dataset_title(d)}, {bucket_title(b)}" for m, d, b in cells)
            text += f" ({'; '.join(where)})"
        lines.append(text)
    return lines
