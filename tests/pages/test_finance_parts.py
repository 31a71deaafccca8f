"""The other parts of pages/finance.py, run by Streamlit: exports, chargeback, ledger, revenue. Each figure is
that of the core."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from streamlit.testing.v1 import AppTest

from core import db
from core.analytics import figures, parameters
from core.finance import exports, revenue
from core.identity import cost_centres
from core.identity.access import Role
from core.identity.limits import Subject
from core.money import NANO_PER_USD, exact, show
from core.periods import month_of
from pages.widgets import shown
from tests.analytics.using import use
from tests.billing.books import bought
from tests.factories import make_model
from tests.finance.books import (
    calendar_of,
    close,
    last_month,
    month_before,
    within,
)
from tests.identity.people import SYSTEM, change
from tests.pages.conftest import Person
from tests.pages.finance_page import (
    a_team,
    name_of,
    of_operator,
    place_of,
    press,
    said,
    spelled,
    table,
)
from tests.pages.operators import an_operator

Make = Callable[..., Person]
Open = Callable[..., AppTest]
CENT = NANO_PER_USD // 100


@pytest.fixture
def finn(person: Make) -> Person:
    """Finance of a team that used something."""
    return a_team(person)


def test_an_export_is_asked_for_and_links_to_its_file(open_page: Open, finn: Person) -> None:
    app = open_page(finn, "finance.py", part="Exports")
    assert "Nothing was asked for yet" in said(app)
    app.selectbox("export_kind").set_value("daily").run()
    app.checkbox("export_bom").check().run()
    press(app, "Ask for the file")
    assert not app.exception
    with db.transaction(finn.principal) as session:
        (asked,) = exports.list_exports(session, finn.principal, finn.principal.tenant_id)
    assert (asked.kind, asked.format, asked.bom) == ("daily", "csv", True)
    assert asked.period == month_of(last_month(place_of(finn)))
    urls = [link.proto.url for link in app.get("link_button")]
    assert f"/exports/{asked.export_id}" in urls
    assert f"/exports/{asked.export_id}?part=columns" in urls
    assert "**Daily usage**" in said(app) and "by Ada" in said(app)


def test_exports_of_another_team_are_not_listed(
    open_page: Open, finn: Person, person: Make
) -> None:
    with db.transaction(finn.principal) as session:
        exports.ask(
            session, finn.principal, "usage", "csv", month_of(last_month(place_of(finn))),
            tenant_id=finn.principal.tenant_id,
        )  # fmt: skip
    app = open_page(person(Role.ADMIN), "finance.py", part="Exports")
    assert "Nothing was asked for yet" in said(app) and not app.get("link_button")


def test_a_file_that_is_being_made_has_no_link(open_page: Open, finn: Person) -> None:
    month = last_month(place_of(finn))
    close(place_of(finn), month)
    app = open_page(finn, "finance.py", part="Exports")
    press(app, "Ask for the file")
    change(
        "update app.export_files set rows_done = 1234 where tenant_id = :tenant",
        tenant=finn.principal.tenant_id,
    )
    app.run()
    (progress,) = app.get("progress")
    assert "1,234 of 2 rows" in progress.text and not app.get("link_button")


def test_finance_is_not_offered_the_audit_log(open_page: Open, finn: Person, person: Make) -> None:
    assert (
        "Audit log"
        not in open_page(finn, "finance.py", part="Exports").selectbox("export_kind").options
    )
    admin = open_page(person(Role.ADMIN), "finance.py", part="Exports")
    assert "Audit log" in admin.selectbox("export_kind").options


def test_chargeback_rows_add_up_and_lead_to_their_calls(open_page: Open, finn: Person) -> None:
    place, month = place_of(finn), last_month(place_of(finn))
    with db.transaction(SYSTEM) as session:
        cost_centres.assign(
            session, SYSTEM, place.tenant_id, Subject.TENANT, place.tenant_id, "R&D =1+1", "Atlas"
        )
    use(place.who, make_model(), "0.07", at=within(place, month))
    app = open_page(finn, "finance.py", part="Chargeback", month=spelled(month))
    found = table(app, "center")
    assert list(found["center"]) == ["R&D =1+1", "Not set"]
    assert list(found["billed"]) == ["$0.07", "$0.020000001"]
    assert not {"list", "markup", "tenant"} & set(found)
    metric = {one.label: one.value for one in app.metric}
    assert metric["Charged"] == show(9 * CENT + 1)
    for row in found.to_dict("records"):
        address = urlsplit(row["link"])
        assert address.path == "/usage"
        selection = parameters.read(parse_qs(address.query), calendar_of(place).today())
        with db.transaction(finn.principal) as session:
            sums = figures.totals(session, finn.principal, selection)
        assert (f"${exact(sums.billed_nusd)}", sums.requests) == (row["billed"], row["requests"])


def test_operators_see_chargeback_by_tenant_with_the_markup(open_page: Open, finn: Person) -> None:
    month = last_month(place_of(finn))
    app = open_page(an_operator(), "finance.py", part="Chargeback", month=spelled(month))
    found = table(app, "center").set_index("tenant").loc[name_of(finn)]
    assert (found["billed"], found["list"], found["markup"]) == (
        "$0.020000001", "$0.020000001", "$0",
    )  # fmt: skip


def test_the_ledger_is_shown_as_a_statement_that_ties(
    open_page: Open, finn: Person, database_url: str
) -> None:
    place, month = place_of(finn), last_month(place_of(finn))
    app = open_page(finn, "finance.py", part="Ledger", month=spelled(month))
    amounts = list(table(app, "line")["amount"])
    assert amounts == ["$0", "$0", "$0.020000001", "$0.020000001", "$0"]
    assert "The ledger agrees to the last digit" in said(app)
    with psycopg.connect(database_url) as connection:  # no verb can break the books
        connection.execute("set session_replication_role = replica")
        (call_id,) = connection.execute(
            "delete from app.entries where tenant_id = %s and amount_nusd = -20000000"
            " returning call_id",
            (place.tenant_id,),
        ).fetchone() or ("",)
    app.run()
    assert "The ledger differs from the usage by $0.02" in said(app)
    assert list(table(app, "booked")["call"]) == [str(call_id)]


def test_the_ledger_of_all_tenants_asks_for_one(open_page: Open) -> None:
    app = open_page(an_operator(), "finance.py", part="Ledger")
    assert "Choose a tenant" in said(app) and not app.dataframe


def test_revenue_ties_and_is_that_of_the_core(open_page: Open, finn: Person) -> None:
    place = place_of(finn)
    bought(place)
    operator = an_operator()
    app = of_operator(open_page, operator, finn, part="Revenue")
    assert not app.exception and "It ties" in said(app)
    today = calendar_of(place).today().replace(day=1)
    with db.transaction(operator.operator) as session:
        rows = {
            row.month: row
            for row in revenue.revenue(session, operator.operator, month_before(today), today)
            if row.tenant_id == place.tenant_id
        }
    found = table(app, "opening").set_index("month").loc[spelled(today)]
    assert found["closing"] == shown.usd_exact(rows[today].closing_nusd)
    assert (found["purchased"], found["promotions"]) == ("$50", "$5")
    assert table(app, "margin").set_index("month").loc[spelled(today)]["margin"] == "$0"
    metric = {one.label: one.value for one in app.metric}
    assert metric["Credit bought"] == "$50.00"
    sold = table(app, "credit")
    assert sold.to_dict("records") == [
        {"title": "Pro", "kind": "Package", "count": 1, "paid": "$50.00", "credit": "$55"}
    ]


def test_revenue_of_all_tenants_opens_into_each(open_page: Open, finn: Person) -> None:
    app = open_page(an_operator(), "finance.py", part="Revenue")
    assert not app.exception
    app.selectbox("revenue_month").set_value(
        calendar_of(place_of(finn)).today().replace(day=1)
    ).run()
    by_tenant = next(one.value for one in app.dataframe if "tenant" in one.value)
    assert name_of(finn) in set(by_tenant["tenant"])


def test_books_that_do_not_tie_say_so(open_page: Open, finn: Person, database_url: str) -> None:
    with psycopg.connect(database_url) as connection:  # no verb can break the books
        connection.execute("set session_replication_role = replica")
        connection.execute(
            "update app.lots set remaining_nusd = remaining_nusd - 7, consumed_nusd ="
            " consumed_nusd + 7 where tenant_id = %s",
            (finn.principal.tenant_id,),
        )
    app = of_operator(open_page, an_operator(), finn, part="Revenue")
    assert f"**{name_of(finn)}**: -$0.000000007" in said(app)


def test_the_providers_bill_is_for_operators(open_page: Open) -> None:
    app = open_page(an_operator(), "finance.py", part="Provider bill")
    assert not app.exception and "The provider's bill" in said(app)
