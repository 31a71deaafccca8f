"""How an invoice is paid: at once, again after days, by its page; and what its failing does."""

from __future__ import annotations

from core.billing.sandbox import invoices, payments, people, standing
from core.billing.sandbox.refusals import Obj, Refused
from core.billing.sandbox.world import Ask, World

RETRY_DAYS = (3, 5, 7)  # after the first, second and third failure; the fourth is the last
_PAGE_SECONDS = 23 * 3_600  # how long a first invoice or a change waits for its payment


def pay(world: World, ask: Ask) -> Obj:
    """POST /v1/invoices/{id}/pay. Raises Refused (402) when the card says no."""
    invoice = world.store.get("invoice", ask.ids["id"])
    refused = attempt(world, invoice, is_off_session=True)
    if refused is not None:
        raise refused
    return invoice


def collect(world: World, invoice: Obj, *, days_until_due: int | None = None) -> None:
    """Make the invoice final and try to get its money, or send it."""
    invoices.finalize(world, invoice, days_until_due=days_until_due)
    if invoice["amount_due"] == 0:
        settle(world, invoice, None)
    elif invoice["collection_method"] == "send_invoice":
        world.emit("invoice.sent", invoice)
    else:
        attempt(world, invoice, is_off_session=True)


def attempt(
    world: World, invoice: Obj, *, is_off_session: bool, method: Obj | None = None,
    is_authenticated: bool = False,
) -> Refused | None:  # fmt: skip
    """Charge what is owed; the refusal is returned, for a failed attempt is a fact, not an end."""
    if invoice["status"] != "open":
        return Refused(400, f"Invoice is {invoice['status']}.", code="invoice_not_editable")
    subscription = world.store.maybe("subscription", invoice["_subscription"])
    named = subscription["default_payment_method"] if subscription else None
    method = method or people.paying_method(world, invoice["customer"], named)
    intent = _intent_of(world, invoice)
    invoice["attempted"] = True
    invoice["attempt_count"] += 1
    refused: Refused | None
    if method is None:
        refused = Refused(402, "This customer has no attached payment method.",
                          kind="card_error", code="resource_missing", is_kept=True)  # fmt: skip
    else:
        refused = _charge(world, intent, method, is_off_session, is_authenticated)
    if refused is None:
        settle(world, invoice, intent)
    else:
        _fail(world, invoice, subscription, refused)
    return refused


def settle(world: World, invoice: Obj, intent: Obj | None) -> None:
    """It is paid; the subscription that waited for it goes on."""
    invoices.mark_paid(world, invoice, intent)
    subscription = world.store.maybe("subscription", invoice["_subscription"])
    if subscription is None or subscription["status"] in standing.ENDED:
        return
    waiting = subscription.get("_pending")
    if waiting and waiting["invoice"] == invoice["id"]:
        price = world.store.get("price", waiting["price"])
        del subscription["_pending"]
        subscription["pending_update"] = None
        standing.set_price(world, subscription, price, waiting["quantity"])
    owed = world.store.where("invoice", _subscription=subscription["id"], status="open")
    if subscription["status"] in {"incomplete", "past_due", "unpaid"} and not owed:
        standing.change(world, subscription, status="active")


def give_up(world: World, subscription: Obj) -> None:
    """A first payment or a change that waited too long is called off."""
    waiting = subscription.get("_pending")
    invoice_id = waiting["invoice"] if waiting else subscription["latest_invoice"]
    invoice = world.store.maybe("invoice", invoice_id)
    if invoice is not None and invoice["status"] == "open":
        invoices.void(world, invoice)
    if waiting:
        del subscription["_pending"]
        standing.change(world, subscription, pending_update=None)
    else:
        standing.change(world, subscription, status="incomplete_expired", ended_at=world.now())


def waits_until(world: World) -> int:
    """When a change that is not paid is called off."""
    return world.now() + _PAGE_SECONDS


def _charge(
    world: World, intent: Obj, method: Obj, is_off_session: bool, is_authenticated: bool  # noqa: FBT001
) -> Refused | None:  # fmt: skip
    try:
        payments.confirm(
            world, intent, method, is_off_session=is_off_session, is_authenticated=is_authenticated
        )
    except Refused as refused:
        return refused
    return None


def _intent_of(world: World, invoice: Obj) -> Obj:
    for payment in world.store.where("invoice_payment", invoice=invoice["id"]):
        intent = world.store.get("payment_intent", payment["_intent"])
        if intent["status"] not in {"succeeded", "canceled"}:
            return intent
    customer = world.store.get("customer", invoice["customer"])
    intent = payments.begin(
        world, amount=invoice["amount_due"], currency=invoice["currency"], customer=customer,
        metadata={}, description="Subscription update" if invoice["_subscription"] else None,
    )  # fmt: skip
    invoices.payment_of(world, invoice, intent)
    return intent


def _fail(world: World, invoice: Obj, subscription: Obj | None, refused: Refused) -> None:
    failures = invoice["attempt_count"]
    retries = invoice["billing_reason"] == "subscription_cycle"
    is_last = not retries or failures > len(RETRY_DAYS)
    next_at = None if is_last else world.now() + RETRY_DAYS[failures - 1] * 86_400
    invoice |= {"next_payment_attempt": next_at, "auto_advance": not is_last}
    if refused.error.get("code") == "authentication_required":
        world.emit("invoice.payment_action_required", invoice)
    world.emit("invoice.payment_failed", invoice)
    if subscription is None or not retries:
        return
    if is_last:
        standing.cancel(world, subscription, "payment_failed")
    elif subscription["status"] in {"active", "trialing"}:
        standing.change(world, subscription, status="past_due")
