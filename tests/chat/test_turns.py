"""Turns on the real database with a scripted provider: every transcript and every way to end."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, text

from core import db, errors
from core.catalog.tables import Provider
from core.chat import conversations, engine, recover, turns
from core.chat.tables import Message, Turn
from core.chat.turns import Live
from core.db import new_id
from core.metering import calls
from core.metering.tables import Call, Lookup, UsageEvent
from core.settings import Settings
from tests.chat.conftest import EngineThread
from tests.factories import TESTS, Place, make_model, make_place
from tests.upstream import Upstream

OFFERED = frozenset({"openrouter"})
EXPECTED: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "fixtures" / "sse" / "expected.json").read_text()
)
ANSWERS = sorted(
    name for name, entry in EXPECTED.items() if entry.get("kind") is None and name[:2] != "14"
)


def start(place: Place, model: str, question: str = "Hello?", **named: Any) -> Live:
    return turns.start(place.who, question, model_id=model, offered=OFFERED, **named)


def wait_settled(call_id: UUID, seconds: float = 10) -> Call:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with db.transaction(TESTS) as session:
            call = session.get_one(Call, call_id)
        if call.state == "settled" and engine.running(call_id) is None:
            return call
        time.sleep(0.02)
    raise AssertionError("the call was not settled")


def events_of(call_id: UUID) -> list[UsageEvent]:
    with db.transaction(TESTS) as session:
        order = (
            select(UsageEvent).where(UsageEvent.call_id == call_id).order_by(UsageEvent.event_id)
        )
        return list(session.scalars(order))


def answer_of(place: Place, live: Live) -> Message:
    with db.transaction(TESTS) as session:
        return session.get_one(Message, (place.tenant_id, live.conversation_id, live.answer_id))


def is_final(place: Place, call_id: UUID) -> bool:
    with db.transaction(TESTS) as session:
        return session.get(Lookup, (place.tenant_id, call_id)) is None


def charged_nusd(call_id: UUID) -> int:
    with db.transaction(TESTS) as session:
        return session.execute(
            text(
                "select coalesce(-sum(amount_nusd), 0)::bigint from app.entries where call_id = :c"
            ),
            {"c": call_id},
        ).scalar_one()


@pytest.mark.parametrize("name", ANSWERS)
def test_every_transcript_comes_out_as_expected(
    name: str, engine_thread: EngineThread, upstream: Upstream
) -> None:
    expected, place, model = EXPECTED[name], make_place(), make_model()
    upstream.play(name, fresh_ids=True)
    live = start(place, model)
    wait_settled(live.call_id)
    event, answer = events_of(live.call_id)[0], answer_of(place, live)
    assert event.outcome == expected["outcome"]
    assert answer.status == expected["message_status"]
    assert event.cost_source == expected["cost_source"]
    assert is_final(place, live.call_id) is expected["final"]
    for field in ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens"):
        if field in expected:
            assert getattr(event, field) == expected[field], field
    if expected["charged_usd"] == "from the text received":
        assert 0 < event.billed_nusd < 1_000_000
    else:
        exact_nusd = Decimal(expected["charged_usd"]) * 1_000_000_000
        assert 0 <= event.billed_nusd - exact_nusd <= 1
    assert charged_nusd(live.call_id) == event.billed_nusd


def test_the_followers_get_every_character_once_from_the_start(
    engine_thread: EngineThread, upstream: Upstream
) -> None:
    place, model = make_place(), make_model()
    upstream.play("01_normal_usage_cost.txt", gap_s=0.03, fresh_ids=True)
    live = start(place, model)
    with ThreadPoolExecutor(4) as pool:
        texts = list(
            pool.map(lambda _: "".join(turns.follow(place.who, live, gap_s=0.01)), range(4))
        )
    wait_settled(live.call_id)
    assert set(texts) == {answer_of(place, live).content}
    assert "".join(turns.follow(place.who, live)) == texts[0]  # by the row, once it has ended


def test_a_follower_of_another_tenant_gets_nothing(
    engine_thread: EngineThread, upstream: Upstream
) -> None:
    place, other, model = make_place(), make_place(), make_model()
    upstream.play("01_normal_usage_cost.txt", gap_s=0.02, fresh_ids=True)
    live = start(place, model)
    assert "".join(turns.follow(other.who, live)) == ""
    turns.stop(other.who, live)
    wait_settled(live.call_id)
    assert answer_of(place, live).status == "complete"


def test_stop_takes_effect_at_once_while_the_provider_is_silent(
    engine_thread: EngineThread, upstream: Upstream
) -> None:
    place, model = make_place(), make_model()
    upstream.play_until("01_normal_usage_cost.txt", 3, "silence", fresh_ids=True)
    took_s = []
    for _ in range(3):  # the best of three: the machine may be busy with other tests
        live = start(place, model)
        while not answer_text_of(live):
            time.sleep(0.01)
        began = time.monotonic()
        turns.stop(place.who, live)
        wait_settled(live.call_id)
        took_s.append(time.monotonic() - began)
        answer = answer_of(place, live)
        assert answer.status == "stopped"
        assert answer.content
        assert events_of(live.call_id)[0].cost_source == "estimate"
    assert min(took_s) < 0.3


def answer_text_of(live: Live) -> str:
    run = engine.running(live.call_id)
    return run.answer.text if run else ""


def test_a_stop_asked_for_elsewhere_is_obeyed_with_the_next_heartbeat(
    engine_thread: EngineThread, upstream: Upstream
) -> None:
    place, model = make_place(), make_model()
    upstream.play_until("01_normal_usage_cost.txt", 3, "silence")
    live = start(place, model)
    began = time.monotonic()
    calls.ask_stop(place.tenant_id, place.user_id, live.call_id)
    wait_settled(live.call_id)
    assert time.monotonic() - began < 3  # a heartbeat is half a second; the machine may be busy
    assert answer_of(place, live).status == "stopped"


def test_the_same_question_sent_by_racers_is_one_turn(
    engine_thread: EngineThread, upstream: Upstream
) -> None:
    place, model, question = make_place(), make_model(), new_id()
    upstream.play("01_normal_usage_cost.txt", gap_s=0.05, fresh_ids=True)
    first = start(place, model)
    wait_settled(first.call_id)

    def send(_number: int) -> UUID:
        return start(
            place, model, "Again", conversation_id=first.conversation_id, question_id=question
        ).turn_id

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(send, range(6)))) == 1
    assert len(upstream.chats) == 2


def test_a_second_question_while_an_answer_is_written_is_refused(
    engine_thread: EngineThread, upstream: Upstream
) -> None:
    place, model = make_place(), make_model()
    upstream.play("01_normal_usage_cost.txt", gap_s=0.1, fresh_ids=True)
    live = start(place, model)
    with pytest.raises(errors.Conflict):
        start(place, model, "And?", conversation_id=live.conversation_id)
    wait_settled(live.call_id)


def test_a_refused_question_stores_nothing(engine_thread: EngineThread) -> None:
    place, model = make_place(credit_usd=0), make_model()
    with pytest.raises(errors.InsufficientCredit):
        start(place, model)
    with db.transaction(place.who) as session:
        assert conversations.listing(session, place.who) == []


def test_regenerating_makes_a_sibling_and_both_can_be_shown(
    engine_thread: EngineThread, upstream: Upstream
) -> None:
    place, model = make_place(), make_model()
    upstream.play("01_normal_usage_cost.txt", fresh_ids=True)
    live = start(place, model)
    wait_settled(live.call_id)
    again = turns.regenerate(
        place.who, live.conversation_id, live.answer_id, model_id=model, offered=OFFERED
    )
    wait_settled(again.call_id)
    with db.transaction(place.who) as session:
        shown = conversations.branch(session, place.who, live.conversation_id)
        assert [m.message_id for m in shown][1:] == [again.answer_id]
        assert set(shown[1].siblings) == {live.answer_id, again.answer_id}
        conversations.show_branch(session, place.who, live.conversation_id, live.answer_id)
    with db.transaction(place.who) as session:
        shown = conversations.branch(session, place.who, live.conversation_id)
        assert shown[1].message_id == live.answer_id
        assert shown[1].billed_nusd == 714_400


def test_a_deleted_conversation_is_gone_its_cost_is_not(
    engine_thread: EngineThread, upstream: Upstream
) -> None:
    place, model = make_place(), make_model()
    upstream.play_until("01_normal_usage_cost.txt", 4, "silence")
    live = start(place, model)
    time.sleep(0.2)
    turns.delete_conversation(place.who, live.conversation_id)
    wait_settled(live.call_id)
    with db.transaction(TESTS) as session:
        left = session.scalars(
            select(Message).where(Message.conversation_id == live.conversation_id)
        ).all()
        turn = session.get_one(Turn, (place.tenant_id, live.turn_id))
    assert (left, turn.status) == ([], "stopped")
    with pytest.raises(errors.NotFound), db.transaction(place.who) as session:
        conversations.branch(session, place.who, live.conversation_id)


def test_somebody_elses_conversation_is_missing(
    engine_thread: EngineThread, upstream: Upstream
) -> None:
    place, other, model = make_place(), make_place(), make_model()
    upstream.play("01_normal_usage_cost.txt", fresh_ids=True)
    live = start(place, model)
    wait_settled(live.call_id)
    for conversation_id in (live.conversation_id, new_id()):
        with pytest.raises(errors.NotFound, match="no such conversation"):
            start(other, model, "Hi", conversation_id=conversation_id)
    with pytest.raises(errors.NotFound), db.transaction(other.who) as session:
        conversations.rename(session, other.who, live.conversation_id, "Mine")


@pytest.mark.parametrize("question", ["", "  \n", "\x00", "x" * 100_001])
def test_a_question_that_is_none_is_refused(question: str, engine_thread: EngineThread) -> None:
    place, model = make_place(), make_model()
    with pytest.raises(errors.BadInput):
        start(place, model, question)


def test_history_that_does_not_fit_is_left_out_and_said(
    engine_thread: EngineThread, upstream: Upstream
) -> None:
    place, model = make_place(credit_usd=1000), make_model()
    upstream.play("01_normal_usage_cost.txt", fresh_ids=True)
    live = start(place, model, "a" * 90_000)
    wait_settled(live.call_id)
    for _ in range(4):
        live = start(place, model, "a" * 90_000, conversation_id=live.conversation_id)
        wait_settled(live.call_id)
    assert answer_of(place, live).left_out >= 4
    assert len(upstream.chats[-1].json["messages"]) < 9


def test_the_provider_never_learns_who_asks(
    engine_thread: EngineThread, upstream: Upstream
) -> None:
    place, model = make_place(), make_model()
    upstream.play("01_normal_usage_cost.txt", fresh_ids=True)
    wait_settled(start(place, model).call_id)
    sent = upstream.chats[-1]
    wire = sent.body.decode() + json.dumps(sent.headers)
    assert place.who.email not in wire
    assert str(place.user_id) not in wire
    assert str(place.tenant_id) not in wire
    assert sent.json["max_tokens"] == 4_096


def lose(live: Live) -> None:
    """The call's process died some time ago: nobody renews the lease."""
    with db.transaction(TESTS) as session:
        session.execute(
            text("update app.calls set lease_until = now() - interval '1 s' where call_id = :c"),
            {"c": live.call_id},
        )


def openrouter(upstream: Upstream) -> Settings:
    return Settings(app_env="development", openrouter_api_key="k", openrouter_base_url=upstream.url)


def test_the_reaper_settles_a_lost_call_by_the_text_saved_and_the_truth_comes_later(
    engine_thread: EngineThread, upstream: Upstream
) -> None:
    place, model = make_place(), make_model()
    upstream.play_until("01_normal_usage_cost.txt", 5, "silence", fresh_ids=True)
    live = start(place, model)
    time.sleep(1.2)  # at least one heartbeat saved the text
    upstream.play_lookup("44_generation_404_not_ready.txt")
    lose(live)
    assert recover.reap(openrouter(upstream)) >= 1
    wait_settled(live.call_id)
    answer = answer_of(place, live)
    assert answer.status == "interrupted"
    assert answer.content
    assert [event.cost_source for event in events_of(live.call_id)] == ["estimate"]
    assert is_final(place, live.call_id) is False
    upstream.play_lookup("43_generation_lookup.txt")
    assert recover.reconcile(openrouter(upstream), ignore_backoff=True) >= 1
    assert is_final(place, live.call_id)
    assert charged_nusd(live.call_id) == 714_400


def test_an_estimate_becomes_the_truth_by_an_adjustment(
    engine_thread: EngineThread, upstream: Upstream
) -> None:
    place, model = make_place(), make_model()
    upstream.play("07_abrupt_end_no_usage_no_done.txt", fresh_ids=True)
    live = start(place, model)
    wait_settled(live.call_id)
    estimated = charged_nusd(live.call_id)
    upstream.play_lookup("43_generation_lookup.txt")
    recover.reconcile(openrouter(upstream), ignore_backoff=True)
    events = events_of(live.call_id)
    assert [event.kind for event in events] == ["call", "adjustment"]
    assert estimated != charged_nusd(live.call_id) == 714_400
    assert sum(event.billed_nusd for event in events) == 714_400


def held_beyond_what_is_kept(place: Place) -> int:
    """What is held for other reasons than a cost that is not final."""
    with db.transaction(TESTS) as session:
        return session.execute(
            text(
                "select (held_nusd - coalesce((select sum(kept_nusd) from app.lookups l"
                " where l.tenant_id = a.tenant_id), 0))::bigint from app.accounts a"
                " where tenant_id = :t"
            ),
            {"t": place.tenant_id},
        ).scalar_one()


def test_draining_cuts_what_does_not_end_and_leaves_no_hold(
    database: db.Database, upstream: Upstream
) -> None:
    thread = EngineThread(upstream.url)
    place, model = make_place(), make_model()
    upstream.play_until("01_normal_usage_cost.txt", 4, "silence", fresh_ids=True)
    live = start(place, model)
    time.sleep(0.3)
    thread.run(thread.engine.drain, 0.3)
    with pytest.raises(errors.Unavailable):
        start(place, model)
    engine.install(None)
    assert answer_of(place, live).status == "interrupted"
    assert held_beyond_what_is_kept(place) == 0


@pytest.mark.parametrize(
    ("deadline", "pieces", "ending", "status"),
    [
        ("first_token_ms", 0, "silence", "error"),
        ("first_token_ms", 0, "comments", "error"),
        ("idle_ms", 4, "silence", "interrupted"),
        ("idle_ms", 4, "comments", "interrupted"),
        ("total_ms", 4, "silence", "interrupted"),
    ],
)
def test_each_deadline_ends_the_call_once_and_leaves_no_hold(
    deadline: str,
    pieces: int,
    ending: Any,
    status: str,
    engine_thread: EngineThread,
    upstream: Upstream,
) -> None:
    place, provider = make_place(), f"slow{new_id().hex[-8:]}"
    with db.transaction(TESTS) as session:
        row = Provider(provider=provider, title="S", sends_cost=True, keeps_generations=True)
        setattr(row, deadline, 300)
        session.add(row)
    engine_thread.engine.providers[provider] = engine_thread.engine.providers["openrouter"]
    upstream.play_until("01_normal_usage_cost.txt", pieces, ending, fresh_ids=True)
    live = turns.start(
        place.who,
        "Hello?",
        model_id=make_model(provider=provider),
        offered=frozenset({provider}),
    )
    call = wait_settled(live.call_id)
    assert call.outcome == "timeout"
    assert answer_of(place, live).status == status
    assert len(events_of(live.call_id)) == 1
    assert held_beyond_what_is_kept(place) == 0
