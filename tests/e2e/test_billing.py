"""Buying in Chromium against the stand-in: packages, plans, top-ups, refunds, and the operators' side."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from decimal import Decimal

import pytest
from playwright.sync_api import Locator, Page, expect
from sqlalchemy import select

from core import db
from core.billing.sales_tables import Order
from core.billing.tables import Lot
from tests.e2e.conftest import StandIn, Tab
from tests.factories import TESTS, Place, make_place

pytestmark = pytest.mark.browser
PAY_PAGE = re.compile(r"/pay/cs_")
BUYING = re.compile(r"/billing")


def orders_of(place: Place) -> list[Order]:
    with db.transaction(TESTS) as session:
        query = select(Order).where(Order.tenant_id == place.tenant_id)
        return list(session.scalars(query.order_by(Order.created_at)))


def lots_of(place: Place) -> list[Lot]:
    with db.transaction(TESTS) as session:
        return list(session.scalars(select(Lot).where(Lot.tenant_id == place.tenant_id)))


def button(page: Page | Locator, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def section(page: Page, name: str) -> None:
    page.get_by_test_id("stButtonGroup").get_by_text(name, exact=True).click()


def metric(page: Page, label: str) -> Locator:
    return page.get_by_test_id("stMetric").filter(has_text=label)


def grid(page: Page, key: str) -> Locator:
    """A table's cells, which are drawn on a canvas and written beneath it for screen readers."""
    return page.locator(f".st-key-{key} canvas").first


def balance(page: Page) -> Locator:
    return page.get_by_test_id("stSidebar").locator(".stMarkdownBadge").last


def test_a_package_is_ordered_paid_and_credited_once(
    open_tab: Callable[..., Tab], stand_in: StandIn
) -> None:
    place = make_place(role="admin", credit_usd=10)
    tab = open_tab(place)
    page = tab.go("/billing")
    expect(page.get_by_text("Sandbox: no money moves")).to_be_visible()
    button(page, "Buy").nth(1).dblclick()
    page.wait_for_url(PAY_PAGE)
    assert len(orders_of(place)) == 1
    button(page, "Pay with a card").click()
    page.wait_for_url(BUYING)
    expect(page.get_by_text("Thank you.")).to_be_visible()
    expect(metric(page, "Available")).to_contain_text("$65.00")
    expect(balance(page)).to_contain_text("$65.00")
    page.wait_for_timeout(1500)
    print(page.get_by_test_id("stDataFrame").last.evaluate("e=>e.outerHTML.slice(0,3000)"))
    print(page.get_by_test_id("stSidebar").text_content())
    print([f.get_attribute("class") for f in page.locator("[class*=Badge]").all()])
    section(page, "Statement")
    page.wait_for_timeout(1500)
    c=page.get_by_test_id("stDataFrame").locator("canvas").first; print(c.text_content(), c.bounding_box())
    b=c.bounding_box()
    page.mouse.click(b["x"]+12,b["y"]+35+17)
    page.wait_for_timeout(1500)
    page.screenshot(path="/tmp/i_live/a.png",full_page=True)
    print(page.locator("a").evaluate_all("x=>x.map(e=>e.href)"))
