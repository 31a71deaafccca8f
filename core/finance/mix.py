"""What was sold in each month: packages, top-ups and plans, how many, for how much, for which credit.
For operators; out of what was fulfilled, never out of what was only ordered. It changes nothing.

Months are each tenant's own. A plan is named as the ledger named it when its credit was booked.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from core.billing import subscriptions
from core.identity.access import Actor, require_operator
from core.periods import month_of


@dataclass(frozen=True, slots=True)
class Sold:
    """One thing as one tenant bought it in a month. Money in cents, taxes in it; credit with its bonus."""

    month: date
    tenant_id: UUID
    kind: Literal["package", "topup", "plan"]
    title: str
    count: int
    paid_minor: int
    credit_nusd: int


@dataclass(frozen=True, slots=True)
class Running:
    """How many tenants are subscribed to a plan now."""

    plan: str
    tenants: int


def sold(session: Session, who: Actor, first_month: date, last_month: date) -> tuple[Sold, ...]:
    """What was fulfilled from one month to another, both included. Raises errors.Forbidden."""
    require_operator(who)
    asked = {"first": first_month, "last": month_of(last_month).first}
    return tuple(Sold(**row) for row in session.execute(text(_SOLD), asked).mappings())


def running(session: Session, who: Actor) -> tuple[Running, ...]:
    """The plans that are paid for now, the commonest first. Raises errors.Forbidden."""
    require_operator(who)
    asked = {"live": list(subscriptions.LIVE)}
    return tuple(Running(**row) for row in session.execute(text(_RUNNING), asked).mappings())


# An invoice may bring credit by several of its lines; its money is counted with the first.
_SOLD = """
with fulfilled as (
  select f.tenant_id, verbs.month_of(f.tenant_id, f.fulfilled_at) as month, f.granted_nusd,
    coalesce(o.kind, 'plan') as kind, coalesce(o.title, (
      select split_part(e.reason, ':', 1) from app.lots l
      join app.entries e on e.tenant_id = l.tenant_id and e.lot_id = l.lot_id and e.kind = 'grant'
      where l.tenant_id = f.tenant_id and l.source_type = f.kind and l.source_id = f.stripe_id), 'Plan')
      as title,
    case when o.order_id is not null then o.total_minor
      when row_number() over (partition by f.tenant_id, f.invoice_id order by f.stripe_id) = 1
        then i.total_minor end as paid_minor
  from app.fulfilments f
  left join app.orders o on o.tenant_id = f.tenant_id and o.order_id = f.order_id
  left join app.invoices i on i.tenant_id = f.tenant_id and i.invoice_id = f.invoice_id)
select month, tenant_id, kind, title, count(*) as count,
  coalesce(sum(paid_minor), 0)::bigint as paid_minor, sum(granted_nusd)::bigint as credit_nusd
from fulfilled where month between :first and :last
group by month, tenant_id, kind, title order by month, sum(paid_minor) desc nulls last, title, tenant_id
"""

_RUNNING = """
select plan, count(distinct tenant_id) as tenants from app.subscriptions
where purpose = 'plan' and plan is not null and status = any(:live)
group by plan order by 2 desc, plan
"""
