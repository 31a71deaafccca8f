"""What the machine does by itself, on demand: the worker, one pass of a job, and the check."""

from __future__ import annotations

import asyncio
import json
import signal
from dataclasses import asdict
from datetime import date, datetime

import click
from sqlalchemy import func, select

from core import db, invariants, worker_process
from core import worker as rooms
from core.billing import connection as stripe
from core.chat import recover
from core.commands import finding
from core.commands.connection import WHO, connected
from core.commands.output import Command, Group, answer, remark
from core.finance.bills import causes, nightly
from core.identity.tables import Tenant
from core.jobs import Queue
from core.metering import rollups
from core.metering.tables import Lookup
from core.settings import Settings


@click.command(cls=Command)
@click.option(
    "--queue", type=click.Choice([str(queue) for queue in Queue]),
    help="Only its jobs; else both, those of long in a process of their own.",
)  # fmt: skip
@click.option("--until-idle", is_flag=True, help="With long: end with the work, or the input.")
def worker(queue: str | None, *, until_idle: bool) -> None:
    """Run jobs until stopped."""
    if until_idle and queue != Queue.LONG:
        raise click.UsageError("--until-idle goes with --queue long.")
    if queue == Queue.LONG:
        worker_process.give_way()
    with connected(log_level="INFO") as settings, stripe.connected(settings):
        asyncio.run(_work(settings, Queue(queue) if queue else None, until_idle=until_idle))
    answer("Stopped.", {"id": "worker"})


async def _work(settings: Settings, queue: Queue | None, *, until_idle: bool) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    watching = asyncio.create_task(worker_process.until_idle(stop)) if until_idle else None
    await rooms.run(settings, stop, queue)
    if watching is not None:
        await watching


@click.command(cls=Command)
def reap() -> None:
    """Settle the calls whose lease has ended, now."""
    settled = 0
    with connected() as settings:
        while taken := recover.reap(settings):
            settled += taken
    answer(f"Settled {settled}.", {"id": "reap", "settled": settled})


@click.command(cls=Command)
@click.option(
    "--day", type=click.DateTime(["%Y-%m-%d"]),
    help="Compare this closed UTC day with the provider's bill; exit 1 beyond 1 %.",
)  # fmt: skip
def reconcile(day: datetime | None) -> int:
    """Ask the providers about every call that is not final, now, ignoring back-off."""
    if day is not None:
        return _compare(day.date())
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
    return 0


def _compare(day: date) -> int:
    """Our books and the provider's bill of a day, model by model."""
    with connected() as settings:
        found = nightly.run_day(settings, WHO, day)
    for model in found.models:
        remark(
            f"{model.model}: ours {model.ours_usd:f}, theirs {model.theirs_usd:f} USD:"
            f" {causes.SENTENCES[model.cause]}"
        )
    facts = {
        "id": "reconcile", "day": day, "provider": found.provider, "differs": found.differs,
        "ours_usd": f"{found.ours_usd:f}", "theirs_usd": f"{found.theirs_usd:f}",
        "difference_usd": f"{found.difference_usd:f}",
        "models": [
            {
                "model": model.model, "ours_usd": f"{model.ours_usd:f}",
                "ours_requests": model.ours_requests, "theirs_usd": f"{model.theirs_usd:f}",
                "theirs_requests": model.theirs_requests, "cause": model.cause,
            }
            for model in found.models
        ],
    }  # fmt: skip
    answer(
        f"{day}: ours {found.ours_usd:f}, theirs {found.theirs_usd:f} USD:"
        f" {'they differ' if found.differs else 'they agree within 1 %'}.",
        facts,
    )
    return 1 if found.differs else 0


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
