"""The limits that apply to a tenant, a person or a key: its plan's, or what was set for it alone, and
what is counted against them. Only says and sets them; counting and refusing is the gate's."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, literal, select, text
from sqlalchemy.orm import Session

from core import errors
from core.identity import audit
from core.identity.access import Actor, require_admin, require_operator
from core.identity.tables import ApiKey, LimitOverride, Membership, PlanLimit, Tenant

_MAXIMUM_MAX = 2**62
_NEAR_PERCENT = 80


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


class State(StrEnum):
    """How far a limit is used: near from 80 % on."""

    FREE = "free"
    NEAR = "near"
    REACHED = "reached"


def percent_used(counted: int, maximum: int) -> int:
    """How much of a limit is used, in whole percent rounded down, over 100 too; of nothing all is."""
    return counted * 100 // maximum if maximum else 100


@dataclass(frozen=True, slots=True)
class LimitUse:
    """One limit of one subject, and what counts against it: `used` is settled, `held` by calls that
    run. `is_set` says whether it was set for the subject alone; else it is the plan's. A rate's
    window slides: `resets_at` is when all it counts now has left it, None while it counts nothing.

    `label` is a tenant's name, a person's e-mail or a key's name; `owner` a key's owner's e-mail.
    """

    subject: Subject
    subject_id: UUID
    label: str
    owner: str
    name: LimitName
    maximum: int | None
    is_set: bool
    used: int
    held: int
    resets_at: datetime | None

    @property
    def counted(self) -> int:
        """What the gate counts against the maximum."""
        return self.used + self.held

    @property
    def state(self) -> State:
        """Whether the next call is close to being refused, or is."""
        if self.maximum is None:
            return State.FREE
        if self.counted >= self.maximum:
            return State.REACHED
        near = percent_used(self.counted, self.maximum) >= _NEAR_PERCENT
        return State.NEAR if near else State.FREE

    @property
    def is_passed(self) -> bool:
        """Whether more is counted than it allows."""
        return self.maximum is not None and self.counted > self.maximum

    @property
    def percent(self) -> int | None:
        """How much of it is used; None where it is unlimited."""
        return None if self.maximum is None else percent_used(self.counted, self.maximum)


def overview(session: Session, who: Actor, tenant_id: UUID) -> tuple[LimitUse, ...]:
    """Every limit of a tenant, its people and its live keys with what is used, in one statement.

    The tenant comes first, then people by e-mail, then keys. Raises errors.Forbidden.
    """
    require_admin(who, tenant_id)
    rows = session.execute(text(_OVERVIEW), {"tenant": tenant_id})
    return tuple(
        LimitUse(
            Subject(row.scope), row.subject_id, row.label, row.owner, LimitName(row.limit_name),
            row.maximum, row.is_set, row.used, row.held, row.resets_at,
        )
        for row in rows
    )  # fmt: skip


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
    """Set one limit for one subject; None lifts it. A tenant's admins set those of its people and
    keys, operators a tenant's own too. Raises errors.Forbidden, errors.NotFound, errors.BadInput."""
    with audit.denials(who, "limit.set", f"{subject}:{subject_id}"):
        _require(who, tenant_id, subject)
    if maximum is not None and not 0 <= maximum <= _MAXIMUM_MAX:
        raise errors.BadInput(f"{name} cannot be {maximum}.", param=name)
    done = session.execute(
        text("select * from verbs.set_limit(:tenant, :scope, :subject, :name, :maximum)"),
        {"tenant": tenant_id, "scope": subject, "subject": subject_id, "name": name,
         "maximum": maximum},
    ).one()  # fmt: skip
    if done.code != "ok":
        raise errors.NotFound(f"There is no such {subject}.")
    audit.record(
        session, who, "limit.set", f"{subject}:{subject_id}", tenant_id=tenant_id,
        before={name: done.maximum_before} if done.was_set else None, after={name: maximum},
    )  # fmt: skip


def unset_limit(
    session: Session,
    who: Actor,
    tenant_id: UUID,
    subject: Subject,
    subject_id: UUID,
    name: LimitName,
) -> None:
    """Return one limit to the plan's; who may is as for `set_limit`. Raises errors.Forbidden,
    errors.NotFound when nothing was set."""
    with audit.denials(who, "limit.unset", f"{subject}:{subject_id}"):
        _require(who, tenant_id, subject)
    done = session.execute(
        text("select * from verbs.unset_limit(:tenant, :scope, :subject, :name)"),
        {"tenant": tenant_id, "scope": subject, "subject": subject_id, "name": name},
    ).one()
    if done.code != "ok":
        raise errors.NotFound(
            "This limit was not set." if done.code == "not_set" else f"There is no such {subject}."
        )
    audit.record(
        session, who, "limit.unset", f"{subject}:{subject_id}", tenant_id=tenant_id,
        before={name: done.maximum_before},
    )  # fmt: skip


# The rule of `verbs.limits_of`, which the gate asks about one call, for all subjects at once.
_OVERVIEW = """
with month as materialized (select verbs.month_ends(:tenant, now()) as ends),
people as (
  select m.user_id, l.name as email from app.memberships m
  join app.labels l on l.tenant_id = m.tenant_id and l.label_id = m.label_id
  where m.tenant_id = :tenant),
subjects as (
  select 0 as place, 'tenant' as scope, t.tenant_id as subject_id, t.name as label, '' as owner
  from app.tenants t where t.tenant_id = :tenant
  union all
  select 1, 'user', p.user_id, p.email, '' from people p
  union all
  select 2, 'key', k.key_id, k.name, p.email
  from app.api_keys k join people p on p.user_id = k.user_id
  where k.tenant_id = :tenant and k.revoked_at is null and coalesce(k.expires_at > now(), true))
select s.scope, s.subject_id, s.label, s.owner, n.limit_name,
  case when o.subject_id is null then p.maximum else o.maximum end as maximum,
  o.subject_id is not null as is_set,
  coalesce(u.used[n.number], 0) as used, coalesce(u.held[n.number], 0) as held,
  coalesce(u.resets[n.number], case when n.number > 2 then month.ends end) as resets_at
from app.tenants t
cross join month
cross join subjects s
cross join lateral unnest(verbs.limit_names()) with ordinality as n(limit_name, number)
left join app.plan_limits p on p.plan = t.plan and p.scope = s.scope and p.limit_name = n.limit_name
left join app.limit_overrides o on o.tenant_id = t.tenant_id and o.scope = s.scope
  and o.subject_id = s.subject_id and o.limit_name = n.limit_name
left join verbs.uses_of(:tenant) u on u.subject_id = s.subject_id
where t.tenant_id = :tenant
order by s.place, s.label, s.subject_id, n.number
"""


def _require(who: Actor, tenant_id: UUID, subject: Subject) -> None:
    if subject is Subject.TENANT:
        require_operator(who)
    else:
        require_admin(who, tenant_id)


def _set_for(
    session: Session, tenant_id: UUID, subject: Subject, subject_id: UUID
) -> list[LimitOverride]:
    query = select(LimitOverride).where(
        LimitOverride.tenant_id == tenant_id,
        LimitOverride.scope == subject,
        LimitOverride.subject_id == subject_id,
    )
    return list(session.scalars(query.execution_options(populate_existing=True)))


def _must_exist(session: Session, tenant_id: UUID, subject: Subject, subject_id: UUID) -> None:
    wanted: dict[Subject, tuple[ColumnElement[bool], ...]] = {
        Subject.TENANT: (Tenant.tenant_id == tenant_id, Tenant.tenant_id == subject_id),
        Subject.USER: (Membership.tenant_id == tenant_id, Membership.user_id == subject_id),
        Subject.KEY: (ApiKey.tenant_id == tenant_id, ApiKey.key_id == subject_id),
    }
    query: Select[Any] = select(literal(1)).where(*wanted[subject])
    if session.execute(query).first() is None:
        raise errors.NotFound(f"There is no such {subject}.")
