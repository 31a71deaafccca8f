"""Brings the jobs of all rooms together and runs them, beside the pages or in their own process.

Importing the rooms' files registers their jobs; nothing else is done with them here.
"""

from __future__ import annotations

import asyncio

from sqlalchemy.orm import Session

from core import db, errors, invariants, jobs, worker_process
from core.alerts import rules
from core.billing import (
    checkout,
    customers,
    inbox,
    ledger,
    meters,
    offers,
    postpaid,
    reconcile,
    refunds,
    topups,
)
from core.catalog import sync_job
from core.chat import recover
from core.finance import stored_files
from core.finance.bills import nightly
from core.identity import audit, leftovers
from core.identity.access import Actor, require_operator
from core.jobs import Queue
from core.metering import partitions, rollups
from core.settings import Settings, SettingsRefused

ROOMS_WITH_JOBS = (
    invariants, leftovers, sync_job, partitions, rollups, ledger, offers, customers, checkout, topups,
    refunds, inbox, reconcile, meters, postpaid, recover, rules, nightly,
    stored_files,
)  # fmt: skip

GAUGE = "purser_invariant_violations"


def retry_job(session: Session, who: Actor, job_id: int) -> str:
    """Let a job that was given up run once more, audited; its name. Raises errors.NotFound."""
    with audit.denials(who, "job.retry", f"job:{job_id}"):
        require_operator(who)
    name = jobs.put_back(session, job_id)
    if name is None:
        raise errors.NotFound("There is no such job that was given up.")
    audit.record(session, who, "job.retry", f"job:{job_id}", after={"name": name})
    return name


async def run(settings: Settings, stop: asyncio.Event, queue: Queue | None = None) -> None:
    """Run the jobs of a queue until `stop` is set; of none in particular: those of `money` here, and
    those of `long` in a process of their own while there are any. Needs `db.install` before.

    Raises SettingsRefused behind a transaction pooler without an address past it.
    """
    if settings.database_pooler and settings.database_jobs_url is None:
        raise SettingsRefused(
            "DATABASE_JOBS_URL is missing: with DATABASE_POOLER=transaction it must lead to"
            " Postgres itself, past the pooler (the worker listens on its connection)"
        )
    url = db.current().jobs_url
    if queue is not None:
        await jobs.run_worker(url, queue, stop)
        return
    async with asyncio.TaskGroup() as both:
        both.create_task(jobs.run_worker(url, Queue.MONEY, stop))
        both.create_task(worker_process.keep(stop, {GAUGE: invariants.violations_gauge}))
