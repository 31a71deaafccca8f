"""Books what the provider took and our books do not say, line by line, as adjustments; each line once.

Finds out which call a line belongs to, or asks for the tenant that bears it. The arithmetic is in
bills.sql. Each line has a transaction of its own: it locks a call, counters and an account.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Literal, TypeAlias
from uuid import UUID

from sqlalchemy import delete, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from core import db, errors
from core.catalog.tables import Model
from core.db import new_id
from core.finance.bills import comparison
from core.finance.bills.causes import Names, same_model
from core.finance.bills.rows import total
from core.finance.tables import BillLine
from core.identity import audit
from core.identity.access import Actor, require_operator
from core.identity.tables import Membership, Tenant

Outcome: TypeAlias = Literal["imported", "known", "open", "taken", "missing"]
LINES_MAX = 10_000  # so many at once
_WAITING = ("different", "unrecorded")


@dataclass(frozen=True, slots=True)
class Waiting:
    """A line that our books do not say, and whose it is.

    `tenant_id` and `call_id` are those of the call it corrects, or of the only one that it can belong
    to; None where nobody can tell, and a tenant must be named that bears it.
    """

    generation_id: str
    occurred_at: datetime
    model: str
    state: str
    cost_usd: Decimal
    ours_usd: Decimal | None
    tenant_id: UUID | None
    call_id: UUID | None


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of importing: how many lines by outcome, and what was booked in all."""

    outcomes: dict[Outcome, int]
    cost_usd: Decimal
    days: tuple[date, ...]


def waiting(session: Session, who: Actor) -> tuple[Waiting, ...]:
    """The lines that can be imported, oldest first, at most LINES_MAX; for operators."""
    require_operator(who)
    rows = session.scalars(
        select(BillLine)
        .where(BillLine.state.in_(_WAITING))
        .order_by(BillLine.occurred_at, BillLine.generation_id)
        .limit(LINES_MAX)
        .execution_options(populate_existing=True)
    ).all()
    calls = _candidates(session, rows)
    return tuple(
        Waiting(
            row.generation_id, row.occurred_at, row.model, row.state, row.cost_usd, row.ours_usd,
            *(calls.get(row.generation_id, (row.of_tenant, row.call_id))),
        )
        for row in rows
    )  # fmt: skip


def bearers(session: Session, who: Actor) -> tuple[tuple[UUID, str], ...]:
    """The tenants that may bear what belongs to no call: those with people, internal ones first."""
    require_operator(who)
    query = (
        select(Tenant.tenant_id, Tenant.name)
        .where(Tenant.tenant_id.in_(select(Membership.tenant_id)))
        .order_by(Tenant.mode != "internal", Tenant.name, Tenant.tenant_id)
    )
    return tuple((row.tenant_id, row.name) for row in session.execute(query))


def run(who: Actor, lines: Iterable[Waiting], *, bearer: UUID | None, bills: bool) -> Imported:
    """Book these lines; opens its own transactions, and compares the days anew. For operators, audited.

    A line that belongs to no call is borne by `bearer`, and left where none is named. `bills` charges
    the tenants of calls we knew no generation of; otherwise we bear them. Corrections of known calls
    reach their tenants as every correction does. Raises errors.NotFound for a bearer without people.
    """
    with audit.denials(who, "provider_bill.import", "provider_bill:lines"):
        require_operator(who)
    chosen = list(lines)
    with db.transaction(who) as session:
        if bearer is not None:
            _require_people(session, bearer)
        known = Names(session.scalars(select(Model.model_id)))
    outcomes: Counter[Outcome] = Counter()
    booked: list[Waiting] = []
    for line in chosen:
        tenant_id = line.tenant_id or bearer
        if tenant_id is None:
            continue
        outcome = _book(who, line, tenant_id, known.find(line.model) or line.model, bills=bills)
        outcomes[outcome] += 1
        if outcome == "imported":
            booked.append(line)
    return _conclude(who, booked, outcomes)


def put_away(session: Session, who: Actor, generation_ids: Iterable[str]) -> int:
    """Forget lines that are not ours; what was imported stays. Returns how many. Audited."""
    with audit.denials(who, "provider_bill.put_away", "provider_bill:lines"):
        require_operator(who)
    gone = session.execute(
        delete(BillLine)
        .where(BillLine.generation_id.in_(list(generation_ids)), BillLine.state.in_(_WAITING))
        .where(BillLine.imported_at.is_(None))
        .returning(BillLine.cost_usd)
    ).scalars()
    amounts = list(gone)
    audit.record(
        session, who, "provider_bill.put_away", "provider_bill:lines",
        before={"lines": len(amounts), "cost_usd": format(total(amounts), "f")},
    )  # fmt: skip
    return len(amounts)


def _book(who: Actor, line: Waiting, tenant_id: UUID, model: str, *, bills: bool) -> Outcome:
    try:
        with db.transaction(who) as session:
            outcome: Outcome = session.execute(
                text(
                    "select verbs.import_generation(:generation, :tenant, :call, :adopts, :model,"
                    " :bills, :actor)"
                ),
                {
                    "generation": line.generation_id, "tenant": tenant_id,
                    "call": line.call_id or new_id(), "adopts": line.call_id is not None,
                    "model": model, "bills": bills, "actor": audit.name_of(who),
                },
            ).scalar_one()  # fmt: skip
            return outcome
    except IntegrityError:  # a call learnt this generation in the same moment
        return "taken"


def _conclude(who: Actor, booked: list[Waiting], outcomes: Counter[Outcome]) -> Imported:
    days = tuple(sorted({line.occurred_at.date() for line in booked}))
    cost_usd = total(line.cost_usd for line in booked)
    with db.transaction(who) as session:
        for provider in _providers(session, booked):
            comparison.compare_all(session, provider, days)
        audit.record(
            session, who, "provider_bill.import", "provider_bill:lines",
            after={str(name): count for name, count in outcomes.items()}
            | {"cost_usd": format(cost_usd, "f")},
        )  # fmt: skip
    return Imported(dict(outcomes), cost_usd, days)


def _providers(session: Session, booked: list[Waiting]) -> list[str]:
    ids = [line.generation_id for line in booked]
    query = select(BillLine.provider).distinct().where(BillLine.generation_id.in_(ids))
    return list(session.scalars(query))


def _require_people(session: Session, tenant_id: UUID) -> None:
    query = select(Membership.user_id).where(Membership.tenant_id == tenant_id).limit(1)
    if session.scalar(query) is None:
        raise errors.NotFound("There is no such tenant, or nobody belongs to it.", param="tenant")


def _candidates(session: Session, rows: Sequence[BillLine]) -> dict[str, tuple[UUID, UUID]]:
    """The one call that each line may belong to, of lines and calls that have no other choice."""
    nameless = [row for row in rows if row.state == "unrecorded"]
    if not nameless:
        return {}
    found = session.execute(
        text(_FITTING),
        {
            "ids": [row.generation_id for row in nameless],
            "first": min(row.occurred_at for row in nameless),
            "last": max(row.occurred_at for row in nameless),
        },
    )
    calls: dict[str, list[tuple[UUID, UUID]]] = defaultdict(list)
    lines: Counter[UUID] = Counter()
    for row in found:
        if same_model(row.model, row.model_requested) or same_model(row.model, row.model_served):
            calls[row.generation_id].append((row.tenant_id, row.call_id))
            lines[row.call_id] += 1
    return {
        generation_id: fitting[0]
        for generation_id, fitting in calls.items()
        if len(fitting) == 1 and lines[fitting[0][1]] == 1
    }


# A call that never learnt its generation, with nothing booked, that ran (or may have run on at the
# provider) at the moment the bill names, give or take a minute between the clocks.
_FITTING = """
with nameless as materialized (
  select c.tenant_id, c.call_id, c.provider, c.model_requested, e.model_served,
    c.opened_at - interval '1 minute' as first, c.deadline_at + interval '1 minute' as last
  from app.usage_events e
  join app.calls c on c.tenant_id = e.tenant_id and c.call_id = e.call_id and c.state = 'settled'
    and c.generation_id is null
  where e.kind = 'call' and e.generation_id is null and e.purpose <> 'imported'
    and e.list_nusd = 0 and e.billed_nusd = 0
    and e.occurred_at >= cast(:first as timestamptz) - interval '1 day'
    and e.occurred_at <= cast(:last as timestamptz) + interval '1 minute'
    and not exists (select from app.usage_events a where a.tenant_id = e.tenant_id
      and a.call_id = e.call_id and a.kind = 'adjustment'))
select l.generation_id, l.model, n.tenant_id, n.call_id, n.model_requested, n.model_served
from app.bill_lines l
join nameless n on n.provider = l.provider and l.occurred_at between n.first and n.last
where l.generation_id = any(:ids)
"""
