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


def test_kill_nine_among_webhooks_and_among_their_handling_applies_each_once(shop: Shop) -> None:
    orders = bought(shop, 8)
    give_back(shop, orders[:3])
    postman = Postman(shop.app.url, shop.letters(seed=1))
    postman.wait_heard(5)
    shop.app.kill()
    shop.app.start()
    postman.join()
    assert 0 in postman.statuses  # some were cut off
    shop.settle(is_alone=True)
    assert states_of(orders) == {"fulfilled"}
