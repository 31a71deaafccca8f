"""A tenant's settings and cost centres as its admins and operators change them on a page."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from core import db
from core.identity import cost_centres, limits, members, terms, zones
from core.identity.access import Role
from core.identity.limits import LimitName, Subject
from core.identity.terms import Terms
from tests.analytics.using import use
from tests.factories import make_model
from tests.identity.people import SYSTEM, audit_rows
from tests.pages.conftest import Person
from tests.pages.operators import an_operator

Make = Callable[..., Person]
Open = Callable[..., AppTest]
Show = Callable[[Person, UUID], AppTest]


@pytest.fixture
def operator(answering: object) -> Person:
    return an_operator()


@pytest.fixture
def admin(person: Make) -> Person:
    return person(Role.ADMIN, time_zone="Europe/Berlin")


@pytest.fixture
def show(open_page: Open) -> Show:
    """The settings of one tenant: an admin's part, or the tenant that an operator opened."""

    def go(who: Person, tenant_id: UUID) -> AppTest:
        if who.browser.signed_in.operator is None:
            return open_page(who, "admin.py", part="Settings")
        return open_page(who, "admin.py").selectbox("tenant").set_value(tenant_id).run()

    return go


def _terms(tenant_id: UUID) -> Terms:
    with db.transaction(SYSTEM) as session:
        return terms.of_tenant(session, SYSTEM, tenant_id)


def _press(app: AppTest, label: str) -> AppTest:
    return next(button for button in app.button if button.label == label).click().run()


def _said(app: AppTest) -> str:
    shown = (*app.markdown, *app.caption, *app.warning, *app.toast)
    return "\n".join(element.value for element in shown)


def _booked(app: AppTest) -> pd.DataFrame:
    return next(table.value for table in app.dataframe if "center" in table.value)


def test_an_admin_moves_the_clock_from_the_next_month_on(admin: Person, show: Show) -> None:
    tenant_id = admin.principal.tenant_id
    app = show(admin, tenant_id)
    assert not app.exception
    span = zones.next_change(_terms(tenant_id).calendar, "America/New_York", datetime.now(UTC))
    assert f"Counts from {span.starts_on:%B} 1 on" in _said(app)
    app.selectbox(f"zone_to_{tenant_id}_0").set_value("America/New_York")
    app = _press(app, "Set the time zone")
    assert not app.exception
    assert f"Europe/Berlin, from {span.starts_on:%b} 1\\: America/New\\_York" in _said(app)
    assert _terms(tenant_id).calendar.spans[-1] == span
    app.selectbox(f"zone_to_{tenant_id}_1").set_value("Europe/Berlin")
    app = _press(app, "Set the time zone")
    assert "America" not in _said(app)
    assert _terms(tenant_id).calendar.coming(datetime.now(UTC)) is None
    acted = audit_rows(f"tenant:{tenant_id}")[-1]
    assert acted[:3] == ("tenant.time_zone", "done", f"user:{admin.principal.user_id}")


def test_an_admin_has_no_button_for_what_operators_agree(admin: Person, show: Show) -> None:
    app = show(admin, admin.principal.tenant_id)
    buttons = {button.label for button in app.button}
    assert {"Set the time zone", "Assign"} <= buttons
    assert not buttons & {"Change the plan", "Set the markup", "Rename"}
    assert "Markup" not in _said(app)


def test_an_operator_changes_name_plan_and_markup(
    operator: Person, admin: Person, show: Show
) -> None:
    tenant_id = admin.principal.tenant_id
    name = f"*Birch* {uuid4().hex[:8]}"
    app = show(operator, tenant_id)
    app.text_input(f"rename_to_{tenant_id}_0").input(name)
    app = _press(app, "Rename")
    app.selectbox(f"plan_to_{tenant_id}_1").set_value("enterprise")
    app = _press(app, "Change the plan")
    app.text_input(f"markup_to_{tenant_id}_2").input("0.125")
    app = _press(app, "Set the markup")
    assert not app.exception
    found = _terms(tenant_id)
    assert (found.name, found.plan, str(found.markup)) == (name, "enterprise", "0.125000")
    assert "12.5 %" in _said(app)
    assert f"\\*Birch\\* {name[8:]}" in _said(app)
    acted = [row[:3] for row in audit_rows(f"tenant:{tenant_id}")][-3:]
    actor = f"operator:{operator.operator.user_id}"
    assert acted == [
        ("tenant.rename", "done", actor), ("plan.change", "done", actor),
        ("tenant.markup", "done", actor),
    ]  # fmt: skip


def test_a_markup_that_is_no_number_is_refused_in_words(
    operator: Person, admin: Person, show: Show
) -> None:
    tenant_id = admin.principal.tenant_id
    app = show(operator, tenant_id)
    app.text_input(f"markup_to_{tenant_id}_0").input("lots")
    app = _press(app, "Set the markup")
    assert not app.exception
    assert "The markup is not a number" in _said(app)
    assert _terms(tenant_id).markup == 0


def test_use_is_booked_for_the_team_and_for_one_person(
    admin: Person, person: Make, show: Show
) -> None:
    tenant_id = admin.principal.tenant_id
    member = person(tenant_id=tenant_id).principal
    app = show(admin, tenant_id)
    app.text_input(f"assign_center_{tenant_id}_0").input("House")
    app.text_input(f"assign_project_{tenant_id}_0").input("Web")
    app = _press(app, "Assign")
    app.selectbox(f"assign_of_{tenant_id}_1").set_value(member.user_id).run()
    app.text_input(f"assign_center_{member.user_id}_1").input("Sales")
    app = _press(app, "Assign")
    assert not app.exception
    table = _booked(app)
    rows = {row["name"]: row for row in table.to_dict("records")}
    assert rows[member.email]["center"] == "Sales"
    assert rows[member.email]["project"] == "Web (inherited)"
    assert rows[admin.principal.email]["center"] == "House (inherited)"
    with db.transaction(SYSTEM) as session:
        found = cost_centres.of_subject(session, SYSTEM, tenant_id, Subject.USER, member.user_id)
    assert (found.cost_center, found.booked_project) == ("Sales", "Web")


def test_who_left_is_not_listed(admin: Person, person: Make, show: Show) -> None:
    tenant_id = admin.principal.tenant_id
    gone = person(tenant_id=tenant_id).principal
    with db.transaction(SYSTEM) as session:
        members.change(session, SYSTEM, tenant_id, gone.user_id, active=False)
    table = _booked(show(admin, tenant_id))
    assert gone.email not in set(table["name"])
    assert admin.principal.email in set(table["name"])


def test_a_tenant_near_its_limit_stands_out(
    operator: Person, admin: Person, open_page: Open
) -> None:
    tenant_id = admin.principal.tenant_id
    use(admin.principal, make_model(), "0.17")
    states = []
    for maximum in (200_000_000, 170_000_000, 10_000_000_000, 0):
        with db.transaction(SYSTEM) as session:
            limits.set_limit(
                session, SYSTEM, tenant_id, Subject.TENANT, tenant_id, LimitName.MONTHLY_NUSD,
                maximum,
            )  # fmt: skip
        app = open_page(operator, "admin.py")
        table = next(t.value for t in app.dataframe if "balance" in t.value)
        row = next(r for r in table.to_dict("records") if r["spent"] == 0.17)
        states.append((row["state"], row["limit"]))
    assert states == [
        ("Near its limit", 85), ("At its limit", 100), ("Active", 1), ("At its limit", 100),
    ]  # fmt: skip
