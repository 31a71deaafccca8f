"""`credit grant`: idempotent by its key."""

from __future__ import annotations

from datetime import datetime, timedelta

import click

from core import db
from core.billing import accounts, ledger
from core.commands import finding
from core.commands.connection import WHO, connected
from core.commands.output import USD, Group, answer
from core.identity import zones
from core.money import exact


@click.group(cls=Group)
def credit() -> None:
    """Prepaid credit: one credit is one USD."""


@credit.command()
@click.option("--tenant", "tenant_name", required=True, help="Its id or exact name.")
@click.option("--amount", "amount_nusd", type=USD, required=True, help="USD.")
@click.option("--reason", required=True, help="For the statement and the audit log.")
@click.option("--key", required=True, help="The same key again grants nothing again.")
@click.option(
    "--expires", type=click.DateTime(["%Y-%m-%d"]), help="Last day it can be spent, there."
)
def grant(
    tenant_name: str, amount_nusd: int, reason: str, key: str, expires: datetime | None
) -> None:
    """Grant credit to a tenant; prints the entry's id."""
    with connected(), db.transaction(WHO) as session:
        tenant = finding.tenant(session, tenant_name)
        expires_at = None
        if expires is not None:
            calendar = zones.calendar_of(session, tenant.tenant_id)
            expires_at = calendar.start_of(expires.date() + timedelta(days=1))
        entry = accounts.grant_credit(
            session, WHO, tenant.tenant_id, amount_nusd, key=key, reason=reason,
            expires_at=expires_at,
        )  # fmt: skip
        posted_nusd = ledger.wallet(session, tenant.tenant_id).posted_nusd
    answer(
        str(entry.entry_id),
        {"id": entry.entry_id, "amount_usd": exact(entry.amount_nusd),
         "posted_usd": exact(posted_nusd)},
    )  # fmt: skip
