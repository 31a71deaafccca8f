"""The statement of a tenant's wallet: opening balance, movements, closing balance, line by line.

A period is a run of the ledger's own order, so that opening and movements make the closing balance to
the nano-USD, always, and each line's balance is the one the ledger wrote. It changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from core import errors
from core.identity import zones
from core.identity.access import Principal, Role, require
from core.periods import Period

LINES_MAX = 1000
_FIRST_DAY, _LAST_DAY = date(2000, 1, 1), date(2999, 12, 31)
KINDS: Mapping[str, str] = {
    "grant": "Credit added",
    "capture": "Usage",
    "adjust": "Usage corrected",
    "expire": "Credit expired",
    "revoke": "Credit taken back",
    "reinstate": "Credit given back",
    "payment": "Invoice paid",
    "write_off": "Written off",
}
_GRANTS = {
    "purchase": "Credit bought",
    "plan": "Credit of the plan",
    "promo": "Promotional credit",
    "manual": "Credit",
}


@dataclass(frozen=True, slots=True)
class StatementAsk:
    """Which lines are wanted: days of the tenant's calendar, both included; no `kinds` means all.

    `before` is the `seq` of the last line of the page before (lines come newest first).
    """

    first_day: date
    last_day: date
    kinds: tuple[str, ...] = ()
    before: int | None = None
    limit: int = 50

    @property
    def period(self) -> Period:
        """The days as a period."""
        return Period(self.first_day, self.last_day)


@dataclass(frozen=True, slots=True)
class Cut:
    """A period as a run of the ledger: what follows entry `after_seq`, up to `until_seq`. Its times are
    written in `time_zone`, the tenant's zone at its end."""

    after_seq: int
    until_seq: int
    opening_nusd: int
    closing_nusd: int
    time_zone: str


@dataclass(frozen=True, slots=True)
class KindSum:
    """All movements of one kind in the period."""

    kind: str
    count: int
    amount_nusd: int


@dataclass(frozen=True, slots=True)
class CallPart:
    """The call behind a line. Its tokens, corrections summed in, stand on its first line only."""

    call_id: UUID
    person: str | None
    model: str
    source: str
    outcome: str | None
    opened_at: datetime
    prompt_tokens: int | None
    completion_tokens: int | None


@dataclass(frozen=True, slots=True)
class OrderPart:
    """What was bought: an order, an invoice of a plan, or both. Money in cents."""

    order_id: UUID | None
    title: str | None
    total_minor: int | None
    invoice_number: str | None
    page_url: str | None


@dataclass(frozen=True, slots=True)
class GrantPart:
    """The grant a line made, changed or ended."""

    lot_id: UUID
    kind: str
    granted_nusd: int
    remaining_nusd: int
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Line:
    """One movement and the balance after it; at most one call, one order and one grant behind it."""

    seq: int
    occurred_at: datetime
    kind: str
    amount_nusd: int
    balance_after_nusd: int
    actor: str
    reason: str | None
    call: CallPart | None
    order: OrderPart | None
    grant: GrantPart | None

    @property
    def description(self) -> str:
        """The line in people's words; may hold what strangers wrote (a title, a reason)."""
        if self.call is not None:
            return self.call.model
        named = self.order.title if self.order else None
        if named is None and self.order and self.order.invoice_number:
            named = f"Invoice {self.order.invoice_number}"
        if named is None and self.grant is not None:
            named = _GRANTS.get(self.grant.kind, self.grant.kind)
        if named is None or (self.reason and named in self.reason):
            return self.reason or KINDS.get(self.kind, self.kind)
        return f"{named}: {self.reason}" if self.reason else named


@dataclass(frozen=True, slots=True)
class Statement:
    """A page of a period, newest first. `opening_nusd + movements_nusd == closing_nusd`, whatever is
    filtered; `sums` are of the whole period, `matching` counts what the filter lets through. Times are
    shown in `time_zone`, as in its file."""

    opening_nusd: int
    movements_nusd: int
    closing_nusd: int
    sums: tuple[KindSum, ...]
    movements: int
    matching: int
    lines: tuple[Line, ...]
    more: bool
    time_zone: str


def read(session: Session, who: Principal, asked: StatementAsk) -> Statement:
    """One page of the statement, with the sums of its whole period.

    Raises errors.Forbidden for members, errors.BadInput for days or kinds that are none.
    """
    cut = find_cut(session, who, asked)
    rows = session.execute(text(_SUMS), _of_cut(cut)).all()
    moved = [KindSum(row.kind, row.movements, row.amount_nusd) for row in rows]
    sums = tuple(sorted(moved, key=lambda one: list(KINDS).index(one.kind)))
    found = lines(session, who, cut, asked.kinds, before=asked.before, limit=asked.limit + 1)
    wanted = set(asked.kinds or KINDS)
    return Statement(
        cut.opening_nusd, sum(one.amount_nusd for one in sums), cut.closing_nusd, sums,
        sum(one.count for one in sums), sum(one.count for one in sums if one.kind in wanted),
        found[: asked.limit], len(found) > asked.limit, cut.time_zone,
    )  # fmt: skip


def find_cut(session: Session, who: Principal, asked: StatementAsk) -> Cut:
    """Where the period begins and ends in the ledger, with the balances there. Raises as `read`."""
    require(who, Role.ADMIN, Role.FINANCE)
    _check(asked)
    calendar = zones.calendar_of(session, who.tenant_id)
    begins, ends = calendar.bounds(asked.period)
    row = session.execute(text(_CUT), {"begins": begins, "ends": ends}).one()
    return Cut(
        row.after_seq, row.until_seq, row.opening_nusd, row.closing_nusd,
        calendar.zone_of(asked.period),
    )  # fmt: skip


def lines(
    session: Session,
    who: Principal,
    cut: Cut,
    kinds: tuple[str, ...] = (),
    *,
    before: int | None = None,
    limit: int = LINES_MAX,
) -> tuple[Line, ...]:
    """The lines of a cut, newest first, older than line `before`; at most LINES_MAX and one."""
    require(who, Role.ADMIN, Role.FINANCE)
    until = cut.until_seq if before is None else min(cut.until_seq, before - 1)
    asked = {
        "after": cut.after_seq, "until": until, "kinds": list(kinds or KINDS),
        "limit": min(max(limit, 1), LINES_MAX + 1),
    }  # fmt: skip
    return tuple(_line(row) for row in session.execute(text(_LINES), asked).mappings())


def check_kinds(kinds: tuple[str, ...]) -> None:
    """Raise errors.BadInput for a kind of movement that there is not."""
    for kind in kinds:
        if kind not in KINDS:
            known = ", ".join(KINDS)
            raise errors.BadInput(f"A kind is one of: {known}.", param="kind")


def _check(asked: StatementAsk) -> None:
    """Raise errors.BadInput for a period or kinds that are none."""
    check_kinds(asked.kinds)
    if asked.first_day > asked.last_day:
        raise errors.BadInput("The period ends before it begins.", param="to")
    for name, day in (("from", asked.first_day), ("to", asked.last_day)):
        if not _FIRST_DAY <= day <= _LAST_DAY:
            raise errors.BadInput("This is no day of a statement.", param=name)


def _of_cut(cut: Cut) -> dict[str, object]:
    return {"after": cut.after_seq, "until": cut.until_seq}


def _line(row: Mapping[Any, Any]) -> Line:
    call = order = grant = None
    if row["call_id"] is not None:
        call = CallPart(
            row["call_id"], row["person"], row["model"], row["call_source"], row["outcome"],
            row["opened_at"], row["prompt_tokens"], row["completion_tokens"],
        )  # fmt: skip
    if row["order_id"] is not None or row["invoice_id"] is not None:
        order = OrderPart(
            row["order_id"], row["title"], row["total_minor"], row["invoice_number"],
            row["page_url"],
        )  # fmt: skip
    if row["lot_id"] is not None:
        grant = GrantPart(
            row["lot_id"], row["lot_kind"], row["granted_nusd"], row["remaining_nusd"],
            row["expires_at"],
        )  # fmt: skip
    return Line(
        row["seq"], row["occurred_at"], row["kind"], row["amount_nusd"], row["posted_after_nusd"],
        row["actor"], row["reason"], call, order, grant,
    )  # fmt: skip


# A time is taken when a transaction begins, its place in the ledger when it gets the account's lock:
# the last entry before a moment may stand behind a slightly later one. No transaction that books
# lives for ten minutes, so the highest place within ten minutes of the newest time is the border.
BORDER = """
select coalesce(max(e.seq), 0) as seq from app.entries e
where e.tenant_id = {tenant} and e.occurred_at < {moment} and e.occurred_at >= (
  select max(n.occurred_at) - interval '10 minutes' from app.entries n
  where n.tenant_id = {tenant} and n.occurred_at < {moment})
"""

_CUT = f"""
with edges as (
  select b.seq as after_seq, greatest(b.seq, u.seq) as until_seq
  from ({BORDER.format(tenant="app.tenant()", moment=":begins")}) as b,
    ({BORDER.format(tenant="app.tenant()", moment=":ends")}) as u)
select after_seq, until_seq,
  coalesce((select posted_after_nusd from app.entries
    where tenant_id = app.tenant() and seq = after_seq), 0) as opening_nusd,
  coalesce((select posted_after_nusd from app.entries
    where tenant_id = app.tenant() and seq = until_seq), 0) as closing_nusd
from edges
"""  # noqa: S608 - our own text

_SUMS = """
select kind, count(*) as movements, sum(amount_nusd)::bigint as amount_nusd from app.entries
where tenant_id = app.tenant() and seq > :after and seq <= :until
group by kind
"""

# A lot bears the id of the Stripe object that paid for it, its bonus the same one under another kind.
_LINES = """
with page as (
  select * from app.entries
  where tenant_id = app.tenant() and seq > :after and seq <= :until and kind = any(:kinds)
  order by seq desc limit :limit)
select e.seq, e.occurred_at, e.kind, e.amount_nusd, e.posted_after_nusd, e.actor, e.reason,
  e.call_id, who.name as person, coalesce(used.model, c.model_requested) as model,
  c.source as call_source, c.outcome, c.opened_at, used.prompt_tokens, used.completion_tokens,
  o.order_id, o.title, coalesce(o.total_minor, i.total_minor, o.price_minor) as total_minor,
  i.invoice_id, i.number as invoice_number, i.page_url,
  l.lot_id, l.kind as lot_kind, l.granted_nusd, l.remaining_nusd, l.expires_at
from page e
left join app.calls c on c.tenant_id = e.tenant_id and c.call_id = e.call_id
left join app.labels who on who.tenant_id = c.tenant_id and who.label_id = c.user_label_id
left join lateral (
  select max(u.model_served) filter (where u.kind = 'call') as model,
    case when is_first then sum(u.prompt_tokens)::bigint end as prompt_tokens,
    case when is_first then sum(u.completion_tokens)::bigint end as completion_tokens
  from app.usage_events u
  cross join lateral (select e.seq = (select min(f.seq) from app.entries f
    where f.tenant_id = e.tenant_id and f.call_id = e.call_id) as is_first) as place
  where u.tenant_id = c.tenant_id and u.occurred_at = c.opened_at and u.call_id = c.call_id
  group by is_first) as used on true
left join app.lots l on l.tenant_id = e.tenant_id and l.lot_id = e.lot_id
left join app.fulfilments f on f.tenant_id = e.tenant_id and f.stripe_id = e.source_id
  and e.source_type in (f.kind, f.kind || '_bonus')
left join app.orders o on o.tenant_id = f.tenant_id and o.order_id = f.order_id
left join app.invoices i on i.tenant_id = e.tenant_id and i.invoice_id
  = coalesce(f.invoice_id, o.invoice_id, case when e.source_type = 'invoice' then e.source_id end)
order by e.seq desc
"""
