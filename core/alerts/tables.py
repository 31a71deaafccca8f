"""Tables of the in-app inbox: what people are told once, and what they have read."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from core.db import Base, new_id
from core.identity.tables import Tenant


class Notice(Base):
    """Something that happened in a tenant, told once: `key` names it. `facts` are ids and amounts.

    `audience`: one person (`user_id`), the admins, or the buyers (finance and admins). Operators see
    those of every tenant that are not one person's.
    """

    __tablename__ = "notices"
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey(Tenant.tenant_id), primary_key=True)
    notice_id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    kind: Mapped[str] = mapped_column(Text)
    key: Mapped[str] = mapped_column(Text)
    audience: Mapped[str] = mapped_column(Text)
    user_id: Mapped[UUID | None]
    facts: Mapped[dict[str, Any]] = mapped_column(JSONB)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (
        UniqueConstraint("tenant_id", "kind", "key"),
        CheckConstraint("audience in ('user', 'admins', 'finance')", name="audience"),
        CheckConstraint("(audience = 'user') = (user_id is not null)", name="user"),
        Index("notices_recent_idx", "tenant_id", text("created_at desc")),
    )


class NoticeRead(Base):
    """That a person has put a notice away."""

    __tablename__ = "notice_reads"
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    notice_id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    read_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "notice_id"], [Notice.tenant_id, Notice.notice_id]),
    )


class OperatorNotice(Base):
    """Something operators are told once that belongs to no tenant."""

    __tablename__ = "operator_notices"
    notice_id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    kind: Mapped[str] = mapped_column(Text)
    key: Mapped[str] = mapped_column(Text)
    facts: Mapped[dict[str, Any]] = mapped_column(JSONB)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (UniqueConstraint("kind", "key"),)


class OperatorNoticeRead(Base):
    """That an operator has put a notice away, of a tenant or of none."""

    __tablename__ = "operator_notice_reads"
    notice_id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    read_at: Mapped[datetime] = mapped_column(server_default=func.now())
