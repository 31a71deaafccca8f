"""The Admin page in a browser: what operators are told and follow up, what they export, and that a team's
admins stay with their team. Pictures for the guide are made on request."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from uuid import uuid4

import pytest
from playwright.sync_api import Page, expect

from core import db
from core.alerts import rules
from core.identity import limits, tenants
from core.identity.access import Principal, Role
from core.identity.limits import LimitName, Subject
from tests.analytics.using import use
from tests.e2e.conftest import Tab
from tests.factories import TESTS, Place, make_model, make_place
from tests.identity.people import a_user, an_email, join
from tests.processes import AppProcess

pytestmark = pytest.mark.browser
OpenTab = Callable[..., Tab]
_NUMBERS = itertools.count(1)


@pytest.fixture
def team(app: AppProcess) -> Iterator[Place]:
    """A team with a dear conversation and a budget of which 89 % are used; its admin and a member."""
    number = next(_NUMBERS)
    place, model = (
        make_place(plan="pro", credit_usd=100),
        make_model(model_id=f"harbour/pilot-{number}"),
    )
    admin, member = (
        _person(place, f"{who}@fjord{number}.example", role)
        for who, role in (("astrid", Role.ADMIN), ("nils", Role.MEMBER))
    )
    use(member, model, "12.34", conversation_id=uuid4(), latency_ms=9_000, first_token_ms=700)
    for days in range(3):
        use(admin, model, "0.05", conversation_id=uuid4(), days_ago=days)
    with db.transaction(TESTS) as session:
        tenants.rename(session, TESTS, place.tenant_id, f"Fjord Freight {number}")
        limits.set_limit(
            session, TESTS, place.tenant_id, Subject.TENANT, place.tenant_id,
            LimitName.MONTHLY_NUSD, 14_000_000_000,
        )  # fmt: skip
        rules.look(session)
    yield replace(place, user_id=admin.user_id, who=admin)
    with db.transaction(TESTS) as session:
        tenants.set_tenant_active(session, TESTS, place.tenant_id, active=False)


def _person(place: Place, email: str, role: Role) -> Principal:
    join(place.tenant_id, user_id := a_user(email), role)
    return replace(place.who, user_id=user_id, email=email, role=role)


@pytest.fixture
def name(team: Place) -> str:
    with db.transaction(TESTS) as session:
        found = tenants.every_tenant(session, TESTS)
    return next(entry.name for entry in found if entry.tenant_id == team.tenant_id)


def _operator(open_tab: OpenTab, **looks: bool) -> Tab:
    """A new operator, who has put nothing away."""
    with db.transaction(TESTS) as session:
        user_id = tenants.create_user(session, TESTS, an_email(), name="Olga Operator")
        tenants.make_operator(session, TESTS, user_id, confirmed=True)
    return open_tab(user_id, **looks)


def _open_bell(page: Page) -> None:
    page.locator(".st-key-inbox button:visible").first.click()
    expect(page.get_by_role("button", name="Put these away")).to_be_visible()


def _fits(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1"))


def test_top_consumers_of_the_platform(open_tab: OpenTab) -> None:
    tab = _operator(open_tab)
    page = tab.go("/admin?part=Consumers&consumers_span=90+days")
    expect(page.get_by_test_id("stDataFrame")).to_have_count(3)
    assert _fits(page)
    tab.picture("admin-consumers")


@pytest.mark.parametrize("dark", [False, True])
def test_an_operator_follows_a_notice_and_puts_it_away(
    open_tab: OpenTab, team: Place, name: str, *, dark: bool
) -> None:
    tab = _operator(open_tab, dark=dark)
    page = tab.go("/admin?part=Health")
    expect(page.get_by_text("Providers", exact=True)).to_be_visible()
    expect(page.get_by_text("Oldest hold")).to_be_visible()
    if not dark:
        tab.picture("admin-health")
    _open_bell(page)
    near = page.get_by_text(f"{name} has used 89 % of the budget")
    expect(near).to_be_visible()
    dear = page.get_by_text(re.compile(rf"at {name} has cost \$12.34"))
    expect(dear).to_be_visible()
    if dark:
        tab.picture("admin-inbox")
    notice = page.locator("[data-testid=stHorizontalBlock]", has=near).last
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="The tenant").first.click()
    there = opened.value
    expect(there.get_by_role("button", name="Grant credit")).to_be_visible()
    expect(there.get_by_text(name).first).to_be_visible()
    there.close()
    notice.get_by_role("button").last.click()
    expect(near).to_have_count(0)
    tab.go("/admin?part=Health")
    page.locator(".st-key-inbox button:visible").first.click()
    expect(dear).to_be_visible()
    expect(near).to_have_count(0)


def test_of_two_teams_with_one_name_the_address_says_which_is_open(
    open_tab: OpenTab, team: Place, name: str, app: AppProcess
) -> None:
    twin = make_place(plan="pro").tenant_id
    with db.transaction(TESTS) as session:
        tenants.rename(session, TESTS, twin, name)
    page = _operator(open_tab).go("/admin")
    page.get_by_role("combobox", name="Open a tenant").click()
    page.get_by_role("option", name=f"{name} ({twin.hex[-6:]})").click()
    expect(page.get_by_text(str(twin), exact=True)).to_be_visible()
    expect(page).to_have_url(f"{app.url}/admin?tenant={twin}")
    page.reload()
    expect(page.get_by_text(str(twin), exact=True)).to_be_visible()
    page.get_by_role("radio", name="Health").click()
    expect(page.get_by_text("Oldest hold")).to_be_visible()
    page.get_by_role("radio", name="Tenants").click()
    expect(page.get_by_text(str(twin), exact=True)).to_be_visible()
    page.get_by_role("link", name="Finance").click()
    expect(page.get_by_text("The books of all tenants")).to_be_visible()
    expect(page).to_have_url(f"{app.url}/finance")
    page.goto(f"{app.url}/finance?part=Exports&tenant={team.tenant_id}")
    expect(page.get_by_text(f"The books of {name}")).to_be_visible()
    expect(page.get_by_role("combobox", name="Tenant")).to_have_value(
        f"{name} ({team.tenant_id.hex[-6:]})"
    )
    page.goto(f"{app.url}/finance?tenant={uuid4()}")
    expect(page.get_by_text("There is no such tenant")).to_be_visible()
    expect(page.get_by_text("The books of all tenants")).to_be_visible()


def test_an_operator_exports_the_log_of_every_tenant(open_tab: OpenTab, team: Place) -> None:
    page = _operator(open_tab).go("/admin?part=Audit")
    page.get_by_role("button", name="Export").click()
    page.get_by_role("button", name="Ask for the file").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert re.fullmatch(r"purser_audit_.*_all\.csv", download.value.suggested_filename)
    with download.value.path().open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert any(str(team.tenant_id) in row for row in rows[1:])
    assert any("tenant.rename" in row for row in rows[1:])


@pytest.mark.parametrize("phone", [False, True])
def test_an_admin_sees_the_team_and_nothing_else(
    open_tab: OpenTab, team: Place, name: str, *, phone: bool
) -> None:
    tab = open_tab(team, phone=phone)
    page = tab.go("/admin?part=Stripe&tenant=Northwind+Trading")
    expect(page.get_by_role("heading", name=f"Admin · {name}")).to_be_visible()
    parts = page.get_by_role("radiogroup", name="Part")
    expect(parts.get_by_role("radio", name="Members")).to_be_checked()
    for part in ("Stripe", "Jobs", "Health", "Tenants"):
        expect(parts.get_by_role("radio", name=part)).to_have_count(0)
    assert "Northwind" not in page.locator("body").inner_text()
    for part, sign in (
        ("Limits", "from 80 % on"), ("API keys", "No keys yet"), ("Models", "can be picked"),
        ("Conversations", "What was said is its owner's alone"), ("Settings", "Cost centres"),
        ("Audit", "Entries are never changed"),
    ):  # fmt: skip
        parts.get_by_role("radio", name=part).click()
        expect(page.get_by_text(sign).first).to_be_visible()
        assert _fits(page)
        if part == "Conversations" and not phone:
            tab.picture("admin-conversations")
