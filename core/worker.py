"""Brings the jobs of all rooms together and runs them, beside the pages or in their own process.

Importing the rooms' files registers their jobs; nothing else is done with them here.
"""

from __future__ import annotations

import asyncio

from core import db, invariants, jobs
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
from core.identity import leftovers
from core.metering import partitions
from core.settings import Settings, SettingsRefused

ROOMS_WITH_JOBS = (
    invariants, leftovers, sync_job, partitions, ledger, offers, customers, checkout, topups, refunds,
    inbox, reconcile, meters, postpaid, recover,
)  # fmt: skip


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Run the jobs of every room until `stop` is set. Needs `db.install` before.

    Raises SettingsRefused behind a transaction pooler without an address past it.
    """
    if settings.database_pooler and settings.database_jobs_url is None:
        raise SettingsRefused(
            "DATABASE_JOBS_URL is missing: with DATABASE_POOLER=transaction it must lead to"
            " Postgres itself, past the pooler (the worker listens on its connection)"
        )
    await jobs.run_worker(db.current().jobs_url, stop)
