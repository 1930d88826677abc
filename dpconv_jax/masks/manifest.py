"""The manifest of fixed masks: what makes each again, and what it is."""

import hashlib
import json
import math
import os
import pathlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields

import numpy as np

from dpconv_jax.errors import UsageError
from dpconv_jax.files import write_whole
from dpconv_jax.masks.drawing import Files
from dpconv_jax.masks.ratio import bucket_of, coverage, hole_ratio

OF_FILES = ("files", "quickdraw")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One evaluation mask: what makes it again (seed, id, bucket, preset, files) and what it is."""

    id: str
    bucket: int
    seed: int
    preset: str
    files: str  # digest of the files where the preset is of OF_FILES, else ""
    height: int
    width: int
    ratio: float
    coverage: float | None  # None where the clothing region is unknown
    sha256: str  # of the mask's bytes, row by row, one byte a pixel, 1 = valid


def row(
    mask: np.ndarray,
    *,
    example_id: str,
    bucket: int,
    seed: int,
    preset: str,
    region: np.ndarray | None = None,
    files: Files | None = None,
) -> Row:
    """The manifest's row of `eval_mask`'s mask; `mask` (H, W, 1) of any dtype, holding 1 = valid and 0 = hole."""
    covered = math.nan if region is None else coverage(mask, region)
    return Row(
        id=example_id,
        bucket=bucket,
        seed=seed,
        preset=preset,
        files=files.digest if files is not None and preset in OF_FILES else "",
        height=mask.shape[0],
        width=mask.shape[1],
        ratio=hole_ratio(mask),
        coverage=None if math.isnan(covered) else covered,
        sha256=_sha256(mask),
    )


def _sha256(mask: np.ndarray) -> str:
    return hashlib.sha256((mask != 0).astype(np.uint8).tobytes()).hexdigest()


def write_manifest(path: str | os.PathLike[str], rows: Iterable[Row]) -> None:
    """Rows as JSON lines; an older file is replaced only when all are written."""
    write_whole(pathlib.Path(path), manifest_text(rows).encode())


def manifest_text(rows: Iterable[Row]) -> str:
    """Rows as JSON lines."""
    return "".join(json.dumps(asdict(one)) + "\n" for one in rows)


def read_manifest(path: str | os.PathLike[str]) -> list[Row]:
    """The rows of a manifest; raises UsageError naming the line that is damaged, contradicts itself or comes twice."""
    try:
        lines = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"mask manifest {os.fspath(path)!r} cannot be read: {error}") from error
    rows: list[Row] = []
    seen: set[tuple[str, int]] = set()
    for number, line in enumerate(lines, start=1):
        where = f"mask manifest {os.fspath(path)!r}, line {number}"
        try:
            one = Row(**json.loads(line))
            bucket = bucket_of(one.ratio)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{where}: not a row of {', '.join(f.name for f in fields(Row))}: {error}") from error
        if bucket != one.bucket:
            raise UsageError(f"{where}: ratio {one.ratio} does not lie in bucket {one.bucket}")
        if (one.id, one.bucket) in seen:
            raise UsageError(f"{where}: example {one.id!r} comes twice in bucket {one.bucket}")
        seen.add((one.id, one.bucket))
        rows.append(one)
    return rows


def verify(recorded: Row, mask: np.ndarray, *, region: np.ndarray | None = None) -> None:
    """Raises UsageError unless `mask` (H, W, 1) is the recorded one: size, sha256 of its bytes, ratio, and coverage
    where the clothing region is given.
    """
    made = row(
        mask,
        example_id=recorded.id,
        bucket=recorded.bucket,
        seed=recorded.seed,
        preset=recorded.preset,
        region=region,
    )
    for name in ("height", "width", "sha256", "ratio", *(["coverage"] if region is not None else [])):
        if getattr(made, name) != getattr(recorded, name):
            raise UsageError(
                f"mask of example {recorded.id!r}, bucket {recorded.bucket}: {name} is {getattr(made, name)}, "
                f"the manifest says {getattr(recorded, name)}"
            )
