"""Table 1, filled: for each dataset the trainings that are not done yet, then every cell that is not kept.

DIR/<dataset>/manifest.jsonl                the fixed holes
DIR/<dataset>/<method>/                     the training of a learned method
DIR/<dataset>/cells/<method>-<bucket>.json  a finished cell
"""

import logging
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from dpconv_jax import distributed
from dpconv_jax.errors import UsageError
from dpconv_jax.evaluation.evaluate import Method
from dpconv_jax.evaluation.methods import baselines
from dpconv_jax.evaluation.suite import Truth
from dpconv_jax.masks import BUCKETS
from dpconv_jax.progress import Counter
from dpconv_jax.signals import Stop
from dpconv_jax.study.table1 import cells, fixed_holes, lineup, networks
from dpconv_jax.study.table1.cells import Kept
from dpconv_jax.study.table1.entries import Entry
from dpconv_jax.study.table1.fixed_holes import Manifest, MismatchError
from dpconv_jax.study.table1.results import Cell, Results, failed
from dpconv_jax.training.experiment import Validation, open_validation

log = logging.getLogger(__name__)


class Arena(NamedTuple):
    """One dataset: its config, images with the fixed holes, and who enters with images of their own."""

    common: ConfigDict
    folder: pathlib.Path
    validation: Validation
    manifest: Manifest
    entries: list[Entry]


class Missing(NamedTuple):
    """A cell to be evaluated, and what its numbers depend on."""

    method: Method
    bucket: int
    key: dict[str, Any]


class Table:
    """The finished cells of a config in `workdir`, and those that failed."""

    def __init__(self, config: ConfigDict, workdir: pathlib.Path, *, externals: Mapping[str, pathlib.Path]):
        """Raises UsageError for a mistake that can be known before anything is trained; records the holes."""
        with distributed.main_first("data"):  # what is not built yet is built once
            lineup.check(config, workdir)
        self.config, self.workdir = config, workdir
        self.methods = (*config.methods, *externals)
        self.mesh = distributed.data_mesh(config.train.devices)
        self.loaded = networks.load(config)
        self.kept: list[Kept] = []
        self.failed: list[Cell] = []
        self.arenas = {dataset: self._open(dataset, externals) for dataset in config.datasets}

    def _open(self, dataset: str, externals: Mapping[str, pathlib.Path]) -> Arena:
        common, folder = lineup.shared(self.config, dataset), self.workdir / dataset
        validation = open_validation(common)
        try:
            with distributed.main_first("manifest"):
                fixed = fixed_holes.opened(folder / "manifest.jsonl", validation)
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

        All processes train together; then each evaluates some of the cells. Calls `after_each` of them. Raises
        MismatchError where the holes are not the recorded ones, SystemExit(42) after a signal; what is finished then is
        kept.
        """
        for dataset, arena in self.arenas.items():
            methods = self._open_methods(dataset, arena, stop)
            missing: list[Missing] = []
            for bucket in range(len(BUCKETS)):
                for method in methods:
                    key = cells.key(method, arena.common, arena.manifest, self.loaded)
                    path = cells.path_of(arena.folder, method=method.name, bucket=bucket)
                    kept = cells.read(path, method=method.name, bucket=bucket, key=key)
                    if kept is None:
                        missing.append(Missing(method, bucket, key))
                    else:
                        self.kept.append(kept)
            distributed.barrier("cells")  # all have read, before any writes
            self._evaluate(arena, missing, stop, after_each)

    def _open_methods(self, dataset: str, arena: Arena, stop: Stop) -> list[Method]:
        found = []
        for name in self.config.methods:
            try:
                if lineup.is_learned(self.config, name):
                    options = {"method": name, "dataset": dataset, "mesh": self.mesh, "stop": stop}
                    found.append(lineup.learned(self.config, arena.folder, **options))
                else:
                    found += baselines([name])
            except Exception as error:
                for bucket in range(len(BUCKETS)):
                    self._fail(name, dataset, bucket, error)
        return found + [entry.method() for entry in arena.entries]

    def _evaluate(self, arena: Arena, missing: list[Missing], stop: Stop, after_each: Callable[[], None]) -> None:
        finished, refused = len(self.kept), len(self.failed)
        mine = missing[jax.process_index() :: jax.process_count()]
        turns = math.ceil(len(missing) / jax.process_count())
        truth, of = None, -1  # of one bucket at a time: it is large
        with Counter(total=sum(len(arena.manifest.rows[each.bucket]) for each in mine), unit="images") as counter:
            for turn in range(turns):
                with stop.asked(arena.validation.rounds) as look:
                    if turn == len(mine):
                        continue

                    def said(count: int, look: Callable[[], None] = look) -> None:
                        look()
                        for _ in range(count):
                            counter.advance()

                    if truth is None or mine[turn].bucket != of:
                        truth, of = Truth(self.loaded.networks), mine[turn].bucket
                    kept = self._cell(arena, mine[turn], truth, said)
                    if kept is not None:
                        place = f"{arena.common.data.name}, bucket {kept.cell.bucket + 1} of {len(BUCKETS)}"
                        counter.say(f"{place}, {kept.cell.method}: {_headline(kept)}")
                    after_each()
        parts = distributed.gathered((self.kept[finished:], self.failed[refused:]))
        self.kept[finished:] = [kept for part, _ in parts for kept in part]
        self.failed[refused:] = [cell for _, part in parts for cell in part]

    def _cell(self, arena: Arena, cell: Missing, truth: Truth, said: Callable[[int], None]) -> Kept | None:
        """The cell, evaluated and kept; None where it failed."""
        method, bucket, key = cell
        batches = arena.manifest.checked(arena.validation(bucket), bucket)
        try:
            kept = cells.compute(method, batches, bucket=bucket, key=key, truth=truth, said=said)
        except MismatchError:
            raise
        except Exception as error:
            self._fail(method.name, arena.common.data.name, bucket, error)
            return None
        cells.write(cells.path_of(arena.folder, method=method.name, bucket=bucket), kept)
        self.kept.append(kept)
        return kept

    def _fail(self, method: str, dataset: str, bucket: int, error: Exception) -> None:
        reason = " ".join(str(error).split())
        unexpected = not isinstance(error, UsageError)
        if unexpected:
            reason = f"{type(error).__name__}: {reason}"
        log.warning("%s on %s, bucket %d, failed: %s", method, dataset, bucket + 1, reason, exc_info=unexpected)
        self.failed.append(failed(method, dataset, bucket, reason))


def _headline(kept: Kept) -> str:
    return f"hole l1 {kept.cell.scores['hole_l1_percent'].value:.2f} %, {kept.made['seconds']:.0f} s"
