"""To which cost centre and project the use of a tenant, of one of its people and of one of its keys is
booked: set by admins, never by the caller. What was used before stays where it was booked."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from core.errors import BadInput, NotFound
from core.identity import audit, names
from core.identity.access import Actor, require_admin
from core.identity.limits import Subject

NAME_LENGTH_MAX = 100
_NO_NAME = "none"  # in addresses it means those without one


@dataclass(frozen=True, slots=True)
class Assignment:
    """What is set for a subject itself, and what its calls are booked to: of each, the key's own,
    else the person's, else the tenant's. A key that has ended is not `active`, nor is a lost place."""

    subject: Subject
    subject_id: UUID
    name: str
    owner: str | None
    active: bool
    cost_center: str | None
    project: str | None
    booked_cost_center: str | None
    booked_project: str | None


def assign(
    session: Session,
    who: Actor,
    tenant_id: UUID,
    subject: Subject,
    subject_id: UUID,
    cost_center: str | None,
    project: str | None,
) -> None:
    """Set both for a subject, from the next call on; None leaves it to what stands above.

    For the tenant's admins and operators. Raises errors.Forbidden, BadInput, and NotFound for a
    subject that is not of this tenant.
    """
    with audit.denials(who, "cost_center.set", f"{subject}:{subject_id}"):
        require_admin(who, tenant_id)
    after = {
        "cost_center": _cleaned(cost_center, "cost center"),
        "project": _cleaned(project, "project"),
    }
    before = session.execute(
        text(_ASSIGN), {"tenant": tenant_id, "scope": subject, "subject": subject_id, **after}
    ).one()
    if not before.known:
        raise NotFound(f"There is no such {subject}.")
    audit.record(
        session, who, "cost_center.set", f"{subject}:{subject_id}", tenant_id=tenant_id,
        before={"cost_center": before.cost_center, "project": before.project}, after=after,
    )  # fmt: skip


def of_tenant(session: Session, who: Actor, tenant_id: UUID) -> tuple[Assignment, ...]:
    """The tenant, its people by e-mail, then their keys, those that ended included.

    Raises errors.Forbidden, and NotFound for another tenant.
    """
    require_admin(who, tenant_id)
    rows = session.execute(text(_OF_TENANT), {"tenant": tenant_id}).mappings()
    found = tuple(Assignment(**{**row, "subject": Subject(row["subject"])}) for row in rows)
    if not found:
        raise NotFound("There is no such tenant.")
    return found


def of_subject(
    session: Session, who: Actor, tenant_id: UUID, subject: Subject, subject_id: UUID
) -> Assignment:
    """What one subject has. Raises errors.Forbidden and NotFound."""
    for found in of_tenant(session, who, tenant_id):
        if (found.subject, found.subject_id) == (subject, subject_id):
            return found
    raise NotFound(f"There is no such {subject}.")


_ASSIGN = """
select known, cost_center, project
from verbs.assign_cost_center(:tenant, :scope, :subject, :cost_center, :project)
"""


_OF_TENANT = """
select subject, subject_id, name, owner, active, cost_center, project, booked_cost_center,
  booked_project
from (
  select 0 as place, 'tenant' as subject, t.tenant_id as subject_id, t.name, null as owner,
    t.status = 'active' as active, t.cost_center, t.project,
    t.cost_center as booked_cost_center, t.project as booked_project
  from app.tenants t where t.tenant_id = :tenant
  union all
  select 1, 'user', m.user_id, l.name, null, m.status = 'active', m.cost_center, m.project,
    coalesce(m.cost_center, t.cost_center), coalesce(m.project, t.project)
  from app.memberships m
  join app.tenants t on t.tenant_id = m.tenant_id
  join app.labels l on l.tenant_id = m.tenant_id and l.label_id = m.label_id
  where m.tenant_id = :tenant
  union all
  select 2, 'key', k.key_id, k.name, l.name,
    k.revoked_at is null and coalesce(k.expires_at > now(), true), k.cost_center, k.project,
    coalesce(k.cost_center, m.cost_center, t.cost_center),
    coalesce(k.project, m.project, t.project)
  from app.api_keys k
  join app.tenants t on t.tenant_id = k.tenant_id
  join app.memberships m on m.tenant_id = k.tenant_id and m.user_id = k.user_id
  join app.labels l on l.tenant_id = m.tenant_id and l.label_id = m.label_id
  where k.tenant_id = :tenant
) as every
order by place, name, subject_id
"""


def _cleaned(given: str | None, param: str) -> str | None:
    """What was typed, without surrounding space; nothing is None. Raises errors.BadInput."""
    if given is None or not given.strip():
        return None
    cleaned = names.name(given, param, length_max=NAME_LENGTH_MAX)
    if cleaned == _NO_NAME:
        raise BadInput(f"The {param} cannot be called {cleaned}.", param=param)
    return cleaned
