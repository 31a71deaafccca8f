"""Tables of the credit ledger: accounts, lots, holds, entries, and what a new tenant is given."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    SmallInteger,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from core.db import Base, new_id
from core.identity.tables import Tenant
from core.metering.tables import Call


class Promotion(Base):
    """What is granted on an occasion ('sign_up'); operators change the row, not the code."""

    __tablename__ = "promotions"
    occasion: Mapped[str] = mapped_column(Text, primary_key=True)
    amount_nusd: Mapped[int] = mapped_column(BigInteger)
    expires_after_days: Mapped[int | None]


class Account(Base):
    """A tenant's wallet. `floor_nusd`: 0 prepaid, minus the credit limit postpaid, null internal.

    `frozen` while a payment is disputed: calls are refused, whatever else is left.

    Always: posted = sum of entries = sum of what lots have left - debt - receivable.
    """

    __tablename__ = "accounts"
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey(Tenant.tenant_id), primary_key=True)
    posted_nusd: Mapped[int] = mapped_column(BigInteger, server_default="0")
    held_nusd: Mapped[int] = mapped_column(BigInteger, server_default="0")
    debt_nusd: Mapped[int] = mapped_column(BigInteger, server_default="0")
    receivable_nusd: Mapped[int] = mapped_column(BigInteger, server_default="0")
    floor_nusd: Mapped[int | None] = mapped_column(BigInteger, server_default="0")
    seq: Mapped[int] = mapped_column(BigInteger, server_default="0")
    next_expiry_at: Mapped[datetime | None]
    frozen: Mapped[bool] = mapped_column(server_default="false")
    __table_args__ = (
        CheckConstraint("held_nusd >= 0", name="held"),
        CheckConstraint("debt_nusd >= 0 and receivable_nusd >= 0", name="owed"),
        CheckConstraint("floor_nusd <= 0", name="floor"),
        {"postgresql_with": {"fillfactor": 40}},
    )


class Lot(Base):
    """One grant and what is left of it; spent in order of priority, expiry, age."""

    __tablename__ = "lots"
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey(Account.tenant_id), primary_key=True)
    lot_id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    kind: Mapped[str] = mapped_column(Text)
    priority: Mapped[int] = mapped_column(SmallInteger, default=50)
    granted_nusd: Mapped[int] = mapped_column(BigInteger)
    remaining_nusd: Mapped[int] = mapped_column(BigInteger)
    consumed_nusd: Mapped[int] = mapped_column(BigInteger, server_default="0")
    expired_nusd: Mapped[int] = mapped_column(BigInteger, server_default="0")
    revoked_nusd: Mapped[int] = mapped_column(BigInteger, server_default="0")
    effective_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    source_type: Mapped[str] = mapped_column(Text)
    source_id: Mapped[str] = mapped_column(Text)
    __table_args__ = (
        UniqueConstraint("tenant_id", "source_type", "source_id"),
        CheckConstraint("kind in ('purchase', 'plan', 'promo', 'manual')", name="kind"),
        CheckConstraint("granted_nusd > 0", name="granted"),
        CheckConstraint(
            "remaining_nusd >= 0 and consumed_nusd >= 0 and expired_nusd >= 0 and revoked_nusd >= 0",
            name="parts",
        ),
        CheckConstraint(
            "granted_nusd = remaining_nusd + consumed_nusd + expired_nusd + revoked_nusd",
            name="whole",
        ),
        # Not only what has something left: that changes with every capture, this index never.
        Index("lots_spend_idx", "tenant_id", "priority", "expires_at", "effective_at", "lot_id"),
        {"postgresql_with": {"fillfactor": 70}},
    )  # fmt: skip


class Hold(Base):
    """The worst case of one call, set aside. Ends with the call's lease: captured or released."""

    __tablename__ = "holds"
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    call_id: Mapped[UUID] = mapped_column(primary_key=True)
    amount_nusd: Mapped[int] = mapped_column(BigInteger)
    captured_nusd: Mapped[int] = mapped_column(BigInteger, server_default="0")
    state: Mapped[str] = mapped_column(Text, server_default="open")
    opened_at: Mapped[datetime] = mapped_column(server_default=func.now())
    settled_at: Mapped[datetime | None]
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "call_id"], [Call.tenant_id, Call.call_id]),
        CheckConstraint("amount_nusd >= 0 and captured_nusd >= 0", name="amount"),
        CheckConstraint("state in ('open', 'captured', 'released')", name="state"),
        CheckConstraint("(state = 'open') = (settled_at is null)", name="settled"),
        {"postgresql_with": {"fillfactor": 70}},
    )


class Entry(Base):
    """One movement of the wallet, naming both sides (the account and `contra`). Append-only."""

    __tablename__ = "entries"
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    entry_id: Mapped[int] = mapped_column(BigInteger, Identity(always=True))
    kind: Mapped[str] = mapped_column(Text)
    contra: Mapped[str] = mapped_column(Text)
    amount_nusd: Mapped[int] = mapped_column(BigInteger)
    posted_after_nusd: Mapped[int] = mapped_column(BigInteger)
    idempotency_key: Mapped[str] = mapped_column(Text)
    call_id: Mapped[UUID | None]
    lot_id: Mapped[UUID | None]
    source_type: Mapped[str] = mapped_column(Text)
    source_id: Mapped[str] = mapped_column(Text)
    actor: Mapped[str] = mapped_column(Text)
    reason: Mapped[str | None] = mapped_column(Text)
    occurred_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (
        UniqueConstraint("tenant_id", "idempotency_key"),
        ForeignKeyConstraint(["tenant_id", "call_id"], [Call.tenant_id, Call.call_id]),
        ForeignKeyConstraint(["tenant_id", "lot_id"], [Lot.tenant_id, Lot.lot_id]),
        CheckConstraint(
            "kind in ('grant', 'capture', 'expire', 'revoke', 'adjust', 'reinstate', 'payment',"
            " 'write_off')",
            name="kind",
        ),
        CheckConstraint("amount_nusd <> 0", name="amount"),
        Index("entries_call_idx", "tenant_id", "call_id"),
        Index("entries_time_idx", "tenant_id", "occurred_at"),
        Index("entries_lot_idx", "tenant_id", "lot_id",
              postgresql_where=text("lot_id is not null")),
        # All but usage: few, so that what was spent is known without adding up the calls.
        Index("entries_other_idx", "tenant_id", postgresql_include=["amount_nusd"],
              postgresql_where=text("kind not in ('capture', 'adjust')")),
    )  # fmt: skip


class LotUse(Base):
    """How much of a lot one entry used (negative: gave back)."""

    __tablename__ = "lot_uses"
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    lot_id: Mapped[UUID] = mapped_column(primary_key=True)
    amount_nusd: Mapped[int] = mapped_column(BigInteger)
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "seq"], [Entry.tenant_id, Entry.seq]),
        ForeignKeyConstraint(["tenant_id", "lot_id"], [Lot.tenant_id, Lot.lot_id]),
        CheckConstraint("amount_nusd <> 0", name="amount"),
    )


class Due(Base):
    """The part of an entry that no lot covered and the tenant will be billed for (negative: that was
    paid, given back or written off). Their sum is the account's receivable. Append-only."""

    __tablename__ = "dues"
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    amount_nusd: Mapped[int] = mapped_column(BigInteger)
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "seq"], [Entry.tenant_id, Entry.seq]),
        CheckConstraint("amount_nusd <> 0", name="amount"),
    )
