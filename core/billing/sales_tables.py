"""Tables of what is sold and how it was paid: offers, orders, Stripe's objects as far as we need them.

The ledger's own tables are in tables.py. Amounts of money paid are in cents (`*_minor`), credit in
nano-USD. What Stripe names once is a once-only fact: keyed by Stripe's id alone, for all tenants.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    SmallInteger,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from core.billing.tables import Account
from core.db import Base, new_id
from core.identity.tables import Plan, Tenant

_ONCE = "once-only fact: keyed by Stripe's id alone"
ORDER_PENDING = ("open", "awaiting", "needs_action")


class BillingTerms(Base):
    """The house's terms, one row: when a balance is low, and what a second operator must approve."""

    __tablename__ = "billing_terms"
    one_row: Mapped[bool] = mapped_column(primary_key=True, server_default="true")
    low_balance_nusd: Mapped[int] = mapped_column(BigInteger)
    approval_above_nusd: Mapped[int] = mapped_column(BigInteger)
    __table_args__ = (CheckConstraint("one_row", name="one_row"),)


class Package(Base):
    """Credit for sale; operators change the row. What was sold before keeps its own terms."""

    __tablename__ = "packages"
    package_code: Mapped[str] = mapped_column(Text, primary_key=True)
    title: Mapped[str] = mapped_column(Text)
    price_minor: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(Text, server_default="usd")
    credits_nusd: Mapped[int] = mapped_column(BigInteger)
    bonus_nusd: Mapped[int] = mapped_column(BigInteger, server_default="0")
    expires_after_days: Mapped[int | None]
    bonus_expires_after_days: Mapped[int | None]
    badge: Mapped[str | None] = mapped_column(Text)
    features: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{}")
    rank: Mapped[int] = mapped_column(SmallInteger)
    active: Mapped[bool] = mapped_column(server_default="true")
    __table_args__ = (
        CheckConstraint("price_minor > 0 and credits_nusd > 0 and bonus_nusd >= 0", name="amounts"),
        CheckConstraint("currency = 'usd'", name="currency"),
    )


class PlanOffer(Base):
    """What a plan costs and which credit it brings each month; what it allows is in plan_limits."""

    __tablename__ = "plan_offers"
    plan: Mapped[str] = mapped_column(ForeignKey(Plan.plan), primary_key=True)
    price_minor: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(Text, server_default="usd")
    allowance_nusd: Mapped[int] = mapped_column(BigInteger)
    grace_days: Mapped[int] = mapped_column(server_default="3")
    badge: Mapped[str | None] = mapped_column(Text)
    features: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{}")
    active: Mapped[bool] = mapped_column(server_default="true")
    __table_args__ = (
        CheckConstraint("price_minor >= 0 and allowance_nusd >= 0", name="amounts"),
        CheckConstraint("currency = 'usd'", name="currency"),
    )


class OfferPrice(Base):
    """One version of an offer as Stripe knows it. Never changed: what was sold keeps its terms."""

    __tablename__ = "offer_prices"
    price_id: Mapped[str] = mapped_column(Text, primary_key=True)
    kind: Mapped[str] = mapped_column(Text)
    code: Mapped[str] = mapped_column(Text)
    product_id: Mapped[str] = mapped_column(Text)
    price_minor: Mapped[int] = mapped_column(BigInteger)
    credits_nusd: Mapped[int] = mapped_column(BigInteger)
    current: Mapped[bool] = mapped_column(server_default="true")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (
        CheckConstraint("kind in ('package', 'plan', 'usage')", name="kind"),
        Index("offer_prices_current_key", "kind", "code", unique=True,
              postgresql_where=text("current")),
    )  # fmt: skip


class StripeCustomer(Base):
    """Which tenant a Stripe customer is, and the card it pays with. One live customer per tenant."""

    __tablename__ = "stripe_customers"
    customer_id: Mapped[str] = mapped_column(Text, primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey(Tenant.tenant_id))
    payment_method_id: Mapped[str | None] = mapped_column(Text)
    card: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    deleted_at: Mapped[datetime | None]
    __table_args__ = (
        Index("stripe_customers_live_key", "tenant_id", unique=True,
              postgresql_where=text("deleted_at is null")),
        {"comment": _ONCE},
    )  # fmt: skip


class Order(Base):
    """Something a tenant set out to buy, with the terms it was offered. Exists before any payment.

    open -> awaiting (delayed payment) -> fulfilled | failed; open -> expired | canceled; a top-up may
    be needs_action (the bank wants the buyer); review: paid, but not what was ordered, until an
    operator ends it (canceled, `reviewed_at`), after which nothing pays for it any more.
    """

    __tablename__ = "orders"
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey(Account.tenant_id), primary_key=True)
    order_id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    click_key: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(Text)
    code: Mapped[str] = mapped_column(Text)
    title: Mapped[str] = mapped_column(Text)
    price_id: Mapped[str | None] = mapped_column(Text)
    price_minor: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(Text, server_default="usd")
    credits_nusd: Mapped[int] = mapped_column(BigInteger)
    bonus_nusd: Mapped[int] = mapped_column(BigInteger, server_default="0")
    expires_after_days: Mapped[int | None]
    bonus_expires_after_days: Mapped[int | None]
    state: Mapped[str] = mapped_column(Text, server_default="open")
    reason: Mapped[str | None] = mapped_column(Text)
    attempt: Mapped[int] = mapped_column(server_default="1")
    session_id: Mapped[str | None] = mapped_column(Text)
    session_url: Mapped[str | None] = mapped_column(Text)
    payment_intent_id: Mapped[str | None] = mapped_column(Text)
    invoice_id: Mapped[str | None] = mapped_column(Text)
    total_minor: Mapped[int | None] = mapped_column(BigInteger)
    ordered_by: Mapped[UUID | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ended_at: Mapped[datetime | None]
    reviewed_at: Mapped[datetime | None]
    __table_args__ = (
        UniqueConstraint("tenant_id", "click_key"),
        CheckConstraint("kind in ('package', 'plan', 'topup')", name="kind"),
        CheckConstraint(
            "state in ('open', 'awaiting', 'needs_action', 'fulfilled', 'failed', 'expired',"
            " 'canceled', 'review')",
            name="state",
        ),
        CheckConstraint("price_minor >= 0 and credits_nusd >= 0 and bonus_nusd >= 0", name="amounts"),
        Index("orders_order_idx", "order_id"),
        Index("orders_session_idx", "session_id"),
        Index("orders_payment_intent_idx", "payment_intent_id"),
        Index("orders_one_topup_key", "tenant_id", unique=True, postgresql_where=text(
            "kind = 'topup' and state in ('open', 'awaiting', 'needs_action')")),
    )  # fmt: skip


class Payment(Base):
    """Money that was charged, and what it paid for: an order, or an invoice of a plan."""

    __tablename__ = "payments"
    payment_intent_id: Mapped[str] = mapped_column(Text, primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey(Account.tenant_id))
    order_id: Mapped[UUID | None]
    invoice_id: Mapped[str | None] = mapped_column(Text)
    total_minor: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(Text)
    paid_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "order_id"], [Order.tenant_id, Order.order_id]),
        CheckConstraint("num_nonnulls(order_id, invoice_id) = 1", name="purpose"),
        CheckConstraint("total_minor > 0", name="total"),
        Index(None, "tenant_id", "order_id"),
        Index(None, "tenant_id", "invoice_id"),
        {"comment": _ONCE},
    )


class Fulfilment(Base):
    """The Stripe object that was turned into credit: a session, a top-up's payment, an invoice line
    (a month of a plan) or an invoice (an upgrade). Its lots bear its id as their source."""

    __tablename__ = "fulfilments"
    stripe_id: Mapped[str] = mapped_column(Text, primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey(Account.tenant_id))
    kind: Mapped[str] = mapped_column(Text)
    order_id: Mapped[UUID | None]
    invoice_id: Mapped[str | None] = mapped_column(Text)
    subscription_item_id: Mapped[str | None] = mapped_column(Text)
    period_start: Mapped[datetime | None]
    granted_nusd: Mapped[int] = mapped_column(BigInteger)
    fulfilled_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "order_id"], [Order.tenant_id, Order.order_id]),
        CheckConstraint(
            "kind in ('checkout_session', 'payment_intent', 'invoice_line', 'invoice')", name="kind"
        ),
        Index("fulfilments_order_key", "tenant_id", "order_id", unique=True,
              postgresql_where=text("order_id is not null")),
        Index("fulfilments_period_key", "tenant_id", "subscription_item_id", "period_start",
              unique=True, postgresql_where=text("subscription_item_id is not null")),
        Index(None, "tenant_id", "invoice_id"),
        {"comment": _ONCE},
    )  # fmt: skip


class ClawBack(Base):
    """A refund or dispute as last heard of. `counts`: its money is not ours now, so its credit is not
    theirs. What was taken from the lots follows from all of a payment's rows together."""

    __tablename__ = "claw_backs"
    stripe_id: Mapped[str] = mapped_column(Text, primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey(Account.tenant_id))
    kind: Mapped[str] = mapped_column(Text)
    payment_intent_id: Mapped[str] = mapped_column(Text)
    amount_minor: Mapped[int] = mapped_column(BigInteger)
    status: Mapped[str] = mapped_column(Text)
    counts: Mapped[bool]
    reason: Mapped[str | None] = mapped_column(Text)
    opened_at: Mapped[datetime] = mapped_column(server_default=func.now())
    changed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (
        CheckConstraint("kind in ('refund', 'dispute')", name="kind"),
        CheckConstraint("amount_minor > 0", name="amount"),
        Index(None, "tenant_id", "payment_intent_id"),
        {"comment": _ONCE},
    )


class RefundRequest(Base):
    """A refund an operator asked for; sent to Stripe under its own id, so never twice."""

    __tablename__ = "refund_requests"
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey(Account.tenant_id), primary_key=True)
    request_id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    payment_intent_id: Mapped[str] = mapped_column(Text)
    amount_minor: Mapped[int] = mapped_column(BigInteger)
    reason: Mapped[str] = mapped_column(Text)
    forced: Mapped[bool]
    asked_by: Mapped[str] = mapped_column(Text)
    asked_at: Mapped[datetime] = mapped_column(server_default=func.now())
    state: Mapped[str] = mapped_column(Text, server_default="asked")
    refund_id: Mapped[str | None] = mapped_column(Text)
    error: Mapped[str | None] = mapped_column(Text)
    __table_args__ = (
        CheckConstraint("state in ('asked', 'sent', 'refused')", name="state"),
        CheckConstraint("amount_minor > 0", name="amount"),
    )


class Subscription(Base):
    """A subscription as Stripe last said it is; `version` rises with every write.

    While a downgrade waits (`next_plan`), `held_price_id` is the price the plan in force was sold at.
    """

    __tablename__ = "subscriptions"
    subscription_id: Mapped[str] = mapped_column(Text, primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey(Account.tenant_id))
    purpose: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text)
    item_id: Mapped[str] = mapped_column(Text)
    price_id: Mapped[str] = mapped_column(Text)
    plan: Mapped[str | None] = mapped_column(Text)
    next_plan: Mapped[str | None] = mapped_column(Text)
    held_price_id: Mapped[str | None] = mapped_column(Text)
    period_start: Mapped[datetime]
    period_end: Mapped[datetime]
    cancel_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    started_at: Mapped[datetime]
    version: Mapped[int] = mapped_column(server_default="1")
    changed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (
        CheckConstraint("purpose in ('plan', 'usage')", name="purpose"),
        Index(None, "tenant_id"),
        {"comment": _ONCE},
    )


class Invoice(Base):
    """An invoice as far as its reader needs it: what is to be paid, where, and whether it is."""

    __tablename__ = "invoices"
    invoice_id: Mapped[str] = mapped_column(Text, primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey(Account.tenant_id))
    subscription_id: Mapped[str | None] = mapped_column(Text)
    number: Mapped[str | None] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text)
    total_minor: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(Text)
    page_url: Mapped[str | None] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(server_default="0")
    next_attempt_at: Mapped[datetime | None]
    needs_action: Mapped[bool] = mapped_column(server_default="false")
    created_at: Mapped[datetime]
    changed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (Index(None, "tenant_id", "created_at"), {"comment": _ONCE})


class AutoTopup(Base):
    """What a buyer agreed to: buy `amount_minor` of credit whenever less than the threshold is left."""

    __tablename__ = "auto_topups"
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey(Account.tenant_id), primary_key=True)
    enabled: Mapped[bool]
    threshold_nusd: Mapped[int] = mapped_column(BigInteger)
    amount_minor: Mapped[int] = mapped_column(BigInteger)
    daily_cap_minor: Mapped[int] = mapped_column(BigInteger)
    consent: Mapped[str] = mapped_column(Text)
    consent_by: Mapped[UUID]
    consent_at: Mapped[datetime]
    declines: Mapped[int] = mapped_column(server_default="0")
    stopped_reason: Mapped[str | None] = mapped_column(Text)
    changed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (
        CheckConstraint("threshold_nusd >= 0 and amount_minor > 0", name="amounts"),
        CheckConstraint("daily_cap_minor >= amount_minor", name="cap"),
    )


class CreditRequest(Base):
    """Credit by hand above the house's limit: granted once a second operator says so."""

    __tablename__ = "credit_requests"
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey(Account.tenant_id), primary_key=True)
    request_id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    amount_nusd: Mapped[int] = mapped_column(BigInteger)
    reason: Mapped[str] = mapped_column(Text)
    key: Mapped[str] = mapped_column(Text)
    expires_at: Mapped[datetime | None]
    state: Mapped[str] = mapped_column(Text, server_default="waiting")
    asked_by: Mapped[str] = mapped_column(Text)
    asked_at: Mapped[datetime] = mapped_column(server_default=func.now())
    decided_by: Mapped[str | None] = mapped_column(Text)
    decided_at: Mapped[datetime | None]
    __table_args__ = (
        UniqueConstraint("tenant_id", "key"),
        CheckConstraint("state in ('waiting', 'granted', 'refused')", name="state"),
        CheckConstraint("(state = 'waiting') = (decided_by is null)", name="decided"),
        CheckConstraint("decided_by <> asked_by", name="two_people"),
        CheckConstraint("amount_nusd > 0", name="amount"),
    )
