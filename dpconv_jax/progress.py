"""How far a run is, for the person watching: a bar on a terminal, plain lines elsewhere."""

import math
import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

EVERY = 30.0  # seconds between plain lines of a Counter


class Bar:
    """Context in which a bar stands on a terminal, and nothing elsewhere."""

    def __init__(self, *, total: int, start: int):
        console = Console()
        self._bar = None
        if console.is_terminal:
            columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
            # What goes to a file as errors must not become a part of the terminal.
            redirected = sys.stderr.isatty()
            self._bar = Progress(*columns, console=console, refresh_per_second=2, redirect_stderr=redirected)
            self._task = self._bar.add_task("", total=total, completed=start)

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def say(self, line: str) -> None:
        """A line that stays."""
        if self._bar:
            self._bar.console.print(line, highlight=False, markup=False, emoji=False, soft_wrap=True)
        else:
            print(line, flush=True)


class Counter(Bar):
    """Of `total` things that take unequal times."""

    def __init__(self, *, total: int, unit: str):
        super().__init__(total=total, start=0)
        self._total, self._unit, self._done = total, unit, 0
        self._start = self._said = time.monotonic()

    def advance(self, count: int | None = None) -> None:
        """One more, or `count` more, are finished."""
        self._done = min(self._done + (count or 1), self._total)
        now = time.monotonic()
        pace = f"{self._done / max(now - self._start, 1e-9):.2f} {self._unit}/s"
        if self._bar:
            self._bar.update(self._task, completed=self._done, description=pace)
        elif now - self._said >= EVERY:
            self._said = now
            self.say(f"{self._done}/{self._total} {self._unit}, {pace}")


class Reporter(Bar):
    """Of a loop to `steps` steps of `batch_size` images that starts at `start`."""

    def __init__(self, *, start: int, steps: int, batch_size: int):
        super().__init__(total=steps, start=start)
        self._steps, self._batch_size = steps, batch_size

    def advance(self, step: int) -> None:
        """`step` steps are finished."""
        if self._bar:
            self._bar.update(self._task, completed=step)

    def report(self, step: int, *, loss: float, pace: float, detail: str) -> None:
        """Loss and seconds a step (nan: unknown yet): beside the bar, or on a line of its own with `detail`."""
        speed = "" if math.isnan(pace) else f"  {self._batch_size / pace:.1f} img/s"
        if self._bar:
            self._bar.update(self._task, description=f"loss {loss:.4g}{speed}")
            return
        if speed:
            minutes, seconds = divmod(round(pace * (self._steps - step)), 60)
            speed += f"  {minutes}:{seconds:02} left"
        self.say(f"step {step}/{self._steps}  loss {loss:.4g} ({detail}){speed}")
