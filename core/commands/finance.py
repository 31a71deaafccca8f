"""`month close` and `month reopen`: the books of a month, of one tenant or of all."""

from __future__ import annotations

from datetime import datetime

import click

from core import db
from core.commands import finding
from core.commands.connection import WHO, connected
from core.commands.output import Group, answer
from core.finance import closing
from core.money import exact

_MONTH = click.DateTime(["%Y-%m"])


@click.group(cls=Group)
def month() -> None:
    """The months of the books."""


@month.command()
@click.argument("month", type=_MONTH, metavar="MONTH")
@click.option("--tenant", "tenant_name", help="Only this one: id or exact name.")
@click.option(
    "--accept-unreconciled", is_flag=True,
    help="Also over calls whose cost is not final; what it turns out to be is booked when it comes.",
)  # fmt: skip
def close(month: datetime, tenant_name: str | None, *, accept_unreconciled: bool) -> int:
    """Close a month (2026-10) of a tenant, or of every tenant; exit 1 when one is blocked."""
    with connected():
        if tenant_name is None:
            return _all(month, accept_unreconciled=accept_unreconciled)
        with db.transaction(WHO) as session:
            tenant = finding.tenant(session, tenant_name)
            closed = closing.close(
                session, WHO, tenant.tenant_id, month.date(),
                accept_unreconciled=accept_unreconciled,
            )  # fmt: skip
    answer(
        f"Closed {month:%Y-%m} of {tenant.name}: {closed.requests} calls,"
        f" ${exact(closed.billed_nusd)}.",
        {"id": closed.closing_id, "month": f"{month:%Y-%m}", "requests": closed.requests,
         "billed_usd": exact(closed.billed_nusd)},
    )  # fmt: skip
    return 0


def _all(month: datetime, *, accept_unreconciled: bool) -> int:
    report = closing.close_all(WHO, month.date(), accept_unreconciled=accept_unreconciled)
    blocked = [
        {
            "tenant": one.tenant_id,
            "name": one.name,
            "checks": [check.code for check in one.blocking],
        }
        for one in report.blocked
    ]
    lines = [
        f"Closed {month:%Y-%m} of {len(report.closed)} tenants;"
        f" {report.closed_before} were closed before, {len(blocked)} are blocked."
    ]
    lines += [f"{one.name}: {closing.reasons(one.blocking)}" for one in report.blocked]
    answer(
        "\n".join(lines),
        {"id": f"{month:%Y-%m}", "closed": len(report.closed),
         "closed_before": report.closed_before, "blocked": blocked},
    )  # fmt: skip
    return int(bool(blocked))


@month.command()
@click.argument("month", type=_MONTH, metavar="MONTH")
@click.option("--tenant", "tenant_name", required=True, help="Its id or exact name.")
@click.option("--reason", required=True, help="For the closing and the audit log.")
def reopen(month: datetime, tenant_name: str, reason: str) -> None:
    """Open a closed month of a tenant again; its closing and its files are kept."""
    with connected(), db.transaction(WHO) as session:
        tenant = finding.tenant(session, tenant_name)
        reopened = closing.reopen(session, WHO, tenant.tenant_id, month.date(), reason)
    answer(
        f"Reopened {month:%Y-%m} of {tenant.name}.",
        {"id": reopened.closing_id, "month": f"{month:%Y-%m}"},
    )
