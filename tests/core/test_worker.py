"""The worker knows the jobs of every room, and refuses an address it could not listen on."""

from __future__ import annotations

import asyncio

import pytest

from core import jobs, settings, worker
from core.settings import SettingsRefused


def test_the_jobs_of_every_room_are_registered() -> None:
    assert jobs.names() == {
        "billing.close_old_orders", "billing.collect_use", "billing.expire",
        "billing.forget_payloads", "billing.handle_event", "billing.inbox",
        "billing.look_after_postpaid", "billing.mirror", "billing.payouts", "billing.postpaid",
        "billing.prepaid_again", "billing.reconcile_daily", "billing.reconcile_hourly",
        "billing.refresh_card", "billing.refunds", "billing.send_use", "billing.topups",
        "catalog.sync", "chat.reap", "chat.reconcile", "identity.leftovers", "invariants",
        "jobs.forget", "jobs.rescue", "metering.partitions",
    }  # fmt: skip


def test_behind_a_pooler_it_needs_an_address_past_it() -> None:
    pooled = settings.current().model_copy(update={"database_pooler": "transaction"})
    with pytest.raises(SettingsRefused, match="DATABASE_JOBS_URL"):
        asyncio.run(worker.run(pooled, asyncio.Event()))
