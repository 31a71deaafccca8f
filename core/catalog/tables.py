"""Tables of providers, AI models and their dated prices. Platform data: the same for every tenant."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from core.db import Base
from core.identity.tables import Tenant


class Provider(Base):
    """Where models are served, what the provider reports, and how long we wait for it."""

    __tablename__ = "providers"
    provider: Mapped[str] = mapped_column(Text, primary_key=True)
    title: Mapped[str] = mapped_column(Text)
    sends_cost: Mapped[bool]
    keeps_generations: Mapped[bool]
    development_only: Mapped[bool] = mapped_column(default=False)
    connect_ms: Mapped[int] = mapped_column(default=5_000)
    first_token_ms: Mapped[int] = mapped_column(default=60_000)
    idle_ms: Mapped[int] = mapped_column(default=60_000)
    total_ms: Mapped[int] = mapped_column(default=600_000)


class Model(Base):
    """An AI model as people pick it. Rows are never deleted: what is no longer sold is inactive."""

    __tablename__ = "models"
    model_id: Mapped[str] = mapped_column(Text, primary_key=True)
    provider: Mapped[str] = mapped_column(ForeignKey(Provider.provider))
    name: Mapped[str] = mapped_column(Text)
    description: Mapped[str] = mapped_column(Text, default="")
    context_tokens: Mapped[int]
    output_tokens_max: Mapped[int | None]
    answer_tokens_default: Mapped[int] = mapped_column(default=4_096, server_default="4096")
    input_modalities: Mapped[list[str]] = mapped_column(ARRAY(Text))
    output_modalities: Mapped[list[str]] = mapped_column(ARRAY(Text))
    supported_parameters: Mapped[list[str]] = mapped_column(ARRAY(Text))
    is_free: Mapped[bool] = mapped_column(default=False)
    active: Mapped[bool] = mapped_column(default=True)
    missed_syncs: Mapped[int] = mapped_column(default=0, server_default="0")
    expires_on: Mapped[date | None]
    price_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("app.prices.price_id", use_alter=True)
    )
    synced_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Price(Base):
    """The price of a model from a date on; never overwritten. `terms` are exact decimal strings."""

    __tablename__ = "prices"
    price_id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey(Model.model_id))
    terms: Mapped[dict[str, Any]] = mapped_column(JSONB)
    state: Mapped[str] = mapped_column(Text)
    reason: Mapped[str | None] = mapped_column(Text)
    effective_from: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (
        CheckConstraint("state in ('accepted', 'held', 'rejected')", name="state"),
        Index("prices_model_idx", "model_id", text("effective_from desc")),
    )


class ModelBlock(Base):
    """A model that a tenant does not want called. Who set it is in the audit log."""

    __tablename__ = "model_blocks"
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey(Tenant.tenant_id), primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey(Model.model_id), primary_key=True)
    set_at: Mapped[datetime] = mapped_column(server_default=func.now())


class CatalogSync(Base):
    """One pass over a provider's model list and what came of it."""

    __tablename__ = "catalog_syncs"
    sync_id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    provider: Mapped[str] = mapped_column(ForeignKey(Provider.provider))
    source: Mapped[str] = mapped_column(Text)
    synced_at: Mapped[datetime] = mapped_column(server_default=func.now())
    seen: Mapped[int]
    added: Mapped[int]
    repriced: Mapped[int]
    held: Mapped[int]
    retired: Mapped[int]
    outcome: Mapped[str] = mapped_column(Text)


class CatalogChange(Base):
    """What one pass made of one model, with the prices before and after where it is about a price."""

    __tablename__ = "catalog_changes"
    sync_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey(CatalogSync.sync_id, ondelete="CASCADE"), primary_key=True
    )
    model_id: Mapped[str] = mapped_column(ForeignKey(Model.model_id), primary_key=True)
    kind: Mapped[str] = mapped_column(Text, primary_key=True)
    before_price_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey(Price.price_id))
    price_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey(Price.price_id))
    __table_args__ = (
        CheckConstraint(
            "kind in ('would_retire', 'retired', 'held', 'repriced', 'priced', 'returned', 'added')",
            name="kind",
        ),
        CheckConstraint(
            "kind = 'added' or (price_id is not null) = (kind in ('held', 'repriced', 'priced'))",
            name="price",
        ),
        CheckConstraint(
            "kind = 'held' or (before_price_id is not null) = (kind = 'repriced')", name="before"
        ),
    )
