"""GET /exports/{id}: the whole file or a broken answer, for whoever may have it at that moment."""

from __future__ import annotations

import csv
import hashlib
import io
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import urlsplit

import httpx2
import psycopg
import pytest
from sqlalchemy import text

from core import db
from core.db import new_id
from core.finance import exports, stored_files
from core.finance.datasets import catalogue
from core.finance.datasets.columns import Column, Dataset, Query, Type
from core.finance.exports import Asked
from core.finance.files.copying import Progress
from core.http import sending
from core.http.sending import Blocks
from core.identity import members, tenants
from core.identity.access import Operator, Principal, Role
from core.identity.cookies import SESSION as COOKIE
from core.periods import Period
from tests.analytics.using import use
from tests.factories import TESTS, Place, make_model, make_place
from tests.finance.rows import change
from tests.http.serving import Service, wait_until
from tests.identity.people import Browser, a_browser, a_user, audit_rows, sign_in

DAYS = Period(date(2026, 7, 2), date(2026, 7, 20))


@pytest.fixture(scope="module")
def place(database: db.Database) -> Place:
    db.install(database)
    found, model = make_place(), make_model()
    for day in (3, 4, 5):
        use(found.who, model, "0.01", at=datetime(2026, 7, day, tzinfo=UTC))
    return found


@pytest.fixture
def browser(place: Place) -> Browser:
    return a_browser(place.tenant_id, Role.FINANCE)


def an_operator() -> tuple[Operator, Browser]:
    user_id = a_user()
    with db.transaction(TESTS) as session:
        tenants.make_operator(session, TESTS, user_id, confirmed=True)
    browser = sign_in(user_id)
    assert browser.signed_in.operator is not None
    return browser.signed_in.operator, browser


def ask(
    who: Principal | Operator, place: Place | None, form: str = "csv", kind: str = "usage"
) -> Asked:
    with db.transaction(who) as session:
        return exports.ask(
            session, who, kind, form, DAYS, tenant_id=place.tenant_id if place else None
        )


def stored(who: Principal, place: Place) -> Asked:
    asked = ask(who, place, "xlsx")
    assert asked.file is not None
    stored_files.build(asked.file.tenant_id, asked.file.file_id)
    with db.transaction(who) as session:
        return exports.find(session, who, asked.export_id)


def get(
    service: Service, browser: Browser | None, export_id: object, method: str = "GET", **asked: str
) -> httpx2.Response:
    headers = {"cookie": f"{COOKIE}={browser.token}"} if browser else {}
    return httpx2.request(
        method, f"{service.url}/exports/{export_id}", params=asked, headers=headers, timeout=60
    )


def test_rows_that_are_read_while_they_are_sent(
    service: Service, place: Place, browser: Browser
) -> None:
    asked = ask(browser.principal, place)
    answer = get(service, browser, asked.export_id)
    assert answer.status_code == 200
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [row["day"] for row in rows] == ["2026-07-03", "2026-07-04", "2026-07-05"]
    headers = answer.headers
    assert headers["content-type"] == "text/csv; charset=utf-8"
    assert headers["content-disposition"].startswith(
        'attachment; filename="purser_usage_2026-07-02_2026-07-20_tenant-'
    )
    assert (headers["cache-control"], headers["x-content-type-options"]) == ("no-store", "nosniff")
    assert "content-length" not in headers and "etag" not in headers
    done = audit_rows(f"export:{asked.export_id}")
    assert [row[0] for row in done] == ["export.ask", "export.download", "export.sent"]
    assert sent(asked) == {"rows": 3, "sha256": hashlib.sha256(answer.content).hexdigest()}


def sent(asked: Asked) -> dict[str, Any]:
    with db.transaction(TESTS) as session:
        after = session.execute(
            text("select after from app.audit_log where object = :o and action = 'export.sent'"),
            {"o": f"export:{asked.export_id}"},
        ).scalar_one()
    return {name: after[name] for name in ("rows", "sha256")}


def test_a_stored_file_says_its_length_and_sum(
    service: Service, place: Place, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_files, "PART_BYTES", 1000)
    asked = stored(browser.principal, place)
    answer = get(service, browser, asked.export_id)
    assert asked.file is not None and asked.file.sha256 is not None
    assert hashlib.sha256(answer.content).hexdigest() == asked.file.sha256
    assert answer.headers["content-length"] == str(len(answer.content))
    assert answer.headers["etag"] == f'"{asked.file.sha256}"'
    assert answer.headers["x-purser-sha256"] == asked.file.sha256
    assert answer.headers["content-disposition"].endswith('.xlsx"')
    assert get(service, browser, asked.export_id).content == answer.content
    actions = [row[0] for row in audit_rows(f"export:{asked.export_id}")]
    assert actions == ["export.ask", "export.download", "export.download"]


def test_head_says_what_a_download_would_and_is_none(
    service: Service, place: Place, browser: Browser
) -> None:
    asked = stored(browser.principal, place)
    answer = get(service, browser, asked.export_id, "HEAD")
    assert (answer.status_code, answer.content) == (200, b"")
    assert asked.file is not None
    assert answer.headers["content-length"] == str(asked.file.size_bytes)
    assert [row[0] for row in audit_rows(f"export:{asked.export_id}")] == ["export.ask"]


def test_the_dictionary_comes_with_it(service: Service, place: Place, browser: Browser) -> None:
    asked = ask(browser.principal, place)
    answer = get(service, browser, asked.export_id, part="columns")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["column"] for row in rows] == [
        column.name for column in catalogue.columns_of("usage", for_operators=False)
    ]
    assert 'filename="purser_usage_columns.csv"' in answer.headers["content-disposition"]


def test_nobody_is_asked_to_sign_in(service: Service, place: Place, browser: Browser) -> None:
    asked = ask(browser.principal, place)
    assert get(service, None, asked.export_id).status_code == 401


def test_what_one_may_not_have_is_as_what_there_is_not(
    service: Service, place: Place, browser: Browser
) -> None:
    asked, (operator, _) = ask(browser.principal, place), an_operator()
    theirs, of_all = ask(operator, place), ask(operator, None)
    stranger = a_browser(make_place().tenant_id, Role.ADMIN)
    member = a_browser(place.tenant_id, Role.MEMBER)
    expired = ask(browser.principal, place)
    change("update app.exports set expires_at = now() where export_id = :e", e=expired.export_id)
    answers = [
        get(service, stranger, asked.export_id), get(service, member, asked.export_id),
        get(service, browser, theirs.export_id), get(service, browser, of_all.export_id),
        get(service, browser, expired.export_id), get(service, browser, new_id()),
        get(service, browser, "x"), get(service, browser, "%2e%2e"), get(service, browser, "1/2"),
        get(service, member, asked.export_id, part="columns"),
        get(service, member, asked.export_id, "HEAD"),
    ]  # fmt: skip
    assert {answer.status_code for answer in answers} == {404}
    told = {answer.json()["error"]["message"] for answer in answers if answer.content}
    assert told == {exports.NO_SUCH}
    denied = [row[:2] for row in audit_rows(f"export:{asked.export_id}") if row[1] == "denied"]
    assert denied == [("export.download", "denied")]


def test_a_role_that_was_lost_ends_it(service: Service, place: Place, browser: Browser) -> None:
    asked = ask(browser.principal, place)
    assert get(service, browser, asked.export_id).status_code == 200
    with db.transaction(TESTS) as session:
        members.change(session, TESTS, place.tenant_id, browser.principal.user_id, role=Role.MEMBER)
    assert get(service, browser, asked.export_id).status_code == 404


def test_an_operator_gets_what_operators_asked_for(
    service: Service, place: Place, browser: Browser
) -> None:
    operator, theirs = an_operator()
    one, of_all = ask(operator, place), ask(operator, None, "jsonl")
    answer = get(service, theirs, one.export_id)
    assert "list_cost_usd" in answer.text.partition("\n")[0]
    answer = get(service, theirs, of_all.export_id)
    assert answer.headers["content-disposition"].endswith('_all.jsonl"')
    assert answer.text.count(f'"tenant_id":"{place.tenant_id}"') == 3
    assert get(service, theirs, ask(browser.principal, place).export_id).status_code == 404


def test_a_file_that_is_not_ready_says_so(service: Service, place: Place, browser: Browser) -> None:
    asked = ask(browser.principal, place, "xlsx")
    answer = get(service, browser, asked.export_id)
    assert answer.status_code == 409 and "still being made" in answer.json()["error"]["message"]
    change(
        "update app.export_files f set state = 'failed' from app.exports e"
        " where e.file_id = f.file_id and e.export_id = :e",
        e=asked.export_id,
    )
    assert get(service, browser, asked.export_id).status_code == 409


def test_it_takes_get_only(service: Service) -> None:
    assert httpx2.post(f"{service.url}/exports/{new_id()}").status_code == 405
    assert httpx2.get(f"{service.url}/exports/").status_code == 404


def rows_forever(select: str) -> Any:
    """An export whose rows are those of another query."""

    def dataset(_session: object, _who: object, kind: str, *_: object, **__: object) -> Dataset:
        columns = (Column("n", Type.INTEGER, "n"), Column("said", Type.TEXT, "said"))
        return Dataset(kind, columns, Query(select, select, {}), "UTC")

    return dataset


MANY = "select n, repeat('x', 1000) as said from (select generate_series(1, {}) as n) as s"
FAILING = (
    "select 9999 / (9999 - n) as n, repeat('x', 1000) as said from generate_series(1, 20000) n"
)
SLOW = "select n, pg_sleep(20)::text || repeat('x', 1000) as said from generate_series(1, 3) as n"


def test_a_query_that_fails_in_the_middle_breaks_the_answer_off(
    service: Service, place: Place, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ask(browser.principal, place)
    monkeypatch.setattr(catalogue, "dataset", rows_forever(FAILING))
    with pytest.raises(httpx2.RemoteProtocolError):
        get(service, browser, asked.export_id)
    assert "export.sent" not in [row[0] for row in audit_rows(f"export:{asked.export_id}")]
    wait_until(lambda: queries("generate_series(1, 20000)") == 0)


def test_a_stored_file_that_lost_a_part_breaks_off(
    service: Service, place: Place, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_files, "PART_BYTES", 1000)
    asked = stored(browser.principal, place)
    change(
        "delete from app.export_parts p using app.exports e where e.file_id = p.file_id"
        " and e.export_id = :e and p.part = 2",
        e=asked.export_id,
    )
    with pytest.raises(httpx2.RemoteProtocolError):
        get(service, browser, asked.export_id)


def queries(like: str) -> int:
    """How many connections run such a query, or stand in a transaction with it."""
    with psycopg.connect(db.current().url) as owner:
        found = owner.execute(
            "select count(*) from pg_stat_activity where position(%s in query) > 0"
            " and state <> 'idle' and pid <> pg_backend_pid()",
            (like,),
        ).fetchone()
    assert found is not None
    return int(found[0])


class Listener:
    """A client that reads only what it is told to, on a socket of its own."""

    def __init__(
        self, service: Service, browser: Browser, asked: Asked, *, is_small: bool = True
    ) -> None:
        where = urlsplit(service.url)
        self._socket = socket.create_connection((where.hostname, where.port), timeout=30)
        if is_small:  # what the system keeps for it; reading all of a file through it takes minutes
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.sendall(
            f"GET /exports/{asked.export_id} HTTP/1.1\r\nhost: 127.0.0.1\r\n"
            f"cookie: {COOKIE}={browser.token}\r\n\r\n".encode()
        )

    def read(self, size: int) -> bytes:
        return self._socket.recv(size)

    def leave(self) -> None:
        self._socket.close()


@pytest.fixture
def nobody_listens() -> Iterator[None]:
    yield
    wait_until(lambda: not sending._sending)


@pytest.mark.usefixtures("nobody_listens")
def test_a_client_that_leaves_in_the_middle_ends_the_query(
    service: Service, place: Place, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ask(browser.principal, place)
    monkeypatch.setattr(catalogue, "dataset", rows_forever(MANY.format(50_000_000)))
    listener = Listener(service, browser, asked)
    assert listener.read(12) == b"HTTP/1.1 200"
    wait_until(lambda: queries("50000000") == 1)
    listener.leave()
    wait_until(lambda: queries("50000000") == 0)


@pytest.mark.usefixtures("nobody_listens")
def test_a_slow_client_holds_no_transaction(
    service: Service, place: Place, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ask(browser.principal, place)
    monkeypatch.setattr(catalogue, "dataset", rows_forever(MANY.format(20_001)))
    listener = Listener(service, browser, asked, is_small=False)
    assert listener.read(12) == b"HTTP/1.1 200"
    wait_until(lambda: queries("20001") == 0)
    assert sending._sending  # it has not even begun to take the rest
    size, end = 0, b""
    while not end.endswith(b"0\r\n\r\n"):
        piece = listener.read(1_000_000)
        assert piece, "the answer was broken off"
        size, end = size + len(piece), (end + piece)[-5:]
    assert size > 20_000_000
    listener.leave()


@pytest.mark.usefixtures("nobody_listens")
def test_a_client_that_leaves_before_the_first_row_ends_the_query(
    service: Service, place: Place, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ask(browser.principal, place)
    monkeypatch.setattr(catalogue, "dataset", rows_forever(SLOW))
    listener = Listener(service, browser, asked)
    wait_until(lambda: queries("pg_sleep(20)") == 1)
    begun = time.monotonic()
    listener.leave()
    wait_until(lambda: queries("pg_sleep(20)") == 0)
    assert time.monotonic() - begun < 10


@pytest.mark.usefixtures("nobody_listens")
def test_a_client_that_takes_nothing_is_left(
    service: Service, place: Place, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "_PATIENCE_S", 0.5)
    asked = ask(browser.principal, place)
    monkeypatch.setattr(catalogue, "dataset", rows_forever(MANY.format(50_000_000)))
    listener = Listener(service, browser, asked)
    wait_until(lambda: queries("50000000") == 1)
    wait_until(lambda: queries("50000000") == 0)
    listener.leave()


@pytest.mark.usefixtures("nobody_listens")
def test_others_are_answered_while_a_large_file_is_sent(
    service: Service, place: Place, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ask(browser.principal, place)
    monkeypatch.setattr(catalogue, "dataset", rows_forever(MANY.format(60_000)))
    with ThreadPoolExecutor(1) as pool:
        download = pool.submit(get, service, browser, asked.export_id)
        waits_s = []
        while not download.done():
            begun = time.monotonic()
            assert httpx2.get(f"{service.url}/livez").status_code == 200
            waits_s.append(time.monotonic() - begun)
        answer = download.result()
    assert len(answer.content) > 60_000_000 and len(waits_s) > 3
    assert sorted(waits_s)[len(waits_s) // 2] < 0.25


def test_only_so_many_are_sent_at_once(
    service: Service, place: Place, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ask(browser.principal, place)
    monkeypatch.setattr(sending, "AT_ONCE_MAX", 0)
    answer = get(service, browser, asked.export_id)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")


def test_closing_waits_for_the_block_that_is_being_read() -> None:
    ended = []

    def blocks() -> Any:
        try:
            time.sleep(0.2)
            yield b"x"
        finally:
            ended.append(time.monotonic())

    with ThreadPoolExecutor(1) as pool:
        held = Blocks(blocks(), Progress())
        taking = pool.submit(held.take)
        time.sleep(0.05)
        held.close()
        assert taking.result() == b"x" and len(ended) == 1
        assert held.take() == b""
