"""Everything the Usage page shows at once, read in one transaction so that its parts agree."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import pandas as pd
from sqlalchemy.orm import Session

from core.analytics import budgets, queries, usage
from core.analytics.budgets import LimitUse, MonthUse, Outlook
from core.analytics.periods import Period, last_days, today
from core.analytics.queries import PersonRow
from core.identity.access import Principal

_TREND_DAYS = 7  # before the month's first day, for the forecast


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """A person's view of a period: `daily` reaches back to the period before and this month."""

    today: date
    period: Period
    daily: pd.DataFrame
    month: MonthUse
    people: tuple[PersonRow, ...]
    whole_tenant: bool

    @property
    def now(self) -> usage.Totals:
        """The period's sums."""
        return usage.totals(usage.within(self.daily, self.period))

    @property
    def before(self) -> usage.Totals:
        """The sums of the equally long period before it."""
        return usage.totals(usage.within(self.daily, self.period.before))

    @property
    def budget(self) -> LimitUse:
        """The month's spend limit of what this person sees."""
        return budgets.budget_of(self.month, whole_tenant=self.whole_tenant)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to show yet at all."""
        return self.daily.empty and not self.people

    def outlook(self) -> Outlook:
        """Where the month's spend is heading, of what this person sees."""
        reach = Period(self._reach, self.today)
        costs = usage.by_day(self.daily, reach)["cost_nusd"].tolist()
        by_day = list(zip(reach.each_day(), map(int, costs), strict=True))
        spent = sum(cost for day, cost in by_day if day >= self.month.month.first)
        return budgets.outlook(spent, by_day, self.today, self.budget.maximum)

    @property
    def _reach(self) -> date:
        return self.month.month.first - timedelta(days=_TREND_DAYS)


def read(session: Session, who: Principal, days: int) -> Report:
    """The report of the last `days` days of the tenant's zone, today included."""
    now = today(who.time_zone)
    period = last_days(days, now)
    reach = now.replace(day=1) - timedelta(days=_TREND_DAYS)
    whole = queries.sees_tenant(who)
    return Report(
        today=now,
        period=period,
        daily=queries.daily(session, who, Period(min(period.before.first, reach), now)),
        month=budgets.this_month(session, who),
        people=queries.people(session, who, period) if whole else (),
        whole_tenant=whole,
    )
