"""pages/billing.py, run by Streamlit: who sees what, what each button asks for, and coming back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from sqlalchemy import select, text
from streamlit.testing.v1 import AppTest

from core import db
from core.billing import ledger, stripe_api, topups
from core.billing.sales_tables import AutoTopup, Order, StripeCustomer
from core.identity.access import Role
from core.money import show
from pages.widgets import billing_return, billing_statement, shown
from pages.widgets import session as tab
from tests.analytics.using import use
from tests.billing.books import (
    USD,
    a_customer,
    a_subscription,
    a_topup,
    an_invoice,
    an_order,
    bought,
)
from tests.billing.till import Fault, Till
from tests.factories import TESTS, Place, make_model
from tests.pages.conftest import Person

Make = Callable[..., Person]
Open = Callable[..., AppTest]
PAGE = "https://pay.example"


@dataclass
class Provider(Till):
    """The till, with pages of its own and a portal."""

    def page_origins(self) -> tuple[str, ...]:
        return (PAGE,)

    def portal_url(self, customer_id: str, *, return_url: str, flow: str | None = None) -> str:
        return f"{PAGE}/portal/{customer_id}/{flow or 'all'}"


@pytest.fixture
def till() -> Iterator[Provider]:
    """A provider to buy through; without this fixture nothing is sold."""
    made = Provider()
    stripe_api.install(made)  # type: ignore[arg-type]
    yield made
    stripe_api.install(None)


def place_of(person: Person) -> Place:
    who = person.principal
    return Place(who.tenant_id, who.user_id, who)


def said(app: AppTest) -> str:
    kinds = (
        app.markdown,
        app.caption,
        app.info,
        app.warning,
        app.error,
        app.success,
        app.subheader,
    )
    return "\n".join(str(element.value) for kind in kinds for element in kind)


def metrics(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


def links(app: AppTest) -> dict[str, str]:
    return {found.proto.label: found.proto.url for found in app.get("link_button")}


def keys(app: AppTest) -> set[str]:
    return {str(button.key) for button in app.button}


def press(app: AppTest, key: str) -> AppTest:
    next(one for one in app.button if str(one.key).startswith(key)).click().run()
    assert not app.exception
    return app


def orders_of(person: Person) -> list[Order]:
    with db.transaction(TESTS) as session:
        query = select(Order).where(Order.tenant_id == person.principal.tenant_id)
        return list(session.scalars(query.order_by(Order.created_at)))


@pytest.fixture
def buyer(person: Make) -> Person:
    return person(Role.FINANCE, credit_nusd=20 * USD)


def test_the_cards_are_the_wallet(buyer: Person, open_page: Open, till: Provider) -> None:
    place = place_of(buyer)
    bought(place)
    use(buyer.principal, make_model(), "0.7", days_ago=1)
    app = open_page(buyer, "billing.py")
    assert not app.exception
    found = metrics(app)
    assert found["Available"] == show(75 * USD - 700_000_000)
    assert (found["Bought so far"], found["Spent so far"]) == ("$50.00", "$0.7000")
    assert found["Lasts until"] != shown.NONE
    assert "\\$0.0500 a day, the mean of the last 14 whole days" in said(app)
    assert "Sandbox: no money moves" in said(app)


def test_credit_that_will_expire_unused_is_warned_of_with_amount_and_day(
    person: Make, open_page: Open, till: Provider
) -> None:
    who = person(Role.FINANCE, credit_nusd=74 * USD)
    ends = datetime.now(UTC) + timedelta(days=5)
    with db.transaction(TESTS) as session:
        ledger.grant(
            session, who.principal.tenant_id, 85 * USD, kind="promo", key="bonus", actor="tests",
            reason="x", expires_at=ends,
        )  # fmt: skip
    app = open_page(who, "billing.py")
    day = f"{ends:%b} {ends.day}, {ends:%Y}"
    assert f"Will expire unused: \\$85.00 on {day}" in said(app)
    available = next(metric for metric in app.metric if metric.label == "Available")
    assert (available.value, available.delta) == ("$159.00", "$85.00 expires unused")
    (banner,) = (one for one in app.warning if "will expire unused" in str(one.value))
    assert f"{ends:%-d %B %Y}" in str(banner.value)
    assert "74.00 is left after that" in str(banner.value)


def test_packages_show_what_they_cost_and_bring(
    buyer: Person, open_page: Open, till: Provider
) -> None:
    words = said(open_page(buyer, "billing.py"))
    assert "\\$50.00 credit + \\$5.00 bonus" in words
    assert "\\$1.10 of credit per dollar" in words
    assert "Most popular" in words


def test_buying_leads_to_the_payment_page_and_every_press_to_the_same_order(
    buyer: Person, open_page: Open, till: Provider
) -> None:
    app = open_page(buyer, "billing.py")
    press(app, "buy_pro")
    (order,) = orders_of(buyer)
    assert (order.kind, order.code, order.state) == ("package", "pro", "open")
    assert links(app)["Continue"] == order.session_url
    press(app, "buy_pro")
    app.run()
    assert len(orders_of(buyer)) == 1
    assert till.calls["open_checkout"] == 1
    press(app, "buy_starter")
    assert [order.code for order in orders_of(buyer)] == ["pro", "starter"]


def test_a_press_after_the_order_ended_is_another_order(
    buyer: Person, open_page: Open, till: Provider
) -> None:
    app = press(open_page(buyer, "billing.py"), "buy_pro")
    with db.transaction(TESTS) as session:
        session.execute(
            text("update app.orders set state = 'expired' where tenant_id = :t"),
            {"t": buyer.principal.tenant_id},
        )
    press(app, "buy_pro")
    assert [order.state for order in orders_of(buyer)] == ["expired", "open"]


def test_a_foreign_address_is_never_gone_to(
    buyer: Person, open_page: Open, till: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Provider, "page_origins", lambda _: ("https://other.example",))
    app = press(open_page(buyer, "billing.py"), "buy_pro")
    assert "Continue" not in links(app)
    assert "This page cannot be opened" in said(app)


def test_a_provider_that_is_down_is_said_and_the_next_press_is_the_same_order(
    buyer: Person, open_page: Open, till: Provider
) -> None:
    app = open_page(buyer, "billing.py")
    till.faults = _down("open_checkout")
    press(app, "buy_pro")
    assert "Not possible right now" in said(app)
    press(app, "buy_pro")
    (order,) = orders_of(buyer)
    assert links(app)["Continue"] == order.session_url


def _down(call: str) -> list[Fault]:
    return [Fault(call, stripe_api.StripeDown("did not answer"))]


def test_without_a_provider_the_books_are_still_there(buyer: Person, open_page: Open) -> None:
    app = open_page(buyer, "billing.py")
    assert "Buying is not set up here" in said(app)
    assert metrics(app)["Available"] == "$20.00"
    assert not {key for key in keys(app) if key.startswith("buy_")}
    app = open_page(buyer, "billing.py", section="Statement")
    assert "Closing balance" in said(app)


# Coming back.


def test_a_paid_order_is_thanked_for_and_its_id_leaves_the_address(
    buyer: Person, open_page: Open, till: Provider
) -> None:
    press(open_page(buyer, "billing.py"), "buy_pro")
    session_id = orders_of(buyer)[0].session_id
    assert session_id is not None
    till.pay(session_id)
    app = open_page(buyer, "billing.py", session_id=session_id)
    assert "Pro: \\$50.00 of credit and \\$5.00 of bonus are on your balance." in said(app)
    assert metrics(app)["Available"] == "$75.00"
    assert "session_id" not in app.query_params
    app.run()
    assert "Thank you" in said(app)
    assert "Thank you" not in said(press(app, "billing_back_close"))


def test_an_unpaid_order_is_processing_until_it_is_paid(
    buyer: Person, open_page: Open, till: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    press(open_page(buyer, "billing.py"), "buy_pro")
    session_id = orders_of(buyer)[0].session_id
    assert session_id is not None
    app = open_page(buyer, "billing.py", session_id=session_id)
    assert "Processing your payment" in said(app)
    assert "session_id" not in app.query_params
    till.pay(session_id)
    monkeypatch.setattr(billing_return, "_EVERY_S", -1.0)
    app.run()
    assert "Thank you" in said(app)


def test_after_some_minutes_it_says_that_it_will_come_by_itself(
    buyer: Person, open_page: Open, till: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    press(open_page(buyer, "billing.py"), "buy_pro")
    session_id = orders_of(buyer)[0].session_id
    app = open_page(buyer, "billing.py", session_id=session_id)
    monkeypatch.setattr(billing_return, "_PATIENCE_S", 0.0)
    asked = till.calls["checkout_session"]
    app.run()
    assert "still on its way" in said(app)
    assert till.calls["checkout_session"] == asked


@pytest.mark.parametrize("session_id", ["cs_test_nobodys", "", "x' or 1=1", "foreign"])
def test_an_unknown_and_a_foreign_return_look_the_same(
    buyer: Person, person: Make, open_page: Open, till: Provider, session_id: str
) -> None:
    if session_id == "foreign":
        other = person(Role.FINANCE)
        press(open_page(other, "billing.py"), "buy_pro")
        session_id = orders_of(other)[0].session_id or ""
        till.pay(session_id)
    app = open_page(buyer, "billing.py", session_id=session_id)
    assert "This payment is not known here" in said(app)
    assert metrics(app)["Available"] == "$20.00"


def test_turning_back_cancels_and_says_that_nothing_was_charged(
    buyer: Person, open_page: Open, till: Provider
) -> None:
    press(open_page(buyer, "billing.py"), "buy_pro")
    (order,) = orders_of(buyer)
    app = open_page(buyer, "billing.py", order=str(order.order_id))
    assert "Nothing was charged" in said(app)
    assert orders_of(buyer)[0].state == "canceled"
    assert "order" not in app.query_params


@pytest.mark.parametrize("order_id", ["", "no-uuid", "foreign"])
def test_nobody_cancels_what_is_not_theirs(
    buyer: Person, person: Make, open_page: Open, till: Provider, order_id: str
) -> None:
    other = person(Role.FINANCE)
    order = an_order(place_of(other))
    asked = str(order.order_id) if order_id == "foreign" else order_id
    app = open_page(buyer, "billing.py", order=asked)
    assert "This payment is not known here" in said(app)
    assert orders_of(other)[0].state == "open"


# Who and what.


def test_a_member_sees_the_balance_and_whom_to_ask(
    person: Make, open_page: Open, till: Provider
) -> None:
    who = person(credit_nusd=20 * USD)
    bought(place_of(who))
    app = open_page(who, "billing.py", section="Statement", session_id="cs_test_1")
    assert not app.exception
    assert metrics(app) == {"Available to your team": "$75.00", "Reserved for calls": "$0.00"}
    assert "ask an admin or a finance person" in said(app)
    assert not app.dataframe
    assert not {key for key in keys(app) if key.startswith("buy_")}


def test_an_internal_team_is_shown_back_what_it_used_and_sold_nothing(
    person: Make, open_page: Open, till: Provider
) -> None:
    who = person(Role.ADMIN, mode="internal", credit_nusd=0)
    use(who.principal, make_model(), "0.3")
    app = open_page(who, "billing.py", section="Credit")
    assert not app.exception
    assert metrics(app) == {"Spent so far": "$0.3000", "Shown back": "$0.3000"}
    assert "Nothing is sold to your team" in said(app)
    assert not {key for key in keys(app) if key.startswith("buy_")}


def test_a_postpaid_team_sees_its_limit_and_buys_nothing(
    person: Make, open_page: Open, till: Provider
) -> None:
    who = person(Role.ADMIN, mode="postpaid", credit_nusd=0)
    with db.transaction(TESTS) as session:
        session.execute(
            text("update app.accounts set floor_nusd = :floor where tenant_id = :t"),
            {"floor": -20 * USD, "t": who.principal.tenant_id},
        )
    use(who.principal, make_model(), "0.3")
    for section in ("Credit", "Payments", "Statement"):
        app = open_page(who, "billing.py", section=section)
        assert not app.exception
        assert metrics(app)["Used, not billed"] == "$0.3000"
        assert metrics(app)["Credit limit"] == "$20.00"
        assert not {key for key in keys(app) if key.startswith(("buy_", "subscribe_"))}


def test_nobody_sees_it_without_signing_in(open_alone: Callable[[str], AppTest]) -> None:
    app = open_alone("billing.py")
    assert not app.metric
    assert "Please sign in" in app.info[0].value


def test_another_tenants_sales_never_show(
    buyer: Person, person: Make, open_page: Open, till: Provider
) -> None:
    place = place_of(person(Role.FINANCE))
    bought(place)
    a_customer(place)
    an_invoice(place, attempts=2)
    a_topup(place, stopped_reason="Theirs.", enabled=False)
    app = open_page(buyer, "billing.py", section="Payments")
    assert not app.dataframe
    words = said(app)
    assert "4242" not in words and "P-0007" not in words and "Theirs" not in words


# Notices lead on.


def test_a_failed_invoice_leads_to_the_card_and_the_invoice(
    buyer: Person, open_page: Open, till: Provider
) -> None:
    place = place_of(buyer)
    customer = a_customer(place)
    an_invoice(place, attempts=1, page_url=f"{PAGE}/invoice/1")
    app = open_page(buyer, "billing.py")
    assert "Invoice P-0007 could not be paid" in said(app)
    assert links(app)["Open invoice"] == f"{PAGE}/invoice/1"
    press(app, "notice_invoice_failed")
    wanted = f"{PAGE}/portal/{customer.customer_id}/payment_method_update"
    assert links(app)["Continue"] == wanted


def test_an_invoice_elsewhere_is_not_linked(buyer: Person, open_page: Open, till: Provider) -> None:
    an_invoice(place_of(buyer), attempts=1, page_url="https://evil.example/1")
    app = open_page(buyer, "billing.py")
    assert "Open invoice" not in links(app)


def test_a_top_up_that_waits_for_the_buyer_is_paid_on_a_page(
    buyer: Person, open_page: Open, till: Provider
) -> None:
    place = place_of(buyer)
    a_customer(place)
    an_order(place, kind="topup", code="pm_1", state="needs_action", price_minor=2000)
    app = open_page(buyer, "billing.py")
    press(app, "notice_topup_action")
    assert links(app)["Continue"].startswith(PAGE)


def test_a_top_up_that_waits_for_the_buyer_can_be_dropped(
    buyer: Person, open_page: Open, till: Provider
) -> None:
    an_order(place_of(buyer), kind="topup", code="pm_1", state="needs_action", price_minor=2000)
    press(open_page(buyer, "billing.py", section="Payments"), "cancel_")
    (order,) = orders_of(buyer)
    assert order.state == "canceled"
    assert "confirm a top-up" not in said(open_page(buyer, "billing.py"))


def test_a_low_balance_leads_to_the_packages(person: Make, open_page: Open, till: Provider) -> None:
    app = open_page(person(Role.ADMIN), "billing.py", section="Statement")
    assert "\\$1.00 of credit is left" in said(app)
    press(app, "notice_low_balance")
    assert "buy_pro" in keys(app)


# Plans.


def test_a_plan_is_subscribed_to_on_the_providers_page(
    buyer: Person, open_page: Open, till: Provider
) -> None:
    app = open_page(buyer, "billing.py", section="Plan")
    words = said(app)
    assert "\\$85.00 of credit each month" in words
    assert "10,000 messages a month" in words
    assert "1,000 requests an hour for each person" in words
    press(app, "subscribe_enterprise")
    (order,) = orders_of(buyer)
    assert (order.kind, order.code) == ("plan", "enterprise")
    assert links(app)["Continue"] == order.session_url


def test_a_running_plan_says_what_each_change_will_do(
    buyer: Person, open_page: Open, till: Provider
) -> None:
    a_subscription(place_of(buyer))
    app = open_page(buyer, "billing.py", section="Plan")
    words = said(app)
    assert "Your plan renews on" in words
    ahead = [f"brings about **\\${(450 - 85) * 21 // days}" for days in (28, 29, 30, 31)]
    assert "is charged to your card now" in words
    assert any(sentence in words for sentence in ahead)  # by the days of the period's month
    assert "Your present plan stays until" in words
    assert "Cancel at the end of the period" in {button.label for button in app.button}
    assert not {key for key in keys(app) if key.startswith("subscribe_")}


def test_an_ending_plan_can_only_be_resumed(buyer: Person, open_page: Open, till: Provider) -> None:
    row = a_subscription(place_of(buyer))
    with db.transaction(TESTS) as session:
        session.execute(
            text("update app.subscriptions set cancel_at = period_end where subscription_id = :s"),
            {"s": row.subscription_id},
        )
    app = open_page(buyer, "billing.py", section="Plan")
    assert "Your plan ends on" in said(app)
    labels = {button.label for button in app.button}
    assert "Resume" in labels
    assert not labels & {"Upgrade to Enterprise", "Cancel at the end of the period"}


@pytest.mark.parametrize("status", ["unpaid", "paused"])
def test_a_plan_that_is_not_in_force_can_be_ended_before_another_is_bought(
    status: str, buyer: Person, open_page: Open, till: Provider
) -> None:
    a_subscription(place_of(buyer), status=status, plan="free")
    app = open_page(buyer, "billing.py", section="Plan")
    assert "Your plan is not in force" in said(app)
    assert "End it now" in {button.label for button in app.button}
    assert not {key for key in keys(app) if key.startswith("subscribe_")}


def test_a_waiting_downgrade_is_said_with_the_way_back(
    buyer: Person, open_page: Open, till: Provider
) -> None:
    a_subscription(place_of(buyer), next_plan="starter")
    app = open_page(buyer, "billing.py", section="Plan")
    assert "Your plan changes to Starter on" in said(app)
    assert "Keep the present plan" in {button.label for button in app.button}


# Automatic top-up.


def test_a_top_up_keeps_the_very_words_that_were_ticked(
    buyer: Person, open_page: Open, till: Provider
) -> None:
    a_customer(place_of(buyer))
    app = open_page(buyer, "billing.py", section="Auto top-up")
    assert next(one for one in app.button if one.label == "Switch on").disabled
    next(one for one in app.text_input if "Buy for" in one.label).set_value("25").run()
    box = next(one for one in app.checkbox if str(one.key).startswith("topup_consent"))
    assert "\\$25.00" in box.label
    box.check().run()
    press(app, "topup_on")
    with db.transaction(TESTS) as session:
        row = session.get(AutoTopup, buyer.principal.tenant_id)
    assert row is not None
    assert (row.enabled, row.amount_minor, row.threshold_nusd) == (True, 2500, 5 * USD)
    assert row.consent == (
        f"I agree that {buyer.principal.tenant_name} is charged $25.00 on visa •••• 4242 without being"
        " asked again whenever less than $5.00 of credit is left, at most $100.00 a day, until I"
        " switch this off."
    )
    press(app, "topup_off")
    with db.transaction(TESTS) as session:
        ended = topups.of(session, buyer.principal.tenant_id)
    assert ended is not None and not ended.enabled


def test_other_amounts_need_another_tick(buyer: Person, open_page: Open, till: Provider) -> None:
    a_customer(place_of(buyer))
    app = open_page(buyer, "billing.py", section="Auto top-up")
    next(one for one in app.checkbox if str(one.key).startswith("topup_consent")).check().run()
    next(one for one in app.text_input if "At most" in one.label).set_value("50").run()
    assert next(one for one in app.button if one.label == "Switch on").disabled


@pytest.mark.parametrize("amount", ["", "x", "-5", "5.001", "1e3"])
def test_what_is_no_amount_is_said(
    buyer: Person, open_page: Open, till: Provider, amount: str
) -> None:
    a_customer(place_of(buyer))
    app = open_page(buyer, "billing.py", section="Auto top-up")
    next(one for one in app.text_input if "Buy for" in one.label).set_value(amount).run()
    assert "whole cents" in said(app)
    assert not {key for key in keys(app) if key.startswith("topup_on")}


def test_without_a_card_it_says_how_to_save_one(
    buyer: Person, open_page: Open, till: Provider
) -> None:
    app = open_page(buyer, "billing.py", section="Auto top-up")
    assert "No card is saved" in said(app)
    assert not {key for key in keys(app) if key.startswith("topup_on")}


def test_a_stopped_top_up_shows_why(buyer: Person, open_page: Open, till: Provider) -> None:
    a_topup(place_of(buyer), enabled=False, stopped_reason="2 attempts failed.")
    app = open_page(buyer, "billing.py", section="Auto top-up")
    assert "2 attempts failed." in said(app)
    assert "Stopped" in said(app)
    press(app, "topup_off")
    assert "2 attempts failed." not in said(open_page(buyer, "billing.py"))


# Payments and statement.


def test_an_open_order_can_be_continued_or_canceled(
    buyer: Person, open_page: Open, till: Provider
) -> None:
    press(open_page(buyer, "billing.py"), "buy_pro")
    (order,) = orders_of(buyer)
    app = open_page(buyer, "billing.py", section="Payments")
    press(app, "continue_")
    assert links(app)["Continue"] == order.session_url
    press(app, "cancel_")
    assert orders_of(buyer)[0].state == "canceled"
    assert not {key for key in keys(app) if key.startswith("continue_")}


def test_payments_list_orders_invoices_and_the_portal(
    buyer: Person, open_page: Open, till: Provider
) -> None:
    place = place_of(buyer)
    bought(place)
    customer: StripeCustomer = a_customer(place)
    an_invoice(place, status="paid", page_url=f"{PAGE}/invoice/2", number="P-0008")
    app = open_page(buyer, "billing.py", section="Payments")
    tables = {
        next(iter(table.value.columns)): table.value.to_dict("records") for table in app.dataframe
    }
    assert (tables["date"][0]["title"], tables["date"][0]["state"]) == ("Pro", "Paid")
    linked = {row["number"]: row["link"] for row in tables["number"]}
    assert linked["P-0008"] == f"{PAGE}/invoice/2"
    assert pd.isna(linked["R-0001"])
    press(app, "portal")
    assert links(app)["Continue"] == f"{PAGE}/portal/{customer.customer_id}/all"


def test_the_statement_adds_up_filters_and_offers_its_file(
    buyer: Person, open_page: Open, till: Provider
) -> None:
    model = make_model()
    bought(place_of(buyer))
    use(buyer.principal, model, "0.25")
    app = open_page(buyer, "billing.py", section="Statement")
    words = said(app)
    assert "Opening balance" in words and "**\\$74.75**" in words
    rows = app.dataframe[0].value.to_dict("records")
    assert [row["amount"] for row in rows] == ["-$0.25", "+$5", "+$50", "+$20"]
    assert [row["balance"] for row in rows] == ["$74.75", "$75", "$70", "$20"]
    assert (rows[0]["description"], rows[0]["tokens"]) == (model, 150)
    app.multiselect("statement_kinds").set_value(["capture"]).run()
    assert "filtered: 1 of 4 movements" in said(app)
    assert len(app.dataframe[0].value) == 1
    assert links(app)["CSV"].startswith("/billing/statement.csv?from=")
    assert links(app)["CSV"].endswith("&kind=capture")


def test_a_line_opens_to_its_call_its_order_and_its_grant(
    buyer: Person, open_page: Open, till: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model()
    order = bought(place_of(buyer))
    call = use(buyer.principal, model, "0.25")
    monkeypatch.setattr(billing_statement, "_table", lambda *_: 0)
    words = said(open_page(buyer, "billing.py", section="Statement")).replace("\\", "")
    for wanted in (str(call.call_id), model, buyer.principal.email):
        assert wanted in words
    monkeypatch.setattr(billing_statement, "_table", lambda *_: 2)
    app = open_page(buyer, "billing.py", section="Statement")
    words = said(app).replace("\\", "")
    for wanted in (str(order.order_id), "R-0001", "$50.00", "Never"):
        assert wanted in words
    assert "Open receipt" not in links(app)  # it is on a page this provider does not have


def test_the_statement_has_pages(person: Make, open_page: Open, till: Provider) -> None:
    who = person(Role.FINANCE, plan="enterprise", credit_nusd=20 * USD)
    model = make_model()
    for _ in range(26):
        use(who.principal, model, "0.001")
    app = open_page(who, "billing.py", section="Statement")
    assert len(app.dataframe[0].value) == 25
    press(app, "statement_older")
    assert len(app.dataframe[0].value) == 2
    press(app, "statement_newer")
    assert len(app.dataframe[0].value) == 25


def test_strangers_words_are_shown_and_not_obeyed(
    buyer: Person, open_page: Open, till: Provider
) -> None:
    an_order(place_of(buyer), title="![x](https://evil.example/p) **b** $1$", session_url=PAGE)
    app = open_page(buyer, "billing.py", section="Payments")
    assert "![x](https://evil.example" not in said(app)


def test_the_page_is_in_everyones_navigation(person: Make, open_page: Open) -> None:
    app = open_page(person(), "billing.py")
    assert not app.exception
    assert app.header[0].value == "Billing"
    assert tab.SIGN_IN_FIRST not in said(app)
