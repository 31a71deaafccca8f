"""What ended sign-ins and invites leave behind, deleted when it is of no more use. Ends nothing that
lives."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.orm import Session

from core import db, jobs
from core.db import System
from core.jobs import Queue

# A session is kept for a month after its end, so that a person can still see where they were
# signed in; a failure counts for a day at most.
_STATEMENTS = (
    "delete from app.tickets where expires_at < now() - interval '1 hour'",
    "delete from app.sessions where least(expires_at, coalesce(revoked_at, expires_at))"
    " < now() - interval '30 days'",
    "delete from app.invites where least(expires_at, accepted_at, revoked_at)"
    " < now() - interval '30 days'",
    "delete from app.sign_in_failures where last_failed_at < now() - interval '1 day'",
)


def sweep(session: Session) -> None:
    """Delete old tickets, ended sessions and invites, and decayed failures."""
    for statement in _STATEMENTS:
        session.execute(text(statement))


@jobs.periodic("40 2 * * *", "identity.leftovers", Queue.LONG)
def _sweep() -> None:
    with db.transaction(System("leftovers")) as session:
        sweep(session)
