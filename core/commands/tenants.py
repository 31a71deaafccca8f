"""`tenant create` and `tenant mode`."""

from __future__ import annotations

import click

from core import db
from core.billing import accounts
from core.billing.ledger import Mode
from core.commands import finding
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


@tenant.command()
@click.argument("tenant_name")
@click.argument("mode", type=click.Choice(MODES))
@click.option("--credit-limit", "limit_nusd", type=USD, help="Postpaid; else the plan's budget.")
@click.option("--write-off", is_flag=True, help="Give up what the tenant still owes.")
def mode(tenant_name: str, mode: Mode, limit_nusd: int | None, *, write_off: bool) -> None:
    """What gates a tenant's calls: credit, a spend limit, or budgets.

    For a postpaid tenant, `postpaid --credit-limit USD` sets another limit.
    """
    with connected(), db.transaction(WHO) as session:
        found = finding.tenant(session, tenant_name)
        if mode == found.mode == "postpaid" and limit_nusd is not None:
            accounts.set_credit_limit(session, WHO, found.tenant_id, limit_nusd)
        else:
            accounts.switch_mode(
                session, WHO, found.tenant_id, mode, credit_limit_nusd=limit_nusd,
                write_off=write_off,
            )  # fmt: skip
    answer(f"{found.name} is {mode}.", {"id": found.tenant_id, "mode": mode})
