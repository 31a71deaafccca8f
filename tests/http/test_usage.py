"""GET /api/usage, /api/usage/details, /api/costs, /api/quota: served, with real keys."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import httpx2
import pytest
from sqlalchemy.orm import Session

from core import db
from core.analytics import figures
from core.analytics.parameters import Span, period_of
from core.analytics.selection import Selection
from core.identity import keys
from core.identity.access import Principal
from core.identity.limits import LimitName, Subject, set_limit
from core.money import NANO_PER_USD, to_usd
from tests.analytics.using import colleague, correct, cost_of, use
from tests.factories import TESTS, Place, make_model, make_place
from tests.http.serving import Service

PATHS = ("/api/usage", "/api/usage/details", "/api/costs")


@dataclass(frozen=True, slots=True)
class Team:
    """A tenant with an admin and a member who both used two models, and a key of each."""

    place: Place
    member: Principal
    dear: str
    cheap: str
    admin_key: str
    member_key: str


def _key(who: Principal, **terms: Any) -> str:
    with db.transaction(TESTS) as session:
        return keys.issue(
            session, TESTS, "numbers", tenant_id=who.tenant_id, user_id=who.user_id, **terms
        ).secret


@pytest.fixture(scope="module")
def team(service: Service) -> Team:
    place = make_place(role="admin", credit_usd=50)
    member, dear, cheap = colleague(place), make_model(), make_model()
    for days_ago in (0, 3, 9):
        use(place.who, dear, "0.5", days_ago=days_ago)
        use(member, cheap, "0.000000001", days_ago=days_ago)
    correct(use(member, cheap, cost=cost_of("0.001", lookup=True), days_ago=1), "0.0015")
    use(member, dear, "0.25", source="api", outcome="error")
    return Team(place, member, dear, cheap, _key(place.who), _key(member))


def ask(service: Service, secret: str, path: str, **parameters: Any) -> httpx2.Response:
    return httpx2.get(
        f"{service.url}{path}", params=parameters, headers={"authorization": f"Bearer {secret}"},
        timeout=30,
    )  # fmt: skip


def told(service: Service, secret: str, path: str, **parameters: Any) -> dict[str, Any]:
    answer = ask(service, secret, path, **parameters)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def summed(rows: list[dict[str, Any]]) -> Decimal:
    return sum((Decimal(row["billed_cost_usd"]) for row in rows), Decimal(0))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("group", ["model", "user", "source", "outcome", "cost_center"])
def test_rows_add_up_to_the_totals_and_to_the_page(
    service: Service, team: Team, path: str, group: str
) -> None:
    more = {} if path.endswith("details") else {"group_by": group}
    answer = told(service, team.admin_key, path, **more)
    with db.transaction(team.place.who) as session:
        selection = Selection(period_of(Span.DAYS_30, datetime.now(UTC).date()))
        shown = figures.totals(session, team.place.who, selection)
    assert summed(answer["data"]) == Decimal(answer["totals"]["billed_cost_usd"])
    assert Decimal(answer["totals"]["billed_cost_usd"]) == to_usd(shown.billed_nusd)
    assert answer["totals"]["requests"] == shown.requests == 8


def test_a_members_key_sees_the_members_calls_only(service: Service, team: Team) -> None:
    for path in PATHS:
        own = told(service, team.member_key, path)
        asked_for_all = told(service, team.member_key, path, user=str(team.place.user_id))
        assert own["totals"]["requests"] == 5
        assert asked_for_all["data"] == []


def test_another_tenants_key_sees_nothing_of_this_one(service: Service, team: Team) -> None:
    stranger = _key(make_place(role="admin").who)
    for path in PATHS:
        for forged in (
            {"tenant": str(team.place.tenant_id)}, {"user": str(team.member.user_id)},
            {"model": team.dear}, {},
        ):  # fmt: skip
            assert told(service, stranger, path, **forged)["data"] == []


def test_pages_of_steps_and_of_events_join_without_gap_or_repeat(
    service: Service, team: Team
) -> None:
    for path, more in (("/api/usage", {"group_by": "user"}), ("/api/usage/details", {})):
        whole = told(service, team.admin_key, path, **more)["data"]
        joined: list[dict[str, Any]] = []
        after: dict[str, str] = {}
        while True:
            page = told(service, team.admin_key, path, limit=2, **more, **after)
            joined += page["data"]
            if page["next"] is None:
                break
            after = {"after": page["next"]}
        assert joined == whole
        assert len(whole) > 4


@pytest.mark.parametrize(
    ("rollup", "days"), [("hour", 20), ("day", 90), ("week", 90), ("month", 90)]
)
def test_a_page_of_steps_reads_from_where_it_goes_on(
    service: Service, rollup: str, days: int, reads: list[date]
) -> None:
    """However many pages there are, the days of the pages before are not read again."""
    place, model = make_place(role="admin"), make_model()
    for days_ago in range(0, days, 6):
        use(place.who, model, days_ago=days_ago)
    key, today = _key(place.who), datetime.now(UTC).date()
    asked = {
        "from": str(today - timedelta(days=days)), "to": str(today), "rollup": rollup,
        "group_by": "user",
    }  # fmt: skip
    whole = told(service, key, "/api/usage", **asked)["data"]
    joined: list[dict[str, Any]] = []
    after: dict[str, str] = {}
    while True:
        reads.clear()
        page = told(service, key, "/api/usage", limit=1, **asked, **after)
        assert not joined or min(reads) >= date.fromisoformat(joined[-1]["bucket"][:10])
        joined += page["data"]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert joined == whole
    assert len(whole) >= 3


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[date]:
    """The first day of each series that is read meanwhile."""
    found: list[date] = []
    series = figures.series

    def reading(session: Session, who: Principal, of: Selection, *view: Any) -> object:
        found.append(of.period.first)
        return series(session, who, of, *view)

    monkeypatch.setattr(figures, "series", reading)
    return found


def test_events_come_in_the_order_asked_for(service: Service, team: Team) -> None:
    dearest = told(service, team.admin_key, "/api/usage/details", order="-cost")["data"]
    amounts = [Decimal(row["billed_cost_usd"]) for row in dearest]
    assert amounts == sorted(amounts, reverse=True)
    oldest = told(service, team.admin_key, "/api/usage/details", order="time")["data"]
    assert [row["occurred_at"] for row in oldest] == sorted(row["occurred_at"] for row in oldest)


def test_an_adjustment_is_a_row_with_the_difference(service: Service, team: Team) -> None:
    rows = told(service, team.admin_key, "/api/usage/details", model=team.cheap)["data"]
    (adjustment,) = [row for row in rows if row["kind"] == "adjustment"]
    assert adjustment["billed_cost_usd"] == "0.0005"
    assert [r["billed_cost_usd"] for r in rows if r["call_id"] == adjustment["call_id"]] in (
        ["0.0005", "0.001"], ["0.001", "0.0005"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({"from": "2026-10-31", "to": "2026-10-01"}, "to"),
        ({"from": "2026-02-30", "to": "2026-03-01"}, "from"),
        ({"from": "1026-01-01", "to": "2026-01-01"}, "from"),
        ({"from": "2026-01-01"}, "to"), ({"span": "forever"}, "span"),
        ({"user": "1 or 1=1"}, "user"), ({"source": "fax"}, "source"),
        ({"model": ["m"] * 101}, None), ({"tenants": "x"}, "tenants"),
        ({"group_by": "password"}, "group_by"), ({"rollup": "minute"}, "rollup"),
        ({"rollup": "hour", "span": "90d"}, "rollup"), ({"limit": "0"}, "limit"),
        ({"limit": "1e9"}, "limit"), ({"limit": "9" * 40}, "limit"), ({"after": "W10"}, "after"),
        ({"after": "\x00"}, "after"), ({"limit": ["1", "2"]}, "limit"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_by_name(
    service: Service, team: Team, parameters: dict[str, Any], param: str | None
) -> None:
    answer = ask(service, team.admin_key, "/api/usage", **parameters)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "invalid_input", param)


def test_ten_thousand_filters_are_refused(service: Service, team: Team) -> None:
    address = urlsplit(service.url)
    connection = HTTPConnection(str(address.hostname), address.port, timeout=30)
    connection.request(
        "GET", "/api/costs?" + "&".join(["model=a"] * 10_000),
        headers={"authorization": f"Bearer {team.admin_key}"},
    )  # fmt: skip
    answer = connection.getresponse()
    assert answer.status in {400, 414, 431}
    assert b"billed_cost_usd" not in answer.read()
    connection.close()


def test_a_future_period_is_empty(service: Service, team: Team) -> None:
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    days = {"from": str(tomorrow), "to": str(tomorrow)}
    answer = told(service, team.admin_key, "/api/usage", **days)
    assert (answer["data"], answer["totals"]["billed_cost_usd"]) == ([], "0")


def test_a_key_needs_the_scope(service: Service, team: Team) -> None:
    key = _key(team.place.who, scopes={"chat", "models"})
    for path in (*PATHS, "/api/quota"):
        assert ask(service, key, path).status_code == 403
        assert ask(service, "sk-purser-wrong", path).status_code == 401
    assert ask(service, team.admin_key, "/api/nothing").status_code == 404
    assert httpx2.post(f"{service.url}/api/usage").status_code == 405


def test_the_quota_says_what_is_used_of_what(service: Service, team: Team) -> None:
    with db.transaction(TESTS) as session:
        set_limit(
            session, TESTS, team.place.tenant_id, Subject.USER, team.member.user_id,
            LimitName.MONTHLY_NUSD, 3 * NANO_PER_USD,
        )  # fmt: skip
    answer = told(service, team.member_key, "/api/quota")
    (budget,) = [
        row for row in answer["limits"] if (row["scope"], row["limit"]) == ("user", "monthly_nusd")
    ]
    assert (budget["unit"], budget["maximum"], budget["held"]) == ("USD", "3", "0")
    assert Decimal(budget["used"]) == Decimal("0.251500003")
    assert datetime.fromisoformat(answer["resets_at"]) > datetime.now(UTC)


def test_an_unknown_id_gives_no_rows(service: Service, team: Team) -> None:
    unknown: UUID = uuid4()
    for name in ("user", "key_id", "tenant"):
        assert told(service, team.admin_key, "/api/costs", **{name: str(unknown)})["data"] == []
