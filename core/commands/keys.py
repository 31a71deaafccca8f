"""`key create` and `key revoke`. The secret is printed once and kept nowhere."""

from __future__ import annotations

from datetime import timedelta

import click

from core import clock, db
from core.commands import finding
from core.commands.connection import WHO, connected
from core.commands.output import USD, Group, answer, remark
from core.identity import keys

_DAYS_MAX = 3_650


@click.group(cls=Group)
def key() -> None:
    """API keys."""


@key.command()
@click.option("--tenant", "tenant_name", required=True, help="Its id or exact name.")
@click.option("--user", "person", required=True, help="Their id or e-mail.")
@click.option("--name", required=True, help="What the key is for.")
@click.option("--budget", "budget_nusd", type=USD, help="USD per month.")
@click.option("--expires", "days", type=click.IntRange(1, _DAYS_MAX), help="Days from now.")
def create(
    tenant_name: str, person: str, name: str, budget_nusd: int | None, days: int | None
) -> None:
    """Make an API key for a member; prints the key once, and its id on standard error."""
    expires_at = clock.now() + timedelta(days=days) if days else None
    with connected(), db.transaction(WHO) as session:
        tenant_id = finding.tenant(session, tenant_name).tenant_id
        issued = keys.issue(
            session, WHO, name, tenant_id=tenant_id, user_id=finding.person(session, person),
            budget_nusd=budget_nusd, expires_at=expires_at,
        )  # fmt: skip
    remark(f"Key {issued.key_id}. It is shown only now:")
    answer(issued.secret, {"id": issued.key_id, "key": issued.secret, "prefix": issued.prefix})


@key.command()
@click.argument("key_id")
def revoke(key_id: str) -> None:
    """End an API key at once."""
    with connected(), db.transaction(WHO) as session:
        found = finding.key(session, key_id)
        keys.revoke(session, WHO, found)
    answer(str(found), {"id": found})
