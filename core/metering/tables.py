"""Tables of calls, usage events (partitioned by month), daily sums and open look-ups."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Numeric,
    PrimaryKeyConstraint,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from core.db import Base
from core.identity.tables import ApiKey, Membership, Tenant

_COST_SOURCES = "cost_source in ('provider', 'price_table', 'estimate')"
# What figures add up, group and filter by: with it the key answers them without the rows themselves.
_ASKED = (
    "kind", "user_id", "api_key_id", "cost_center", "project", "source", "purpose", "conversation_id",
    "provider", "model_served", "prompt_tokens", "cached_tokens", "cache_write_tokens",
    "completion_tokens", "reasoning_tokens", "list_nusd", "billed_nusd", "outcome", "latency_ms",
    "first_token_ms",
)  # fmt: skip


class Call(Base):
    """A call that passed the gate: its lease, its terms as admitted, and how it ended. Once only."""

    __tablename__ = "calls"
    call_id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID]
    user_id: Mapped[UUID]
    api_key_id: Mapped[UUID | None]
    tenant_label_id: Mapped[UUID]
    user_label_id: Mapped[UUID]
    cost_center: Mapped[str | None] = mapped_column(Text)
    source: Mapped[str] = mapped_column(Text)
    purpose: Mapped[str] = mapped_column(Text)
    conversation_id: Mapped[UUID | None]
    # No foreign keys to platform rows, nor to labels: none is ever deleted, and every call would
    # lock the same few of them.
    provider: Mapped[str] = mapped_column(Text)
    model_requested: Mapped[str] = mapped_column(Text)
    price_id: Mapped[int] = mapped_column(BigInteger)
    markup: Mapped[Decimal] = mapped_column(Numeric(9, 6))
    prompt_tokens_guess: Mapped[int]
    answer_tokens_max: Mapped[int]
    tokens_held: Mapped[int] = mapped_column(BigInteger)
    hold_nusd: Mapped[int] = mapped_column(BigInteger)
    period: Mapped[date]
    idempotency_key: Mapped[str | None] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text, default="open")
    outcome: Mapped[str | None] = mapped_column(Text)
    lease_token: Mapped[UUID]
    lease_until: Mapped[datetime]
    deadline_at: Mapped[datetime]
    stop_requested_at: Mapped[datetime | None]
    generation_id: Mapped[str | None] = mapped_column(Text)
    delivered_tokens: Mapped[int] = mapped_column(server_default="0")
    gave_output: Mapped[bool | None]
    opened_at: Mapped[datetime] = mapped_column(server_default=func.now())
    settled_at: Mapped[datetime | None]
    project: Mapped[str | None] = mapped_column(Text)
    __table_args__ = (
        UniqueConstraint("tenant_id", "call_id"),
        ForeignKeyConstraint(["tenant_id", "user_id"], [Membership.tenant_id, Membership.user_id]),
        ForeignKeyConstraint(["tenant_id", "api_key_id"], [ApiKey.tenant_id, ApiKey.key_id]),
        CheckConstraint("source in ('chat', 'api', 'background')", name="source"),
        CheckConstraint("state in ('open', 'settled')", name="state"),
        CheckConstraint("(state = 'settled') = (settled_at is not null)", name="settled"),
        CheckConstraint(
            "outcome in ('ok', 'stopped', 'cut', 'error', 'timeout')", name="outcome"
        ),
        CheckConstraint("hold_nusd >= 0 and tokens_held >= 0", name="held"),
        # Not on lease_until: a heartbeat that changes no indexed column costs no index entry.
        Index("calls_open_idx", "call_id", postgresql_where=text("state = 'open'")),
        Index(
            "calls_idempotency_key", "tenant_id", "api_key_id", "idempotency_key", unique=True,
            postgresql_where=text("idempotency_key is not null"),
        ),
        {"postgresql_with": {"fillfactor": 70}, "comment": "once-only fact: keyed by call_id alone"},
    )  # fmt: skip


class Generation(Base):
    """A provider's generation id, seen once; two calls naming the same one are an alarm."""

    __tablename__ = "generations"
    generation_id: Mapped[str] = mapped_column(Text, primary_key=True)
    tenant_id: Mapped[UUID]
    call_id: Mapped[UUID]
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "call_id"], [Call.tenant_id, Call.call_id]),
        {"comment": "once-only fact: keyed by generation_id alone"},
    )


class UsageEvent(Base):
    """What one call used and cost, or a later correction of it. Append-only.

    Dated by the call's opening; a correction that comes after the month was closed by its own moment.
    """

    __tablename__ = "usage_events"
    tenant_id: Mapped[UUID]
    occurred_at: Mapped[datetime]
    event_id: Mapped[int] = mapped_column(BigInteger, Identity(always=True))
    kind: Mapped[str] = mapped_column(Text)
    call_id: Mapped[UUID]
    adjusts_call_id: Mapped[UUID | None]
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.now())
    user_id: Mapped[UUID]
    api_key_id: Mapped[UUID | None]
    tenant_label_id: Mapped[UUID]
    user_label_id: Mapped[UUID]
    cost_center: Mapped[str | None] = mapped_column(Text)
    source: Mapped[str] = mapped_column(Text)
    purpose: Mapped[str] = mapped_column(Text)
    conversation_id: Mapped[UUID | None]
    provider: Mapped[str] = mapped_column(Text)
    model_requested: Mapped[str] = mapped_column(Text)
    model_served: Mapped[str] = mapped_column(Text)
    price_id: Mapped[int] = mapped_column(BigInteger)
    prompt_tokens: Mapped[int] = mapped_column(BigInteger)
    cached_tokens: Mapped[int] = mapped_column(BigInteger)
    cache_write_tokens: Mapped[int] = mapped_column(BigInteger)
    completion_tokens: Mapped[int] = mapped_column(BigInteger)
    reasoning_tokens: Mapped[int] = mapped_column(BigInteger)
    provider_cost_usd: Mapped[Decimal | None] = mapped_column(Numeric)
    list_nusd: Mapped[int] = mapped_column(BigInteger)
    billed_nusd: Mapped[int] = mapped_column(BigInteger)
    cost_source: Mapped[str] = mapped_column(Text)
    outcome: Mapped[str] = mapped_column(Text)
    latency_ms: Mapped[int]
    first_token_ms: Mapped[int | None]
    cached: Mapped[bool] = mapped_column(server_default="false")
    generation_id: Mapped[str | None] = mapped_column(Text)
    project: Mapped[str | None] = mapped_column(Text)
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "occurred_at", "event_id", postgresql_include=_ASKED),
        ForeignKeyConstraint(["tenant_id", "call_id"], [Call.tenant_id, Call.call_id]),
        CheckConstraint("kind in ('call', 'adjustment')", name="kind"),
        CheckConstraint("(kind = 'adjustment') = (adjusts_call_id is not null)", name="adjusts"),
        CheckConstraint(_COST_SOURCES, name="cost_source"),
        Index("usage_events_call_idx", "tenant_id", "call_id"),
        Index("usage_events_recent_idx", "occurred_at", "event_id"),
        Index(
            "usage_events_adjustments_idx",
            "occurred_at",
            postgresql_where=text("kind = 'adjustment'"),
        ),
        Index(
            "usage_events_estimates_idx",
            "tenant_id",
            "occurred_at",
            postgresql_where=text("cost_source = 'estimate'"),
        ),
        {"postgresql_partition_by": "range (occurred_at)"},
    )


class UsagePending(Base):
    """An event that is not in the sums yet; it leaves when it is added to them."""

    __tablename__ = "usage_pending"
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    event_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    occurred_at: Mapped[datetime]


class UsageDay(Base):
    """Sums of a tenant's own day by person, model and source. A second behind, rebuildable."""

    __tablename__ = "usage_daily"
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(Text, primary_key=True)
    source: Mapped[str] = mapped_column(Text, primary_key=True)
    requests: Mapped[int] = mapped_column(BigInteger)
    errors: Mapped[int] = mapped_column(BigInteger)
    prompt_tokens: Mapped[int] = mapped_column(BigInteger)
    cached_tokens: Mapped[int] = mapped_column(BigInteger)
    cache_write_tokens: Mapped[int] = mapped_column(BigInteger)
    completion_tokens: Mapped[int] = mapped_column(BigInteger)
    reasoning_tokens: Mapped[int] = mapped_column(BigInteger)
    list_nusd: Mapped[int] = mapped_column(BigInteger)
    billed_nusd: Mapped[int] = mapped_column(BigInteger)
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "user_id"], [Membership.tenant_id, Membership.user_id]),
        Index(None, "day"),
        {"postgresql_with": {"fillfactor": 70}},
    )


class UsageModelDay(Base):
    """The same sums without the person: few rows, for the questions over all tenants or many months."""

    __tablename__ = "usage_daily_models"
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey(Tenant.tenant_id), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(Text, primary_key=True)
    source: Mapped[str] = mapped_column(Text, primary_key=True)
    requests: Mapped[int] = mapped_column(BigInteger)
    errors: Mapped[int] = mapped_column(BigInteger)
    prompt_tokens: Mapped[int] = mapped_column(BigInteger)
    cached_tokens: Mapped[int] = mapped_column(BigInteger)
    cache_write_tokens: Mapped[int] = mapped_column(BigInteger)
    completion_tokens: Mapped[int] = mapped_column(BigInteger)
    reasoning_tokens: Mapped[int] = mapped_column(BigInteger)
    list_nusd: Mapped[int] = mapped_column(BigInteger)
    billed_nusd: Mapped[int] = mapped_column(BigInteger)
    __table_args__ = (
        Index(None, "day"),
        {"postgresql_with": {"fillfactor": 70}},
    )


class ConversationUse(Base):
    """What a conversation has used and cost in all. Outlives the conversation; holds nothing of it."""

    __tablename__ = "usage_conversations"
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    conversation_id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID]
    model: Mapped[str] = mapped_column(Text)
    requests: Mapped[int] = mapped_column(BigInteger)
    tokens: Mapped[int] = mapped_column(BigInteger)
    list_nusd: Mapped[int] = mapped_column(BigInteger)
    billed_nusd: Mapped[int] = mapped_column(BigInteger)
    first_at: Mapped[datetime]
    last_at: Mapped[datetime]
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "user_id"], [Membership.tenant_id, Membership.user_id]),
        Index("usage_conversations_recent_idx", "tenant_id", "user_id", text("last_at desc")),
        Index(
            "usage_conversations_dear_idx",
            "billed_nusd",
            postgresql_where=text("billed_nusd > 10000000000"),
        ),
        {"postgresql_with": {"fillfactor": 70}},
    )


class Lookup(Base):
    """A call whose cost is not final yet: asked of the provider until it is known.

    `kept_nusd` and `kept_tokens` are what it may still cost beyond what was booked: reserved in the
    wallet and in every counter for as long as this row is there.
    """

    __tablename__ = "lookups"
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    call_id: Mapped[UUID] = mapped_column(primary_key=True)
    provider: Mapped[str] = mapped_column(Text)
    generation_id: Mapped[str] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(server_default="0")
    due_at: Mapped[datetime] = mapped_column(server_default=func.now())
    opened_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_error: Mapped[str | None] = mapped_column(Text)
    kept_nusd: Mapped[int] = mapped_column(BigInteger, server_default="0")
    kept_tokens: Mapped[int] = mapped_column(BigInteger, server_default="0")
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "call_id"], [Call.tenant_id, Call.call_id]),
        CheckConstraint("kept_nusd >= 0 and kept_tokens >= 0", name="kept"),
        Index(None, "due_at"),
    )
