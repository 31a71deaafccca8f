"""Tenants, people and operators: made, changed and ended by operators, each act with one audit
row. Opens no account and grants no credit: money belongs to a room above."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from uuid import UUID

from sqlalchemy import Select, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core import clock, errors
from core.db import new_id
from core.identity import audit, names, people, zones
from core.identity.access import Actor, Role, require_operator
from core.identity.tables import Label, Membership, Operator, Plan, Tenant, User

MODES = ("prepaid", "postpaid", "internal")
_NAME_LENGTH_MAX = 200
_MARKUP_MAX = 100
_MARKUP_STEP = Decimal("0.000001")  # what the column holds


@dataclass(frozen=True, slots=True)
class Member:
    """A person in a tenant; `active` only when both the person and the membership are."""

    user_id: UUID
    email: str
    name: str
    role: Role
    active: bool


@dataclass(frozen=True, slots=True)
class TenantEntry:
    """A tenant with its people, as operators see it."""

    tenant_id: UUID
    name: str
    plan: str
    mode: str
    time_zone: str
    markup: Decimal
    active: bool
    created_at: datetime
    members: tuple[Member, ...]


def create_tenant(
    session: Session,
    who: Actor,
    name: str,
    *,
    plan: str = "free",
    mode: str = "prepaid",
    time_zone: str = "UTC",
    markup: Decimal | str | int = 0,
) -> UUID:
    """A new tenant's id. `markup` is a fraction (0.1 = ten percent). Raises errors.BadInput."""
    with audit.denials(who, "tenant.create", "tenant:new"):
        require_operator(who)
    cleaned = names.name(name, "name", length_max=_NAME_LENGTH_MAX)
    if mode not in MODES:
        raise errors.BadInput(f"The mode is one of {', '.join(MODES)}.", param="mode")
    _known_plan(session, plan)
    fraction = _markup(markup)
    tenant_id, label_id = new_id(), new_id()
    session.add(
        Tenant(
            tenant_id=tenant_id, name=cleaned, plan=plan, mode=mode, markup=fraction,
            first_time_zone=zones.require_zone(session, time_zone), label_id=label_id,
        )
    )  # fmt: skip
    session.flush()
    session.add(Label(tenant_id=tenant_id, label_id=label_id, subject_id=tenant_id, name=cleaned))
    session.flush()
    audit.record(
        session, who, "tenant.create", f"tenant:{tenant_id}", tenant_id=tenant_id,
        after={"name": cleaned, "plan": plan, "mode": mode, "time_zone": time_zone,
               "markup": fraction},
    )  # fmt: skip
    return tenant_id


def rename(session: Session, who: Actor, tenant_id: UUID, name: str) -> None:
    """Give a tenant another name; what it used before keeps the name it had then.

    Raises errors.NotFound, errors.BadInput.
    """
    tenant = _for_operator(session, who, "tenant.rename", tenant_id)
    cleaned = names.name(name, "name", length_max=_NAME_LENGTH_MAX)
    before, tenant.name = tenant.name, cleaned
    tenant.label_id = label(session, tenant_id, tenant_id, cleaned)
    _changed(session, who, "tenant.rename", tenant_id, "name", before, cleaned)


def set_markup(session: Session, who: Actor, tenant_id: UUID, markup: Decimal | str | int) -> None:
    """Set what is added to the cost of each call (0.1 = ten percent), from the next call on.

    Raises errors.NotFound, errors.BadInput.
    """
    tenant = _for_operator(session, who, "tenant.markup", tenant_id)
    before, tenant.markup = tenant.markup, _markup(markup)
    _changed(session, who, "tenant.markup", tenant_id, "markup", before, tenant.markup)


def set_tenant_active(session: Session, who: Actor, tenant_id: UUID, *, active: bool) -> None:
    """Suspend a tenant: its people and keys are refused at once; or let it go on.

    Calls that run are finished. Raises errors.NotFound.
    """
    action = "tenant.activate" if active else "tenant.suspend"
    tenant = _for_operator(session, who, action, tenant_id)
    before, tenant.status = tenant.status, "active" if active else "suspended"
    _changed(session, who, action, tenant_id, "status", before, tenant.status)


def set_mode(
    session: Session, who: Actor, tenant_id: UUID, mode: str, *,
    before: audit.Facts, after: audit.Facts,
) -> None:  # fmt: skip
    """Write how a tenant pays, and the log's row with what its wallet's room adds to `before` and
    `after`. Moves no floor: callers are the verbs that do. Raises errors.NotFound, errors.BadInput."""
    require_operator(who)
    if mode not in MODES:
        raise errors.BadInput(f"The mode is one of {', '.join(MODES)}.", param="mode")
    tenant = _tenant(session, tenant_id)
    left, tenant.mode = tenant.mode, mode
    session.flush()
    audit.record(
        session, who, "tenant.mode", f"tenant:{tenant_id}", tenant_id=tenant_id,
        before={"mode": left, **before}, after={"mode": mode, **after},
    )  # fmt: skip


def set_plan(session: Session, who: Actor, tenant_id: UUID, plan: str) -> None:
    """Put a tenant on another plan; its limits apply from the next call on, running calls end as begun.

    A subscription goes on beside it, and decides again when what it says changes. Raises
    errors.NotFound, errors.BadInput for an unknown plan.
    """
    tenant = _for_operator(session, who, "plan.change", tenant_id)
    _known_plan(session, plan)
    before, tenant.plan = tenant.plan, plan
    _changed(session, who, "plan.change", tenant_id, "plan", before, plan)


def plans(session: Session) -> tuple[str, ...]:
    """The plans there are, the smallest first."""
    return tuple(session.scalars(select(Plan.plan).order_by(Plan.rank, Plan.plan)))


def label(session: Session, tenant_id: UUID, subject_id: UUID, name: str) -> UUID:
    """The id of this name of this subject: the row that froze it before, or a new one."""
    found: UUID = session.execute(
        text("select verbs.label_of(:tenant, :label, :subject, :name)"),
        {"tenant": tenant_id, "label": new_id(), "subject": subject_id, "name": name},
    ).scalar_one()
    return found


def create_user(
    session: Session, who: Actor, email: str, *, name: str = "", password_hash: str | None = None
) -> UUID:
    """A new person's id, not yet in any tenant; `password_hash` from passwords.hash_password.

    Raises errors.Conflict when the e-mail is taken, errors.BadInput.
    """
    require_operator(who)
    address = names.email(email)
    user_id = new_id()
    made = insert(User).values(
        user_id=user_id, email=address, password_hash=password_hash,
        name=names.name(name, "name", length_max=_NAME_LENGTH_MAX, empty=True),
    )  # fmt: skip
    if session.execute(made.on_conflict_do_nothing().returning(User.user_id)).scalar() is None:
        raise errors.Conflict("There is a person with this e-mail already.", param="email")
    audit.record(session, who, "user.create", f"user:{user_id}")
    return user_id


def find_user(session: Session, who: Actor, email: str) -> UUID:
    """The person with this e-mail. Raises errors.NotFound, errors.BadInput."""
    require_operator(who)
    found = session.scalar(select(User.user_id).where(User.email == names.email(email)))
    if found is None:
        raise errors.NotFound("There is no person with this e-mail.", param="email")
    return found


def disable_user(session: Session, who: Actor, user_id: UUID) -> None:
    """End a person: sessions, tickets and keys are dead at once. Raises errors.NotFound."""
    require_operator(who)
    user = _user(session, user_id)
    before, user.status = user.status, "disabled"
    session.flush()
    ended = session.execute(text(_END_PERSON), {"user_id": user_id}).one()
    audit.record(
        session, who, "user.disable", f"user:{user_id}", before={"status": before},
        after={"status": "disabled", "sessions_ended": ended.sessions, "keys_revoked": ended.keys},
    )  # fmt: skip


def enable_user(session: Session, who: Actor, user_id: UUID) -> None:
    """Let a person sign in again; sessions and keys stay ended. Raises errors.NotFound."""
    require_operator(who)
    user = _user(session, user_id)
    before, user.status = user.status, "active"
    session.flush()
    audit.record(
        session, who, "user.enable", f"user:{user_id}", before={"status": before},
        after={"status": "active"},
    )  # fmt: skip


def set_password(session: Session, who: Actor, user_id: UUID, password_hash: str) -> None:
    """Replace a person's password and end their sessions. Raises errors.NotFound."""
    require_operator(who)
    _user(session, user_id).password_hash = password_hash
    session.flush()
    session.execute(text(_END_SESSIONS), {"user_id": user_id})
    audit.record(session, who, "user.set_password", f"user:{user_id}")


def make_operator(session: Session, who: Actor, user_id: UUID, *, confirmed: bool) -> None:
    """Make a person a platform operator; again changes nothing. `confirmed`: as for `members.add`.

    Raises errors.NotFound; errors.Conflict, saying who it is, for an account that was there before
    and is not confirmed, and for one made by a tenant's link whose e-mail is not proven.
    """
    require_operator(who)
    user = _user(session, user_id)
    people.require_seen(session, who, user_id, confirmed=confirmed)
    if user.made_by_tenant is not None and user.email_proven_at is None:
        raise errors.Conflict(people.UNPROVEN, param="email")
    session.execute(insert(Operator).values(user_id=user_id).on_conflict_do_nothing())
    audit.record(session, who, "operator.make", f"user:{user_id}")


def confirm_email(session: Session, who: Actor, user_id: UUID) -> None:
    """Take an operator's word, and log it, that the person behind an account reads its mailbox.

    From then on it is no longer bound to the tenant whose link made it. Raises errors.NotFound.
    """
    require_operator(who)
    user = _user(session, user_id)
    before = user.email_proven_at
    user.email_proven_at = before or session.scalar(select(func.now()))
    session.flush()
    audit.record(
        session, who, "user.confirm_email", f"user:{user_id}", before={"proven_at": before},
        after={"proven_at": user.email_proven_at, "made_by_tenant": user.made_by_tenant},
    )  # fmt: skip


def dismiss_operator(session: Session, who: Actor, user_id: UUID) -> None:
    """Take the operator's rights away. Raises errors.NotFound when the person had none."""
    require_operator(who)
    operator = session.get(Operator, user_id)
    if operator is None:
        raise errors.NotFound("There is no such operator.")
    session.delete(operator)
    session.flush()
    audit.record(session, who, "operator.dismiss", f"user:{user_id}")


def every_tenant(session: Session, who: Actor) -> tuple[TenantEntry, ...]:
    """All tenants by name, with their people."""
    require_operator(who)
    found: dict[UUID, list[Member]] = {}
    for row in session.execute(_people()):
        active = row.status == "active" and row.membership == "active"
        found.setdefault(row.tenant_id, []).append(
            Member(row.user_id, row.email, row.name, Role(row.role), active)
        )
    tenants = session.scalars(select(Tenant).order_by(Tenant.name, Tenant.tenant_id))
    calendars, now = zones.calendars(session), clock.now()
    return tuple(
        TenantEntry(
            t.tenant_id, t.name, t.plan, t.mode, calendars[t.tenant_id].span_at(now).time_zone,
            t.markup, t.status == "active",
            t.created_at, tuple(found.get(t.tenant_id, ())),
        )
        for t in tenants
    )  # fmt: skip


_END_SESSIONS = """
with gone as (delete from app.tickets where user_id = :user_id)
update app.sessions set revoked_at = now() where user_id = :user_id and revoked_at is null
"""
_END_PERSON = """
with gone as (delete from app.tickets where user_id = :user_id),
left_open as (update app.sessions set revoked_at = now()
  where user_id = :user_id and revoked_at is null and expires_at > now() returning 1),
live as (update app.api_keys set revoked_at = now()
  where user_id = :user_id and revoked_at is null returning 1)
select (select count(*) from left_open) as sessions, (select count(*) from live) as keys
"""


def _people() -> Select[UUID, str, UUID, str, str, str, str]:
    return (
        select(
            Membership.tenant_id, Membership.role, User.user_id, User.email, User.name, User.status,
            Membership.status.label("membership"),
        )
        .join(User, User.user_id == Membership.user_id)
        .order_by(User.email)
    )  # fmt: skip


def _user(session: Session, user_id: UUID) -> User:
    user = session.get(User, user_id, with_for_update=True)
    if user is None:
        raise errors.NotFound("There is no such person.")
    return user


def _for_operator(session: Session, who: Actor, action: str, tenant_id: UUID) -> Tenant:
    """The tenant, locked for an operator's act; anybody else's attempt is logged as denied."""
    with audit.denials(who, action, f"tenant:{tenant_id}"):
        require_operator(who)
    return _tenant(session, tenant_id)


def _changed(
    session: Session, who: Actor, action: str, tenant_id: UUID, term: str, before: object,
    after: object,
) -> None:  # fmt: skip
    session.flush()
    audit.record(
        session, who, action, f"tenant:{tenant_id}", tenant_id=tenant_id, before={term: before},
        after={term: after},
    )  # fmt: skip


def _tenant(session: Session, tenant_id: UUID) -> Tenant:
    """The tenant, locked against another change of it; calls go on."""
    tenant = session.get(
        Tenant, tenant_id, populate_existing=True, with_for_update={"key_share": True}
    )
    if tenant is None:
        raise errors.NotFound("There is no such tenant.")
    return tenant


def _known_plan(session: Session, plan: str) -> None:
    if plan not in plans(session):
        raise errors.BadInput("There is no such plan.", param="plan")


def _markup(given: Decimal | str | int) -> Decimal:
    try:
        markup = Decimal(given)
    except InvalidOperation:
        raise errors.BadInput("The markup is not a number.", param="markup") from None
    if not markup.is_finite() or not 0 <= markup < _MARKUP_MAX or markup % _MARKUP_STEP:
        raise errors.BadInput(
            "The markup is a fraction from 0 to below 100 with at most six digits.", param="markup"
        )
    return markup
