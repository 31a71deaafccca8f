"""The Usage page in Chromium: filters travel in the address, a click opens the rows behind a figure."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Locator, Page, expect

from core import db
from core.demonstration import script
from core.identity import tenants
from core.identity.access import Role
from tests.analytics.using import colleague, use
from tests.e2e.conftest import Tab
from tests.factories import TESTS, Place, make_model, make_place

pytestmark = pytest.mark.browser
OpenTab = Callable[..., Tab]
SUM = re.compile(r"\$([0-9.]+) in all")
ROW_PX = 35
PATIENT_MS = 30_000  # a page of a dozen charts, drawn without a graphics card
WIDEST = """Math.max(document.documentElement.scrollWidth,
  ...[...document.querySelectorAll(
    '[data-testid=stMain] :is(button, [role=radio], .js-plotly-plot)')].map(
    (drawn) => drawn.getBoundingClientRect().right))"""


@pytest.fixture
def team() -> tuple[Place, Place, str, str]:
    """An admin and a member of one tenant, and two models they used."""
    admin = make_place(role="admin", credit_usd=10)
    who = colleague(admin, Role.MEMBER, "Grace")
    member = Place(admin.tenant_id, who.user_id, who)
    dear, cheap = make_model(), make_model()
    use(admin.who, dear, "0.4000000012")
    use(admin.who, cheap, "0.03")
    use(member.who, dear, "0.25", days_ago=1)
    return admin, member, dear, cheap


def chart(page: Page, on: str) -> Locator:
    """A chart that is drawn."""
    found = page.locator(f"[class*=st-key-{on}_]").first
    expect(found.locator(".js-plotly-plot").first).to_be_visible(timeout=PATIENT_MS)
    return found


def settle(page: Page) -> None:
    """Wait until everything is drawn, so that nothing moves under the pointer."""
    app = page.get_by_test_id("stApp")
    expect(app).to_have_attribute("data-test-script-state", "notRunning", timeout=PATIENT_MS)
    expect(page.get_by_test_id("stSkeleton")).to_have_count(0, timeout=PATIENT_MS)


def rows(page: Page) -> Locator:
    return page.locator(".st-key-usage_rows")


def sum_of(page: Page) -> Decimal:
    """What stands above the rows, to the last digit."""
    line = rows(page).get_by_text(SUM)
    expect(line).to_have_count(1, timeout=PATIENT_MS)  # what stood there before is gone
    found = SUM.search(line.inner_text())
    assert found
    return Decimal(found[1])


def point_at(page: Page, on: str, number: int) -> tuple[float, float]:
    """Rest on the middle of a bar until it is read off; Plotly listens above its bars, not on them."""
    settle(page)
    bar = chart(page, on).locator(".barlayer .point path").nth(number)
    bar.scroll_into_view_if_needed()
    page.mouse.move(0, 0)
    box = bar.bounding_box()
    assert box
    at = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(*at)
    expect(chart(page, on).locator(".hoverlayer .hovertext")).to_be_visible(timeout=PATIENT_MS)
    return at


def click_bar(page: Page, on: str, number: int) -> None:
    page.mouse.click(*point_at(page, on, number))


def read_off(page: Page, on: str) -> Decimal:
    """The exact amount that the pointer reads off a chart."""
    text = chart(page, on).locator(".hoverlayer .hovertext").text_content() or ""
    found = re.search(r"\$([0-9.]+)", text)
    assert found
    return Decimal(found[1])


def cost(page: Page) -> Locator:
    return page.get_by_test_id("stMetric").filter(has_text="Cost").first


def test_a_click_on_a_bar_opens_rows_that_add_up_to_it(
    team: tuple[Place, Place, str, str], open_tab: OpenTab
) -> None:
    admin, _, dear, _ = team
    page = open_tab(admin).go("/usage")
    assert sum_of(page) == Decimal("0.680000002")  # each call is rounded up once
    click_bar(page, "by_group", 0)
    expect(rows(page).get_by_text(f"Calls of {dear}").first).to_be_visible(timeout=PATIENT_MS)
    assert sum_of(page) == Decimal("0.650000002")
    point_at(page, "by_group", 0)
    assert read_off(page, "by_group") == sum_of(page)
    assert f"open_model={dear.replace('/', '%2F')}" in page.url
    rows(page).get_by_role("button", name="Show all").click()
    expect(rows(page).get_by_text("Calls", exact=True)).to_be_visible(timeout=PATIENT_MS)
    assert sum_of(page) == Decimal("0.680000002")
    assert page.url.endswith("/usage")


def test_a_view_is_the_same_in_another_tab(
    team: tuple[Place, Place, str, str], open_tab: OpenTab
) -> None:
    admin, _, _, cheap = team
    tab = open_tab(admin)
    page = tab.go("/usage")
    page.get_by_text("This month", exact=True).click()
    page.wait_for_url("**span=this_month*")
    page.get_by_role("button", name="Filters").click()
    field = page.get_by_test_id("stMultiSelect").filter(has_text="Model")
    field.locator("input").click()
    page.get_by_role("option", name=cheap).click()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_role("button", name=f"Model: {cheap}")).to_be_visible(timeout=PATIENT_MS)
    expect(cost(page)).to_contain_text("$0.0300", timeout=PATIENT_MS)
    click_bar(page, "by_group", 0)
    expect(rows(page).get_by_role("button", name="Show all")).to_be_visible(timeout=PATIENT_MS)
    second = tab.open_page()
    second.goto(page.url)
    expect(second.get_by_role("button", name=f"Model: {cheap}")).to_be_visible(timeout=PATIENT_MS)
    expect(second.get_by_role("radio", name="This month")).to_be_checked(timeout=PATIENT_MS)
    expect(cost(second)).to_contain_text("$0.0300", timeout=PATIENT_MS)
    expect(rows(second).get_by_role("button", name="Show all")).to_be_visible(timeout=PATIENT_MS)
    assert sum_of(second) == sum_of(page) == Decimal("0.03")


def test_a_member_sees_only_their_own_whatever_the_address_says(
    team: tuple[Place, Place, str, str], open_tab: OpenTab
) -> None:
    admin, member, _, cheap = team
    tab = open_tab(member)
    page = tab.go("/usage")
    expect(page.get_by_text("Your own use")).to_be_visible(timeout=PATIENT_MS)
    assert sum_of(page) == Decimal("0.25")
    expect(page.get_by_text(cheap)).to_have_count(0)
    page = tab.go(f"/usage?user={admin.user_id}&open=by_user&open_user={admin.user_id}")
    expect(page.get_by_text("Nothing was used here")).to_be_visible(timeout=PATIENT_MS)
    expect(page.get_by_test_id("stMetric")).to_have_count(0)


def test_a_forged_address_is_told_so_and_leads_back(
    team: tuple[Place, Place, str, str], open_tab: OpenTab
) -> None:
    page = open_tab(team[0]).go("/usage?from=9999-01-01&to=0001-01-01&user=%00&rollup=second")
    expect(page.get_by_text("This address cannot be shown")).to_be_visible(timeout=PATIENT_MS)
    page.get_by_role("button", name="Show the last 30 days").click()
    expect(cost(page)).to_contain_text("$0.6800", timeout=PATIENT_MS)


@pytest.mark.parametrize("phone", [False, True])
def test_the_rise_of_a_month_is_found_and_nothing_is_too_wide(
    phone: bool, open_tab: OpenTab
) -> None:
    """Who made last month dearer, with which model: two rows selected; pictures on request."""
    with db.transaction(TESTS) as session:
        member = tenants.find_user(session, TESTS, script.DEMO_EMAIL)
    tab = open_tab(member, phone=phone)
    page = tab.go("/usage?span=last_month&group_by=user")
    choose_first(page, "changes_")
    expect(rows(page).get_by_text("Calls of jonas")).to_be_visible(timeout=PATIENT_MS)
    whole = sum_of(page)
    settle(page)
    tab.picture(f"usage_why_light{'_phone' if phone else ''}")
    choose_first(page, "within_")
    expect(rows(page).get_by_text("anthropic/claude-opus-5.5").first).to_be_visible(
        timeout=PATIENT_MS
    )
    assert whole / 2 < sum_of(page) < whole
    page.mouse.move(0, 0)
    assert page.evaluate(WIDEST) <= page.evaluate("window.innerWidth")


def choose_first(page: Page, table: str) -> None:
    """Select a table's first row by its box; the table is a canvas."""
    found = page.locator(f"[class*=st-key-{table}]").first
    expect(found.locator("canvas").first).to_be_visible(timeout=PATIENT_MS)
    settle(page)
    found.scroll_into_view_if_needed()
    box = found.bounding_box()
    assert box
    page.mouse.click(box["x"] + 14, box["y"] + ROW_PX * 1.5)


def test_the_orders_of_both_tables_travel_in_the_address(
    team: tuple[Place, Place, str, str], open_tab: OpenTab
) -> None:
    page = open_tab(team[0]).go("/usage?span=7d")
    settle(page)
    page.get_by_role("radio", name="Largest fall first").click()
    expect(page).to_have_url(re.compile(r"[?&]changes=fall"))
    settle(page)
    order = rows(page).get_by_role("combobox", name="Order")
    order.fill("Dearest")  # typed: a list that is open would close when the page scrolls
    order.press("ArrowDown")
    order.press("Enter")
    expect(page).to_have_url(re.compile(r"[?&]sort=cost"))
    sent = open_tab(team[0]).go(page.url.partition(urlsplit(page.url).netloc)[2])
    settle(sent)
    expect(sent.get_by_role("radio", name="Largest fall first")).to_be_checked()
    expect(rows(sent).get_by_role("combobox", name="Order")).to_have_value("Dearest first")
