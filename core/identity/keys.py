"""API keys: issued once in clear, kept as a hash, revoked by their public id. Issues none in
somebody else's name, and never tells a foreign key from a missing one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy import Row, func, select, text
from sqlalchemy.orm import Session

from core import db, errors
from core.crypto import new_token, token_hash
from core.identity import audit, names
from core.identity.access import (
    Actor,
    Principal,
    Role,
    Scope,
    principal_of,
    require_admin,
    require_person,
)
from core.identity.tables import ApiKey, LimitOverride, Membership, Tenant
from core.money import NanoUsd

START = "sk-purser-"
LIVE_KEYS_MAX = 50
_PREFIX_LENGTH = 14
_NAME_LENGTH_MAX = 100
_SECRET_LENGTH_MAX = 100
_BUDGET_MAX_NUSD = 2**62
_EVERY_SCOPE = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class Key:
    """A key as its owner and the tenant's admins see it; the budget is billed cost per month.

    `cost_center` and `project` are what its calls are booked to: its own, else its owner's, else the
    tenant's.
    """

    key_id: UUID
    user_id: UUID
    name: str
    prefix: str
    scopes: frozenset[str]
    budget_nusd: NanoUsd | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    cost_center: str | None
    project: str | None


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key; `secret` is shown once and is not in the object's printed form."""

    key_id: UUID
    prefix: str
    secret: str = field(repr=False)


def issue(
    session: Session,
    who: Actor,
    name: str,
    *,
    tenant_id: UUID | None = None,
    user_id: UUID | None = None,
    scopes: Collection[str] = _EVERY_SCOPE,
    budget_nusd: int | None = None,
    expires_at: datetime | None = None,
) -> IssuedKey:
    """A new key of the principal, or (operators) of a named member of a named tenant.

    Raises errors.BadInput, errors.Forbidden for an API key or another person's name,
    errors.NotFound for no such member, errors.Conflict at fifty live keys.
    """
    with audit.denials(who, "key.issue", f"user:{user_id or 'self'}"):
        owner_tenant, owner = _owner(who, tenant_id, user_id)
    cleaned = names.name(name, "name", length_max=_NAME_LENGTH_MAX)
    chosen = _scopes(scopes)
    if budget_nusd is not None and not 0 <= budget_nusd <= _BUDGET_MAX_NUSD:
        raise errors.BadInput("The budget is not an amount that can be kept.", param="budget")
    secret = START + new_token()
    issued = IssuedKey(db.new_id(), secret[:_PREFIX_LENGTH], secret)
    outcome = session.execute(
        text(_ISSUE),
        {
            "tenant": owner_tenant, "user": owner, "key": issued.key_id, "hash": token_hash(secret),
            "name": cleaned, "prefix": issued.prefix, "scopes": chosen, "budget": budget_nusd,
            "expires": names.future(expires_at, "expiry"), "live_max": LIVE_KEYS_MAX,
        },
    ).scalar_one()  # fmt: skip
    if outcome == "too_many":
        raise errors.Conflict(f"There are {LIVE_KEYS_MAX} live keys already; revoke one first.")
    if outcome != "ok":
        raise errors.NotFound("There is no such member.")
    audit.record(
        session, who, "key.issue", f"key:{issued.key_id}", tenant_id=owner_tenant,
        after={"user_id": owner, "name": cleaned, "prefix": issued.prefix, "scopes": chosen,
               "budget_nusd": budget_nusd, "expires_at": expires_at},
    )  # fmt: skip
    return issued


def revoke(session: Session, who: Actor, key_id: UUID) -> None:
    """End a key at once: one's own, any of the tenant as its admin, any at all as an operator.

    Raises errors.NotFound for any other and for one already revoked.
    """
    with audit.denials(who, "key.revoke", f"key:{key_id}"):
        require_person(who)
    own = isinstance(who, Principal) and who.role is not Role.ADMIN
    tenant_id = session.execute(
        text("select verbs.revoke_key(:tenant, :key, :owner)"),
        {"tenant": who.bound_tenant_id, "key": key_id,
         "owner": who.user_id if isinstance(who, Principal) and own else None},
    ).scalar_one()  # fmt: skip
    if tenant_id is None:
        raise errors.NotFound("There is no such API key.")
    audit.record(session, who, "key.revoke", f"key:{key_id}", tenant_id=tenant_id)


def mine(session: Session, who: Principal) -> tuple[Key, ...]:
    """The principal's own keys in this tenant, newest first, ended ones included."""
    return _list(session, who.tenant_id, who.user_id)


def of_tenant(session: Session, who: Actor, tenant_id: UUID) -> tuple[Key, ...]:
    """All keys of a tenant, for its admins and operators. Raises errors.Forbidden, errors.NotFound."""
    require_admin(who, tenant_id)
    return _list(session, tenant_id, None)


def who(secret: str) -> Principal | None:
    """Whom a presented key stands for now, in one statement; None for anything that has ended."""
    if not secret.startswith(START) or len(secret) > _SECRET_LENGTH_MAX:
        return None
    row = db.current().call("select * from verbs.who_by_key(%s)", (token_hash(secret),))
    return None if row is None else principal_of(row)


_ISSUE = """
select verbs.issue_key(:tenant, :user, :key, :hash, :name, :prefix, :scopes, :expires, :budget,
  :live_max)
"""


def _owner(who: Actor, tenant_id: UUID | None, user_id: UUID | None) -> tuple[UUID, UUID]:
    require_person(who)
    if isinstance(who, Principal):
        if (tenant_id or who.tenant_id, user_id or who.user_id) != (who.tenant_id, who.user_id):
            raise errors.Forbidden("A key can be issued in one's own name only.")
        return who.tenant_id, who.user_id
    if tenant_id is None or user_id is None:
        raise errors.BadInput("Name the tenant and the person.", param="user")
    return tenant_id, user_id


def _scopes(given: Collection[str]) -> list[str]:
    if not given or not _EVERY_SCOPE.issuperset(given):
        every = ", ".join(sorted(_EVERY_SCOPE))
        raise errors.BadInput(f"The scopes are one or more of {every}.", param="scopes")
    return sorted({str(scope) for scope in given})


def _list(session: Session, tenant_id: UUID, user_id: UUID | None) -> tuple[Key, ...]:
    budget = (
        (LimitOverride.tenant_id == ApiKey.tenant_id)
        & (LimitOverride.subject_id == ApiKey.key_id)
        & (LimitOverride.scope == "key")
        & (LimitOverride.limit_name == "monthly_nusd")
    )
    query = (
        select(
            ApiKey,
            LimitOverride.maximum,
            func.coalesce(ApiKey.cost_center, Membership.cost_center, Tenant.cost_center),
            func.coalesce(ApiKey.project, Membership.project, Tenant.project),
        )
        .join(Tenant, Tenant.tenant_id == ApiKey.tenant_id)
        .join(
            Membership,
            (Membership.tenant_id == ApiKey.tenant_id) & (Membership.user_id == ApiKey.user_id),
        )
        .outerjoin(LimitOverride, budget)
        .where(ApiKey.tenant_id == tenant_id)
        .order_by(ApiKey.created_at.desc(), ApiKey.key_id.desc())
    )
    if user_id is not None:
        query = query.where(ApiKey.user_id == user_id)
    return tuple(_key(row) for row in session.execute(query))


def _key(row: Row[ApiKey, int | None, str | None, str | None]) -> Key:
    key, budget_nusd, cost_center, project = row
    return Key(
        key.key_id, key.user_id, key.name, key.prefix, frozenset(key.scopes),
        None if budget_nusd is None else NanoUsd(budget_nusd),
        key.created_at, key.expires_at, key.revoked_at, cost_center, project,
    )  # fmt: skip
