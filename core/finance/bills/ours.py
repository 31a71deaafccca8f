"""What our books say that a provider took on a UTC day, by model, and what of it is in doubt.

A call belongs to the UTC day it was opened on, whenever it was corrected; one that is known from the
bill alone to the day the bill names. Reads only.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from sqlalchemy import text
from sqlalchemy.orm import Session

from core.metering.charges import is_final

# A call may run as long; the provider may date it by its end, and so a day later than we do.
_RUNS_AT_MOST = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Doubt:
    """Calls whose cost may turn out otherwise: what is booked for them, and the most they held."""

    calls: int
    booked_usd: Decimal
    held_usd: Decimal


@dataclass(frozen=True, slots=True)
class Ours:
    """A model on a day, by the names we know it under.

    `requests` reached the provider. `before_usd` is of calls opened in the ten minutes before the day,
    `at_end_usd` in its last ten.
    """

    model_requested: str
    model_served: str
    requests: int
    usd: Decimal
    not_final: Doubt
    estimates: Doubt
    without_id: Doubt
    before_usd: Decimal
    at_end_usd: Decimal


def of_day(session: Session, provider: str, day: date) -> tuple[Ours, ...]:
    """The sums of one UTC day over all tenants; needs the jobs role."""
    begins = datetime.combine(day, time(), tzinfo=UTC)
    found = session.execute(
        text(_OF_DAY),
        {
            "provider": provider, "begins": begins, "ends": begins + timedelta(days=1),
            "runs": _RUNS_AT_MOST,
        },
    ).mappings()  # fmt: skip
    return tuple(
        Ours(
            row["model_requested"], row["model_served"], row["requests"], row["usd"],
            Doubt(row["open_calls"], row["open_usd"], row["open_held"]),
            Doubt(row["guessed_calls"], row["guessed_usd"], row["guessed_held"]),
            Doubt(row["nameless_calls"], Decimal(0), row["nameless_held"]),
            row["before_usd"], row["at_end_usd"],
        )
        for row in found
    )  # fmt: skip


# The provider's amount of a call is on its newest event that has one, as verbs.provider_usd reads it. A
# nano-USD is multiplied, not divided: a division would round.
_OF_DAY = f"""
with marked as (
  select e.tenant_id, e.call_id, e.occurred_at as at
  from app.usage_events e
  where e.provider = :provider and e.kind = 'call' and e.purpose <> 'imported'
    and e.occurred_at >= cast(:begins as timestamptz) - cast(:runs as interval)
    and e.occurred_at < :ends
  union all
  select l.of_tenant, l.call_id, l.occurred_at
  from app.bill_lines l join app.calls c on c.tenant_id = l.of_tenant and c.call_id = l.call_id
  where l.provider = :provider and c.purpose = 'imported' and l.occurred_at >= :begins
    and l.occurred_at < :ends),
events as (
  select m.at, e.*
  from marked m join app.usage_events e on e.tenant_id = m.tenant_id and e.call_id = m.call_id
    and e.occurred_at >= cast(:begins as timestamptz) - cast(:runs as interval)),
calls as (
  select e.tenant_id, e.call_id, min(e.at) as at,
    (array_agg(e.model_requested order by e.event_id))[1] as model_requested,
    (array_agg(e.model_served order by e.event_id))[1] as model_served,
    (array_agg(e.cost_source order by e.event_id desc))[1] as cost_source,
    bool_or(e.generation_id is not null) as has_id,
    coalesce((array_agg(e.provider_cost_usd order by e.event_id desc)
      filter (where e.provider_cost_usd is not null))[1], sum(e.list_nusd) * 0.000000001) as usd
  from events e group by 1, 2),
known as (
  select k.model_requested, k.model_served, k.at >= :begins as is_in,
    k.at >= cast(:ends as timestamptz) - cast(:runs as interval) as at_end, k.has_id, k.usd,
    k.cost_source, c.hold_nusd * 0.000000001 as held,
    not ({is_final("k")}) as is_open
  from calls k join app.calls c on c.tenant_id = k.tenant_id and c.call_id = k.call_id
  union all
  select c.model_requested, c.model_requested, true, false, c.generation_id is not null, 0, 'estimate',
    c.hold_nusd * 0.000000001, true
  from app.calls c
  where c.state = 'open' and c.provider = :provider and c.opened_at >= :begins and c.opened_at < :ends),
sorted as (
  select k.*, is_in and is_open as open, is_in and not is_open and cost_source = 'estimate' as guessed,
    is_in and not is_open and not has_id and usd = 0 as nameless
  from known k)
select model_requested, model_served,
  count(*) filter (where is_in and (has_id or usd <> 0)) as requests,
  coalesce(sum(usd) filter (where is_in), 0) as usd,
  count(*) filter (where open) as open_calls, coalesce(sum(usd) filter (where open), 0) as open_usd,
  coalesce(sum(held) filter (where open), 0) as open_held,
  count(*) filter (where guessed) as guessed_calls,
  coalesce(sum(usd) filter (where guessed), 0) as guessed_usd,
  coalesce(sum(held) filter (where guessed), 0) as guessed_held,
  count(*) filter (where nameless) as nameless_calls,
  coalesce(sum(held) filter (where nameless), 0) as nameless_held,
  coalesce(sum(usd) filter (where not is_in), 0) as before_usd,
  coalesce(sum(usd) filter (where at_end), 0) as at_end_usd
from sorted group by 1, 2 order by 1, 2
"""  # noqa: S608 - our own text
