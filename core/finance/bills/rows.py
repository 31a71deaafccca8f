"""What a provider's bill is made of, and exact sums of its amounts. Pure data: reads and keeps nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from core.catalog.activity import EXACT


@dataclass(frozen=True, slots=True)
class DayRow:
    """What a provider took for (a part of) a model on a UTC day."""

    day: date
    model: str
    requests: int
    tokens: int
    cost_usd: Decimal


@dataclass(frozen=True, slots=True)
class Line:
    """What a provider took for one generation."""

    generation_id: str
    occurred_at: datetime
    model: str
    prompt_tokens: int
    completion_tokens: int
    cost_usd: Decimal


def total(amounts: Iterable[Decimal]) -> Decimal:
    """The sum to the last digit; Python's own would round after 28."""
    found = Decimal(0)
    for amount in amounts:
        found = EXACT.add(found, amount)
    return found


def less(amount: Decimal, other: Decimal) -> Decimal:
    """The difference to the last digit."""
    return EXACT.subtract(amount, other)
