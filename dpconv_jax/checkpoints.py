"""Checkpoints that are whole or absent: saved atomically, hashed, verified before use. The only user of Orbax.

    WORKDIR/checkpoints/STEP/            one checkpoint of Orbax
    WORKDIR/checkpoints/STEP/manifest.json  sha256 of its files and of itself, and the validation metric; written last
    WORKDIR/checkpoints/STEP.damaged     what failed its verification when training went on
    WORKDIR/checkpoints/STEP.unfinished  what had no manifest when training went on: a crash came before it
    WORKDIR/checkpoints/STEP.dropped     an old one on its way out; gone when training goes on

A step counts only when its manifest exists and every hash agrees: Orbax itself does not notice flipped bits.
Several processes see one folder: each call here is made by all of them, and process 0 alone writes manifests.
"""

import errno
import hashlib
import json
import logging
import math
import os
import pathlib
import shutil
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from dpconv_jax import distributed
from dpconv_jax.errors import UsageError
from dpconv_jax.files import write_whole
from dpconv_jax.models.trees import Tree, merged

_MANIFEST = "manifest.json"
_DROPPED = ".dropped"
_MARGIN = 2**20  # bytes of metadata, and for the metrics written between two checkpoints
_log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints under one folder: the newest `keep`, and the one with the lowest validation metric."""

    def __init__(self, folder: str | os.PathLike[str], *, keep: int):
        self.folder = pathlib.Path(folder).absolute()
        self.keep = keep
        options = ocp.CheckpointManagerOptions(enable_async_checkpointing=False, cleanup_tmp_directories=True)
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def save(self, step: int, state: Tree, *, metric: float | None = None) -> None:
        """Saves `state` as `step`, then drops what `keep` does not cover; of a step already there only `metric` is new.

        `metric` is lower-is-better; one that is not finite is the worst. Raises UsageError where the disk is full:
        earlier checkpoints stay.
        """
        path = self.folder / str(step)
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + _MARGIN
        try:
            finished = distributed.agreed(_is_finished(path))
            if not finished:
                # Asked first, because Orbax's threads leave a traceback where they run into a full disk.
                if distributed.agreed(shutil.disk_usage(self.folder).free < needed):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self._manager.save(step, args=ocp.args.PyTreeSave(state), force=True)
            if distributed.is_main() and (metric is not None or not finished):
                _write_manifest(path, metric)
            distributed.barrier(f"checkpoint {step}")
        except (OSError, ValueError) as error:  # Orbax's storage layer reports a full disk as ValueError
            if not _is_disk_full(error):
                raise
            raise UsageError(
                f"no space left for checkpoint {step} under {self.folder}, which needs {needed / 2**20:.0f} MiB; "
                "earlier ones are intact: free space and run the same command"
            ) from error
        self._drop_old()

    def restore_newest(self, like: Tree) -> Tree:
        """The newest intact state with the structure and shardings of `like`; `like` where no step was ever finished.

        Steps without manifest are set aside as STEP.unfinished, damaged ones as STEP.damaged, each with a warning.
        Raises UsageError where all finished ones are damaged.
        """
        with distributed.main_first("restore"):
            newest = self._newest_intact()
        self._manager.reload()
        if newest is None:
            return like
        abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like)
        arguments = ocp.checkpoint_utils.construct_restore_args(abstract)
        return self._manager.restore(newest, args=ocp.args.PyTreeRestore(abstract, restore_args=arguments))

    def _newest_intact(self) -> int | None:
        """The newest intact step, None where there is none at all; whatever is not intact is set aside."""
        for dropped in self.folder.glob(f"*{_DROPPED}"):
            shutil.rmtree(dropped)
        for step in _numbered(self.folder):
            if not _is_finished(self.folder / str(step)):
                _log.warning("checkpoint %s was never finished: set aside", self.folder / str(step))
                _set_aside(self.folder / str(step), "unfinished")
        faults = {step: _fault(self.folder / str(step)) for step in _steps(self.folder)}
        intact = [step for step, fault in faults.items() if not fault]
        if not faults:
            return None
        if not intact:
            raise UsageError(f"no intact checkpoint under {self.folder}: {_listed(faults)}; start in another workdir")
        for step, fault in faults.items():
            if fault:
                _log.warning("checkpoint %s is damaged (%s): set aside", self.folder / str(step), fault)
                _set_aside(self.folder / str(step), "damaged")
        return intact[-1]

    def metric(self, step: int) -> float | None:
        """The finite validation metric that `step` was saved with, if any."""
        metric = _metric(self.folder / str(step))
        return metric if math.isfinite(metric) else None

    def close(self) -> None:
        self._manager.close()

    def _drop_old(self) -> None:
        if distributed.is_main():
            steps = _steps(self.folder)
            kept = {*steps[-self.keep :], _best_step(self.folder, steps)}
            for step in steps:
                if step not in kept:
                    # Renamed first: what a kill leaves of a step with its manifest would pass for a damaged one.
                    shutil.rmtree((self.folder / str(step)).rename(self.folder / f"{step}{_DROPPED}"))
        distributed.barrier("the old checkpoints are gone")
        self._manager.reload()


def newest_step(workdir: str | os.PathLike[str]) -> int | None:
    """Of the finished checkpoints of a workdir, intact or not; None where there is none."""
    return max(_steps(pathlib.Path(workdir) / "checkpoints"), default=None)


def restore_generator(
    workdir: str | os.PathLike[str], *, step: int | str | None = None
) -> tuple[dict[str, Any], dict[str, Any], int]:
    """The generator of a workdir: (parameters, config, step).

    Parameters, with the statistics of BatchNorm, are nested dicts of numpy arrays with string keys, the averaged ones
    where training kept an average.
    `step`: a number, None for the newest, "best" for the lowest validation metric (the newest where none was measured).
    A damaged checkpoint is passed over with a warning. Raises UsageError where no intact one is left, or where
    config.json is damaged.
    """
    workdir = pathlib.Path(workdir).absolute()
    folder = workdir / "checkpoints"
    steps = _steps(folder)
    if not steps or not (workdir / "config.json").exists():
        raise UsageError(f"{workdir} holds no checkpoint of a training run")
    if isinstance(step, int) and step not in steps:
        raise UsageError(f"{workdir} has no checkpoint of step {step}; it has {', '.join(map(str, steps))}")
    if isinstance(step, int):
        candidates = [step]
    else:
        candidates = steps[::-1]
        if step == "best":
            candidates.sort(key=lambda s: _metric(folder / str(s)))  # stable: without metrics the newest stays first
    faults = {}
    for candidate in candidates:
        path = folder / str(candidate)
        if fault := _fault(path):
            faults[candidate] = fault
            _log.warning("checkpoint %s is damaged (%s): passed over", path, fault)
            continue
        return _read_generator(path / "default"), _read_config(workdir / "config.json"), candidate
    raise UsageError(f"no intact checkpoint under {folder}: {_listed(faults)}")


def _read_config(path: pathlib.Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is damaged: {error}") from error
    if not isinstance(config, dict):
        raise UsageError(f"{path} is damaged: it holds no fields")
    return config


def _read_generator(folder: pathlib.Path) -> dict[str, Any]:
    path = epath.Path(folder)
    reader = ocp.PyTreeCheckpointHandler()
    tree = reader.metadata(path).tree
    names = ("generator", "generator_stats") if tree["ema"] is None else ("ema",)
    wanted = {name: tree[name] for name in names}
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
    found = reader.restore(path, args=ocp.args.PyTreeRestore(wanted, restore_args=as_numpy, partial_restore=True))
    return merged(*(found[name] for name in names))


def _numbered(folder: pathlib.Path) -> list[int]:
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())


def _steps(folder: pathlib.Path) -> list[int]:
    return [step for step in _numbered(folder) if _is_finished(folder / str(step))]


def _is_finished(path: pathlib.Path) -> bool:
    """Whether the manifest, written last, is there; where nobody may look it counts as there, and as damaged."""
    try:
        (path / _MANIFEST).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _set_aside(path: pathlib.Path, why: str) -> None:
    aside = path.with_name(f"{path.name}.{why}")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.{why}-{number}")
    path.rename(aside)


def _write_manifest(path: pathlib.Path, metric: float | None) -> None:
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.name != _MANIFEST)
    metric = metric if metric is not None and math.isfinite(metric) else None
    content = {"metric": metric, "sha256": {str(file.relative_to(path)): _sha256(file) for file in files}}
    write_whole(path / _MANIFEST, json.dumps(content | {"own_sha256": _own_sha256(content)}, indent=1).encode())


def _fault(path: pathlib.Path) -> str:
    """What is wrong with a checkpoint, "" where nothing is."""
    try:
        content = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
        if content.pop("own_sha256") != _own_sha256(content):
            return f"{_MANIFEST} has changed"
        for name, expected in content["sha256"].items():
            if _sha256(path / name) != expected:
                return f"{name} has changed"
    except FileNotFoundError as error:
        return f"{pathlib.Path(error.filename).relative_to(path)} is missing"
    except OSError as error:
        return f"{pathlib.Path(error.filename or path).relative_to(path)} cannot be read: {error.strerror}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{_MANIFEST} is unreadable"
    return ""


def _listed(faults: dict[int, str]) -> str:
    return "; ".join(f"step {step}: {fault}" for step, fault in faults.items())


def _metric(path: pathlib.Path) -> float:
    """Validation metric of a checkpoint, infinite where it has none that is finite."""
    try:
        metric = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))["metric"]
    except (OSError, ValueError, KeyError, TypeError):
        return math.inf
    return metric if isinstance(metric, float) and math.isfinite(metric) else math.inf


def _best_step(folder: pathlib.Path, steps: list[int]) -> int:
    return min(reversed(steps), key=lambda step: _metric(folder / str(step)))


def _own_sha256(content: dict[str, Any]) -> str:
    """Of a manifest's other fields."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _sha256(path: pathlib.Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _is_disk_full(error: Exception) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return "No space left" in str(error) or "ENOSPC" in str(error) or "quota exceeded" in str(error)
