"""The ledger as a state machine: any order of its verbs, on every kind of account, against a model of
the sums alone. After every step the stored sums are the model's and everything about them adds up."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Literal
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from core import db, errors
from core.billing import ledger
from core.billing.tables import Entry, Lot
from core.db import new_id
from core.quota import gate, standing
from core.quota.costs import Cost
from core.quota.gate import Ask, OpenCall
from tests.billing.ledger_model import Model
from tests.billing.wallets import Figures, assert_sound, figures, unsound
from tests.factories import TESTS, make_model, make_place

pytestmark = pytest.mark.usefixtures("database")
AMOUNTS = st.integers(1, 9_000_000)
PICK = st.integers(0, 10**6)
_LIMIT_NUSD = 6_000_000


@dataclass(frozen=True, slots=True)
class Guessed:
    """A call that was charged an estimate, whose truth may come."""

    call: OpenCall
    billed: int
    kept: int


def _cost(amount: int, source: str) -> Cost:
    usd = Decimal(amount).scaleb(-9)
    return Cost(usd, source, source == "estimate", usd, 10, 0, 0, 5, 0)


class LedgerMachine(RuleBasedStateMachine):
    """One account; `again` repeats a verb with its key, which must change nothing."""

    mode = "prepaid"

    @initialize(amount=AMOUNTS, seed=st.integers(0, 2**32))
    def open(self, amount: int, seed: int) -> None:
        mode = self.mode
        limit = _LIMIT_NUSD if mode == "postpaid" else 0
        self.place = make_place(credit_usd=0, mode=mode, credit_limit_nusd=limit)
        self.tenant: UUID = self.place.tenant_id
        self.model_id = make_model()
        self.model = Model({"prepaid": 0, "postpaid": -limit, "internal": None}[mode])
        self.open_calls: list[OpenCall] = []
        self.guessed: list[Guessed] = []
        self.grant(kind="purchase", amount=amount, expires=None, again=False)
        self.bustle(seed)

    @rule(kind=st.sampled_from(["purchase", "plan", "promo", "manual"]), amount=AMOUNTS,
          expires=st.sampled_from([None, None, -1, 30]), again=st.booleans())  # fmt: skip
    def grant(self, kind: ledger.LotKind, amount: int, expires: int | None, again: bool) -> None:
        at = None if expires is None else datetime.now(UTC) + timedelta(days=expires)
        key = str(new_id())

        def book(session: Session, source_id: str) -> int:
            return ledger.grant(
                session, self.tenant, amount, kind=kind, key=source_id, actor="t", reason="r",
                expires_at=at, source=("test", key),
            ).seq  # fmt: skip

        self._book(lambda session: book(session, key), again=again)
        if again:  # another key for the same source is the same grant
            with db.transaction(TESTS) as session:
                known = book(session, f"{key}-other")
                assert session.get_one(Entry, (self.tenant, known)).idempotency_key.endswith(key)
        self.model.grant(amount)

    @rule(tokens=st.integers(1, 3_000))
    def hold(self, tokens: int) -> None:
        amount = 13_000 + tokens * 2_000  # 13 prompt tokens with the safety factor
        expired = self._expired()
        self.model.expire(expired)
        admitted = self.model.admits(amount)
        asker = standing.of_member(self.place.who, self.model_id)
        try:
            call = gate.open_call(asker, Ask("api", "t", 10, tokens))
        except errors.InsufficientCredit as refused:
            limit = refused.limit
        else:
            limit = None
        assert (limit is None) == admitted
        assert (limit == "dispute") == self.model.frozen
        if limit is None:
            self.open_calls.append(call)
            self.model.held += amount
            assert call.hold_nusd == amount

    @precondition(lambda self: self.open_calls)
    @rule(pick=PICK, how=st.sampled_from(["nothing", "less", "equal", "more"]), part=PICK,
          guessed=st.booleans(), again=st.booleans())  # fmt: skip
    def capture(self, pick: int, how: str, part: int, guessed: bool, again: bool) -> None:
        call = self.open_calls.pop(pick % len(self.open_calls))
        amount = {
            "nothing": 0, "less": part % call.hold_nusd, "equal": call.hold_nusd,
            "more": call.hold_nusd + part,
        }[how]  # fmt: skip
        settlement = gate.settlement(
            call, _cost(amount, "estimate" if guessed else "provider"), outcome="ok",
            gave_output=amount > 0, latency_ms=1, generation_id=f"gen-{call.call_id}",
        )  # fmt: skip
        for _ in range(1 + again):
            gate.close(settlement)
        assert (settlement.kept_nusd > 0) == guessed
        self.model.held += settlement.kept_nusd - call.hold_nusd
        self.model.spend(amount)
        if guessed:
            self.guessed.append(Guessed(call, amount, settlement.kept_nusd))

    @precondition(lambda self: self.guessed)
    @rule(pick=PICK, again=st.booleans())
    def give_up(self, pick: int, again: bool) -> None:
        guess = self.guessed.pop(pick % len(self.guessed))
        for number in range(1 + again):
            gave_up = gate.give_up(self.tenant, guess.call.call_id, patience_s=0)
            assert gave_up == (number == 0)
        self.model.held -= guess.kept

    @precondition(lambda self: self.guessed)
    @rule(pick=PICK, truth=st.integers(0, 8_000_000), again=st.booleans())
    def adjust(self, pick: int, truth: int, again: bool) -> None:
        guess = self.guessed.pop(pick % len(self.guessed))
        for _ in range(1 + again):
            gate.correct(
                gate.settlement(
                    guess.call, _cost(truth, "provider"), outcome="ok", gave_output=True,
                    latency_ms=0,
                )
            )  # fmt: skip
        self.model.held -= guess.kept
        if truth >= guess.billed:
            self.model.spend(truth - guess.billed)
        else:
            self.model.refill(guess.billed - truth, call=True)

    @rule(pick=PICK, part=PICK, again=st.booleans())
    def revoke(self, pick: int, part: int, again: bool) -> None:
        with db.transaction(TESTS) as session:
            open_lots = [
                (lot, lot.granted_nusd - ledger.clawed_back(session, self.tenant, lot.lot_id))
                for lot in ledger.lots(session, self.tenant, limit=None)
            ]
        open_lots = [(lot, most) for lot, most in open_lots if most > 0]
        if not open_lots:
            return
        lot, most = open_lots[pick % len(open_lots)]
        amount, key = most if part % 3 == 0 else 1 + part % most, str(new_id())
        others = self._unexpired(but=lot.lot_id)
        self._book(
            lambda session: (
                ledger.revoke(
                    session, self.tenant, lot.lot_id, amount, key=key, actor="t", reason="r"
                ).seq
            ),
            again=again,
        )
        self.model.revoke(amount, lot.remaining_nusd, others)

    @rule(pick=PICK, part=PICK, again=st.booleans())
    def reinstate(self, pick: int, part: int, again: bool) -> None:
        with db.transaction(TESTS) as session:
            taken = [
                (lot, ledger.clawed_back(session, self.tenant, lot.lot_id))
                for lot in ledger.lots(session, self.tenant, limit=None)
            ]
        taken = [(lot, most) for lot, most in taken if most > 0]
        if not taken:
            return
        lot, most = taken[pick % len(taken)]
        amount, key = most if part % 2 == 0 else 1 + part % most, str(new_id())
        self._book(
            lambda session: (
                ledger.reinstate(
                    session, self.tenant, lot.lot_id, amount, key=key, actor="t", reason="r"
                ).seq
            ),
            again=again,
        )
        self.model.reinstate(amount, lot.revoked_nusd)

    @rule(pick=PICK)
    def time_passes(self, pick: int) -> None:
        """A lot that would expire some day has expired."""
        with db.transaction(TESTS) as session:
            due = select(Lot).where(Lot.tenant_id == self.tenant, Lot.expires_at.is_not(None))
            found = session.scalars(due.order_by(Lot.lot_id)).all()
            if found:
                found[pick % len(found)].expires_at = datetime.now(UTC) - timedelta(seconds=1)
                session.flush()
                session.execute(
                    text(
                        "update app.accounts set next_expiry_at = (select min(expires_at) from"
                        " app.lots l where l.tenant_id = :t and remaining_nusd > 0)"
                        " where tenant_id = :t"
                    ),
                    {"t": self.tenant},
                )

    @rule()
    def expire(self) -> None:
        expected = self.model.expire(self._expired())
        with db.transaction(TESTS) as session:
            taken = session.execute(
                text("select verbs.expire_lots(:t)"), {"t": self.tenant}
            ).scalar_one()
        assert taken == expected

    @rule(amount=AMOUNTS, again=st.booleans())
    def receive_payment(self, amount: int, again: bool) -> None:
        key = str(new_id())
        self._book(
            lambda session: (
                ledger.receive_payment(
                    session,
                    self.tenant,
                    amount,
                    key=key,
                    actor="t",
                    reason="r",
                    source=("invoice", key),
                ).seq
            ),
            again=again,
        )
        self.model.pay(amount)

    @rule(contra=st.sampled_from(["show_back", "bad_debt"]), again=st.booleans())
    def write_off(self, contra: Literal["show_back", "bad_debt"], again: bool) -> None:
        key, amount = str(new_id()), self.model.receivable

        def book(session: Session) -> int | None:
            entry = ledger.write_off(
                session, self.tenant, contra=contra, key=key, actor="t", reason="r"
            )
            assert (None if entry is None else entry.amount_nusd) == (amount or None)
            return None if entry is None else entry.seq

        self._book(book, again=again)
        if amount:
            self.model.settle(contra, amount)

    @rule(again=st.booleans())
    def write_off_debt(self, again: bool) -> None:
        key, amount = str(new_id()), self.model.debt

        def book(session: Session) -> int | None:
            entry = ledger.write_off_debt(session, self.tenant, key=key, actor="t", reason="r")
            assert (None if entry is None else entry.amount_nusd) == (amount or None)
            return None if entry is None else entry.seq

        self._book(book, again=again)
        self.model.forgive()

    @rule(frozen=st.booleans())
    def freeze(self, frozen: bool) -> None:
        with db.transaction(TESTS) as session:
            ledger.set_frozen(session, self.tenant, frozen)
        self.model.frozen = frozen

    @rule(seed=st.integers(0, 2**32))
    def bustle(self, seed: int) -> None:
        """Many steps in a row, calls more often than the rest: what a busy wallet sees."""
        dice = random.Random(seed)
        for _ in range(40):
            self._step(dice)
            self.adds_up()

    @invariant()
    def adds_up(self) -> None:
        with db.transaction(TESTS) as session:
            assert unsound(session, self.tenant) == []
            stored = figures(session, self.tenant)
        model = self.model
        assert stored == Figures(model.posted, model.held, model.debt, model.receivable)

    def teardown(self) -> None:
        if hasattr(self, "tenant"):
            with db.transaction(TESTS) as session:
                ledger.set_frozen(session, self.tenant, False)
            assert_sound(self.tenant)

    def _step(self, dice: random.Random) -> None:
        again, pick, part = dice.random() < 0.3, dice.randrange(10**6), dice.randrange(10**6)
        amount = dice.randint(1, 9_000_000)
        step = dice.choice(["grant"] * 3 + ["hold"] * 5 + ["capture"] * 5 + ["adjust"] * 3
                           + ["revoke"] * 3 + ["reinstate"] * 3 + ["settle"] * 2 + ["rest"] * 2)  # fmt: skip
        if step == "grant":
            self.grant(kind=dice.choice(["purchase", "plan", "promo", "manual"]), amount=amount,
                       expires=dice.choice([None, None, -1, 30]), again=again)  # fmt: skip
        elif step == "hold":
            self.hold(tokens=dice.randint(1, 3_000))
        elif step == "capture" and self.open_calls:
            how = dice.choice(["nothing", "less", "equal", "more"])
            self.capture(pick=pick, how=how, part=4 * part, guessed=part % 3 > 0, again=again)
        elif step == "adjust" and self.guessed and part % 4 == 0:
            self.give_up(pick=pick, again=again)
        elif step == "adjust" and self.guessed:
            self.adjust(pick=pick, truth=dice.choice([0, amount]), again=again)
        elif step == "revoke":
            self.revoke(pick=pick, part=part, again=again)
        elif step == "reinstate":
            self.reinstate(pick=pick, part=part, again=again)
        elif step == "settle":
            dice.choice([
                lambda: self.receive_payment(amount=amount, again=again),
                lambda: self.write_off(contra=dice.choice(["show_back", "bad_debt"]), again=again),
                lambda: self.write_off_debt(again=again),
            ])()  # fmt: skip
        elif step == "rest":
            dice.choice([
                self.expire, lambda: self.time_passes(pick=pick),
                lambda: self.freeze(frozen=dice.random() < 0.3),
            ])()  # fmt: skip

    def _book(self, verb: Callable[[Session], int | None], *, again: bool) -> None:
        with db.transaction(TESTS) as session:
            first = verb(session)
        if again:
            with db.transaction(TESTS) as session:
                assert verb(session) == first

    def _expired(self) -> int:
        with db.transaction(TESTS) as session:
            lots = ledger.lots(session, self.tenant, limit=None)
        now = datetime.now(UTC)
        return sum(lot.remaining_nusd for lot in lots if lot.expires_at and lot.expires_at <= now)

    def _unexpired(self, *, but: UUID) -> int:
        with db.transaction(TESTS) as session:
            lots = ledger.lots(session, self.tenant, limit=None)
        now = datetime.now(UTC)
        return sum(
            lot.remaining_nusd
            for lot in lots
            if lot.lot_id != but and (lot.expires_at is None or lot.expires_at > now)
        )


class Postpaid(LedgerMachine):
    mode = "postpaid"


class Internal(LedgerMachine):
    mode = "internal"


@pytest.mark.parametrize("machine", [LedgerMachine, Postpaid, Internal])
def test_every_order_of_verbs_ends_as_the_model_says(machine: type[LedgerMachine]) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(max_examples=8, stateful_step_count=10, deadline=None,
                          suppress_health_check=list(HealthCheck)),
    )  # fmt: skip
