"""Several processes that train as one, and their devices. Nothing here knows a model.

How processes find each other, who writes, and how they stop at the same step: every process runs the same command and
reads its own share of each batch. Process 0 alone writes, but for the cells of Table 1, into a folder that all of them
see.

The one mesh: all devices in a row, batches split over them, everything else on each.
"""

import contextlib
import importlib.util
import itertools
import os
import pathlib
import pickle
import signal
import sys
from collections.abc import Generator, Mapping, Sequence
from types import FrameType
from typing import Any, Self, TypeVar

import jax
import numpy as np
from jax._src.distributed import global_state  # JAX has no public barrier that outlasts the build of a dataset
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from dpconv_jax.errors import UsageError
from dpconv_jax.signals import Stop

ENVIRONMENT = ("COORDINATOR_ADDRESS", "NUM_PROCESSES", "PROCESS_ID")
HEARTBEAT = "HEARTBEAT_TIMEOUT"  # seconds without a sign of life after which a process counts as dead
HEARTBEAT_DEFAULT = 60
PATIENCE = 24 * 3600 * 1000  # milliseconds at a barrier: a dataset may be built meanwhile
FAREWELL = 10  # seconds that a process which ends waits for the others

T = TypeVar("T")
_barriers = itertools.count()


def initialise() -> None:
    """Joins the other processes that the environment speaks of, before any device is touched; none is no mistake.

    Slurm's steps of several tasks and TPU slices are known to JAX; elsewhere COORDINATOR_ADDRESS (HOST:PORT of process
    0), NUM_PROCESSES and PROCESS_ID say it. All but process 0 fall silent, apart from their errors.
    Raises UsageError where the variables are incomplete or wrong, or the others do not come.
    """
    given = {name: os.environ[name] for name in ENVIRONMENT if os.environ.get(name)}
    options: dict[str, str | int] = {
        "heartbeat_timeout_seconds": _whole(HEARTBEAT, least=1, default=HEARTBEAT_DEFAULT),
        "shutdown_timeout_seconds": FAREWELL,
    }
    if given:
        options |= _from(given)
    elif int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) < 2 and not _on_tpu():
        return
    try:
        jax.distributed.initialize(**options)  # ty: ignore[invalid-argument-type]
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"the processes did not find each other: {error}") from error
    multihost_utils.sync_global_devices("connect")  # now, because Gloo gives up on who comes 30 seconds later
    if not is_main():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for the rest of this process


def _from(given: dict[str, str]) -> dict[str, str | int]:
    """What JAX wants to know, from our three variables."""
    if missing := [name for name in ENVIRONMENT if name not in given]:
        raise UsageError(f"{', '.join(given)} without {', '.join(missing)}: all three are needed, or none")
    host, colon, port = given["COORDINATOR_ADDRESS"].rpartition(":")
    if not (host and colon and port.isdecimal()):
        raise UsageError(f"COORDINATOR_ADDRESS={given['COORDINATOR_ADDRESS']}: HOST:PORT of process 0")
    count, index = _whole("NUM_PROCESSES", least=1), _whole("PROCESS_ID", least=0)
    if index >= count:
        raise UsageError(f"PROCESS_ID={index}: less than NUM_PROCESSES, which is {count}")
    return {
        "coordinator_address": given["COORDINATOR_ADDRESS"],
        "num_processes": count,
        "process_id": index,
        "cluster_detection_method": "deactivate",
    }


def _whole(name: str, *, least: int, default: int = 0) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdecimal() or int(text) < least:
        raise UsageError(f"{name}={text}: a whole number, at least {least}")
    return int(text)


def _on_tpu() -> bool:
    """Whether this is a host of a TPU slice, by what can be known without touching the TPU."""
    if importlib.util.find_spec("libtpu") is None or "tpu" not in os.environ.get("JAX_PLATFORMS", "tpu"):
        return False
    return any(pathlib.Path("/dev").glob("accel[0-9]*")) or any(pathlib.Path("/dev/vfio").glob("[0-9]*"))


def is_main() -> bool:
    """Whether this process writes: process 0 of several, or the only one."""
    return jax.process_index() == 0


def barrier(name: str) -> None:
    """Waits until every process is here; all come to all barriers in one order."""
    if jax.process_count() > 1:
        assert global_state.client is not None
        global_state.client.wait_at_barrier(f"{name} {next(_barriers)}", PATIENCE)


def agreed(value: bool) -> bool:
    """What process 0 found, on every process."""
    return bool(multihost_utils.broadcast_one_to_all(value))


def gathered(value: T) -> list[T]:
    """What each process gave, in their order, on every process."""
    if jax.process_count() == 1:
        return [value]
    content = np.frombuffer(pickle.dumps(value), np.uint8)
    sizes = multihost_utils.process_allgather(np.array(len(content)))
    everything = multihost_utils.process_allgather(np.pad(content, (0, max(sizes) - len(content))))
    return [pickle.loads(row[:size].tobytes()) for row, size in zip(everything, sizes, strict=True)]


@contextlib.contextmanager
def main_first(name: str) -> Generator[None]:
    """A context that process 0 leaves before the others enter: what it built there, they find."""
    if not is_main():
        barrier(name)
    try:
        yield
    finally:
        if is_main():
            barrier(name)


def new_stop() -> Stop:
    """What listens to the signals, for the processes that there are."""
    return SharedStop() if jax.process_count() > 1 else Stop()


class SharedStop(Stop):
    """A signal to any process stops all of them, at the same question.

    JAX listens to SIGTERM itself and spreads the word; `requested` is asked equally often by all processes, so that
    all agree on the number of the question from which it is true.
    """

    def __init__(self) -> None:
        super().__init__()
        self._asked = 0

    @property
    def requested(self) -> bool:
        """Whether all stop now."""
        if not self._requested:
            self._asked += 1
            self._requested = multihost_utils.reached_preemption_sync_point(self._asked)
        return self._requested

    @contextlib.contextmanager
    def listening(self) -> Generator[Self]:
        """A context in which SIGINT counts as SIGTERM, and a second one kills."""
        before = signal.signal(signal.SIGINT, self._interrupt)
        try:
            yield self
        finally:
            signal.signal(signal.SIGINT, before)

    @contextlib.contextmanager
    def deferred(self) -> Generator[None]:
        """As everywhere: signals are heeded where the loop asks."""
        yield

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.raise_signal(signal.SIGTERM)


# ---- devices ----


def data_mesh(devices: int) -> Mesh:
    """A 1-D mesh ("data",) over the first `devices` devices, 0 = all.

    Raises UsageError where there are fewer, and where some of several processes would have no part.
    """
    available = jax.device_count()
    if jax.process_count() > 1 and devices not in (0, available):
        raise UsageError(f"train.devices is {devices}; several processes use all their {available} devices: 0")
    if not 0 <= devices <= available:
        raise UsageError(f"train.devices is {devices}; it must be 0 (all) or at most {available}, the devices JAX sees")
    return in_a_row(jax.devices()[: devices or available])


def in_a_row(devices: Sequence[jax.Device]) -> Mesh:
    """A 1-D mesh ("data",) over these devices."""
    return Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """Of state: a whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """Of batches: the leading axis divided over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def to_devices(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's share of a global batch, onto its devices."""
    return {name: jax.make_array_from_process_local_data(split(mesh), array) for name, array in batch.items()}


def own(tree: Any, mesh: Mesh) -> Any:
    """A copy of replicated arrays on every device of this process's part of the mesh."""

    def here(leaf: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
        return leaf if isinstance(leaf, np.ndarray) or leaf.is_fully_addressable else leaf.addressable_data(0)

    return jax.device_put(jax.tree.map(here, tree), replicated(mesh.local_mesh))
