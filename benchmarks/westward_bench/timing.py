"""Repeated timing of calls, and the statistics of the samples. All times are seconds of ``time.perf_counter``."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

PERCENTILE_METHOD = "nearest rank"
"""The p-th percentile of n samples is the ceil(p n / 100)-th smallest: always a time that was really observed.

(Hyndman and Fan, "Sample Quantiles in Statistical Packages", 1996, definition 1; NumPy's "inverted_cdf".)
"""


def percentile(samples: Sequence[float], percent: float) -> float:
    """The percentile by nearest rank; `percent` is above 0 and at most 100.

    Raises:
        ValueError: there are no samples, or `percent` is out of range.
    """
    if not samples or not 0 < percent <= 100:
        raise ValueError(f"no {percent} percentile of {len(samples)} samples")
    rank = math.ceil(Fraction(str(percent)) * len(samples) / 100)
    return sorted(samples)[rank - 1]


INTERVAL_METHOD = "95 % percentile bootstrap of the ratio of medians, rounds drawn in pairs"
RESAMPLES = 2000


def ratio_interval(over: Sequence[float], under: Sequence[float]) -> tuple[float, float]:
    """The 95 % confidence interval of median(over) / median(under), whose n-th samples are of the same round.

    Whole rounds are drawn anew (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3), always by the same random numbers, so
    that a record gives the same interval again. With few rounds it is rough: with one it is a point.

    Raises:
        ValueError: there are no samples, or not as many of one as of the other.
    """
    if not over or len(over) != len(under):
        raise ValueError(f"no interval of {len(over)} to {len(under)} samples")
    draws = random.Random(0)
    ratios = []
    for _ in range(RESAMPLES):
        rounds = draws.choices(range(len(over)), k=len(over))
        ratios.append(percentile([over[n] for n in rounds], 50) / percentile([under[n] for n in rounds], 50))
    return percentile(ratios, 2.5), percentile(ratios, 97.5)


def time_call(call: Callable[[], object]) -> float:
    """Seconds that one call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def time_interleaved(
    calls: Mapping[str, Callable[[], object]],
    repeats: int,
    warmup: int,
    settle_s: float = 0.0,
    after_round: Callable[[], None] = lambda: None,
) -> dict[str, tuple[float, ...]]:
    """Times the calls in turn, `repeats` rounds after `warmup` untimed ones, so that drift of the machine meets all alike.

    Every other round runs in reverse order: what a call leaves behind (spinning threads, a warm clock, evicted caches)
    then does not always meet the same successor. `settle_s` is a pause before each call. `after_round` is called after
    each round, for progress.
    """
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(warmup + repeats):
        order = list(calls) if number % 2 == 0 else list(calls)[::-1]
        for name in order:
            time.sleep(settle_s)
            seconds = time_call(calls[name])
            if number >= warmup:
                samples[name].append(seconds)
        after_round()
    return {name: tuple(values) for name, values in samples.items()}
