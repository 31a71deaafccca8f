"""What a test or a demonstration may order of the stand-in that no API of Stripe's offers."""

from __future__ import annotations

import random
from collections.abc import Iterable

from core.billing.sandbox import (
    balance,
    clockwork,
    invoice_page,
    meters,
    paying,
    people,
    refunds,
    standing,
)
from core.billing.sandbox.refusals import Obj, wrong
from core.billing.sandbox.sender import Hear, pump
from core.billing.sandbox.store import public
from core.billing.sandbox.world import Fault, Observer, SenderHabits, World

_FAULTS = {"409", "429", "500", "500_kept", "timeout", "reset", "lost"}


class Control:
    """The hand on one stand-in. Every act is alone with its state; ids are Stripe's."""

    def __init__(self, world: World) -> None:
        self.world = world

    def pay(self, session_id: str, how: str = "card", *, code: str | None = None) -> Obj:
        """The buyer acts on the payment page: card, authenticated, declined, bank_debit, free.

        Raises Refused when the card is declined or the session is over.
        """
        with self.world.changing():
            session = self.world.store.get("checkout.session", session_id)
            code = code or ("FREE100" if how == "free" else None)
            return _shown(paying.complete(self.world, session, how, code=code))

    def settle_debit(self, intent_id: str, is_ok: bool) -> Obj:  # noqa: FBT001
        """The bank's answer to a debit under way."""
        with self.world.changing():
            intent = self.world.store.get("payment_intent", intent_id)
            return _shown(paying.finish_debit(self.world, intent, is_ok=is_ok))

    def advance(self, seconds: int) -> None:
        """Let time pass, with all that falls due."""
        with self.world.changing():
            clockwork.advance(self.world, seconds)

    def renew(self, subscription_id: str) -> Obj:
        """Let time pass to just after the renewal's invoice is final; returns the subscription."""
        with self.world.changing():
            found = self.world.store.get("subscription", subscription_id)
            end = standing.the_item(found)["current_period_end"]
            clockwork.advance(self.world, end + clockwork.DRAFT_S + 60 - self.world.now())
            return _shown(found)

    def give_card(self, customer_id: str, name: str = "pm_card_visa") -> str:
        """The buyer's card from now on, one of people.CARDS. Returns its id."""
        with self.world.changing():
            customer = people.living_customer(self.world, customer_id)
            method = people.attach(
                self.world, people.method_named(self.world, name, customer), customer
            )
            clockwork.set_default_card(self.world, customer, method)
            return str(method["id"])

    def pay_invoice(self, invoice_id: str, how: str = "card") -> bool:
        """The buyer pays on the invoice's page; how: card, authenticate."""
        with self.world.changing():
            invoice = self.world.store.get("invoice", invoice_id)
            return invoice_page.pay(self.world, invoice, how)

    def refund(self, intent_id: str, amount_minor: int | None = None) -> Obj:
        """A refund from the dashboard, without any metadata of ours."""
        with self.world.changing():
            intent = self.world.store.get("payment_intent", intent_id)
            charge = self.world.store.get("charge", intent["latest_charge"])
            reason = "requested_by_customer"
            return _shown(
                refunds.refund(self.world, charge, amount_minor, reason=reason, metadata={})
            )

    def fail_refund(self, refund_id: str) -> Obj:
        """The bank sends a refund back."""
        with self.world.changing():
            return _shown(refunds.fail(self.world, refund_id))

    def dispute(self, intent_id: str) -> Obj:
        """The card's holder contests a payment."""
        with self.world.changing():
            return _shown(refunds.dispute(self.world, intent_id))

    def close_dispute(self, dispute_id: str, won: bool) -> Obj:  # noqa: FBT001
        """The bank decides."""
        with self.world.changing():
            return _shown(refunds.close_dispute(self.world, dispute_id, is_won=won))

    def warn_of_fraud(self, intent_id: str) -> Obj:
        """The card's network warns."""
        with self.world.changing():
            return _shown(refunds.warn_of_fraud(self.world, intent_id))

    def pay_out(self) -> Obj | None:
        """Pay everything to the merchant's bank, now; None when there is nothing."""
        with self.world.changing():
            payout = balance.pay_out(self.world, is_forced=True)
            return None if payout is None else _shown(payout)

    def report_meter_error(self, meter_id: str) -> None:
        """Send the thin event that says that usage was not understood."""
        with self.world.changing():
            meter = self.world.store.get("billing.meter", meter_id)
            meters.report(self.world, meter, "meter_event_customer_not_found")

    def fail_next(self, path: str, kind: str, times: int = 1) -> None:
        """The next requests whose path starts so go wrong: 409, 429, 500 (not kept under the key),
        500_kept, timeout, reset (nothing was done), lost (it was done, the answer is lost)."""
        if kind not in _FAULTS:
            raise wrong("kind", f"No such fault; there are {', '.join(sorted(_FAULTS))}.")
        with self.world.lock:
            self.world.faults.append(Fault(path, kind, times))

    def sender(
        self, *, copies: int = 1, is_reordering: bool = False, delay_s: int = 0,
        drop: Iterable[str] = (), secrets: tuple[str, ...] | None = None,
    ) -> None:  # fmt: skip
        """How events made from now on are told; `drop` are types (or "*") nobody will be told of,
        `secrets` are all that the sender signs with."""
        with self.world.lock:
            self.world.habits = SenderHabits(copies, is_reordering, delay_s, frozenset(drop))
            self.world.secrets = secrets or self.world.secrets

    def deliver(self, hear: Hear, *, seed: int | None = None) -> int:
        """Tell `hear` of everything that waits, now and in this thread. Returns the count."""
        shuffle = None if seed is None else random.Random(seed)  # noqa: S311 - order, not a secret
        return pump(self.world, hear, shuffle=shuffle)

    def observe(self, observer: Observer) -> None:
        """Be told of every request and its answer."""
        with self.world.lock:
            self.world.observers.append(observer)

    def event(self, kind: str) -> list[Obj]:
        """Every event of that type so far, oldest first."""
        with self.world.lock:
            return [_shown(event) for event in self.world.store.where("event", type=kind)]

    def objects(self, kind: str) -> list[Obj]:
        """Every object of that kind so far, oldest first."""
        with self.world.lock:
            return [_shown(thing) for thing in self.world.store.all(kind)]


def _shown(thing: Obj) -> Obj:
    shown: Obj = public(thing)
    return shown
