"""What is used of the month's limits. Only reads counters; refusing is the gate's. Months are the
tenant's zone's; spend counts what is settled and held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from core.identity.access import Actor, Principal, Role
from core.identity.limits import LimitName, percent_used
from core.periods import Period, month_of

Scope = Literal["user", "tenant"]


@dataclass(frozen=True, slots=True)
class LimitUse:
    """One monthly limit: settled and held use of its maximum (None: unlimited)."""

    scope: Scope
    name: LimitName
    used: int
    held: int
    maximum: int | None

    @property
    def counted(self) -> int:
        """What the gate counts against the maximum."""
        return self.used + self.held

    @property
    def is_passed(self) -> bool:
        """Whether more is counted than it allows."""
        return self.maximum is not None and self.counted > self.maximum

    @property
    def percent(self) -> int | None:
        """How much of it is used; None where it is unlimited."""
        return None if self.maximum is None else percent_used(self.counted, self.maximum)


@dataclass(frozen=True, slots=True)
class MonthUse:
    """The limits of a person and of their tenant in the current month."""

    month: Period
    resets_at: datetime
    uses: tuple[LimitUse, ...]
    per_minute: int | None
    per_hour: int | None

    def find(self, scope: Scope, name: LimitName) -> LimitUse:
        """One of the limits; every scope has all three."""
        return next(use for use in self.uses if (use.scope, use.name) == (scope, name))


@dataclass(frozen=True, slots=True)
class KeyUse:
    """An API key's spend of this month, settled and held, and its last call of the last 90 days."""

    spent_nusd: int
    last_used_at: datetime | None


def this_month(session: Session, who: Principal) -> MonthUse:
    """What the person and their tenant used of their limits this month, in one statement."""
    row = session.execute(
        text(_MONTH), {"tenant": who.tenant_id, "user": who.user_id, "plan": who.plan}
    ).one()
    limits: Sequence[int | None] = row.limits
    user, tenant = limits[0:5], limits[10:15]
    return MonthUse(
        month=month_of(row.period),
        resets_at=row.resets_at,
        uses=(*_uses("user", user, row.of_user), *_uses("tenant", tenant, row.of_tenant)),
        per_minute=user[0],
        per_hour=user[1],
    )


def budget_of(month: MonthUse, *, whole_tenant: bool) -> LimitUse:
    """The spend limit of what a person sees: the tenant's, or (also when not set) their own."""
    return month.find("tenant" if whole_tenant else "user", LimitName.MONTHLY_NUSD)


def key_uses(session: Session, who: Actor, tenant_id: UUID) -> dict[UUID, KeyUse]:
    """What API keys of a tenant did: the person's own, for its admins and operators all."""
    whose = None
    if isinstance(who, Principal) and who.role is not Role.ADMIN:
        whose = who.user_id
    rows = session.execute(text(_KEYS), {"tenant": tenant_id, "user": whose})
    return {row.key_id: KeyUse(row.spent_nusd, row.last_used_at) for row in rows}


def _uses(
    scope: Scope, limits: Sequence[int | None], used: Sequence[int] | None
) -> tuple[LimitUse, ...]:
    messages, tokens, tokens_held, spent, held = used or (0, 0, 0, 0, 0)
    return (
        LimitUse(scope, LimitName.MONTHLY_MESSAGES, messages, 0, limits[2]),
        LimitUse(scope, LimitName.MONTHLY_TOKENS, tokens, tokens_held, limits[3]),
        LimitUse(scope, LimitName.MONTHLY_NUSD, spent, held, limits[4]),
    )


_MONTH = """
with month as (
  select t.tenant_id, verbs.month_of(t.tenant_id, now()) as period,
    verbs.month_ends(t.tenant_id, now()) as resets_at
  from app.tenants t where t.tenant_id = :tenant),
used as (
  select c.subject_id, array[c.messages, c.tokens, c.tokens_held, c.spent_nusd, c.held_nusd] as used
  from app.counters c join month using (tenant_id, period))
select month.period, month.resets_at,
  verbs.limits_of(:tenant, :user, null, :plan) as limits,
  (select used from used where subject_id = :user) as of_user,
  (select used from used where subject_id = :tenant) as of_tenant
from month
"""

_KEYS = """
select k.key_id, coalesce(c.spent_nusd + c.held_nusd, 0) as spent_nusd,
  (select max(u.opened_at) from app.calls u
    where u.tenant_id = k.tenant_id and u.api_key_id = k.key_id
      and u.opened_at > now() - interval '90 days') as last_used_at
from app.api_keys k
left join app.counters c on c.tenant_id = k.tenant_id and c.subject_id = k.key_id
  and c.period = verbs.month_of(k.tenant_id, now())
where k.tenant_id = :tenant and (cast(:user as uuid) is null or k.user_id = :user)
"""
