"""Everybody who may or may not act on one tenant's people: its roles, a key of its admin, another
tenant's admin, an operator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from core import db, errors
from core.identity import keys, tenants
from core.identity.access import Actor, Operator, Principal, Role
from tests.identity.people import SYSTEM, Browser, a_browser, a_tenant, a_user, sign_in

MAY_NOT = ("member", "finance", "key")


@dataclass(frozen=True, slots=True)
class Cast:
    """`subject` is the member whom the others act on."""

    tenant_id: UUID
    subject: Browser
    admin: Principal
    finance: Principal
    member: Principal
    key: Principal
    stranger: Principal
    operator: Operator

    @property
    def user_id(self) -> UUID:
        return self.subject.principal.user_id

    def named(self, name: str) -> Principal:
        found: Principal = getattr(self, name)
        return found


def a_cast(**terms: str) -> Cast:
    tenant_id = a_tenant(**terms)
    admin = a_browser(tenant_id, Role.ADMIN).principal
    return Cast(
        tenant_id, a_browser(tenant_id), admin, a_browser(tenant_id, Role.FINANCE).principal,
        a_browser(tenant_id).principal, by_key(admin),
        a_browser(a_tenant("Other"), Role.ADMIN).principal, an_operator(),
    )  # fmt: skip


def by_key(principal: Principal) -> Principal:
    """The same person through an API key."""
    with db.transaction(principal) as session:
        issued = keys.issue(session, principal, "ci")
    found = keys.who(issued.secret)
    assert found is not None
    return found


def an_operator() -> Operator:
    user_id = a_user()
    with db.transaction(SYSTEM) as session:
        tenants.make_operator(session, SYSTEM, user_id, confirmed=True)
    operator = sign_in(user_id).signed_in.operator
    assert operator is not None
    return operator


def refused(
    who: Actor, act: Callable[[Session], object], kind: type[errors.Refusal] = errors.Forbidden
) -> errors.Refusal:
    """The refusal that `act` ends in, in a transaction of `who`."""
    with pytest.raises(kind) as refusal, db.transaction(who) as session:
        act(session)
    return refusal.value


def asks(principal: Principal, statement: str, **arguments: object) -> object:
    """What the web role gets that is bound to this person's tenant and calls a verb by itself."""
    with db.transaction(principal) as session:
        return session.execute(text(statement), arguments).scalar()


def logged(action: str, object_: str) -> list[tuple[str, UUID | None, object, object]]:
    """(outcome, tenant, before, after) of the log's rows of one action on one object."""
    with db.transaction(SYSTEM) as session:
        rows = session.execute(
            text("select outcome, of_tenant, before, after from app.audit_log"
                 " where action = :action and object = :object order by audit_id"),
            {"action": action, "object": object_},
        )  # fmt: skip
        return [(row[0], row[1], row[2], row[3]) for row in rows]
