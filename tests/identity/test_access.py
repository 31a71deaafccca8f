"""core/identity/access.py"""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from uuid import uuid4

import pytest

from core import errors
from core.db import JOBS, RW, System
from core.identity.access import (
    Operator,
    Principal,
    Role,
    Scope,
    SignedIn,
    require,
    require_operator,
    require_person,
    require_scope,
)

PERSON = Principal(
    uuid4(), uuid4(), Role.FINANCE, "a@example.com", "Ada", "Acme", "free", "prepaid", "UTC",
    session_id=uuid4(),
)  # fmt: skip
KEY = replace(PERSON, session_id=None, key_id=uuid4(), scopes=frozenset({"models"}))
OPERATOR = Operator(uuid4(), "o@example.com", "Otto")
SYSTEM = System("tests")


def test_the_database_role_follows_from_who_asks() -> None:
    assert (PERSON.db_role, PERSON.bound_tenant_id) == (RW, PERSON.tenant_id)
    assert (OPERATOR.db_role, OPERATOR.bound_tenant_id) == (JOBS, None)


def test_a_principal_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        PERSON.role = Role.ADMIN  # type: ignore[misc]


def test_require_lets_the_named_roles_through_and_no_other() -> None:
    assert require(PERSON) is PERSON
    assert require(PERSON, Role.ADMIN, Role.FINANCE) is PERSON
    with pytest.raises(errors.Forbidden):
        require(PERSON, Role.ADMIN)
    with pytest.raises(errors.Forbidden):
        require(PERSON, Role.MEMBER)


@pytest.mark.parametrize("who", [OPERATOR, SYSTEM])
def test_operators_have_no_role_in_a_tenant(who: Operator | System) -> None:
    with pytest.raises(errors.Forbidden):
        require(who)
    assert require_operator(who) is who


def test_a_tenants_admin_is_no_operator() -> None:
    with pytest.raises(errors.Forbidden):
        require_operator(replace(PERSON, role=Role.ADMIN))


def test_nobody_is_asked_to_sign_in() -> None:
    for check in (require, require_operator, require_person):
        with pytest.raises(errors.NotSignedIn):
            check(None)
    with pytest.raises(errors.NotSignedIn):
        require_scope(None, Scope.CHAT)


def test_a_key_needs_the_scope_and_a_browser_does_not() -> None:
    assert require_scope(KEY, Scope.MODELS) is KEY
    assert require_scope(PERSON, Scope.CHAT) is PERSON
    with pytest.raises(errors.Forbidden):
        require_scope(KEY, Scope.CHAT)


def test_a_key_is_not_a_person() -> None:
    require_person(PERSON)
    require_person(OPERATOR)
    with pytest.raises(errors.Forbidden):
        require_person(KEY)


def test_a_session_acts_as_the_principal_before_the_operator() -> None:
    session_id = uuid4()
    assert SignedIn(PERSON, OPERATOR, session_id).who is PERSON
    assert SignedIn(None, OPERATOR, session_id).user_id == OPERATOR.user_id
    with pytest.raises(errors.NotSignedIn):
        _ = SignedIn(None, None, session_id).who
