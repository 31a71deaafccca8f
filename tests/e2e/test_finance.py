"""A finance person's morning, in Chromium, on the demo data: why last month cost more, closing it, exporting
it twice, and that file, dashboard and ledger say the same to the last digit."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from uuid import UUID

import openpyxl
import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import text

from core import db
from core.identity import tenants, zones
from core.money import to_usd
from core.periods import Period, month_of
from tests.e2e.conftest import Tab
from tests.e2e.test_usage import PATIENT_MS, WIDEST, choose_first, rows, sum_of
from tests.factories import TESTS

pytestmark = pytest.mark.browser
OpenTab = Callable[..., Tab]
FINANCE_PERSON = "finn@northwind.example"
NANO = Decimal("0.000000001")


@dataclass(frozen=True, slots=True)
class Books:
    """The demo tenant whose month is closed, and the person who does it."""

    tenant_id: UUID
    person_id: UUID
    month: Period
    bounds: tuple[object, object]


@pytest.fixture
def books() -> Books:
    with db.transaction(TESTS) as session:
        person_id = tenants.find_user(session, TESTS, FINANCE_PERSON)
        tenant_id = session.execute(
            text("select tenant_id from app.memberships where user_id = :user"),
            {"user": person_id},
        ).scalar_one()
        calendar = zones.calendar_of(session, tenant_id)
    month = month_of(calendar.today().replace(day=1) - timedelta(days=1))
    return Books(tenant_id, person_id, month, calendar.bounds(month))


def test_the_month_is_explained_closed_exported_twice_and_agrees(
    books: Books, open_tab: OpenTab
) -> None:
    tab = open_tab(books.person_id)
    dashboard = explain(tab)
    close(tab, books.month.first)
    first, second = export(tab), export(tab)
    assert first == second
    assert sheet_sum(first, "billed_cost_usd") == dashboard == ledger_usd(books)
    page = tab.go("/finance?part=Ledger")
    pick(page, "Month", f"{books.month.first:%B %Y}")
    expect(page.get_by_text("The ledger agrees to the last digit.")).to_be_visible()
    tab.picture("finance-ledger")
    after = tab.go("/usage?span=last_month")
    assert sum_of(after) == dashboard  # closing has moved nothing


def explain(tab: Tab) -> Decimal:
    """Find who made the month dearer, and with which model; what the month cost in all, exactly."""
    page = tab.go("/usage?span=last_month&group_by=user")
    cost = page.get_by_test_id("stMetric").filter(has_text="Cost").first
    expect(cost).to_contain_text("+", timeout=PATIENT_MS)  # more than the month before
    whole = sum_of(page)
    choose_first(page, "changes_")
    expect(rows(page).get_by_text("Calls of jonas")).to_be_visible(timeout=PATIENT_MS)
    choose_first(page, "within_")
    expect(rows(page).get_by_text("anthropic/claude-opus-5.5").first).to_be_visible(
        timeout=PATIENT_MS
    )
    assert whole / 20 < sum_of(page) < whole
    return whole


def close(tab: Tab, month: date) -> None:
    """Close the month after a look at its checks."""
    name = f"{month:%B %Y}"
    page = tab.go("/finance")
    expect(page.get_by_text("The ledger agrees to the last digit.")).to_be_visible(
        timeout=PATIENT_MS
    )
    expect(page.get_by_text("The daily sums are those of the events.")).to_be_visible()
    page.get_by_role("button", name="Close the month").click()
    page.get_by_role("button", name=f"Close {name}").click()
    expect(page.get_by_text(f"{name} is closed at")).to_be_visible(timeout=PATIENT_MS)
    pick(page, "Open a month", name)
    expect(page.get_by_text("No file of this month yet")).to_be_visible(timeout=PATIENT_MS)
    assert page.evaluate(WIDEST) <= page.evaluate("window.innerWidth")
    tab.picture("finance-month")


def export(tab: Tab) -> bytes:
    """Ask for the closed month's usage as Excel and download it; the newest file is the first line."""
    page = tab.go("/finance?part=Exports")
    downloads = page.get_by_role("link", name="Download")
    before = downloads.count()
    pick(page, "Format", "Excel")
    expect(page.get_by_role("combobox", name="Period")).to_have_value(re.compile("closed"))
    page.get_by_role("button", name="Ask for the file").click()
    expect(downloads).to_have_count(before + 1, timeout=PATIENT_MS)
    shown = page.get_by_text(re.compile(r"SHA-256")).first.inner_text()
    tab.picture("finance-exports")
    address = downloads.first.get_attribute("href")
    assert address is not None
    answer = tab.context.request.get(tab.url + address if address.startswith("/") else address)
    content = answer.body()
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert hashlib.sha256(content).hexdigest() in shown
    return content


def sheet_sum(content: bytes, column: str) -> Decimal:
    """The sum of a column of the first sheet; the sheet of totals says the same as text."""
    book = openpyxl.load_workbook(io.BytesIO(content), read_only=True)
    lines = book.worksheets[0].iter_rows(values_only=True)
    place = list(next(lines)).index(column)
    found = sum((Decimal(str(line[place])).quantize(NANO) for line in lines), Decimal(0))
    totals = {row[0]: row for row in book["Totals"].iter_rows(values_only=True)}
    assert found in [Decimal(cell) for cell in totals[column][1:] if isinstance(cell, str)]
    return found


def ledger_usd(books: Books) -> Decimal:
    """What the ledger took for the month's calls, whenever it was booked."""
    begins, ends = books.bounds
    with db.transaction(TESTS) as session:
        booked = session.execute(
            text(
                "select -sum(n.amount_nusd) from app.entries n where n.tenant_id = :tenant"
                " and n.kind in ('capture', 'adjust') and n.call_id in (select e.call_id"
                " from app.usage_events e where e.tenant_id = :tenant"
                " and e.occurred_at >= :begins and e.occurred_at < :ends)"
            ),
            {"tenant": books.tenant_id, "begins": begins, "ends": ends},
        ).scalar_one()
    return to_usd(int(booked))


def pick(page: Page, label: str, option: str) -> None:
    """Choose in a select box; the option may say more than its name."""
    page.get_by_role("combobox", name=label, exact=True).click()
    page.get_by_role("option", name=option).first.click()
