"""People across tenants, for operators: found by e-mail, with where they work and whether they are an
operator. Changes nobody: tenants.py does."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.orm import Session

from core import errors
from core.identity import names
from core.identity.access import Actor, require_operator


@dataclass(frozen=True, slots=True)
class Person:
    """A person; `tenants` names those where they have a place, also an ended one."""

    user_id: UUID
    email: str
    name: str
    active: bool
    is_operator: bool
    tenants: tuple[str, ...]


def find(session: Session, who: Actor, email: str) -> Person:
    """The person with this e-mail. Raises errors.NotFound, errors.BadInput, errors.Forbidden."""
    require_operator(who)
    address = names.email(email)
    found = session.execute(text(f"{_PERSON} where u.email = :email"), {"email": address})
    row = found.mappings().first()
    if row is None:
        raise errors.NotFound("There is no person with this e-mail.", param="email")
    return _person(row)


def operators(session: Session, who: Actor) -> tuple[Person, ...]:
    """Everybody who is an operator, by e-mail. Raises errors.Forbidden."""
    require_operator(who)
    rows = session.execute(text(f"{_PERSON} where o.user_id is not null order by u.email"))
    return tuple(_person(row) for row in rows.mappings())


def _person(row: RowMapping) -> Person:
    return Person(**{**row, "tenants": tuple(row["tenants"])})


_PERSON = """
select u.user_id, u.email, u.name, u.status = 'active' as active,
  o.user_id is not null as is_operator,
  array(select t.name from app.memberships m join app.tenants t on t.tenant_id = m.tenant_id
    where m.user_id = u.user_id order by t.name) as tenants
from app.users u left join app.operators o on o.user_id = u.user_id
"""
