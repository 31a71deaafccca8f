"""pages/finance.py, run by Streamlit: who sees whose books, closing and reopening a month, and that every
figure is that of the core."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import pytest
from streamlit.testing.v1 import AppTest

from core import db
from core.finance import exports, months
from core.finance.months import State
from core.identity.access import Role
from core.periods import month_of
from tests.analytics.using import opened_at, use
from tests.factories import make_model
from tests.finance.books import (
    calendar_of,
    close,
    guessed,
    last_month,
    within,
)
from tests.identity.people import change
from tests.pages.conftest import MAIN, Person
from tests.pages.finance_page import (
    a_team,
    called,
    labels,
    name_of,
    of_operator,
    place_of,
    press,
    said,
    spelled,
    state,
    table,
)
from tests.pages.operators import an_operator
from tests.quota.test_gate import open_call

Make = Callable[..., Person]
Open = Callable[..., AppTest]


@pytest.fixture
def finn(person: Make) -> Person:
    """Finance of a team that used something."""
    return a_team(person)


def test_members_and_strangers_see_no_books(
    person: Make, cookie: Callable[[str | None], None], open_alone: Callable[[str], AppTest]
) -> None:
    cookie(person(Role.MEMBER).browser.token)
    app = AppTest.from_file(MAIN.with_name("finance.py"), default_timeout=20).run()
    assert "Your role does not allow this page" in said(app)
    assert not app.dataframe and not app.segmented_control
    app = open_alone("finance.py")
    assert "Please sign in" in said(app) and not app.dataframe


def test_the_navigation_offers_it_to_who_keeps_books(
    person: Make, open_page: Open, finn: Person
) -> None:
    with pytest.raises(ValueError, match="Could not find"):
        open_page(person(Role.MEMBER), "finance.py")
    for one in (finn, person(Role.ADMIN), an_operator()):
        assert not open_page(one, "finance.py").exception


@pytest.mark.parametrize("role", [Role.FINANCE, Role.ADMIN])
def test_a_teams_own_see_its_parts_and_no_list_cost(
    person: Make, open_page: Open, role: Role
) -> None:
    app = open_page(person(role), "finance.py")
    assert not app.exception
    assert app.segmented_control("part").options == ["Months", "Exports", "Chargeback", "Ledger"]
    assert "list" not in table(app, "billed") and not app.get("tenant")


def test_operators_choose_a_tenant_and_see_two_more_parts(open_page: Open, finn: Person) -> None:
    app = open_page(an_operator(), "finance.py")
    assert app.segmented_control("part").options[-2:] == ["Revenue", "Provider bill"]
    app.selectbox("tenant").set_value(finn.principal.tenant_id).run()
    assert f"The books of **{name_of(finn)}**" in said(app)
    assert list(table(app, "billed")["list"])[1] == "$0.020000001"


def test_a_forged_address_shows_ones_own_months(
    open_page: Open, person: Make, finn: Person
) -> None:
    other = person(Role.FINANCE)
    for forged in (
        {"part": "Revenue"}, {"part": "Provider bill"}, {"month": "Never 9999"},
        {"tenant": str(finn.principal.tenant_id)}, {"tenant": name_of(finn)},
    ):  # fmt: skip
        app = open_page(other, "finance.py", **forged)
        assert not app.exception, forged
        assert list(table(app, "billed")["billed"]) == ["$0"], forged
    app = open_page(an_operator(), "finance.py", tenant="Nobody", part="Nothing", month="Never")
    assert not app.exception and "The books of **all tenants**" in said(app)


def test_parts_of_another_page_do_not_disturb_it(open_page: Open) -> None:
    app = open_page(an_operator(), "admin.py", part="Health")
    app.switch_page("finance.py").run()
    assert not app.exception
    assert app.segmented_control("part").value == "Months"


def test_months_show_what_was_used(open_page: Open, finn: Person) -> None:
    place = place_of(finn)
    app = open_page(finn, "finance.py")
    found = table(app, "billed").set_index("month")
    last = found.loc[spelled(last_month(place))]
    assert (last["billed"], last["requests"], last["state"]) == ("$0.020000001", 2, "To close")
    this = found.iloc[0]
    assert (this["billed"], this["state"]) == ("$0.03", "Running")
    assert app.selectbox("month").value == last_month(place)
    for words in ("The month has ended", "No call is open", "every call is final",
                  "The ledger agrees"):  # fmt: skip
        assert words in said(app)


def test_a_month_is_closed_once_and_shows_its_sums_and_files(open_page: Open, finn: Person) -> None:
    place, month = place_of(finn), last_month(place_of(finn))
    app = open_page(finn, "finance.py")
    press(app, f"Close {spelled(month)}")
    assert not app.exception and state(finn) is State.CLOSED
    assert f"{spelled(month)} is closed at $0.020000001" in said(app)
    assert f"Close {spelled(month)}" not in labels(app)
    assert "2 and 0 corrections" in said(app) and "by Ada" in said(app)
    assert "No file of this month yet" in said(app)
    with db.transaction(finn.principal) as session:
        closed = months.of_tenant(session, finn.principal, place.tenant_id)[1].closing
        assert closed is not None
        exports.ask(
            session, finn.principal, "usage", "csv", month_of(month), tenant_id=place.tenant_id
        )
    change(
        "update app.export_files set state = 'ready', sha256 = :sum, size_bytes = 7, rows_total = 2,"
        " built_at = now() where closing_id = :closing",
        sum="ab" * 32, closing=closed.closing_id,
    )  # fmt: skip
    app = open_page(finn, "finance.py", month=spelled(month))
    assert list(table(app, "sha256")["sha256"]) == ["ab" * 32]


def test_what_blocks_is_counted_and_opens_into_its_rows(open_page: Open, finn: Person) -> None:
    place, model = place_of(finn), make_model()
    month = last_month(place)
    calls = [guessed(place, model, within(place, month), usd) for usd in ("0.04", "0.05")]
    app = open_page(finn, "finance.py", month=spelled(month))
    assert "The cost of 2 calls is not final; $0.09 so far." in said(app)
    button = next(b for b in app.button if b.label == f"Close {spelled(month)}")
    assert button.disabled
    opened = app.expander[0]
    app.session_state["rows_unreconciled"] = True
    app.run()
    found = table(app, "note")
    assert set(found["call"]) == {str(call.call_id) for call in calls}
    assert sorted(found["amount"]) == ["$0.04", "$0.05"], opened.label
    app.checkbox[0].check().run()
    press(app, f"Close {spelled(month)}")
    assert state(finn) is State.CLOSED
    assert "The cost of 2 calls is not final" in said(app)  # closed over, and kept with it


def test_an_open_call_cannot_be_accepted(open_page: Open, finn: Person) -> None:
    place = place_of(finn)
    opened_at(open_call(place, make_model()), within(place, last_month(place)))
    app = open_page(finn, "finance.py")
    assert "1 call still open" in said(app) and not app.checkbox
    assert next(b for b in app.button if b.label.startswith("Close ")).disabled
    assert state(finn) is State.OPEN


def test_a_month_that_runs_has_no_button(open_page: Open, finn: Person) -> None:
    month = calendar_of(place_of(finn)).today().replace(day=1)
    app = open_page(finn, "finance.py", month=spelled(month))
    assert "The month has not ended" in said(app)
    assert not any(label.startswith("Close") for label in labels(app))


def test_somebody_else_was_quicker(open_page: Open, finn: Person) -> None:
    month = last_month(place_of(finn))
    app = open_page(finn, "finance.py")
    close(place_of(finn), month)
    press(app, f"Close {spelled(month)}")
    assert not app.exception and "by the command line" in said(app)
    assert f"Close {spelled(month)}" not in labels(app)


def test_only_operators_reopen_and_only_with_a_reason(open_page: Open, finn: Person) -> None:
    month = last_month(place_of(finn))
    close(place_of(finn), month)
    app = open_page(finn, "finance.py", month=spelled(month))
    assert "Reopen the month" not in labels(app)
    operator = an_operator()
    app = of_operator(open_page, operator, finn, month=spelled(month))
    app.selectbox("month").set_value(month).run()
    press(app, "Reopen the month")
    assert state(finn) is State.CLOSED  # no reason
    next(one for one in app.text_input if one.label == "Reason").input("the bill came late")
    press(app, "Reopen the month")
    assert state(finn) is State.REOPENED
    assert "Reopened by Ada" in said(app) and "the bill came late" in said(app)


def test_a_month_is_closed_for_all_tenants_and_the_blocked_are_named(
    open_page: Open, finn: Person, person: Make
) -> None:
    place, blocked = place_of(finn), person(Role.ADMIN)
    other = place_of(blocked)
    month = last_month(place)
    use(other.who, make_model(), "0.01", at=within(other, month))
    opened_at(open_call(other, make_model()), within(other, month))
    busy = called(other, f"Busy {uuid4().hex[:8]}")
    app = open_page(an_operator(), "finance.py", month=spelled(month))
    row = table(app, "name").set_index("name").loc[name_of(finn)]
    assert (row["billed"], row["list"], row["state"]) == ("$0.020000001", "$0.020000001", "Open")
    press(app, f"Close {spelled(month)}")
    assert state(finn) is State.CLOSED
    assert f"**{busy}**: 1 call still open" in said(app)
    states = table(app, "name").set_index("name")["state"]
    assert (states[name_of(finn)], states[busy]) == ("Closed", "Open")
