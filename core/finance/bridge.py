"""Ties what was used in a period to what the ledger took for it, call by call. The two differ only by
when they date a call: usage by its opening, the ledger by the moment it booked. It changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from core.identity import access, zones
from core.identity.access import Actor
from core.periods import Period

OFFENCES_MAX = 200


@dataclass(frozen=True, slots=True)
class Leg:
    """How many usage events or entries, and what they come to."""

    count: int
    amount_nusd: int


@dataclass(frozen=True, slots=True)
class Bridge:
    """From the ledger to the usage of a period: booked - used_elsewhere + booked_elsewhere = used.

    `booked` are captures and adjustments dated in the period; `used_elsewhere` those of them for usage of
    another one; `booked_elsewhere` those dated in another one for usage of this. Usage that cost nothing
    has no entry and is not counted.
    """

    used: Leg
    booked: Leg
    used_elsewhere: Leg
    booked_elsewhere: Leg

    @property
    def difference_nusd(self) -> int:
        """What the ledger does not explain of the usage: nothing, or something is broken."""
        explained = self.booked.amount_nusd - self.used_elsewhere.amount_nusd
        return self.used.amount_nusd - explained - self.booked_elsewhere.amount_nusd


@dataclass(frozen=True, slots=True)
class Offence:
    """A call, or a correction of one, for which usage and ledger differ."""

    call_id: UUID
    kind: str
    used_nusd: int
    booked_nusd: int


def read(session: Session, who: Actor, tenant_id: UUID, period: Period) -> Bridge:
    """The bridge of a tenant's days. Raises errors.Forbidden, errors.NotFound."""
    access.require_finance(who, tenant_id)
    row = session.execute(text(_LEGS), _asked(session, tenant_id, period)).one()
    legs = (Leg(int(row[n]), int(row[n + 1])) for n in range(0, 8, 2))
    return Bridge(*legs)


def offences(session: Session, who: Actor, tenant_id: UUID, period: Period) -> tuple[Offence, ...]:
    """What makes a difference: at most OFFENCES_MAX, the largest first. Raises as `read`."""
    access.require_finance(who, tenant_id)
    asked = _asked(session, tenant_id, period) | {"limit": OFFENCES_MAX}
    return tuple(Offence(*row) for row in session.execute(text(_OFFENCES), asked))


def _asked(session: Session, tenant_id: UUID, period: Period) -> dict[str, Any]:
    begins, ends = zones.calendar_of(session, tenant_id).bounds(period)
    asked: dict[str, datetime | UUID] = {"tenant": tenant_id, "begins": begins, "ends": ends}
    return asked


# A call is captured once, and adjusted as often as a truth about it came: each time with one event and one
# entry, in the same order. Most captures lie in the period of their call and are found by one join; the
# others, and the few adjustments, are looked up by their call.
_PAIRS = """
with used as (
  select call_id, kind, billed_nusd from app.usage_events
  where tenant_id = :tenant and occurred_at >= :begins and occurred_at < :ends and billed_nusd <> 0),
booked as (
  select call_id, kind, -amount_nusd as taken_nusd from app.entries
  where tenant_id = :tenant and occurred_at >= :begins and occurred_at < :ends
    and kind in ('capture', 'adjust')),
captured as (
  select call_id, 'call' as kind, u.call_id is not null as is_used, b.call_id is not null as is_booked,
    coalesce(u.billed_nusd, (select e.billed_nusd from app.usage_events e
      where e.tenant_id = :tenant and e.call_id = b.call_id and e.kind = 'call')) as billed_nusd,
    coalesce(b.taken_nusd, (select -e.amount_nusd from app.entries e
      where e.tenant_id = :tenant and e.call_id = u.call_id and e.kind = 'capture')) as taken_nusd
  from (select * from used where kind = 'call') u
  full join (select * from booked where kind = 'capture') b using (call_id)),
adjusted as (
  select call_id from used where kind = 'adjustment' union
  select call_id from booked where kind = 'adjust'),
corrections as (
  select call_id, e.billed_nusd, e.occurred_at >= :begins and e.occurred_at < :ends as is_used,
    row_number() over (partition by call_id order by e.event_id) as n
  from adjusted join app.usage_events e using (call_id)
  where e.tenant_id = :tenant and e.kind = 'adjustment' and e.billed_nusd <> 0),
adjustments as (
  select call_id, -e.amount_nusd as taken_nusd,
    e.occurred_at >= :begins and e.occurred_at < :ends as is_booked,
    row_number() over (partition by call_id order by e.seq) as n
  from adjusted join app.entries e using (call_id)
  where e.tenant_id = :tenant and e.kind = 'adjust'),
pairs as (
  select * from captured union all
  select call_id, 'adjustment', coalesce(is_used, false), coalesce(is_booked, false), billed_nusd,
    taken_nusd
  from corrections full join adjustments using (call_id, n)
  where is_used or is_booked)
"""

_LEGS = f"""{_PAIRS}
select count(*) filter (where is_used), coalesce(sum(billed_nusd) filter (where is_used), 0),
  count(*) filter (where is_booked), coalesce(sum(taken_nusd) filter (where is_booked), 0),
  count(billed_nusd) filter (where not is_used), coalesce(sum(billed_nusd) filter (where not is_used), 0),
  count(taken_nusd) filter (where not is_booked),
  coalesce(sum(taken_nusd) filter (where not is_booked), 0)
from pairs
"""  # noqa: S608 - our own text

_OFFENCES = f"""{_PAIRS}
select call_id, kind, coalesce(billed_nusd, 0) as used_nusd, coalesce(taken_nusd, 0) as booked_nusd
from pairs where billed_nusd is distinct from taken_nusd
order by abs(coalesce(billed_nusd, 0) - coalesce(taken_nusd, 0)) desc, call_id, kind
limit :limit
"""  # noqa: S608 - as above
