"""Selling while processes die: the app, its database, its Stripe. What was paid is credited once, what
was not is not, and nobody is charged twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import select

from core import db, errors, invariants, schema, settings
from core.billing import (
    checkout,
    customers,
    ledger,
    offers,
    reconcile,
    refunds,
    stripe_api,
    subscriptions,
    topups,
)
from core.billing.ledger import BILLING
from core.billing.sales_tables import Invoice, Order
from core.billing.stripe_api import StripeApi
from core.billing.stripe_tables import StripeEvent
from core.db import Database, new_id
from core.money import NANO_PER_USD
from tests.factories import TESTS, Place
from tests.faults.shop import KEY, SECRET, Postman, Shop, StandIn, buyer, click
from tests.faults.test_database_away import OwnServer
from tests.processes import ROOT, AppProcess

pytestmark = pytest.mark.faults
USD = NANO_PER_USD


@pytest.fixture(scope="module")
def _shop(tmp_path_factory: pytest.TempPathFactory, database: Database) -> Iterator[Shop]:
    """One shop for all: what one test leaves behind must not trouble the next."""
    folder = tmp_path_factory.mktemp("shop")
    server, stripe = OwnServer(folder / "own"), StandIn(folder)
    schema.migrate(server.url)
    mine = Database(settings.current(), server.url)
    db.install(mine)
    stripe_api.install(StripeApi(KEY, base=stripe.url, webhook_secrets=(SECRET,)))
    app = AppProcess(
        folder,
        {
            "DATABASE_URL": server.url, "STRIPE_SECRET_KEY": KEY, "STRIPE_API_BASE": stripe.url,
            "STRIPE_WEBHOOK_SECRETS": SECRET,
        },
    )  # fmt: skip
    yield Shop(server, stripe, app)
    if app.process is not None and app.process.poll() is None:
        app.kill()
    stripe_api.install(None)
    db.install(database)
    mine.close()
    stripe.end()
    server.stop()


@pytest.fixture
def shop(_shop: Shop) -> Iterator[Shop]:
    """The shop, open; at the end everything in it is as Stripe says."""
    _shop.open()
    yield _shop
    _shop.settle()
    _shop.assert_sound()


def buy(shop: Shop, place: Place) -> Order:
    """A package of ten dollars, paid on its page."""
    order = checkout.start_package(place.who, "starter", click_key=click())
    shop.stripe.control.pay(order.session_id or "")
    return order


def bought(shop: Shop, count: int) -> list[Order]:
    """So many, each by another team."""

    offers.sellable("package", "starter")
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda _: buy(shop, buyer()), range(count)))


def give_back(shop: Shop, orders: list[Order]) -> None:
    """Refunds of parts, from the dashboard."""
    for number, order in enumerate(orders, 1):
        page = stripe_api.current().checkout_session(order.session_id or "")
        shop.stripe.control.refund(page.payment_intent_id or "", number * 100)


def states_of(orders: list[Order]) -> set[str]:
    with db.transaction(TESTS) as session:
        return {session.get_one(Order, (order.tenant_id, order.order_id)).state for order in orders}


def assert_whole() -> None:
    """In the middle of it all no invariant is broken."""
    with db.transaction(TESTS) as session:
        assert invariants.check(session) == []


def test_kill_nine_among_webhooks_and_among_their_handling_applies_each_once(shop: Shop) -> None:
    orders = bought(shop, 6)
    give_back(shop, orders[:3])
    postman = Postman(shop.app.url, shop.letters(seed=1))
    postman.wait_heard(5)
    shop.app.kill()
    assert_whole()
    shop.app.start()
    postman.join()
    assert 0 in postman.statuses  # some were cut off
    shop.settle()
    assert states_of(orders) == {"fulfilled"}


def test_a_database_that_stops_hard_lets_stripe_come_again(shop: Shop) -> None:
    orders = bought(shop, 5)
    give_back(shop, orders[:2])
    postman = Postman(shop.app.url, shop.letters(seed=2))
    postman.wait_heard(5)
    shop.server.crash()
    postman.wait_status(503)
    assert shop.app.status("/readyz") == 503
    shop.server.start()
    postman.join()
    shop.app.wait_ready()
    shop.settle()
    assert set(postman.statuses) == {200, 503}  # the process stayed, and told the truth
    assert states_of(orders) == {"fulfilled"}


def test_sigterm_loses_nothing_and_what_happens_until_the_restart_is_found(shop: Shop) -> None:
    orders = bought(shop, 5)
    postman = Postman(shop.app.url, shop.letters(seed=3))
    postman.wait_heard(5)
    assert shop.app.stop(signal.SIGTERM) < 25
    heard = list(postman.heard)
    with db.transaction(TESTS) as session:
        stored = session.scalars(
            select(StripeEvent.event_id).where(StripeEvent.event_id.in_(heard))
        ).all()
    assert sorted(stored) == sorted(heard)  # what was answered is kept
    assert_whole()
    give_back(shop, orders[:2])
    orders += bought(shop, 2)  # on pages that were open
    found = shop.app.command("stripe", "reconcile", "--scope", "hourly")
    assert found.returncode == 1, found.stderr  # it says what differed, and books it
    assert states_of(orders) == {"fulfilled"}
    assert reconcile.run(datetime.now(UTC), scope="hourly").differences == ()
    shop.app.start()
    postman.join()
    Postman(shop.app.url, shop.letters(seed=4)).join()  # late, and once more
    shop.settle()
    assert json.loads(shop.app.command("check").stdout) == {"violations": []}


def with_card(shop: Shop) -> Place:
    """A team whose card is saved and charged whenever less than five dollars are left."""
    place = buyer()
    customer_id = customers.ensure(place.tenant_id, name="Acme", email=place.who.email)
    shop.stripe.control.give_card(customer_id)
    customers.refresh_card(place.tenant_id)
    with db.transaction(BILLING) as session:
        topups.configure(
            session, place.who, threshold_nusd=5 * USD, amount_minor=2000, daily_cap_minor=10_000,
            consent="Charge my card.",
        )  # fmt: skip
    return place


def topups_of(place: Place) -> list[str]:
    with db.transaction(TESTS) as session:
        mine = select(Order.state).where(Order.tenant_id == place.tenant_id, Order.kind == "topup")
        return list(session.scalars(mine))


def posted_nusd(place: Place) -> int:
    with db.transaction(TESTS) as session:
        return ledger.wallet(session, place.tenant_id).posted_nusd


def waiting_for() -> set[str]:
    """What events wait for."""
    with db.transaction(TESTS) as session:
        query = select(StripeEvent.reason).where(StripeEvent.state == "waiting")
        return {reason or "" for reason in session.scalars(query)}


def wait_for(is_so: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_kill_nine_between_a_charge_and_its_booking_charges_and_grants_once(shop: Shop) -> None:
    place = with_card(shop)
    with shop.kills(shop.app.kill, "/v1/payment_intents"):
        shop.run("billing.topups")
        wait_for(lambda: not shop.is_open)
    assert [one["status"] for one in shop.of(place, "payment_intent")] == ["succeeded"]
    assert topups_of(place) == ["open"]
    shop.app.start()
    shop.run("billing.topups")  # the next try and the event, at once
    Postman(shop.app.url, shop.letters(seed=5)).join()
    wait_for(lambda: topups_of(place) == ["fulfilled"])
    shop.run("billing.topups")
    shop.settle()
    assert len(shop.of(place, "payment_intent")) == 1
    assert posted_nusd(place) == 20 * USD


def killed(shop: Shop, path: str, act: str, place: Place, **of: Any) -> None:
    """A process does an act of the place's and dies when Stripe has done its part."""
    asked = {
        "tenant_id": str(place.tenant_id), "user_id": str(place.user_id), "email": place.who.email,
        "tenant_name": place.who.tenant_name, **of,
    }  # fmt: skip
    host = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.buying_host", shop.server.url, shop.stripe.url, act,
         json.dumps(asked)], cwd=ROOT,
    )  # fmt: skip
    with shop.kills(host.kill, path):
        assert host.wait(30) == -signal.SIGKILL


def test_kill_nine_while_a_page_is_opened_leaves_one_page_for_the_same_click(shop: Shop) -> None:
    offers.sellable("package", "starter")
    place, key = buyer(), click()
    killed(shop, "/v1/checkout/sessions", "buy", place, click_key=key)
    order = checkout.start_package(place.who, "starter", click_key=key)
    assert [one["id"] for one in shop.of(place, "checkout.session")] == [order.session_id]
    shop.stripe.control.pay(order.session_id or "")
    Postman(shop.app.url, shop.letters(seed=6)).join()
    shop.settle()
    assert posted_nusd(place) == 10 * USD


def test_kill_nine_while_a_refund_is_made_gives_back_once(shop: Shop) -> None:
    place, request_id = buyer(), new_id()
    order = checkout.confirm(place.who, buy(shop, place).session_id or "")
    paid_by = order.payment_intent_id or ""
    killed(
        shop, "/v1/refunds", "refund", place, payment_intent_id=paid_by, amount_minor=400,
        request_id=str(request_id),
    )  # fmt: skip
    assert posted_nusd(place) == 10 * USD
    found = refunds.refund(TESTS, place.tenant_id, paid_by, 400, reason="x", request_id=request_id)
    assert found.state == "sent"
    assert len(shop.of(place, "refund")) == 1 and posted_nusd(place) == 6 * USD
    Postman(shop.app.url, shop.letters(seed=7)).join()


def test_kill_nine_in_an_upgrade_charges_and_grants_it_once(shop: Shop) -> None:
    place = buyer()
    order = checkout.start_plan(place.who, "starter", click_key=click())
    shop.stripe.control.pay(order.session_id or "")
    Postman(shop.app.url, shop.letters(seed=8)).join()
    shop.settle()
    with db.transaction(TESTS) as session:
        row = subscriptions.current(session, place.tenant_id)
    assert row is not None and row.plan == "starter"
    path = "/v1/subscriptions/{id}"
    killed(shop, path, "upgrade", place)
    subscriptions.change_plan(place.who, "pro")
    Postman(shop.app.url, shop.letters(seed=9)).join()
    shop.settle()
    with db.transaction(TESTS) as session:
        bills = session.scalars(select(Invoice).where(Invoice.tenant_id == place.tenant_id)).all()
        lots = ledger.lots(session, place.tenant_id)
    assert len(bills) == len(lots) == 2  # the month, and the rest of it on the higher plan
    assert {bill.status for bill in bills} == {"paid"}


def test_stripe_away_is_said_and_the_same_click_later_opens_one_page(shop: Shop) -> None:
    place, key = buyer(), click()
    order = checkout.start_plan(place.who, "starter", click_key=key)
    shop.stripe.control.pay(order.session_id or "")
    other, other_key = buyer(), click()
    letters = shop.letters(seed=10)
    with shop.stripe.away():
        with pytest.raises(errors.Unavailable, match="Try again") as refusal:
            checkout.start_package(other.who, "starter", click_key=other_key)
        assert "127.0.0.1" not in str(refusal.value)
        Postman(shop.app.url, letters).join()  # what comes meanwhile is taken
        wait_for(lambda: "StripeDown" in waiting_for())
    shop.settle()
    assert posted_nusd(place) == 15 * USD
    opened = checkout.start_package(other.who, "starter", click_key=other_key)
    assert opened.session_url
    assert len(shop.of(other, "checkout.session")) == 1
