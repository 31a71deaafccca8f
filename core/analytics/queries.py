"""Reads of a tenant's usage: days, calls, people. Members get their own, admins and finance the
tenant's; row security bounds both. Changes nothing and shows no content of any call."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import pandas as pd
from sqlalchemy import text
from sqlalchemy.orm import Session

from core.analytics.periods import Period
from core.analytics.usage import COLUMNS
from core.identity import tenants
from core.identity.access import Principal, Role, require

CALLS_MAX = 200
TREND_DAYS = 14
_WIDE = (Role.ADMIN, Role.FINANCE)


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page of calls ended: the next one holds what is older."""

    occurred_at: datetime
    call_id: UUID


@dataclass(frozen=True, slots=True)
class CallRow:
    """One call with its corrections summed in; `final` is False while the true cost is awaited."""

    occurred_at: datetime
    call_id: UUID
    user_id: UUID
    person: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    cost_nusd: int
    outcome: str
    latency_ms: int
    source: str
    cost_source: str
    final: bool

    @property
    def cursor(self) -> Cursor:
        """The place of this row in the order of calls."""
        return Cursor(self.occurred_at, self.call_id)


@dataclass(frozen=True, slots=True)
class CallSums:
    """What all calls of a selection come to."""

    calls: int
    tokens: int
    cost_nusd: int


@dataclass(frozen=True, slots=True)
class PersonRow:
    """One person's part of a period, and of this month's budget where they have one.

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


def sees_tenant(who: Principal) -> bool:
    """Whether the person's role shows the whole tenant's usage rather than their own."""
    return who.role in _WIDE


def daily(session: Session, who: Principal, period: Period) -> pd.DataFrame:
    """Sums by day and model, as `usage.COLUMNS`; days without use have no row."""
    rows = session.execute(
        text(_DAILY), {"first": period.first, "last": period.last, "whose": _whose(who)}
    ).all()
    frame = pd.DataFrame([tuple(row) for row in rows], columns=list(COLUMNS))
    return frame.astype(dict.fromkeys(COLUMNS[2:], "int64"))


def calls(
    session: Session,
    who: Principal,
    period: Period,
    *,
    model: str | None = None,
    person_id: UUID | None = None,
    before: Cursor | None = None,
    limit: int = 50,
) -> tuple[CallRow, ...]:
    """The newest calls of the period, older than `before`; at most CALLS_MAX.

    `person_id` narrows to one person for those who see the tenant; others see their own always.
    """
    asked = _selection(who, period, model, person_id) | {
        "before_at": before.occurred_at if before else None,
        "before_id": before.call_id if before else None,
        "limit": min(max(limit, 1), CALLS_MAX),
    }
    return tuple(CallRow(**row) for row in session.execute(text(_CALLS), asked).mappings())


def call_sums(
    session: Session,
    who: Principal,
    period: Period,
    *,
    model: str | None = None,
    person_id: UUID | None = None,
) -> CallSums:
    """What `calls` of the same selection come to on all its pages."""
    asked = _selection(who, period, model, person_id)
    return CallSums(**session.execute(text(_CALL_SUMS), asked).mappings().one())


def people(session: Session, who: Principal, period: Period) -> tuple[PersonRow, ...]:
    """Everyone who used anything in the period, the costliest first. Raises errors.Forbidden."""
    require(who, *_WIDE)
    names = {member.user_id: member for member in tenants.members(session, who)}
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


def _whose(who: Principal) -> UUID | None:
    """The person whose rows alone may be read; None for the whole tenant."""
    return None if sees_tenant(who) else who.user_id


def _selection(
    who: Principal, period: Period, model: str | None, person_id: UUID | None
) -> dict[str, Any]:
    begins, ends = period.bounds(who.time_zone)
    return {
        "begins": begins, "ends": ends, "model": model, "whose": _whose(who) or person_id,
    }  # fmt: skip


_DAILY = """
select day, model, sum(requests)::bigint, sum(errors)::bigint,
  sum(prompt_tokens + completion_tokens)::bigint, sum(billed_nusd)::bigint
from app.usage_daily
where day between :first and :last and (cast(:whose as uuid) is null or user_id = :whose)
group by day, model order by day, model
"""

# A correction carries the opening time of the call it corrects, so the two meet in one partition;
# the model is the one the call was counted under, which a correction does not move.
_MATCHING = """
app.usage_events e
where e.occurred_at >= :begins and e.occurred_at < :ends
  and (cast(:whose as uuid) is null or e.user_id = :whose)
  and (cast(:model as text) is null or :model = (
    select c.model_served from app.usage_events c
    where c.tenant_id = e.tenant_id and c.occurred_at = e.occurred_at and c.call_id = e.call_id
      and c.kind = 'call'))
"""

_CALLS = f"""
with page as (
  select e.occurred_at, e.call_id from {_MATCHING}
    and e.kind = 'call'
    and (cast(:before_at as timestamptz) is null
      or (e.occurred_at, e.call_id) < (:before_at, cast(:before_id as uuid)))
  order by e.occurred_at desc, e.call_id desc limit :limit)
select first.occurred_at, first.call_id, first.user_id, label.name as person,
  first.model_served as model, every.prompt_tokens, every.completion_tokens, every.cost_nusd,
  first.outcome, first.latency_ms, first.source, every.cost_source,
  not exists (select from app.lookups l
    where l.tenant_id = first.tenant_id and l.call_id = first.call_id) as final
from page
join app.usage_events first on first.occurred_at = page.occurred_at
  and first.call_id = page.call_id and first.kind = 'call'
join app.labels label on label.tenant_id = first.tenant_id and label.label_id = first.user_label_id
cross join lateral (
  select sum(e.prompt_tokens)::bigint as prompt_tokens,
    sum(e.completion_tokens)::bigint as completion_tokens,
    sum(e.billed_nusd)::bigint as cost_nusd,
    (array_agg(e.cost_source order by e.event_id desc))[1] as cost_source
  from app.usage_events e
  where e.tenant_id = first.tenant_id and e.occurred_at = first.occurred_at
    and e.call_id = first.call_id) as every
order by first.occurred_at desc, first.call_id desc
"""  # noqa: S608 - our own text

_CALL_SUMS = f"""
select count(*) filter (where e.kind = 'call') as calls,
  coalesce(sum(e.prompt_tokens + e.completion_tokens), 0)::bigint as tokens,
  coalesce(sum(e.billed_nusd), 0)::bigint as cost_nusd
from {_MATCHING}
"""  # noqa: S608 - our own text

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
  coalesce(month.spent_nusd, 0) as month_nusd,
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
