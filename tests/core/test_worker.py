"""The worker knows the jobs of every room, and refuses an address it could not listen on."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text

from core import db, errors, jobs, settings, worker
from core.db import Database
from core.identity import audit
from core.identity.access import Operator
from core.settings import SettingsRefused
from tests.factories import TESTS, make_place


def test_the_jobs_of_every_room_are_registered() -> None:
    assert jobs.names() == {
        "billing.close_old_orders", "billing.collect_use", "billing.expire",
        "billing.forget_payloads", "billing.handle_event", "billing.inbox",
        "billing.look_after_postpaid", "billing.mirror", "billing.payouts", "billing.postpaid",
        "billing.prepaid_again", "billing.reconcile_daily", "billing.reconcile_hourly",
        "billing.refresh_card", "billing.refunds", "billing.send_use", "billing.topups",
        "alerts.look", "catalog.sync", "chat.reap", "chat.reconcile", "finance.provider_bill",
        "finance.build_file", "finance.sweep_files",
        "identity.leftovers", "invariants", "invariants.whole",
        "jobs.forget", "jobs.rescue", "metering.partitions", "metering.sums",
    }  # fmt: skip


def test_behind_a_pooler_it_needs_an_address_past_it() -> None:
    pooled = settings.current().model_copy(update={"database_pooler": "transaction"})
    with pytest.raises(SettingsRefused, match="DATABASE_JOBS_URL"):
        asyncio.run(worker.run(pooled, asyncio.Event()))


def test_only_operators_put_a_job_back_and_it_is_audited(database: Database) -> None:
    operator = Operator(db.new_id(), "olga@example.com", "Olga")
    with database.transaction(TESTS) as session:
        job_id = jobs.defer(session, "catalog.sync")
        session.execute(text("set local search_path = jobs"))
        session.execute(
            text("update jobs.procrastinate_jobs set status = 'failed' where id = :job"),
            {"job": job_id},
        )
    admin = make_place(role="admin").who
    with pytest.raises(errors.Forbidden), database.transaction(TESTS) as session:
        worker.retry_job(session, admin, job_id)
    with database.transaction(operator) as session:
        assert worker.retry_job(session, operator, job_id) == "catalog.sync"
        with pytest.raises(errors.NotFound):
            worker.retry_job(session, operator, job_id)
        done = audit.recent(session, operator, limit=1)[0]
    assert (done.actor, done.action, done.object) == (
        f"operator:{operator.user_id}", "job.retry", f"job:{job_id}",
    )  # fmt: skip
    with database.transaction(TESTS) as session:
        session.execute(text("set local search_path = jobs"))
        session.execute(text("delete from procrastinate_jobs where id = :job"), {"job": job_id})
