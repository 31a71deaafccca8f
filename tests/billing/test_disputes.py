"""Disputes as Stripe tells of them, alone and among refunds, in any order."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import db, errors
from core.billing import ledger, refunds
from core.billing.effects import Handled, Waits
from core.billing.ledger import BILLING
from core.billing.sales_tables import AutoTopup, Payment
from core.db import new_id
from tests.billing.books import a_topup
from tests.billing.purchases import (
    USD,
    a_dispute,
    a_refund,
    alarms,
    audited,
    buy,
    fulfil,
    hear,
    is_frozen,
    moves,
    offences,
    order_paid,
    spend,
    wallet,
)
from tests.factories import Place, make_place

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def place() -> Place:
    return make_place(credit_usd=0)


def test_a_dispute_freezes_and_takes_and_winning_gives_all_back(place: Place) -> None:
    payment, before = buy(place), alarms("dispute")
    spend(place, "20")
    dispute_id = f"du_{new_id().hex}"
    hear(a_dispute(payment, 5000, dispute_id=dispute_id))
    assert is_frozen(place.tenant_id)
    assert wallet(place.tenant_id).debt_nusd == 20 * USD
    assert alarms("dispute") == before + 1
    hear(a_dispute(payment, 5000, "won", dispute_id=dispute_id))
    assert not is_frozen(place.tenant_id)
    assert wallet(place.tenant_id).available_nusd == 35 * USD
    spend(place, "0.01")
    assert offences(place.tenant_id) == []


def test_a_dispute_refuses_calls_though_other_credit_is_left(place: Place) -> None:
    buy(place)
    hear(a_dispute(buy(place), 5000))
    assert wallet(place.tenant_id).available_nusd == 55 * USD
    with pytest.raises(errors.InsufficientCredit) as refused:
        spend(place, "0.01")
    assert refused.value.limit == "dispute"


@pytest.mark.parametrize("ended", ["lost", "appeal_needs_response", "appeal_under_review"])
def test_a_lost_dispute_keeps_the_money_and_ends_the_freeze(place: Place, ended: str) -> None:
    payment, dispute_id = buy(place), f"du_{new_id().hex}"
    for status in ("needs_response", "lost", ended):
        hear(a_dispute(payment, 5000, status, dispute_id=dispute_id))
    assert not is_frozen(place.tenant_id)
    assert wallet(place.tenant_id).posted_nusd == 0


def test_an_appeal_that_is_won_gives_back(place: Place) -> None:
    payment, dispute_id = buy(place), f"du_{new_id().hex}"
    for status in ("lost", "appeal_under_review", "won", "lost"):
        hear(a_dispute(payment, 5000, status, dispute_id=dispute_id))
    assert wallet(place.tenant_id).available_nusd == 55 * USD


def test_a_warning_takes_nothing_until_it_becomes_a_dispute(place: Place) -> None:
    payment, dispute_id = buy(place), f"du_{new_id().hex}"
    for status in ("warning_needs_response", "warning_under_review", "warning_closed"):
        hear(a_dispute(payment, 5000, status, dispute_id=dispute_id))
        assert (is_frozen(place.tenant_id), moves(place.tenant_id)) == (False, [])
    hear(a_dispute(payment, 5000, "under_review", dispute_id=dispute_id))
    assert is_frozen(place.tenant_id)
    assert wallet(place.tenant_id).posted_nusd == 0


def test_one_dispute_won_leaves_the_account_frozen_by_another(place: Place) -> None:
    first, second, dispute_id = buy(place), buy(place), f"du_{new_id().hex}"
    hear(a_dispute(first, 5000, dispute_id=dispute_id))
    hear(a_dispute(second, 5000))
    hear(a_dispute(first, 5000, "won", dispute_id=dispute_id))
    assert is_frozen(place.tenant_id)


def test_a_dispute_of_a_payment_not_booked_yet_waits(place: Place) -> None:
    unknown = Payment(payment_intent_id="pi_unknown", tenant_id=place.tenant_id)
    assert isinstance(hear(a_dispute(unknown, 100)), Waits)


def test_a_dispute_and_a_refund_together_take_what_was_granted_and_no_more(place: Place) -> None:
    payment, dispute_id = buy(place), f"du_{new_id().hex}"
    hear(a_refund(payment, 2000))
    hear(a_dispute(payment, 5000, dispute_id=dispute_id))
    assert wallet(place.tenant_id).posted_nusd == 0
    hear(a_dispute(payment, 5000, "won", dispute_id=dispute_id))
    assert wallet(place.tenant_id).posted_nusd == 55 * USD * 3 // 5
    assert offences(place.tenant_id) == []


def test_an_amount_in_another_money_takes_everything_and_is_told(place: Place) -> None:
    payment, before = buy(place), alarms("claw_back_amount")
    hear(a_dispute(payment, 1, currency="eur"))
    assert wallet(place.tenant_id).posted_nusd == 0
    assert alarms("claw_back_amount") == before + 1


def test_an_early_warning_is_told_and_books_nothing(place: Place) -> None:
    payment, before = buy(place), alarms("early_fraud_warning")
    with db.transaction(BILLING) as session:
        effect = refunds.on_early_warning(
            session,
            {"payment_intent": payment.payment_intent_id, "fraud_type": "card_never_received"},
        )
    assert isinstance(effect, Handled)
    assert alarms("early_fraud_warning") == before + 1
    assert moves(place.tenant_id) == []


def test_a_dispute_switches_automatic_top_ups_off_until_the_buyer_agrees_anew(place: Place) -> None:
    payment, dispute_id = buy(place), f"du_{new_id().hex}"
    a_topup(place)
    hear(a_dispute(payment, 5000, "warning_needs_response", dispute_id=dispute_id))
    assert topup(place) == (True, None)
    hear(a_dispute(payment, 5000, dispute_id=dispute_id))
    assert topup(place) == (False, "A payment is disputed.")
    assert audited(place.tenant_id)[-1] == "topup.stop"
    agree_anew(place)
    for status in ("under_review", "needs_response", "won"):
        hear(a_dispute(payment, 5000, status, dispute_id=dispute_id))
        assert topup(place) == (True, None)


@pytest.mark.parametrize(
    ("told", "enabled"),
    [(("won", "needs_response"), False), (("lost",), False), (("prevented",), True),
     (("warning_closed", "warning_needs_response"), True)],
)  # fmt: skip
def test_top_ups_end_as_off_in_any_order_of_a_disputes_life(
    place: Place, told: tuple[str, ...], enabled: bool
) -> None:
    payment, dispute_id = buy(place), f"du_{new_id().hex}"
    a_topup(place)
    for status in told:
        hear(a_dispute(payment, 5000, status, dispute_id=dispute_id))
    assert topup(place)[0] is enabled


def test_a_top_up_that_was_off_keeps_its_reason(place: Place) -> None:
    payment = buy(place)
    a_topup(place, enabled=False, stopped_reason="No card.")
    hear(a_dispute(payment, 5000))
    assert topup(place) == (False, "No card.")
    assert "topup.stop" not in audited(place.tenant_id)


def topup(place: Place) -> tuple[bool, str | None]:
    with db.transaction(BILLING) as session:
        row = session.get_one(AutoTopup, place.tenant_id)
        return row.enabled, row.stopped_reason


def agree_anew(place: Place) -> None:
    with db.transaction(BILLING) as session:
        row = session.get_one(AutoTopup, place.tenant_id)
        row.enabled, row.stopped_reason = True, None


_REFUND_LIVES = (("pending", "succeeded"), ("pending", "succeeded", "failed"), ("succeeded",),
                 ("requires_action", "canceled"))  # fmt: skip
_DISPUTE_LIVES = (("needs_response", "under_review", "won"), ("needs_response", "lost"),
                  ("warning_needs_response", "needs_response", "lost", "appeal_under_review",
                   "won"), ("warning_needs_response", "warning_closed"))  # fmt: skip
_TAKES = {"pending", "succeeded", "needs_response", "under_review", "lost", "appeal_under_review"}
_RANKED = ("requires_action", "pending", "succeeded", "failed", "canceled", "warning_needs_response",
           "warning_closed", "needs_response", "under_review", "appeal_under_review", "lost",
           "won")  # fmt: skip


@st.composite
def _stories(draw: st.DrawFn) -> list[tuple[str, str, int]]:
    """Any of the events of up to two refunds and two disputes, with copies, in any order."""
    told: list[tuple[str, str, int]] = []
    for kind, lives in (("re", _REFUND_LIVES), ("du", _DISPUTE_LIVES)):
        for number in range(draw(st.integers(0, 2))):
            amount_minor = draw(st.integers(1, 6000))
            life = draw(st.sampled_from(lives))
            told += [(f"{kind}{number}", status, amount_minor) for status in life]
    kept = draw(st.lists(st.sampled_from(told), max_size=12)) if told else []
    return draw(st.permutations(kept))


@given(story=_stories(), spent=st.integers(0, 54), late=st.booleans())
@settings(max_examples=30)
def test_any_order_of_any_of_it_ends_the_same(
    story: list[tuple[str, str, int]], spent: int, late: bool
) -> None:
    place, mark = make_place(credit_usd=0), new_id().hex
    payment = order_paid(place, 5413)
    if not late:
        fulfil(payment)
        if spent:
            spend(place, str(spent))
    last: dict[str, tuple[int, int]] = {}
    for name, status, amount_minor in story:
        if name.startswith("re"):
            hear(a_refund(payment, amount_minor, status, refund_id=f"{name}_{mark}"))
        else:
            hear(a_dispute(payment, amount_minor, status, dispute_id=f"{name}_{mark}"))
        last[name] = max(last.get(name, (-1, 0)), (_RANKED.index(status), amount_minor))
    if late:
        fulfil(payment)
        spent = 0
    gone = min(5413, sum(amount for rank, amount in last.values() if _RANKED[rank] in _TAKES))
    taken = 50 * USD * gone // 5413 + 5 * USD * gone // 5413
    found = wallet(place.tenant_id)
    assert found.posted_nusd == (55 - spent) * USD - taken
    assert found.debt_nusd == max(0, _owed(place.tenant_id))
    assert is_frozen(place.tenant_id) == any(
        _RANKED[rank] in {"needs_response", "under_review"} for rank, _ in last.values()
    )
    assert offences(place.tenant_id) == []


def _owed(tenant_id: UUID) -> int:
    """What the lots cannot cover of the balance, from the lots themselves."""
    with db.transaction(BILLING) as session:
        left = sum(lot.remaining_nusd for lot in ledger.lots(session, tenant_id, limit=None))
        return left - ledger.wallet(session, tenant_id).posted_nusd
