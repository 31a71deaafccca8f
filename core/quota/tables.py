"""The counters of every limit: one row per subject (tenant, person, key) and month."""

from __future__ import annotations

from datetime import date
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Text
from sqlalchemy.orm import Mapped, mapped_column

from core.db import Base
from core.identity.tables import Tenant


class Counter(Base):
    """What a subject used and holds in one month of its tenant's zone, and its rate windows.

    A window counts the current minute (hour) and the one before; together they slide. A new
    month's row starts with the windows of the month before.
    """

    __tablename__ = "counters"
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey(Tenant.tenant_id), primary_key=True)
    subject_id: Mapped[UUID] = mapped_column(primary_key=True)
    period: Mapped[date] = mapped_column(primary_key=True)
    scope: Mapped[str] = mapped_column(Text)
    minute: Mapped[int] = mapped_column(server_default="0")
    minute_count: Mapped[int] = mapped_column(server_default="0")
    minute_before: Mapped[int] = mapped_column(server_default="0")
    hour: Mapped[int] = mapped_column(server_default="0")
    hour_count: Mapped[int] = mapped_column(server_default="0")
    hour_before: Mapped[int] = mapped_column(server_default="0")
    messages: Mapped[int] = mapped_column(BigInteger, server_default="0")
    tokens: Mapped[int] = mapped_column(BigInteger, server_default="0")
    tokens_held: Mapped[int] = mapped_column(BigInteger, server_default="0")
    spent_nusd: Mapped[int] = mapped_column(BigInteger, server_default="0")
    held_nusd: Mapped[int] = mapped_column(BigInteger, server_default="0")
    __table_args__ = (
        CheckConstraint("scope in ('tenant', 'user', 'key')", name="scope"),
        CheckConstraint("messages >= 0 and tokens_held >= 0 and held_nusd >= 0", name="counted"),
        {"postgresql_with": {"fillfactor": 40}},
    )
