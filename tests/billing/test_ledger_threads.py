"""The ledger under real threads: races on one wallet, and mixed work on a few, end where they must."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError

from core import db, errors
from core.billing import ledger
from core.billing.tables import Entry
from core.db import new_id
from core.quota import gate, standing
from core.quota.gate import Ask, OpenCall, Receipt
from tests.billing.wallets import assert_sound
from tests.factories import TESTS, Place, make_model, make_place
from tests.quota.test_gate import close, cost, open_call, wallet

pytestmark = pytest.mark.usefixtures("database")
_MIXED_S = 5.0


def together(work: Callable[[int], object], threads: int) -> list[object]:
    """Every thread starts its work at the same moment."""
    barrier = threading.Barrier(threads)

    def start(number: int) -> object:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(start, range(threads)))


@pytest.mark.parametrize("mode", ["prepaid", "postpaid"])
def test_forty_threads_on_a_wallet_for_three_admit_exactly_three(mode: str) -> None:
    worth = 3 * 2_130_000
    place = make_place(
        credit_usd="0.00639" if mode == "prepaid" else 0, mode=mode,
        credit_limit_nusd=worth if mode == "postpaid" else 0,
    )  # fmt: skip
    model = make_model()

    def race(_number: int) -> str:
        try:
            return str(open_call(place, model).hold_nusd)
        except errors.InsufficientCredit as refused:
            return refused.limit

    assert Counter(together(race, 40)) == {"2130000": 3, "credit": 37}
    assert (wallet(place).held_nusd, wallet(place).available_nusd) == (worth, 0)
    assert_sound(place.tenant_id)


def test_twenty_captures_of_one_hold_book_one_entry() -> None:
    place, model = make_place(), make_model()
    call = open_call(place, model)
    receipts = together(lambda _number: close(call, cost("0.001")), 20)
    booked = [receipt for receipt in receipts if isinstance(receipt, Receipt)]
    assert Counter(receipt.code for receipt in booked) == {"ok": 1, "settled": 19}
    assert {receipt.billed_nusd for receipt in booked} == {1_000_000}
    with db.transaction(TESTS) as session:
        entries = select(func.count()).where(Entry.call_id == call.call_id)
        assert session.scalar(entries.where(Entry.tenant_id == place.tenant_id)) == 1
    assert_sound(place.tenant_id)


def test_thirty_grants_of_one_source_under_different_keys_make_one_lot() -> None:
    place = make_place(credit_usd=0)

    def grant(number: int) -> int:
        with db.transaction(TESTS) as session:
            return ledger.grant(
                session, place.tenant_id, 7, kind="purchase", key=f"copy-{number}", actor="t",
                reason="r", source=("checkout_session", "cs_test_same"),
            ).seq  # fmt: skip

    assert set(together(grant, 30)) == {1}
    with db.transaction(TESTS) as session:
        assert len(ledger.lots(session, place.tenant_id)) == 1
    with db.transaction(TESTS) as session:
        assert ledger.wallet(session, place.tenant_id).posted_nusd == 7


class Worker:
    """One thread's random verbs on wallets that all threads share."""

    def __init__(self, seed: int, places: list[Place], model: str, lots: list[tuple[UUID, UUID]]):
        self.random, self.places, self.model, self.lots = random.Random(seed), places, model, lots
        self.calls: list[OpenCall] = []
        self.done: Counter[str] = Counter()

    def work(self, until: float) -> None:
        verbs = [self.grant, self.hold, self.hold, self.capture, self.capture, self.expire,
                 self.revoke, self.reinstate]  # fmt: skip
        while time.monotonic() < until:
            verb = self.random.choice(verbs)
            try:
                verb()
            except errors.InsufficientCredit:
                self.done["refused"] += 1
            except IntegrityError as error:  # another thread took it first
                if "more than" not in str(error):
                    raise
            else:
                self.done[verb.__name__] += 1

    def grant(self) -> None:
        place = self.random.choice(self.places)
        expires = None
        if self.random.random() < 0.4:
            expires = datetime.now(UTC) + timedelta(milliseconds=self.random.randint(1, 300))
        with db.transaction(TESTS) as session:
            entry = ledger.grant(
                session, place.tenant_id, self.random.randint(1, 9_000_000), kind="purchase",
                key=str(new_id()), actor="t", reason="r", expires_at=expires,
            )  # fmt: skip
        assert entry.lot_id
        self.lots.append((place.tenant_id, entry.lot_id))

    def hold(self) -> None:
        asker = standing.of_member(self.random.choice(self.places).who, self.model)
        self.calls.append(gate.open_call(asker, Ask("api", "t", 10, self.random.randint(1, 2_000))))

    def capture(self) -> None:
        if self.calls:
            call = self.calls.pop(self.random.randrange(len(self.calls)))
            nusd = self.random.randint(0, call.hold_nusd * 3 // 2)
            close(call, cost(f"0.{nusd:09d}"))

    def expire(self) -> None:
        place = self.random.choice(self.places)
        with db.transaction(TESTS) as session:
            session.execute(text("select verbs.expire_lots(:t)"), {"t": place.tenant_id})

    def revoke(self) -> None:
        self._on_a_lot(ledger.revoke)

    def reinstate(self) -> None:
        self._on_a_lot(ledger.reinstate)

    def _on_a_lot(self, verb: Callable[..., Entry]) -> None:
        if self.lots:
            tenant_id, lot_id = self.random.choice(self.lots)
            with db.transaction(TESTS) as session:
                verb(
                    session, tenant_id, lot_id, self.random.randint(1, 2_000_000),
                    key=str(new_id()), actor="t", reason="r",
                )  # fmt: skip


def test_twenty_four_threads_of_mixed_work_break_nothing_and_never_deadlock(
    database_url: str,
) -> None:
    places = [
        make_place(credit_usd="0.05"),
        make_place(credit_usd="0.05"),
        make_place(credit_usd=0, mode="postpaid", credit_limit_nusd=10**9),
    ]
    model, lots = make_model(), list[tuple[UUID, UUID]]()
    workers = [Worker(seed, places, model, lots) for seed in range(24)]
    before, until = _deadlocks(database_url), time.monotonic() + _MIXED_S
    together(lambda number: workers[number].work(until), 24)
    done = sum((worker.done for worker in workers), Counter[str]())
    assert {"grant", "hold", "capture", "expire", "revoke", "reinstate"} <= set(done)
    assert _deadlocks(database_url) == before
    assert_sound(*(place.tenant_id for place in places))


def test_the_expiry_of_one_tenant_keeps_no_other_waiting() -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    first, second = sorted((make_place(credit_usd=0) for _ in range(2)), key=lambda p: p.tenant_id)
    with db.transaction(TESTS) as session:
        for place in (first, second):
            ledger.grant(
                session, place.tenant_id, 9, kind="promo", key="k", actor="t", reason="r",
                expires_at=past,
            )  # fmt: skip
    with ThreadPoolExecutor(1) as pool, db.transaction(TESTS) as holder:
        ledger.lock(holder, second.tenant_id)
        running = pool.submit(ledger.expire)
        deadline = time.monotonic() + 5
        while wallet(first).posted_nusd and time.monotonic() < deadline:
            time.sleep(0.02)
        assert (wallet(first).posted_nusd, running.done()) == (0, False)
        holder.commit()
    assert running.result(10) >= 1
    assert wallet(second).posted_nusd == 0


def _deadlocks(database_url: str) -> int:
    with psycopg.connect(database_url) as connection:
        connection.execute("select pg_stat_clear_snapshot()")
        row = connection.execute(
            "select deadlocks from pg_stat_database where datname = current_database()"
        ).fetchone()
    return int(row[0]) if row else -1
