"""What credit was sold, given, used and lost in each month of each tenant, for operators: the roll-forward
of unspent credit, out of the ledger alone, and the margin on what was used. It changes nothing.

Months are each tenant's own, of its calendar; the ledger's movements count where they were booked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from core import errors
from core.finance import checks
from core.identity import zones
from core.identity.access import Actor, require_operator
from core.identity.tables import Tenant
from core.identity.zones import Calendar
from core.metering import rollups
from core.periods import following_month, month_of

MONTHS_MAX = 60


@dataclass(frozen=True, slots=True)
class Moves:
    """What changed a tenant's credit in a stretch of time, in nano-USD; all counted as they are named.

    Into it: `purchased`, `plan_allowance`, `promotion` (bonuses too), `by_hand`, `reinstated` (of what
    was revoked). Out of it: `consumed` (by calls, less what corrections gave back), `debts_paid` (by new
    credit, for use before it), `expired`, `revoked` (taken back by refunds and disputes).

    Beside it: `used` is what calls cost, of which `on_credit` is due by invoice, or shown back; what
    neither lots nor credit covered became debt. `paid` and `written_off` lower what is due or owed.
    """

    purchased_nusd: int = 0
    plan_allowance_nusd: int = 0
    promotion_nusd: int = 0
    by_hand_nusd: int = 0
    reinstated_nusd: int = 0
    consumed_nusd: int = 0
    debts_paid_nusd: int = 0
    expired_nusd: int = 0
    revoked_nusd: int = 0
    used_nusd: int = 0
    on_credit_nusd: int = 0
    paid_nusd: int = 0
    written_off_nusd: int = 0

    @property
    def added_nusd(self) -> int:
        """All that came in."""
        return (
            self.purchased_nusd + self.plan_allowance_nusd + self.promotion_nusd
            + self.by_hand_nusd + self.reinstated_nusd
        )  # fmt: skip

    @property
    def gone_nusd(self) -> int:
        """All that went out."""
        return self.consumed_nusd + self.debts_paid_nusd + self.expired_nusd + self.revoked_nusd

    @property
    def became_debt_nusd(self) -> int:
        """What was used beyond credit and invoice; negative where corrections ended such debt."""
        return self.used_nusd - self.consumed_nusd - self.on_credit_nusd

    def __add__(self, other: Moves) -> Moves:
        return Moves(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Moves)))


@dataclass(frozen=True, slots=True)
class RevenueRow:
    """A tenant's month: unspent (deferred) credit at its two ends, what moved it, and what use earned.

    `billed_nusd` and `list_nusd` are of the usage that is dated in the month. `difference_nusd` is what
    the roll-forward, carried on to now, lacks of what the lots and the account hold: nothing, or the
    books are broken.
    """

    tenant_id: UUID
    name: str
    month: date
    opening_nusd: int
    moves: Moves
    closing_nusd: int
    billed_nusd: int
    list_nusd: int
    difference_nusd: int

    @property
    def margin_nusd(self) -> int:
        """Billed less list: what the markup earned."""
        return self.billed_nusd - self.list_nusd


@dataclass(frozen=True, slots=True)
class _Span:
    """One month of one tenant."""

    tenant_id: UUID
    month: date
    begins: datetime
    ends: datetime


def revenue(
    session: Session, who: Actor, first_month: date, last_month: date
) -> tuple[RevenueRow, ...]:
    """The months from one to another, both included, of every tenant that had begun by then.

    Raises errors.Forbidden for all but operators, errors.BadInput for what is no range of months.
    """
    require_operator(who)
    _check(first_month, last_month)
    rollups.flush(session)
    begun = checks.first_months(session)
    names = {
        row.tenant_id: row.name for row in session.scalars(select(Tenant).order_by(Tenant.name))
    }
    calendars = zones.calendars(session)
    spans = [
        span
        for tenant_id in names
        for span in _spans(tenant_id, calendars[tenant_id], max(begun[tenant_id], first_month),
                           last_month)
    ]  # fmt: skip
    earned = _earned(session, first_month, last_month)
    moved = _moved(session, spans)
    rows: list[RevenueRow] = []
    for tenant_id, name in names.items():
        theirs = [span for span in spans if span.tenant_id == tenant_id]
        if theirs:
            rows += _rows(name, theirs, moved[tenant_id], earned)
    return tuple(rows)


def total(rows: Iterable[RevenueRow]) -> Moves:
    """What several tenants' rows, or months', come to."""
    found = Moves()
    for row in rows:
        found += row.moves
    return found


def _check(first_month: date, last_month: date) -> None:
    if {first_month.day, last_month.day} != {1} or first_month > last_month:
        raise errors.BadInput("The months are not a range.", param="months")
    if (
        last_month.year - first_month.year
    ) * 12 + last_month.month - first_month.month >= MONTHS_MAX:
        raise errors.BadInput(f"At most {MONTHS_MAX} months are shown at once.", param="months")


def _spans(tenant_id: UUID, calendar: Calendar, first: date, last: date) -> Iterator[_Span]:
    month, today = first, calendar.today()
    while month <= min(last, today):
        yield _Span(tenant_id, month, *calendar.bounds(month_of(month)))
        month = following_month(month)


@dataclass(frozen=True, slots=True)
class _Ledger:
    """A tenant's moves before (0), in (1 to n) and after (n + 1) its months, and what it holds now."""

    moves: Mapping[int, Moves]
    lots_nusd: int
    account_nusd: int


def _moved(session: Session, spans: list[_Span]) -> dict[UUID, _Ledger]:
    session.execute(
        text("set local statement_timeout = '120s'")
    )  # it reads the ledger from its start
    asked = {
        "tenants": [span.tenant_id for span in spans],
        "begins": [span.begins for span in spans], "ends": [span.ends for span in spans],
    }  # fmt: skip
    found: dict[UUID, _Ledger] = {}
    moves: dict[UUID, dict[int, Moves]] = {}
    for row in session.execute(text(_MOVED), asked).mappings():
        of = moves.setdefault(row["of_tenant"], {})
        found[row["of_tenant"]] = _Ledger(of, row["lots_nusd"], row["account_nusd"])
        if row["place"] is not None:
            of[row["place"]] = Moves(*(int(row[field.name] or 0) for field in fields(Moves)))
    return found


def _rows(
    name: str, spans: list[_Span], ledger: _Ledger, earned: Mapping[tuple[UUID, date], Any]
) -> Iterator[RevenueRow]:
    in_order = [ledger.moves.get(place, Moves()) for place in range(len(spans) + 2)]
    now_nusd = sum(moves.added_nusd - moves.gone_nusd for moves in in_order)
    difference_nusd = ledger.lots_nusd - now_nusd or ledger.account_nusd - now_nusd
    opening_nusd = in_order[0].added_nusd - in_order[0].gone_nusd
    for span, moves in zip(spans, in_order[1:-1], strict=True):
        closing_nusd = opening_nusd + moves.added_nusd - moves.gone_nusd
        billed_nusd, list_nusd = earned.get((span.tenant_id, span.month), (0, 0))
        yield RevenueRow(
            span.tenant_id, name, span.month, opening_nusd, moves, closing_nusd, billed_nusd,
            list_nusd, difference_nusd,
        )  # fmt: skip
        opening_nusd = closing_nusd


def _earned(session: Session, first: date, last: date) -> dict[tuple[UUID, date], tuple[int, int]]:
    asked = {"first": first, "last": month_of(last).last}
    return {
        (row.tenant_id, row.month): (row.billed_nusd, row.list_nusd)
        for row in session.execute(text(_EARNED), asked)
    }


_EARNED = """
select tenant_id, date_trunc('month', day)::date as month, sum(billed_nusd)::bigint as billed_nusd,
  sum(list_nusd)::bigint as list_nusd
from app.usage_daily_models where day between :first and :last group by 1, 2
"""

# One statement, so that it sees one moment of the ledger. What a claw-back took of its lot (the rest
# became debt), and what its end gave back, is nowhere written: both follow from what the lot had left by
# then, so each lot that was clawed back is gone through (`gone_through`) from one claw-back to the next.
_MOVED = """
with recursive
edges as (
  select tenant_id, array_agg(begins order by begins) || max(ends) as edges
  from unnest(cast(:tenants as uuid[]), cast(:begins as timestamptz[]), cast(:ends as timestamptz[]))
    as span(tenant_id, begins, ends)
  group by tenant_id),
claws as (
  select tenant_id, lot_id, seq, -amount_nusd as claw_nusd,
    row_number() over (partition by tenant_id, lot_id order by seq) as n,
    lag(seq, 1, 0::bigint) over (partition by tenant_id, lot_id order by seq) as seq_before
  from app.entries where kind in ('revoke', 'reinstate')),
clawed as (select distinct tenant_id, lot_id from claws),
changes as (
  select tenant_id, lot_id, seq, amount_nusd from app.entries join clawed using (tenant_id, lot_id)
  where kind in ('grant', 'expire')
  union all
  select tenant_id, lot_id, seq, -amount_nusd from app.lot_uses join clawed using (tenant_id, lot_id)),
steps as (
  select c.tenant_id, c.lot_id, c.n, c.seq, c.claw_nusd,
    coalesce(sum(h.amount_nusd), 0)::bigint as change_nusd
  from claws c
  left join changes h on h.tenant_id = c.tenant_id and h.lot_id = c.lot_id
    and h.seq >= c.seq_before and h.seq < c.seq
  group by c.tenant_id, c.lot_id, c.n, c.seq, c.claw_nusd),
gone_through as (
  select tenant_id, lot_id, 0::bigint as n, 0::bigint as seq, 0::bigint as remaining_nusd,
    0::bigint as revoked_nusd, 0::bigint as taken_nusd
  from clawed
  union all
  select s.tenant_id, s.lot_id, s.n, s.seq, g.remaining_nusd + s.change_nusd - t.taken_nusd,
    g.revoked_nusd + t.taken_nusd, t.taken_nusd
  from gone_through g
  join steps s on s.tenant_id = g.tenant_id and s.lot_id = g.lot_id and s.n = g.n + 1
  cross join lateral (select case when s.claw_nusd > 0
    then least(s.claw_nusd, g.remaining_nusd + s.change_nusd)
    else greatest(s.claw_nusd, -g.revoked_nusd) end as taken_nusd) t),
uses as (select tenant_id, seq, sum(amount_nusd) as used_nusd from app.lot_uses group by tenant_id, seq),
moved as (
  select e.tenant_id, width_bucket(e.occurred_at, g.edges) as place,
    sum(e.amount_nusd) filter (where e.kind = 'grant' and l.kind = 'purchase') as purchased_nusd,
    sum(e.amount_nusd) filter (where e.kind = 'grant' and l.kind = 'plan') as plan_allowance_nusd,
    sum(e.amount_nusd) filter (where e.kind = 'grant' and l.kind = 'promo') as promotion_nusd,
    sum(e.amount_nusd) filter (where e.kind = 'grant' and l.kind = 'manual') as by_hand_nusd,
    -sum(t.taken_nusd) filter (where e.kind = 'reinstate') as reinstated_nusd,
    sum(u.used_nusd) filter (where e.kind in ('capture', 'adjust')) as consumed_nusd,
    sum(u.used_nusd) filter (where e.kind not in ('capture', 'adjust')) as debts_paid_nusd,
    -sum(e.amount_nusd) filter (where e.kind = 'expire') as expired_nusd,
    sum(t.taken_nusd) filter (where e.kind = 'revoke') as revoked_nusd,
    -sum(e.amount_nusd) filter (where e.kind in ('capture', 'adjust')) as used_nusd,
    sum(d.amount_nusd) filter (where e.kind in ('capture', 'adjust')) as on_credit_nusd,
    sum(e.amount_nusd) filter (where e.kind = 'payment') as paid_nusd,
    sum(e.amount_nusd) filter (where e.kind = 'write_off') as written_off_nusd
  from app.entries e
  join edges g on g.tenant_id = e.tenant_id
  left join app.lots l on l.tenant_id = e.tenant_id and l.lot_id = e.lot_id
  left join uses u on u.tenant_id = e.tenant_id and u.seq = e.seq
  left join app.dues d on d.tenant_id = e.tenant_id and d.seq = e.seq
  left join gone_through t on t.tenant_id = e.tenant_id and t.lot_id = e.lot_id and t.seq = e.seq
  group by 1, 2)
select m.*, g.tenant_id as of_tenant,
  coalesce((select sum(remaining_nusd) from app.lots l where l.tenant_id = g.tenant_id), 0)::bigint
    as lots_nusd,
  coalesce((select posted_nusd + debt_nusd + receivable_nusd from app.accounts a
    where a.tenant_id = g.tenant_id), 0) as account_nusd
from edges g left join moved m on m.tenant_id = g.tenant_id
"""
