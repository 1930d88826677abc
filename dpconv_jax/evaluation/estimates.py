"""A number that is measured on images, and how far another choice of images would move it."""

import math
from collections.abc import Callable
from typing import NamedTuple, Self

import numpy as np


class Estimate(NamedTuple):
    """A value, its 95 % interval over the choice of images, and how many images entered it."""

    value: float | None  # None where there is none, and `reason` says why
    lo: float | None  # None where there is no interval
    hi: float | None
    n: int
    reason: str = ""

    def interval(self, form: str) -> str:
        """` [lo, hi]`, each in a format such as `.2f`; "" where there is none."""
        return "" if self.lo is None or self.hi is None else f" [{self.lo:{form}}, {self.hi:{form}}]"

    def scaled(self, factor: float) -> Self:
        """In another unit."""
        value, lo, hi = (None if number is None else factor * number for number in (self.value, self.lo, self.hi))
        return self._replace(value=value, lo=lo, hi=hi)


def missing(reason: str) -> Estimate:
    """No value."""
    return Estimate(None, None, None, 0, reason)


def normal(value: float, *, error: float, n: int) -> Estimate:
    """The interval of a normal distribution of this standard error."""
    return Estimate(value, value - 1.96 * error, value + 1.96 * error, n)


def bootstrapped(
    values: np.ndarray, *, resamples: int, seed: int, statistic: Callable[[np.ndarray], float] = np.mean
) -> Estimate:
    """A statistic of `values` (N,), of which N >= 1, their mean by default, with its percentile bootstrap interval.

    There is none for fewer than two values or resamples below 1, nor where a value is NaN. One seed resamples the same
    images for every method with the same N.
    """
    values = np.asarray(values, np.float64)
    value, n = float(statistic(values)), len(values)
    if n < 2 or resamples < 1 or math.isnan(value):
        return Estimate(value, None, None, n)
    rng = np.random.default_rng(seed)
    drawn = [statistic(values[rng.integers(n, size=n)]) for _ in range(resamples)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Estimate(value, float(low), float(high), n)
