"""core/identity/people.py"""

from __future__ import annotations

import pytest

from core import db, errors
from core.identity import people, tenants
from core.identity.access import Role
from tests.identity.people import SYSTEM, a_browser, a_tenant, a_user, an_email, join

pytestmark = pytest.mark.usefixtures("database")


def test_a_person_is_found_by_email_with_every_place() -> None:
    email = an_email()
    user_id = a_user(email)
    for name in ("Beech", "Acacia"):
        join(a_tenant(name), user_id)
    with db.transaction(SYSTEM) as session:
        found = people.find(session, SYSTEM, f" {email.upper()} ")
        assert (found.user_id, found.email, found.tenants) == (user_id, email, ("Acacia", "Beech"))
        assert (found.active, found.is_operator) == (True, False)
        tenants.disable_user(session, SYSTEM, user_id)
        assert not people.find(session, SYSTEM, email).active


def test_operators_are_listed_until_they_are_dismissed() -> None:
    user_id = a_user()
    with db.transaction(SYSTEM) as session:
        assert user_id not in {one.user_id for one in people.operators(session, SYSTEM)}
        tenants.make_operator(session, SYSTEM, user_id, confirmed=True)
        (mine,) = [one for one in people.operators(session, SYSTEM) if one.user_id == user_id]
        assert mine.is_operator
        assert mine.tenants == ()
        tenants.dismiss_operator(session, SYSTEM, user_id)
        assert user_id not in {one.user_id for one in people.operators(session, SYSTEM)}


def test_nobody_has_that_email() -> None:
    with db.transaction(SYSTEM) as session, pytest.raises(errors.NotFound):
        people.find(session, SYSTEM, an_email())


def test_a_tenants_admin_looks_nobody_up() -> None:
    admin = a_browser(a_tenant(), Role.ADMIN).principal
    with db.transaction(admin) as session:
        with pytest.raises(errors.Forbidden):
            people.find(session, admin, admin.email)
        with pytest.raises(errors.Forbidden):
            people.operators(session, admin)
