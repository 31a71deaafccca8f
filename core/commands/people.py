"""`user` and `operator`: people, their places and invitations. A password is read from standard input
only: an argument would show in the list of processes. An invitation's link is printed once."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import click
from sqlalchemy.orm import Session

from core import db, errors
from core.commands import finding
from core.commands.connection import WHO, connected
from core.commands.output import Group, answer, remark
from core.identity import invites, members, passwords, people, tenants
from core.identity.access import Role

_PASSWORD_BYTES_MAX = 1_000
_EXISTING = click.option(
    "--existing", is_flag=True, help="The e-mail has an account, and it is who you mean."
)
_ROLE = click.Choice([role.value for role in Role])


@click.group(cls=Group)
def user() -> None:
    """People."""


@click.group(cls=Group)
def operator() -> None:
    """Platform operators, who see every tenant."""


@user.command("create")
@click.option("--tenant", "tenant_name", required=True, help="Its id or exact name.")
@click.option("--email", required=True)
@click.option("--name", default="")
@click.option("--role", default=Role.MEMBER.value, show_default=True, type=_ROLE)
@click.option("--cost-center", default=None)
@click.option("--password-stdin", is_flag=True, help="Else there is no sign-in by password.")
@_EXISTING
def create_user(
    tenant_name: str, email: str, name: str, role: str, cost_center: str | None, *,
    password_stdin: bool, existing: bool,
) -> None:  # fmt: skip
    """Put a person into a tenant; prints the person's id.

    Where the e-mail has an account, says whose and where they work, and refuses without --existing.
    """
    password_hash = _read_password(email, name) if password_stdin else None
    with connected(), db.transaction(WHO) as session:
        tenant_id = finding.tenant(session, tenant_name).tenant_id
        user_id = _person(session, email, name, password_hash)
        with _saying_how():
            members.add(
                session, WHO, tenant_id, user_id, Role(role), confirmed=existing,
                cost_center=cost_center,
            )  # fmt: skip
    answer(str(user_id), {"id": user_id})


@user.command("disable")
@click.argument("person", required=False)
@click.option("--email", help="Instead of the argument.")
@click.option("--tenant", "tenant_name", help="End only their place in this tenant.")
def disable_user(person: str | None, email: str | None, tenant_name: str | None) -> None:
    """End a person's access at once, named by id or e-mail: sessions and keys are dead."""
    named = person or email
    if not named or (person and email):
        raise click.UsageError("Name the person once: by id or e-mail.")
    with connected(), db.transaction(WHO) as session:
        user_id = finding.person(session, named)
        if tenant_name is None:
            tenants.disable_user(session, WHO, user_id)
        else:
            tenant_id = finding.tenant(session, tenant_name).tenant_id
            members.change(session, WHO, tenant_id, user_id, active=False)
    answer(str(user_id), {"id": user_id})


@user.command("enable")
@click.argument("person")
@click.option("--tenant", "tenant_name", help="Give back only their place in this tenant.")
def enable_user(person: str, tenant_name: str | None) -> None:
    """Let a person sign in again, named by id or e-mail. Ended sessions stay ended."""
    with connected(), db.transaction(WHO) as session:
        user_id = finding.person(session, person)
        if tenant_name is None:
            tenants.enable_user(session, WHO, user_id)
        else:
            tenant_id = finding.tenant(session, tenant_name).tenant_id
            members.change(session, WHO, tenant_id, user_id, active=True)
    answer(str(user_id), {"id": user_id})


@user.command("role")
@click.argument("person")
@click.argument("role", type=_ROLE)
@click.option("--tenant", "tenant_name", required=True, help="Its id or exact name.")
def change_role(person: str, role: str, tenant_name: str) -> None:
    """Change a person's role in a tenant, from their next click or call on."""
    with connected(), db.transaction(WHO) as session:
        user_id = finding.person(session, person)
        tenant_id = finding.tenant(session, tenant_name).tenant_id
        members.change(session, WHO, tenant_id, user_id, role=Role(role))
    answer(str(user_id), {"id": user_id, "role": role})


@user.command("sign-out")
@click.argument("person")
def sign_out(person: str) -> None:
    """End a person's sessions everywhere; prints how many. API keys go on working."""
    with connected(), db.transaction(WHO) as session:
        user_id = finding.person(session, person)
        ended = members.sign_out(session, WHO, None, user_id)
    answer(str(ended), {"id": user_id, "sessions_ended": ended})


@user.command("confirm-email")
@click.argument("person")
def confirm_email(person: str) -> None:
    """State that a person, named by id or e-mail, reads their mailbox: you have reached them there.

    An account that a tenant's link made can join other tenants and the operators from then on.
    """
    with connected(), db.transaction(WHO) as session:
        user_id = finding.person(session, person)
        tenants.confirm_email(session, WHO, user_id)
    answer(str(user_id), {"id": user_id})


@user.command("invite")
@click.option("--tenant", "tenant_name", required=True, help="Its id or exact name.")
@click.option("--email", required=True)
@click.option("--role", default=Role.MEMBER.value, show_default=True, type=_ROLE)
def invite(tenant_name: str, email: str, role: str) -> None:
    """Make a link by which one person joins a tenant; prints it once, and its id on standard error."""
    with connected(), db.transaction(WHO) as session:
        tenant_id = finding.tenant(session, tenant_name).tenant_id
        made = invites.invite(session, WHO, tenant_id, email, Role(role))
    remark(f"Invitation {made.invite_id}, good once until {made.expires_at:%Y-%m-%d %H:%M} UTC:")
    answer(made.link, {"id": made.invite_id, "link": made.link, "expires_at": made.expires_at})


@operator.command("create")
@click.option("--email", required=True)
@click.option("--name", default="")
@click.option("--password-stdin", is_flag=True, help="Else there is no sign-in by password.")
@_EXISTING
def create_operator(email: str, name: str, *, password_stdin: bool, existing: bool) -> None:
    """Make a person a platform operator; prints the person's id. A known e-mail as in `user create`."""
    password_hash = _read_password(email, name) if password_stdin else None
    with connected(), db.transaction(WHO) as session:
        user_id = _person(session, email, name, password_hash)
        with _saying_how():
            tenants.make_operator(session, WHO, user_id, confirmed=existing)
    answer(str(user_id), {"id": user_id})


@contextmanager
def _saying_how() -> Iterator[None]:
    """Add to a refusal about who an e-mail is what to do when it is who was meant."""
    try:
        yield
    except errors.Conflict as refusal:
        if refusal.param != "email":
            raise
        way = (
            "user confirm-email" if refusal.message == people.UNPROVEN else "the option --existing"
        )
        raise errors.Conflict(
            f"{refusal.message} Nothing was changed; if it is who you mean, use {way}.",
            param="email",
        ) from None


def _person(session: Session, email: str, name: str, password_hash: str | None) -> UUID:
    """The person with this e-mail, made when there is none. A known one's password stays."""
    try:
        user_id = tenants.find_user(session, WHO, email)
    except errors.NotFound:
        return tenants.create_user(session, WHO, email, name=name, password_hash=password_hash)
    if password_hash is not None:
        raise errors.Conflict(
            "This person is known already; their password is not changed here.", param="email"
        )
    return user_id


def _read_password(email: str, name: str) -> str:
    raw = sys.stdin.buffer.readline(_PASSWORD_BYTES_MAX)
    try:
        password = raw.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise errors.BadInput("The password is not UTF-8 text.", param="password") from None
    return passwords.hash_password(password, own=(email, name))
