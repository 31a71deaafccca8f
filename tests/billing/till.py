"""A Stripe in memory for what buying needs: pages, payments and prices, with idempotency keys.

It fails on demand, before or after it has done what it was asked. The wire and its formats are
tested with the stand-in server; here the question is what we make of each answer.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import select

from core import db
from core.billing import stripe_api, topups
from core.billing.ledger import BILLING
from core.billing.sales_tables import Order, StripeCustomer
from core.billing.stripe_api import CardDeclined, CheckoutAsk, MirroredPrice, StripeRefused
from core.billing.stripe_objects import CheckoutSession, PaymentIntent
from core.db import new_id
from tests.factories import TESTS, Place

CARD = "pm_card"


@dataclass(frozen=True, slots=True)
class Fault:
    """What the next call of that name ends with; `after`: once it was done."""

    call: str
    error: BaseException
    when: Literal["before", "after"] = "before"


@dataclass
class Till:
    """What happened at Stripe so far."""

    live: bool = False
    sandbox: bool = True
    webhook_secrets: tuple[str, ...] = ()
    asks: list[CheckoutAsk] = field(default_factory=list)
    sessions: dict[str, CheckoutSession] = field(default_factory=dict)
    intents: dict[str, PaymentIntent] = field(default_factory=dict)
    prices: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)
    declines: list[str] = field(default_factory=list)
    charge_status: str = "succeeded"
    _answers: dict[str, tuple[object, object]] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def create_customer(self, *, tenant_id: UUID, name: str, email: str, key: str) -> str:
        with self._called("create_customer"):
            return str(self._once(key, tenant_id, lambda: f"cus_{new_id().hex}"))

    def mirror_price(
        self, *, kind: str, code: str, title: str, price_minor: int, monthly: bool,
        again: bool = False,
    ) -> MirroredPrice:  # fmt: skip
        with self._called("mirror_price"):
            name = f"purser_{kind}_{code}"
            known = self.prices.setdefault(name, [])
            if again or not known or known[-1][1] != price_minor:
                known.append((f"price_{new_id().hex}", price_minor))
            return MirroredPrice(name, known[-1][0])

    def open_checkout(self, ask: CheckoutAsk) -> CheckoutSession:
        self.asks.append(ask)
        with self._called("open_checkout"):
            found = self._once(
                f"checkout:{ask.order_id}:{ask.attempt}", ask, lambda: self._page(ask)
            )
            assert isinstance(found, CheckoutSession)
            return found

    def checkout_session(self, session_id: str) -> CheckoutSession:
        with self._called("checkout_session"):
            if session_id not in self.sessions:
                raise StripeRefused("resource_missing", status=404)
            return self.sessions[session_id]

    def expire_session(self, session_id: str) -> CheckoutSession:
        with self._called("expire_session"):
            if self.sessions[session_id].status == "open":
                self.lapse(session_id)
            return self.sessions[session_id]

    def charge_off_session(
        self, *, tenant_id: UUID, order_id: UUID, customer_id: str, payment_method_id: str,
        amount_minor: int,
    ) -> PaymentIntent:  # fmt: skip
        with self._called("charge_off_session"):
            asked = (customer_id, payment_method_id, amount_minor)
            found = self._once(
                f"topup:{order_id}",
                asked,
                lambda: self._charge(order_id, customer_id, amount_minor),
            )
            assert isinstance(found, PaymentIntent)
            if found.status == "requires_payment_method":
                raise CardDeclined(
                    found.error_code or "", decline_code=found.decline_code,
                    payment_intent_id=found.payment_intent_id,
                )  # fmt: skip
            return found

    def payment_intent(self, payment_intent_id: str) -> PaymentIntent:
        with self._called("payment_intent"):
            return self.intents[payment_intent_id]

    def cancel_payment(self, payment_intent_id: str) -> PaymentIntent:
        with self._called("cancel_payment"):
            found = self.intents[payment_intent_id]
            if found.status == "succeeded":
                raise StripeRefused("payment_intent_unexpected_state", status=400)
            return self._set(replace(found, status="canceled"))

    # What people and banks do.

    def pay(self, session_id: str, **changes: Any) -> CheckoutSession:
        """The buyer pays on the page; `changes` replace what the session then says."""
        page = self.sessions[session_id]
        paid = replace(
            page, status="complete", payment_status="paid", url=None,
            payment_intent_id=f"pi_{new_id().hex}" if page.mode == "payment" else None,
            invoice_id=f"in_{new_id().hex}",
        )  # fmt: skip
        self.sessions[session_id] = replace(paid, **changes)
        return self.sessions[session_id]

    def lapse(self, session_id: str) -> CheckoutSession:
        self.sessions[session_id] = replace(self.sessions[session_id], status="expired", url=None)
        return self.sessions[session_id]

    def confirm_payment(self, payment_intent_id: str) -> PaymentIntent:
        found = self.intents[payment_intent_id]
        return self._set(replace(found, status="succeeded", received_minor=found.amount_minor))

    def paid_intents(self) -> list[PaymentIntent]:
        return [found for found in self.intents.values() if found.status == "succeeded"]

    @contextmanager
    def _called(self, name: str) -> Iterator[None]:
        with self._lock:
            self.calls[name] += 1
            fault = next((fault for fault in self.faults if fault.call == name), None)
            if fault is not None:
                self.faults.remove(fault)
            if fault is not None and fault.when == "before":
                raise fault.error
            yield
            if fault is not None:
                raise fault.error

    def _once(self, key: str, asked: object, make: Any) -> object:
        known = self._answers.get(key)
        if known is None:
            known = self._answers[key] = (asked, make())
        elif known[0] != asked:
            raise StripeRefused("idempotency_error", status=400)
        return known[1]

    def _page(self, ask: CheckoutAsk) -> CheckoutSession:
        amount_minor = ask.amount_minor or self._amount_of(ask.price_id)
        page = CheckoutSession(
            session_id=f"cs_test_{new_id().hex}", mode=ask.mode, status="open",
            payment_status="unpaid", currency="usd", subtotal_minor=amount_minor,
            total_minor=amount_minor, customer_id=ask.customer_id,
            client_reference_id=str(ask.order_id), payment_intent_id=None, subscription_id=None,
            invoice_id=None, url=f"https://pay.example/{new_id().hex}", live=False,
            metadata={"order_id": str(ask.order_id), "kind": ask.kind},
        )  # fmt: skip
        self.sessions[page.session_id] = page
        return page

    def _amount_of(self, price_id: str | None) -> int:
        with db.transaction(TESTS) as session:
            found = session.connection().exec_driver_sql(
                "select price_minor from app.offer_prices where price_id = %s", (price_id,)
            )
            return int(found.scalar_one())

    def _charge(self, order_id: UUID, customer_id: str, amount_minor: int) -> PaymentIntent:
        code = self.declines.pop(0) if self.declines else None
        status = "requires_payment_method" if code else self.charge_status
        return self._set(
            PaymentIntent(
                payment_intent_id=f"pi_{new_id().hex}", status=status, currency="usd",
                amount_minor=amount_minor, customer_id=customer_id, error_code=code,
                received_minor=amount_minor if status == "succeeded" else 0, decline_code=None,
                metadata={"order_id": str(order_id), "kind": "auto_topup"},
            )
        )  # fmt: skip

    def _set(self, found: PaymentIntent) -> PaymentIntent:
        self.intents[found.payment_intent_id] = found
        return found


@contextmanager
def open_till() -> Iterator[Till]:
    """A till that is this process's Stripe for the block."""
    till = Till()
    stripe_api.install(till)  # type: ignore[arg-type] # it has what buying uses
    try:
        yield till
    finally:
        stripe_api.install(None)


def save_card(place: Place, payment_method_id: str = CARD) -> str:
    """A customer of the tenant with a saved card; its id."""
    customer_id = f"cus_{new_id().hex}"
    with db.transaction(TESTS) as session:
        session.add(
            StripeCustomer(
                customer_id=customer_id, tenant_id=place.tenant_id, card="visa •••• 4242",
                payment_method_id=payment_method_id,
            )
        )  # fmt: skip
    return customer_id


def rested(place: Place) -> None:
    """Let the rest after a decline be over."""
    with db.transaction(BILLING) as session:
        for order in session.scalars(select(Order).where(Order.tenant_id == place.tenant_id)):
            if order.ended_at is not None:
                order.ended_at -= topups.REST
