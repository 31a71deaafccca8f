"""A tenant's balance as its buyers look at it: what is left, what it came from, how long it lasts.

Reads only. The gate never asks here: whether a call may be made is the account row's to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from core import errors
from core.identity.access import Principal, Role, require

EXPIRING_DAYS = 30
PACE_DAYS = 14


@dataclass(frozen=True, slots=True)
class Expiring:
    """A lot that ends soon, with what it has left, in nano-USD."""

    lot_id: UUID
    kind: str
    remaining_nusd: int
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Balance:
    """Amounts in nano-USD, days of the tenant's zone.

    `available_nusd` and `credit_limit_nusd` are None where budgets gate, not the wallet (internal).
    `purchased_nusd` is what was bought over all time, less what was clawed back of it. `pace_nusd` is
    the mean cost of a day over the PACE_DAYS whole days before `today`.
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
    next_invoice_at: datetime | None
    expiring: tuple[Expiring, ...]

    @property
    def is_low(self) -> bool:
        """Whether a prepaid wallet has less left than the house calls low."""
        return self.mode == "prepaid" and (self.available_nusd or 0) < self.low_balance_nusd

    @property
    def runs_out_on(self) -> date | None:
        """The day on which nothing is left at the present pace; None without a pace or a wallet."""
        if self.available_nusd is None or self.pace_nusd <= 0:
            return None
        days = self.available_nusd // self.pace_nusd
        return self.today + timedelta(days=days) if days < _DAYS_MAX else None


_DAYS_MAX = 3650  # beyond ten years a date says nothing


def read(session: Session, who: Principal) -> Balance:
    """The balance now, in two statements. Raises errors.Forbidden for members, errors.NotFound
    where there is no account."""
    require(who, Role.ADMIN, Role.FINANCE)
    row = session.execute(text(_BALANCE), {"pace_days": PACE_DAYS}).mappings().one_or_none()
    if row is None:
        raise errors.NotFound("There is no such account.")
    expiring = session.execute(text(_EXPIRING), {"days": EXPIRING_DAYS}).mappings()
    return Balance(**row, expiring=tuple(Expiring(**lot) for lot in expiring))


_BALANCE = """
select t.mode, a.posted_nusd, a.held_nusd, a.debt_nusd, a.receivable_nusd, a.frozen,
  case when a.floor_nusd is not null
    then greatest(0, a.posted_nusd - a.held_nusd - a.floor_nusd) end as available_nusd,
  -a.floor_nusd as credit_limit_nusd, terms.low_balance_nusd, here.today,
  (select coalesce(sum(l.granted_nusd), 0)::bigint from app.lots l
    where l.tenant_id = a.tenant_id and l.kind = 'purchase')
  + (select coalesce(sum(e.amount_nusd), 0)::bigint from app.lots l
    join app.entries e on e.tenant_id = l.tenant_id and e.lot_id = l.lot_id
    where l.tenant_id = a.tenant_id and l.kind = 'purchase' and e.kind in ('revoke', 'reinstate'))
  as purchased_nusd,
  used.spent_nusd, used.pace_nusd,
  (select min(s.period_end) from app.subscriptions s
    where s.tenant_id = a.tenant_id and s.purpose = 'usage' and s.ended_at is null) as next_invoice_at
from app.accounts a
join app.tenants t on t.tenant_id = a.tenant_id
cross join app.billing_terms terms
cross join lateral (select verbs.day_of(t.tenant_id, now()) as today) as here
cross join lateral (
  select coalesce(sum(d.billed_nusd), 0)::bigint as spent_nusd,
    (coalesce(sum(d.billed_nusd) filter (
      where d.day >= here.today - :pace_days and d.day < here.today), 0) / :pace_days)::bigint
      as pace_nusd
  from app.usage_daily d where d.tenant_id = a.tenant_id) as used
where a.tenant_id = app.tenant()
"""

_EXPIRING = """
select lot_id, kind, remaining_nusd, expires_at from app.lots
where tenant_id = app.tenant() and remaining_nusd > 0
  and expires_at <= now() + make_interval(days => :days)
order by expires_at, lot_id
"""
