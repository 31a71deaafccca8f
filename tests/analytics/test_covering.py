"""A tenant's questions are answered by the key of the events alone: with a month of other tenants' rows
on every page, reading the rows themselves takes ten times as long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import event, text
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session

from core import db
from core.analytics import conversations, details, figures, latencies
from core.analytics.selection import Grain, Group, Selection
from core.identity.access import Principal
from core.periods import Period
from tests.analytics.using import use
from tests.factories import make_model, make_place

Question = Callable[[Session, Principal, Selection], object]

QUESTIONS: dict[str, Question] = {
    "sums": details.sums,
    "hours of the week": figures.hours,
    "hours of a day": lambda s, w, of: figures.series(s, w, of, Grain.HOUR, Group.MODEL),
    "percentiles": latencies.overall,
    "percentiles by provider": lambda s, w, of: latencies.by(s, w, of, Group.PROVIDER),
    "length of conversations": conversations.average_length,
    **{
        f"cost by {group}": lambda s, w, of, group=group: figures.groups(s, w, of, group)  # type: ignore[misc]
        for group in Group
        if group not in {Group.TENANT, Group.USER, Group.MODEL, Group.SOURCE}  # summed by day
    },
}


@pytest.fixture(scope="module")
def asked(database_url: str, database: object) -> tuple[Principal, Selection]:
    """Somebody with a call today, in a month whose pages vacuum has seen.

    A single day of UTC is always in one partition: the neighbour's, nearly empty on most days of the
    suite, is planned by its own few pages.
    """
    who = make_place().who
    use(who, make_model(), conversation_id=None)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("checkpoint")  # a commit not yet on disk is not yet there for everybody
        connection.execute("vacuum analyze app.usage_events")
    today = datetime.now(UTC).date()
    return who, Selection(Period(today, today))


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_tenants_question_reads_only_the_key(
    name: str, asked: tuple[Principal, Selection]
) -> None:
    who, selection = asked
    with db.transaction(who) as session, plans(session) as lines:
        QUESTIONS[name](session, who, selection)
    read = [line for line in lines if " on usage_events_" in line]
    assert read
    assert all("Index Only Scan using usage_events_" in line for line in read), read


def test_one_persons_calls_of_one_key_read_only_the_key(
    asked: tuple[Principal, Selection],
) -> None:
    who, selection = asked
    narrow = selection.only(Group.USER, who.user_id).only(Group.KEY, uuid4())
    with db.transaction(who) as session, plans(session) as lines:
        details.sums(session, who, narrow)
    read = [line for line in lines if " on usage_events_" in line]
    assert read and all("Index Only Scan" in line for line in read), read


@contextmanager
def plans(session: Session) -> Iterator[list[str]]:
    """The plans of what is asked of events meanwhile, as if each row of the table were far away."""
    for setting in ("enable_seqscan = off", "enable_bitmapscan = off", "random_page_cost = 100000"):
        session.execute(text(f"set local {setting}"))
    connection, lines = session.connection(), list[str]()

    def explain(
        _: Connection, cursor: psycopg.Cursor, statement: str, bound: dict[str, object], *__: object
    ) -> None:
        if "usage_events" in statement:
            cursor.execute(f"explain {statement}".encode(), bound)
            lines.extend(row[0] for row in cursor.fetchall())

    event.listen(connection, "before_cursor_execute", explain)
    try:
        yield lines
    finally:
        event.remove(connection, "before_cursor_execute", explain)
