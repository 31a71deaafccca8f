"""Finds what a command names: a tenant by id or exact name, a person by id or e-mail."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from core import errors
from core.commands.connection import WHO
from core.identity import names, tenants
from core.identity.tables import ApiKey, Tenant, User


def tenant(session: Session, given: str) -> Tenant:
    """Raises errors.NotFound, and errors.BadInput where several tenants have this name."""
    if (tenant_id := as_id(given)) is not None:
        found = session.get(Tenant, tenant_id)
        matching = [found] if found else []
    else:
        name = names.name(given, "tenant", length_max=200)
        matching = list(session.scalars(select(Tenant).where(Tenant.name == name).limit(2)))
    if not matching:
        raise errors.NotFound(f"There is no tenant {_shown(given)}.", param="tenant")
    if len(matching) > 1:
        raise errors.BadInput(
            f"Several tenants are called {_shown(given)}: name one by its id.", param="tenant"
        )
    return matching[0]


def person(session: Session, given: str) -> UUID:
    """Raises errors.NotFound, errors.BadInput."""
    if (user_id := as_id(given)) is None:
        return tenants.find_user(session, WHO, given)
    if session.get(User, user_id) is None:
        raise errors.NotFound("There is no person with this id.", param="user")
    return user_id


def key(session: Session, given: str) -> UUID:
    """Raises errors.NotFound, errors.BadInput."""
    if (key_id := as_id(given)) is None:
        raise errors.BadInput(f"{_shown(given)} is not the id of an API key.", param="key")
    if session.scalar(select(ApiKey.key_id).where(ApiKey.key_id == key_id)) is None:
        raise errors.NotFound("There is no such API key.", param="key")
    return key_id


def as_id(given: str) -> UUID | None:
    """The id in this text, if it is one."""
    try:
        return UUID(given.strip())
    except ValueError:
        return None


def _shown(given: str) -> str:
    return ascii(given[:60])
