"""What was bought and paid, as the handlers of Stripe's events leave it; and what is asked of the
books afterwards."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import select, text

from core import db, invariants, telemetry
from core.billing import ledger, refunds
from core.billing.effects import Effect
from core.billing.ledger import BILLING
from core.billing.sales_tables import Fulfilment, Order, Payment
from core.billing.stripe_objects import Dispute, Refund
from core.billing.tables import Account, Entry
from core.db import new_id
from core.money import NANO_PER_USD
from core.quota import gate, standing
from core.quota.gate import Ask
from tests.factories import Place, make_model
from tests.quota.test_gate import close, cost

USD = NANO_PER_USD


def order_paid(place: Place, total_minor: int = 5000, *, bonus_nusd: int = 5 * USD) -> Payment:
    """The payment of a new order of 50 USD of credit and its bonus, not yet turned into credit."""
    with db.transaction(BILLING) as session:
        order = Order(
            tenant_id=place.tenant_id, order_id=new_id(), click_key=new_id().hex, kind="package",
            code="pro", title="Pro", price_minor=total_minor, credits_nusd=50 * USD,
            bonus_nusd=bonus_nusd, state="awaiting",
        )  # fmt: skip
        session.add(order)
        session.flush()
        payment = Payment(
            payment_intent_id=f"pi_{new_id().hex}", tenant_id=place.tenant_id,
            order_id=order.order_id, total_minor=total_minor, currency="usd",
        )  # fmt: skip
        session.add(payment)
    return payment


def fulfil(payment: Payment, *, expires_at: datetime | None = None) -> None:
    """Turn an order's payment into credit, as its session would."""
    stripe_id = f"cs_{new_id().hex}"
    with db.transaction(BILLING) as session:
        order = session.get_one(Order, (payment.tenant_id, payment.order_id))
        order.state = "fulfilled"
        session.add(
            Fulfilment(
                stripe_id=stripe_id, tenant_id=payment.tenant_id, kind="checkout_session",
                order_id=order.order_id, granted_nusd=order.credits_nusd + order.bonus_nusd,
            )
        )  # fmt: skip
        for suffix, amount_nusd in (("", order.credits_nusd), ("_bonus", order.bonus_nusd)):
            if amount_nusd:
                ledger.grant(
                    session, payment.tenant_id, amount_nusd, kind="promo" if suffix else "purchase",
                    key=stripe_id + suffix, actor="tests", reason="Pro", expires_at=expires_at,
                    source=("checkout_session" + suffix, stripe_id),
                )  # fmt: skip
        refunds.rebalance(session, payment, BILLING)


def buy(place: Place, total_minor: int = 5000, *, bonus_nusd: int = 5 * USD) -> Payment:
    """A paid and fulfilled order."""
    payment = order_paid(place, total_minor, bonus_nusd=bonus_nusd)
    fulfil(payment)
    return payment


def plan_paid(place: Place, total_minor: int, *lines: tuple[str, int]) -> Payment:
    """A paid invoice of a plan, whose lines or whole (by kind) brought credit."""
    invoice_id = f"in_{new_id().hex}"
    with db.transaction(BILLING) as session:
        payment = Payment(
            payment_intent_id=f"pi_{new_id().hex}", tenant_id=place.tenant_id, currency="usd",
            invoice_id=invoice_id, total_minor=total_minor,
        )  # fmt: skip
        session.add(payment)
        for kind, amount_nusd in lines:
            stripe_id = invoice_id if kind == "invoice" else f"il_{new_id().hex}"
            session.add(
                Fulfilment(
                    stripe_id=stripe_id, tenant_id=place.tenant_id, kind=kind,
                    invoice_id=invoice_id, granted_nusd=amount_nusd,
                )
            )  # fmt: skip
            ledger.grant(
                session, place.tenant_id, amount_nusd, kind="plan", key=stripe_id, actor="tests",
                reason="A month", source=(kind, stripe_id),
            )  # fmt: skip
    return payment


def spend(place: Place, usd: str) -> None:
    """A call of the tenant's person that costs `usd`."""
    asked = Ask("api", "test", prompt_tokens_guess=10, max_tokens=100)
    close(gate.open_call(standing.of_member(place.who, make_model()), asked), cost(usd))


def wallet(tenant_id: UUID) -> ledger.Wallet:
    with db.transaction(BILLING) as session:
        return ledger.wallet(session, tenant_id)


def is_frozen(tenant_id: UUID) -> bool:
    with db.transaction(BILLING) as session:
        return session.get_one(Account, tenant_id).frozen


def moves(tenant_id: UUID) -> list[tuple[str, int]]:
    """What was clawed back and given back, in order: kind and nano-USD."""
    with db.transaction(BILLING) as session:
        query = select(Entry.kind, Entry.amount_nusd).where(
            Entry.tenant_id == tenant_id, Entry.kind.in_(("revoke", "reinstate"))
        )
        return [(row.kind, row.amount_nusd) for row in session.execute(query.order_by(Entry.seq))]


def page_of(order: Order) -> str:
    """The id of the payment page that was opened for the order."""
    assert order.session_id is not None
    return order.session_id


def audited(tenant_id: UUID) -> list[str]:
    """The actions in the log that concern the tenant, oldest first."""
    with db.transaction(BILLING) as session:
        rows = text("select action from app.audit_log where of_tenant = :t order by audit_id")
        return list(session.scalars(rows, {"t": tenant_id}))


def offences(*tenant_ids: UUID) -> list[str]:
    """Which invariants these tenants' books break."""
    with db.transaction(BILLING) as session:
        ids = session.scalars(
            text(
                "select tenant_id::text from app.accounts where tenant_id = any(:t) union all"
                " select lot_id::text from app.lots where tenant_id = any(:t) union all"
                " select call_id::text from app.holds where tenant_id = any(:t) union all"
                " select order_id::text from app.orders where tenant_id = any(:t) union all"
                " select stripe_id from app.fulfilments where tenant_id = any(:t) union all"
                " select payment_intent_id from app.payments where tenant_id = any(:t)"
            ),
            {"t": list(tenant_ids)},
        ).all()
    with db.transaction(BILLING) as session:
        found = invariants.check(session)
    return [v.name for v in found if any(name in v.detail for name in ids)]


def a_refund(
    payment: Payment | None, amount_minor: int, status: str = "succeeded", *,
    refund_id: str | None = None, customer_id: str | None = None, currency: str = "usd",
) -> Refund:  # fmt: skip
    named = payment.payment_intent_id if payment else f"pi_{new_id().hex}"
    return Refund(
        refund_id or f"re_{new_id().hex}", status, currency, amount_minor, named, customer_id,
        None, {},
    )  # fmt: skip


def a_dispute(
    payment: Payment, amount_minor: int, status: str = "needs_response",
    *, dispute_id: str | None = None, currency: str = "usd",
) -> Dispute:  # fmt: skip
    return Dispute(
        dispute_id or f"du_{new_id().hex}", status, currency, amount_minor,
        payment.payment_intent_id, "fraudulent",
    )  # fmt: skip


def hear(found: Refund | Dispute) -> Effect:
    with db.transaction(BILLING) as session:
        if isinstance(found, Refund):
            return refunds.on_refund(session, found)
        return refunds.on_dispute(session, found)


def alarms(name: str) -> float:
    return telemetry.registry.get_sample_value("purser_alarms_total", {"name": name}) or 0
