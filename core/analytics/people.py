"""What each person of a tenant used in a period, for its admins and finance: cost, share of the month's
budget, the last days. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from core.identity import members
from core.identity.access import Principal, Role, require
from core.identity.limits import percent_used
from core.periods import Period

TREND_DAYS = 14


@dataclass(frozen=True, slots=True)
class PersonRow:
    """One person's part of a period, and of this month's budget where they have one: `month_nusd` is
    what the gate counts against it.

    `trend_nusd` is the cost of each of the period's last TREND_DAYS days.
    """

    user_id: UUID
    name: str
    email: str
    requests: int
    tokens: int
    cost_nusd: int
    top_model: str
    month_nusd: int
    budget_nusd: int | None
    trend_nusd: tuple[int, ...]

    @property
    def budget_percent(self) -> int | None:
        """How much of this month's budget is used; None without one."""
        if self.budget_nusd is None:
            return None
        return percent_used(self.month_nusd, self.budget_nusd)


def of_period(session: Session, who: Principal, period: Period) -> tuple[PersonRow, ...]:
    """Everyone who used anything in the period, the costliest first. Raises errors.Forbidden."""
    require(who, Role.ADMIN, Role.FINANCE)
    names = {member.user_id: member for member in members.colleagues(session, who)}
    rows = session.execute(
        text(_PEOPLE),
        {"first": period.first, "last": period.last, "plan": who.plan, "trend": TREND_DAYS},
    ).mappings()
    return tuple(
        PersonRow(
            name=names[row["user_id"]].name or names[row["user_id"]].email,
            email=names[row["user_id"]].email,
            **{**row, "trend_nusd": tuple(row["trend_nusd"])},
        )
        for row in rows
    )


_PEOPLE = """
with used as (
  select user_id, sum(requests)::bigint as requests,
    sum(prompt_tokens + completion_tokens)::bigint as tokens,
    sum(billed_nusd)::bigint as cost_nusd
  from app.usage_daily where day between :first and :last group by user_id),
by_model as (
  select distinct on (user_id) user_id, model
  from app.usage_daily where day between :first and :last
  group by user_id, model order by user_id, sum(billed_nusd) desc, sum(requests) desc, model)
select used.user_id, used.requests, used.tokens, used.cost_nusd, by_model.model as top_model,
  coalesce(month.spent_nusd + month.held_nusd, 0) as month_nusd,
  case when o.limit_name is not null then o.maximum else d.maximum end as budget_nusd,
  trend.costs as trend_nusd
from used
join by_model on by_model.user_id = used.user_id
join app.tenants t on t.tenant_id = app.tenant()
left join app.counters month on month.tenant_id = t.tenant_id and month.subject_id = used.user_id
  and month.period = verbs.month_of(t.tenant_id, now())
left join app.limit_overrides o on o.tenant_id = t.tenant_id and o.scope = 'user'
  and o.subject_id = used.user_id and o.limit_name = 'monthly_nusd'
left join app.plan_limits d on d.plan = :plan and d.scope = 'user' and d.limit_name = 'monthly_nusd'
cross join lateral (
  select array_agg(coalesce((select sum(u.billed_nusd)::bigint from app.usage_daily u
      where u.user_id = used.user_id and u.day = days.day), 0) order by days.day) as costs
  from (select cast(:last as date) - n as day from generate_series(0, :trend - 1) as n) as days
) as trend
order by used.cost_nusd desc, used.requests desc, used.user_id
"""
