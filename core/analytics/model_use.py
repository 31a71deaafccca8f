"""What each model was used for lately, for the pages that switch models on and off. Sums by the name
under which the provider served the call; reads the daily sums only."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from core.identity.access import Actor, require_admin, require_operator

DAYS = 30


@dataclass(frozen=True, slots=True)
class ModelUse:
    """Calls of the last DAYS days of the tenant (of each its own days) and what was billed for them."""

    requests: int
    billed_nusd: int


def of_models(session: Session, who: Actor, tenant_id: UUID | None) -> dict[str, ModelUse]:
    """Use by model id: of one tenant for its admins, of all (None) for operators.

    Raises errors.Forbidden, and errors.NotFound for another tenant.
    """
    if tenant_id is None:
        require_operator(who)
    else:
        require_admin(who, tenant_id)
    rows = session.execute(text(_OF_MODELS), {"tenant": tenant_id, "days": DAYS})
    return {row.model: ModelUse(row.requests, row.billed_nusd) for row in rows}


_OF_MODELS = """
with spans as materialized (
  select t.tenant_id, verbs.day_of(t.tenant_id, now()) - cast(:days as int) as before
  from app.tenants t
  where cast(:tenant as uuid) is null or t.tenant_id = cast(:tenant as uuid))
select d.model, sum(d.requests)::bigint as requests, sum(d.billed_nusd)::bigint as billed_nusd
from spans s join app.usage_daily_models d on d.tenant_id = s.tenant_id and d.day > s.before
group by d.model
"""
