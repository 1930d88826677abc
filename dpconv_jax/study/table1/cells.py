"""The cells of Table 1: one method on one dataset and bucket, kept as DIR/<dataset>/cells/<method>-<bucket>.json.

A kept cell counts only while all that it depends on is as it was: its `key`.
"""

import functools
import json
import math
import pathlib
import subprocess
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from dpconv_jax.evaluation.estimates import Estimate
from dpconv_jax.evaluation.evaluate import Batch, Method, padded
from dpconv_jax.evaluation.suite import Panel, Truth
from dpconv_jax.files import write_whole
from dpconv_jax.study.table1.fixed_holes import Manifest
from dpconv_jax.study.table1.networks import Loaded
from dpconv_jax.study.table1.results import Cell, bucket_range

VERSION = 2  # of the metrics, baselines and networks: raised when one of their numbers changes


class Kept(NamedTuple):
    """A finished cell: `key` is what it depends on, `made` says when and by which code."""

    cell: Cell
    key: dict[str, Any]
    made: dict[str, Any]


def key(method: Method, common: ConfigDict, manifest: Manifest, loaded: Loaded) -> dict[str, Any]:
    """What the numbers of a method on a dataset depend on, as JSON has it; `common` is `lineup.shared`."""
    on = {
        "version": VERSION,
        "method": method.identity,
        "manifest": manifest.sha256,
        "networks": loaded.sha256,
        "seed": common.seed,
        "data": {name: common.data[name] for name in ("name", "size", "crop", "max_pixels")},
        "mask": {name: common.mask[name] for name in ("preset", "hole", "coverage")},
        "examples": common.eval.examples,
        "bootstrap": common.eval.bootstrap,
    }
    return json.loads(json.dumps(on))


def path_of(folder: pathlib.Path, *, method: str, bucket: int) -> pathlib.Path:
    """Where a cell is kept below the folder of its dataset."""
    return folder / "cells" / f"{method}-{bucket_range(bucket)}.json"


def read(path: pathlib.Path, *, method: str, bucket: int, key: dict[str, Any]) -> Kept | None:
    """The kept cell; None where there is none, or it is of another key, or damaged."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["key"] != key:
            return None
        scores = {score.pop("metric"): Estimate(**score) for score in kept["scores"]}
        return Kept(Cell(method, key["data"]["name"], bucket, scores), key, kept["made"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def compute(
    method: Method,
    batches: Iterable[Batch],
    *,
    bucket: int,
    key: dict[str, Any],
    truth: Truth,
    said: Callable[[int], None],
) -> Kept:
    """Every metric of a method's outputs; `said` hears how many images are done after each batch.

    Raises whatever the method raises, ValueError where an output is not finite or of another shape.
    """
    start = time.monotonic()
    panel = Panel(truth.networks, bootstrap=key["bootstrap"], seed=key["seed"], truth=truth)
    for batch in padded(batches, bucket):
        output = method.fill(batch)
        finite = np.isfinite(output[: batch.count]).all(axis=(1, 2, 3))
        if not finite.all():
            raise ValueError(f"the output of image {len(panel) + finite.argmin()} is not finite")
        panel.add(output=output, target=batch.image, mask=batch.mask, count=batch.count)
        said(batch.count)
    scores = panel.scores()
    for metric, found in scores.items():
        if found.value is not None and not math.isfinite(found.value):
            raise ValueError(f"{metric} is {found.value}")
    made = {"seconds": round(time.monotonic() - start, 2), "commit": commit()}
    return Kept(Cell(method.name, key["data"]["name"], bucket, scores), key, made)


def write(path: pathlib.Path, kept: Kept) -> None:
    """The whole file or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scores = [{"metric": metric, **found._asdict()} for metric, found in kept.cell.scores.items()]
    content = {"key": kept.key, "made": kept.made, "scores": scores}
    write_whole(path, json.dumps(content, indent=1, allow_nan=False).encode())


@functools.cache
def commit() -> str:
    """Of this code, with a + where files were changed since; "" where it is in no git checkout of its own."""
    file = pathlib.Path(__file__).resolve()

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", file.parent, *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", file.name)
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""
