"""Sides of a comparison take turns in one process; what is reported is the ratio, pair by pair."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Work = Callable[[], object]


@dataclass(frozen=True)
class Ratio:
    """Median over the pairs, and the quartiles, of one side's time to the other's."""

    median: float
    low: float
    high: float
    seconds: float
    """Median of the numerator's own time; for orientation only."""
    reference_seconds: float

    @classmethod
    def of(cls, times: Sequence[float], reference: Sequence[float]) -> "Ratio":
        ratios = [a / b for a, b in zip(times, reference, strict=True)]
        low, median, high = statistics.quantiles(ratios, n=4)
        return cls(median, low, high, statistics.median(times), statistics.median(reference))


def seconds(work: Work) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def alternate(sides: Mapping[str, Work], rounds: int, warm_up: int = 2) -> dict[str, list[float]]:
    """Times of each side, taken in turn, `rounds` times after `warm_up` rounds."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for round_ in range(warm_up + rounds):
        for name, work in sides.items():
            spent = seconds(work)
            if round_ >= warm_up:
                times[name].append(spent)
    return times
