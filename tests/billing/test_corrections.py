"""Claw-backs and what undoes them, payments and write-offs of what was receivable, on real wallets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from core import db, errors
from core.billing import ledger
from core.billing.tables import Entry
from core.quota import gate
from core.quota.gate import OpenCall
from tests.billing.wallets import Figures, assert_sound, figures
from tests.factories import TESTS, Place, make_model, make_place
from tests.quota.test_gate import cost, open_call

pytestmark = pytest.mark.usefixtures("database")


def grant(place: Place, amount_nusd: int, key: str, **more: Any) -> UUID:
    """A purchase; its lot."""
    with db.transaction(TESTS) as session:
        entry = ledger.grant(
            session, place.tenant_id, amount_nusd, kind="purchase", key=key, actor="t", reason="r",
            **more,
        )  # fmt: skip
    assert entry.lot_id
    return entry.lot_id


def revoke(place: Place, lot_id: UUID, amount_nusd: int, key: str = "r") -> Entry:
    with db.transaction(TESTS) as session:
        return ledger.revoke(
            session, place.tenant_id, lot_id, amount_nusd, key=key, actor="t", reason="refund"
        )


def reinstate(place: Place, lot_id: UUID, amount_nusd: int, key: str = "b") -> Entry:
    with db.transaction(TESTS) as session:
        return ledger.reinstate(
            session, place.tenant_id, lot_id, amount_nusd, key=key, actor="t", reason="won"
        )


def spend(place: Place, amount_nusd: int) -> OpenCall:
    """A call that cost this much, by estimate: it may be corrected. Nothing is kept for that here."""
    call = open_call(place, make_model())
    guess = cost(f"{amount_nusd:.0f}E-9", "estimate", needs_lookup=True)
    settlement = gate.settlement(
        call, guess, outcome="ok", gave_output=True, latency_ms=5,
        generation_id=f"gen-{call.call_id}",
    )  # fmt: skip
    gate.close(replace(settlement, kept_nusd=0, kept_tokens=0))
    return call


def correct(call: OpenCall, amount_nusd: int) -> None:
    truth = cost(f"{amount_nusd:.0f}E-9")
    gate.correct(gate.settlement(call, truth, outcome="ok", gave_output=True, latency_ms=0))


def left(place: Place) -> dict[UUID, int]:
    with db.transaction(TESTS) as session:
        return {
            lot.lot_id: lot.remaining_nusd
            for lot in ledger.lots(session, place.tenant_id, limit=None)
        }


def sums(place: Place) -> Figures:
    with db.transaction(TESTS) as session:
        return figures(session, place.tenant_id)


def pay(place: Place, amount_nusd: int, key: str = "in_1") -> Entry:
    with db.transaction(TESTS) as session:
        return ledger.receive_payment(
            session, place.tenant_id, amount_nusd, key=key, actor="t", reason="r",
            source=("invoice", key),
        )  # fmt: skip


def write_off(place: Place, contra: Literal["show_back", "bad_debt"], key: str) -> Entry | None:
    with db.transaction(TESTS) as session:
        return ledger.write_off(
            session, place.tenant_id, contra=contra, key=key, actor="t", reason="r"
        )


def test_a_second_key_for_the_same_source_grants_nothing() -> None:
    place = make_place(credit_usd=0)
    first = grant(place, 50, "webhook", source=("a_session", "cs_1"))
    assert grant(place, 50, "page", source=("a_session", "cs_1")) == first
    assert sums(place).posted == 50
    assert grant(place, 5, "bonus", source=("a_session_bonus", "cs_1")) != first


def test_a_dispute_that_is_won_gives_the_lot_back_what_it_had() -> None:
    place = make_place(credit_usd=0)
    lot = grant(place, 9_000_000, "k")
    revoke(place, lot, 9_000_000)
    assert left(place) == {lot: 0}
    reinstate(place, lot, 9_000_000)
    assert (left(place), sums(place)) == ({lot: 9_000_000}, Figures(9_000_000, 0, 0, 0))
    with db.transaction(TESTS) as session:
        assert ledger.clawed_back(session, place.tenant_id, lot) == 0
    assert_sound(place.tenant_id)


def test_what_is_given_back_ends_the_debt_it_had_become() -> None:
    place = make_place(credit_usd=0)
    lot = grant(place, 9_000_000, "k")
    spend(place, 4_000_000)
    revoke(place, lot, 9_000_000)
    assert sums(place) == Figures(-4_000_000, 0, 4_000_000, 0)
    reinstate(place, lot, 9_000_000)
    assert (left(place), sums(place)) == ({lot: 5_000_000}, Figures(5_000_000, 0, 0, 0))
    assert_sound(place.tenant_id)


def test_what_a_lot_cannot_give_is_taken_from_others_before_it_is_debt() -> None:
    """Buy 10, spend 2.5, buy 10, refund the first: 7.5 are left and nothing is owed, in any order."""
    ends = []
    for order in ("buy refund", "refund buy"):
        place = make_place(credit_usd=0)
        first = grant(place, 10_000_000, "first")
        spend(place, 2_500_000)
        for step in order.split():
            if step == "buy":
                second = grant(place, 10_000_000, "second")
            else:
                revoke(place, first, 10_000_000)
        assert left(place) == {first: 0, second: 7_500_000}
        ends.append(sums(place))
        open_call(place, make_model())  # nobody who has credit is refused for debt
        assert_sound(place.tenant_id)
        reinstate(place, first, 10_000_000)
        assert left(place) == {first: 7_500_000, second: 10_000_000}
        assert_sound(place.tenant_id)
    assert ends == [Figures(7_500_000, 0, 0, 0)] * 2


def test_paid_credit_is_taken_before_gifts_and_nothing_of_what_has_expired() -> None:
    place = make_place(credit_usd=0)
    first = grant(place, 10_000_000, "first")
    spend(place, 10_000_000)
    with db.transaction(TESTS) as session:
        gift = ledger.grant(
            session, place.tenant_id, 4_000_000, kind="promo", key="gift", actor="t", reason="r"
        ).lot_id
    old = grant(place, 5_000_000, "old", expires_at=datetime.now(UTC) - timedelta(days=1))
    paid = grant(place, 3_000_000, "paid")
    revoke(place, first, 2_000_000, "r1")
    assert left(place) == {first: 0, gift: 4_000_000, old: 5_000_000, paid: 1_000_000}
    revoke(place, first, 8_000_000, "r2")
    assert left(place) == {first: 0, gift: 0, old: 5_000_000, paid: 0}
    assert sums(place).debt == 3_000_000
    assert_sound(place.tenant_id)


def test_what_is_given_back_returns_to_the_lot_that_paid_the_debt_since() -> None:
    place = make_place(credit_usd=0)
    first = grant(place, 9_000_000, "k")
    spend(place, 9_000_000)
    revoke(place, first, 9_000_000)
    second = grant(place, 20_000_000, "l")
    assert left(place) == {first: 0, second: 11_000_000}
    reinstate(place, first, 9_000_000)
    assert (left(place), sums(place).debt) == ({first: 0, second: 20_000_000}, 0)
    assert_sound(place.tenant_id)


def test_more_than_was_revoked_cannot_be_given_back() -> None:
    place = make_place(credit_usd=0)
    lot = grant(place, 9_000_000, "k")
    revoke(place, lot, 5_000_000)
    reinstate(place, lot, 3_000_000)
    with pytest.raises(DBAPIError, match="more than was revoked"):
        reinstate(place, lot, 2_000_001, "c")
    reinstate(place, lot, 2_000_000, "c")
    assert_sound(place.tenant_id)


def test_a_lot_can_be_revoked_again_after_it_was_given_back() -> None:
    place = make_place(credit_usd=0)
    lot = grant(place, 9_000_000, "k")
    revoke(place, lot, 9_000_000, "1")
    reinstate(place, lot, 9_000_000, "2")
    revoke(place, lot, 9_000_000, "3")
    with pytest.raises(DBAPIError, match="more than it granted"):
        revoke(place, lot, 1, "4")
    assert_sound(place.tenant_id)


def test_what_is_given_back_of_an_expired_lot_expires_again() -> None:
    place = make_place(credit_usd=0)
    lot = grant(place, 9_000_000, "k", expires_at=datetime.now(UTC) + timedelta(milliseconds=200))
    revoke(place, lot, 9_000_000)
    with db.transaction(TESTS) as session:
        session.execute(text("select pg_sleep(0.25)"))
    reinstate(place, lot, 9_000_000)
    assert sums(place).posted == 9_000_000
    ledger.expire()
    assert sums(place).posted == 0
    assert_sound(place.tenant_id)


@pytest.mark.parametrize("verb", [ledger.revoke, ledger.reinstate])
@pytest.mark.parametrize(("amount", "key"), [(0, "k"), (-1, "k"), (1, ""), (1, "k" * 201)])
def test_claw_backs_of_nothing_or_without_a_key_are_refused(
    verb: Callable[..., Entry], amount: int, key: str
) -> None:
    place = make_place(credit_usd=0)
    lot = grant(place, 9, "k")
    with pytest.raises(errors.BadInput), db.transaction(TESTS) as session:
        verb(session, place.tenant_id, lot, amount, key=key, actor="t", reason="r")


def test_an_expired_lot_of_a_postpaid_tenant_is_written_off_although_it_owes() -> None:
    place = make_place(credit_usd=0, mode="postpaid", credit_limit_nusd=50_000_000)
    spend(place, 5_000_000)
    grant(place, 3_000_000, "k", expires_at=datetime.now(UTC) - timedelta(seconds=1))
    ledger.expire()
    assert sums(place) == Figures(-5_000_000, 0, 0, 5_000_000)
    assert_sound(place.tenant_id)


def test_a_paid_invoice_lowers_what_is_receivable_once() -> None:
    place = make_place(credit_usd=0, mode="postpaid", credit_limit_nusd=50_000_000)
    spend(place, 5_000_000)
    first = pay(place, 3_000_000)
    assert (first.kind, first.contra, first.amount_nusd) == ("payment", "stripe", 3_000_000)
    assert pay(place, 3_000_000).seq == first.seq
    assert sums(place) == Figures(-2_000_000, 0, 0, 2_000_000)
    assert_sound(place.tenant_id)


def test_what_is_paid_above_the_receivable_becomes_a_purchase() -> None:
    place = make_place(credit_usd=0, mode="postpaid", credit_limit_nusd=50_000_000)
    spend(place, 5_000_000)
    assert pay(place, 7_000_000).amount_nusd == 5_000_000
    assert pay(place, 7_000_000).amount_nusd == 5_000_000
    all_above = pay(place, 4_000_000, "in_2")
    assert (all_above.kind, pay(place, 4_000_000, "in_2").seq) == ("grant", all_above.seq)
    assert (sums(place), sorted(left(place).values())) == (
        Figures(6_000_000, 0, 0, 0), [2_000_000, 4_000_000],
    )  # fmt: skip
    assert_sound(place.tenant_id)


@pytest.mark.parametrize(("mode", "contra"), [("internal", "show_back"), ("postpaid", "bad_debt")])
def test_all_that_is_receivable_is_written_off_once(
    mode: str, contra: Literal["show_back", "bad_debt"]
) -> None:
    place = make_place(credit_usd=0, mode=mode, credit_limit_nusd=9 * 10**9 * (mode == "postpaid"))
    assert write_off(place, contra, "none") is None
    spend(place, 5_000_000)
    entry = write_off(place, contra, "k")
    assert entry is not None
    assert (entry.kind, entry.contra, entry.amount_nusd) == ("write_off", contra, 5_000_000)
    spend(place, 1_000_000)
    again = write_off(place, contra, "k")
    assert again is not None
    assert again.seq == entry.seq
    assert sums(place).receivable == 1_000_000
    assert_sound(place.tenant_id)


def test_a_call_that_cost_less_after_it_was_paid_becomes_credit() -> None:
    place = make_place(credit_usd=0, mode="postpaid", credit_limit_nusd=50_000_000)
    call = spend(place, 5_000_000)
    pay(place, 5_000_000)
    correct(call, 2_000_000)
    assert (sums(place), list(left(place).values())) == (Figures(3_000_000, 0, 0, 0), [3_000_000])
    assert_sound(place.tenant_id)


def test_a_call_that_cost_less_after_it_was_written_off_was_written_off_too_high() -> None:
    place = make_place(credit_usd=0, mode="internal")
    call = spend(place, 5_000_000)
    write_off(place, "show_back", "k")
    correct(call, 2_000_000)
    assert (sums(place), left(place)) == (Figures(0, 0, 0, 0), {})
    assert_sound(place.tenant_id)


def write_off_debt(place: Place, key: str) -> Entry | None:
    with db.transaction(TESTS) as session:
        return ledger.write_off_debt(session, place.tenant_id, key=key, actor="t", reason="r")


def test_debt_is_written_off_once() -> None:
    place = make_place(credit_usd=0)
    assert write_off_debt(place, "none") is None
    lot = grant(place, 5_000_000, "k")
    spend(place, 5_000_000)
    revoke(place, lot, 4_000_000)
    entry = write_off_debt(place, "k")
    assert entry is not None
    assert (entry.kind, entry.contra, entry.amount_nusd) == ("write_off", "bad_debt", 4_000_000)
    assert sums(place) == Figures(0, 0, 0, 0)
    revoke(place, lot, 1_000_000, "r2")
    again = write_off_debt(place, "k")
    assert again is not None
    assert (again.seq, sums(place).debt) == (entry.seq, 1_000_000)
    assert_sound(place.tenant_id)


def test_a_dispute_won_after_its_debt_was_written_off_brings_no_credit() -> None:
    place = make_place(credit_usd=0)
    lot = grant(place, 9_000_000, "k")
    spend(place, 6_000_000)
    revoke(place, lot, 9_000_000)
    write_off_debt(place, "k")
    reinstate(place, lot, 9_000_000)
    assert (left(place), sums(place)) == ({lot: 3_000_000}, Figures(3_000_000, 0, 0, 0))
    assert_sound(place.tenant_id)


def test_a_call_that_cost_less_fills_its_lots_before_it_shrinks_the_write_off_of_its_debt() -> None:
    place = make_place(credit_usd=0)
    grant(place, 3_000_000, "k")
    call = spend(place, 8_000_000)
    write_off_debt(place, "k")
    correct(call, 1_000_000)
    with db.transaction(TESTS) as session:
        rest = text("select sum(amount_nusd) from app.entries where tenant_id = :t and kind = :k")
        kept = session.scalar(rest, {"t": place.tenant_id, "k": "write_off"})
    assert (sums(place), kept) == (Figures(3_000_000, 0, 0, 0), 1_000_000)
    assert_sound(place.tenant_id)


def test_an_invoice_paid_after_it_was_written_off_brings_no_credit() -> None:
    place = make_place(credit_usd=0, mode="postpaid", credit_limit_nusd=50_000_000)
    spend(place, 5_000_000)
    write_off(place, "bad_debt", "k")
    spend(place, 1_000_000)
    for _ in range(2):
        assert pay(place, 4_000_000).amount_nusd == 4_000_000
    assert (sums(place), left(place)) == (Figures(0, 0, 0, 0), {})
    with db.transaction(TESTS) as session:
        rest = text("select sum(amount_nusd) from app.entries where tenant_id = :t and kind = :k")
        kept = session.scalar(rest, {"t": place.tenant_id, "k": "write_off"})
    assert kept == 2_000_000
    pay(place, 3_000_000, "in_2")
    assert (sums(place).posted, list(left(place).values())) == (1_000_000, [1_000_000])
    assert_sound(place.tenant_id)


def test_show_back_and_debt_that_were_written_off_are_not_paid_by_an_invoice() -> None:
    place = make_place(credit_usd=0, mode="internal")
    lot = grant(place, 3_000_000, "k")
    spend(place, 5_000_000)
    write_off(place, "show_back", "k")
    revoke(place, lot, 3_000_000)
    write_off_debt(place, "d")
    pay(place, 4_000_000)
    assert sums(place) == Figures(4_000_000, 0, 0, 0)
    assert_sound(place.tenant_id)


def test_a_floor_of_zero_is_refused_while_something_is_receivable() -> None:
    place = make_place(credit_usd=0, mode="postpaid", credit_limit_nusd=50_000_000)
    spend(place, 5_000_000)
    with pytest.raises(DBAPIError, match="receivable"), db.transaction(TESTS) as session:
        ledger.set_floor(session, place.tenant_id, mode="prepaid")
    write_off(place, "bad_debt", "k")
    with db.transaction(TESTS) as session:
        ledger.set_floor(session, place.tenant_id, mode="prepaid")
        assert ledger.wallet(session, place.tenant_id).available_nusd == 0
        ledger.set_floor(session, place.tenant_id, mode="postpaid", credit_limit_nusd=7)
        assert ledger.wallet(session, place.tenant_id).available_nusd == 7
        ledger.set_floor(session, place.tenant_id, mode="internal")
        assert ledger.wallet(session, place.tenant_id).available_nusd is None
    assert_sound(place.tenant_id)


@pytest.mark.parametrize(
    "verb",
    [
        "reinstate_lot(:t, :t, 1, 'k', 'a', 'r')",
        "receive_payment(:t, :t, 1, 50, 'a', 'b', 'k', 'a', 'r')",
        "write_off(:t, 'bad_debt', 'k', 'a', 'r')",
        "write_off_debt(:t, 'k', 'a', 'r')",
        "set_floor(:t, -5)",
        "set_frozen(:t, false)",
        "clawed_back(:t, :t)",
    ],
)
def test_the_web_role_corrects_no_wallet(verb: str) -> None:
    place = make_place()
    with pytest.raises(DBAPIError, match="permission denied"), db.transaction(place.who) as session:
        session.execute(text(f"select verbs.{verb}"), {"t": place.tenant_id})
