"""The demo data: real rows that obey every invariant, made once, in development only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from uuid import UUID

import pytest
from sqlalchemy import text

from core import db, errors, invariants, schema, settings
from core.billing import ledger
from core.catalog.tokens import guess_tokens
from core.chat import conversations
from core.db import Database, System
from core.demonstration import history, script, seed
from core.identity import passwords, sessions
from core.identity.access import Principal

WHO = System("tests")
NOW = datetime(2026, 3, 3, 15, 30, tzinfo=UTC)


@pytest.fixture(scope="module", autouse=True)
def seeded(
    database: Database, fresh_database_url: Callable[[str], str], worker_id: str
) -> Iterator[None]:
    """A database of its own with the demo data, as of today."""
    url = fresh_database_url(f"purser_demo_{worker_id}")
    schema.migrate(url)
    made = Database(settings.current(), url)
    db.install(made)
    try:
        with db.transaction(WHO) as session:
            assert seed.seed(session, settings.current(), datetime.now(UTC))
        yield
    finally:
        db.install(database)
        made.close()


@pytest.fixture
def demo() -> Principal:
    """The demo person, signed in with the password that is printed at every start."""
    user_id = passwords.verify(script.DEMO_EMAIL, script.PASSWORD, None)
    assert user_id is not None
    token = sessions.redeem(sessions.issue_ticket(user_id), None, None)
    signed_in = sessions.who(token)
    assert signed_in is not None
    assert signed_in.principal is not None
    return signed_in.principal


def rows(statement: str, **arguments: object) -> list[tuple[object, ...]]:
    with db.transaction(WHO) as session:
        return [tuple(row) for row in session.execute(text(statement), arguments)]


def test_it_breaks_no_invariant() -> None:
    with db.transaction(WHO) as session:
        assert invariants.check(session) == []


def test_it_is_made_once() -> None:
    before = rows("select count(*), max(event_id) from app.usage_events")
    with db.transaction(WHO) as session:
        assert not seed.seed(session, settings.current(), datetime.now(UTC))
    assert rows("select count(*), max(event_id) from app.usage_events") == before


def test_production_gets_none() -> None:
    production = settings.current().model_copy(update={"app_env": "production"})
    with db.transaction(WHO) as session, pytest.raises(errors.Forbidden):
        seed.seed(session, production, datetime.now(UTC))


def test_there_is_a_tenant_of_each_mode_with_usage_on_most_days() -> None:
    found = rows(
        "select t.mode, count(distinct d.day), count(distinct d.user_id)"
        " from app.tenants t join app.usage_daily d using (tenant_id) group by 1 order by 1"
    )
    assert [mode for mode, _, _ in found] == ["internal", "postpaid", "prepaid"]
    assert all(days >= 60 and people >= 3 for _, days, people in found)  # type: ignore[operator]


def test_every_ending_occurs_and_estimates_were_corrected() -> None:
    outcomes = {row[0] for row in rows("select distinct outcome from app.usage_events")}
    assert outcomes == {"ok", "stopped", "cut", "error", "timeout"}
    assert rows("select 1 from app.entries where kind = 'adjust' limit 1") == [(1,)]


def test_the_demo_person_signs_in_as_admin_with_money_left(demo: Principal) -> None:
    assert (demo.role, demo.mode, demo.plan) == ("admin", "prepaid", "pro")
    with db.transaction(WHO) as session:
        wallet = ledger.wallet(session, demo.tenant_id)
    assert wallet.available_nusd
    assert wallet.debt_nusd == 0


def test_the_operator_signs_in_without_a_tenant() -> None:
    user_id = passwords.verify(script.OPERATOR_EMAIL, script.PASSWORD, None)
    assert user_id is not None
    signed_in = sessions.who(sessions.redeem(sessions.issue_ticket(user_id), None, None))
    assert signed_in is not None
    assert signed_in.operator is not None
    assert signed_in.principal is None


def test_each_answer_of_the_demo_conversations_has_its_cost(demo: Principal) -> None:
    with db.transaction(demo) as session:
        listed = conversations.listing(session, demo)
        assert [c.title for c in listed] == [talk.title for talk in reversed(script.talks())]
        for talk in script.talks():
            found = next(c for c in listed if c.title == talk.title)
            shown = conversations.branch(session, demo, found.conversation_id)
            said = [(m.role, m.content) for m in shown]
            assert said == [
                pair
                for e in talk.exchanges
                for pair in (("user", e.question), ("assistant", e.answer))
            ]
            for message in shown[1::2]:
                assert message.billed_nusd
                assert message.tokens
                assert message.tokens > guess_tokens(message.content)


def test_conversations_cost_what_their_events_say(demo: Principal) -> None:
    found = rows(
        "select t.turn_id from app.turns t join app.usage_events e"
        " on e.tenant_id = t.tenant_id and e.call_id = t.call_id"
        " and e.conversation_id = t.conversation_id where t.tenant_id = :t",
        t=demo.tenant_id,
    )
    assert len(found) == sum(len(talk.exchanges) for talk in script.talks())


def test_no_call_lies_in_the_future_or_runs() -> None:
    assert rows("select 1 from app.calls where state = 'open' or settled_at > now()") == []


def test_the_same_day_gives_the_same_history() -> None:
    place, habits = script.places()[0], script.habits()
    caller = history.Caller(
        UUID(int=1), UUID(int=2), UUID(int=3), UUID(int=4), "x", "x@example.com", 1
    )
    terms = seed.read_terms({"prompt": "0.000001", "completion": "0.000002"})
    offers = {
        habit.model_id: history.Offer(habit.model_id, "openrouter", True, 1, terms)
        for habit in habits
    }
    first, second = (history.of_place(place, [caller], None, offers, habits, NOW) for _ in range(2))
    assert first == second
    assert len(first) > 1_000
    assert first[0].opened_at.date() >= history.first_day(NOW, place.time_zone)


@pytest.mark.parametrize(
    ("now", "first"),
    [
        (datetime(2026, 3, 3, tzinfo=UTC), date(2025, 12, 4)),  # ninety days are more
        (datetime(2026, 8, 31, 12, tzinfo=UTC), date(2026, 6, 1)),  # two whole months are
    ],
)
def test_it_reaches_over_two_whole_months(now: datetime, first: date) -> None:
    assert history.first_day(now, "Europe/Berlin") == first


def test_last_month_is_dearer_because_of_one_person_on_one_model() -> None:
    """What the finance guide finds out, step by step."""
    place = script.places()[0]
    assert place.move is not None
    found = rows(
        "select verbs.month_of(e.tenant_id, e.occurred_at) as month, u.email, e.model_served,"
        " sum(e.billed_nusd) from app.usage_events e join app.users u on u.user_id = e.user_id"
        " join app.tenants t on t.tenant_id = e.tenant_id where t.name = :name"
        " and verbs.month_of(e.tenant_id, e.occurred_at) in"
        " (verbs.month_of(e.tenant_id, now()) - interval '1 month',"
        "  verbs.month_of(e.tenant_id, now()) - interval '2 months') group by 1, 2, 3",
        name=place.name,
    )
    months = sorted({row[0] for row in found})  # type: ignore[type-var]
    rises: dict[tuple[object, object], int] = {}
    for month, email, model, cost in found:
        sign = 1 if month == months[1] else -1
        rises[email, model] = rises.get((email, model), 0) + sign * int(str(cost))
    assert sum(rises.values()) > 0
    assert max(rises, key=lambda of: rises[of]) == (place.move.email, place.move.model_id)
