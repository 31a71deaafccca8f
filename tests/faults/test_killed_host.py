"""kill -9 and SIGSTOP of a process full of chat turns: nothing is lost, nothing is billed twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import select, text

from core import db, invariants
from core.chat import recover
from core.chat.tables import Message, Turn
from core.db import Database
from core.metering.tables import Call
from core.settings import Settings
from tests.factories import TESTS, make_model
from tests.upstream import Upstream

pytestmark = pytest.mark.faults
ROOT = Path(__file__).parent.parent.parent
TURNS = 6


class Host:
    """The process of host.py, with what it started."""

    def __init__(self, url: str, upstream: str, model: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.host", url, upstream, model, str(TURNS)],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.turns = [
            tuple(UUID(part) for part in self.process.stdout.readline().split())
            for _ in range(TURNS)
        ]

    def signal(self, sign: signal.Signals) -> None:
        os.kill(self.process.pid, sign)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


def expire_leases(host: Host) -> None:
    """Time passes: fifteen seconds without a heartbeat."""
    with db.transaction(TESTS) as session:
        session.execute(
            text(
                "update app.calls set lease_until = now() - interval '1 s' where call_id = any(:c)"
            ),
            {"c": [turn[3] for turn in host.turns]},
        )


def reap(upstream: Upstream) -> None:
    recover.reap(
        Settings(app_env="development", openrouter_api_key="k", openrouter_base_url=upstream.url)
    )
    recover.reconcile(
        Settings(app_env="development", openrouter_api_key="k", openrouter_base_url=upstream.url),
        ignore_backoff=True,
    )


def assert_settled_once(host: Host) -> None:
    with db.transaction(TESTS) as session:
        for tenant_id, conversation_id, answer_id, call_id in host.turns:
            assert session.get_one(Call, call_id).state == "settled"
            turn = session.scalars(select(Turn).where(Turn.call_id == call_id)).one()
            answer = session.get_one(Message, (tenant_id, conversation_id, answer_id))
            question = session.get_one(Message, (tenant_id, conversation_id, turn.question_id))
            assert question.content.startswith("Question")
            assert answer.status == turn.status != "running"
    with db.transaction(TESTS) as session:
        mine = {str(value) for turn in host.turns for value in turn}
        found = [v for v in invariants.check(session) if any(part in v.detail for part in mine)]
    assert found == []


def assert_charged_as_billed(call_id: UUID, upstream: Upstream) -> None:
    """The charge is the provider's bill for the generation; nothing, where the process died before
    the provider had named one."""
    with db.transaction(TESTS) as session:
        generation_id = session.get_one(Call, call_id).generation_id
        charged = session.execute(
            text(
                "select coalesce(-sum(amount_nusd), 0)::bigint from app.entries where call_id = :c"
            ),
            {"c": call_id},
        ).scalar_one()
    billed_usd = upstream.bill[generation_id].cost_usd if generation_id else Decimal(0)
    assert 0 <= charged - billed_usd * 1_000_000_000 <= 1


@pytest.mark.parametrize("after_s", [0.0, 0.15, 0.4, 0.8, 1.3])
def test_kill_nine_at_any_moment_loses_nothing(
    after_s: float, database: Database, database_url: str
) -> None:
    model = make_model()
    with Upstream() as upstream:
        upstream.play("01_normal_usage_cost.txt", gap_s=0.12, fresh_ids=True)
        host = Host(database_url, upstream.url, model)
        time.sleep(after_s)
        host.kill()
        expire_leases(host)
        time.sleep(0.2)
        reap(upstream)
        assert_settled_once(host)
        for call_id in (turn[3] for turn in host.turns):
            assert_charged_as_billed(call_id, upstream)


def test_a_process_that_wakes_after_its_lease_writes_nothing(
    database: Database, database_url: str
) -> None:
    model = make_model()
    with Upstream() as upstream:
        upstream.play("01_normal_usage_cost.txt", gap_s=0.12, fresh_ids=True)
        host = Host(database_url, upstream.url, model)
        time.sleep(0.7)
        host.signal(signal.SIGSTOP)
        expire_leases(host)
        reap(upstream)
        with db.transaction(TESTS) as session:
            before = [session.get_one(Message, turn[:3]).content for turn in host.turns]
        host.signal(signal.SIGCONT)
        time.sleep(1.5)
        with db.transaction(TESTS) as session:
            after = [session.get_one(Message, turn[:3]).content for turn in host.turns]
        host.kill()
        assert after == before
        assert_settled_once(host)
