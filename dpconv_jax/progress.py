"""How far a run is, for the person watching: a bar on a terminal, plain lines elsewhere."""

import math
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Reporter:
    """Context of a loop to `steps` steps of `batch_size` images that starts at `start`."""

    def __init__(self, *, start: int, steps: int, batch_size: int):
        self._steps, self._batch_size = steps, batch_size
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

    def say(self, line: str) -> None:
        """A line that stays."""
        if self._bar:
            self._bar.console.print(line, highlight=False)
        else:
            print(line, flush=True)
