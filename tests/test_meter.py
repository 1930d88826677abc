"""The numbers of a training: how much of its time it waited for data."""

import time
import types
from typing import Any

import pytest
from ml_collections import ConfigDict

from dpconv_jax.training import meter as module
from dpconv_jax.training.meter import LAG, Meter


class Log:
    """Stands for the writer and the reporter, and keeps what they are given."""

    def __init__(self) -> None:
        self.scalars: list[dict[str, float]] = []
        self.details: list[str] = []

    def last(self, name: str) -> float:
        return 0.0

    def write_scalars(self, step: int, scalars: dict[str, float]) -> None:
        self.scalars.append(scalars)

    def report(self, step: int, *, loss: float, pace: float, detail: str) -> None:
        self.details.append(detail)

    def say(self, line: str) -> None:
        assert line.startswith("first step done, ")


class Clock:
    """Stands for time, which passes as it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", types.SimpleNamespace(monotonic=lambda: clock.now, time=time.time))
    return clock


@pytest.mark.parametrize(("waiting", "working", "share"), [(0.02, 0.0, 1.0), (0.0, 0.02, 0.0), (0.01, 0.01, 0.5)])
def test_the_share_of_time_spent_waiting_for_data(clock: Clock, waiting: float, working: float, share: float):
    config = ConfigDict({"train": {"log_every": 5, "steps": 15, "batch_size": 4}})
    log: Any = Log()
    meter = Meter(config, terms=["total"], writer=log, reporter=log)
    for step in range(1, 16 + LAG):
        clock.sleep(waiting + working)
        first = step == 1  # it compiled
        meter.add(step, {"total": 1.0, "skipped": 0.0}, ids=["a"], bad=0, waited=9.0 if first else waiting)
        if step == 7:
            clock.sleep(0.1)
            meter.forgive(0.1)  # it validated
    first, *rest = log.scalars
    assert "train/data_wait" not in first
    assert [scalars["train/data_wait"] for scalars in rest] == pytest.approx([share] * 3, abs=1e-9)
    assert ["waiting for data" in detail for detail in log.details] == [False, *[waiting > 0] * 3]


def test_a_run_that_ends_early_keeps_the_numbers_and_the_time_since_the_last_line(clock: Clock):
    config = ConfigDict({"train": {"log_every": 50, "steps": 100, "batch_size": 4}})
    log: Any = Log()
    meter = Meter(config, terms=["total"], writer=log, reporter=log)
    for step in range(1, 8):
        clock.sleep(0.01)
        meter.add(step, {"total": float(step), "skipped": 0.0}, ids=["a"], bad=0, waited=0.0)
    meter.stop(7)
    assert [scalars["train/total"] for scalars in log.scalars] == [1.0, 4.5]  # of step 1, and of 2 to 7
    since_step_1 = 0.04  # it was read LAG steps later
    assert log.scalars[-1]["train/seconds"] == pytest.approx(since_step_1)
    meter.stop(7)
    assert len(log.scalars) == 2
