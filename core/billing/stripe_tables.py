"""Tables of what is exchanged with Stripe: its events as they came, usage on its way to a meter, and
where its books and ours differ. What Stripe's objects mean to a tenant is in sales_tables.py."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    SmallInteger,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from core.billing.tables import Account
from core.db import Base


class Meter(Base):
    """The Stripe meter that postpaid use is sent to, and its price: one unit is a micro-USD."""

    __tablename__ = "meters"
    event_name: Mapped[str] = mapped_column(Text, primary_key=True)
    title: Mapped[str] = mapped_column(Text)
    tiers: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    meter_id: Mapped[str | None] = mapped_column(Text)
    price_id: Mapped[str | None] = mapped_column(Text)


class MeterExport(Base):
    """The outbox of postpaid use: what one hour adds to the meter. Sent under its own identifier.

    With this row the ledger is counted up to entry `through_seq`; `rest_nusd`, less than a unit, was
    not exported by then.
    """

    __tablename__ = "meter_exports"
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey(Account.tenant_id), primary_key=True)
    hour: Mapped[datetime] = mapped_column(primary_key=True)
    revision: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    units: Mapped[int] = mapped_column(BigInteger)
    through_seq: Mapped[int] = mapped_column(BigInteger)
    rest_nusd: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(Text, server_default="waiting")
    attempts: Mapped[int] = mapped_column(server_default="0")
    due_at: Mapped[datetime] = mapped_column(server_default=func.now())
    sent_at: Mapped[datetime | None]
    error: Mapped[str | None] = mapped_column(Text)
    __table_args__ = (
        UniqueConstraint("tenant_id", "through_seq"),
        CheckConstraint("units > 0", name="units"),
        CheckConstraint("rest_nusd between 0 and 999", name="rest"),
        CheckConstraint("state in ('waiting', 'sent', 'dead')", name="state"),
        Index("meter_exports_waiting_idx", "due_at", postgresql_where=text("state = 'waiting'")),
    )


class MeterSpan(Base):
    """What is metered: a tenant's use after entry `after_seq` up to `last_seq`, null while it is
    postpaid with a limit. Written where the wallet's floor is."""

    __tablename__ = "meter_spans"
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey(Account.tenant_id), primary_key=True)
    after_seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    last_seq: Mapped[int | None] = mapped_column(BigInteger)
    __table_args__ = (CheckConstraint("last_seq >= after_seq", name="order"),)


class StripeEvent(Base):
    """The inbox: every event that came with a valid signature, stored before anything is done."""

    __tablename__ = "stripe_events"
    event_id: Mapped[str] = mapped_column(Text, primary_key=True)
    type: Mapped[str] = mapped_column(Text)
    api_version: Mapped[str | None] = mapped_column(Text)
    object_id: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]
    payload: Mapped[dict[str, Any]] = mapped_column(JSONB)
    came_by: Mapped[str] = mapped_column(Text)
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())
    deliveries: Mapped[int] = mapped_column(server_default="1")
    state: Mapped[str] = mapped_column(Text, server_default="waiting")
    attempts: Mapped[int] = mapped_column(server_default="0")
    due_at: Mapped[datetime | None] = mapped_column(server_default=func.now())
    reason: Mapped[str | None] = mapped_column(Text)
    ended_at: Mapped[datetime | None]
    __table_args__ = (
        CheckConstraint("came_by in ('webhook', 'reconciler')", name="came_by"),
        CheckConstraint("state in ('waiting', 'handled', 'ignored', 'dead')", name="state"),
        CheckConstraint("(state = 'waiting') = (due_at is not null)", name="due"),
        Index("stripe_events_due_idx", "due_at", postgresql_where=text("state = 'waiting'")),
        Index("stripe_events_recent_idx", text("received_at desc")),
    )


class StripeDifference(Base):
    """Where Stripe's books and ours say different things, with the cause as far as it is known."""

    __tablename__ = "stripe_differences"
    difference_id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    kind: Mapped[str] = mapped_column(Text)
    stripe_id: Mapped[str] = mapped_column(Text)
    of_tenant: Mapped[UUID | None]
    ours: Mapped[str] = mapped_column(Text)
    theirs: Mapped[str] = mapped_column(Text)
    cause: Mapped[str] = mapped_column(Text)
    found_at: Mapped[datetime] = mapped_column(server_default=func.now())
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    resolved_at: Mapped[datetime | None]
    __table_args__ = (UniqueConstraint("kind", "stripe_id"),)


class StripePayout(Base):
    """A payout to our bank and the sums of the movements in it: charges - refunds - disputes - fees."""

    __tablename__ = "stripe_payouts"
    payout_id: Mapped[str] = mapped_column(Text, primary_key=True)
    currency: Mapped[str] = mapped_column(Text)
    paid_minor: Mapped[int] = mapped_column(BigInteger)
    charges_minor: Mapped[int] = mapped_column(BigInteger)
    refunds_minor: Mapped[int] = mapped_column(BigInteger)
    disputes_minor: Mapped[int] = mapped_column(BigInteger)
    fees_minor: Mapped[int] = mapped_column(BigInteger)
    other_minor: Mapped[int] = mapped_column(BigInteger)
    arrived_at: Mapped[datetime]
    checked_at: Mapped[datetime] = mapped_column(server_default=func.now())
