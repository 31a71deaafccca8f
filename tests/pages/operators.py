"""Platform operators who belong to no tenant, as most do."""

from __future__ import annotations

from core import db
from core.identity import tenants
from tests.identity.people import SYSTEM, a_user, sign_in
from tests.pages.conftest import Person


def an_operator() -> Person:
    """A signed-in operator."""
    user_id = a_user()
    with db.transaction(SYSTEM) as session:
        tenants.make_operator(session, SYSTEM, user_id, confirmed=True)
    return Person(sign_in(user_id))
