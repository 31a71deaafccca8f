"""`user create`, `user disable` and `operator create`. A password is read from standard input only:
an argument would show in the list of processes."""

from __future__ import annotations

import sys
from uuid import UUID

import click
from sqlalchemy.orm import Session

from core import db, errors
from core.commands import finding
from core.commands.connection import WHO, connected
from core.commands.output import Group, answer
from core.identity import passwords, tenants
from core.identity.access import Role

_PASSWORD_BYTES_MAX = 1_000


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
@click.option(
    "--role",
    default=Role.MEMBER.value,
    show_default=True,
    type=click.Choice([role.value for role in Role]),
)
@click.option("--cost-center", default=None)
@click.option("--password-stdin", is_flag=True, help="Else there is no sign-in by password.")
def create_user(
    tenant_name: str, email: str, name: str, role: str, cost_center: str | None, *,
    password_stdin: bool,
) -> None:  # fmt: skip
    """Put a person into a tenant; prints the person's id. A known e-mail is the same person."""
    password_hash = _read_password() if password_stdin else None
    with connected(), db.transaction(WHO) as session:
        tenant_id = finding.tenant(session, tenant_name).tenant_id
        user_id = _person(session, email, name, password_hash)
        tenants.add_member(session, WHO, tenant_id, user_id, Role(role), cost_center=cost_center)
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
            tenants.change_member(session, WHO, tenant_id, user_id, active=False)
    answer(str(user_id), {"id": user_id})


@operator.command("create")
@click.option("--email", required=True)
@click.option("--name", default="")
@click.option("--password-stdin", is_flag=True, help="Else there is no sign-in by password.")
def create_operator(email: str, name: str, *, password_stdin: bool) -> None:
    """Make a person a platform operator; prints the person's id."""
    password_hash = _read_password() if password_stdin else None
    with connected(), db.transaction(WHO) as session:
        user_id = _person(session, email, name, password_hash)
        tenants.make_operator(session, WHO, user_id)
    answer(str(user_id), {"id": user_id})


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


def _read_password() -> str:
    raw = sys.stdin.buffer.readline(_PASSWORD_BYTES_MAX)
    try:
        password = raw.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise errors.BadInput("The password is not UTF-8 text.", param="password") from None
    return passwords.hash_password(password)
