"""Answers whose cost nobody knows yet, through engine, upstream and reconciliation: they stop where the
money stops, and what was reserved comes back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import func, update

from core import db, errors
from core.chat import engine, recover, turns
from core.chat.turns import Live
from core.metering.tables import Lookup
from tests.billing.wallets import assert_sound, figures
from tests.chat.conftest import EngineThread
from tests.chat.test_turns import (
    charged_nusd,
    events_of,
    is_final,
    lose,
    openrouter,
    start,
    wait_settled,
)
from tests.factories import TESTS, Place, make_model, make_place
from tests.upstream import Upstream


def fail_in_mid_stream(upstream: Upstream) -> None:
    upstream.play("05_midstream_error.txt", fresh_ids=True)


def fail_at_once(upstream: Upstream) -> None:
    upstream.play("06_error_first_event_http200.txt", fresh_ids=True)


def end_quietly(upstream: Upstream) -> None:
    upstream.play("07_abrupt_end_no_usage_no_done.txt", fresh_ids=True)


def break_off(upstream: Upstream) -> None:
    upstream.play_until("01_normal_usage_cost.txt", 4, "reset", fresh_ids=True)


def fall_silent(upstream: Upstream) -> None:
    upstream.play_until("01_normal_usage_cost.txt", 0, "silence", fresh_ids=True)


def fall_silent_later(upstream: Upstream) -> None:
    upstream.play_until("01_normal_usage_cost.txt", 4, "silence", fresh_ids=True)


def just_wait(_live: Live, _place: Place) -> None:
    pass


def stop(live: Live, place: Place) -> None:
    wait_for_generation(live)
    turns.stop(place.who, live)


def abandon(live: Live, place: Place) -> None:
    """The process that runs it is gone, and the provider has no record yet."""
    wait_for_generation(live)
    time.sleep(0.7)  # a heartbeat saved its generation and its text
    lose(live)


def wait_for_generation(live: Live) -> None:
    for _ in range(500):
        run = engine.running(live.call_id)
        if run is not None and run.answer.generation_id is not None:
            return
        time.sleep(0.01)
    raise AssertionError("the provider named no generation")


# How the provider plays, and what is done to the running answer.
ENDINGS: dict[str, tuple[Callable[[Upstream], None], Callable[[Live, Place], None]]] = {
    "failed in mid-stream": (fail_in_mid_stream, just_wait),
    "failed as its first event": (fail_at_once, just_wait),
    "ended quietly": (end_quietly, just_wait),
    "connection broke": (break_off, just_wait),
    "stopped before the first token": (fall_silent, stop),
    "stopped": (fall_silent_later, stop),
    "its process died": (fall_silent_later, abandon),
}


def live_through(ending: str, place: Place, model: str, upstream: Upstream) -> Live:
    play, meanwhile = ENDINGS[ending]
    play(upstream)
    upstream.play_lookup("44_generation_404_not_ready.txt")
    live = start(place, model)
    meanwhile(live, place)
    if meanwhile is abandon:
        recover.reap(openrouter(upstream))
        turns.stop(place.who, live)
    wait_settled(live.call_id)
    return live


def held_nusd(place: Place) -> int:
    with db.transaction(TESTS) as session:
        return figures(session, place.tenant_id).held


def let_time_pass(live: Live, place: Place, hours: float) -> None:
    with db.transaction(TESTS) as session:
        session.execute(
            update(Lookup)
            .where(Lookup.tenant_id == place.tenant_id, Lookup.call_id == live.call_id)
            .values(opened_at=func.now() - timedelta(hours=hours))
        )


@pytest.mark.parametrize("ending", ENDINGS)
def test_twenty_in_a_row_stop_where_the_money_stops(
    ending: str, engine_thread: EngineThread, upstream: Upstream
) -> None:
    """The provider's record, 0.0007144 USD each, comes when all of them have ended."""
    place, model = make_place(credit_usd="0.002"), make_model()
    lives: list[Live] = []
    with contextlib.suppress(errors.InsufficientCredit):
        lives.extend(live_through(ending, place, model, upstream) for _ in range(20))
    assert 0 < len(lives) <= 3
    upstream.play_lookup("43_generation_lookup.txt")
    recover.reconcile(openrouter(upstream), ignore_backoff=True)
    assert all(is_final(place, live.call_id) for live in lives)
    assert sum(charged_nusd(live.call_id) for live in lives) == 714_400 * len(lives)
    assert held_nusd(place) == 0
    assert_sound(place.tenant_id)


@pytest.mark.parametrize(("hours", "is_given_up"), [(0.9, False), (1.1, True)])
@pytest.mark.parametrize("ending", ENDINGS)
def test_an_hour_without_a_record_makes_the_estimate_final(
    ending: str, hours: float, is_given_up: bool, engine_thread: EngineThread, upstream: Upstream
) -> None:
    place, model = make_place(), make_model()
    live = live_through(ending, place, model, upstream)
    charged = charged_nusd(live.call_id)
    assert held_nusd(place) > 0
    let_time_pass(live, place, hours)
    recover.reconcile(openrouter(upstream), ignore_backoff=True)
    assert is_final(place, live.call_id) is is_given_up
    assert (held_nusd(place) == 0) is is_given_up
    assert charged_nusd(live.call_id) == charged
    assert [event.kind for event in events_of(live.call_id)] == ["call"]


@pytest.mark.parametrize(("hours", "is_given_up"), [(23.9, False), (24.1, True)])
def test_a_provider_that_does_not_answer_gets_a_day(
    hours: float, is_given_up: bool, engine_thread: EngineThread, upstream: Upstream
) -> None:
    place, model = make_place(), make_model()
    live = live_through("ended quietly", place, model, upstream)
    let_time_pass(live, place, hours)
    upstream.refuse_connections()
    recover.reconcile(openrouter(upstream), ignore_backoff=True)
    assert is_final(place, live.call_id) is is_given_up
    assert (held_nusd(place) == 0) is is_given_up


def test_a_stopped_answer_is_not_free_even_before_its_first_token(
    engine_thread: EngineThread, upstream: Upstream
) -> None:
    place, model = make_place(), make_model()
    live = live_through("stopped before the first token", place, model, upstream)
    event = events_of(live.call_id)[0]
    assert event.billed_nusd == charged_nusd(live.call_id) > 0
    assert (event.cost_source, event.completion_tokens) == ("estimate", 0)
