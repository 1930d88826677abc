"""The signals that ask a run to stop."""

import contextlib
import signal
from collections.abc import Callable, Generator
from types import FrameType
from typing import Self

INTERRUPTED = 42  # exit code of a run that was asked to stop: the same command goes on


class Stop:
    """SIGTERM and SIGINT: heeded at once, or inside `deferred()` when the loop looks. A second SIGINT kills."""

    def __init__(self) -> None:
        self._requested = False
        self._deferred = False

    @property
    def requested(self) -> bool:
        """Whether to stop now."""
        return self._requested

    @contextlib.contextmanager
    def asked(self, times: int) -> Generator[Callable[[], None]]:
        """A context to look in, SystemExit(42) where the run is to stop: that many times, some of them when it ends.

        Work that is divided among processes, and may end early or fail in one of them, is done in it.
        """
        looks = 0

        def look() -> None:
            nonlocal looks
            looks += 1
            if self.requested:
                raise SystemExit(INTERRUPTED)

        yield look
        while looks < times:
            look()

    @contextlib.contextmanager
    def listening(self) -> Generator[Self]:
        """A context in which the two signals end the run with SystemExit(42)."""
        before = {number: signal.signal(number, self._handle) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def deferred(self) -> Generator[None]:
        """A context in which they only set `requested`."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._requested:
            raise KeyboardInterrupt
        self._requested = True
        if not self._deferred:
            raise SystemExit(INTERRUPTED)
