"""core/analytics/conversations.py"""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from uuid import UUID

import pytest
from sqlalchemy import text

from core import db, errors
from core.analytics import conversations, cursors
from core.analytics.conversations import Metadata, Place
from core.analytics.selection import Group, Selection
from core.chat import conversations as chats
from core.identity.access import Operator, Principal, Role
from core.periods import last_days
from tests.analytics.using import colleague, correct, cost_of, use
from tests.factories import make_model, make_place

pytestmark = pytest.mark.usefixtures("database")
OPERATOR = Operator(db.new_id(), "ops@example.com", "Ops")


def recent(days: int = 30) -> Selection:
    return Selection(last_days(days, datetime.now(UTC).date()))


def a_chat(who: Principal, title: str) -> UUID:
    conversation_id = db.new_id()
    with db.transaction(who) as session:
        session.execute(
            text("insert into app.conversations(tenant_id, conversation_id, user_id, title)"
                 " values (:t, :c, :u, :title)"),
            {"t": who.tenant_id, "c": conversation_id, "u": who.user_id, "title": title},
        )  # fmt: skip
    return conversation_id


def test_ones_own_conversations_come_newest_first_with_their_cost() -> None:
    place = make_place(role="admin")
    member = colleague(place, Role.MEMBER)
    first, second, theirs = (a_chat(member, "One"), a_chat(member, "Two"), a_chat(place.who, "X"))
    model, other = make_model(), make_model()
    use(member, model, "0.25", conversation_id=first, days_ago=2)
    use(member, other, "0.001", conversation_id=first, days_ago=3)
    correct(
        use(member, model, cost=cost_of("0.01", lookup=True), conversation_id=second, days_ago=1),
        "0.02",
    )
    use(place.who, model, conversation_id=theirs)
    with db.transaction(member) as session:
        rows = conversations.recent(session, member)
        assert conversations.recent(session, member, 1) == rows[:1]
    assert [(row.title, row.model, row.requests, row.tokens, row.billed_nusd) for row in rows] == [
        ("Two", model, 1, 150, 20_000_000), ("One", model, 2, 300, 251_000_000),
    ]  # fmt: skip


def test_a_deleted_conversation_keeps_its_cost_and_loses_its_title() -> None:
    who = make_place().who
    conversation_id = a_chat(who, "Secret plan")
    use(who, make_model(), "0.25", conversation_id=conversation_id)
    with db.transaction(who) as session:
        length = conversations.average_length(session, who, recent())
        chats.remove(session, who, conversation_id)
        (row,) = conversations.recent(session, who)
        assert conversations.average_length(session, who, recent()) == length == 1
    assert (row.conversation_id, row.title, row.billed_nusd) == (conversation_id, None, 250_000_000)


def test_the_average_length_counts_calls_of_conversations_only() -> None:
    who, model = make_place().who, make_model()
    long, short = a_chat(who, "Long"), a_chat(who, "Short")
    for conversation_id in (long, long, long, short, short, None):
        use(who, model, "0.001", conversation_id=conversation_id)
    use(who, model, "0.001", conversation_id=short, days_ago=40)
    with db.transaction(who) as session:
        assert conversations.average_length(session, who, recent()) == Fraction(5, 2)
        none = recent().only(Group.SOURCE, "api")
        assert conversations.average_length(session, who, none) is None


def test_metadata_names_no_title_and_no_text() -> None:
    assert not {field.name for field in fields(Metadata)} & {"title", "text", "messages"}


def test_an_admin_sees_who_when_which_model_and_how_much() -> None:
    place = make_place(role="admin", markup="1")
    member = colleague(place, Role.MEMBER)
    conversation_id, model = a_chat(member, "Private"), make_model()
    use(member, model, "0.25", conversation_id=conversation_id)
    use(make_place().who, model, conversation_id=db.new_id())
    asked = recent().only(Group.TENANT, place.tenant_id)
    for who, list_nusd in ((place.who, None), (OPERATOR, 250_000_000)):
        with db.transaction(who) as session:
            (row,) = conversations.metadata(session, who, asked).rows
            assert "Private" not in str(row)
        assert (row.user_id, row.model, row.requests) == (member.user_id, model, 1)
        assert (row.billed_nusd, row.list_nusd) == (500_000_000, list_nusd)


def test_metadata_is_filtered_by_period_person_and_model_and_by_nothing_else() -> None:
    place = make_place(role="admin")
    member = colleague(place, Role.MEMBER)
    model, other = make_model(), make_model()
    use(member, model, "0.001", conversation_id=db.new_id())
    use(place.who, other, "0.001", conversation_id=db.new_id())
    use(place.who, other, "0.001", conversation_id=db.new_id(), days_ago=40)
    with db.transaction(place.who) as session:

        def found(asked: Selection) -> set[UUID]:
            rows = conversations.metadata(session, place.who, asked).rows
            return {row.user_id for row in rows} if rows else set()

        assert len(conversations.metadata(session, place.who, recent()).rows) == 2
        assert found(recent().only(Group.USER, member.user_id)) == {member.user_id}
        assert found(recent().only(Group.MODEL, other)) == {place.user_id}
        assert found(recent().only(Group.TENANT, db.new_id())) == set()
        with pytest.raises(errors.BadInput) as refused:
            found(recent().only(Group.PURPOSE, "title"))
    assert refused.value.param == "purpose"


def test_metadata_of_the_dear_is_of_those_that_cost_more() -> None:
    who, model = make_place(role="admin").who, make_model()
    dear, at_the_line = db.new_id(), db.new_id()
    for conversation_id, usd in ((dear, "0.2"), (dear, "0.1"), (at_the_line, "0.25")):
        use(who, model, usd, conversation_id=conversation_id)
    with db.transaction(who) as session:
        rows = conversations.metadata(session, who, recent(), above_nusd=250_000_000).rows
    assert [(row.conversation_id, row.billed_nusd) for row in rows] == [(dear, 300_000_000)]


@pytest.mark.parametrize("role", [Role.MEMBER, Role.FINANCE])
def test_metadata_is_for_admins(role: Role) -> None:
    who = make_place(role=role).who
    with db.transaction(who) as session, pytest.raises(errors.Forbidden):
        conversations.metadata(session, who, recent())


def test_pages_of_metadata_neither_repeat_nor_skip() -> None:
    who, model = make_place(role="admin").who, make_model()
    moment = datetime.now(UTC) - timedelta(hours=1)
    for _ in range(5):
        use(who, model, "0.001", conversation_id=db.new_id(), at=moment)
    seen: list[Metadata] = []
    after = None
    while True:
        with db.transaction(who) as session:
            page = conversations.metadata(session, who, recent(), after=after, limit=2)
        seen += page.rows
        if page.next is None:
            break
        after = Place.read(page.next.text())
    assert len({row.conversation_id for row in seen}) == len(seen) == 5


@pytest.mark.parametrize(
    "forged", ["", "x", cursors.pack(1, "no id"), cursors.pack("1", "1"), cursors.pack(2**62, "a")]
)
def test_a_forged_place_is_refused(forged: str) -> None:
    with pytest.raises(errors.BadInput):
        Place.read(forged)
