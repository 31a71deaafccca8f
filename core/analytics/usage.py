"""Figures of a set of days, worked out of one frame: totals, changes, series by day and by model.
Reads no database. Amounts stay whole nano-USD; only a ratio is ever a fraction."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import pandas as pd

from core.analytics.periods import Period

COLUMNS = ("day", "model", "requests", "errors", "tokens", "cost_nusd")
OTHER = "Other models"
_SUMMED = ["requests", "errors", "tokens", "cost_nusd"]


@dataclass(frozen=True, slots=True)
class Totals:
    """What a period comes to. Tokens are prompt and answer together."""

    requests: int
    errors: int
    tokens: int
    cost_nusd: int

    @property
    def nusd_per_1k_tokens(self) -> int | None:
        """Nano-USD per thousand tokens, to the nearest; None when there were no tokens."""
        if self.tokens <= 0:
            return None
        return round(Fraction(self.cost_nusd * 1000, self.tokens))


@dataclass(frozen=True, slots=True)
class ModelShare:
    """One model's part of a period."""

    model: str
    requests: int
    tokens: int
    cost_nusd: int


def within(daily: pd.DataFrame, period: Period) -> pd.DataFrame:
    """The rows of `daily` that lie in the period."""
    return daily[(daily["day"] >= period.first) & (daily["day"] <= period.last)]


def totals(daily: pd.DataFrame) -> Totals:
    """The sums of every row."""
    sums = daily[_SUMMED].sum()
    return Totals(**{name: int(sums[name]) for name in _SUMMED})


def by_day(daily: pd.DataFrame, period: Period) -> pd.DataFrame:
    """One row per day of the period, also for days without use."""
    sums = within(daily, period).groupby("day")[_SUMMED].sum()
    return sums.reindex(period.each_day(), fill_value=0)


def models(daily: pd.DataFrame) -> tuple[ModelShare, ...]:
    """Every model's part, the costliest first."""
    sums = daily.groupby("model", as_index=False)[_SUMMED].sum()
    ordered = sums.sort_values(["cost_nusd", "tokens", "model"], ascending=[False, False, True])
    columns = ("model", "requests", "tokens", "cost_nusd")
    return tuple(
        ModelShare(str(model), int(requests), int(tokens), int(cost_nusd))
        for model, requests, tokens, cost_nusd in zip(
            *(ordered[column].tolist() for column in columns), strict=True
        )
    )


def cost_by_model(daily: pd.DataFrame, period: Period, *, models_max: int = 9) -> pd.DataFrame:
    """Nano-USD per day (rows) and model (columns, costliest first); the rest as `OTHER`."""
    rows = within(daily, period)
    named = [share.model for share in models(rows)]
    kept = named if len(named) <= models_max else named[: models_max - 1]
    label = rows["model"].where(rows["model"].isin(kept), OTHER)
    wide = rows.assign(model=label).pivot_table(
        index="day", columns="model", values="cost_nusd", aggfunc="sum", fill_value=0
    )
    columns = kept + ([OTHER] if len(kept) < len(named) else [])
    return wide.reindex(index=period.each_day(), columns=columns, fill_value=0).astype("int64")


def change(now: int | None, before: int | None) -> float | None:
    """The change from `before` to `now` as a fraction; None where nothing can be compared."""
    if not now and not before:
        return None
    if now is None or before is None or before <= 0:
        return None
    return float(Fraction(now - before, before))
