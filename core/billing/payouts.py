"""Compares each payout to our bank with our books: every movement in it, and their sum.

Charges less refunds, disputes and fees must be what was paid out, and each must be a payment or a
claw-back of ours. It changes no wallet; what does not match is noted as a difference.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, TypeAlias
from uuid import UUID

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core import db
from core.billing import customers, differences, stripe_api
from core.billing.differences import Difference
from core.billing.ledger import BILLING
from core.billing.sales_tables import ClawBack, Payment
from core.billing.stripe_api import BalanceTransaction, Payout, StripeRefused
from core.billing.stripe_tables import StripePayout

WINDOW = timedelta(days=7)
Sort: TypeAlias = Literal["charge", "refund", "dispute", "fee", "other"]
_SORTS: dict[str, Sort] = {
    "charge": "charge", "payment": "charge",
    "refund": "refund", "payment_refund": "refund", "refund_failure": "refund",
    "payment_failure_refund": "refund",
    "dispute": "dispute", "dispute_reversal": "dispute",
    "fee": "fee", "stripe_fee": "fee", "network_cost": "fee", "tax_fee": "fee",
}  # fmt: skip
_THE_PAYOUT_ITSELF = "payout"


@dataclass(frozen=True, slots=True)
class Compared:
    """One payout's outcome: what differed, and how many movements were not ours at all."""

    differences: tuple[Difference, ...]
    foreign: int


def compare_since(at: datetime) -> tuple[Compared, ...]:
    """Compare every payout since `at`. Opens its own transactions; raises StripeDown."""
    return tuple(_compare(payout) for payout in stripe_api.current().payouts_since(at))


def _compare(payout: Payout) -> Compared:
    listed = stripe_api.current().balance_transactions(payout.payout_id)
    movements = [m for m in listed if m.category != _THE_PAYOUT_ITSELF]
    owners = _owners(movements)
    found: list[Difference] = []
    agreed: list[str] = []
    foreign = 0
    with db.transaction(BILLING) as session:
        for movement in movements:
            trouble = _trouble(session, movement)
            if trouble is None:
                agreed.append(movement.id)
            elif (owner := owners.get(movement.id)) is None and movement.id in owners:
                foreign += 1
                agreed.append(movement.id)
            else:
                found.append(_differing(movement, trouble, owner))
        for difference in found:
            differences.note(session, difference)
        differences.resolve(session, "movement", agreed)
        found += _sum_up(session, payout, movements)
    return Compared(tuple(found), foreign)


def _owners(movements: Iterable[BalanceTransaction]) -> dict[str, UUID | None]:
    """For each movement that matches nothing: whose customer paid; None where a stranger did.

    A movement that leads to no payment is absent. Asks Stripe, hence outside the transaction.
    """
    with db.transaction(BILLING) as session:
        unmatched = [m for m in movements if _trouble(session, m) is not None]
    paid_by: dict[str, str | None] = {}
    for movement in unmatched:
        if movement.payment_intent_id is None:
            continue
        with contextlib.suppress(StripeRefused):  # no such payment: nobody can be named
            payment = stripe_api.current().payment_intent(movement.payment_intent_id)
            paid_by[movement.id] = payment.customer_id
    with db.transaction(BILLING) as session:
        return {key: customers.tenant_of(session, c) for key, c in paid_by.items()}


def _trouble(session: Session, movement: BalanceTransaction) -> str | None:
    """Why a movement is not in our books as Stripe has it; None when it is, or needs not be."""
    sort = _sort(movement)
    if sort == "charge":
        return _charge_trouble(session, movement)
    if sort in {"refund", "dispute"}:
        return _claw_back_trouble(session, movement)
    return None


def _charge_trouble(session: Session, movement: BalanceTransaction) -> str | None:
    payment = session.get(Payment, movement.payment_intent_id or "")
    if payment is None:
        return "no payment of ours bears this payment's id"
    if payment.total_minor != movement.amount_minor and payment.currency == movement.currency:
        return f"our payment is over {payment.total_minor}"
    return None


def _claw_back_trouble(session: Session, movement: BalanceTransaction) -> str | None:
    row = session.get(ClawBack, movement.source_id or "")
    if row is None:
        return "no refund or dispute of ours bears this id"
    if abs(movement.amount_minor) != row.amount_minor:
        return f"our {row.kind} is over {row.amount_minor}"
    if movement.amount_minor < 0 and not row.counts and row.status not in {"failed", "won"}:
        return f"our {row.kind} is {row.status} and does not count"
    return None


def _differing(movement: BalanceTransaction, cause: str, owner: UUID | None) -> Difference:
    return Difference(
        "movement", movement.id, owner, ours="not matched",
        theirs=f"{movement.category} {movement.amount_minor} of {movement.source_id}", cause=cause,
    )  # fmt: skip


def _sum_up(
    session: Session, payout: Payout, movements: Iterable[BalanceTransaction]
) -> list[Difference]:
    """Store the payout with its sums; a difference when they do not make up what was paid."""
    sums: Counter[Sort] = Counter()
    for movement in movements:
        sums[_sort(movement)] += movement.amount_minor
        sums["fee"] -= movement.fee_minor
    values = {
        "currency": payout.currency, "paid_minor": payout.amount_minor,
        "charges_minor": sums["charge"], "refunds_minor": -sums["refund"],
        "disputes_minor": -sums["dispute"], "fees_minor": -sums["fee"],
        "other_minor": sums["other"], "arrived_at": payout.arrived_at,
    }  # fmt: skip
    session.execute(
        insert(StripePayout)
        .values(payout_id=payout.payout_id, **values)
        .on_conflict_do_update(
            index_elements=["payout_id"], set_=values | {"checked_at": func.now()}
        )
    )
    total = sum(sums.values())
    if total == payout.amount_minor:
        differences.resolve(session, "payout", [payout.payout_id])
        return []
    differs = Difference(
        "payout", payout.payout_id, None, ours=str(total), theirs=str(payout.amount_minor),
        cause="its movements do not add up to it",
    )  # fmt: skip
    differences.note(session, differs)
    return [differs]


def _sort(movement: BalanceTransaction) -> Sort:
    return _SORTS.get(movement.category, "other")
