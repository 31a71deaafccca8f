"""Refunds, disputes and early fraud warnings: money that goes back, and who starts it."""

from __future__ import annotations

from core.billing.sandbox import balance, forms, lists
from core.billing.sandbox.refusals import Obj, Refused, wrong
from core.billing.sandbox.shapes import money as shapes
from core.billing.sandbox.world import Ask, World

_REASONS = {None, "duplicate", "fraudulent", "requested_by_customer"}


def create(world: World, ask: Ask) -> Obj:
    """POST /v1/refunds: the rest of a payment, or a part of it."""
    charge = _charge_asked(world, ask.params)
    reason = forms.text(ask.params, "reason")
    if reason not in _REASONS:
        raise wrong("reason", "Invalid reason: must be one of duplicate, fraudulent, or"
                    " requested_by_customer")  # fmt: skip
    return refund(
        world, charge, forms.whole(ask.params, "amount"), reason=reason,
        metadata=forms.metadata(ask.params),
    )  # fmt: skip


def refund(
    world: World, charge: Obj, amount: int | None, *, reason: str | None, metadata: Obj
) -> Obj:
    """Give money back. Raises Refused when there is not so much left to give."""
    rest = charge["amount"] - charge["amount_refunded"]
    if charge["status"] != "succeeded":
        raise Refused(400, f"Charge {charge['id']} cannot be refunded as it is not paid.",
                      code="charge_not_refundable", param="charge")  # fmt: skip
    if charge["disputed"]:
        raise Refused(400, f"Charge {charge['id']} has been charged back; cannot issue a refund.",
                      code="charge_disputed")  # fmt: skip
    if rest == 0:
        raise Refused(400, f"Charge {charge['id']} has already been refunded.",
                      code="charge_already_refunded")  # fmt: skip
    if amount is not None and not 0 < amount <= rest:
        raise wrong("amount", f"Refund amount ({amount}) is not between 1 and the unrefunded"
                    f" amount on charge ({rest})", "amount_too_large")  # fmt: skip
    made = shapes.refund(
        created=world.now(), amount=amount or rest, of=charge, reason=reason, metadata=metadata
    )
    made["balance_transaction"] = balance.book_refund(world, made)["id"]
    world.store.add(made)
    charge["amount_refunded"] += made["amount"]
    charge["refunded"] = charge["amount_refunded"] == charge["amount"]
    world.emit("refund.created", made)
    world.emit("charge.refunded", charge)
    return made


def read(world: World, ask: Ask) -> Obj:
    """GET /v1/refunds/{id}"""
    return world.store.get("refund", ask.ids["id"])


def list_refunds(world: World, ask: Ask) -> Obj:
    """GET /v1/refunds"""
    found = world.store.where(
        "refund", charge=forms.text(ask.params, "charge"),
        payment_intent=forms.text(ask.params, "payment_intent"),
    )  # fmt: skip
    return lists.page(found, ask.params, ask.path)


def fail(world: World, refund_id: str) -> Obj:
    """The bank sent a refund back: the money is the merchant's again."""
    found = world.store.get("refund", refund_id)
    if found["status"] not in {"pending", "succeeded"}:
        raise Refused(400, f"The refund is {found['status']} already.")
    charge = world.store.get("charge", found["charge"])
    before = {"status": found["status"]}
    back = balance.book_failed_refund(world, found)
    found |= {
        "status": "failed", "failure_reason": "lost_or_stolen_card",
        "failure_balance_transaction": back["id"],
    }  # fmt: skip
    charge["amount_refunded"] -= found["amount"]
    charge["refunded"] = False
    world.emit("refund.updated", found, before)
    world.emit("refund.failed", found)
    return found


def dispute(world: World, intent_id: str, *, reason: str = "fraudulent") -> Obj:
    """The card's holder contests a payment: its money and a fee are gone at once."""
    charge = _charge_of(world, intent_id)
    if charge["disputed"]:
        raise Refused(400, "The charge is disputed already.")
    made = shapes.dispute(created=world.now(), of=charge, reason=reason)
    made["balance_transactions"].append(balance.book_dispute(world, made))
    charge["disputed"] = True
    world.store.add(made)
    world.emit("charge.dispute.created", made)
    world.emit("charge.dispute.funds_withdrawn", made)
    return made


def close_dispute(world: World, dispute_id: str, *, is_won: bool) -> Obj:
    """The bank decided."""
    found = world.store.get("dispute", dispute_id)
    if found["status"] in {"won", "lost"}:
        raise Refused(400, f"The dispute is {found['status']} already.")
    found["status"] = "won" if is_won else "lost"
    if is_won:
        found["balance_transactions"].append(balance.book_won_dispute(world, found))
        world.emit("charge.dispute.funds_reinstated", found)
    world.emit("charge.dispute.closed", found)
    return found


def read_dispute(world: World, ask: Ask) -> Obj:
    """GET /v1/disputes/{id}"""
    return world.store.get("dispute", ask.ids["id"])


def list_disputes(world: World, ask: Ask) -> Obj:
    """GET /v1/disputes"""
    intent_id = forms.text(ask.params, "payment_intent")
    return lists.page(world.store.where("dispute", payment_intent=intent_id), ask.params, ask.path)


def warn_of_fraud(world: World, intent_id: str) -> Obj:
    """The card's network warns before there is a dispute."""
    warning = shapes.fraud_warning(created=world.now(), of=_charge_of(world, intent_id))
    world.store.add(warning)
    world.emit("radar.early_fraud_warning.created", warning)
    return warning


def read_warning(world: World, ask: Ask) -> Obj:
    """GET /v1/radar/early_fraud_warnings/{id}"""
    return world.store.get("radar.early_fraud_warning", ask.ids["id"])


def _charge_asked(world: World, params: Obj) -> Obj:
    intent_id = forms.text(params, "payment_intent")
    if intent_id:
        return _charge_of(world, intent_id)
    return world.store.get("charge", forms.needed(params, "charge"), param="charge")


def _charge_of(world: World, intent_id: str) -> Obj:
    intent = world.store.get("payment_intent", intent_id, param="payment_intent")
    charge = world.store.maybe("charge", intent["latest_charge"])
    if charge is None:
        message = f"This PaymentIntent ({intent_id}) does not have a successful charge to refund."
        raise Refused(400, message, code="payment_intent_unexpected_state")
    return charge
