"""Quantiles of measured times, and medians over rounds; nothing here interpolates."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Of `count` values: each quantile is one of the values, NaN where there were none."""

    count: int
    p50: float
    p95: float
    p99: float
    largest: float


def quantiles(values: Iterable[float], scale: float = 1.0) -> Quantiles:
    """The quantiles of `values`, each multiplied by `scale` (1000: seconds to milliseconds)."""
    ordered = sorted(values)
    if not ordered:
        return Quantiles(0, math.nan, math.nan, math.nan, math.nan)
    ranks = [_rank(ordered, share) * scale for share in (0.50, 0.95, 0.99, 1.0)]
    return Quantiles(len(ordered), *ranks)


def median(values: Sequence[float]) -> float:
    """The median of those that are numbers; NaN where none is."""
    numbers = [value for value in values if not math.isnan(value)]
    return statistics.median(numbers) if numbers else math.nan


def _rank(ordered: Sequence[float], share: float) -> float:
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
