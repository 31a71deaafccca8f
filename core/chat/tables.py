"""Tables of conversations, their messages (a tree) and turns."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from core.db import Base, new_id
from core.identity.tables import Membership
from core.metering.tables import Call


class Conversation(Base):
    """One person's chat. Deleting empties it and keeps the row, so that receipts still point here."""

    __tablename__ = "conversations"
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    conversation_id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    user_id: Mapped[UUID]
    title: Mapped[str] = mapped_column(Text, default="")
    model_id: Mapped[str | None] = mapped_column(Text)
    leaf_id: Mapped[UUID | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    deleted_at: Mapped[datetime | None]
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "user_id"], [Membership.tenant_id, Membership.user_id]),
        CheckConstraint("length(title) <= 200", name="title"),
        Index(
            "conversations_list_idx", "tenant_id", "user_id", text("updated_at desc"),
            text("conversation_id desc"), postgresql_where=text("deleted_at is null"),
        ),
    )  # fmt: skip


class Turn(Base):
    """A question and the answer being made for it. At most one runs in a conversation."""

    __tablename__ = "turns"
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    turn_id: Mapped[UUID] = mapped_column(primary_key=True)
    conversation_id: Mapped[UUID]
    call_id: Mapped[UUID]
    question_id: Mapped[UUID]
    answer_id: Mapped[UUID]
    status: Mapped[str] = mapped_column(Text, server_default="running")
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ended_at: Mapped[datetime | None]
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "conversation_id"],
            [Conversation.tenant_id, Conversation.conversation_id],
        ),
        ForeignKeyConstraint(["tenant_id", "call_id"], [Call.tenant_id, Call.call_id]),
        CheckConstraint(
            "status in ('running', 'complete', 'stopped', 'interrupted', 'error')", name="status"
        ),
        CheckConstraint("(status = 'running') = (ended_at is null)", name="ended"),
        Index(
            "turns_live_key", "tenant_id", "conversation_id", unique=True,
            postgresql_where=text("status = 'running'"),
        ),
        Index("turns_call_idx", "tenant_id", "call_id"),
    )  # fmt: skip


class Message(Base):
    """One message of a conversation; `parent_id` makes the tree that regenerating branches.

    `left_out` counts older messages that did not fit the model's window; `extras` holds pictures
    and citations of an answer.
    """

    __tablename__ = "messages"
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    conversation_id: Mapped[UUID] = mapped_column(primary_key=True)
    message_id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    parent_id: Mapped[UUID | None]
    turn_id: Mapped[UUID | None]
    role: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text, server_default="complete")
    content: Mapped[str] = mapped_column(Text, server_default="")
    reasoning: Mapped[str] = mapped_column(Text, server_default="")
    model_id: Mapped[str | None] = mapped_column(Text)
    failure_code: Mapped[str | None] = mapped_column(Text)
    left_out: Mapped[int] = mapped_column(server_default="0")
    extras: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "conversation_id"],
            [Conversation.tenant_id, Conversation.conversation_id],
        ),
        ForeignKeyConstraint(
            ["tenant_id", "conversation_id", "parent_id"],
            [
                "app.messages.tenant_id",
                "app.messages.conversation_id",
                "app.messages.message_id",
            ],
            name="messages_parent_fkey",
        ),
        CheckConstraint("role in ('user', 'assistant')", name="role"),
        CheckConstraint(
            "status in ('running', 'complete', 'stopped', 'interrupted', 'error')",
            name="status",
        ),
    )
