"""What operators do about selling on pages/admin.py: offers, refunds, modes, approvals, the inbox."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from uuid import UUID

import pytest
from sqlalchemy import select
from streamlit.testing.v1 import AppTest

from core import db
from core.billing import accounts, credit, differences, inbox, ledger, offers, stripe_api
from core.billing.differences import Difference
from core.billing.ledger import BILLING
from core.billing.sales_tables import (
    BillingTerms,
    CreditRequest,
    Order,
    Package,
    RefundRequest,
)
from core.billing.stripe_api import StripeRefused
from core.billing.stripe_objects import Refund
from core.db import new_id
from core.identity.access import Role
from core.identity.tables import Tenant
from pages.widgets import acts
from tests.billing.books import a_subscription, an_order
from tests.billing.purchases import USD, buy, spend
from tests.billing.till import Till
from tests.factories import TESTS, Place
from tests.identity.people import audit_rows
from tests.pages.conftest import Person
from tests.pages.operators import an_operator

Make = Callable[..., Person]
Open = Callable[..., AppTest]


@dataclass
class Counter(Till):
    """The till, which also gives money back."""

    refusals: list[StripeRefused] = field(default_factory=list)

    def refund(
        self, *, tenant_id: UUID, request_id: UUID, payment_intent_id: str, amount_minor: int
    ) -> Refund:
        if self.refusals:
            raise self.refusals.pop()
        return Refund(
            f"re_{request_id.hex}", "succeeded", "usd", amount_minor, payment_intent_id, None, None,
            {"request_id": str(request_id)},
        )  # fmt: skip


@pytest.fixture
def counter() -> Iterator[Counter]:
    made = Counter()
    stripe_api.install(made)  # type: ignore[arg-type]
    yield made
    stripe_api.install(None)


@pytest.fixture
def operator(answering: object) -> Person:
    return an_operator()


@pytest.fixture
def place(person: Make) -> Place:
    who = person(Role.ADMIN).principal
    return Place(who.tenant_id, who.user_id, who)


def press(app: AppTest, label: str) -> AppTest:
    found = next(button for button in app.button if button.label == label).click().run()
    assert not found.exception
    return found


def said(app: AppTest) -> str:
    shown = (
        *app.markdown,
        *app.caption,
        *app.warning,
        *app.success,
        *app.error,
        *app.toast,
        *app.info,
    )
    return "\n".join(element.value for element in shown)


def wallet(place: Place) -> ledger.Wallet:
    with db.transaction(TESTS) as session:
        return ledger.wallet(session, place.tenant_id)


def opened(open_page: Open, operator: Person, place: Place) -> AppTest:
    return open_page(operator, "admin.py").selectbox("tenant").set_value(place.tenant_id).run()


def test_a_payment_is_refunded_for_what_is_unspent(
    counter: Counter, operator: Person, place: Place, open_page: Open
) -> None:
    payment = buy(place)
    app = opened(open_page, operator, place)
    assert payment.payment_intent_id in said(app)
    assert app.text_input(f"refund_amount_{payment.payment_intent_id}_0").value == "50.00"
    app.text_input(f"refund_amount_{payment.payment_intent_id}_0").input("20")
    app.text_input(f"refund_reason_{payment.payment_intent_id}_0").input("did not like it")
    app = press(app, "Refund")
    assert "Refunded" in said(app)
    assert wallet(place).posted_nusd == 1 * USD + 33 * USD  # sign-up credit, and 60 % of 55
    assert "refund of \\$20.00: succeeded" in said(app)


def test_a_refund_pressed_again_before_the_page_was_drawn_anew_is_one(
    counter: Counter,
    operator: Person,
    place: Place,
    open_page: Open,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    payment = buy(place)
    app = opened(open_page, operator, place)
    app.text_input(f"refund_amount_{payment.payment_intent_id}_0").input("20")
    app.text_input(f"refund_reason_{payment.payment_intent_id}_0").input("twice")
    with monkeypatch.context() as cut_short:
        cut_short.setattr(acts, "done", lambda said: None)
        press(press(app, "Refund"), "Refund")
    with db.transaction(TESTS) as session:
        query = select(RefundRequest).where(RefundRequest.tenant_id == place.tenant_id)
        assert [one.amount_minor for one in session.scalars(query)] == [2000]


def test_what_stripe_refused_may_be_asked_for_again(
    counter: Counter, operator: Person, place: Place, open_page: Open
) -> None:
    payment = buy(place)
    counter.refusals.append(StripeRefused("charge_disputed", status=400))
    app = opened(open_page, operator, place)
    app.text_input(f"refund_reason_{payment.payment_intent_id}_0").input("again")
    app = press(app, "Refund")
    assert "Stripe refused this" in said(app)
    assert "Refunded" in said(press(app, "Refund"))


@pytest.mark.parametrize("amount", ["0.001", "a lot", "-5", "60"])
def test_a_refund_of_no_possible_amount_changes_nothing(
    amount: str, counter: Counter, operator: Person, place: Place, open_page: Open
) -> None:
    payment = buy(place)
    before = wallet(place)
    app = opened(open_page, operator, place)
    app.text_input(f"refund_amount_{payment.payment_intent_id}_0").input(amount)
    app.text_input(f"refund_reason_{payment.payment_intent_id}_0").input("why not")
    app = press(app, "Refund")
    assert app.warning or app.error
    assert wallet(place) == before


def test_the_mode_is_switched_and_audited(operator: Person, place: Place, open_page: Open) -> None:
    app = opened(open_page, operator, place)
    app.radio("mode_to_0").set_value("postpaid")
    app.text_input("mode_limit_0").input("250")
    app = press(app, "Change mode")
    with db.transaction(TESTS) as session:
        assert session.get_one(Tenant, place.tenant_id).mode == "postpaid"
    assert wallet(place).available_nusd == 251 * USD
    assert audit_rows(f"tenant:{place.tenant_id}")[-1][0] == "tenant.mode"


def test_the_limit_of_a_postpaid_tenant_is_set_and_audited(
    operator: Person, place: Place, open_page: Open
) -> None:
    with db.transaction(BILLING) as session:
        accounts.switch_mode(
            session, BILLING, place.tenant_id, "postpaid", credit_limit_nusd=5 * USD
        )
    app = opened(open_page, operator, place)
    app.text_input("credit_limit_to_0").input("300")
    app = press(app, "Set the credit limit")
    assert wallet(place).available_nusd == 301 * USD
    assert audit_rows(f"tenant:{place.tenant_id}")[-1][0] == "tenant.credit_limit"


def test_debt_is_written_off_with_the_mode_only_when_ticked(
    operator: Person, place: Place, open_page: Open
) -> None:
    spend(place, "3")
    app = opened(open_page, operator, place)
    app.radio("mode_to_0").set_value("internal")
    app = press(app, "Change mode")
    assert "in debt" in said(app) and wallet(place).debt_nusd == 2 * USD
    app.checkbox("mode_write_off_0").check()
    press(app, "Change mode")
    assert wallet(place).debt_nusd == 0
    with db.transaction(TESTS) as session:
        assert session.get_one(Tenant, place.tenant_id).mode == "internal"


def test_suspending_says_that_a_plan_is_charged_on(
    operator: Person, place: Place, open_page: Open
) -> None:
    warned = "goes on at Stripe and is charged"
    assert warned not in said(opened(open_page, operator, place))
    a_subscription(place)
    assert warned in said(opened(open_page, operator, place))


def test_large_credit_waits_for_a_second_operator(
    operator: Person, place: Place, open_page: Open
) -> None:
    with db.transaction(TESTS) as session:  # whatever other tests left
        credit.set_terms(session, TESTS, low_balance_nusd=5 * USD, approval_above_nusd=1000 * USD)
    app = opened(open_page, operator, place)
    app.text_input("grant_amount_0").input("1500")
    app.text_input("grant_reason_0").input("pilot")
    app.text_input("grant_key_0").input("pilot-1")
    app = next(b for b in app.button if b.label == "Grant" and b.form_id).click().run()
    assert "waits for a second operator" in said(app)
    assert wallet(place).posted_nusd == 1 * USD
    with db.transaction(TESTS) as session:
        request_id = session.scalars(
            select(CreditRequest.request_id).where(CreditRequest.tenant_id == place.tenant_id)
        ).one()
    keys = {button.key for button in open_page(operator, "admin.py").button}
    assert f"credit_grant_{request_id}" not in keys
    app = open_page(an_operator(), "admin.py")
    app.button(f"credit_grant_{request_id}").click().run()
    assert not app.exception
    assert wallet(place).posted_nusd == 1501 * USD


def test_a_package_is_made_changed_and_taken_off_sale(operator: Person, open_page: Open) -> None:
    app = open_page(operator, "admin.py", part="Offers")
    code = f"team_{new_id().hex[-8:]}"
    for name, value in {
        "code": code, "title": "Team", "price": "100", "credits": "100", "bonus": "12.50",
    }.items():  # fmt: skip
        app.text_input(f"package_new_{name}_0").input(value)
    app.text_area("package_new_lines_0").input("For teams\n\nAll models")
    app = next(b for b in app.button if "package_new_form" in b.form_id).click().run()
    assert not app.exception
    with db.transaction(TESTS) as session:
        made = offers.package(session, code)
    assert (made.price_minor, made.credits_nusd, made.bonus_nusd) == (
        10_000,
        100 * USD,
        12_500_000_000,
    )
    assert (made.bonus_expires_after_days, made.features) == (365, ["For teams", "All models"])
    app.text_input(f"package_{code}_price_1").input("110.50")
    app.checkbox(f"package_{code}_active_1").uncheck()
    app = next(b for b in app.button if f"package_{code}_form" in b.form_id).click().run()
    assert not app.exception
    with db.transaction(TESTS) as session:
        changed = session.get_one(Package, code)
        assert (changed.price_minor, changed.active) == (11_050, False)
        assert code not in {package.package_code for package in offers.packages(session)}


def test_a_price_with_a_fraction_of_a_cent_is_refused(operator: Person, open_page: Open) -> None:
    app = open_page(operator, "admin.py", part="Offers")
    with db.transaction(TESTS) as session:
        before = offers.plan(session, "pro")
    app.text_input("plan_pro_price_0").input("79.001")
    app = next(b for b in app.button if "plan_pro_form" in b.form_id).click().run()
    assert "whole cents" in said(app)
    with db.transaction(TESTS) as session:
        assert offers.plan(session, "pro") == before


def test_the_houses_terms_are_kept(operator: Person, open_page: Open) -> None:
    app = open_page(operator, "admin.py", part="Offers")
    app.text_input("terms_low_0").input("7.5")
    app = next(b for b in app.button if b.form_id.startswith("terms")).click().run()
    assert not app.exception
    with db.transaction(TESTS) as session:
        terms = session.scalars(select(BillingTerms)).one()
        assert (terms.low_balance_nusd, terms.approval_above_nusd) == (7_500_000_000, 1000 * USD)
        terms.low_balance_nusd = 5 * USD


def test_the_inbox_is_shown_and_an_event_replayed(
    counter: Counter, operator: Person, open_page: Open
) -> None:
    event_id = f"evt_{new_id().hex}"
    payload = {
        "id": event_id, "object": "event", "type": "charge.succeeded", "created": 1_795_000_000,
        "livemode": False, "api_version": stripe_api.API_VERSION,
        "data": {"object": {"id": "ch_1", "object": "charge"}},
    }  # fmt: skip
    with db.transaction(BILLING) as session:
        inbox.receive(session, payload, came_by="webhook")
    inbox.handle(event_id)
    app = open_page(operator, "admin.py", part="Stripe")
    assert not app.exception
    assert "sandbox" in said(app)
    table = next(t.value for t in app.dataframe if "deliveries" in t.value)
    row = next(r for r in table.to_dict("records") if r["object"] == "ch_1")
    assert (row["type"], row["state"]) == ("charge.succeeded", "ignored")
    with db.transaction(operator.operator) as session:
        inbox.replay(session, operator.operator, event_id)
        assert inbox.one(session, operator.operator, event_id).state == "waiting"
    assert audit_rows(f"stripe_event:{event_id}")[0][0] == "stripe_event.replay"
    inbox.handle(event_id)


def test_a_review_is_ended_with_a_note(
    counter: Counter, operator: Person, place: Place, open_page: Open
) -> None:
    order = an_order(place, state="review", reason="another amount than ordered")
    app = opened(open_page, operator, place)
    assert "another amount than ordered" in said(app)
    app = press(app, "Close the order")
    assert app.warning or app.error  # the note is missing
    app.text_input(f"review_note_{order.order_id}_0").input("Refunded at Stripe")
    app = press(app, "Close the order")
    assert "is closed" in said(app)
    assert "under review" not in said(app)
    with db.transaction(TESTS) as session:
        ended = session.get_one(Order, (place.tenant_id, order.order_id))
        assert (ended.state, ended.reason) == ("canceled", "Refunded at Stripe")


def test_a_comparison_that_stripe_refuses_in_part_says_so(
    counter: Counter, operator: Person, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> Iterator[object]:
        raise StripeRefused("more_permissions_required", status=403)

    for name in ("events", "sessions_since", "refunds_since", "payouts_since", "subscription"):
        monkeypatch.setattr(Counter, name, refused, raising=False)
    app = press(open_page(operator, "admin.py", part="Stripe"), "Compare now")
    assert "Stripe refused to list: events, sessions, refunds" in said(app)
    assert "payouts" in said(app)


def test_differences_are_listed_with_both_sides(operator: Person, open_page: Open) -> None:
    found = Difference(
        "session", f"cs_{new_id().hex}", None, "nothing", "paid 50.00", "webhook missing"
    )
    with db.transaction(BILLING) as session:
        differences.note(session, found)
    app = open_page(operator, "admin.py", part="Stripe")
    assert not app.exception
    assert "no key of Stripe is set" in said(app)
    table = next(t.value for t in app.dataframe if "theirs" in t.value)
    assert found.stripe_id in set(table["object"])
    with db.transaction(BILLING) as session:
        differences.resolve(session, "session", [found.stripe_id])
