"""People across tenants, for operators: found by e-mail, with where they work and whether they are an
operator. Changes nobody (tenants.py does), and refuses to grant somebody anything unseen."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.orm import Session

from core import errors
from core.identity import names
from core.identity.access import Actor, require_operator

UNPROVEN = (
    "Another team's link made this account, and whoever opened it chose the password. Make sure who"
    " reads this mailbox, and confirm that first."
)


@dataclass(frozen=True, slots=True)
class Person:
    """A person; `tenants` names those where they have a place, also an ended one.

    `unproven_of` is the tenant whose link made the account, while its e-mail is not proven.
    """

    user_id: UUID
    email: str
    name: str
    active: bool
    is_operator: bool
    tenants: tuple[str, ...]
    unproven_of: str | None

    def described(self) -> str:
        """Who this is and where they already work, for whoever is about to grant them something."""
        name = f"{self.name} ({self.email})" if self.name else self.email
        works = " and ".join(self.tenants) if self.tenants else "no team"
        parts = [f"{name} has an account already, and works in {works}"]
        if self.is_operator:
            parts.append("is an operator of this platform")
        if not self.active:
            parts.append("has no access any more")
        if self.unproven_of:
            parts.append(f"chose the password with a link of {self.unproven_of}, unproven")
        return "; ".join(parts) + "."


def find(session: Session, who: Actor, email: str) -> Person:
    """The person with this e-mail. Raises errors.NotFound, errors.BadInput, errors.Forbidden."""
    require_operator(who)
    address = names.email(email)
    found = session.execute(text(f"{_PERSON} where u.email = :email"), {"email": address})
    row = found.mappings().first()
    if row is None:
        raise errors.NotFound("There is no person with this e-mail.", param="email")
    return _person(row)


def require_seen(session: Session, who: Actor, user_id: UUID, *, confirmed: bool) -> None:
    """Raise errors.Conflict, saying who the person is, where nobody has `confirmed` that it is who they
    mean. Whoever was made in this very transaction needs no confirming."""
    require_operator(who)
    if confirmed:
        return
    query = text(f"{_PERSON} where u.user_id = :user and u.created_at < now()")
    row = session.execute(query, {"user": user_id}).mappings().first()
    if row is not None:
        raise errors.Conflict(_person(row).described(), param="email")


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
  case when u.email_proven_at is null then
    (select t.name from app.tenants t where t.tenant_id = u.made_by_tenant) end as unproven_of,
  array(select t.name from app.memberships m join app.tenants t on t.tenant_id = m.tenant_id
    where m.user_id = u.user_id order by t.name) as tenants
from app.users u left join app.operators o on o.user_id = u.user_id
"""
