"""Two purchases, what was spent of them, a refund, a dispute and an expiry: in any order they end the same.

The calls were admitted before anything else happened (a free model's hold is nothing), so that each may
be booked at any moment between the others.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from core import db
from core.billing import ledger
from core.billing.effects import Waits
from core.billing.ledger import BILLING
from core.db import new_id
from tests.billing.purchases import USD, a_dispute, a_refund, fulfil, hear, offences, order_paid
from tests.billing.wallets import Figures, figures
from tests.factories import make_model, make_place
from tests.quota.test_gate import close, cost, open_call

pytestmark = pytest.mark.usefixtures("database")

ORDERS = 12


class Tale:
    """A new tenant, and what may happen to it."""

    def __init__(self, spent_usd: tuple[str, ...], refund_minor: int, dispute: str | None) -> None:
        self.spent_usd, self.refund_minor, self.dispute = spent_usd, refund_minor, dispute
        self.place = make_place(credit_usd=0)
        free = make_model(terms={"prompt": "0", "completion": "0"}, free=True)
        self.calls = [open_call(self.place, free) for _ in self.spent_usd]
        self.first, self.second = (order_paid(self.place, bonus_nusd=0) for _ in range(2))
        self.refund_id, self.dispute_id = f"re_{new_id().hex}", f"du_{new_id().hex}"

    def events(self) -> list[Callable[[], object]]:
        told: list[Callable[[], object]] = [
            lambda: fulfil(self.first), lambda: fulfil(self.second), self._refund, self._refund,
        ]  # fmt: skip
        told += [self._spending(number) for number in range(len(self.calls))]
        if self.dispute:
            told += [self._dispute("needs_response"), self._dispute(self.dispute)]
        return told

    def end(self) -> tuple[Figures, int, bool]:
        """The wallet, what its lots have left, and whether a call may be made."""
        with db.transaction(BILLING) as session:
            lots = ledger.lots(session, self.place.tenant_id, limit=None)
            found = figures(session, self.place.tenant_id)
            frozen = bool(session.scalar(
                text("select frozen from app.accounts where tenant_id = :t"),
                {"t": self.place.tenant_id}))  # fmt: skip
        return found, sum(lot.remaining_nusd for lot in lots), found.debt == 0 and not frozen

    def _refund(self) -> None:
        found = a_refund(self.first, self.refund_minor, refund_id=self.refund_id)
        assert not isinstance(hear(found), Waits)

    def _dispute(self, status: str) -> Callable[[], object]:
        return lambda: hear(a_dispute(self.second, 5000, status, dispute_id=self.dispute_id))

    def _spending(self, number: int) -> Callable[[], object]:
        return lambda: close(self.calls[number], cost(self.spent_usd[number]))


@pytest.mark.parametrize("dispute", [None, "won", "lost"])
@pytest.mark.parametrize(
    ("spent_usd", "refund_minor"),
    [(("12.5",), 5000), (("12.5", "40"), 5000), (("30", "30"), 2500), (("70", "50"), 5000),
     ((), 5000)],
)  # fmt: skip
def test_any_order_ends_with_what_was_paid_for_less_what_was_spent(
    spent_usd: tuple[str, ...], refund_minor: int, dispute: str | None
) -> None:
    """50 and 50 USD, the first refunded, the second disputed: credit and debt are never both there."""
    dice = random.Random(f"{spent_usd}{refund_minor}{dispute}")
    tales = [Tale(spent_usd, refund_minor, dispute) for _ in range(ORDERS)]
    ends = set()
    for tale in tales:
        events = tale.events()
        dice.shuffle(events)
        for event in events:
            event()
            found, left, _ = tale.end()
            assert not (found.debt and left), "credit beside debt"
        ends.add(str(tale.end()))
    assert offences(*(tale.place.tenant_id for tale in tales)) == []
    spent = sum(int(float(usd) * USD) for usd in spent_usd)
    paid = 100 * USD - 50 * USD * refund_minor // 5000 - (50 * USD if dispute == "lost" else 0)
    balance = paid - spent
    expected = Figures(balance, 0, max(0, -balance), 0)
    assert ends == {str((expected, max(0, balance), balance >= 0))}


@pytest.mark.parametrize("refund_first", [True, False])
def test_an_expired_lot_nets_nothing_whichever_comes_first(refund_first: bool) -> None:
    """The second purchase expired unspent before the first is refunded, or was never swept yet."""
    tale = Tale(("12.5",), 5000, None)
    fulfil(tale.first)
    tale.events()[4]()
    fulfil(tale.second, expires_at=datetime.now(UTC) + timedelta(days=1))
    with db.transaction(BILLING) as session:
        session.execute(
            text("update app.lots set expires_at = now() - interval '1 s' where tenant_id = :t"
                 " and expires_at is not null"),
            {"t": tale.place.tenant_id},
        )  # fmt: skip
    steps: list[Callable[[], object]] = [tale._refund, lambda: _sweep(tale)]
    for step in steps if refund_first else reversed(steps):
        step()
    _sweep(tale)
    assert tale.end()[:2] == (Figures(-12_500_000_000, 0, 12_500_000_000, 0), 0)
    assert offences(tale.place.tenant_id) == []


def _sweep(tale: Tale) -> None:
    with db.transaction(BILLING) as session:
        session.execute(text("select verbs.expire_lots(:t)"), {"t": tale.place.tenant_id})
