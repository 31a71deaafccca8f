"""What is put on the meter: from where the last export ended, and only what was used while postpaid."""

from __future__ import annotations

import random
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, event, text

from core import db
from core.billing import accounts
from core.billing.ledger import BILLING
from core.quota import gate, standing
from core.quota.gate import Ask, OpenCall
from tests.billing.plans import a_customer
from tests.billing.purchases import offences, spend
from tests.billing.test_meters import HOUR, a_user_on_account, collect, rows, soon
from tests.factories import TESTS, Place, make_model
from tests.quota.test_gate import close, cost

pytestmark = pytest.mark.usefixtures("database")


def switch(place: Place, mode: str, **more: Any) -> None:
    with db.transaction(TESTS) as session:
        accounts.switch_mode(session, TESTS, place.tenant_id, mode, **more)


def used_nusd(place: Place) -> int:
    """All that was ever used and not covered, summed anew from the ledger's first entry."""
    with db.transaction(BILLING) as session:
        return session.execute(
            text(
                "select coalesce(sum(d.amount_nusd), 0)::bigint from app.dues d join app.entries e"
                " using (tenant_id, seq) where tenant_id = :t and e.kind in ('capture', 'adjust')"
            ),
            {"t": place.tenant_id},
        ).scalar_one()


def a_guess(place: Place, nusd: int) -> OpenCall:
    """A call that was charged an estimate."""
    asked = Ask("api", "test", prompt_tokens_guess=10, max_tokens=100)
    call = gate.open_call(standing.of_member(place.who, make_model()), asked)
    guess = cost(f"{nusd}E-9", "estimate", needs_lookup=True)
    close(call, guess, generation_id=f"gen-{call.call_id}")
    return call


def correct(call: OpenCall, nusd: int) -> None:
    truth = cost(f"{nusd}E-9")
    gate.correct(gate.settlement(call, truth, outcome="ok", gave_output=True, latency_ms=0))


@pytest.mark.parametrize("seed", range(6))
def test_counting_on_from_the_last_export_gives_what_the_full_sum_gives(seed: int) -> None:
    place, dice, guesses = a_user_on_account(), random.Random(seed), []
    sent = highest = 0
    for _ in range(25):
        step = dice.choice(["spend", "guess", "correct", "collect", "collect"])
        if step == "spend":
            spend(place, f"{dice.randint(1, 4_000)}E-9")
        elif step == "guess":
            guesses.append(a_guess(place, dice.randint(1, 9_000)))
        elif step == "correct" and guesses:
            correct(guesses.pop(dice.randrange(len(guesses))), dice.randint(0, 12_000))
        elif step == "collect":
            sent += collect(place)
            highest = max(highest, used_nusd(place) // 1000)
            assert sent == highest  # what was sent is never taken back; later use makes up for it
    assert sum(row.units for row in rows(place)) == sent
    assert offences(place.tenant_id) == []


def test_an_hour_reads_what_came_after_the_last_export_only() -> None:
    place = a_user_on_account()
    for _ in range(3):
        spend(place, "0.0000015")
    assert collect(place) == 4
    (first,) = rows(place)
    assert first.rest_nusd == 500
    spend(place, "0.0000015")
    asked: list[Any] = []

    def note(_connection: object, _cursor: object, sql: str, given: Any, *_: object) -> None:
        if "app.meter_spans" in sql:
            asked.append(given)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        assert collect(place) == 2
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert [given["counted"] for given in asked] == [first.through_seq]


def test_use_between_the_switch_and_the_subscription_is_metered() -> None:
    place = a_customer()
    switch(place, "postpaid", credit_limit_nusd=10**10)
    spend(place, "0.001")
    assert collect(place) == 1000


def test_what_was_used_before_or_after_postpaid_is_not_metered() -> None:
    place = a_customer(mode="internal")
    spend(place, "0.001")
    switch(place, "postpaid", credit_limit_nusd=10**10)
    spend(place, "0.002")
    switch(place, "internal", write_off=True)
    spend(place, "0.004")
    assert collect(place) == 2000
    switch(place, "postpaid", credit_limit_nusd=10**10)
    spend(place, "0.008")
    assert collect(place) == 8000
    assert offences(place.tenant_id) == []


def test_another_limit_neither_begins_nor_ends_what_is_metered() -> None:
    place = a_customer(mode="postpaid")
    spend(place, "0.001")
    with db.transaction(TESTS) as session:
        accounts.set_credit_limit(session, TESTS, place.tenant_id, 10**11)
    spend(place, "0.001")
    assert collect(place) == 2000
    assert offences(place.tenant_id) == []


def test_what_is_numbered_after_use_of_the_hour_that_runs_waits_with_it(database_url: str) -> None:
    place = a_user_on_account()
    for _ in range(3):
        spend(place, "0.001")
    with psycopg.connect(database_url) as connection:  # the second began later and ended earlier
        connection.execute("set session_replication_role = replica")
        connection.execute(
            "update app.entries set occurred_at = %s where tenant_id = %s and seq = 2",
            (soon(), place.tenant_id),
        )
    assert collect(place, soon()) == 1000
    assert rows(place)[0].through_seq == 1
    assert collect(place, soon() + HOUR) == 2000
    assert "meter_counted" not in offences(place.tenant_id)
