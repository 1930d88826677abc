"""How far a run is, for the person watching: a bar on a terminal, plain lines elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Reporter:
    """Context of a loop of `steps` steps that starts at `start`."""

    def __init__(self, *, start: int, steps: int):
        self._start, self._steps = start, steps
        self._began = time.monotonic()
        console = Console()
        self._bar = None
        if console.is_terminal:
            columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
            self._bar = Progress(*columns, console=console, refresh_per_second=2)
            self._task = self._bar.add_task("", total=steps, completed=start)

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def advance(self, step: int) -> None:
        """`step` steps are finished."""
        if self._bar:
            self._bar.update(self._task, completed=step)

    def report(self, step: int, *, loss: float, rate: float, detail: str) -> None:
        """Loss and images a second at `step`: beside the bar, or on a line of its own with `detail`."""
        if self._bar:
            self._bar.update(self._task, description=f"loss {loss:.4g}  {rate:.1f} img/s")
            return
        left = (time.monotonic() - self._began) / max(1, step - self._start) * (self._steps - step)
        minutes, seconds = divmod(round(left), 60)
        self.say(
            f"step {step}/{self._steps}  loss {loss:.4g} ({detail})  {rate:.1f} img/s  {minutes}:{seconds:02} left"
        )

    def say(self, line: str) -> None:
        """A line that stays."""
        if self._bar:
            self._bar.console.print(line, highlight=False)
        else:
            print(line, flush=True)
