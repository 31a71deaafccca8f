"""`tenant create`, `tenant mode` and `tenant set`."""

from __future__ import annotations

from uuid import UUID

import click
from sqlalchemy.orm import Session

from core import clock, db
from core.billing import accounts
from core.billing.ledger import Mode
from core.commands import finding
from core.commands.connection import WHO, connected
from core.commands.output import USD, Group, answer
from core.identity import tenants, terms
from core.identity.tenants import MODES
from core.identity.terms import Terms


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


@tenant.command("set")
@click.argument("tenant_name")
@click.option("--timezone", "time_zone", metavar="ZONE", help="From the tenant's next month on.")
@click.option("--markup", help="0.1 adds ten percent, from the next call on.")
@click.option("--plan", help="free, starter, pro, enterprise.")
@click.option("--name", help="What was used before keeps the old one.")
@click.option("--suspend/--activate", "suspend", default=None, help="Refuse everybody, or go on.")
def set_terms(tenant_name: str, *, suspend: bool | None, **given: str | None) -> None:
    """Change a tenant's terms, all or none of those named; prints those in force."""
    if suspend is None and all(value is None for value in given.values()):
        raise click.UsageError("Name at least one thing to set.")
    with connected(), db.transaction(WHO) as session:
        tenant_id = finding.tenant(session, tenant_name).tenant_id
        _set(session, tenant_id, **given)
        if suspend is not None:
            tenants.set_tenant_active(session, WHO, tenant_id, active=not suspend)
        found = terms.of_tenant(session, WHO, tenant_id)
    _say(found)


def _set(
    session: Session, tenant_id: UUID, *, time_zone: str | None, markup: str | None,
    plan: str | None, name: str | None,
) -> None:  # fmt: skip
    if time_zone is not None:
        terms.set_time_zone(session, WHO, tenant_id, time_zone)
    if markup is not None:
        tenants.set_markup(session, WHO, tenant_id, markup)
    if plan is not None:
        tenants.set_plan(session, WHO, tenant_id, plan)
    if name is not None:
        tenants.rename(session, WHO, tenant_id, name)


def _say(found: Terms) -> None:
    now = clock.now()
    coming = found.calendar.coming(now)
    state = "active" if found.active else "suspended"
    answer(
        f"{found.name}: {state}, {found.plan}, markup {found.markup}, {found.calendar.said(now)}",
        {"id": found.tenant_id, "name": found.name, "status": state, "plan": found.plan,
         "markup": found.markup, "time_zone": found.calendar.span_at(now).time_zone,
         "next_time_zone": coming.time_zone if coming else None,
         "next_time_zone_from": coming.starts_on if coming else None},
    )  # fmt: skip
