"""The ledger under random work: after every step its invariants hold, whatever the order."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from core import db, errors
from core.billing import ledger
from core.db import new_id
from core.quota import gate, standing
from core.quota.gate import Ask, OpenCall
from tests.billing.wallets import assert_sound, unsound
from tests.factories import TESTS, Place, make_model, make_place
from tests.quota.test_gate import cost

pytestmark = pytest.mark.usefixtures("database")


class Work:
    """Random work on one wallet; every step is a verb of the product."""

    def __init__(self, place: Place, model: str, seed: int) -> None:
        self.place, self.model, self.random = place, model, random.Random(seed)
        self.open: list[OpenCall] = []
        self.estimated: list[OpenCall] = []
        self.lots: list[UUID] = []

    def step(self) -> None:
        self.random.choice([self.grant, self.hold, self.hold, self.settle, self.settle,
                            self.correct, self.revoke, self.expire])()  # fmt: skip

    def grant(self) -> None:
        expires = None
        if self.random.random() < 0.4:
            expires = datetime.now(UTC) + timedelta(milliseconds=self.random.randint(1, 200))
        with db.transaction(TESTS) as session:
            entry = ledger.grant(
                session, self.place.tenant_id, self.random.randint(1, 9_000_000), kind="promo",
                key=str(new_id()), actor="t", reason="r", expires_at=expires,
            )  # fmt: skip
            assert entry.lot_id
            self.lots.append(entry.lot_id)

    def hold(self) -> None:
        ask = Ask("api", "t", 10, self.random.randint(1, 2_000))
        try:
            self.open.append(gate.open_call(standing.of_member(self.place.who, self.model), ask))
        except errors.LimitReached:
            return

    def settle(self) -> None:
        if self.open:
            call = self.open.pop(self.random.randrange(len(self.open)))
            guessed = self.random.random() < 0.4
            usd = str(self.random.randint(0, 2 * call.hold_nusd) / 1_000_000_000)
            spent = cost(
                f"{float(usd):.9f}", "estimate" if guessed else "provider", needs_lookup=guessed
            )
            for _ in range(self.random.randint(1, 2)):
                gate.close(
                    gate.settlement(
                        call, spent, outcome="ok", gave_output=True, latency_ms=1,
                        generation_id=f"gen-{call.call_id}",
                    )
                )  # fmt: skip
            if guessed:
                self.estimated.append(call)

    def correct(self) -> None:
        if self.estimated:
            call = self.estimated.pop(self.random.randrange(len(self.estimated)))
            truth = cost(f"{self.random.randint(0, 5_000_000) / 1_000_000_000:.9f}")
            for _ in range(2):
                gate.correct(
                    gate.settlement(call, truth, outcome="ok", gave_output=True, latency_ms=0)
                )

    def revoke(self) -> None:
        if self.lots:
            lot = self.lots.pop(self.random.randrange(len(self.lots)))
            with db.transaction(TESTS) as session:
                granted = session.execute(
                    text("select granted_nusd from app.lots where lot_id = :l"), {"l": lot}
                ).scalar_one()
                ledger.revoke(
                    session, self.place.tenant_id, lot, self.random.randint(1, granted),
                    key=str(lot), actor="t", reason="r",
                )  # fmt: skip

    def expire(self) -> None:
        with db.transaction(TESTS) as session:
            session.execute(text("select verbs.expire_lots(:t)"), {"t": self.place.tenant_id})


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32))
def test_every_invariant_holds_after_every_step(seed: int) -> None:
    place = make_place(credit_usd=0)
    work = Work(place, make_model(), seed)
    for _ in range(25):
        work.step()
        with db.transaction(TESTS) as session:
            assert unsound(session, place.tenant_id) == []


def test_every_invariant_holds_under_eight_threads() -> None:
    place, model = make_place(credit_usd="0.01"), make_model()

    def labour(seed: int) -> None:
        work = Work(place, model, seed)
        for _ in range(40):
            work.step()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(labour, range(8)))
    assert_sound(place.tenant_id)


def test_a_grant_with_a_known_key_is_booked_once_also_by_racers() -> None:
    place = make_place(credit_usd=0)

    def grant(_number: int) -> int:
        with db.transaction(TESTS) as session:
            return ledger.grant(
                session, place.tenant_id, 7, kind="manual", key="same", actor="t", reason="r"
            ).seq

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(grant, range(8))) == {1}
    assert_sound(place.tenant_id)


@pytest.mark.parametrize("amount", [0, -1])
def test_a_grant_of_nothing_is_refused(amount: int) -> None:
    place = make_place(credit_usd=0)
    with pytest.raises(errors.BadInput), db.transaction(TESTS) as session:
        ledger.grant(
            session, place.tenant_id, amount, kind="manual", key="k", actor="t", reason="r"
        )


def test_an_open_hold_keeps_what_it_needs_of_an_expired_lot() -> None:
    place, model = make_place(credit_usd=0), make_model()
    with db.transaction(TESTS) as session:
        ledger.grant(
            session, place.tenant_id, 5_000_000, kind="promo", key="k", actor="t", reason="r",
            expires_at=datetime.now(UTC) + timedelta(milliseconds=300),
        )  # fmt: skip
    call = gate.open_call(standing.of_member(place.who, model), Ask("api", "t", 100, 1_000))
    with db.transaction(TESTS) as session:
        session.execute(text("select pg_sleep(0.35)"))
    ledger.expire()
    with db.transaction(TESTS) as session:
        left = ledger.wallet(session, place.tenant_id)
    assert (left.posted_nusd, left.held_nusd) == (call.hold_nusd, call.hold_nusd)
    assert_sound(place.tenant_id)


def test_promotions_are_spent_before_purchases() -> None:
    place, model = make_place(credit_usd=0), make_model()
    with db.transaction(TESTS) as session:
        for kind in ("purchase", "promo"):
            ledger.grant(
                session, place.tenant_id, 10_000_000, kind=kind, key=kind, actor="t", reason="r"
            )
    call = gate.open_call(standing.of_member(place.who, model), Ask("api", "t", 100, 1_000))
    gate.close(gate.settlement(call, cost("0.001"), outcome="ok", gave_output=True, latency_ms=1))
    with db.transaction(TESTS) as session:
        left = {lot.kind: lot.remaining_nusd for lot in ledger.lots(session, place.tenant_id)}
    assert left == {"purchase": 10_000_000, "promo": 9_000_000}


def test_of_very_many_lots_the_newest_are_read_unless_all_are_asked_for() -> None:
    place = make_place(credit_usd=0)
    with db.transaction(TESTS) as session:
        for number in range(ledger.LOTS_MAX + 1):
            ledger.grant(
                session, place.tenant_id, 1 + number, kind="promo", key=str(number), actor="t",
                reason="r",
            )  # fmt: skip
        oldest_first = text(
            "update app.lots set effective_at = effective_at + granted_nusd * interval '1 ms'"
            " where tenant_id = :t"
        )
        session.execute(oldest_first, {"t": place.tenant_id})
        newest = [lot.granted_nusd for lot in ledger.lots(session, place.tenant_id)]
        every = [lot.granted_nusd for lot in ledger.lots(session, place.tenant_id, limit=None)]
    assert newest == every[:-1] == list(range(ledger.LOTS_MAX + 1, 1, -1))
    assert every[-1] == 1


def test_a_lot_cannot_be_revoked_by_more_than_it_granted() -> None:
    place = make_place(credit_usd=1)
    with db.transaction(TESTS) as session:
        lot = ledger.lots(session, place.tenant_id)[0]
        ledger.revoke(
            session, place.tenant_id, lot.lot_id, 600_000_000, key="a", actor="t", reason="r"
        )
    with pytest.raises(DBAPIError, match="more than it granted"), db.transaction(TESTS) as session:
        ledger.revoke(
            session, place.tenant_id, lot.lot_id, 600_000_000, key="b", actor="t", reason="r"
        )
    assert_sound(place.tenant_id)


@pytest.mark.parametrize("table", ["entries", "lot_uses", "dues", "usage_events", "audit_log"])
@pytest.mark.parametrize("role", ["app_rw", "app_jobs", "app_owner"])
def test_nobody_changes_what_was_booked(table: str, role: str, database_url: str) -> None:
    make_place()
    with psycopg.connect(database_url) as connection:
        connection.execute(f"set role {role}")
        with pytest.raises(psycopg.Error, match=r"append-only|permission denied"):
            connection.execute(f"delete from app.{table}")
        connection.rollback()


def test_an_account_that_is_not_there_cannot_be_locked() -> None:
    with pytest.raises(errors.NotFound), db.transaction(TESTS) as session:
        ledger.lock(session, new_id())


def lock_and_leave(place: Place) -> None:
    with db.transaction(TESTS) as session:
        ledger.lock(session, place.tenant_id)


def test_a_lock_keeps_others_from_the_account_until_the_end() -> None:
    place = make_place(credit_usd=0)
    with db.transaction(TESTS) as session:
        ledger.lock(session, place.tenant_id)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(lock_and_leave, place)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.3)
            session.commit()
            waiting.result(timeout=5)


def test_a_wallet_read_after_a_verb_of_the_same_transaction_is_the_new_one() -> None:
    place = make_place(credit_usd=0)
    with db.transaction(TESTS) as session:
        before = ledger.wallet(session, place.tenant_id)
        ledger.grant(session, place.tenant_id, 9, kind="manual", key="k", actor="t", reason="r")
        assert ledger.wallet(session, place.tenant_id).posted_nusd == before.posted_nusd + 9
