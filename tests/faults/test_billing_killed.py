"""Selling while processes die: the app, its database, its Stripe. What was paid is credited once, what
was not is not, and nobody is charged twice."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select, text

from core import db, errors, invariants, schema, settings
from core.billing import checkout, customers, inbox, ledger, offers, stripe_api, topups
from core.billing.ledger import BILLING
from core.billing.sales_tables import Order
from core.billing.stripe_api import StripeApi
from core.billing.stripe_tables import StripeEvent
from core.db import Database
from core.money import NANO_PER_USD
from tests.factories import TESTS, Place
from tests.faults.shop import KEY, SECRET, Postman, Shop, StandIn, buyer, click
from tests.faults.test_database_away import OwnServer
from tests.processes import AppProcess

pytestmark = pytest.mark.faults
USD = NANO_PER_USD


@pytest.fixture(scope="module")
def _shop(
    tmp_path_factory: pytest.TempPathFactory, database: Database
) -> Iterator[Shop]:
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


def bought(shop: Shop, count: int) -> list[Order]:
    """So many packages of ten dollars, each by another team, paid on their pages."""

    def buy(_number: int) -> Order:
        order = checkout.start_package(buyer().who, "starter", click_key=click())
        shop.stripe.control.pay(order.session_id or "")
        return order

    offers.sellable("package", "starter")
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(buy, range(count)))


def give_back(shop: Shop, orders: list[Order]) -> None:
    """Refunds of parts, from the dashboard."""
    for number, order in enumerate(orders, 1):
        page = stripe_api.current().checkout_session(order.session_id or "")
        shop.stripe.control.refund(page.payment_intent_id or "", number * 100)


def states_of(orders: list[Order]) -> set[str]:
    with db.transaction(TESTS) as session:
        return {
            session.get_one(Order, (order.tenant_id, order.order_id)).state for order in orders
        }


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
    shop.settle(is_alone=True)
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


def test_sigterm_ends_in_time_and_loses_nothing_it_took(shop: Shop) -> None:
    orders = bought(shop, 5)
    postman = Postman(shop.app.url, shop.letters(seed=3))
    postman.wait_heard(5)
    assert shop.app.stop(signal.SIGTERM) < 25
    heard = list(postman.heard)
    with db.transaction(TESTS) as session:
        stored = session.scalars(
            select(StripeEvent.event_id).where(StripeEvent.event_id.in_(heard))
        ).all()
    assert sorted(stored) == sorted(heard)
    assert_whole()
    shop.app.start()
    postman.join()
    shop.settle()
    assert states_of(orders) == {"fulfilled"}


def test_what_happened_while_the_app_was_down_is_found_by_the_reconciler(shop: Shop) -> None:
    shop.app.kill()
    orders = bought(shop, 4)
    give_back(shop, orders[:2])
    assert states_of(orders) == {"open"}
    found = shop.app.command("stripe", "reconcile", "--scope", "hourly")
    assert found.returncode == 1, found.stderr  # it says what differed
    assert states_of(orders) == {"fulfilled"}
    shop.settle()  # the same again, from the inbox
    again = shop.app.command("stripe", "reconcile")
    assert again.returncode == 0, again.stderr
    shop.app.start()
    postman = Postman(shop.app.url, shop.letters(seed=4))  # and once more, late
    postman.join()
    shop.settle()
    checked = shop.app.command("check")
    assert json.loads(checked.stdout) == {"violations": []}
