"""The months of a tenant, or of all tenants, as finance looks at them: what was used, what is closed, what
came late, which files are kept. It changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from core.finance import checks, closing
from core.finance.closing import Closed
from core.finance.tables import Closing, ExportFile
from core.identity import access, zones
from core.identity.access import Actor, Principal, require_operator
from core.metering import rollups
from core.periods import following_month, month_of


class State(StrEnum):
    """What became of a month so far."""

    OPEN = "open"
    CLOSED = "closed"
    REOPENED = "reopened"


@dataclass(frozen=True, slots=True)
class Month:
    """A month of a tenant as it is now, and its newest closing; `list_nusd` only for operators.

    `late` are the adjustments of its calls that are dated in later months, because it was closed.
    """

    month: date
    state: State
    ended: bool
    requests: int
    tokens: int
    list_nusd: int | None
    billed_nusd: int
    closing: Closed | None
    late_count: int
    late_nusd: int


@dataclass(frozen=True, slots=True)
class OfTenant:
    """One tenant's part of a month, for operators."""

    tenant_id: UUID
    name: str
    state: State
    requests: int
    list_nusd: int
    billed_nusd: int
    closed_at: datetime | None


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that was built of a closed month and is kept with it."""

    kind: str
    format: str
    rows: int
    size_bytes: int
    sha256: str
    built_at: datetime | None


def of_tenant(session: Session, who: Actor, tenant_id: UUID) -> tuple[Month, ...]:
    """Every month of a tenant from its first to the current one, the newest first.

    Raises errors.Forbidden, errors.NotFound.
    """
    access.require_finance(who, tenant_id)
    calendar = zones.calendar_of(session, tenant_id)
    now = session.execute(text("select clock_timestamp()")).scalar_one()
    asked = {"tenant": tenant_id}
    rollups.flush(session, tenant_id)
    used = {row.month: row for row in session.execute(text(_USED), asked)}
    late = {row.month: row for row in session.execute(text(_LATE), asked)}
    in_order = select(Closing).where(Closing.tenant_id == tenant_id).order_by(Closing.closed_at)
    newest = {row.month: closing.of_row(row, who) for row in session.scalars(in_order)}
    months, month = [], checks.first_months(session, tenant_id)[tenant_id]
    while month <= calendar.day_of(now):
        _, ends = calendar.bounds(month_of(month))
        months.append(
            _month(month, who, used.get(month), late.get(month), newest.get(month),
                   ended=now >= ends + checks.GRACE)
        )  # fmt: skip
        month = following_month(month)
    return tuple(reversed(months))


def of_all(session: Session, who: Actor, month: date) -> tuple[OfTenant, ...]:
    """A month (its first day) of every tenant that had begun by then, by name; for operators.

    Raises errors.Forbidden.
    """
    require_operator(who)
    rollups.flush(session)
    begun = checks.first_months(session)
    asked = {"month": month, "last": month_of(month).last}
    return tuple(
        OfTenant(
            row.tenant_id, row.name, _state(row), row.requests,
            row.list_nusd, row.billed_nusd, None if row.reopened_at else row.closed_at,
        )
        for row in session.execute(text(_OF_ALL), asked)
        if begun[row.tenant_id] <= month
    )  # fmt: skip


def files(
    session: Session, who: Actor, tenant_id: UUID, closing_id: UUID
) -> tuple[StoredFile, ...]:
    """The files that are kept with a closing: operators' for operators, the tenant's for its people.

    Raises errors.Forbidden, errors.NotFound.
    """
    access.require_finance(who, tenant_id)
    found = session.scalars(
        select(ExportFile)
        .where(
            ExportFile.tenant_id == tenant_id, ExportFile.closing_id == closing_id,
            ExportFile.state == "ready",
            ExportFile.detail["operators"].as_boolean().is_(not isinstance(who, Principal)),
        )
        .order_by(ExportFile.built_at, ExportFile.file_id)
    )  # fmt: skip
    return tuple(
        StoredFile(row.kind, row.format, row.rows_total or 0, row.size_bytes or 0, row.sha256 or "",
                   row.built_at)
        for row in found
    )  # fmt: skip


def _month(
    month: date, who: Actor, used: Any, late: Any, closed: Closed | None, *, ended: bool
) -> Month:
    list_nusd = used.list_nusd if used else 0
    return Month(
        month, _state(closed), ended,
        used.requests if used else 0, used.tokens if used else 0,
        None if isinstance(who, Principal) else list_nusd, used.billed_nusd if used else 0, closed,
        late.events if late else 0, late.billed_nusd if late else 0,
    )  # fmt: skip


def _state(closing: Any) -> State:
    """What its newest closing (or a row with the times of one) makes of a month."""
    if closing is None or closing.closed_at is None:
        return State.OPEN
    return State.CLOSED if closing.reopened_at is None else State.REOPENED


_USED = """
select date_trunc('month', day)::date as month, sum(requests)::bigint as requests,
  sum(prompt_tokens + completion_tokens)::bigint as tokens, sum(list_nusd)::bigint as list_nusd,
  sum(billed_nusd)::bigint as billed_nusd
from app.usage_daily_models where tenant_id = :tenant group by 1
"""

_LATE = """
select verbs.month_of(c.tenant_id, c.opened_at) as month, count(*) as events,
  sum(e.billed_nusd)::bigint as billed_nusd
from app.usage_events e
join app.calls c on c.tenant_id = e.tenant_id and c.call_id = e.call_id
where e.tenant_id = :tenant and e.kind = 'adjustment' and e.occurred_at <> c.opened_at
group by 1
"""

_OF_ALL = """
select t.tenant_id, t.name, c.closed_at, c.reopened_at, coalesce(u.requests, 0) as requests,
  coalesce(u.list_nusd, 0) as list_nusd, coalesce(u.billed_nusd, 0) as billed_nusd
from app.tenants t
left join lateral (select closed_at, reopened_at from app.closings
  where tenant_id = t.tenant_id and month = :month order by closed_at desc limit 1) c on true
left join (select tenant_id, sum(requests)::bigint as requests, sum(list_nusd)::bigint as list_nusd,
    sum(billed_nusd)::bigint as billed_nusd
  from app.usage_daily_models where day between :month and :last group by tenant_id) u
  on u.tenant_id = t.tenant_id
order by t.name, t.tenant_id
"""
