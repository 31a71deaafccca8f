"""Every way a call can end, and every place that says what it is charged: each says what the ledger does.

An amount may still change exactly while a look-up of the call is open, and nowhere else is that said.
"""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx2
import pytest
from pydantic import SecretStr
from sqlalchemy import text
from streamlit.testing.v1 import AppTest

from core import db
from core.billing import statement
from core.billing.statement import StatementAsk
from core.catalog.tables import Provider
from core.chat import conversations, recover, turns
from core.chat.turns import Live
from core.db import new_id
from core.finance import exports
from core.finance.files.copying import Progress
from core.identity.access import Role
from core.money import show, to_usd
from core.periods import Period
from core.settings import Settings
from tests.factories import TESTS, make_model
from tests.http.serving import Client, Service, a_client, rows, wait_until
from tests.http.test_statement import cookie_of, get, rows_of
from tests.upstream import Ending

NORMAL = "01_normal_usage_cost.txt"
MAY_CHANGE = re.compile(r"may (still )?change|estimate")
AMOUNT = re.compile(r"\$\d[\d,]*(?:\.\d+)?")
Play = Callable[[Service], None]


def plays(name: str) -> Play:
    return lambda service: service.up.play(name, fresh_ids=True)


def until(pieces: int, ending: Ending) -> Play:
    return lambda service: service.up.play_until(NORMAL, pieces, ending, fresh_ids=True)


@dataclass(frozen=True, slots=True)
class Way:
    """How a call comes to its end: what the provider does, its deadline, and what is done to it."""

    play: Play
    doors: tuple[str, ...] = ("chat", "whole", "stream")
    deadline: str | None = None
    act: str | None = None


WAYS = {
    "ok": Way(plays(NORMAL)),
    "free": Way(plays("02_keepalive_comments_free_model.txt")),
    "priced by tokens": Way(plays("14_google_compat_tool_call_no_index.txt")),
    "stopped before the first token": Way(until(0, "silence"), ("chat",), act="stop"),
    "stopped after it": Way(until(4, "silence"), ("chat",), act="stop"),
    "cut": Way(plays("07_abrupt_end_no_usage_no_done.txt")),
    "cut within a piece": Way(plays("08_abrupt_end_partial_json.txt")),
    "quiet end before the first token": Way(until(0, "end")),
    "quiet end": Way(until(4, "end")),
    "connection reset": Way(until(4, "reset")),
    "error before the stream": Way(plays("31_error_502_provider.txt")),
    "busy": Way(plays("29_error_429_capacity_retry_after.txt")),
    "error as first event": Way(plays("06_error_first_event_http200.txt")),
    "error in the stream": Way(plays("05_midstream_error.txt")),
    "content refused": Way(plays("24_error_403_moderation.txt")),
    "no first token in time": Way(until(0, "silence"), deadline="first_token_ms"),
    "silence in the stream": Way(until(4, "silence"), deadline="idle_ms"),
    "too long in all": Way(until(4, "comments"), deadline="total_ms"),
    "reaped before the first token": Way(until(0, "silence"), ("chat",), act="reap"),
    "reaped": Way(until(4, "silence"), ("chat",), act="reap"),
}
CASES = [
    pytest.param(way, door, keeps, id=f"{name}-{door}-{'record' if keeps else 'no record'}")
    for name, way in WAYS.items()
    for door in way.doors
    for keeps in (True, False)
]


@dataclass(frozen=True, slots=True)
class Books:
    """What the ledger says a call is charged, and whether the provider is still being asked."""

    billed_nusd: int
    is_open: bool

    def check_words(self, words: str, *, has_sentence: bool) -> None:
        """Sentences about money name the ledger's amount, and doubt only where there is some."""
        assert bool(MAY_CHANGE.search(words)) == self.is_open, words
        assert set(AMOUNT.findall(words)) <= {show(self.billed_nusd)}, words
        if has_sentence:
            nothing = "Nothing is charged" in words
            assert nothing == (self.billed_nusd == 0), words
            assert nothing or f"{show(self.billed_nusd)} is charged" in words, words


def books_of(call_id: UUID | str) -> Books:
    (found,) = rows(
        "select (select -coalesce(sum(amount_nusd), 0)::bigint from app.entries where call_id = :c),"
        " exists (select from app.lookups where call_id = :c)",
        c=call_id,
    )
    return Books(*found)


def model_for(service: Service, way: Way, *, keeps_generations: bool) -> str:
    """A model of a provider of its own: with or without records, and with the way's deadline."""
    name = f"way{new_id().hex[-10:]}"
    with db.transaction(TESTS) as session:
        row = Provider(
            provider=name, title="W", sends_cost=True, keeps_generations=keeps_generations
        )
        if way.deadline:
            setattr(row, way.deadline, 400)
        session.add(row)
    service.engine.providers[name] = service.engine.providers["openrouter"]
    return make_model(provider=name)


def is_settled(call_id: UUID) -> bool:
    return bool(rows("select state = 'settled' from app.calls where call_id = :c", c=call_id)[0][0])


def settings_of(service: Service) -> Settings:
    return Settings(
        app_env="development",
        openrouter_api_key=SecretStr("k"),
        openrouter_base_url=service.up.url,
    )


def lose_and_reap(service: Service, call_id: UUID) -> None:
    """Its owner died: the reaper finds the lease ended, unless a heartbeat came between."""
    service.up.play_lookup("44_generation_404_not_ready.txt")
    with db.transaction(TESTS) as session:
        session.execute(
            text("update app.calls set lease_until = now() - interval '1 s' where call_id = :c"),
            {"c": call_id},
        )
    recover.reap(settings_of(service))


def chat(service: Service, client: Client, model: str, way: Way) -> Live:
    who = client.place.who
    live = turns.start(who, "Hello?", model_id=model, offered=frozenset(service.engine.providers))
    if way.act is not None:
        time.sleep(0.7)  # a heartbeat saves what came
    deadline = time.monotonic() + 20
    while not is_settled(live.call_id):
        assert time.monotonic() < deadline
        if way.act == "stop":
            turns.stop(who, live)
        elif way.act == "reap":
            lose_and_reap(service, live.call_id)
        time.sleep(0.05)
    wait_until(lambda: service.engine.find(live.call_id) is None)
    return live


PAGE = """
import streamlit as st
from pages.widgets import messages
from pages.widgets.offered import Offer

shown = st.session_state["shown"]
acts = messages.Acts(lambda _: None, lambda _: None)
messages.draw(shown, Offer({}, "", frozenset()), acts, busy=False)
st.caption(messages.note(shown, Offer({}, "", frozenset())))
"""


def check_answer_on_the_page(client: Client, live: Live, books: Books) -> None:
    with db.transaction(client.place.who) as session:
        shown = conversations.branch(session, client.place.who, live.conversation_id)[-1]
    app = AppTest.from_string(PAGE)
    app.session_state["shown"] = shown
    app.run(timeout=30)
    assert not app.exception
    drawn = [*app.caption, *app.warning, *app.error]
    words = " ".join(str(element.value) for element in drawn).replace("\\", "")
    books.check_words(words, has_sentence=shown.status in {"interrupted", "error"})
    assert show(books.billed_nusd) in str(app.caption[-1].value)
    assert shown.billed_nusd == books.billed_nusd


def check_whole(service: Service, client: Client, model: str) -> UUID:
    answer = service.ask(client.key, model)
    call_id = UUID(answer.headers["x-purser-call-id"])
    books, body = books_of(call_id), answer.json()
    assert Decimal(answer.headers["x-purser-cost-usd"]) == to_usd(books.billed_nusd)
    error = body.get("error") or body["choices"][0].get("error")
    if usage := body.get("usage"):
        check_usage(usage, books)
    if error:
        books.check_words(error["message"], has_sentence=True)
    return call_id


def check_stream(service: Service, client: Client, model: str) -> UUID:
    answer = service.stream(client.key, model)
    call_id = UUID(answer.headers["x-purser-call-id"])
    books = books_of(call_id)
    if answer.status == 200:
        check_usage(answer.usage, books)
    if answer.error:
        books.check_words(answer.error["message"], has_sentence=True)
    return call_id


def check_usage(usage: dict[str, Any], books: Books) -> None:
    assert round(usage["cost"] * 1e9) == books.billed_nusd
    assert usage["cost_final"] is not books.is_open


def check_everywhere(service: Service, client: Client, call_id: UUID, token: str) -> None:
    """What can be asked for later: usage and its sums, the statement in both forms, exports."""
    books = books_of(call_id)
    check_api(service, client, call_id, books)
    page = statement_lines(client)
    of_call = [line for line in page if line.call and line.call.call_id == call_id]
    assert -sum(line.amount_nusd for line in of_call) == books.billed_nusd
    file = [row for row in rows_of(get(service, token)) if row["call_id"] == str(call_id)]
    assert -sum(Decimal(row["amount_usd"]) for row in file) == to_usd(books.billed_nusd)
    for kind, column, sign in (("usage", "billed_cost_usd", 1), ("statement", "amount_usd", -1)):
        exported = [row for row in exported_rows(client, kind) if row["call_id"] == str(call_id)]
        amounts = [Decimal(row[column]) for row in exported]
        assert sum(amounts) * sign == to_usd(books.billed_nusd), kind


def check_api(service: Service, client: Client, call_id: UUID, books: Books) -> None:
    headers = {"authorization": f"Bearer {client.key}"}

    def asked(path: str) -> dict[str, Any]:
        found = httpx2.get(f"{service.url}{path}", headers=headers, timeout=30)
        assert found.status_code == 200, found.text
        body: dict[str, Any] = found.json()
        return body

    details = asked("/api/usage/details")
    events = [row for row in details["data"] if row["call_id"] == str(call_id)]
    assert sum(Decimal(row["billed_cost_usd"]) for row in events) == to_usd(books.billed_nusd)
    assert {row["final"] for row in events} == {not books.is_open}
    costs = asked("/api/costs")
    assert costs["estimated"]["calls"] == int(books.is_open)
    assert Decimal(costs["estimated"]["billed_cost_usd"]) == (
        to_usd(books.billed_nusd) if books.is_open else 0
    )


def statement_lines(client: Client) -> tuple[statement.Line, ...]:
    today = datetime.now(UTC).date()
    with db.transaction(client.place.who) as session:
        asked = StatementAsk(today - timedelta(days=1), today)
        return statement.read(session, client.place.who, asked).lines


def exported_rows(client: Client, kind: str) -> list[dict[str, str]]:
    today, who = datetime.now(UTC).date(), client.place.who
    period = Period(today - timedelta(days=1), today)
    with db.transaction(who) as session:
        asked = exports.ask(session, who, kind, "csv", period, tenant_id=client.place.tenant_id)
        content = b"".join(exports.read_rows(session, who, asked, Progress()))
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


@pytest.mark.parametrize(("way", "door", "keeps"), CASES)
def test_every_place_says_of_every_ending_what_the_ledger_does(
    service: Service, way: Way, door: str, keeps: bool
) -> None:
    client = a_client(role="admin")
    token = cookie_of(client.place, Role.FINANCE)
    model = model_for(service, way, keeps_generations=keeps)
    way.play(service)
    live: Live | None = None
    if door == "chat":
        live = chat(service, client, model, way)
        call_id = live.call_id
        check_answer_on_the_page(client, live, books_of(call_id))
    else:
        call_id = (check_whole if door == "whole" else check_stream)(service, client, model)
    check_everywhere(service, client, call_id, token)
    if not books_of(call_id).is_open:
        return
    service.up.play_lookup("43_generation_lookup.txt")
    set_provider(call_id, "openrouter")
    recover.reconcile(settings_of(service), ignore_backoff=True)
    assert books_of(call_id) == Books(714_400, is_open=False)
    check_everywhere(service, client, call_id, token)
    if live is not None:
        check_answer_on_the_page(client, live, books_of(call_id))


def set_provider(call_id: UUID, provider: str) -> None:
    """Let the look-up ask the provider of the test's settings; the call's own is only a name for it."""
    with db.transaction(TESTS) as session:
        session.execute(
            text("update app.lookups set provider = :p where call_id = :c"),
            {"p": provider, "c": call_id},
        )
