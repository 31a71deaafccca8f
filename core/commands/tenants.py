"""`tenant create`."""

from __future__ import annotations

import click

from core import db
from core.billing import accounts
from core.commands.connection import WHO, connected
from core.commands.output import USD, Group, answer
from core.identity.tenants import MODES


@click.group(cls=Group)
def tenant() -> None:
    """Customer organisations."""


@tenant.command()
@click.argument("name")
@click.option("--plan", default="free", show_default=True, help="free, starter, pro, enterprise.")
@click.option("--mode", type=click.Choice(MODES), default="prepaid", show_default=True)
@click.option("--timezone", "time_zone", default="UTC", show_default=True, metavar="ZONE")
@click.option("--markup", default="0", show_default=True, help="0.1 adds ten percent.")
@click.option("--credits", "credits_nusd", type=USD, help="Instead of the sign-up promotion.")
@click.option("--credit-limit", "limit_nusd", type=USD, help="Postpaid; else the plan's budget.")
def create(
    name: str, plan: str, mode: str, time_zone: str, markup: str, credits_nusd: int | None,
    limit_nusd: int | None,
) -> None:  # fmt: skip
    """Make a tenant with its wallet; prints its id."""
    with connected(), db.transaction(WHO) as session:
        tenant_id = accounts.open_tenant(
            session, WHO, name, plan=plan, mode=mode, time_zone=time_zone, markup=markup,
            credits_nusd=credits_nusd, credit_limit_nusd=limit_nusd,
        )  # fmt: skip
    answer(str(tenant_id), {"id": tenant_id})
