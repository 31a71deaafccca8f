"""What is kept of refunds and disputes: the latest of their life, whatever came last."""

from __future__ import annotations

from itertools import permutations

import pytest
from sqlalchemy.orm import Session

from core.billing import claw_backs
from core.billing.claw_backs import Heard, Kind
from core.billing.sales_tables import ClawBack
from core.db import new_id
from tests.billing.purchases import order_paid
from tests.factories import make_place

pytestmark = pytest.mark.usefixtures("database")


@pytest.mark.parametrize(
    ("kind", "lived", "counts"),
    [("refund", ("requires_action", "pending", "succeeded"), True),
     ("refund", ("pending", "succeeded", "failed"), False),
     ("refund", ("pending", "canceled"), False),
     ("dispute", ("needs_response", "under_review", "lost"), True),
     ("dispute", ("under_review", "won", "lost"), False),
     ("dispute", ("warning_under_review", "warning_closed"), False),
     ("dispute", ("warning_closed", "needs_response"), True),
     ("dispute", ("needs_response", "prevented"), False)],
)  # fmt: skip
def test_every_order_ends_in_one_row(
    session: Session, kind: Kind, lived: tuple[str, ...], counts: bool
) -> None:
    payment = order_paid(make_place(credit_usd=0))
    ends = set()
    for told in permutations((*lived, lived[0])):
        stripe_id = new_id().hex
        for status in told:
            claw_backs.hear(session, payment, Heard(kind, stripe_id, status, 100, None))
        row = session.get_one(ClawBack, stripe_id)
        ends.add((row.status, row.amount_minor, row.counts))
    assert len(ends) == 1
    assert ends.pop()[2] is counts


def test_of_two_amounts_the_higher_one_is_kept(session: Session) -> None:
    payment = order_paid(make_place(credit_usd=0))
    for amounts in ((100, 300, 200), (300, 200, 100)):
        stripe_id = new_id().hex
        for amount_minor in amounts:
            claw_backs.hear(
                session, payment, Heard("dispute", stripe_id, "lost", amount_minor, None)
            )
        assert session.get_one(ClawBack, stripe_id).amount_minor == 300


def test_a_copy_changes_nothing_and_says_so(session: Session) -> None:
    payment = order_paid(make_place(credit_usd=0))
    heard = Heard("refund", new_id().hex, "pending", 100, None)
    assert claw_backs.hear(session, payment, heard)
    assert not claw_backs.hear(session, payment, heard)


def test_what_is_counted_never_exceeds_what_was_paid(session: Session) -> None:
    payment = order_paid(make_place(credit_usd=0), 250)
    for _ in range(3):
        claw_backs.hear(session, payment, Heard("refund", new_id().hex, "succeeded", 100, None))
    assert claw_backs.counted_minor(session, payment) == 250


def test_a_status_nobody_knows_is_not_guessed_at() -> None:
    assert not Heard("refund", "re_1", "lost", 1, None).is_known
    assert Heard("dispute", "du_1", "lost", 1, None).is_known
