"""The results of Table 1 as long rows, from which the CSV, the tables and the bars are made."""

from collections.abc import Sequence
from typing import NamedTuple

from dpconv_jax.masks import BUCKETS
from dpconv_jax.metrics import Metric
from dpconv_jax.panel import PANEL, Score

FAILED = "failed: "  # how the reason of a failed cell starts


class Cell(NamedTuple):
    """One method on one dataset and bucket of hole ratio: a score for each metric of `PANEL`."""

    method: str
    dataset: str
    bucket: int
    scores: list[Score]

    @property
    def failure(self) -> str:
        """Why the method failed here, "" where it did not."""
        reason = self.scores[0].reason
        return reason if reason.startswith(FAILED) else ""


def failed(method: str, dataset: str, bucket: int, reason: str) -> Cell:
    """A cell without numbers."""
    return Cell(method, dataset, bucket, [Score(m.name, None, None, None, 0, FAILED + reason) for m in PANEL])


class Row(NamedTuple):
    """One number: a line of the CSV, and why it is missing where `value` is None."""

    method: str
    dataset: str
    bucket: int
    metric: str
    value: float | None
    lo: float | None
    hi: float | None
    n: int
    reason: str


class Results:
    """The rows of finished cells by what they are of; `methods` and `datasets` in the order of the table."""

    def __init__(self, cells: Sequence[Cell], *, methods: Sequence[str], datasets: Sequence[str]):
        self.methods, self.datasets = tuple(methods), tuple(datasets)
        rows = [Row(c.method, c.dataset, c.bucket, *score) for c in cells for score in c.scores]
        self._known = {(row.method, row.dataset, row.bucket, row.metric): row for row in rows}

    @property
    def columns(self) -> list[tuple[int, str]]:
        """(bucket, dataset) of each column, as in the paper."""
        return [(bucket, dataset) for bucket in range(len(BUCKETS)) for dataset in self.datasets]

    @property
    def rows(self) -> list[Row]:
        """All of them, in the order of the table."""
        return [
            self._known[method, dataset, bucket, metric.name]
            for metric in PANEL
            for method in self.methods
            for bucket, dataset in self.columns
            if (method, dataset, bucket, metric.name) in self._known
        ]

    @property
    def metrics(self) -> list[Metric]:
        """Those with a number anywhere."""
        known = {row.metric for row in self.rows if row.value is not None}
        return [metric for metric in PANEL if metric.name in known]

    def row(self, *, method: str, dataset: str, bucket: int, metric: str) -> Row | None:
        """None where the cell is not finished."""
        return self._known.get((method, dataset, bucket, metric))

    def best(self, metric: Metric, *, dataset: str, bucket: int) -> str:
        """The best number of a column as it is printed, so that all who share it are best; "" where there is none."""
        found = [self.row(method=m, dataset=dataset, bucket=bucket, metric=metric.name) for m in self.methods]
        values = [row.value for row in found if row is not None and row.value is not None]
        return printed((max if metric.higher_is_better else min)(values), metric) if values else ""


def printed(value: float, metric: Metric) -> str:
    """A number with the digits of its metric."""
    return f"{value:.{metric.digits}f}"


def bucket_range(bucket: int) -> str:
    """In files and folders, such as 0.2-0.4."""
    low, high = BUCKETS[bucket]
    return f"{low}-{high}"
