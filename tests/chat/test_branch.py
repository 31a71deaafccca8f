"""A conversation's shown branch: what is read of it, and what of the others is not."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from sqlalchemy import event, insert, text, update

from core import db, errors
from core.chat import conversations
from core.chat.tables import Conversation, Message
from core.db import Database, new_id
from tests.factories import TESTS, Place, make_place


def plant(place: Place, depth: int, branches: int = 1) -> tuple[UUID, list[UUID]]:
    """A conversation of `depth` messages, the last of them in `branches` versions; the path's ids."""
    conversation_id, ids = new_id(), [new_id() for _ in range(depth + branches - 1)]
    rows = [
        {
            "tenant_id": place.tenant_id, "conversation_id": conversation_id, "message_id": one,
            "parent_id": ids[min(number, depth - 1) - 1] if number else None,
            "role": "assistant" if min(number, depth - 1) % 2 else "user",
            "content": f"text {number}", "status": "complete",
        }
        for number, one in enumerate(ids)
    ]  # fmt: skip
    with db.transaction(TESTS) as session:
        session.add(
            Conversation(
                tenant_id=place.tenant_id, conversation_id=conversation_id,
                user_id=place.user_id, title="t", model_id="m", updated_at=datetime.now(UTC),
            )
        )  # fmt: skip
        session.flush()
        session.execute(insert(Message), rows)
        session.execute(
            update(Conversation)
            .where(Conversation.conversation_id == conversation_id)
            .values(leaf_id=ids[-1])
        )
    return conversation_id, ids


def test_the_shown_branch_is_read_in_order_with_its_siblings(database: Database) -> None:
    place = make_place()
    conversation_id, ids = plant(place, depth=4, branches=3)
    with db.transaction(place.who) as session:
        shown = conversations.branch(session, place.who, conversation_id)
    assert [one.message_id for one in shown] == [*ids[:3], ids[-1]]
    assert shown[-1].siblings == tuple(ids[3:])
    assert [one.siblings for one in shown[:3]] == [(one,) for one in ids[:3]]


def test_the_texts_of_other_branches_are_not_read(database: Database) -> None:
    place = make_place()
    conversation_id, _ = plant(place, depth=4, branches=500)
    loaded: list[object] = []
    event.listen(Message, "load", lambda target, _context: loaded.append(target))
    with db.transaction(place.who) as session:
        assert len(conversations.branch(session, place.who, conversation_id)) == 4
    assert len(loaded) == 4


def test_of_an_endless_conversation_the_newest_part_is_read(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversations, "PATH_MAX", 10)
    place = make_place()
    conversation_id, ids = plant(place, depth=30)
    with db.transaction(place.who) as session:
        shown = conversations.branch(session, place.who, conversation_id)
    assert [one.message_id for one in shown] == ids[-10:]


def test_showing_another_branch_follows_it_to_its_newest_end(database: Database) -> None:
    place = make_place()
    conversation_id, ids = plant(place, depth=4, branches=2)
    with db.transaction(place.who) as session:
        conversations.show_branch(session, place.who, conversation_id, ids[3])
        assert conversations.branch(session, place.who, conversation_id)[-1].message_id == ids[3]
        conversations.show_branch(session, place.who, conversation_id, ids[0])
        assert conversations.branch(session, place.who, conversation_id)[-1].message_id == ids[-1]
        with pytest.raises(errors.NotFound):
            conversations.show_branch(session, place.who, conversation_id, new_id())


def test_a_conversation_without_messages_is_empty(database: Database) -> None:
    place = make_place()
    conversation_id, _ = plant(place, depth=1)
    with db.transaction(TESTS) as session:
        session.execute(
            text("update app.conversations set leaf_id = null where conversation_id = :c"),
            {"c": conversation_id},
        )
    with db.transaction(place.who) as session:
        assert conversations.branch(session, place.who, conversation_id) == []
