"""A tenant's terms as its admins and operators see them, and the one that both may change: its time
zone, which never changes within a month."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from core import errors
from core.identity import audit, zones
from core.identity.access import Actor, Principal, require_admin
from core.identity.tables import Tenant


@dataclass(frozen=True, slots=True)
class Terms:
    """What a tenant is and how it works here; `markup` is for operators, None for its own admins."""

    tenant_id: UUID
    name: str
    plan: str
    mode: str
    active: bool
    calendar: zones.Calendar
    cost_center: str | None
    project: str | None
    markup: Decimal | None


def of_tenant(session: Session, who: Actor, tenant_id: UUID) -> Terms:
    """The terms of one tenant, for its admins and operators. Raises errors.Forbidden, errors.NotFound."""
    require_admin(who, tenant_id)
    found = session.get(Tenant, tenant_id, populate_existing=True)
    if found is None:
        raise errors.NotFound("There is no such tenant.")
    return Terms(
        tenant_id, found.name, found.plan, found.mode, found.status == "active",
        zones.calendar_of(session, tenant_id), found.cost_center, found.project,
        None if isinstance(who, Principal) else found.markup,
    )  # fmt: skip


def set_time_zone(
    session: Session, who: Actor, tenant_id: UUID, time_zone: str
) -> zones.Span | None:
    """Put a tenant into another time zone from its next month on; returns what was planned.

    A change that was planned before is replaced. The zone in force takes the planned change back, and
    returns None. For the tenant's admins and operators. Raises errors.Forbidden, errors.NotFound, and
    errors.BadInput for no such zone, and for the one in force when nothing is planned.
    """
    with audit.denials(who, "tenant.time_zone", f"tenant:{tenant_id}"):
        require_admin(who, tenant_id)
    zones.require_zone(session, time_zone)
    change = session.execute(
        text("select * from verbs.change_zone(:tenant, :zone)"),
        {"tenant": tenant_id, "zone": time_zone},
    ).one()
    if change.zone is None:
        raise errors.NotFound("There is no such tenant.")
    if change.starts_on is None and change.planned is None:
        raise errors.BadInput(f"The time zone is {time_zone} already.", param="time_zone")
    audit.record(
        session, who, "tenant.time_zone", f"tenant:{tenant_id}", tenant_id=tenant_id,
        before={"time_zone": change.zone, "planned": change.planned},
        after={"time_zone": time_zone, "from": change.starts_on},
    )  # fmt: skip
    if change.starts_on is None:
        return None
    return zones.Span(time_zone, change.starts_at, change.starts_on)
