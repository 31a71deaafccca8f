"""People of a tenant in the hands of its admins: who has a place, in which role, and where they are
signed in. Makes no person (operators and invites do) and touches nobody of another tenant."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from core import errors
from core.db import new_id
from core.identity import audit, names, people
from core.identity.access import Actor, Principal, Role, require_admin, require_operator
from core.identity.tenants import Member

_COST_CENTER_LENGTH_MAX = 200
_NO_MEMBER = "There is no such member."


class State(StrEnum):
    """Whether a member may work here: their place may be ended here, or the person everywhere."""

    ACTIVE = "active"
    DISABLED = "disabled"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class Place:
    """A person's place in a tenant as its admins see it. Sessions and the last sight of the person
    are those in this tenant, nothing of where else they work."""

    user_id: UUID
    email: str
    name: str
    role: Role
    state: State
    joined_at: datetime
    last_seen_at: datetime | None
    sessions: int


def of_tenant(session: Session, who: Actor, tenant_id: UUID) -> tuple[Place, ...]:
    """Everyone with a place in a tenant, by e-mail, for its admins and operators."""
    require_admin(who, tenant_id)
    rows = session.execute(text("select * from verbs.members_of(:tenant)"), {"tenant": tenant_id})
    return tuple(
        Place(
            row.user_id, row.email, row.name, Role(row.role), _state(row.status, row.person_status),
            row.joined_at, row.last_seen_at, row.sessions,
        )
        for row in rows
    )  # fmt: skip


def colleagues(session: Session, who: Actor) -> tuple[Member, ...]:
    """The people of the principal's own tenant, by e-mail."""
    if not isinstance(who, Principal):
        raise errors.Forbidden("Only a tenant's own people see this list.")
    rows = session.execute(text("select * from verbs.members()"))
    return tuple(
        Member(r.user_id, r.email, r.name, Role(r.role), r.status == "active") for r in rows
    )


def add(
    session: Session,
    who: Actor,
    tenant_id: UUID,
    user_id: UUID,
    role: Role,
    *,
    confirmed: bool,
    cost_center: str | None = None,
) -> None:
    """Put a person into a tenant, for operators; admins invite. `confirmed`: somebody was told who the
    person is and where they work already, and said that it is who they mean.

    Raises errors.NotFound; errors.Conflict when they are in it, when another tenant's link made the
    account and its e-mail is not proven, and, saying who it is, for an account that was there before
    and is not confirmed.
    """
    with audit.denials(who, "member.add", f"user:{user_id}"):
        require_operator(who)
    people.require_seen(session, who, user_id, confirmed=confirmed)
    code = session.execute(
        text("select verbs.join_tenant(:tenant, :user, :role, :cost_center, :label)"),
        {"tenant": tenant_id, "user": user_id, "role": role, "label": new_id(),
         "cost_center": _cost_center(cost_center)},
    ).scalar_one()  # fmt: skip
    if code == "member":
        raise errors.Conflict("This person is in the tenant already.")
    if code == "unproven":
        raise errors.Conflict(people.UNPROVEN, param="email")
    if code != "ok":
        raise errors.NotFound(f"There is no such {code.removeprefix('no_')}.")
    audit.record(
        session, who, "member.add", f"user:{user_id}", tenant_id=tenant_id, after={"role": role}
    )


def change(
    session: Session,
    who: Actor,
    tenant_id: UUID,
    user_id: UUID,
    *,
    role: Role | None = None,
    active: bool | None = None,
) -> None:
    """Change a person's role, or end or renew their place; an end signs them out of it at once.

    Raises errors.NotFound; errors.Conflict where a tenant's admin would leave it without an active
    admin, which only operators may.
    """
    with audit.denials(who, "member.change", f"user:{user_id}"):
        require_admin(who, tenant_id)
    status = None if active is None else "active" if active else "disabled"
    done = session.execute(
        text("select * from verbs.change_member(:tenant, :user, :role, :status)"),
        {"tenant": tenant_id, "user": user_id, "role": role, "status": status},
    ).one()
    if done.code == "last_admin":
        raise errors.Conflict("This is the team's last active admin: make somebody else one first.")
    if done.code != "ok":
        raise errors.NotFound(_NO_MEMBER)
    audit.record(
        session, who, "member.change", f"user:{user_id}", tenant_id=tenant_id,
        before={"role": done.role_before, "status": done.status_before},
        after={"role": done.role, "status": done.status, "sessions_ended": done.ended},
    )  # fmt: skip


def sign_out(session: Session, who: Actor, tenant_id: UUID | None, user_id: UUID) -> int:
    """End a person's sessions and return how many: those in the tenant for its admin, all of them
    for an operator, who may leave the tenant open. Raises errors.NotFound."""
    with audit.denials(who, "member.sign_out", f"user:{user_id}"):
        if tenant_id is None:
            require_operator(who)
        else:
            require_admin(who, tenant_id)
    ended: int | None = session.execute(
        text("select verbs.sign_out_member(:tenant, :user)"),
        {"tenant": tenant_id, "user": user_id},
    ).scalar_one()
    if ended is None:
        raise errors.NotFound(_NO_MEMBER)
    audit.record(
        session, who, "member.sign_out", f"user:{user_id}", tenant_id=tenant_id,
        after={"sessions_ended": ended},
    )  # fmt: skip
    return ended


def _state(place: str, person: str) -> State:
    if person != "active":
        return State.BLOCKED
    return State.ACTIVE if place == "active" else State.DISABLED


def _cost_center(given: str | None) -> str | None:
    return names.name(given, "cost center", length_max=_COST_CENTER_LENGTH_MAX) if given else None
