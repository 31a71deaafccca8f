"""What became of pages whose events were lost: looked up after an hour, each for itself."""

from __future__ import annotations

import pytest

from core import errors
from core.billing import checkout
from core.billing.checkout import pages
from core.billing.sales_tables import Order
from core.billing.stripe_api import StripeDown, StripeRefused
from core.billing.stripe_objects import CheckoutSession
from tests.billing.test_checkout import DOWN, age, click, page_of, place, rows_of, state_of
from tests.billing.till import Fault, Till
from tests.factories import Place

__all__ = ["place"]
pytestmark = pytest.mark.usefixtures("database")


def test_old_pages_are_looked_up_when_their_events_were_lost(till: Till, place: Place) -> None:
    paid, lapsed, young = click(place, "starter"), click(place), click(place)
    till.pay(page_of(paid))
    till.lapse(page_of(lapsed))
    till.pay(page_of(young))
    age(paid)
    age(lapsed)
    checkout.close_old()
    assert (state_of(paid), state_of(lapsed), state_of(young)) == ("fulfilled", "expired", "open")


def test_an_old_order_that_never_got_a_page_ends(till: Till, place: Place) -> None:
    till.faults.append(Fault("open_checkout", DOWN))
    with pytest.raises(errors.Unavailable):
        click(place)
    [order] = rows_of(Order, place)
    age(order)
    checkout.close_old()
    assert state_of(order) == "expired"


def test_old_pages_are_looked_up_the_oldest_first_to_the_last(
    till: Till, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "_ASKED_AT_ONCE", 2)
    old = [click(place) for _ in range(5)]
    for number, order in enumerate(old):
        till.lapse(page_of(order))
        age(order, hours=10 - number)
    asked: list[str] = []
    real = till.checkout_session

    def listening(session_id: str) -> CheckoutSession:
        asked.append(session_id)
        return real(session_id)

    till.checkout_session = listening  # type: ignore[method-assign]
    checkout.close_old()
    assert [one for one in asked if one in till.sessions] == [page_of(order) for order in old]
    assert {state_of(order) for order in old} == {"expired"}


@pytest.mark.parametrize("error", [StripeRefused("forbidden", status=403), errors.Conflict("no")])
def test_one_orders_trouble_does_not_keep_the_others_open(
    till: Till, place: Place, error: BaseException
) -> None:
    odd, lapsed = click(place), click(place)
    for number, order in enumerate((odd, lapsed)):
        till.lapse(page_of(order))
        age(order, hours=20 - number)
    till.faults.append(Fault("checkout_session", error))
    checkout.close_old()
    assert (state_of(odd), state_of(lapsed)) == ("open", "expired")
    checkout.close_old()
    assert state_of(odd) == "expired"


def test_a_stripe_that_is_away_ends_the_run(till: Till, place: Place) -> None:
    lapsed = click(place)
    till.lapse(page_of(lapsed))
    age(lapsed, hours=20)
    till.faults.append(Fault("checkout_session", DOWN))
    with pytest.raises(StripeDown):
        checkout.close_old()
    assert state_of(lapsed) == "open"


def test_a_press_on_a_page_stripe_does_not_tell_of_keeps_its_order(
    till: Till, place: Place
) -> None:
    order = click(place, key="k")
    age(order)
    till.faults.append(Fault("checkout_session", StripeRefused("forbidden", status=403)))
    with pytest.raises(errors.Unavailable):
        click(place, key="k")
    assert state_of(order) == "open"
