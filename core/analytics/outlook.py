"""Where the month's spend is heading. Says nothing before the fifth day of a month, and how sure it is
afterwards. Amounts stay whole nano-USD; a mean is rounded once, at the end.

With S spent this month until now, today included; the last 28 whole days before today as the window,
beginning with its first day that cost anything; m(w) the mean cost of a weekday w in it (the mean of
all its days for a weekday it lacks), never below 0; and c what today has cost so far:

    forecast = S + max(0, m(today) - c) + sum of m(weekday) over the days of the month after today

The residual of a day is its cost less the mean of its weekday. With n days in the window, k different
weekdays among them and n > k, their variance is v = sum of squared residuals / (n - k). For L days
ahead, today included, of which L(w) fall on weekday w and n(w) days of the window do, the sum that is
forecast has variance v * (L + sum of L(w)^2 / n(w)): the days' own spread, and that of the means. The
band is forecast -+ 1.2816 times its root, which holds four of five outcomes if days vary as they did;
its low end is never below S. Without n > k there is no band.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction
from itertools import accumulate
from math import isqrt

from sqlalchemy.orm import Session

from core.analytics import figures
from core.analytics.scope import scope_of
from core.analytics.selection import Grain, Selection
from core.identity.access import Actor
from core.periods import Period, last_days, month_of

METHOD = (
    "What is spent so far, plus for each day left the mean of its weekday over the last 28 whole days;"
    " the band holds four of five months if days go on varying as they did."
)
FIRST_DAY = 5  # of a month, to forecast it
_WINDOW_DAYS = 28
_SPREAD = Fraction(12_816, 10_000)  # standard deviations to either side that hold 80 percent

Cumulative = tuple[tuple[date, int], ...]


@dataclass(frozen=True, slots=True)
class Outlook:
    """A month's spend, its forecast with the band (None: too early, or nothing to go by), the budget,
    and the spend up to each day of this month until today and of the whole month before."""

    spent_nusd: int
    forecast_nusd: int | None
    low_nusd: int | None
    high_nusd: int | None
    budget_nusd: int | None
    by_day: Cumulative
    last_month: Cumulative

    @property
    def is_over(self) -> bool:
        """Whether more than the budget is spent already."""
        return self.budget_nusd is not None and self.spent_nusd > self.budget_nusd

    @property
    def on_track(self) -> bool | None:
        """Whether the month ends within its budget if the use goes on like this; None: not known."""
        if self.budget_nusd is None or self.forecast_nusd is None:
            return None
        return self.forecast_nusd <= self.budget_nusd


def read(
    session: Session, who: Actor, selection: Selection, budget_nusd: int | None = None
) -> Outlook:
    """The running month of a selection's filters; its period does not matter."""
    today = figures.today(session, scope_of(who, selection))
    month = month_of(today)
    reach = Period(min(month.before.first, today - timedelta(days=_WINDOW_DAYS)), today)
    days = figures.series(session, who, selection.within(reach), Grain.DAY)
    return of_days({day.bucket: day.totals.billed_nusd for day in days}, today, budget_nusd)


def of_days(cost_nusd: Mapping[date, int], today: date, budget_nusd: int | None = None) -> Outlook:
    """The outlook from the cost of each day that had any: the window's, this and the last month's."""
    month = month_of(today)
    by_day = _cumulative(cost_nusd, Period(month.first, today))
    spent = by_day[-1][1]
    found = _forecast(cost_nusd, today, spent) if today.day >= FIRST_DAY else None
    forecast, low, high = found or (None, None, None)
    return Outlook(
        spent_nusd=spent, forecast_nusd=forecast, low_nusd=low, high_nusd=high,
        budget_nusd=budget_nusd, by_day=by_day, last_month=_cumulative(cost_nusd, month.before),
    )  # fmt: skip


def _forecast(
    cost_nusd: Mapping[date, int], today: date, spent: int
) -> tuple[int, int | None, int | None] | None:
    window = _window(cost_nusd, today)
    if not window:
        return None
    means = _means(window)
    ahead = Period(today, month_of(today).last).each_day()
    so_far = cost_nusd.get(today, 0)
    rest = max(Fraction(0), means[today.weekday()] - so_far)
    rest += sum(means[day.weekday()] for day in ahead[1:])
    forecast = spent + round(rest)
    margin = _margin(window, means, ahead)
    if margin is None:
        return forecast, None, None
    return forecast, max(spent, forecast - margin), forecast + margin


def _window(cost_nusd: Mapping[date, int], today: date) -> list[tuple[date, int]]:
    """The whole days to learn from: none where nothing was used on any."""
    days = last_days(_WINDOW_DAYS, today - timedelta(days=1)).each_day()
    used = [day for day in days if cost_nusd.get(day)]
    return [(day, cost_nusd.get(day, 0)) for day in days if used and day >= used[0]]


def _means(window: Sequence[tuple[date, int]]) -> dict[int, Fraction]:
    """The mean cost of each weekday; of one that the window lacks, that of all its days."""
    overall = Fraction(sum(cost for _, cost in window), len(window))
    means = {}
    for weekday in range(7):
        costs = [cost for day, cost in window if day.weekday() == weekday]
        mean = Fraction(sum(costs), len(costs)) if costs else overall
        means[weekday] = max(Fraction(0), mean)
    return means


def _margin(
    window: Sequence[tuple[date, int]], means: Mapping[int, Fraction], ahead: Sequence[date]
) -> int | None:
    """Half the width of the band."""
    seen = Counter(day.weekday() for day, _ in window)
    freedom = len(window) - len(seen)
    if freedom <= 0:
        return None
    squares = sum((cost - means[day.weekday()]) ** 2 for day, cost in window)
    left = Counter(day.weekday() for day in ahead)
    of_means = sum(Fraction(count**2, seen[day] or len(window)) for day, count in left.items())
    variance = Fraction(squares) / freedom * (len(ahead) + of_means) * _SPREAD**2
    return isqrt(round(variance))


def _cumulative(cost_nusd: Mapping[date, int], period: Period) -> Cumulative:
    days = period.each_day()
    return tuple(zip(days, accumulate(cost_nusd.get(day, 0) for day in days), strict=True))
