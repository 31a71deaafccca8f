"""Who asks, and whether they may: Principal, Operator, and the two checks every verb starts with.
Resolves nobody (sessions and keys do) and never grants by default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias
from uuid import UUID

from core import errors
from core.db import JOBS, RW, System


class Role(StrEnum):
    """What a person is in a tenant. The roles do not contain each other: name each that may."""

    MEMBER = "member"
    FINANCE = "finance"
    ADMIN = "admin"


class Scope(StrEnum):
    """What an API key may do."""

    CHAT = "chat"
    MODELS = "models"
    USAGE = "usage"


@dataclass(frozen=True, slots=True)
class Principal:
    """A person acting in one tenant, through a browser session or an API key (one id is set)."""

    tenant_id: UUID
    user_id: UUID
    role: Role
    email: str
    name: str
    tenant_name: str
    plan: str
    mode: str
    time_zone: str
    session_id: UUID | None = None
    key_id: UUID | None = None
    scopes: frozenset[str] = frozenset()

    @property
    def db_role(self) -> str:
        """The database role of this person's transactions."""
        return RW

    @property
    def bound_tenant_id(self) -> UUID | None:
        """The only tenant whose rows this person's transactions see."""
        return self.tenant_id


@dataclass(frozen=True, slots=True)
class Operator:
    """A platform operator: acts across tenants, audited."""

    user_id: UUID
    email: str
    name: str

    @property
    def db_role(self) -> str:
        """The database role of operators' verbs."""
        return JOBS

    @property
    def bound_tenant_id(self) -> UUID | None:
        """No tenant: all are visible."""
        return None


Actor: TypeAlias = Principal | Operator | System


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A live session: the person in the chosen tenant, the same person as an operator, or both."""

    principal: Principal | None
    operator: Operator | None
    session_id: UUID

    @property
    def who(self) -> Principal | Operator:
        """The identity to act as for one's own account. Raises errors.NotSignedIn for nobody."""
        if found := self.principal or self.operator:
            return found
        raise errors.NotSignedIn("Please sign in.")

    @property
    def user_id(self) -> UUID:
        """The person behind both identities."""
        return self.who.user_id

    @property
    def who_of_all(self) -> Principal | Operator:
        """The identity to look at figures as: an operator's, which sees all tenants, goes first."""
        return self.operator or self.in_tenant

    @property
    def in_tenant(self) -> Principal:
        """The person in the chosen tenant. Raises errors.NotSignedIn where they have none."""
        if self.principal is None:
            raise errors.NotSignedIn("Please sign in.")
        return self.principal

    def is_same(self, other: SignedIn | None) -> bool:
        """Whether `other` is the same session of the same person with the same rights: nothing
        that was drawn for one may be kept from the other."""
        return other is not None and self.rights == other.rights

    @property
    def rights(self) -> tuple[object, ...]:
        """The session, the person, and all that decides what they may see."""
        place = self.principal and (self.principal.tenant_id, self.principal.role)
        return self.session_id, self.user_id, place, self.operator is not None


def require(who: Actor | None, *roles: Role) -> Principal:
    """The principal, when they have one of `roles` (none named: any member).

    Raises errors.NotSignedIn for nobody, errors.Forbidden for a wrong role or an operator, who has
    no role inside a tenant.
    """
    if who is None:
        raise errors.NotSignedIn("Please sign in.")
    if not isinstance(who, Principal) or (roles and who.role not in roles):
        raise errors.Forbidden("Your role does not allow this.")
    return who


def require_operator(who: Actor | None) -> Operator | System:
    """The operator or the system. Raises errors.NotSignedIn or errors.Forbidden for others."""
    if who is None:
        raise errors.NotSignedIn("Please sign in.")
    if isinstance(who, Principal):
        raise errors.Forbidden("Only platform operators may do this.")
    return who


def require_admin(who: Actor | None, tenant_id: UUID) -> None:
    """Let through whoever administers this tenant: its admins in a browser, operators, the system.

    Raises errors.NotSignedIn; errors.Forbidden for another role or an API key; errors.NotFound for
    another tenant, as for one that is missing.
    """
    _require_in(who, tenant_id, Role.ADMIN)


def require_finance(who: Actor | None, tenant_id: UUID) -> None:
    """Let through whoever keeps this tenant's books: its finance people and admins in a browser,
    operators, the system. Raises as `require_admin`."""
    _require_in(who, tenant_id, Role.ADMIN, Role.FINANCE)


def _require_in(who: Actor | None, tenant_id: UUID, *roles: Role) -> None:
    if not isinstance(who, Principal):
        require_operator(who)
        return
    require_person(require(who, *roles))
    if who.tenant_id != tenant_id:
        raise errors.NotFound("There is no such tenant.")


def require_person(who: Actor | None) -> None:
    """Refuse an API key where a person (or the system) must act. Raises errors.Forbidden."""
    if who is None:
        raise errors.NotSignedIn("Please sign in.")
    if isinstance(who, Principal) and who.key_id is not None:
        raise errors.Forbidden("An API key cannot do this; sign in with a browser.")


def require_scope(who: Principal | None, scope: Scope) -> Principal:
    """The principal, when its API key carries `scope`; a browser session carries every scope."""
    if who is None:
        raise errors.NotSignedIn("Incorrect API key provided.")
    if who.key_id is not None and scope not in who.scopes:
        raise errors.Forbidden(f"This API key lacks the scope '{scope}'.")
    return who


def principal_of(row: Mapping[str, Any]) -> Principal:
    """A row of the SQL type `identity` as a Principal; the row must carry a tenant."""
    return Principal(
        tenant_id=row["tenant_id"], user_id=row["user_id"], role=Role(row["role"]),
        email=row["email"], name=row["name"], tenant_name=row["tenant_name"], plan=row["plan"],
        mode=row["mode"], time_zone=row["time_zone"], session_id=row["session_id"],
        key_id=row["key_id"], scopes=frozenset(row["scopes"] or ()),
    )  # fmt: skip
