"""The provider's bill on the Finance page: comparing, uploading, a day's models, and importing lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, timedelta
from decimal import Decimal

import pytest
from pydantic import SecretStr
from sqlalchemy import text
from streamlit.testing.v1 import AppTest

from core import db, settings
from core.db import new_id
from pages.widgets import finance_bills
from tests.factories import TESTS, make_model, make_place
from tests.finance.bills.bill import HEAD, booked, line, past, states, today, used
from tests.pages.conftest import Person
from tests.pages.operators import an_operator
from tests.upstream import Upstream

PAGE = """
from pages.widgets import acts, finance_bills
from pages.widgets import session as tab

acts.tell()
finance_bills.draw(tab.require_operator())
"""
# A test cannot select a table's row: this draws what selecting the newest day does.
A_DAY = """
from core import db
from core.finance.bills import comparison
from pages.widgets import finance_bills
from pages.widgets import session as tab

operator = tab.require_operator()
with db.transaction(operator) as session:
    finance_bills._models(comparison.listed(session, operator)[0])
"""
YESTERDAY = today() - timedelta(days=1)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as up:
        yield up


@pytest.fixture
def operator(answering: object) -> Iterator[Person]:
    _forget()  # bills are the platform's, so other tests' would show
    yield an_operator()
    _forget()


def _forget() -> None:
    with db.transaction(TESTS) as session:
        for table in ("bill_lines", "bill_checks", "provider_bills"):
            session.execute(text(f"delete from app.{table}"))


@pytest.fixture
def draw(cookie: Callable[[str | None], None]) -> Callable[[Person], AppTest]:
    def go(who: Person) -> AppTest:
        cookie(who.browser.token)
        app = AppTest.from_string(PAGE, default_timeout=20).run()
        assert not app.exception
        return app

    return go


@pytest.fixture
def keyed(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> Upstream:
    known = settings.current().model_copy(
        update={
            "openrouter_management_key": SecretStr("sk-or-management"),
            "openrouter_base_url": upstream.url,
        }
    )
    monkeypatch.setattr(finance_bills.settings, "current", lambda: known)
    return upstream


def press(app: AppTest, label: str) -> AppTest:
    found = next(button for button in app.button if button.label == label).click().run()
    assert not found.exception
    return found


def upload(app: AppTest, *lines: str) -> AppTest:
    content = "\n".join((HEAD, *lines)).encode()
    app.file_uploader[0].upload("activity.csv", content, "text/csv").run()
    return press(app, "Read and compare")


def words(app: AppTest) -> str:
    shown = (app.markdown, app.caption, app.info, app.warning, app.error, app.toast)
    return "\n".join(str(element.value) for kind in shown for element in kind)


def rows(app: AppTest, name: str) -> list[dict[str, object]]:
    frame = next(found.value for found in app.dataframe if name in found.value.columns)
    return frame.to_dict("records")  # type: ignore[no-any-return]


def row(model: str, usd: str, day: date = YESTERDAY) -> dict[str, object]:
    return {"date": str(day), "model": model, "usage": Decimal(usd), "requests": 2}


def test_without_a_key_or_a_file_the_page_says_what_to_do(
    operator: Person, draw: Callable[[Person], AppTest]
) -> None:
    app = draw(operator)
    assert "OPENROUTER_MANAGEMENT_KEY" in words(app)
    assert "No day was compared yet" in words(app)
    assert not app.dataframe
    assert "Compare now" not in [button.label for button in app.button]


def test_only_operators_see_it(
    person: Callable[..., Person], draw: Callable[[Person], AppTest], operator: Person
) -> None:
    app = draw(person())
    assert "Only platform operators" in words(app)
    assert not app.button


def test_comparing_now_asks_the_provider_and_opens_a_day_into_its_models(
    operator: Person, draw: Callable[[Person], AppTest], keyed: Upstream
) -> None:
    model, other = make_model(), f"only/theirs-{new_id().hex[-6:]}"
    place = make_place()
    used(place, model, "0.000000012345", at=past(1))
    keyed.list_activity([row(model, "0.000000012345"), row(other, "1.25")])
    app = press(draw(operator), "Compare now")
    assert "Compared 1 days" in words(app)
    (day,) = rows(app, "percent")
    assert day["day"] == YESTERDAY
    assert str(day["theirs"]) == "$1.250000012345"
    assert day["differs"]
    app = AppTest.from_string(A_DAY, default_timeout=20).run()
    assert not app.exception
    found = {str(r["model"]): r for r in rows(app, "our_requests")}
    assert found[model]["ours"] == found[model]["theirs"] == "$0.000000012345"
    assert (found[model]["difference"], found[model]["cause"]) == ("$0", "agrees")
    assert found[other]["difference"] == "$1.25"
    assert (found[other]["our_requests"], found[other]["their_requests"]) == (0, 2)
    assert found[other]["cause"] == "calls that we did not record"


def test_a_provider_that_refuses_is_told_and_nothing_changes(
    operator: Person, draw: Callable[[Person], AppTest], keyed: Upstream
) -> None:
    keyed.refuse_connections()
    app = press(draw(operator), "Compare now")
    assert "The provider failed" in words(app)
    assert not app.dataframe


def test_a_bad_file_is_refused_by_its_place(
    operator: Person, draw: Callable[[Person], AppTest]
) -> None:
    app = upload(draw(operator), line("gen-ok", "1", "a/a"), line("gen-bad", "one", "a/a"))
    assert "Row 3, column 'cost\\_total': 'one' is not an amount" in words(app).replace(
        "cost_total", "cost\\_total"
    )
    assert states() == {}


def test_lines_are_imported_once_for_the_tenant_that_bears_them(
    operator: Person, draw: Callable[[Person], AppTest]
) -> None:
    model, number = make_model(), new_id().hex
    place = make_place()
    house = make_place(mode="internal", role="admin", credit_usd=0)
    used(place, model, "0.02", generation=f"gen-known-{number}")
    app = upload(
        draw(operator),
        line(f"gen-known-{number}", "0.03", model),
        line(f"=gen-alien-{number}", "0.5", model),
    )
    assert "2 rows of 1 days; 0 as in our books, 1 different, 1 not recorded" in words(app)
    assert [r["state"] for r in rows(app, "generation")] == ["not recorded", "another amount"]
    assert "Books \\$0.5100 as adjustments" in words(app)
    box = next(box for box in app.selectbox if box.label == "Tenant")
    box.select(house.tenant_id).run()
    app = press(app, "Import")
    assert "Imported 2 lines." in words(app)
    assert "generation" not in {c for f in app.dataframe for c in f.value.columns}
    assert booked(place.tenant_id) == (30_000_000, 30_000_000)
    assert booked(house.tenant_id) == (500_000_000, 0)


def test_what_is_not_ours_is_put_away(operator: Person, draw: Callable[[Person], AppTest]) -> None:
    app = upload(draw(operator), line(f"gen-{new_id().hex}", "0.5", "a/a"))
    app = press(app, "Put away")
    assert "Put 1 lines away" in words(app)
    assert states() == {}
