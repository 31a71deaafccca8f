"""The app itself: killed, ended, cut off from its database, left by its clients, under load."""

from __future__ import annotations

import http.client
import json
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from sqlalchemy import select, text

from core import db
from core.metering.tables import Call
from tests.factories import TESTS, Place, make_model, make_place
from tests.faults.conftest import key_of
from tests.processes import AppProcess
from tests.upstream import Upstream

pytestmark = pytest.mark.faults
SETTLE_TIMEOUT_S = 40.0


class Stream(threading.Thread):
    """One streaming API call in a thread; `leave` drops the connection."""

    def __init__(self, app: AppProcess, key: str, model: str, question: str = "Hello?") -> None:
        super().__init__(daemon=True)
        self.connection = http.client.HTTPConnection("127.0.0.1", app.port, timeout=60)
        self.body = json.dumps(
            {"model": model, "stream": True, "messages": [{"role": "user", "content": question}]}
        )
        self.key, self.status, self.text, self.call_id = key, 0, "", ""
        self.begun = threading.Event()

    def run(self) -> None:
        try:
            self.connection.request(
                "POST", "/v1/chat/completions", self.body,
                {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"},
            )  # fmt: skip
            response = self.connection.getresponse()
            self.status = response.status
            self.call_id = response.headers.get("X-Purser-Call-Id", "")
            while line := response.readline():
                self.text += line.decode()
                if '"content"' in self.text:
                    self.begun.set()
        except (OSError, http.client.HTTPException, AttributeError, ValueError):
            self.begun.set()
        finally:
            self.begun.set()

    def leave(self) -> None:
        if self.connection.sock is not None:
            self.connection.sock.shutdown(2)
            self.connection.close()

    @property
    def is_done(self) -> bool:
        return "[DONE]" in self.text


def calls_of(place: Place) -> list[Call]:
    with db.transaction(TESTS) as session:
        return list(session.scalars(select(Call).where(Call.tenant_id == place.tenant_id)))


def wait_settled(place: Place, seconds: float = SETTLE_TIMEOUT_S) -> None:
    deadline = time.monotonic() + seconds
    while any(call.state == "open" for call in calls_of(place)):
        assert time.monotonic() < deadline, "a hold outlived its lease"
        time.sleep(0.2)


def kept_of(place: Place) -> int:
    """What is reserved beyond the end of its calls, until their cost is final."""
    with db.transaction(TESTS) as session:
        query = text("select coalesce(sum(kept_nusd), 0) from app.lookups where tenant_id = :t")
        return int(session.scalar(query, {"t": place.tenant_id}))


def books_of(place: Place) -> tuple[int, int, int]:
    """Held, charged, and billed by usage events, in nano-USD."""
    with db.transaction(TESTS) as session:
        row = session.execute(
            text(
                "select a.held_nusd, (select coalesce(-sum(amount_nusd), 0)::bigint from app.entries e"
                "   where e.tenant_id = a.tenant_id and e.call_id is not null),"
                " (select coalesce(sum(billed_nusd), 0)::bigint from app.usage_events u"
                "   where u.tenant_id = a.tenant_id)"
                " from app.accounts a where a.tenant_id = :t"
            ),
            {"t": place.tenant_id},
        ).one()
    return row[0], row[1], row[2]


def start_streams(app: AppProcess, place: Place, model: str, count: int) -> list[Stream]:
    key = key_of(place)
    streams = [Stream(app, key, model) for _ in range(count)]
    for stream in streams:
        stream.start()
    for stream in streams:
        assert stream.begun.wait(20)
    return streams


def test_kill_nine_under_load_and_restart_leaves_no_hold(
    start_app: Callable[..., AppProcess], upstream: Upstream
) -> None:
    place, model = make_place(), make_model()
    upstream.play("01_normal_usage_cost.txt", gap_s=0.3, fresh_ids=True)
    app = start_app()
    start_streams(app, place, model, 8)
    app.kill()
    assert books_of(place)[0] > 0
    app.start()
    wait_settled(place)
    assert app.command("reconcile").returncode == 0
    held, charged, billed = books_of(place)
    assert held == 0
    assert charged == billed
    assert abs(charged - upstream.billed_usd * 1_000_000_000) <= 8
    assert app.command("check").returncode == 0, app.command("check").stdout


def test_sigterm_drains_twenty_streams_and_leaves_no_hold(
    start_app: Callable[..., AppProcess], upstream: Upstream
) -> None:
    place, model = make_place(), make_model()
    upstream.play("01_normal_usage_cost.txt", gap_s=0.2, fresh_ids=True)
    app = start_app()
    streams = start_streams(app, place, model, 20)
    seconds = app.stop(signal.SIGTERM)
    for stream in streams:
        stream.join(10)
    assert seconds < 25
    held, charged, billed = books_of(place)
    assert (held, charged) == (0, billed)
    assert all(call.state == "settled" for call in calls_of(place))


def test_sigterm_cuts_streams_that_do_not_end(
    start_app: Callable[..., AppProcess], upstream: Upstream
) -> None:
    place, model = make_place(), make_model()
    upstream.play_until("01_normal_usage_cost.txt", 4, "comments", fresh_ids=True)
    app = start_app()
    start_streams(app, place, model, 5)
    assert app.stop(signal.SIGTERM) < 30
    assert books_of(place)[0] == kept_of(place)  # what the provider may still bill
    assert {call.outcome for call in calls_of(place)} == {"cut"}


@pytest.mark.parametrize("gap_s", [0.05, 0.3])
def test_a_client_that_leaves_pays_for_what_was_served(
    gap_s: float, start_app: Callable[..., AppProcess], upstream: Upstream
) -> None:
    place, model = make_place(), make_model()
    upstream.play("01_normal_usage_cost.txt", gap_s=gap_s, fresh_ids=True)
    app = start_app()
    for stream in start_streams(app, place, model, 4):
        stream.leave()
    wait_settled(place)
    held, charged, billed = books_of(place)
    assert (held, charged, billed) == (0, 4 * 714_400, 4 * 714_400)
    assert {call.outcome for call in calls_of(place)} == {"ok"}


def test_fifty_parallel_calls_on_a_wallet_for_three_reach_the_provider_three_times(
    start_app: Callable[..., AppProcess], upstream: Upstream
) -> None:
    model = make_model()
    upstream.play("01_normal_usage_cost.txt", gap_s=0.1, fresh_ids=True)
    app = start_app()
    place = make_place(credit_usd="0.024645")  # 3 worst cases of 4,096 answer tokens and the prompt
    key = key_of(place)
    streams = [Stream(app, key, model) for _ in range(50)]
    with ThreadPoolExecutor(50) as pool:
        list(pool.map(lambda stream: stream.run(), streams))
    statuses = sorted(stream.status for stream in streams)
    assert statuses == [200] * 3 + [402] * 47, statuses
    assert len(upstream.chats) == 3
    wait_settled(place)
    held, charged, billed = books_of(place)
    assert (held, charged, billed) == (0, 3 * 714_400, 3 * 714_400)


def test_two_processes_serve_one_tenant_and_the_reaper_of_one_mends_the_other(
    start_app: Callable[..., AppProcess], upstream: Upstream
) -> None:
    place, model = make_place(), make_model()
    upstream.play("01_normal_usage_cost.txt", gap_s=0.4, fresh_ids=True)
    first, second = start_app(), start_app()
    start_streams(first, place, model, 3)
    kept = start_streams(second, place, model, 3)
    first.kill()
    for stream in kept:
        stream.join(30)
    assert all(stream.is_done for stream in kept)
    wait_settled(place)
    assert books_of(place)[0] == 0
    assert {UUID(s.call_id) for s in kept} <= {
        c.call_id for c in calls_of(place) if c.outcome == "ok"
    }
