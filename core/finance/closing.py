"""Months of a tenant, closed and reopened. Refuses to close what has not come to rest; once closed, a
month's usage stays what it is: a later truth is dated in the month in which it comes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

import orjson
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from core import db, errors
from core.db import System, new_id
from core.finance import checks
from core.finance.checks import Check, Checks, Code
from core.finance.tables import Closing
from core.identity import access, audit
from core.identity.access import Actor, Operator, Principal
from core.identity.tables import Tenant
from core.money import show

_REASON_LENGTH_MAX = 500


@dataclass(frozen=True, slots=True)
class Warned:
    """What a closing was made over: how many, and what they came to then."""

    code: Code
    count: int
    amount_nusd: int


@dataclass(frozen=True, slots=True)
class Closed:
    """A closing and the month's sums as they were then; `list_nusd` only for operators.

    `closed_by` and `reopened_by` name an actor as the audit log does.
    """

    tenant_id: UUID
    closing_id: UUID
    month: date
    begins_at: datetime
    ends_at: datetime
    events: int
    requests: int
    tokens: int
    list_nusd: int | None
    billed_nusd: int
    warnings: tuple[Warned, ...]
    closed_by: str
    closed_at: datetime
    reopened_by: str | None
    reopened_at: datetime | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Blocked:
    """A tenant whose month could not be closed, and why."""

    tenant_id: UUID
    name: str
    blocking: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class AllClosed:
    """What came of closing a month of every tenant that had begun by then."""

    month: date
    closed: tuple[Closed, ...]
    closed_before: int
    blocked: tuple[Blocked, ...]


class NotAtRest(errors.Conflict):
    """The month cannot be closed; `checks` says why."""

    def __init__(self, found: Checks) -> None:
        said = reasons(found.blocking)
        super().__init__(f"{found.month:%B %Y} cannot be closed: {said}.", param="month")
        self.checks = found


def close(
    session: Session,
    who: Actor,
    tenant_id: UUID,
    month: date,
    *,
    accept_unreconciled: bool = False,
) -> Closed:
    """Close a month (its first day) of a tenant; audited.

    With `accept_unreconciled` the truth about calls that are not final becomes adjustments of the
    month in which it comes. Raises errors.Forbidden, errors.NotFound, errors.BadInput for what is no
    month, NotAtRest (a Conflict) for one that is closed or not at rest.
    """
    with audit.denials(who, "month.close", f"tenant:{tenant_id}"):
        access.require_finance(who, tenant_id)
    _lock(session, tenant_id, month)
    found = checks.read(session, who, tenant_id, month, accept_unreconciled=accept_unreconciled)
    if found.blocking:
        raise NotAtRest(found)
    closed = _record(session, who, found)
    audit.record(
        session, who, "month.close", f"closing:{closed.closing_id}", tenant_id=tenant_id,
        after={"month": month, "events": closed.events, "billed_nusd": closed.billed_nusd,
               "warnings": [warned.code for warned in closed.warnings]},
    )  # fmt: skip
    return closed


def close_all(
    who: Operator | System, month: date, *, accept_unreconciled: bool = False
) -> AllClosed:
    """Close a month of every tenant that used anything or was there by then, each in a transaction of
    its own: one that is blocked holds no other up. Raises errors.Forbidden, errors.BadInput."""
    access.require_operator(who)
    with db.transaction(who) as session:
        names = {row.tenant_id: row.name for row in session.scalars(select(Tenant))}
        begun = checks.first_months(session)
    closed, blocked, before = [], [], 0
    for tenant_id in [one for one, first in begun.items() if first <= month]:
        try:
            with db.transaction(who) as session:
                closed.append(
                    close(session, who, tenant_id, month, accept_unreconciled=accept_unreconciled)
                )
        except NotAtRest as refusal:
            if any(check.code is Code.CLOSED for check in refusal.checks.blocking):
                before += 1
            else:
                blocked.append(Blocked(tenant_id, names[tenant_id], refusal.checks.blocking))
    return AllClosed(month, tuple(closed), before, tuple(blocked))


def reopen(session: Session, who: Actor, tenant_id: UUID, month: date, reason: str) -> Closed:
    """End the closing of a month: truths that come from now on are dated in it again; audited.

    The closing and its files are kept, and adjustments that were dated later stay there. Raises
    errors.Forbidden for all but operators, errors.BadInput without a reason, errors.Conflict where
    the month is not closed.
    """
    with audit.denials(who, "month.reopen", f"tenant:{tenant_id}"):
        access.require_operator(who)
    said = " ".join(reason.split())
    if not said or len(said) > _REASON_LENGTH_MAX:
        raise errors.BadInput("A reason has 1 to 500 characters.", param="reason")
    _lock(session, tenant_id, month)
    row = session.scalar(
        select(Closing).where(
            Closing.tenant_id == tenant_id, Closing.month == month, Closing.reopened_at.is_(None)
        )
    )
    if row is None:
        raise errors.Conflict(f"{month:%B %Y} is not closed.", param="month")
    now = session.execute(text("select clock_timestamp()")).scalar_one()
    row.reopened_by, row.reopened_at, row.reason = audit.name_of(who), now, said
    session.flush()
    audit.record(
        session, who, "month.reopen", f"closing:{row.closing_id}", tenant_id=tenant_id,
        before={"month": month, "billed_nusd": row.billed_nusd}, after={"reason": said},
    )  # fmt: skip
    return of_row(row, who)


def _lock(session: Session, tenant_id: UUID, month: date) -> None:
    session.execute(
        text("select verbs.lock_closing(:tenant, :month)"), {"tenant": tenant_id, "month": month}
    )


def _record(session: Session, who: Actor, found: Checks) -> Closed:
    warnings = {
        check.code.value: {"count": check.count, "amount_nusd": check.amount_nusd}
        for check in found.warnings
    }
    closing_id = new_id()
    session.execute(
        text(
            "select verbs.record_closing(:tenant, :closing, :month, :begins, :ends,"
            " cast(:warnings as jsonb), :actor)"
        ),
        {
            "tenant": found.tenant_id, "closing": closing_id, "month": found.month,
            "begins": found.segment.begins, "ends": found.segment.ends,
            "warnings": orjson.dumps(warnings).decode(), "actor": audit.name_of(who),
        },
    )  # fmt: skip
    return of_row(session.get_one(Closing, (found.tenant_id, closing_id)), who)


def of_row(row: Closing, who: Actor) -> Closed:
    """A stored closing as `who` may see it."""
    return Closed(
        row.tenant_id, row.closing_id, row.month, row.begins_at, row.ends_at, row.events,
        row.requests, row.tokens, None if isinstance(who, Principal) else row.list_nusd,
        row.billed_nusd, _warned(row.warnings), row.closed_by, row.closed_at, row.reopened_by,
        row.reopened_at, row.reason,
    )  # fmt: skip


def _warned(stored: Mapping[str, Mapping[str, int]]) -> tuple[Warned, ...]:
    return tuple(
        Warned(code, stored[code]["count"], stored[code]["amount_nusd"])
        for code in Code
        if code in stored
    )


def reasons(blocking: tuple[Check, ...]) -> str:
    """Why a month cannot be closed, in words."""
    return ", ".join(_words(check) for check in blocking)


def _words(check: Check) -> str:
    calls = "call" if check.count == 1 else "calls"
    return {
        Code.ENDED: "it has not ended",
        Code.CLOSED: "it is closed already",
        Code.OPEN_CALLS: f"{check.count} {calls} still open",
        Code.UNRECONCILED: f"the cost of {check.count} {calls} is not final",
        Code.ESTIMATES: f"the cost of {check.count} {calls} was worked out from the text",
        Code.DAILY_SUMS: f"{check.count} daily sums differ from the events",
        Code.LEDGER: f"the ledger differs by {show(check.amount_nusd)}",
    }[check.code]
