"""What stands against closing a month of a tenant, and what only should be known: counts, amounts, rows.

It changes nothing and decides nothing: closing.py refuses what blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from core import errors
from core.finance import bridge
from core.identity import access, zones
from core.identity.access import Actor
from core.identity.zones import Segment
from core.metering.charges import is_final
from core.periods import Period, month_of

GRACE = timedelta(minutes=5)  # no transaction that began before the month's end lives so long
ROWS_MAX = 200


class Code(StrEnum):
    """What is looked at, in the order it is shown."""

    ENDED = "ended"
    CLOSED = "closed"
    OPEN_CALLS = "open_calls"
    UNRECONCILED = "unreconciled"
    ESTIMATES = "estimates"
    DAILY_SUMS = "daily_sums"
    LEDGER = "ledger"


class Level(StrEnum):
    """What a check comes to."""

    OK = "ok"
    WARNS = "warns"
    BLOCKS = "blocks"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. `amount_nusd` is what its rows come to: held, billed so far, or a difference."""

    code: Code
    level: Level
    count: int
    amount_nusd: int


@dataclass(frozen=True, slots=True)
class Checks:
    """Everything that was looked at for one month, whose bounds are those of the tenant's calendar."""

    tenant_id: UUID
    month: date
    segment: Segment
    found: tuple[Check, ...]

    @property
    def blocking(self) -> tuple[Check, ...]:
        """What must be settled first."""
        return tuple(check for check in self.found if check.level is Level.BLOCKS)

    @property
    def warnings(self) -> tuple[Check, ...]:
        """What is closed over, and kept with the closing."""
        return tuple(check for check in self.found if check.level is Level.WARNS)


@dataclass(frozen=True, slots=True)
class Row:
    """One row behind a finding: a call, or a day's sum. `note` says what is the matter with it."""

    call_id: UUID | None
    at: datetime | None
    person: str | None
    model: str | None
    amount_nusd: int
    note: str


def read(
    session: Session,
    who: Actor,
    tenant_id: UUID,
    month: date,
    *,
    accept_unreconciled: bool = False,
) -> Checks:
    """Look at a month (its first day). With `accept_unreconciled` calls that are not final only warn.

    Raises errors.Forbidden, errors.NotFound, errors.BadInput for what is no month.
    """
    access.require_finance(who, tenant_id)
    segment = segment_of(session, tenant_id, month)
    sums = session.execute(text(_SUMS), _asked(tenant_id, month, segment)).one()
    tied = bridge.read(session, who, tenant_id, month_of(month))
    unreconciled = Level.WARNS if accept_unreconciled else Level.BLOCKS
    found = (
        _check(Code.ENDED, int(not sums.ended), 0),
        _check(Code.CLOSED, sums.closings, sums.closed_nusd),
        _check(Code.OPEN_CALLS, sums.open_calls, sums.held_nusd),
        _check(Code.UNRECONCILED, sums.unreconciled, sums.unreconciled_nusd, unreconciled),
        _check(Code.ESTIMATES, sums.estimates, sums.estimated_nusd, Level.WARNS),
        _check(Code.DAILY_SUMS, *_daily_difference(session, tenant_id, month, segment)),
        _check(Code.LEDGER, int(tied.difference_nusd != 0), tied.difference_nusd),
    )
    return Checks(tenant_id, month, segment, found)


def rows(session: Session, who: Actor, tenant_id: UUID, month: date, code: Code) -> tuple[Row, ...]:
    """The rows behind a finding, at most ROWS_MAX; none for those that are about the month itself.

    Raises as `read`.
    """
    access.require_finance(who, tenant_id)
    if code is Code.LEDGER:
        return _untied(session, who, tenant_id, month)
    statement = _ROWS.get(code)
    if statement is None:
        return ()
    asked = _asked(tenant_id, month, segment_of(session, tenant_id, month)) | {"limit": ROWS_MAX}
    return tuple(Row(**row) for row in session.execute(text(statement), asked).mappings())


def segment_of(session: Session, tenant_id: UUID, month: date) -> Segment:
    """The stretch of time that is a tenant's month: one, as a zone changes only between months.

    Raises errors.NotFound, errors.BadInput for what is no first day of a month with a past.
    """
    calendar = zones.calendar_of(session, tenant_id)
    first = first_months(session, tenant_id)[tenant_id]
    if month.day != 1 or not first <= month <= calendar.today():
        raise errors.BadInput("There is no such month to close.", param="month")
    (segment,) = calendar.segments(month_of(month))
    return segment


def first_months(session: Session, tenant_id: UUID | None = None) -> dict[UUID, date]:
    """With which month a tenant (or each) began: when it was made, or with older usage it brought."""
    found = session.execute(text(_FIRST_MONTHS), {"tenant": tenant_id})
    return {row.tenant_id: row.month for row in found}


def _check(code: Code, count: int, amount_nusd: int, level: Level = Level.BLOCKS) -> Check:
    return Check(code, level if count else Level.OK, count, amount_nusd)


def _daily_difference(
    session: Session, tenant_id: UUID, month: date, segment: Segment
) -> tuple[int, int]:
    row = session.execute(text(_DAILY_SUMS), _asked(tenant_id, month, segment)).one()
    return row.days, row.amount_nusd


def _untied(session: Session, who: Actor, tenant_id: UUID, month: date) -> tuple[Row, ...]:
    found = bridge.offences(session, who, tenant_id, month_of(month))
    return tuple(
        Row(one.call_id, None, None, None, one.used_nusd - one.booked_nusd,
            f"{one.kind}: used {one.used_nusd}, booked {one.booked_nusd} nano-USD")
        for one in found
    )  # fmt: skip


def _asked(tenant_id: UUID, month: date, segment: Segment) -> dict[str, Any]:
    days: Period = month_of(month)
    return {
        "tenant": tenant_id, "month": month, "begins": segment.begins, "ends": segment.ends,
        "zone": segment.time_zone, "first": days.first, "last": days.last, "grace": GRACE,
    }  # fmt: skip


_FIRST_MONTHS = """
select t.tenant_id, least(verbs.month_of(t.tenant_id, t.created_at), (
    select date_trunc('month', min(d.day))::date from app.usage_daily_models d
    where d.tenant_id = t.tenant_id)) as month
from app.tenants t where cast(:tenant as uuid) is null or t.tenant_id = :tenant
"""

_OPEN_CALLS = """
app.calls c where c.tenant_id = :tenant and c.state = 'open'
  and c.opened_at >= :begins and c.opened_at < :ends
"""
_UNRECONCILED = """
app.lookups l
join app.calls c on c.tenant_id = l.tenant_id and c.call_id = l.call_id
join app.usage_events e on e.tenant_id = c.tenant_id and e.call_id = c.call_id
  and e.occurred_at = c.opened_at and e.kind = 'call'
where l.tenant_id = :tenant and c.opened_at >= :begins and c.opened_at < :ends
"""
# Nobody can be asked about these: no look-up waits, and no correction has come.
_ESTIMATES = f"""
app.usage_events e
where e.tenant_id = :tenant and e.occurred_at >= :begins and e.occurred_at < :ends
  and e.kind = 'call' and e.cost_source = 'estimate'
  and {is_final("e")}
  and not exists (select from app.usage_events a where a.tenant_id = e.tenant_id
    and a.call_id = e.call_id and a.kind = 'adjustment' and a.occurred_at >= e.occurred_at)
"""

_SUMS = f"""
select clock_timestamp() >= cast(:ends as timestamptz) + cast(:grace as interval) as ended,
  (select count(*) from app.closings c where c.tenant_id = :tenant and c.month = :month
    and c.reopened_at is null) as closings,
  coalesce((select c.billed_nusd from app.closings c where c.tenant_id = :tenant and c.month = :month
    and c.reopened_at is null), 0) as closed_nusd,
  open.*, unreconciled.*, estimated.*
from (select count(*) as open_calls, coalesce(sum(c.hold_nusd), 0)::bigint as held_nusd
    from {_OPEN_CALLS}) as open,
  (select count(*) as unreconciled, coalesce(sum(e.billed_nusd), 0)::bigint as unreconciled_nusd
    from {_UNRECONCILED}) as unreconciled,
  (select count(*) as estimates, coalesce(sum(e.billed_nusd), 0)::bigint as estimated_nusd
    from {_ESTIMATES}) as estimated
"""  # noqa: S608 - our own text

# Both kinds of daily sums as they are stored and as the events say that are not pending; whoever is null
# is the sum of all.
_ADDED = [
    "prompt_tokens", "cached_tokens", "cache_write_tokens", "completion_tokens", "reasoning_tokens",
    "list_nusd", "billed_nusd",
]  # fmt: skip
_COLUMNS = f"model, source, requests, errors, {', '.join(_ADDED)}"
_EVENTS = ", ".join(f"sum({name})::bigint as {name}" for name in _ADDED)
_PEOPLE = ", ".join(f"sum({name})::bigint as {name}" for name in ("requests", "errors", *_ADDED))
_DIFFERING = f"""
with people as (
  select greatest((occurred_at at time zone :zone)::date, :first) as day, user_id,
    model_served as model, source, count(*) filter (where kind = 'call') as requests,
    count(*) filter (where kind = 'call' and outcome in ('error', 'timeout')) as errors, {_EVENTS}
  from app.usage_events e
  where tenant_id = :tenant and occurred_at >= :begins and occurred_at < :ends
    and not exists (select from app.usage_pending p
      where p.tenant_id = e.tenant_id and p.event_id = e.event_id)
  group by 1, 2, 3, 4),
counted as (
  select day, user_id, {_COLUMNS} from people union all
  select day, null, model, source, {_PEOPLE} from people group by day, model, source),
stored as (
  select day, user_id, {_COLUMNS} from app.usage_daily
  where tenant_id = :tenant and day between :first and :last union all
  select day, null, {_COLUMNS} from app.usage_daily_models
  where tenant_id = :tenant and day between :first and :last),
differing as (
  select day, user_id, model, source, sum(sign * billed_nusd)::bigint as amount_nusd
  from ((select 1 as sign, * from stored except all select 1, * from counted) union all
    (select -1, * from counted except all select -1, * from stored)) as sides
  group by day, user_id, model, source)
"""  # noqa: S608 - as above
_DAILY_SUMS = f"""{_DIFFERING}
select count(*) as days, coalesce(sum(abs(amount_nusd)), 0)::bigint as amount_nusd
from differing
"""  # noqa: S608 - as above

_ROWS = {
    Code.OPEN_CALLS: f"""
select c.call_id, c.opened_at as at, (select name from app.labels where tenant_id = c.tenant_id
    and label_id = c.user_label_id) as person, c.model_requested as model, c.hold_nusd as amount_nusd,
  'runs; its hold is still open' as note
from {_OPEN_CALLS} order by c.opened_at limit :limit
""",  # noqa: S608 - as above
    Code.UNRECONCILED: f"""
select c.call_id, c.opened_at as at, (select name from app.labels where tenant_id = c.tenant_id
    and label_id = c.user_label_id) as person, e.model_served as model, e.billed_nusd as amount_nusd,
  'asked ' || l.attempts || ' times' || coalesce(': ' || l.last_error, '') as note
from {_UNRECONCILED} order by c.opened_at limit :limit
""",  # noqa: S608 - as above
    Code.ESTIMATES: f"""
select e.call_id, e.occurred_at as at, (select name from app.labels where tenant_id = e.tenant_id
    and label_id = e.user_label_id) as person, e.model_served as model, e.billed_nusd as amount_nusd,
  'final; worked out from its text, the provider has no record of it' as note
from {_ESTIMATES} order by e.billed_nusd desc, e.occurred_at limit :limit
""",  # noqa: S608 - as above
    Code.DAILY_SUMS: f"""{_DIFFERING}
select null::uuid as call_id, null::timestamptz as at, user_id::text as person, model, amount_nusd,
  case when user_id is null then 'sum by model' else 'sum by person' end || ' of ' || day || ', ' || source
    as note
from differing order by day, model, user_id limit :limit
""",  # noqa: S608 - as above
}
