"""What the machine does by itself, on demand: the worker, one pass of a job, and the check."""

from __future__ import annotations

import asyncio
import json
import signal
from dataclasses import asdict

import click
from sqlalchemy import func, select

from core import db, invariants
from core import worker as rooms
from core.billing import connection as stripe
from core.chat import recover
from core.commands import finding
from core.commands.connection import WHO, connected
from core.commands.output import Command, Group, answer
from core.identity.tables import Tenant
from core.metering import rollups
from core.metering.tables import Lookup
from core.settings import Settings


@click.command(cls=Command)
def worker() -> None:
    """Run jobs until stopped."""
    with connected(log_level="INFO") as settings, stripe.connected(settings):
        asyncio.run(_work(settings))
    answer("Stopped.", {"id": "worker"})


async def _work(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await rooms.run(settings, stop)


@click.command(cls=Command)
def reap() -> None:
    """Settle the calls whose lease has ended, now."""
    settled = 0
    with connected() as settings:
        while taken := recover.reap(settings):
            settled += taken
    answer(f"Settled {settled}.", {"id": "reap", "settled": settled})


@click.command(cls=Command)
def reconcile() -> None:
    """Ask the providers about every call that is not final, now, ignoring back-off."""
    final = 0
    with connected() as settings:
        waiting = _waiting()
        for _ in range(-(-waiting // recover.BATCH)):
            final += recover.reconcile(settings, ignore_backoff=True)
        waiting = _waiting()
    answer(
        f"Final now: {final}; still unknown: {waiting}.",
        {"id": "reconcile", "final": final, "unknown": waiting},
    )


def _waiting() -> int:
    with db.transaction(WHO) as session:
        return session.scalar(select(func.count()).select_from(Lookup)) or 0


@click.group(cls=Group)
def rollup() -> None:
    """The daily sums."""


@rollup.command()
@click.option("--tenant", "tenant_name", help="Only this one: id or exact name.")
def rebuild(tenant_name: str | None) -> None:
    """Recompute the daily sums from the usage events."""
    rows = 0
    with connected():
        with db.transaction(WHO) as session:
            if tenant_name is None:
                tenant_ids = list(session.scalars(select(Tenant.tenant_id)))
            else:
                tenant_ids = [finding.tenant(session, tenant_name).tenant_id]
        for tenant_id in tenant_ids:  # settlements wait for one tenant's rebuild at a time
            with db.transaction(WHO) as session:
                rows += rollups.rebuild(session, tenant_id)
    answer(f"{rows} rows.", {"id": "rollup", "tenants": len(tenant_ids), "rows": rows})


@click.command(cls=Command)
def check() -> int:
    """Check every invariant; prints JSON and exits with 1 when one is broken."""
    with connected(), db.transaction(WHO) as session:
        found = [asdict(violation) for violation in invariants.check(session)]
    click.echo(json.dumps({"violations": found}))
    return 1 if found else 0
