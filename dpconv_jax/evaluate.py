"""Method x hole-ratio bucket -> metrics of the composites, with intervals; the masks' manifest; examples to look at.

A method is any function (images, masks) -> outputs on whole batches: float32 NHWC images in [0, 1] whose hole pixels
are zeroed, so that no method can read the truth; masks (B, H, W, 1), 1 = valid; outputs (B, H, W, 3) in [0, 1], used
in the holes only.
"""

import csv
import hashlib
import heapq
import io
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.typing import ArrayLike

from dpconv_jax import masks, metrics, processes
from dpconv_jax.errors import UsageError
from dpconv_jax.files import write_whole
from dpconv_jax.masks import BUCKETS

BatchMethod = Callable[[np.ndarray, np.ndarray], ArrayLike]
Batch = Mapping[str, Any]  # of data.pipeline.eval_batches: image, mask, row (of the masks' manifest)


class Row(NamedTuple):
    """Mean of one metric over one bucket's composites, its bootstrap 95 % interval, and how many images entered it."""

    method: str
    bucket: int
    metric: str  # a `name` of metrics.METRICS
    value: float
    lo: float
    hi: float
    n: int


class Example(NamedTuple):
    """One image of one bucket: (H, W, 3) float32 in [0, 1], mask (H, W, 1); raw outputs and composites by method."""

    id: str
    bucket: int
    ratio: float
    masked: np.ndarray
    mask: np.ndarray
    target: np.ndarray
    raw: dict[str, np.ndarray]
    composite: dict[str, np.ndarray]


class Evaluation(NamedTuple):
    """`manifest` is the sha256 of manifest.jsonl: equal hashes mean equal images, masks and order."""

    rows: list[Row]
    examples: list[Example]
    manifest: str


@jax.jit
def _composite_and_metrics(
    output: ArrayLike, target: ArrayLike, mask: ArrayLike
) -> tuple[jax.Array, dict[str, jax.Array]]:
    composite = metrics.composite(output=output, target=target, mask=mask)
    return composite, metrics.per_image(composite, target, mask)


@jax.jit
def _composite_l1(output: ArrayLike, target: ArrayLike, mask: ArrayLike) -> jax.Array:
    return metrics.l1(metrics.composite(output=output, target=target, mask=mask), target)


class Padded(NamedTuple):
    """A batch of full size: `masked` is `image` with zeros in the holes, all float32."""

    image: np.ndarray
    mask: np.ndarray
    masked: np.ndarray
    count: int  # rows that are not padding
    batch: Batch


def padded(batches: Iterable[Batch], bucket: int) -> Iterator[Padded]:
    """Short batches repeat their last row up to the first batch's size, so that a jitted method compiles once.

    Raises UsageError where there is no batch.
    """
    size = 0
    for batch in batches:
        image, mask = np.asarray(batch["image"], np.float32), np.asarray(batch["mask"], np.float32)
        count = len(image)
        size = size or count
        rows = np.minimum(np.arange(max(size, count)), count - 1)
        image, mask = image[rows], mask[rows]
        yield Padded(image, mask, np.where(mask > 0.5, image, np.float32(0.0)), count, batch)
    if not size:
        raise UsageError(f"no validation image for the hole-ratio bucket {BUCKETS[bucket]}: nothing to evaluate")


def outputs(name: str, method: BatchMethod, batch: Padded) -> np.ndarray:
    """What `method` makes of a batch, padding included; ValueError for an output of another shape."""
    # Copies: a method that writes into its arguments must not change what the next one sees.
    output = np.asarray(method(batch.masked.copy(), batch.mask.copy()), np.float32)
    if output.shape != batch.image.shape:
        raise ValueError(f"method {name!r} gave {output.shape} for images {batch.image.shape}")
    return output


def validation_l1(method: BatchMethod, batches_for_bucket: Callable[[int], Iterable[Batch]]) -> float:
    """l1 % of the composites, mean over images, then over the three buckets; what "best checkpoint" means.

    Of several processes each gives batches of its own, and gets the mean over all.
    NaN where an output is not finite in a hole.
    """
    means = []
    for bucket in range(len(BUCKETS)):
        values = []
        for batch in padded(batches_for_bucket(bucket), bucket):
            output = outputs("validation", method, batch)
            values.append(np.asarray(_composite_l1(output, batch.image, batch.mask))[: batch.count])
        means.append(100.0 * np.concatenate(processes.gathered(np.concatenate(values))).mean(dtype=np.float64))
    return float(np.mean(means))


def evaluate(
    methods: Mapping[str, BatchMethod],
    batches_for_bucket: Callable[[int], Iterable[Batch]],
    *,
    out_dir: str | os.PathLike[str] | None,
    bootstrap: int,
    seed: int,
    examples: int = 2,
) -> Evaluation:
    """Every method on the same images and masks of the three buckets.

    Of several processes each gives batches of its own, and gets the evaluation of all.
    Writes `out_dir`/metrics.csv (one line an image and method) and `out_dir`/manifest.jsonl (one `masks.Row` a mask),
    each whole or not at all; None writes nothing. `bootstrap` resamples stand behind each interval, drawn from `seed`;
    `examples` images of a bucket are kept, drawn by a hash of their ids. An image that a method restores exactly has
    no PSNR: it is left out of that mean, and `n` is less.
    Raises UsageError for an empty bucket, ValueError for an output of the wrong shape.
    """
    lines: list[dict[str, Any]] = []
    manifest: list[masks.Row] = []
    rows: list[Row] = []
    kept: list[Example] = []
    for bucket in range(len(BUCKETS)):
        parts = processes.gathered(_measured(methods, batches_for_bucket(bucket), bucket=bucket, examples=examples))
        manifest += [entry for part in parts for entry in part.manifest]
        kept += heapq.nsmallest(examples, [example for part in parts for example in part.shown], key=_draw)
        for name in methods:
            mine = [line for part in parts for line in part.lines[name]]
            lines += mine
            for metric in metrics.METRICS:
                values = [line[metric.name] for line in mine]
                rows.append(_row(name, bucket, metric.name, values, bootstrap, seed))
    recorded = masks.manifest_text(manifest).encode()
    if out_dir is not None:
        out_dir = Path(out_dir)
        out_dir.mkdir(parents=True, exist_ok=True)
        write_whole(out_dir / "metrics.csv", _csv(lines).encode(errors="surrogateescape"))
        write_whole(out_dir / "manifest.jsonl", recorded)
    return Evaluation(rows, kept, hashlib.sha256(recorded).hexdigest())


class _Measured(NamedTuple):
    """What one process has of a bucket: the lines of metrics.csv by method, the masks, and images to show."""

    lines: dict[str, list[dict[str, Any]]]
    manifest: list[masks.Row]
    shown: list[Example]


def _measured(methods: Mapping[str, BatchMethod], batches: Iterable[Batch], *, bucket: int, examples: int) -> _Measured:
    lines: dict[str, list[dict[str, Any]]] = {name: [] for name in methods}
    manifest: list[masks.Row] = []
    shown: list[Example] = []
    for batch in padded(batches, bucket):
        entries = batch.batch["row"]
        manifest += entries
        pictures = _examples(batch, entries)
        for name, method in methods.items():
            output = outputs(name, method, batch)
            composites, measured = jax.device_get(_composite_and_metrics(output, batch.image, batch.mask))
            for i, example in enumerate(pictures):
                example.raw[name] = output[i].copy()
                example.composite[name] = composites[i].copy()
            columns = {metric: column.tolist() for metric, column in measured.items()}
            for i, entry in enumerate(entries):
                known = {"id": entry.id, "bucket": bucket, "ratio": entry.ratio, "coverage": entry.coverage}
                values = {metric: column[i] for metric, column in columns.items()}
                lines[name].append({"method": name, **known, **values})
        shown = heapq.nsmallest(examples, shown + pictures, key=_draw)
    return _Measured(lines, manifest, shown)


def _examples(batch: Padded, entries: Sequence[masks.Row]) -> list[Example]:
    return [
        Example(
            id=entry.id,
            bucket=entry.bucket,
            ratio=entry.ratio,
            masked=batch.masked[i].copy(),
            mask=batch.mask[i].copy(),
            target=batch.image[i].copy(),
            raw={},
            composite={},
        )
        for i, entry in enumerate(entries)
    ]


def _draw(example: Example) -> bytes:
    return hashlib.sha256(f"{example.bucket} {example.id}".encode(errors="surrogateescape")).digest()


def _row(method: str, bucket: int, metric: str, values: list[float], bootstrap: int, seed: int) -> Row:
    # +inf is the PSNR of identical images; NaN stays, so that a broken output shows in the mean.
    finite = np.array([v for v in values if v != math.inf])
    mean = float(finite.mean()) if len(finite) else math.inf
    low, high = metrics.bootstrap_interval(finite, resamples=bootstrap, seed=seed)
    return Row(method, bucket, metric, mean, low, high, len(finite))


def _csv(lines: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()
