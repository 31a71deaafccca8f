"""The limits that apply to a tenant, a person or a key: its plan's, or what was set for it alone.
Only says what they are and sets them; counting and refusing is the gate's."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, literal, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core import errors
from core.identity import audit
from core.identity.access import Actor, require_operator
from core.identity.tables import ApiKey, LimitOverride, Membership, PlanLimit, Tenant

_MAXIMUM_MAX = 2**62


class Subject(StrEnum):
    """What a limit can be set for."""

    TENANT = "tenant"
    USER = "user"
    KEY = "key"


class LimitName(StrEnum):
    """What can be limited; months are the tenant's, amounts are billed nano-USD."""

    REQUESTS_PER_MINUTE = "requests_per_minute"
    REQUESTS_PER_HOUR = "requests_per_hour"
    MONTHLY_MESSAGES = "monthly_messages"
    MONTHLY_TOKENS = "monthly_tokens"
    MONTHLY_NUSD = "monthly_nusd"


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one subject; None means unlimited."""

    requests_per_minute: int | None = None
    requests_per_hour: int | None = None
    monthly_messages: int | None = None
    monthly_tokens: int | None = None
    monthly_nusd: int | None = None


def of(session: Session, tenant_id: UUID, subject: Subject, subject_id: UUID) -> Limits:
    """The limits in force: set for the subject, else its plan's. Raises errors.NotFound."""
    _must_exist(session, tenant_id, subject, subject_id)
    plan = (
        select(PlanLimit.limit_name, PlanLimit.maximum)
        .join(Tenant, Tenant.plan == PlanLimit.plan)
        .where(Tenant.tenant_id == tenant_id, PlanLimit.scope == subject)
    )
    found = {row.limit_name: row.maximum for row in session.execute(plan)}
    # What is set comes second and overwrites, also with a null: unlimited.
    for row in _set_for(session, tenant_id, subject, subject_id):
        found[row.limit_name] = row.maximum
    return Limits(**{f.name: found.get(f.name) for f in fields(Limits)})


def set_limit(
    session: Session,
    who: Actor,
    tenant_id: UUID,
    subject: Subject,
    subject_id: UUID,
    name: LimitName,
    maximum: int | None,
) -> None:
    """Set one limit for one subject; None lifts it. Raises errors.NotFound, errors.BadInput."""
    require_operator(who)
    if maximum is not None and not 0 <= maximum <= _MAXIMUM_MAX:
        raise errors.BadInput(f"{name} cannot be {maximum}.", param=name)
    _must_exist(session, tenant_id, subject, subject_id)
    before = _now(session, tenant_id, subject, subject_id, name)
    row = insert(LimitOverride).values(
        tenant_id=tenant_id, scope=subject, subject_id=subject_id, limit_name=name, maximum=maximum
    )
    session.execute(
        row.on_conflict_do_update(
            index_elements=["tenant_id", "scope", "subject_id", "limit_name"],
            set_={"maximum": row.excluded.maximum, "set_at": row.excluded.set_at},
        )
    )
    audit.record(
        session, who, "limit.set", f"{subject}:{subject_id}", tenant_id=tenant_id, before=before,
        after={name: maximum},
    )  # fmt: skip


def unset_limit(
    session: Session,
    who: Actor,
    tenant_id: UUID,
    subject: Subject,
    subject_id: UUID,
    name: LimitName,
) -> None:
    """Return one limit to the plan's. Raises errors.NotFound when nothing was set."""
    require_operator(who)
    before = _now(session, tenant_id, subject, subject_id, name)
    row = session.get(LimitOverride, (tenant_id, subject, subject_id, name))
    if row is None:
        raise errors.NotFound("This limit was not set.")
    session.delete(row)
    session.flush()
    audit.record(
        session, who, "limit.unset", f"{subject}:{subject_id}", tenant_id=tenant_id, before=before
    )


def _set_for(
    session: Session, tenant_id: UUID, subject: Subject, subject_id: UUID
) -> list[LimitOverride]:
    query = select(LimitOverride).where(
        LimitOverride.tenant_id == tenant_id,
        LimitOverride.scope == subject,
        LimitOverride.subject_id == subject_id,
    )
    return list(session.scalars(query.execution_options(populate_existing=True)))


def _now(
    session: Session, tenant_id: UUID, subject: Subject, subject_id: UUID, name: LimitName
) -> dict[str, int | None] | None:
    """What is set now, for the audit log; None when nothing is."""
    for row in _set_for(session, tenant_id, subject, subject_id):
        if row.limit_name == name:
            return {name: row.maximum}
    return None


def _must_exist(session: Session, tenant_id: UUID, subject: Subject, subject_id: UUID) -> None:
    wanted: dict[Subject, tuple[ColumnElement[bool], ...]] = {
        Subject.TENANT: (Tenant.tenant_id == tenant_id, Tenant.tenant_id == subject_id),
        Subject.USER: (Membership.tenant_id == tenant_id, Membership.user_id == subject_id),
        Subject.KEY: (ApiKey.tenant_id == tenant_id, ApiKey.key_id == subject_id),
    }
    query: Select[Any] = select(literal(1)).where(*wanted[subject])
    if session.execute(query).first() is None:
        raise errors.NotFound(f"There is no such {subject}.")
