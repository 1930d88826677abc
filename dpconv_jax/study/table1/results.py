"""The results of Table 1 as long rows, from which the CSV, the tables and the bars are made."""

from collections.abc import Sequence
from typing import NamedTuple

from dpconv_jax.evaluation import estimates
from dpconv_jax.evaluation.estimates import Estimate
from dpconv_jax.evaluation.metrics import Metric
from dpconv_jax.evaluation.suite import PANEL, Scores
from dpconv_jax.masks import BUCKETS

FAILED = "failed: "  # how the reason of a failed cell starts


class Cell(NamedTuple):
    """One method on one dataset and bucket of hole ratio, by every metric."""

    method: str
    dataset: str
    bucket: int
    scores: Scores

    @property
    def failure(self) -> str:
        """Why the method failed here, "" where it did not."""
        reason = next(iter(self.scores.values())).reason
        return reason if reason.startswith(FAILED) else ""


def failed(method: str, dataset: str, bucket: int, reason: str) -> Cell:
    """A cell without numbers."""
    return Cell(method, dataset, bucket, {metric.name: estimates.missing(FAILED + reason) for metric in PANEL})


class Row(NamedTuple):
    """One number: a line of the CSV."""

    method: str
    dataset: str
    bucket: int
    metric: str
    found: Estimate


class Results:
    """The numbers of finished cells by what they are of; `methods` and `datasets` in the order of the table."""

    def __init__(self, cells: Sequence[Cell], *, methods: Sequence[str], datasets: Sequence[str]):
        self.methods, self.datasets = tuple(methods), tuple(datasets)
        self._known = {(cell.method, cell.dataset, cell.bucket): cell.scores for cell in cells}

    @property
    def columns(self) -> list[tuple[int, str]]:
        """(bucket, dataset) of each column, as in the paper."""
        return [(bucket, dataset) for bucket in range(len(BUCKETS)) for dataset in self.datasets]

    @property
    def rows(self) -> list[Row]:
        """All of them, in the order of the table."""
        return [
            Row(method, dataset, bucket, metric.name, self._known[method, dataset, bucket][metric.name])
            for metric in PANEL
            for method in self.methods
            for bucket, dataset in self.columns
            if (method, dataset, bucket) in self._known
        ]

    @property
    def metrics(self) -> list[Metric]:
        """Those with a number anywhere."""
        known = {row.metric for row in self.rows if row.found.value is not None}
        return [metric for metric in PANEL if metric.name in known]

    def find(self, metric: Metric, *, method: str, dataset: str, bucket: int) -> Estimate | None:
        """None where the cell is not finished."""
        return self._known.get((method, dataset, bucket), {}).get(metric.name)

    def best(self, metric: Metric, *, dataset: str, bucket: int) -> str:
        """The best number of a column as it is printed, so that all who share it are best; "" where there is none."""
        column = [self.find(metric, method=method, dataset=dataset, bucket=bucket) for method in self.methods]
        values = [found.value for found in column if found is not None and found.value is not None]
        return printed((max if metric.higher_is_better else min)(values), metric) if values else ""


def printed(value: float, metric: Metric) -> str:
    """A number with the digits of its metric."""
    return f"{value:.{metric.digits}f}"


def bucket_range(bucket: int) -> str:
    """In files and folders, such as 0.2-0.4."""
    low, high = BUCKETS[bucket]
    return f"{low}-{high}"
