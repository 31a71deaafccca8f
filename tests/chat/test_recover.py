"""Recovery when others are silent or in the way: every lost call is settled, counted by what was booked."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
from sqlalchemy import select, text

from core import db
from core.chat import recover
from core.metering import calls
from core.metering.tables import Call, Lookup
from core.quota import gate, standing
from core.quota.gate import Ask, OpenCall
from core.settings import Settings
from tests.factories import TESTS, Place, make_model, make_place

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def silent() -> Iterator[Settings]:
    """A provider that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=200) as listening:
        port = listening.getsockname()[1]
        yield Settings(
            app_env="development", openrouter_api_key="k",
            openrouter_base_url=f"http://127.0.0.1:{port}/v1",
        )  # fmt: skip


def lost_call(place: Place, model: str, number: int, *, generation: bool = True) -> OpenCall:
    """A call with some text whose process died."""
    call = gate.open_call(
        standing.of_member(place.who, model), Ask("api", "test", 100, max_tokens=500)
    )
    calls.beat(
        call.tenant_id, call.call_id, call.lease_token, delivered_tokens=20,
        generation_id=f"gen-{call.call_id.hex}-{number}" if generation else None,
    )  # fmt: skip
    with db.transaction(TESTS) as session:
        session.execute(
            text("update app.calls set lease_until = now() - interval '1 h' where call_id = :c"),
            {"c": call.call_id},
        )
    return call


def states_of(place: Place) -> list[str]:
    with db.transaction(TESTS) as session:
        return list(session.scalars(select(Call.state).where(Call.tenant_id == place.tenant_id)))


def waiting_of(place: Place) -> int:
    with db.transaction(TESTS) as session:
        return len(session.scalars(select(Lookup).where(Lookup.tenant_id == place.tenant_id)).all())


def test_a_silent_provider_keeps_no_call_from_being_settled(silent: Settings) -> None:
    place, other = make_place(), make_place()
    mine, elsewhere = make_model(), make_model(provider="demo")
    for number in range(22):
        lost_call(place, mine, number)
    lost_call(other, elsewhere, 0, generation=False)
    began = time.monotonic()
    assert recover.reap(silent) >= 23
    assert time.monotonic() - began < 15
    assert states_of(place) == ["settled"] * 22
    assert states_of(other) == ["settled"]
    assert waiting_of(place) == 22, "each an estimate, to be looked up"
    with db.transaction(TESTS) as session:
        events = session.execute(
            text("select cost_source, count(*) from app.usage_events where tenant_id = :t group by 1"),
            {"t": place.tenant_id},
        ).all()  # fmt: skip
    assert [tuple(row) for row in events] == [("estimate", 22)]


def test_a_tenant_whose_rows_are_held_keeps_no_other_waiting(silent: Settings) -> None:
    held, other, model = make_place(), make_place(), make_model(provider="demo")
    for number in range(30):
        lost_call(held, model, number, generation=False)
    lost_call(other, model, 0, generation=False)
    lock = text("select from app.accounts where tenant_id = :t for update")
    with db.transaction(TESTS) as session, db.use_lane(db.Lane.MONEY):
        session.execute(lock, {"t": held.tenant_id})
        began = time.monotonic()
        recover.reap(silent)
        assert time.monotonic() - began < 8, "one wait for a lock, not thirty"
        assert states_of(other) == ["settled"]
        assert "settled" not in states_of(held)
    with db.transaction(TESTS) as session:
        session.execute(
            text("update app.calls set lease_until = now() - interval '1 s' where state = 'open'")
        )
    while recover.reap(silent):
        pass
    assert states_of(held) == ["settled"] * 30


def test_only_what_was_booked_counts_as_settled(
    silent: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, model = make_place(), make_model(provider="demo")
    call = lost_call(place, model, 0, generation=False)
    take = gate.take_over

    def and_be_overtaken(*ids: object) -> gate.TakenOver | None:
        taken = take(*ids)  # type: ignore[arg-type]
        with db.transaction(TESTS) as session:
            session.execute(
                text("update app.calls set lease_token = gen_random_uuid() where call_id = :c"),
                {"c": call.call_id},
            )
        return taken

    while recover.reap(silent):
        pass
    call = lost_call(place, model, 1, generation=False)
    monkeypatch.setattr(gate, "take_over", and_be_overtaken)
    assert recover.reap(silent) == 0
    assert sorted(states_of(place)) == ["open", "settled"]
