"""What moves the merchant's balance, and its payouts. Cents; a fee is 2.9 % and 30 cents."""

from __future__ import annotations

from core.billing.sandbox import forms, lists
from core.billing.sandbox.refusals import Obj
from core.billing.sandbox.shapes import money as shapes
from core.billing.sandbox.world import Ask, World

AVAILABLE_AFTER_S = 2 * 86_400
DISPUTE_FEE = 1_500


def book_charge(world: World, charge: Obj) -> Obj:
    """A charge's money comes in."""
    fee = charge["amount"] * 29 // 1000 + 30
    return _book(world, charge["amount"], fee, charge, "charge", "charge", "Charge")


def book_refund(world: World, refund: Obj) -> Obj:
    """A refund's money goes out; the fee of its charge is not given back."""
    return _book(world, -refund["amount"], 0, refund, "refund", "refund", "Refund")


def book_failed_refund(world: World, refund: Obj) -> Obj:
    """A refund that came back."""
    return _book(
        world, refund["amount"], 0, refund, "refund_failure", "refund_failure", "Refund failure"
    )


def book_dispute(world: World, dispute: Obj) -> Obj:
    """A contested charge is withdrawn, with a fee."""
    return _book(
        world, -dispute["amount"], DISPUTE_FEE, dispute, "adjustment", "dispute",
        "Chargeback withdrawal", fee_name="Dispute fee",
    )  # fmt: skip


def book_won_dispute(world: World, dispute: Obj) -> Obj:
    """A contested charge comes back."""
    return _book(
        world, dispute["amount"], 0, dispute, "adjustment", "dispute_reversal",
        "Chargeback reversal",
    )  # fmt: skip


def list_moves(world: World, ask: Ask) -> Obj:
    """GET /v1/balance_transactions, also those of one payout."""
    payout, source = forms.text(ask.params, "payout"), forms.text(ask.params, "source")
    if payout:
        world.store.get("payout", payout, param="payout")
    found = world.store.where(
        "balance_transaction", _payout=payout, source=source, type=forms.text(ask.params, "type")
    )
    return lists.page(found, ask.params, ask.path)


def read_move(world: World, ask: Ask) -> Obj:
    """GET /v1/balance_transactions/{id}"""
    return world.store.get("balance_transaction", ask.ids["id"])


def list_payouts(world: World, ask: Ask) -> Obj:
    """GET /v1/payouts, also by the day of arrival."""
    found = world.store.where("payout", status=forms.text(ask.params, "status"))
    arrival = ask.params.get("arrival_date")
    if isinstance(arrival, dict):
        at_least = forms.whole(arrival, "gte") or forms.whole(arrival, "gt") or 0
        found = [payout for payout in found if payout["arrival_date"] >= at_least]
    return lists.page(found, ask.params, ask.path)


def read_payout(world: World, ask: Ask) -> Obj:
    """GET /v1/payouts/{id}"""
    return world.store.get("payout", ask.ids["id"])


def due_at(world: World) -> int | None:
    """The midnight at which there will be something to pay out."""
    waiting = [
        move["available_on"]
        for move in world.store.all("balance_transaction")
        if move["_payout"] is None
    ]
    return (min(waiting) // 86_400 + 1) * 86_400 if waiting else None


def pay_out(world: World, *, is_forced: bool = False) -> Obj | None:
    """Pay what is available (or everything) to the bank; None when nothing is positive."""
    now = world.now()
    moves = [
        move
        for move in world.store.all("balance_transaction")
        if move["_payout"] is None and (is_forced or move["available_on"] <= now)
    ]
    amount = sum(move["net"] for move in moves)
    if amount <= 0:
        for move in moves:  # looked at again with the next day's money
            move["available_on"] = now
        return None
    payout = shapes.payout(created=now, amount=amount, currency=moves[0]["currency"])
    own = shapes.balance_transaction(
        created=now, available_on=now, amount=-amount, fee=0, currency=payout["currency"],
        source=payout["id"], kind="payout", category="payout", description="STRIPE PAYOUT",
    )  # fmt: skip
    payout["balance_transaction"] = own["id"]
    for move in [*moves, own]:
        move |= {"_payout": payout["id"], "status": "available"}
    world.store.add(own)
    world.store.add(payout)
    for kind in ("payout.created", "payout.paid", "payout.reconciliation_completed"):
        world.emit(kind, payout)
    return payout


def _book(
    world: World, amount: int, fee: int, source: Obj, kind: str, category: str, what: str, *,
    fee_name: str = "Stripe processing fees",
) -> Obj:  # fmt: skip
    now = world.now()
    return world.store.add(
        shapes.balance_transaction(
            created=now, available_on=now + AVAILABLE_AFTER_S, amount=amount, fee=fee,
            currency=source["currency"], source=source["id"], kind=kind, category=category,
            description=f"{what} for {source.get('charge', source['id'])}", fee_name=fee_name,
        )
    )  # fmt: skip
