"""The numbers of a training: their means and its pace, logged every few steps."""

import math
import time
from collections import deque
from collections.abc import Sequence

import jax
import psutil
from ml_collections import ConfigDict

from dpconv_jax.errors import UsageError
from dpconv_jax.progress import Reporter
from dpconv_jax.training import steps
from dpconv_jax.training.writers import Silent, Writer

LAG = 2  # steps between the device and the numbers read from it, so that it never waits for the host
SLOW = 0.02  # share of the time waiting for data from which it is said
SHOWN = 8  # images of a step that are named
MAX_SKIPPED = 20  # steps in a row without a finite gradient before training gives up


class Meter:
    """Reads the numbers of each step a little after it, logs their means, and ends a run that no longer learns."""

    def __init__(self, config: ConfigDict, *, terms: Sequence[str], writer: Writer | Silent, reporter: Reporter):
        self._terms = terms
        self._every, self._steps = config.train.log_every, config.train.steps
        self._batch_size = config.train.batch_size
        self._writer, self._reporter = writer, reporter
        self._pending: deque[tuple[int, steps.Metrics, Sequence[str], int]] = deque()
        self._sums: dict[str, float] = {}
        self._finite = self._count = 0
        self._skipped_in_a_row = 0
        self._bad = 0
        self._clock: float | None = None  # None until the first step is done: compiling is not training
        self._timed = 0
        self._waited = 0.0
        self._seconds = writer.last("train/seconds")  # of training, over all the runs in this folder

    def add(self, step: int, numbers: steps.Metrics, *, ids: Sequence[str], bad: int, waited: float) -> None:
        """The numbers of a step that may still run, on the images `ids`; `bad` of them stand in for others.

        `waited`: seconds that the host waited for its batch. Up to LAG steps were still running meanwhile, so the
        device stood idle for no longer than that.
        """
        self._waited += waited
        self._pending.append((step, numbers, ids, bad))
        while len(self._pending) > LAG:
            self._read()

    def catch_up(self) -> None:
        """Waits for the steps that still run."""
        while self._pending:
            self._read()

    def stop(self, step: int) -> None:
        """The last step of a run that ends early: its numbers and its time are not lost."""
        self.catch_up()
        if self._count:
            self._log(step)

    def forgive(self, seconds: float) -> None:
        """Takes time that was not training out of the rate."""
        if self._clock is not None:
            self._clock += seconds

    def _read(self) -> None:
        step, on_device, ids, bad = self._pending.popleft()
        numbers = {name: float(value) for name, value in jax.device_get(on_device).items()}
        self._bad += bad
        self._count += 1
        if numbers["skipped"]:
            self._skipped_in_a_row += 1
            if self._skipped_in_a_row == MAX_SKIPPED:
                shown = ", ".join(ids[:SHOWN]) + (f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else "")
                raise UsageError(
                    f"no finite loss or gradient in {MAX_SKIPPED} steps in a row, up to step {step} (images {shown}); "
                    "the weights and checkpoints are those of before: lower optim.generator_lr or set optim.clip_norm, "
                    "in a new workdir"
                )
        else:
            self._skipped_in_a_row = 0
            self._finite += 1
            for name, value in numbers.items():
                self._sums[name] = self._sums.get(name, 0.0) + value
        if self._clock is None:
            self._clock, self._waited = time.monotonic(), 0.0
            age = time.time() - psutil.Process().create_time()
            self._reporter.say(f"first step done, {age:.0f} s after the start of the command")
        else:
            self._timed += 1
        if step % self._every == 0 or step == self._steps or step == 1:
            self._log(step)

    def _log(self, step: int) -> None:
        now = time.monotonic()
        assert self._clock is not None
        pace = (now - self._clock) / self._timed if self._timed else math.nan
        means = {name: value / self._finite for name, value in self._sums.items()}
        means |= {
            "skipped": self._count - self._finite,
            "bad_images": self._bad,
            "images_per_second": self._batch_size / pace,
        }
        passed = now - self._clock
        waited = self._waited / passed if self._timed else math.nan
        if self._timed:
            means["data_wait"] = waited
        self._seconds += passed
        scalars = {f"train/{name}": value for name, value in (means | {"seconds": self._seconds}).items()}
        self._writer.write_scalars(step, scalars)
        detail = ", ".join(f"{name} {means.get(name, math.nan):.4g}" for name in self._terms)
        if waited >= SLOW:
            detail += f", {waited:.0%} of the time waiting for data"
        for name, count in (("steps skipped", means["skipped"]), ("bad images", self._bad)):
            detail += f", {count} {name}" if count else ""
        self._reporter.report(step, loss=means.get("total", math.nan), pace=pace, detail=detail)
        self._sums, self._finite, self._count, self._bad, self._timed = {}, 0, 0, 0, 0
        self._clock, self._waited = now, 0.0
