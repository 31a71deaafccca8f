"""Tables of tenants, people, keys, sessions, limits and the audit log."""

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
    Identity,
    Index,
    LargeBinary,
    Numeric,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from core.db import Base, new_id


class Plan(Base):
    """A plan's name and rank. What it allows is in plan_limits; what it costs is sold elsewhere."""

    __tablename__ = "plans"
    plan: Mapped[str] = mapped_column(Text, primary_key=True)
    title: Mapped[str] = mapped_column(Text)
    rank: Mapped[int]


class PlanLimit(Base):
    """The default of one limit on one plan; a missing row or a null maximum means unlimited."""

    __tablename__ = "plan_limits"
    plan: Mapped[str] = mapped_column(ForeignKey(Plan.plan), primary_key=True)
    scope: Mapped[str] = mapped_column(Text, primary_key=True)
    limit_name: Mapped[str] = mapped_column(Text, primary_key=True)
    maximum: Mapped[int | None] = mapped_column(BigInteger)
    __table_args__ = (
        CheckConstraint("scope in ('tenant', 'user', 'key')", name="scope"),
        CheckConstraint(
            "limit_name in ('requests_per_minute', 'requests_per_hour',"
            " 'monthly_messages', 'monthly_tokens', 'monthly_nusd')",
            name="limit_name",
        ),
        CheckConstraint("maximum >= 0", name="maximum"),
    )


class Tenant(Base):
    """A customer organisation; its mode decides what gates its calls."""

    __tablename__ = "tenants"
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(Text)
    plan: Mapped[str] = mapped_column(ForeignKey(Plan.plan))
    mode: Mapped[str] = mapped_column(Text, default="prepaid")
    # Where it began: verbs.zone_of says which zone is in force at a moment.
    first_time_zone: Mapped[str] = mapped_column(Text, default="UTC")
    markup: Mapped[Decimal] = mapped_column(Numeric(9, 6), default=Decimal(0))
    status: Mapped[str] = mapped_column(Text, default="active")
    label_id: Mapped[UUID]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    cost_center: Mapped[str | None] = mapped_column(Text)
    project: Mapped[str | None] = mapped_column(Text)
    __table_args__ = (
        CheckConstraint("mode in ('prepaid', 'postpaid', 'internal')", name="mode"),
        CheckConstraint("status in ('active', 'suspended')", name="status"),
        CheckConstraint("markup >= 0 and markup < 100", name="markup"),
        CheckConstraint("length(name) between 1 and 200", name="name"),
    )


class ZoneChange(Base):
    """A tenant's change to another time zone, from a month on; `starts_at` is when the old one ends."""

    __tablename__ = "zone_changes"
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey(Tenant.tenant_id), primary_key=True)
    starts_on: Mapped[date] = mapped_column(primary_key=True)
    starts_at: Mapped[datetime]
    time_zone: Mapped[str] = mapped_column(Text)
    set_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (CheckConstraint("extract(day from starts_on) = 1", name="starts_on"),)


class Label(Base):
    """A name as it was when a row was written. Never changed, except by erasure."""

    __tablename__ = "labels"
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey(Tenant.tenant_id), primary_key=True)
    label_id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    subject_id: Mapped[UUID]
    name: Mapped[str] = mapped_column(Text)
    __table_args__ = (UniqueConstraint("tenant_id", "subject_id", "name"),)


class User(Base):
    """A person, once for all tenants."""

    __tablename__ = "users"
    user_id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    email: Mapped[str] = mapped_column(Text, unique=True)
    name: Mapped[str] = mapped_column(Text, default="")
    password_hash: Mapped[str | None] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text, default="active")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # Whose link let the password be chosen: nobody else's until the e-mail is proven.
    made_by_tenant: Mapped[UUID | None] = mapped_column(ForeignKey(Tenant.tenant_id))
    email_proven_at: Mapped[datetime | None]
    __table_args__ = (
        CheckConstraint("email = lower(email)", name="email"),
        CheckConstraint("status in ('active', 'disabled')", name="status"),
    )


class Operator(Base):
    """A platform operator: may open the Admin page and act across tenants, audited."""

    __tablename__ = "operators"
    user_id: Mapped[UUID] = mapped_column(ForeignKey(User.user_id), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Membership(Base):
    """A person's place in a tenant, with the role there."""

    __tablename__ = "memberships"
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey(Tenant.tenant_id), primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey(User.user_id), primary_key=True)
    role: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text, default="active")
    cost_center: Mapped[str | None] = mapped_column(Text)
    label_id: Mapped[UUID]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    project: Mapped[str | None] = mapped_column(Text)
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "label_id"], [Label.tenant_id, Label.label_id]),
        CheckConstraint("role in ('member', 'finance', 'admin')", name="role"),
        CheckConstraint("status in ('active', 'disabled')", name="status"),
        Index(None, "user_id"),
    )


class ApiKey(Base):
    """An API key without its secret: who it acts for, what it may do, until when."""

    __tablename__ = "api_keys"
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    key_id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    user_id: Mapped[UUID]
    name: Mapped[str] = mapped_column(Text)
    prefix: Mapped[str] = mapped_column(Text)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    cost_center: Mapped[str | None] = mapped_column(Text)
    project: Mapped[str | None] = mapped_column(Text)
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "user_id"], [Membership.tenant_id, Membership.user_id]),
        Index(None, "tenant_id", "user_id"),
    )


class ApiKeyHash(Base):
    """Where a presented key leads. Platform table: found by hash alone, before a tenant is known."""

    __tablename__ = "api_key_hashes"
    key_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    of_tenant: Mapped[UUID]
    key_id: Mapped[UUID]
    __table_args__ = (
        ForeignKeyConstraint(["of_tenant", "key_id"], [ApiKey.tenant_id, ApiKey.key_id]),
    )


class Invite(Base):
    """A one-time link into a tenant. Platform table: found by its hash, before anybody is known."""

    __tablename__ = "invites"
    invite_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    invite_id: Mapped[UUID] = mapped_column(unique=True, default=new_id)
    of_tenant: Mapped[UUID] = mapped_column(ForeignKey(Tenant.tenant_id))
    email: Mapped[str] = mapped_column(Text)
    role: Mapped[str] = mapped_column(Text)
    invited_by: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    accepted_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    __table_args__ = (
        CheckConstraint("email = lower(email)", name="email"),
        CheckConstraint("role in ('member', 'finance', 'admin')", name="role"),
        Index(None, "of_tenant"),
    )


class LimitOverride(Base):
    """One limit set for one tenant, person or key; a null maximum means unlimited."""

    __tablename__ = "limit_overrides"
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey(Tenant.tenant_id), primary_key=True)
    scope: Mapped[str] = mapped_column(Text, primary_key=True)
    subject_id: Mapped[UUID] = mapped_column(primary_key=True)
    limit_name: Mapped[str] = mapped_column(Text, primary_key=True)
    maximum: Mapped[int | None] = mapped_column(BigInteger)
    set_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (
        CheckConstraint("scope in ('tenant', 'user', 'key')", name="scope"),
        CheckConstraint(
            "limit_name in ('requests_per_minute', 'requests_per_hour',"
            " 'monthly_messages', 'monthly_tokens', 'monthly_nusd')",
            name="limit_name",
        ),
        CheckConstraint("maximum >= 0", name="maximum"),
    )


class SignInSession(Base):
    """A signed-in browser: the cookie's hash, the person, the chosen tenant, the door used."""

    __tablename__ = "sessions"
    session_id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    token_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey(User.user_id))
    of_tenant: Mapped[UUID | None]
    door: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    address: Mapped[str | None] = mapped_column(Text)
    user_agent: Mapped[str | None] = mapped_column(Text)
    __table_args__ = (Index(None, "user_id"),)


class Ticket(Base):
    """A one-time pass from the sign-in form to the cookie route, and where the session is to work;
    lives thirty seconds."""

    __tablename__ = "tickets"
    ticket_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey(User.user_id))
    door: Mapped[str] = mapped_column(Text)
    expires_at: Mapped[datetime]
    of_tenant: Mapped[UUID | None]


class SignInFailure(Base):
    """Failed attempts of a name or an address; the count decays with time."""

    __tablename__ = "sign_in_failures"
    subject_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    failures: Mapped[int]
    last_failed_at: Mapped[datetime] = mapped_column(server_default=func.now())


class AuditEntry(Base):
    """Who did what to what, allowed or denied. Append-only for every role."""

    __tablename__ = "audit_log"
    audit_id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    occurred_at: Mapped[datetime] = mapped_column(server_default=func.now())
    actor: Mapped[str] = mapped_column(Text)
    of_tenant: Mapped[UUID | None]
    action: Mapped[str] = mapped_column(Text)
    object: Mapped[str] = mapped_column(Text)
    outcome: Mapped[str] = mapped_column(Text)
    before: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    after: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    __table_args__ = (
        CheckConstraint("outcome in ('done', 'denied', 'failed')", name="outcome"),
        Index("audit_log_of_tenant_idx", "of_tenant", text("occurred_at desc")),
    )
