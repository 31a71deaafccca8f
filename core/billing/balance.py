"""A tenant's balance as its buyers look at it: what is left, what it came from, how long it lasts and
what of it will expire unused.

Reads only. The gate never asks here: whether a call may be made is the account row's to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from fractions import Fraction
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from core import errors
from core.identity.access import Principal, Role, require
from core.metering import rollups

EXPIRING_DAYS = 30
PACE_DAYS = 14
LOTS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Remaining:
    """A lot with what it has left, in nano-USD; without `expires_at` it never ends."""

    lot_id: UUID
    kind: str
    remaining_nusd: int
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Loss:
    """What a lot will have left when it ends, and what all others will have then, in nano-USD."""

    amount_nusd: int
    expires_at: datetime
    left_nusd: int


@dataclass(frozen=True, slots=True)
class Course:
    """Where the present pace leads: days until nothing is left (None: no pace), losses in order."""

    lasts_days: int | None
    losses: tuple[Loss, ...]


@dataclass(frozen=True, slots=True)
class Balance:
    """Amounts in nano-USD, days of the tenant's zone.

    `available_nusd` and `credit_limit_nusd` are None where budgets gate, not the wallet (internal).
    `purchased_nusd` is what was bought over all time, less what was clawed back of it. `pace_nusd` is
    the mean cost of a day over the PACE_DAYS whole days before `today`. `lots` are those with anything
    left in the order in which they are used, at most LOTS_MAX.
    """

    mode: str
    posted_nusd: int
    available_nusd: int | None
    held_nusd: int
    debt_nusd: int
    receivable_nusd: int
    credit_limit_nusd: int | None
    frozen: bool
    purchased_nusd: int
    spent_nusd: int
    low_balance_nusd: int
    pace_nusd: int
    today: date
    read_at: datetime
    next_invoice_at: datetime | None
    lots: tuple[Remaining, ...]

    @property
    def is_low(self) -> bool:
        """Whether a prepaid wallet has less left than the house calls low."""
        return self.mode == "prepaid" and (self.available_nusd or 0) < self.low_balance_nusd

    @property
    def expiring(self) -> tuple[Remaining, ...]:
        """The lots that end within EXPIRING_DAYS, the soonest first."""
        soon = self.read_at + timedelta(days=EXPIRING_DAYS)
        found = [(lot.expires_at, lot) for lot in self.lots if lot.expires_at is not None]
        ordered = sorted(found, key=lambda pair: (pair[0], pair[1].lot_id))
        return tuple(lot for ends, lot in ordered if ends <= soon)

    @property
    def course(self) -> Course:
        """When nothing is left and what expires unused, if use goes on at the present pace."""
        if self.available_nusd is None:
            return Course(None, ())
        return foresee(
            self.lots, available_nusd=self.available_nusd, held_nusd=self.held_nusd,
            pace_nusd=self.pace_nusd, now=self.read_at,
        )  # fmt: skip

    @property
    def runs_out_on(self) -> date | None:
        """The day on which nothing is left at the present pace; None without a pace or a wallet."""
        days = self.course.lasts_days
        return None if days is None else self.today + timedelta(days=days)


def foresee(
    lots: Sequence[Remaining], *, available_nusd: int, held_nusd: int, pace_nusd: int, now: datetime
) -> Course:
    """Spend the lots in their order at an even pace, and lose what is left of each when it ends.

    What is held is spent first. What is available beyond the lots (credit on account) is used last.
    """
    left = [Fraction(lot.remaining_nusd) for lot in lots]
    _spend(left, Fraction(held_nusd))
    left.append(max(Fraction(0), Fraction(available_nusd) - sum(left)))
    ending = [(lot.expires_at, at) for at, lot in enumerate(lots) if lot.expires_at is not None]
    losses: list[Loss] = []
    day = Fraction(0)
    for ends_at, lot in sorted(ending):
        ends = max(day, Fraction((ends_at - now) // timedelta(microseconds=1), _DAY_US))
        missing = _spend(left, pace_nusd * (ends - day))
        if missing > 0:
            return Course(_days(ends - missing / pace_nusd), tuple(losses))
        day, lost, left[lot] = ends, int(left[lot]), Fraction(0)
        if lost:
            losses.append(Loss(lost, ends_at, int(sum(left))))
    lasts = _days(day + sum(left, Fraction(0)) / pace_nusd) if pace_nusd > 0 else None
    return Course(lasts, tuple(losses))


def _spend(left: list[Fraction], amount: Fraction) -> Fraction:
    """Take an amount from what is left, the first first; returns what could not be taken."""
    for at, rest in enumerate(left):
        if amount <= 0:
            break
        taken = min(rest, amount)
        left[at], amount = rest - taken, amount - taken
    return amount


def _days(days: Fraction) -> int | None:
    return int(days) if days < _DAYS_MAX else None


_DAYS_MAX = 3650  # beyond ten years a date says nothing
_DAY_US = 86_400_000_000


def read(session: Session, who: Principal) -> Balance:
    """The balance now, in three statements. Raises errors.Forbidden for members, errors.NotFound
    where there is no account."""
    require(who, Role.ADMIN, Role.FINANCE)
    rollups.flush(session, who.tenant_id)
    row = session.execute(text(_BALANCE), {"pace_days": PACE_DAYS}).mappings().one_or_none()
    if row is None:
        raise errors.NotFound("There is no such account.")
    found = session.execute(text(_LOTS), {"limit": LOTS_MAX}).mappings()
    return Balance(**row, lots=tuple(Remaining(**lot) for lot in found))


# What was spent is what came otherwise, less what is there: so it needs no look at a single call. The
# condition on kinds is that of the index. Paces are read from the sums of fourteen days.
_BALANCE = """
select t.mode, a.posted_nusd, a.held_nusd, a.debt_nusd, a.receivable_nusd, a.frozen,
  case when a.floor_nusd is not null
    then greatest(0, a.posted_nusd - a.held_nusd - a.floor_nusd) end as available_nusd,
  -a.floor_nusd as credit_limit_nusd, terms.low_balance_nusd, here.today, now() as read_at,
  (select coalesce(sum(l.granted_nusd), 0)::bigint from app.lots l
    where l.tenant_id = a.tenant_id and l.kind = 'purchase')
  + (select coalesce(sum(e.amount_nusd), 0)::bigint from app.lots l
    join app.entries e on e.tenant_id = l.tenant_id and e.lot_id = l.lot_id
    where l.tenant_id = a.tenant_id and l.kind = 'purchase' and e.kind in ('revoke', 'reinstate'))
  as purchased_nusd,
  (select coalesce(sum(e.amount_nusd), 0)::bigint from app.entries e
    where e.tenant_id = a.tenant_id and e.kind not in ('capture', 'adjust')) - a.posted_nusd
  as spent_nusd,
  (select (coalesce(sum(d.billed_nusd), 0) / :pace_days)::bigint from app.usage_daily_models d
    where d.tenant_id = a.tenant_id and d.day >= here.today - :pace_days and d.day < here.today)
  as pace_nusd,
  (select min(s.period_end) from app.subscriptions s
    where s.tenant_id = a.tenant_id and s.purpose = 'usage' and s.ended_at is null) as next_invoice_at
from app.accounts a
join app.tenants t on t.tenant_id = a.tenant_id
cross join app.billing_terms terms
cross join lateral (select verbs.day_of(t.tenant_id, now()) as today) as here
where a.tenant_id = app.tenant()
"""

_LOTS = """
select lot_id, kind, remaining_nusd, expires_at from app.lots
where tenant_id = app.tenant() and remaining_nusd > 0
order by priority, expires_at nulls last, effective_at, lot_id limit :limit
"""
