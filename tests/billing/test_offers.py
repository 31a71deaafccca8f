"""What is for sale: edited by operators, known to Stripe, unchanged for those who bought before."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select, text

from core import db, errors
from core.billing import offers, stripe_api
from core.billing.ledger import BILLING
from core.billing.sales_tables import OfferPrice, Package
from core.billing.stripe_api import StripeDown, StripeRefused
from core.db import new_id
from core.identity.tables import Plan
from core.money import NANO_PER_USD
from tests.billing.till import Fault, Till
from tests.factories import TESTS, make_place

pytestmark = pytest.mark.usefixtures("database")
USD = NANO_PER_USD
TERMS: dict[str, Any] = {"title": "Big", "price_minor": 4000, "credits_nusd": 40 * USD}


@pytest.fixture
def code() -> Iterator[str]:
    """The code of a package that only this test sells."""
    made = f"p{new_id().hex[-10:]}"
    yield made
    with db.transaction(TESTS) as session:
        session.execute(
            text("update app.packages set active = false where package_code = :c"), {"c": made}
        )


def set_package(code: str, **more: Any) -> Package:
    with db.transaction(TESTS) as session:
        return offers.set_package(session, TESTS, code, **(TERMS | more))


def current(code: str, kind: str = "package") -> OfferPrice | None:
    with db.transaction(BILLING) as session:
        return offers.price_for(session, kind, code)


def versions(code: str) -> list[OfferPrice]:
    with db.transaction(BILLING) as session:
        query = select(OfferPrice).where(OfferPrice.code == code).order_by(OfferPrice.created_at)
        return list(session.scalars(query))


def jobs_waiting() -> int:
    with db.transaction(TESTS) as session:
        return session.execute(
            text("select count(*) from jobs.procrastinate_jobs where task_name = 'billing.mirror'")
        ).scalar_one()


# What is for sale


def test_the_packages_and_plans_of_the_start_are_for_sale(database: object) -> None:
    with db.transaction(make_place().who) as session:
        packages = {row.package_code: row for row in offers.packages(session)}
        plans = {row.plan: row for row in offers.plans(session)}
    assert [packages[code].price_minor for code in ("starter", "pro", "enterprise")] == [
        1000, 5000, 20_000,
    ]  # fmt: skip
    assert [packages[code].bonus_nusd // USD for code in ("starter", "pro", "enterprise")] == [
        0, 5, 30,
    ]  # fmt: skip
    assert [(plans[p].price_minor, plans[p].allowance_nusd // USD) for p in plans] == [
        (0, 0), (1500, 15), (7900, 85), (39_900, 450),
    ]  # fmt: skip


def test_value_per_dollar_counts_the_bonus(database: object) -> None:
    with db.transaction(TESTS) as session:
        found = {row.package_code: offers.value_per_usd(row) for row in offers.packages(session)}
    assert (found["starter"], found["pro"], found["enterprise"]) == (
        Decimal(1), Decimal("1.1"), Decimal("1.15"),
    )  # fmt: skip


def test_a_package_taken_off_is_not_for_sale(code: str) -> None:
    set_package(code, active=False)
    with db.transaction(TESTS) as session:
        assert code not in {row.package_code for row in offers.packages(session)}
        assert code in {row.package_code for row in offers.packages(session, every=True)}
        with pytest.raises(errors.NotFound):
            offers.package(session, code)


# Editing


def test_a_change_is_audited_with_before_and_after_and_mirrored_later(code: str) -> None:
    before = jobs_waiting()
    set_package(code, features=["One", "Two"], badge="New")
    set_package(code, price_minor=4500)
    with db.transaction(TESTS) as session:
        rows = session.execute(
            text("select before, after from app.audit_log where object = :o order by audit_id"),
            {"o": f"package:{code}"},
        ).all()
    assert rows[0].before is None
    assert rows[0].after["features"] == ["One", "Two"]
    assert (rows[1].before["price_minor"], rows[1].after["price_minor"]) == (4000, 4500)
    assert jobs_waiting() == before + 2


def test_a_change_that_is_rolled_back_is_not_mirrored(code: str) -> None:
    before = jobs_waiting()
    with db.transaction(TESTS) as session:
        offers.set_package(session, TESTS, code, **TERMS)
        session.rollback()
    assert jobs_waiting() == before


@pytest.mark.parametrize(
    "wrong",
    [
        {"price_minor": 0}, {"price_minor": 49}, {"price_minor": 100_000_000},
        {"price_minor": 1000.5}, {"credits_nusd": 0}, {"credits_nusd": -1}, {"bonus_nusd": -1},
        {"credits_nusd": 10**17}, {"expires_after_days": 0}, {"bonus_expires_after_days": 4000},
        {"title": " "}, {"title": "x" * 81}, {"badge": "x" * 31}, {"features": ["x" * 121]},
        {"features": ["a"] * 11}, {"features": [""]}, {"rank": -1}, {"title": "a\nb"},
    ],
)  # fmt: skip
def test_terms_that_make_no_sense_are_refused(code: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(errors.BadInput):
        set_package(code, **wrong)


@pytest.mark.parametrize("code", ["", "A", "a b", "a/b", "1a", "x" * 41])
def test_a_code_that_stripe_could_not_bear_is_refused(code: str) -> None:
    with pytest.raises(errors.BadInput):
        set_package(code)


def test_only_operators_edit_offers(code: str) -> None:
    place = make_place(role="admin")
    with db.transaction(place.who) as session, pytest.raises(errors.Forbidden):
        offers.set_package(session, place.who, code, **TERMS)
    with db.transaction(place.who) as session, pytest.raises(errors.Forbidden):
        offers.set_plan_offer(session, place.who, "pro", price_minor=100, allowance_nusd=USD)


@pytest.fixture
def plan() -> str:
    """A plan that only this test sells, not yet offered."""
    name = f"plan{new_id().hex[-10:]}"
    with db.transaction(TESTS) as session:
        session.add(Plan(plan=name, title="Extra", rank=900))
    return name


def set_plan(plan: str, **more: Any) -> offers.PlanForSale:
    terms: dict[str, Any] = {"price_minor": 3000, "allowance_nusd": 33 * USD} | more
    with db.transaction(TESTS) as session:
        return offers.set_plan_offer(session, TESTS, plan, **terms)


def test_a_plan_is_offered_changed_and_taken_off(plan: str) -> None:
    made = set_plan(plan, badge="Best", features=["A"])
    assert (made.title, made.rank, made.price_minor, made.badge) == ("Extra", 900, 3000, "Best")
    set_plan(plan, active=False)
    with db.transaction(TESTS) as session, pytest.raises(errors.NotFound):
        offers.plan(session, plan)


@pytest.mark.parametrize(
    "wrong",
    [{"price_minor": 0}, {"price_minor": 10}, {"allowance_nusd": -1}, {"grace_days": -1}],
)
def test_plan_terms_that_make_no_sense_are_refused(plan: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(errors.BadInput):
        set_plan(plan, **wrong)


def test_a_plan_that_does_not_exist_cannot_be_offered(database: object) -> None:
    with pytest.raises(errors.NotFound):
        set_plan("no_such_plan")


# At Stripe


def test_mirroring_makes_one_price_per_paid_offer(till: Till, code: str, plan: str) -> None:
    set_package(code)
    set_plan(plan)
    offers.mirror()
    price = current(code)
    assert price is not None
    assert (price.price_minor, price.credits_nusd) == (4000, 40 * USD)
    monthly = current(plan, "plan")
    assert monthly is not None
    assert monthly.credits_nusd == 33 * USD
    assert "purser_plan_free" not in till.prices
    calls = till.calls["mirror_price"]
    offers.mirror()
    assert till.calls["mirror_price"] == calls
    set_plan(plan, active=False)


def test_a_new_price_takes_over_and_the_old_terms_stay_known(till: Till, code: str) -> None:
    set_package(code)
    offers.mirror()
    set_package(code, price_minor=4500)
    offers.mirror()
    old, new = versions(code)
    assert (old.current, old.price_minor, new.current, new.price_minor) == (False, 4000, True, 4500)
    with db.transaction(BILLING) as session:
        assert offers.of_price(session, old.price_id) is not None


def test_other_credit_for_the_same_amount_is_another_price(till: Till, code: str) -> None:
    set_package(code)
    offers.mirror()
    set_package(code, credits_nusd=44 * USD)
    offers.mirror()
    old, new = versions(code)
    assert old.price_id != new.price_id
    assert (old.credits_nusd, new.credits_nusd) == (40 * USD, 44 * USD)
    assert [row.current for row in (old, new)] == [False, True]


def test_terms_that_come_back_sell_at_a_price_of_their_own_terms(till: Till, code: str) -> None:
    for price_minor in (4000, 4500, 4000):
        set_package(code, price_minor=price_minor)
        offers.mirror()
    price = current(code)
    assert price is not None
    assert price.price_minor == 4000
    assert [row.current for row in versions(code)].count(True) == 1


def test_parallel_mirrors_leave_one_current_price(till: Till, code: str) -> None:
    set_package(code)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: offers.sellable("package", code), range(6)))
    assert [row.current for row in versions(code)].count(True) == 1
    assert len(till.prices[f"purser_package_{code}"]) == 1


def test_a_price_is_made_on_demand(till: Till, code: str) -> None:
    set_package(code)
    made = offers.sellable("package", code)
    assert made.price_id == till.prices[f"purser_package_{code}"][-1][0]
    assert offers.sellable("package", code).price_id == made.price_id
    assert till.calls["mirror_price"] == 1


def test_stripe_away_leaves_the_offer_to_the_next_run(till: Till, code: str) -> None:
    set_package(code)
    with db.transaction(TESTS) as session:
        session.execute(text("update app.offer_prices set current = current"))
    till.faults.append(Fault("mirror_price", StripeDown("did not answer"), "after"))
    with pytest.raises(StripeDown):
        offers.sellable("package", code)
    offers.sellable("package", code)
    assert len(till.prices[f"purser_package_{code}"]) == len(versions(code)) == 1


def test_a_price_stripe_refuses_is_not_for_sale_now(till: Till, code: str) -> None:
    set_package(code)
    till.faults.append(Fault("mirror_price", StripeRefused("parameter_invalid", status=400)))
    with pytest.raises(errors.Unavailable):
        offers.sellable("package", code)
    assert offers.sellable("package", code).current


def test_without_stripe_nothing_is_mirrored(code: str) -> None:
    set_package(code)
    assert not stripe_api.configured()
    offers.mirror()
    assert versions(code) == []
