"""Methods x hole-ratio buckets -> every metric of the composites, with intervals; the masks' manifest; examples to see.

Images are float32 NHWC in [0, 1], masks (B, H, W, 1), 1 = valid.
"""

import csv
import hashlib
import heapq
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.typing import ArrayLike

from dpconv_jax import distributed, masks
from dpconv_jax.errors import UsageError
from dpconv_jax.evaluation import metrics
from dpconv_jax.evaluation.suite import Networks, Panel, Scores
from dpconv_jax.files import write_whole
from dpconv_jax.masks import BUCKETS

Batch = Mapping[str, Any]  # of data.pipeline.eval_batches: image, mask, row (of the masks' manifest)
Batches = Callable[[int], Iterable[Batch]]  # of a bucket


class Padded(NamedTuple):
    """A batch of full size: `masked` is `image` with zeros in the holes, all float32."""

    image: np.ndarray
    mask: np.ndarray
    masked: np.ndarray
    count: int  # rows that are not padding
    batch: Batch


class Method(NamedTuple):
    """What fills holes: a network, a baseline, or images that others made."""

    name: str
    identity: dict[str, Any]  # what its outputs depend on, as JSON has it
    # Gives outputs (B, H, W, 3) float32, used in the holes only; reads no true pixel there.
    fill: Callable[[Padded], np.ndarray]


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

    scores: dict[tuple[str, int], Scores]  # by method and bucket
    examples: list[Example]
    manifest: str

    @property
    def methods(self) -> list[str]:
        """Their names, in order."""
        return list(dict.fromkeys(name for name, _ in self.scores))


@jax.jit
def _composite_l1(output: ArrayLike, target: ArrayLike, mask: ArrayLike) -> jax.Array:
    return metrics.l1(metrics.composite(output=output, target=target, mask=mask), target)


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


def validation_l1(method: Method, batches_for_bucket: Batches) -> float:
    """l1 % of the composites, mean over images, then over the three buckets; what "best checkpoint" means.

    Of several processes each gives batches of its own, and gets the mean over all.
    NaN where an output is not finite in a hole.
    """
    means = []
    for bucket in range(len(BUCKETS)):
        values = []
        for batch in padded(batches_for_bucket(bucket), bucket):
            values.append(np.asarray(_composite_l1(method.fill(batch), batch.image, batch.mask))[: batch.count])
        means.append(100.0 * np.concatenate(distributed.gathered(np.concatenate(values))).mean(dtype=np.float64))
    return float(np.mean(means))


def evaluate(
    methods: Sequence[Method],
    batches_for_bucket: Batches,
    *,
    out_dir: str | os.PathLike[str] | None,
    bootstrap: int,
    seed: int,
    examples: int = 2,
) -> Evaluation:
    """Every method on the same images and masks of the three buckets, by the metrics that need no network.

    Of several processes each gives batches of its own, and gets the evaluation of all.
    Writes `out_dir`/metrics.csv (one line an image and method) and `out_dir`/manifest.jsonl (one `masks.Row` a mask),
    each whole or not at all; None writes nothing. `bootstrap` resamples stand behind each interval, drawn from `seed`;
    `examples` images of a bucket are kept, drawn by a hash of their ids.
    Raises UsageError for an empty bucket, ValueError for an output of the wrong shape.
    """
    lines: list[list[Any]] = []
    manifest: list[masks.Row] = []
    scores: dict[tuple[str, int], Scores] = {}
    kept: list[Example] = []
    names = sorted(metric.name for metric in metrics.METRICS)
    for bucket in range(len(BUCKETS)):
        panels = {method.name: Panel(Networks(), bootstrap=bootstrap, seed=seed) for method in methods}
        shown, entries = _measure(methods, batches_for_bucket(bucket), panels, bucket=bucket, examples=examples)
        first, *others = distributed.gathered((panels, shown, entries))
        panels, shown, entries = first
        for theirs, theirs_shown, theirs_entries in others:
            shown, entries = shown + theirs_shown, entries + theirs_entries
            for name, panel in panels.items():
                panel.extend(theirs[name])
        kept += heapq.nsmallest(examples, shown, key=_draw)
        manifest += entries
        for name, panel in panels.items():
            scores[name, bucket] = panel.scores()
            columns = panel.per_image()
            for entry, *values in zip(entries, *(columns[metric].tolist() for metric in names), strict=True):
                lines.append([name, entry.id, bucket, entry.ratio, entry.coverage, *values])
    recorded = masks.manifest_text(manifest).encode()
    if out_dir is not None:
        out_dir = Path(out_dir)
        out_dir.mkdir(parents=True, exist_ok=True)
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(
            [["method", "id", "bucket", "ratio", "coverage", *names], *lines]
        )
        write_whole(out_dir / "metrics.csv", text.getvalue().encode(errors="surrogateescape"))
        write_whole(out_dir / "manifest.jsonl", recorded)
    return Evaluation(scores, kept, hashlib.sha256(recorded).hexdigest())


def _measure(
    methods: Sequence[Method], batches: Iterable[Batch], panels: dict[str, Panel], *, bucket: int, examples: int
) -> tuple[list[Example], list[masks.Row]]:
    """Feeds this process's images of a bucket to the panels; returns some to show, and the masks."""
    shown: list[Example] = []
    entries: list[masks.Row] = []
    for batch in padded(batches, bucket):
        entries += batch.batch["row"]
        pictures = _examples(batch, batch.batch["row"])
        for method in methods:
            output = method.fill(batch)
            panels[method.name].add(output=output, target=batch.image, mask=batch.mask, count=batch.count)
            composites = np.asarray(metrics.composite(output=output, target=batch.image, mask=batch.mask))
            for i, example in enumerate(pictures):
                example.raw[method.name] = output[i].copy()
                example.composite[method.name] = composites[i].copy()
        shown = heapq.nsmallest(examples, shown + pictures, key=_draw)
    return shown, entries


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
