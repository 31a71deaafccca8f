"""Sweeping: what is long over goes, what lives or ended lately stays."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from core import db
from core.db import new_id
from core.identity import leftovers
from tests.identity.people import SYSTEM, a_user

pytestmark = pytest.mark.usefixtures("database")

_SESSION = """
insert into app.sessions(session_id, token_hash, user_id, door, expires_at, revoked_at)
values (:id, cast(:id as text)::bytea, :user, 'password', now() + cast(:expires as interval),
  now() + cast(:revoked as interval))
"""


@pytest.mark.parametrize(
    ("expires", "revoked", "stays"),
    [("1 hour", None, True), ("-29 days", None, True), ("-31 days", None, False),
     ("1 hour", "-31 days", False), ("1 hour", "-1 day", True)],
)  # fmt: skip
def test_a_session_goes_a_month_after_its_end(
    expires: str, revoked: str | None, stays: bool
) -> None:
    user_id, session_id = a_user(), new_id()
    with db.transaction(SYSTEM) as session:
        session.execute(
            text(_SESSION),
            {"id": session_id, "user": user_id, "expires": expires, "revoked": revoked},
        )
        leftovers.sweep(session)
        left = session.scalar(
            text("select count(*) from app.sessions where session_id = :id"), {"id": session_id}
        )
    assert bool(left) is stays


def test_tickets_and_failures_go_when_they_no_longer_count() -> None:
    user_id = a_user()
    old, fresh = new_id().bytes, new_id().bytes
    with db.transaction(SYSTEM) as session:
        for hashed, age in ((old, "2 days"), (fresh, "1 minute")):
            session.execute(
                text(
                    "insert into app.tickets(ticket_hash, user_id, door, expires_at)"
                    " values (:h, :u, 'password', now() - cast(:a as interval))"
                ),
                {"h": hashed, "u": user_id, "a": age},
            )
            session.execute(
                text(
                    "insert into app.sign_in_failures(subject_hash, failures, last_failed_at)"
                    " values (:h, 3, now() - cast(:a as interval))"
                ),
                {"h": hashed, "a": age},
            )
        leftovers.sweep(session)
        for table, column in (("tickets", "ticket_hash"), ("sign_in_failures", "subject_hash")):
            left = session.scalars(
                text(f"select {column} from app.{table} where {column} in (:old, :fresh)"),
                {"old": old, "fresh": fresh},
            ).all()
            assert [bytes(h) for h in left] == [fresh]
