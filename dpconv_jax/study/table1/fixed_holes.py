"""The fixed holes of an evaluation: recorded once, and compared with what is made again every time they are used."""

import hashlib
import pathlib
from collections.abc import Iterable, Iterator

import numpy as np

from dpconv_jax import masks
from dpconv_jax.errors import UsageError
from dpconv_jax.evaluation.evaluate import Batch, Batches
from dpconv_jax.masks import BUCKETS, Row

OTHER = "; it is of another config or was changed: use another --workdir"


class MismatchError(UsageError):
    """The holes that are made are not the recorded ones: no number of them may stand beside the others."""


class Manifest:
    """The recorded holes of one dataset; `sha256` is the file's: equal hashes mean equal images, holes and order."""

    def __init__(self, path: pathlib.Path):
        """Raises UsageError where the file is missing or damaged."""
        self.path = path
        rows = masks.read_manifest(path)
        self.rows = [[row for row in rows if row.bucket == bucket] for bucket in range(len(BUCKETS))]
        self.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()

    def checked(self, batches: Iterable[Batch], bucket: int) -> Iterator[Batch]:
        """`batches` of the bucket as they are; MismatchError where an image or hole is not the recorded one."""
        recorded, position = self.rows[bucket], 0
        for batch in batches:
            for mask, made in zip(batch["mask"], batch["row"], strict=True):
                if position == len(recorded):
                    raise MismatchError(f"{self.path} has no more than {position} images in bucket {bucket}{OTHER}")
                self._compare(recorded[position], made, mask)
                position += 1
            yield batch
        if position < len(recorded):
            raise MismatchError(f"{self.path} has {len(recorded)} images in bucket {bucket}, not {position}{OTHER}")

    def _compare(self, recorded: Row, made: Row, mask: np.ndarray) -> None:
        if made.id != recorded.id:
            raise MismatchError(f"{self.path} has {recorded.id!r} where {made.id!r} is{OTHER}")
        try:
            masks.verify(recorded, mask)
        except UsageError as error:
            raise MismatchError(f"{self.path}: {error}{OTHER}") from error
        for name in ("coverage", "seed", "preset", "files"):
            ours, theirs = getattr(made, name), getattr(recorded, name)
            if ours != theirs:
                raise MismatchError(f"{self.path}: {name} of {made.id!r} is {ours!r}, not {theirs!r}{OTHER}")


def rows_of(batches_for_bucket: Batches) -> list[Row]:
    """The rows of all buckets, in order."""
    return [row for bucket in range(len(BUCKETS)) for batch in batches_for_bucket(bucket) for row in batch["row"]]


def opened(path: pathlib.Path, batches_for_bucket: Batches) -> Manifest:
    """The manifest at `path`, recorded first where there is none."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        masks.write_manifest(path, rows_of(batches_for_bucket))
    return Manifest(path)


def verify(manifest: Manifest, batches_for_bucket: Batches) -> int:
    """Makes every hole again, and returns how many there are. Raises MismatchError."""
    return sum(
        len(batch["row"])
        for bucket in range(len(BUCKETS))
        for batch in manifest.checked(batches_for_bucket(bucket), bucket)
    )
