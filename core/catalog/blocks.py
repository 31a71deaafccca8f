"""Models that a tenant switched off for its own people. What the platform offers is not changed here,
and what runs is not stopped: the gate refuses the next call."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from core.catalog.tables import Model, ModelBlock
from core.errors import Conflict, NotFound
from core.identity import audit
from core.identity.access import Actor, require_admin, require_operator
from core.identity.tables import Tenant


def block(session: Session, who: Actor, tenant_id: UUID, model_id: str) -> None:
    """Switch a model off for a tenant, from the next call on, also in conversations that used it.

    For its admins and operators. Raises errors.Forbidden, NotFound, and Conflict when it is off.
    """
    _turn(session, who, tenant_id, model_id, on=False)


def unblock(session: Session, who: Actor, tenant_id: UUID, model_id: str) -> None:
    """Switch a model on again. Raises errors.Forbidden, NotFound, and Conflict when it is on."""
    _turn(session, who, tenant_id, model_id, on=True)


def of_tenant(session: Session, tenant_id: UUID) -> frozenset[str]:
    """The ids of the models that a tenant switched off."""
    rows = session.scalars(select(ModelBlock.model_id).where(ModelBlock.tenant_id == tenant_id))
    return frozenset(rows)


def everywhere(session: Session, who: Actor) -> dict[str, tuple[str, ...]]:
    """For operators: the names of the tenants that switched a model off, by its id."""
    require_operator(who)
    rows = session.execute(
        select(ModelBlock.model_id, Tenant.name)
        .join(Tenant, Tenant.tenant_id == ModelBlock.tenant_id)
        .order_by(ModelBlock.model_id, Tenant.name, Tenant.tenant_id)
    )
    found: dict[str, list[str]] = {}
    for model_id, name in rows:
        found.setdefault(model_id, []).append(name)
    return {model_id: tuple(names) for model_id, names in found.items()}


_TURN = {
    True: text("select verbs.unblock_model(:tenant, :model)"),
    False: text("select verbs.block_model(:tenant, :model)"),
}


def _turn(session: Session, who: Actor, tenant_id: UUID, model_id: str, *, on: bool) -> None:
    action = "model.unblock" if on else "model.block"
    with audit.denials(who, action, f"tenant:{tenant_id}"):
        require_admin(who, tenant_id)
    if session.get(Tenant, tenant_id) is None:
        raise NotFound("There is no such tenant.")
    if session.get(Model, model_id) is None:
        raise NotFound("There is no such model.", param="model")
    turned = session.execute(_TURN[on], {"tenant": tenant_id, "model": model_id}).scalar_one()
    if not turned:
        raise Conflict(f"This model is {'on' if on else 'off'} already.", param="model")
    audit.record(
        session, who, action, f"tenant:{tenant_id}", tenant_id=tenant_id,
        after={"model": model_id},
    )  # fmt: skip
