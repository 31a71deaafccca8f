"""Tables of closed months, exports with their stored files, and the provider's bill."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    Numeric,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from core.db import Base, new_id
from core.identity.tables import Tenant

_KINDS = "kind in ('usage', 'daily', 'statement', 'chargeback', 'focus', 'audit')"
_FORMATS = "format in ('csv', 'xlsx', 'parquet', 'jsonl')"


class Closing(Base):
    """A month of a tenant that was closed, and its sums as they were then. Reopening ends it.

    While it stands, no usage event of that month is written: what comes later is dated when it comes.
    """

    __tablename__ = "closings"
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey(Tenant.tenant_id), primary_key=True)
    closing_id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    month: Mapped[date]
    begins_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    events: Mapped[int] = mapped_column(BigInteger)
    requests: Mapped[int] = mapped_column(BigInteger)
    tokens: Mapped[int] = mapped_column(BigInteger)
    list_nusd: Mapped[int] = mapped_column(BigInteger)
    billed_nusd: Mapped[int] = mapped_column(BigInteger)
    warnings: Mapped[dict[str, Any]] = mapped_column(JSONB)
    closed_by: Mapped[str] = mapped_column(Text)
    closed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    reopened_by: Mapped[str | None] = mapped_column(Text)
    reopened_at: Mapped[datetime | None]
    reason: Mapped[str | None] = mapped_column(Text)
    __table_args__ = (
        CheckConstraint("extract(day from month) = 1 and begins_at < ends_at", name="month"),
        CheckConstraint(
            "num_nonnulls(reopened_by, reopened_at, reason) in (0, 3)", name="reopened"
        ),
        Index(
            "closings_month_key", "tenant_id", "month", unique=True,
            postgresql_where=text("reopened_at is null"),
        ),
    )  # fmt: skip


class ExportFile(Base):
    """A file that was built once; of a closed month it is kept for good, others until they expire.

    `detail` holds what changes its bytes: a byte order mark, columns for operators, filters.
    """

    __tablename__ = "export_files"
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey(Tenant.tenant_id), primary_key=True)
    file_id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    closing_id: Mapped[UUID | None]
    kind: Mapped[str] = mapped_column(Text)
    format: Mapped[str] = mapped_column(Text)
    first_day: Mapped[date]
    last_day: Mapped[date]
    detail: Mapped[dict[str, Any]] = mapped_column(JSONB)
    state: Mapped[str] = mapped_column(Text, server_default="building")
    rows_total: Mapped[int | None] = mapped_column(BigInteger)
    rows_done: Mapped[int] = mapped_column(BigInteger, server_default="0")
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    sha256: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    built_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "closing_id"], [Closing.tenant_id, Closing.closing_id]
        ),
        CheckConstraint(_KINDS, name="kind"),
        CheckConstraint(_FORMATS, name="format"),
        CheckConstraint("state in ('building', 'ready', 'failed')", name="state"),
        CheckConstraint(
            "(state = 'ready') = (sha256 is not null and size_bytes is not null)", name="ready"
        ),
        Index(
            "export_files_closed_key", "tenant_id", "closing_id", "kind", "format", "detail",
            unique=True, postgresql_where=text("closing_id is not null and state <> 'failed'"),
        ),
    )  # fmt: skip


class ExportPart(Base):
    """A piece of a stored file, in order from 0. Never changed."""

    __tablename__ = "export_parts"
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    file_id: Mapped[UUID] = mapped_column(primary_key=True)
    part: Mapped[int] = mapped_column(primary_key=True)
    content: Mapped[bytes] = mapped_column(LargeBinary)
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "file_id"], [ExportFile.tenant_id, ExportFile.file_id],
            ondelete="CASCADE",
        ),
    )  # fmt: skip


class Export(Base):
    """What somebody asked for: a file, or (without one) rows that are read while they are sent."""

    __tablename__ = "exports"
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey(Tenant.tenant_id), primary_key=True)
    export_id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    file_id: Mapped[UUID | None]
    kind: Mapped[str] = mapped_column(Text)
    format: Mapped[str] = mapped_column(Text)
    first_day: Mapped[date]
    last_day: Mapped[date]
    detail: Mapped[dict[str, Any]] = mapped_column(JSONB)
    asked_by: Mapped[UUID]
    as_operator: Mapped[bool]
    asked_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "file_id"], [ExportFile.tenant_id, ExportFile.file_id]),
        CheckConstraint(_KINDS, name="kind"),
        CheckConstraint(_FORMATS, name="format"),
        Index("exports_recent_idx", "tenant_id", text("asked_at desc")),
        Index("exports_export_idx", "export_id"),
    )


class PlatformExport(Base):
    """What an operator asked for over all tenants: rows that are read while they are sent."""

    __tablename__ = "platform_exports"
    export_id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    kind: Mapped[str] = mapped_column(Text)
    format: Mapped[str] = mapped_column(Text)
    first_day: Mapped[date]
    last_day: Mapped[date]
    detail: Mapped[dict[str, Any]] = mapped_column(JSONB)
    asked_by: Mapped[UUID]
    asked_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    __table_args__ = (
        CheckConstraint(_KINDS, name="kind"),
        CheckConstraint(_FORMATS, name="format"),
    )


class ProviderBill(Base):
    """What a provider says that a closed UTC day of a model cost, as last read. Exact USD."""

    __tablename__ = "provider_bills"
    provider: Mapped[str] = mapped_column(Text, primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(Text, primary_key=True)
    requests: Mapped[int] = mapped_column(BigInteger)
    tokens: Mapped[int] = mapped_column(BigInteger)
    cost_usd: Mapped[Decimal] = mapped_column(Numeric)
    came_by: Mapped[str] = mapped_column(Text)
    read_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (CheckConstraint("came_by in ('activity', 'upload')", name="came_by"),)


class BillLine(Base):
    """One generation on an uploaded bill, and which of our calls it is. Once per generation id."""

    __tablename__ = "bill_lines"
    generation_id: Mapped[str] = mapped_column(Text, primary_key=True)
    provider: Mapped[str] = mapped_column(Text)
    occurred_at: Mapped[datetime]
    model: Mapped[str] = mapped_column(Text)
    prompt_tokens: Mapped[int] = mapped_column(BigInteger)
    completion_tokens: Mapped[int] = mapped_column(BigInteger)
    cost_usd: Mapped[Decimal] = mapped_column(Numeric)
    ours_usd: Mapped[Decimal | None] = mapped_column(Numeric)
    state: Mapped[str] = mapped_column(Text)
    of_tenant: Mapped[UUID | None]
    call_id: Mapped[UUID | None]
    uploaded_at: Mapped[datetime] = mapped_column(server_default=func.now())
    imported_at: Mapped[datetime | None]
    __table_args__ = (
        CheckConstraint(
            "state in ('matched', 'different', 'unrecorded', 'imported')", name="state"
        ),
        Index(None, "provider", "occurred_at"),
    )


class BillCheck(Base):
    """Our books and the provider's bill of one UTC day and model, side by side, as last compared."""

    __tablename__ = "bill_checks"
    provider: Mapped[str] = mapped_column(Text, primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(Text, primary_key=True)
    ours_usd: Mapped[Decimal] = mapped_column(Numeric)
    ours_requests: Mapped[int] = mapped_column(BigInteger)
    theirs_usd: Mapped[Decimal] = mapped_column(Numeric)
    theirs_requests: Mapped[int] = mapped_column(BigInteger)
    cause: Mapped[str] = mapped_column(Text)
    checked_at: Mapped[datetime] = mapped_column(server_default=func.now())
