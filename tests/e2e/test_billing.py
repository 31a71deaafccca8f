"""Buying in Chromium against the stand-in: packages, plans, top-ups, refunds, and the operators' side."""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import TypeVar
from uuid import UUID, uuid4

import httpx2
import pytest
from playwright.sync_api import Locator, Page, expect
from sqlalchemy import select

from core import db
from core.billing import checkout, customers, ledger, offers, stripe_api, subscriptions, topups
from core.billing.ledger import BILLING
from core.billing.sales_tables import Invoice, Order
from core.billing.tables import Lot
from core.demonstration import script
from core.identity import sessions, tenants
from core.identity.access import Role
from core.money import NANO_PER_USD
from tests.analytics.using import add_person, use
from tests.e2e.conftest import StandIn, Tab
from tests.factories import TESTS, Place, make_model, make_place

pytestmark = pytest.mark.browser
OpenTab = Callable[..., Tab]
T = TypeVar("T")
USD = NANO_PER_USD
PAY_PAGE, BILLING_PAGE = re.compile(r"/pay/cs_"), re.compile(r"/billing")
DECLINED = "402 (Payment Required)"
ROW_HEIGHT = 35
WIDEST = """Math.max(document.documentElement.scrollWidth,
  ...[...document.querySelectorAll('[data-testid=stMain] :is(button, [role=radio])')].map(
    (drawn) => drawn.getBoundingClientRect().right))"""
PARTS = (
    ("/billing", "Most popular", "billing"),
    ("/billing?section=Plan", "Your plan renews on", "billing_plans"),
    ("/billing?section=Auto+top-up", "Buys credit with your saved card", ""),
    ("/billing?section=Payments", "Invoices and receipts", ""),
    ("/billing?section=Statement", "Closing balance", "billing_statement"),
    ("/admin?part=Stripe", "Stripe's books and ours", "admin_stripe"),
    ("/admin?part=Offers", "House terms", "admin_offers"),
)


def a_buyer(**wishes: object) -> Place:
    return make_place(**({"role": "admin", "credit_usd": 0} | wishes))  # type: ignore[arg-type]


def an_operator() -> UUID:
    with db.transaction(TESTS) as session:
        user_id = tenants.create_user(session, TESTS, f"{uuid4().hex}@example.com", name="Olga")
        tenants.make_operator(session, TESTS, user_id, confirmed=True)
    return user_id


def orders_of(place: Place) -> list[Order]:
    with db.transaction(TESTS) as session:
        query = select(Order).where(Order.tenant_id == place.tenant_id)
        return list(session.scalars(query.order_by(Order.created_at)))


def lots_of(place: Place) -> list[Lot]:
    with db.transaction(TESTS) as session:
        return ledger.lots(session, place.tenant_id)


def available_nusd(place: Place) -> int | None:
    with db.transaction(TESTS) as session:
        return ledger.wallet(session, place.tenant_id).available_nusd


def card_of(place: Place) -> str | None:
    with db.transaction(TESTS) as session:
        found = customers.of_tenant(session, place.tenant_id)
        return found.payment_method_id if found else None


def wait_for(look: Callable[[], T], seconds: float = 30) -> T:
    """What `look` finds once it finds anything."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.1)
    return found


def button(page: Page | Locator, name: str) -> Locator:
    return page.get_by_role("button", name=re.compile(rf"{re.escape(name)}$"))


def part(page: Page, name: str) -> None:
    page.get_by_test_id("stButtonGroup").get_by_text(name, exact=True).click()


def metric(page: Page, label: str) -> Locator:
    return page.get_by_test_id("stMetric").filter(has_text=label)


def balance(page: Page) -> Locator:
    return page.get_by_test_id("stSidebar").locator(".stMarkdownBadge").last


def cells(page: Page) -> Locator:
    """The first table's cells: drawn on a canvas once it is seen, and written beneath for screen readers."""
    canvas = page.get_by_test_id("stDataFrame").first.locator("canvas").first

    def seen() -> bool:
        page.evaluate("document.querySelector('[data-testid=stDataFrame]')?.scrollIntoView()")
        return canvas.count() > 0

    wait_for(seen)
    return canvas


def choose_row(page: Page, table: Locator, row: int) -> None:
    expect(table).to_be_visible()
    box = table.bounding_box()
    assert box
    page.mouse.click(box["x"] + 12, box["y"] + ROW_HEIGHT * (row + 1.5))


def tenant_in_admin(place: Place) -> str:
    return f"/admin?tenant={place.tenant_id}"


def order(page: Page, package: str) -> None:
    """Press a package's button, and arrive on its payment page."""
    page.locator(f".st-key-buy_{package} button").click()
    page.wait_for_url(PAY_PAGE)


def buy(page: Page, package: str, pays: str = "Pay with a card") -> None:
    order(page, package)
    button(page, pays).click()


def thanked(page: Page) -> None:
    page.wait_for_url(BILLING_PAGE)
    expect(page.get_by_text("Thank you.")).to_be_visible(timeout=15_000)


@pytest.mark.parametrize(("dark", "phone"), [(False, False), (True, False), (False, True)])
def test_everything_that_is_sold_looks_right_everywhere(
    dark: bool, phone: bool, open_tab: OpenTab, stand_in: StandIn
) -> None:
    """Nothing is wider than the screen, in any part; pictures are kept on request."""
    look = f"{'dark' if dark else 'light'}{'_phone' if phone else ''}"
    place = demo_buyer(stand_in)
    tab = open_tab(place, phone=phone, dark=dark)
    for path, sign, name in PARTS[:1] if dark else PARTS:  # colours move nothing
        if path.startswith("/admin"):
            tab.become(demo_operator())
        page = tab.go(path)
        expect(page.get_by_text(sign).first).to_be_visible()
        assert page.evaluate(WIDEST) <= page.evaluate("window.innerWidth"), path
        if name and (look == "light" or name == "billing"):
            tab.picture(f"{name}_{look}")
    if not (dark or phone):
        tab.become(place).go("/billing")
        order(page, "starter")
        tab.picture("pay_light")


def demo_buyer(stand_in: StandIn) -> Place:
    """The demo team's buyer, who has a plan and bought a package once."""
    with db.transaction(TESTS) as session:
        user_id = tenants.find_user(session, TESTS, script.DEMO_EMAIL)
    assert user_id
    found = sessions.who(sessions.redeem(sessions.issue_ticket(user_id), "127.0.0.1", "tests"))
    assert found and found.principal
    place = Place(found.principal.tenant_id, user_id, found.principal)
    if not orders_of(place):
        stand_in.buys(place)
        ordered = checkout.start_plan(place.who, "pro", click_key=uuid4().hex)
        assert httpx2.post(ordered.session_url or "", data={"how": "card"}).status_code == 303
        wait_for(lambda: any(lot.kind == "plan" for lot in lots_of(place)))
    return place


def demo_operator() -> UUID:
    with db.transaction(TESTS) as session:
        user_id = tenants.find_user(session, TESTS, script.OPERATOR_EMAIL)
    assert user_id
    return user_id


def test_a_package_is_ordered_paid_and_credited_once(open_tab: OpenTab, stand_in: StandIn) -> None:
    place = a_buyer(credit_usd=10)
    tab = open_tab(place)
    page = tab.go("/billing")
    expect(page.get_by_text("Sandbox: no money moves")).to_be_visible()
    page.locator(".st-key-buy_pro button").dblclick()
    page.wait_for_url(PAY_PAGE)
    (bought,) = orders_of(place)
    button(page, "Pay with a card").click()
    thanked(page)
    expect(metric(page, "Available")).to_contain_text("$65.00")
    expect(balance(page)).to_contain_text("$65.00")
    expect(cells(page)).to_contain_text("Bonus or promotion$5")
    page = tab.go(f"/billing?session_id={bought.session_id}")
    expect(page.get_by_text("Thank you.")).to_be_visible()
    assert sorted(lot.granted_nusd // USD for lot in lots_of(place)) == [5, 10, 50]
    part(page, "Statement")
    lines = cells(page)
    expect(lines).to_contain_text("Credit addedPro: bonus")
    choose_row(page, lines, 1)
    expect(page.get_by_text(str(bought.order_id))).to_be_visible()
    file = page.get_by_role("link", name="CSV").get_attribute("href")
    answer = tab.context.request.get(tab.url + str(file))
    rows = list(csv.DictReader(io.StringIO(answer.text())))
    assert "attachment" in answer.headers["content-disposition"]
    assert sum(Decimal(row["amount_usd"]) for row in rows) == 65
    assert Decimal(rows[-1]["balance_after_usd"]) == 65  # the file begins with the oldest line
    assert str(bought.order_id) in {row["order_id"] for row in rows}


def test_more_refunded_than_unspent_is_owed_and_stops_calls(
    open_tab: OpenTab, stand_in: StandIn
) -> None:
    place = a_buyer()
    stand_in.buys(place)
    use(place.who, make_model(), "30")
    tab = open_tab(an_operator())
    page = tab.go(tenant_in_admin(place))
    page.set_viewport_size({"width": 1280, "height": 1400})  # the form grows by the refusal
    button(page, "Refund").click()
    expect(page.get_by_text("$22.72 is unspent")).to_be_visible()
    page.get_by_label("Amount in USD").last.fill("40")
    page.get_by_label("Reason").last.fill("A gesture")
    button(page.get_by_test_id("stForm").last, "Refund").click()
    expect(page.get_by_text("is unspent; a refund of more takes")).to_be_visible()
    page.get_by_text("Also what was spent already").click()
    button(page.get_by_test_id("stForm").last, "Refund").click()
    expect(page.get_by_text("Refunded $40.00")).to_be_visible()
    page = tab.become(place).go("/billing")
    expect(page.get_by_text("$19.00 is owed")).to_be_visible()
    expect(balance(page)).to_contain_text("$19.00 owed")
    tab.go("/")
    tab.ask("Am I still heard?")
    expect(page.get_by_text("Not enough credit")).to_be_visible()
    assert page.get_by_role("link", name="Add credit").get_attribute("href") == "/billing"
    tab.go("/billing")
    buy(page, "pro")
    thanked(page)
    expect(balance(page)).to_contain_text("$36.00")


def test_turning_back_declined_free_by_code_and_by_debit(
    open_tab: OpenTab, stand_in: StandIn
) -> None:
    place = a_buyer()
    tab = open_tab(place)
    page = tab.go("/billing")
    order(page, "starter")
    page.get_by_role("link", name="Cancel and go back").click()
    expect(page.get_by_text("Nothing was charged.")).to_be_visible()
    buy(page, "starter", "Card is declined")
    expect(page.get_by_text("Your card was declined.")).to_be_visible()
    button(page, "Pay with a card").click()
    thanked(page)
    order(page, "starter")
    page.get_by_label("Promotion code").fill("FREE100")
    button(page, "Apply").click()
    expect(page.get_by_text("$0.00")).to_be_visible()
    button(page, "Complete without paying").click()
    thanked(page)
    expect(balance(page)).to_contain_text("$20.00")
    buy(page, "starter", "Pay by bank debit (delayed)")
    expect(page.get_by_text("Your bank is processing the payment.")).to_be_visible()
    expect(page.get_by_text("Starter: payment on its way")).to_be_visible()
    found = stripe_api.current().checkout_session(orders_of(place)[-1].session_id or "")
    stand_in.order("debits", payment_intent=found.payment_intent_id or "", ok="true")
    thanked(page)
    expect(balance(page)).to_contain_text("$30.00")
    assert [one.state for one in orders_of(place)] == ["canceled", *["fulfilled"] * 3]
    tab.complaints[:] = [said for said in tab.complaints if DECLINED not in said]


def test_a_plan_is_subscribed_upgraded_downgraded_and_ended(
    open_tab: OpenTab, stand_in: StandIn
) -> None:
    place = a_buyer(plan="free")
    tab = open_tab(place)
    page = tab.go("/billing?section=Plan")
    button(page, "Subscribe").first.click()
    page.wait_for_url(PAY_PAGE)
    button(page, "Pay with a card").click()
    thanked(page)
    expect(balance(page)).to_contain_text("$15.00", timeout=15_000)
    part(page, "Plan")
    button(page, "Upgrade").first.click()
    expect(
        page.get_by_text(re.compile(r"brings about \$(70\.00|69\.9\d+) of credit"))
    ).to_be_visible()
    button(page, "Upgrade to Pro").click()
    expect(page.get_by_text("You are on Pro now.")).to_be_visible()
    wait_for(lambda: (available_nusd(place) or 0) > 84 * USD)
    button(page, "Downgrade").click()
    expect(page.get_by_text("Nothing is charged or paid back now")).to_be_visible()
    button(page, "Downgrade to Starter").click()
    button(page, "Keep the present plan").click()
    expect(page.get_by_text("Your plan renews on")).to_be_visible()
    button(page, "Cancel plan").click()
    button(page, "Cancel at the end of the period").click()
    expect(page.get_by_text("Until then everything stays.")).to_be_visible()
    button(page, "Resume").click()
    expect(page.get_by_text("Your plan renews on")).to_be_visible()
    assert 84 * USD < (available_nusd(place) or 0) <= 85 * USD


def tops_up(stand_in: StandIn, card: str) -> Place:
    """A buyer without credit who agreed to top-ups with that card of the stand-in's."""
    place = a_buyer()
    customer_id = customers.ensure(place.tenant_id, name="Team", email=place.who.email)
    stand_in.has_card(customer_id, card)
    wait_for(lambda: card_of(place))
    with db.transaction(BILLING) as session:
        topups.configure(
            session, place.who, threshold_nusd=5 * USD, amount_minor=2000, daily_cap_minor=10_000,
            consent="I agree.",
        )  # fmt: skip
    return place


def test_credit_is_topped_up_confirmed_or_given_up(open_tab: OpenTab, stand_in: StandIn) -> None:
    declined = tops_up(stand_in, "pm_card_chargeCustomerFail")
    asked = tops_up(stand_in, "pm_card_authenticationRequired")
    topups.sweep()
    with db.transaction(BILLING) as session:  # the rest after a decline is over
        [failed] = session.scalars(select(Order).where(Order.tenant_id == declined.tenant_id))
        assert failed.ended_at is not None
        failed.ended_at -= topups.REST
    topups.sweep()
    place = a_buyer()
    tab = open_tab(place)
    page = tab.go("/billing")
    page.get_by_text("Keep my card for automatic top-up").click()
    buy(page, "starter")
    thanked(page)
    wait_for(lambda: card_of(place))
    part(page, "Auto top-up")
    expect(button(page, "Switch on")).to_be_disabled()
    page.get_by_text("without being asked again whenever less than $5.00").click()
    button(page, "Switch on").click()
    expect(page.get_by_text("Automatic top-up is on")).to_be_visible()
    use(place.who, make_model(), "8")
    tab.become(asked).go("/billing")
    button(page, "Pay now").click()
    page.wait_for_url(PAY_PAGE)
    button(page, "Pay with a card that asks for authentication").click()
    button(page, "Authenticate").click()
    thanked(page)
    expect(balance(page)).to_contain_text("$20.00")
    wait_for(lambda: available_nusd(place) == 22 * USD)
    assert [one.kind for one in orders_of(place)] == ["package", "topup"]
    assert [one.state for one in orders_of(declined)] == ["failed", "failed"]
    tab.become(declined).go("/billing")
    expect(page.get_by_text("2 attempts failed. The card was declined")).to_be_visible()
    assert [one.state for one in orders_of(asked)] == ["fulfilled"]
    assert available_nusd(asked) == 20 * USD


def test_who_may_buy_what_and_the_portal(open_tab: OpenTab, stand_in: StandIn) -> None:
    place = a_buyer()
    stand_in.buys(place)
    tab = open_tab(place)
    page = tab.go("/billing?section=Payments")
    button(page, "Manage payment and invoices").click()
    page.wait_for_url(re.compile("/portal/"))
    page.get_by_role("link", name="Return to the merchant").click()
    page.wait_for_url(BILLING_PAGE)
    expect(metric(page, "Available")).to_contain_text("$55.00")
    tab.become(add_person(place.tenant_id, Role.MEMBER, "Mia")).go("/billing")
    expect(page.get_by_text("ask an admin or a finance person")).to_be_visible()
    expect(metric(page, "Available")).to_contain_text("$55.00")
    assert button(page, "Buy").count() == 0
    foreign = orders_of(place)[0].session_id
    tab.become(a_buyer(role="finance")).go(f"/billing?session_id={foreign}")
    expect(page.get_by_text("This payment is not known here.")).to_be_visible()
    buy(page, "starter")
    thanked(page)
    tab.become(a_buyer(mode="internal")).go("/billing")
    expect(page.get_by_text("Nothing is sold to your team")).to_be_visible()
    assert page.get_by_test_id("stButtonGroup").inner_text() == "Statement"
    tab.become(a_buyer(mode="postpaid", credit_limit_nusd=50 * USD)).go("/billing")
    expect(metric(page, "Credit limit")).to_contain_text("$50.00")
    assert button(page, "Buy").count() == 0


def test_operators_see_events_and_change_offers_and_modes(
    open_tab: OpenTab, stand_in: StandIn, package: str
) -> None:
    place = a_buyer()
    stand_in.buys(place)
    tab = open_tab(an_operator())
    page = tab.go("/admin?part=Stripe")
    events = cells(page)
    expect(events).to_contain_text("checkout.session.completed")
    choose_row(page, events, 0)
    button(page, "Replay").click()
    expect(page.get_by_text("its effect is booked once")).to_be_visible()
    before = checkout.start_package(place.who, package, click_key=uuid4().hex)
    part(page, "Offers")
    row = page.get_by_test_id("stHorizontalBlock").filter(has_text=package).last
    button(row, "Change").click()
    page.get_by_label("Price in USD").last.fill("310")
    button(page.get_by_test_id("stForm").last, "Save").click()
    expect(page.get_by_text(f"Saved {package}.")).to_be_visible()
    tab.become(place).go("/billing")
    expect(page.get_by_text("$310.00", exact=True)).to_be_visible()
    assert httpx2.post(before.session_url or "", data={"how": "card"}).status_code == 303
    buy(page, package)
    thanked(page)
    assert [(o.price_minor, o.total_minor) for o in orders_of(place)[1:]] == [
        (30_000, 30_000), (31_000, 31_000),
    ]  # fmt: skip


def test_credit_by_hand_waits_for_a_second_operator(open_tab: OpenTab) -> None:
    place, second = a_buyer(), an_operator()
    tab = open_tab(an_operator())
    page = tab.go(tenant_in_admin(place))
    button(page, "Grant credit").click()
    page.get_by_label("Amount in USD").fill("1500")
    page.get_by_label("Reason").fill("A large account")
    page.get_by_label("Key", exact=True).fill("order 17")
    button(page, "Grant").click()
    expect(page.get_by_text("waits for a second operator").first).to_be_visible()
    expect(page.get_by_text("Another operator decides")).to_be_visible()
    assert available_nusd(place) == 0
    tab.become(second).go(tenant_in_admin(place))
    button(page, "Decide").click()
    button(page, "Grant").click()
    expect(page.get_by_text("Granted $1,500.00.")).to_be_visible()
    assert available_nusd(place) == 1500 * USD
    button(page, "Change mode").first.click()
    page.get_by_text("Internal: budgets gate, nothing is sold").click()
    button(page.get_by_test_id("stForm").filter(has_text="From now on"), "Change mode").click()
    expect(page.get_by_text("is internal from now on")).to_be_visible()
    assert available_nusd(place) is None


@pytest.fixture
def package() -> Iterator[str]:
    """The code of a package for $300, sold during one test."""
    code = f"team_{uuid4().hex[:8]}"
    set_package(code, active=True)
    yield code
    set_package(code, active=False)


def set_package(code: str, *, active: bool) -> None:
    with db.transaction(TESTS) as session:
        offers.set_package(
            session, TESTS, code, title=code, price_minor=30_000, credits_nusd=300 * USD,
            bonus_nusd=0, expires_after_days=None, bonus_expires_after_days=None, badge=None,
            features=["For one test"], rank=100, active=active,
        )  # fmt: skip


def test_an_unpaid_renewal_is_shown_and_can_be_paid(open_tab: OpenTab, stand_in: StandIn) -> None:
    """The last one here: it moves the stand-in's clock by a month."""
    place = a_buyer(plan="free")
    ordered = checkout.start_plan(place.who, "starter", click_key=uuid4().hex)
    assert httpx2.post(ordered.session_url or "", data={"how": "card"}).status_code == 303
    wait_for(lambda: available_nusd(place) == 15 * USD)
    with db.transaction(TESTS) as session:
        customer = customers.of_tenant(session, place.tenant_id)
    assert customer
    stand_in.has_card(customer.customer_id, "pm_card_chargeCustomerFail")
    stand_in.order("clock", advance_s=str(32 * 86_400))
    wait_for(lambda: is_unpaid(place))
    tab = open_tab(place)
    page = tab.go("/billing")
    expect(page.get_by_text("could not be paid")).to_be_visible()
    assert lots_of(place)[0].granted_nusd == 15 * USD and len(lots_of(place)) == 1
    link = page.get_by_role("link", name="Open invoice").get_attribute("href")
    page.goto(link or "")
    button(page, "Pay with a card").click()
    expect(page.get_by_text("Status: paid")).to_be_visible()
    wait_for(lambda: len(lots_of(place)) == 2)
    tab.go("/billing")
    expect(metric(page, "Available")).to_contain_text("$30.00")
    expect(page.get_by_text("could not be paid")).to_have_count(0)


def is_unpaid(place: Place) -> bool:
    """Whether both the plan and its invoice are known to wait for a payment that failed."""
    with db.transaction(TESTS) as session:
        plan = subscriptions.current(session, place.tenant_id)
        tried = select(Invoice).where(Invoice.tenant_id == place.tenant_id, Invoice.attempts > 0)
        return bool(
            plan and plan.status == "past_due"
            and session.scalar(tried.where(Invoice.status == "open"))
        )  # fmt: skip
