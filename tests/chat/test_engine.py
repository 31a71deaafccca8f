"""The engine's own threads: who is stuck holds up nobody else, and long answers stay cheap to save."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from core import db, errors
from core.catalog.answers import Delta
from core.chat import endings, engine, turns
from core.chat.engine import Engine
from core.chat.runs import Saved
from core.chat.tables import Message
from core.chat.turns import Live
from core.db import Database
from core.metering.tables import Call
from tests.chat.conftest import EngineThread
from tests.factories import TESTS, Place, make_model, make_place
from tests.upstream import Upstream

OFFERED = frozenset({"openrouter"})


def start(place: Place, model: str) -> Live:
    return turns.start(place.who, "Hello?", model_id=model, offered=OFFERED)


def call_of(live: Live) -> Call:
    with db.transaction(TESTS) as session:
        return session.get_one(Call, live.call_id)


def saved_text(place: Place, live: Live) -> str:
    with db.transaction(TESTS) as session:
        row = session.get_one(Message, (place.tenant_id, live.conversation_id, live.answer_id))
        return row.content


def wait_settled(live: Live, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while call_of(live).state == "open":
        assert time.monotonic() < deadline, "it was never settled"
        time.sleep(0.05)


@contextmanager
def locked(statement: str, **arguments: object) -> Iterator[None]:
    """Rows locked by somebody else for as long as the block lasts."""
    with db.transaction(TESTS) as session:
        session.execute(text(statement), arguments)
        yield


def lock_account(place: Place) -> Any:
    return locked("select 1 from app.accounts where tenant_id = :t for update", t=place.tenant_id)


def test_a_locked_account_holds_up_its_own_tenant_alone(
    engine_thread: EngineThread, upstream: Upstream
) -> None:
    stuck, other, model = make_place(), make_place(), make_model()
    upstream.play("01_normal_usage_cost.txt", gap_s=0.2, fresh_ids=True)
    running = start(other, model)
    with ThreadPoolExecutor(40) as pool, lock_account(stuck):
        refused = [pool.submit(_told, stuck, model) for _ in range(40)]
        time.sleep(0.3)
        waits = [_timed(other, model) for _ in range(3)]
        lease = call_of(running).lease_until
        time.sleep(1.2)
        assert call_of(running).lease_until > lease, "the heartbeat waited in line"
        assert {future.result() for future in refused} == {"busy"}
    assert max(waits) < 1, waits
    wait_settled(running)
    assert call_of(running).outcome == "ok"


def _told(place: Place, model: str) -> str:
    try:
        start(place, model)
    except errors.Refusal as refusal:
        return refusal.code
    return "answered"


def _timed(place: Place, model: str) -> float:
    began = time.monotonic()
    start(place, model)
    return time.monotonic() - began


def test_settlements_that_wait_for_a_lock_keep_no_other_call_from_ending(
    engine_thread: EngineThread, upstream: Upstream
) -> None:
    stuck, other, model = make_place(), make_place(), make_model()
    upstream.play("01_normal_usage_cost.txt", gap_s=0.05, fresh_ids=True)
    waiting = [start(stuck, model) for _ in range(6)]
    with lock_account(stuck):
        time.sleep(1)
        began = time.monotonic()
        live = start(other, model)
        wait_settled(live)
        assert time.monotonic() - began < 4
        assert any(call_of(one).state == "open" for one in waiting)
    for one in waiting:
        wait_settled(one)
        assert call_of(one).outcome == "ok"


def test_an_answer_whose_heartbeats_meet_a_lock_goes_on_and_ends_whole(
    engine_thread: EngineThread, upstream: Upstream
) -> None:
    place, model = make_place(), make_model()
    upstream.play("01_normal_usage_cost.txt", gap_s=0.15, fresh_ids=True)
    live = start(place, model)
    with locked("select 1 from app.calls where call_id = :c for update", c=live.call_id):
        time.sleep(1.5)
    wait_settled(live)
    assert call_of(live).outcome == "ok"
    assert saved_text(place, live) == "".join(turns.follow(place.who, live))


def test_each_character_is_sent_to_the_database_once_while_the_answer_grows(
    engine_thread: EngineThread, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, model = make_place(), make_model()
    upstream.play("01_normal_usage_cost.txt", gap_s=0.15, fresh_ids=True)
    pieces: list[str] = []
    call_again = Database.call_again

    def recording(self: Database, statement: str, arguments: Any, **named: Any) -> Any:
        if "beat_turn" in statement:
            pieces.append(arguments[9])
        return call_again(self, statement, arguments, **named)

    monkeypatch.setattr(Database, "call_again", recording)
    live = start(place, model)
    seen = []
    while call_of(live).state == "open":
        seen.append(saved_text(place, live))
        time.sleep(0.1)
    whole = saved_text(place, live)
    assert len(pieces) > 1
    assert whole.startswith("".join(pieces))
    assert all(whole.startswith(one) for one in seen)
    assert any(0 < len(one) < len(whole) for one in seen)


def test_a_piece_that_is_saved_twice_stands_once(
    engine_thread: EngineThread, upstream: Upstream
) -> None:
    place, model = make_place(), make_model()
    upstream.play_until("01_normal_usage_cost.txt", 4, "silence", fresh_ids=True)
    live = start(place, model)
    run = _run_of(live.call_id)
    while not run.answer.deltas:
        time.sleep(0.02)
    time.sleep(0.7)  # its own heartbeat has nothing more to save from here on
    run.answer.deltas.append(Delta("ä €😀 end", "thought"))
    before: Saved = run.saved
    endings.save_so_far(run, with_text=True)
    run.saved = before  # the connection was lost, and nobody heard of the commit
    endings.save_so_far(run, with_text=True)
    assert saved_text(place, live) == run.answer.text
    assert run.saved.text_length == len(run.answer.text)
    turns.stop(place.who, live)
    wait_settled(live)
    assert saved_text(place, live).endswith("ä €😀 end")


def _run_of(call_id: UUID) -> Any:
    deadline = time.monotonic() + 5
    while (run := engine.running(call_id)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return run


@pytest.mark.parametrize(
    ("length", "pause_s"), [(0, 0.5), (32_768, 0.5), (131_072, 2.0), (10_000_000, 5.0)]
)
def test_the_longer_a_text_the_rarer_it_is_saved(length: int, pause_s: float) -> None:
    assert engine._save_pause_s(length) == pytest.approx(pause_s)


def test_pages_admit_through_the_engine_from_any_thread(engine_thread: EngineThread) -> None:
    running: Engine = engine_thread.engine
    names = []
    threads = [
        threading.Thread(
            target=lambda: names.append(
                running.admit_from_thread("t", lambda: threading.current_thread().name)
            )
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(names) == 4
    assert all(name.startswith("purser-engine") for name in names)


def test_the_lease_is_renewed_while_no_text_comes(
    engine_thread: EngineThread, upstream: Upstream
) -> None:
    place, model = make_place(), make_model()
    upstream.play_until("01_normal_usage_cost.txt", 4, "silence", fresh_ids=True)
    live = start(place, model)
    first: datetime = call_of(live).lease_until
    time.sleep(1.3)
    assert call_of(live).lease_until > first
    turns.stop(place.who, live)
    wait_settled(live)
