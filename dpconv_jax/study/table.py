"""Table 1, filled: for each dataset the trainings that are not done yet, then every cell that is not kept.

DIR/<dataset>/manifest.jsonl                the fixed holes
DIR/<dataset>/<method>/                     the training of a learned method
DIR/<dataset>/cells/<method>-<bucket>.json  a finished cell
"""

import logging
import pathlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ml_collections import ConfigDict

from dpconv_jax import sharding, train
from dpconv_jax.errors import UsageError
from dpconv_jax.masks import BUCKETS
from dpconv_jax.panel import Truth
from dpconv_jax.progress import Counter
from dpconv_jax.signals import Stop
from dpconv_jax.study import cells, lineup, manifest, networks
from dpconv_jax.study.cells import Kept
from dpconv_jax.study.entries import Entry
from dpconv_jax.study.lineup import Contestant
from dpconv_jax.study.manifest import Manifest, MismatchError
from dpconv_jax.study.results import Cell, Results, failed

log = logging.getLogger(__name__)


class Arena(NamedTuple):
    """One dataset: its config, images with the fixed holes, and who enters with images of their own."""

    common: ConfigDict
    folder: pathlib.Path
    validation: train.Validation
    manifest: Manifest
    entries: list[Entry]


class Table:
    """The finished cells of a config in `workdir`, and those that failed."""

    def __init__(self, config: ConfigDict, workdir: pathlib.Path, *, externals: Mapping[str, pathlib.Path]):
        """Raises UsageError for a mistake that can be known before anything is trained; records the holes."""
        lineup.check(config, workdir)
        self.config, self.workdir = config, workdir
        self.methods = (*config.methods, *externals)
        self.mesh = sharding.data_mesh(config.train.devices)
        self.loaded = networks.load(config)
        self.kept: list[Kept] = []
        self.failed: list[Cell] = []
        self.arenas = {dataset: self._open(dataset, externals) for dataset in config.datasets}

    def _open(self, dataset: str, externals: Mapping[str, pathlib.Path]) -> Arena:
        common, folder = lineup.shared(self.config, dataset), self.workdir / dataset
        validation = train.open_validation(common)
        try:
            fixed = manifest.opened(folder / "manifest.jsonl", validation)
        except OSError as error:
            raise UsageError(f"--workdir {self.workdir} cannot be written: {error.strerror}") from error
        entries = [Entry(name, path / dataset, fixed) for name, path in externals.items()]
        for entry in entries:
            entry.check(validation)
        return Arena(common, folder, validation, fixed, entries)

    @property
    def results(self) -> Results:
        """What is known so far."""
        finished = [kept.cell for kept in self.kept]
        return Results([*finished, *self.failed], methods=self.methods, datasets=self.config.datasets)

    def fill(self, stop: Stop, *, after_each: Callable[[], None]) -> None:
        """Trains and evaluates what is missing; a method that raises fails its cells and spares the others.

        Calls `after_each` new cell. Raises MismatchError where the holes are not the recorded ones, SystemExit(42)
        after a signal; what is finished then is kept.
        """
        for dataset, arena in self.arenas.items():
            contestants = self._contestants(dataset, arena, stop)
            missing: list[tuple[Contestant, int, dict]] = []
            for bucket in range(len(BUCKETS)):
                for contestant in contestants:
                    key = cells.key(contestant, arena.common, arena.manifest, self.loaded)
                    path = cells.path_of(arena.folder, method=contestant.name, bucket=bucket)
                    kept = cells.read(path, method=contestant.name, bucket=bucket, key=key)
                    if kept is None:
                        missing.append((contestant, bucket, key))
                    else:
                        self.kept.append(kept)
            self._evaluate(arena, missing, after_each)

    def _contestants(self, dataset: str, arena: Arena, stop: Stop) -> list[Contestant]:
        found = []
        for name in self.config.methods:
            try:
                if lineup.is_learned(self.config, name):
                    options = {"method": name, "dataset": dataset, "mesh": self.mesh, "stop": stop}
                    found.append(lineup.learned(self.config, arena.folder / name, **options))
                else:
                    found.append(lineup.unlearned(name))
            except Exception as error:
                for bucket in range(len(BUCKETS)):
                    self._fail(name, dataset, bucket, error)
        return found + [entry.contestant() for entry in arena.entries]

    def _evaluate(
        self, arena: Arena, missing: list[tuple[Contestant, int, dict]], after_each: Callable[[], None]
    ) -> None:
        dataset, truths = arena.common.data.name, {}
        total = sum(len(arena.manifest.rows[bucket]) for _, bucket, _ in missing)
        with Counter(total=total, unit="images") as counter:

            def said(count: int) -> None:
                for _ in range(count):
                    counter.advance()

            for contestant, bucket, key in missing:
                if bucket not in truths:
                    truths = {bucket: Truth(self.loaded.networks)}  # of one bucket at a time: it is large
                batches = arena.manifest.checked(arena.validation(bucket), bucket)
                options = {"bucket": bucket, "key": key, "truth": truths[bucket], "said": said}
                try:
                    kept = cells.compute(contestant, batches, **options)
                except MismatchError:
                    raise
                except Exception as error:
                    self._fail(contestant.name, dataset, bucket, error)
                else:
                    cells.write(cells.path_of(arena.folder, method=contestant.name, bucket=bucket), kept)
                    self.kept.append(kept)
                    counter.say(
                        f"{dataset}, bucket {bucket + 1} of {len(BUCKETS)}, {contestant.name}: {_headline(kept)}"
                    )
                after_each()

    def _fail(self, method: str, dataset: str, bucket: int, error: Exception) -> None:
        reason = " ".join(str(error).split())
        unexpected = not isinstance(error, UsageError)
        if unexpected:
            reason = f"{type(error).__name__}: {reason}"
        log.warning("%s on %s, bucket %d, failed: %s", method, dataset, bucket + 1, reason, exc_info=unexpected)
        self.failed.append(failed(method, dataset, bucket, reason))


def _headline(kept: Kept) -> str:
    values = {score.metric: score.value for score in kept.cell.scores}
    return f"hole l1 {values['hole_l1_percent']:.2f} %, {kept.made['seconds']:.0f} s"
