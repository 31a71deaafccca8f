"""Invites: a link that gives one person a place in a tenant, once, within a week. Keeps only a link's
hash, says the same of one that was used, revoked, is too old or was never made, and gives its holder no
account that is somebody's already."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from core import clock, db, errors, settings
from core.crypto import new_token, token_hash
from core.db import new_id
from core.identity import audit, names, passwords, sessions
from core.identity.access import Actor, Principal, Role, require_admin

LIFE = timedelta(days=7)
OPEN_MAX = 200
HOURLY_MAX = 50
ENDED = (
    "This invitation cannot be used: it was used before, was taken back, or is too old."
    " Ask whoever invited you for a new link."
)
SIGN_IN_FIRST = (
    "This e-mail has an account without a password. Sign in as you always do, and open the link again."
    " Who has no way to sign in asks the operators of this platform."
)
UNPROVEN = (
    "This account was made with a link of another team, and nobody has proven yet that its e-mail is yours."
    " Ask the operators of this platform, then open the link again."
)
_NAME_LENGTH_MAX = 200
_TOKEN_LENGTH_MAX = 100
_UNLIMITED = 2**31 - 1
_NO_INVITE = "There is no such invitation."


class Proof(StrEnum):
    """What whoever holds a link shows, to be the person it is for, unless they are signed in as them.

    NEW: nobody has this e-mail, or only an account nobody ever used; they choose a password. PASSWORD:
    the one they have. SESSION: they have none, so nothing but being signed in will do.
    """

    NEW = "new"
    PASSWORD = "password"  # noqa: S105 - a word, no secret
    SESSION = "session"


@dataclass(frozen=True, slots=True)
class Invite:
    """A link as the tenant's admins see it; `invited_by` is an actor as the audit log names it."""

    invite_id: UUID
    email: str
    role: Role
    invited_by: str
    created_at: datetime
    expires_at: datetime

    def is_open(self, now: datetime | None = None) -> bool:
        """Whether the link can still be used."""
        return self.expires_at > (now or clock.now())


@dataclass(frozen=True, slots=True)
class IssuedInvite:
    """A new link; it is shown once and is not in the object's printed form."""

    invite_id: UUID
    email: str
    role: Role
    expires_at: datetime
    link: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Opened:
    """What a usable link says to whoever holds it. `is_member`: the person it is for has an active place
    there already."""

    tenant_id: UUID
    tenant_name: str
    email: str
    role: Role
    expires_at: datetime
    proof: Proof
    is_member: bool


def invite(session: Session, who: Actor, tenant_id: UUID, email: str, role: Role) -> IssuedInvite:
    """A link for one e-mail into a tenant, good once for a week; an open one for it ends.

    Raises errors.BadInput, errors.NotFound; errors.Conflict for somebody who is a member already, at
    200 open links of the tenant and at 50 links of one admin within an hour.
    """
    with audit.denials(who, "invite.create", f"tenant:{tenant_id}"):
        require_admin(who, tenant_id)
    token = new_token()
    issued = IssuedInvite(
        new_id(), names.email(email), role, clock.now() + LIFE,
        f"{settings.current().app_url}/?invite={token}",
    )  # fmt: skip
    outcome = session.execute(
        text(_MAKE),
        {
            "tenant": tenant_id, "invite": issued.invite_id, "hash": token_hash(token),
            "email": issued.email, "role": role, "by": audit.name_of(who),
            "expires": issued.expires_at, "open_max": OPEN_MAX,
            "hourly_max": HOURLY_MAX if isinstance(who, Principal) else _UNLIMITED,
        },
    ).scalar_one()  # fmt: skip
    _refuse(outcome)
    audit.record(
        session, who, "invite.create", f"invite:{issued.invite_id}", tenant_id=tenant_id,
        after={"role": role, "expires_at": issued.expires_at},
    )  # fmt: skip
    return issued


def of_tenant(session: Session, who: Actor, tenant_id: UUID) -> tuple[Invite, ...]:
    """The links that were neither used nor revoked, the newest first, expired ones included."""
    require_admin(who, tenant_id)
    rows = session.execute(text("select * from verbs.invites_of(:tenant)"), {"tenant": tenant_id})
    return tuple(
        Invite(r.invite_id, r.email, Role(r.role), r.invited_by, r.created_at, r.expires_at)
        for r in rows
    )


def reissue(session: Session, who: Actor, tenant_id: UUID, invite_id: UUID) -> IssuedInvite:
    """A new link for the e-mail and role of one that was not used, which ends. Raises as `invite`."""
    with audit.denials(who, "invite.create", f"invite:{invite_id}"):
        found = of_tenant(session, who, tenant_id)
    old = next((entry for entry in found if entry.invite_id == invite_id), None)
    if old is None:
        raise errors.NotFound(_NO_INVITE)
    return invite(session, who, tenant_id, old.email, old.role)


def revoke(session: Session, who: Actor, tenant_id: UUID, invite_id: UUID) -> None:
    """End a link at once. Raises errors.NotFound for a used, ended, foreign or missing one."""
    with audit.denials(who, "invite.revoke", f"invite:{invite_id}"):
        require_admin(who, tenant_id)
    if not session.execute(
        text("select verbs.revoke_invite(:tenant, :invite)"),
        {"tenant": tenant_id, "invite": invite_id},
    ).scalar_one():
        raise errors.NotFound(_NO_INVITE)
    audit.record(session, who, "invite.revoke", f"invite:{invite_id}", tenant_id=tenant_id)


def opened(token: str) -> Opened | None:
    """What the link of this token says now; None for every link that cannot be used."""
    if not 0 < len(token) <= _TOKEN_LENGTH_MAX:
        return None
    row = db.current().call("select * from verbs.invite_of(%s)", (token_hash(token),))
    if row is None:
        return None
    return Opened(**(row | {"role": Role(row["role"]), "proof": Proof(row["proof"])}))


def accept(
    token: str, password: str, *, name: str = "", address: str | None = None,
    known: str | None = None,
) -> UUID:  # fmt: skip
    """Use a link; the person who has the place now. A new person gets `password` and `name`; a known
    one proves it is them with theirs, an attempt as at sign-in, locked and counted like it.

    Raises errors.NotFound for a link that cannot be used; errors.BadInput for a password that is
    wrong or, of a new person, against the rules, which uses nothing up; errors.Conflict where the
    person has no password and signs in otherwise, where the e-mail became somebody's meanwhile, or
    where another tenant's link made the account and its e-mail is not proven.
    """
    found = _usable(token)
    match found.proof:
        case Proof.SESSION:
            raise errors.Conflict(SIGN_IN_FIRST)
        case Proof.PASSWORD:
            return _use(token, _proven(found.email, password, address, known), "", None)
        case Proof.NEW:
            cleaned = names.name(name, "name", length_max=_NAME_LENGTH_MAX)
            hashed = passwords.hash_password(password, own=(found.email, cleaned))
            return _use(token, new_id(), cleaned, hashed)


def accept_as(token: str, session_token: str | None) -> UUID:
    """Use a link as whoever is signed in with `session_token`: being them is proof enough.

    Raises errors.NotSignedIn for a session that has ended, errors.NotFound for a link that cannot be
    used, errors.Forbidden for one that is for another e-mail, errors.Conflict for an account that
    another tenant's link made and whose e-mail is not proven; none of them uses it up.
    """
    signed_in = sessions.who(session_token)
    if signed_in is None:
        raise errors.NotSignedIn("Please sign in.")
    if _usable(token).email != signed_in.who.email:
        raise errors.Forbidden("This invitation is for another e-mail than yours.")
    return _use(token, signed_in.user_id, "", None)


_MAKE = """
select verbs.make_invite(:tenant, :invite, :hash, :email, :role, :by, :expires, :open_max, :hourly_max)
"""


def _refuse(outcome: str) -> None:
    if outcome == "member":
        raise errors.Conflict("This person is a member already.", param="email")
    if outcome == "too_many_open":
        raise errors.Conflict(
            f"There are {OPEN_MAX} open invitations: take one back, or wait until one is used."
        )
    if outcome == "too_many":
        raise errors.Conflict(f"You made {HOURLY_MAX} invitations within an hour. Try again later.")
    if outcome != "ok":
        raise errors.NotFound("There is no such tenant.")


def _usable(token: str) -> Opened:
    found = opened(token)
    if found is None:
        raise errors.NotFound(ENDED)
    return found


def _proven(email: str, password: str, address: str | None, known: str | None) -> UUID:
    user_id = passwords.verify(email, password, address, known=known)
    if user_id is None:
        raise errors.BadInput(
            "The password is not right, or there were too many attempts. Please try again.",
            param="password",
        )
    return user_id


def _use(token: str, user_id: UUID, name: str, password_hash: str | None) -> UUID:
    row = db.current().call(
        "select * from verbs.accept_invite(%s, %s, %s, %s, %s)",
        (token_hash(token), user_id, name, password_hash, new_id()),
    )
    if row is None or row["code"] == "ended":
        raise errors.NotFound(ENDED)
    if row["code"] == "known":
        raise errors.Conflict(
            "Somebody has an account with this e-mail by now. Open the link again to accept as them."
        )
    if row["code"] == "unproven":
        raise errors.Conflict(UNPROVEN)
    accepted_by: UUID = row["person"]
    return accepted_by
