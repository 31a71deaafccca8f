"""GET /billing/statement.csv: buyers only, their own tenant's lines only, nothing that runs."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import httpx2
import pytest

from core import db
from core.billing import ledger
from core.billing.statement import StatementAsk
from core.billing.statement import read as read_page
from core.db import new_id
from core.finance import exports
from core.finance.datasets.catalogue import columns_of
from core.finance.files import cells
from core.finance.files.copying import Progress
from core.http import statement
from core.identity import tenants, zones
from core.identity.access import Role
from core.identity.cookies import SESSION as COOKIE
from core.identity.tables import ZoneChange
from core.identity.zones import Calendar
from core.periods import month_of
from tests.analytics.using import use
from tests.billing.books import USD, bought, set_times
from tests.factories import TESTS, Place, make_model, make_place
from tests.http.serving import Service
from tests.identity.people import a_user, audit_rows, join, sign_in

HOUR = timedelta(hours=1)
ALL = {"from": "2020-01-01", "to": "2030-12-31"}


def cookie_of(place: Place, role: Role = Role.FINANCE) -> str:
    user_id = a_user()
    join(place.tenant_id, user_id, role)
    return sign_in(user_id).token


def get(service: Service, token: str | None, **asked: object) -> httpx2.Response:
    headers = {"cookie": f"{COOKIE}={token}"} if token else {}
    return httpx2.get(
        f"{service.url}/billing/statement.csv", params=asked or ALL, headers=headers, timeout=60
    )


def rows_of(answer: httpx2.Response) -> list[dict[str, str]]:
    assert answer.status_code == 200, answer.text
    return list(csv.DictReader(io.StringIO(answer.content.decode("utf-8"), newline="")))


@pytest.mark.parametrize("role", [Role.FINANCE, Role.ADMIN])
def test_the_lines_of_a_period_add_up_to_the_wallet(service: Service, role: Role) -> None:
    place = make_place(credit_usd=2, time_zone="Europe/Berlin")
    model = make_model()
    order = bought(place)
    call = use(place.who, model, "0.0000012")
    rows = rows_of(get(service, cookie_of(place, role)))
    assert [row["kind"] for row in rows] == ["grant", "grant", "grant", "capture"]
    assert Decimal(rows[3]["amount_usd"]) == Decimal("-0.0000012")
    assert sum(Decimal(row["amount_usd"]) for row in rows) == Decimal(rows[3]["balance_after_usd"])
    assert (rows[3]["call_id"], rows[3]["model"]) == (str(call.call_id), model)
    assert (rows[2]["order_id"], rows[2]["order_title"]) == (str(order.order_id), "Pro")
    assert datetime.fromisoformat(rows[3]["occurred_at"]).utcoffset() in (
        timedelta(hours=1), timedelta(hours=2),
    )  # fmt: skip


def test_it_is_an_attachment_that_nobody_keeps_or_guesses(service: Service) -> None:
    place = make_place()
    answer = get(service, cookie_of(place))
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == (
        'attachment; filename="statement_2020-01-01_2030-12-31.csv"'
    )
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_days_and_kinds_narrow_it(service: Service) -> None:
    place = make_place(credit_usd=2)
    use(place.who, make_model(), "0.01")
    token = cookie_of(place)
    day = datetime.now(UTC).date()
    assert len(rows_of(get(service, token, **{"from": str(day), "to": str(day)}))) == 2
    old = str(day - timedelta(days=2))
    assert rows_of(get(service, token, **{"from": old, "to": old})) == []
    assert [row["kind"] for row in rows_of(get(service, token, **ALL, kind="grant"))] == ["grant"]
    assert len(rows_of(get(service, token, **ALL, kind=["grant", "capture"]))) == 2


def test_more_lines_than_a_block_all_come_once(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make_place(credit_usd=0)
    with db.transaction(TESTS) as session:
        for n in range(25):
            ledger.grant(
                session, place.tenant_id, n + 1, kind="manual", key=str(n), actor="t", reason="x"
            )
    monkeypatch.setattr(statement, "_BLOCK_LINES", 4)
    rows = rows_of(get(service, cookie_of(place)))
    assert [row["line"] for row in rows] == [str(n) for n in range(1, 26)]
    assert rows_of(get(service, cookie_of(place), **ALL, kind="capture")) == []


@pytest.mark.parametrize("token", [None, "", "x" * 43])
def test_nobody_gets_nothing(service: Service, token: str | None) -> None:
    answer = get(service, token)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"


def test_a_member_is_refused_and_that_is_recorded(service: Service) -> None:
    place = make_place()
    assert get(service, cookie_of(place, Role.MEMBER)).status_code == 403
    ((action, outcome, _, tenant_id),) = audit_rows(f"tenant:{place.tenant_id}")[-1:]
    assert (action, outcome, tenant_id) == ("statement.export", "denied", place.tenant_id)


def test_an_export_is_recorded_once(service: Service) -> None:
    place = make_place()
    get(service, cookie_of(place))
    rows = [row for row in audit_rows(f"tenant:{place.tenant_id}") if row[0] == "statement.export"]
    assert [(row[1], row[3]) for row in rows] == [("done", place.tenant_id)]


def test_an_operator_without_a_team_has_no_statement(service: Service) -> None:
    user_id = a_user()
    with db.transaction(TESTS) as session:
        tenants.make_operator(session, TESTS, user_id, confirmed=True)
    assert get(service, sign_in(user_id).token).status_code == 403


def test_a_stranger_reads_their_own_books_only(service: Service) -> None:
    bought(make_place())
    place = make_place(credit_usd=3)
    rows = rows_of(get(service, cookie_of(place)))
    assert [Decimal(row["amount_usd"]) for row in rows] == [3]


def test_an_ended_session_downloads_nothing_any_more(service: Service) -> None:
    token = cookie_of(make_place())
    httpx2.delete(
        f"{service.url}/session", headers={"origin": service.url, "cookie": f"{COOKIE}={token}"}
    )
    assert get(service, token).status_code == 401


@pytest.mark.parametrize(
    "said",
    ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "－1", "＠x", "＋1", "  =1",  # noqa: RUF001
     "\u3000=1", "=cmd|' /C calc'!A0", "x;=cmd|' /C calc'!A0", "x,-1", "x\t+1"],
)  # fmt: skip
def test_no_text_begins_a_formula(service: Service, said: str) -> None:
    place = make_place(credit_usd=0)
    with db.transaction(TESTS) as session:
        ledger.grant(
            session, place.tenant_id, USD, kind="manual", key=new_id().hex, actor="operator:x",
            reason=said,
        )  # fmt: skip
    (row,) = rows_of(get(service, cookie_of(place)))
    assert row["reason"] == cells.guard(said) != said
    assert Decimal(row["amount_usd"]) == 1


@pytest.mark.parametrize("said", ["Pro", "a=b", "a-b", "", "'quoted'", "ﬁne", "日本"])
def test_other_text_stays_as_it_is(said: str) -> None:
    assert cells.guard(said) == said


BAD = {
    "no days": ({}, "from"), "no end": ({"from": "2026-01-01"}, "to"),
    "no date": ({**ALL, "from": "yesterday"}, "from"),
    "no such day": ({**ALL, "from": "2026-02-30"}, "from"),
    "a week": ({**ALL, "to": "2026-W01-1"}, "to"),
    "other digits": ({**ALL, "to": "２０２６-01-01"}, "to"),  # noqa: RUF001
    "two of them": ({**ALL, "from": ["2026-01-01", "2026-01-02"]}, "from"),
    "backwards": ({"from": "2026-02-02", "to": "2026-02-01"}, "to"),
    "too far": ({**ALL, "to": "9999-12-31"}, "to"),
    "an unknown kind": ({**ALL, "kind": "theft"}, "kind"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_by_name(service: Service, case: str) -> None:
    asked, param = BAD[case]
    answer = get(service, cookie_of(make_place()), **(asked or {"x": "1"}))
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert answer.json()["error"]["code"] == "invalid_input"


def test_it_takes_get_only(service: Service) -> None:
    assert httpx2.post(f"{service.url}/billing/statement.csv").status_code == 405


TOKYO, LOS_ANGELES = "Asia/Tokyo", "America/Los_Angeles"


@pytest.fixture
def moved(database_url: str) -> tuple[Place, list[datetime]]:
    """A tenant that moved from Tokyo to Los Angeles with this month, and its lines around every edge
    that either zone has had in the months around it."""
    place = make_place(credit_usd=0, role="admin", time_zone=TOKYO)
    old = Calendar.of_zone(TOKYO)
    this = old.today().replace(day=1)
    with db.transaction(TESTS) as session:
        session.add(
            ZoneChange(
                tenant_id=place.tenant_id, starts_on=this, starts_at=old.start_of(this),
                time_zone=LOS_ANGELES,
            )
        )  # fmt: skip
    last = (this - timedelta(days=1)).replace(day=1)
    edges = [
        Calendar.of_zone(zone).start_of(first)
        for first in (last, this)
        for zone in (TOKYO, LOS_ANGELES)
    ]
    times = [edge + step for edge in sorted(edges) for step in (-HOUR, timedelta(0), HOUR)]
    with db.transaction(TESTS) as session:
        for n in range(len(times)):
            ledger.grant(
                session, place.tenant_id, USD + n, kind="manual", key=str(n), actor="t", reason="x"
            )
    set_times(database_url, place.tenant_id, times)
    return place, times


def test_page_file_and_export_cut_a_month_by_the_calendar_of_its_time(
    service: Service, moved: tuple[Place, list[datetime]]
) -> None:
    place, times = moved
    with db.transaction(place.who) as session:
        calendar = zones.calendar_of(session, place.tenant_id)
    who, token = replace(place.who, time_zone=LOS_ANGELES), cookie_of(place)
    for at in {calendar.day_of(at).replace(day=1): at for at in times}.values():
        month = month_of(calendar.day_of(at))
        lines = [n for n, at in enumerate(times, 1) if month_of(calendar.day_of(at)) == month]
        with db.transaction(who) as session:
            page = read_page(session, who, StatementAsk(month.first, month.last, limit=100))
            asked = exports.ask(session, who, "statement", "csv", month, tenant_id=who.tenant_id)
            exported = b"".join(exports.read_rows(session, who, asked, Progress()))
        assert [line.seq for line in reversed(page.lines)] == lines
        assert page.time_zone == calendar.zone_of(month)
        file = get(service, token, **{"from": str(month.first), "to": str(month.last)})
        assert [row["line"] for row in rows_of(file)] == [str(n) for n in lines]
        assert file.content == exported


def test_the_columns_are_those_of_the_export(service: Service) -> None:
    answer = get(service, cookie_of(make_place()))
    names = answer.content.decode().splitlines()[0].split(",")
    assert names == [column.name for column in columns_of("statement", for_operators=False)]
