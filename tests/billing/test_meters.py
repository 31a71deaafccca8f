"""Postpaid use: collected once and exactly, sent once under whatever Stripe does, given up loudly."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, text, update

from core import db, errors, telemetry
from core.billing import ledger, meters, stripe_api
from core.billing.effects import Handled
from core.billing.ledger import BILLING
from core.billing.sales_tables import Subscription
from core.billing.stripe_api import StripeDown, StripeRefused
from core.billing.stripe_tables import MeterExport
from core.db import new_id
from core.quota import gate, standing
from core.quota.gate import Ask
from tests.billing.plans import a_customer, customer_id
from tests.billing.purchases import alarms, offences, spend
from tests.factories import Place, make_model
from tests.quota.test_gate import close, cost

pytestmark = pytest.mark.usefixtures("database")
HOUR = timedelta(hours=1)
_NUMBERS = itertools.count(1)


@dataclass
class Post:
    """A Stripe that counts what it takes once per identifier, and answers as it is told to."""

    taken: dict[str, tuple[str, int, datetime]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    ends: list[Exception | None] = field(default_factory=list)
    while_asked: Callable[[], object] | None = None

    def send_usage(
        self, *, event_name: str, identifier: str, customer_id: str, units: int, at: datetime
    ) -> None:
        self.asked.append(identifier)
        if self.while_asked is not None:
            self.while_asked()
        end = self.ends.pop(0) if self.ends else None
        if end is None or isinstance(end, Lost):
            self.taken.setdefault(identifier, (customer_id, units, at))
        if end is not None:
            raise end


class Lost(StripeDown):
    """It was taken, but the answer never came."""

    def __init__(self) -> None:
        super().__init__("could not be reached")


@pytest.fixture
def post(database: Any, monkeypatch: pytest.MonkeyPatch) -> Post:
    """The scripted Stripe, with an outbox in which nothing of other tests waits."""
    with db.transaction(BILLING) as session:
        session.execute(update(MeterExport).values(state="dead"))
    made = Post()
    monkeypatch.setattr(stripe_api, "_installed", made)
    return made


def a_user_on_account(*, started_h: int = 5) -> Place:
    """A postpaid tenant whose usage subscription runs since some hours."""
    place = a_customer(mode="postpaid", plan="enterprise")
    with db.transaction(BILLING) as session:
        now = session.execute(select(func.now())).scalar_one()
        started = now - started_h * HOUR
        session.add(
            Subscription(
                subscription_id=f"sub_use_{place.tenant_id.hex}", tenant_id=place.tenant_id,
                purpose="usage", status="active", item_id="si_1", price_id="price_1",
                period_start=started, period_end=started + timedelta(days=30), started_at=started,
            )
        )  # fmt: skip
    return place


def soon() -> datetime:
    """The end of the hour that runs now, as the next hourly run sees it."""
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + HOUR


def collect(place: Place, until: datetime | None = None) -> int:
    with db.transaction(BILLING) as session:
        return meters.collect(session, place.tenant_id, until=until or soon())


def rows(place: Place) -> list[MeterExport]:
    with db.transaction(BILLING) as session:
        mine = select(MeterExport).where(MeterExport.tenant_id == place.tenant_id)
        return list(session.scalars(mine.order_by(MeterExport.hour, MeterExport.revision)))


def an_export(place: Place, units: int, hour: datetime | None = None, revision: int = 1) -> None:
    with db.transaction(BILLING) as session:
        session.add(
            MeterExport(
                tenant_id=place.tenant_id, hour=hour or soon() - 2 * HOUR, revision=revision,
                units=units, through_seq=next(_NUMBERS), rest_nusd=0,
            )
        )  # fmt: skip


def due_now(place: Place) -> None:
    with db.transaction(BILLING) as session:
        session.execute(
            update(MeterExport)
            .where(MeterExport.tenant_id == place.tenant_id)
            .values(due_at=func.now())
        )


def change_subscription(place: Place, **values: Any) -> None:
    with db.transaction(BILLING) as session:
        session.execute(
            update(Subscription).where(Subscription.tenant_id == place.tenant_id).values(**values)
        )


def test_an_hours_use_is_exported_once_in_whole_units_and_the_rest_waits() -> None:
    place = a_user_on_account()
    spend(place, "0.000002999")
    spend(place, "0.000001500")
    assert collect(place) == 4
    assert collect(place) == 0
    spend(place, "0.000000501")
    assert collect(place) == 1
    exported = rows(place)
    assert [(row.units, row.revision) for row in exported] == [(4, 1), (1, 2)]
    assert {row.hour for row in exported} == {soon() - HOUR}
    assert offences(place.tenant_id) == []


def test_the_hour_that_still_runs_waits_for_its_end() -> None:
    place = a_user_on_account()
    spend(place, "0.001")
    assert collect(place, soon() - HOUR) == 0
    assert collect(place, soon()) == 1000


def test_what_lots_covered_is_not_billed() -> None:
    place = a_user_on_account()
    with db.transaction(BILLING) as session:
        from_credit = 2_000_000
        ledger.grant(
            session, place.tenant_id, from_credit, kind="promo", key="gift", actor="tests",
            reason="gift",
        )  # fmt: skip
    spend(place, "0.003")
    assert collect(place) == 1000


def test_what_is_given_back_lowers_the_next_hours_not_what_was_sent() -> None:
    place = a_user_on_account()
    asked = Ask("api", "test", prompt_tokens_guess=10, max_tokens=100)
    call = gate.open_call(standing.of_member(place.who, make_model()), asked)
    generation = f"gen-{new_id().hex}"
    close(call, cost("0.003", "estimate", needs_lookup=True), generation_id=generation)
    assert collect(place) == 3000
    gate.correct(
        gate.settlement(
            call, cost("0.002"), outcome="ok", gave_output=True, latency_ms=0,
            generation_id=generation,
        )
    )  # fmt: skip
    assert collect(place) == 0
    spend(place, "0.0015")
    assert collect(place) == 500


def test_two_collectors_export_the_same_use_once() -> None:
    place = a_user_on_account()
    spend(place, "0.002")
    start, found = threading.Barrier(6), []

    def work() -> None:
        start.wait()
        found.append(collect(place))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [0, 0, 0, 0, 0, 2000]
    assert [row.units for row in rows(place)] == [2000]


def test_the_hourly_run_collects_for_postpaid_tenants_that_are_subscribed(post: Post) -> None:
    place, prepaid = a_user_on_account(), a_customer(credit_usd=1)
    spend(place, "0.001")
    spend(prepaid, "0.001")
    meters.collect_all()
    assert rows(prepaid) == []
    assert sum(row.units for row in rows(place)) in {0, 1000}  # nothing of the hour that runs


def test_one_tenant_whose_use_cannot_be_summed_up_holds_up_no_other(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = sorted((a_user_on_account() for _ in range(2)), key=lambda place: place.tenant_id)
    before, summed = alarms("meter_not_collected"), []

    def sum_up(_session: object, tenant_id: object, *, until: datetime) -> int:
        if tenant_id == places[0].tenant_id:
            raise errors.Unavailable("too slow")
        summed.append(tenant_id)
        return 0

    monkeypatch.setattr(meters, "collect", sum_up)
    meters.collect_all()
    assert places[1].tenant_id in summed
    assert alarms("meter_not_collected") == before + 1


def test_use_is_sent_oldest_first_with_an_identifier_and_a_time_of_its_hour(post: Post) -> None:
    place, hour = a_user_on_account(), soon() - 3 * HOUR
    an_export(place, 7, hour + HOUR)
    an_export(place, 5, hour, 2)
    an_export(place, 3, hour, 1)
    assert meters.send() == 3
    stem = f"{place.tenant_id}:purser_usage"
    assert post.asked == [
        f"{stem}:{hour:%Y%m%d%H}:1", f"{stem}:{hour:%Y%m%d%H}:2",
        f"{stem}:{hour + HOUR:%Y%m%d%H}:1",
    ]  # fmt: skip
    assert post.taken[post.asked[0]] == (customer_id(place), 3, hour + timedelta(seconds=3599))
    assert {row.state for row in rows(place)} == {"sent"}
    assert meters.send() == 0


def test_a_lost_answer_is_repeated_under_the_same_identifier_and_counts_once(post: Post) -> None:
    place = a_user_on_account()
    an_export(place, 9)
    post.ends = [Lost(), Lost()]
    assert meters.send() == 0
    assert meters.send() == 0  # not due yet
    assert [row.state for row in rows(place)] == ["waiting"] and len(post.asked) == 1
    for _ in range(2):
        due_now(place)
        meters.send()
    assert [row.state for row in rows(place)] == ["sent"]
    assert len(post.asked) == 3 and len(post.taken) == 1
    assert rows(place)[0].attempts == 0


def test_a_sender_that_died_is_followed_by_another_after_its_lease(post: Post) -> None:
    place = a_user_on_account()
    an_export(place, 9)
    post.ends = [KeyboardInterrupt()]  # type: ignore[list-item] - the process is killed
    with pytest.raises(KeyboardInterrupt):
        meters.send()
    assert meters.send() == 0
    due_now(place)
    assert meters.send() == 1


def test_one_tenants_rows_are_sent_one_at_a_time_however_many_send(post: Post) -> None:
    place, other = a_user_on_account(), a_user_on_account()
    an_export(place, 1, soon() - 3 * HOUR)
    an_export(place, 2, soon() - 2 * HOUR)
    an_export(other, 3)
    inside: list[str] = []

    def second_sender() -> None:
        if not inside:
            inside.append(post.asked[-1])
            meters.send()

    post.while_asked = second_sender
    assert meters.send() == 2
    first_tenant = inside[0].split(":")[0]
    assert [name.split(":")[0] == first_tenant for name in post.asked][:2] == [True, False]
    assert len(post.asked) == len(set(post.asked)) == 3


def test_stripe_being_down_stops_the_run_and_costs_no_attempt(post: Post) -> None:
    places = [a_user_on_account(), a_user_on_account()]
    for place in places:
        an_export(place, 1)
    post.ends = [StripeDown("is busy")]
    assert meters.send() == 0 and len(post.asked) == 1
    assert [row.attempts for place in places for row in rows(place)] == [0, 0]


def test_a_refusal_waits_longer_each_time_and_is_given_up_at_last(post: Post) -> None:
    place, healthy, before = a_user_on_account(), a_user_on_account(), alarms("meter_export_dead")
    an_export(place, 1)
    post.ends = [StripeRefused("meter_event_invalid_value") for _ in range(20)]
    waits = []
    for _ in range(20):
        meters.send()
        row = rows(place)[0]
        waits.append((row.due_at - datetime.now(UTC)) // timedelta(seconds=60))
        due_now(place)
    an_export(healthy, 4)
    assert meters.send() == 1
    row = rows(place)[0]
    assert (row.state, row.attempts, row.error) == ("dead", 20, "meter_event_invalid_value")
    assert waits[:4] == sorted(waits[:4]) and waits[0] < waits[3] <= 60
    assert alarms("meter_export_dead") == before + 1


@pytest.mark.parametrize(
    "refusal",
    [StripeRefused("duplicate_meter_event"), StripeRefused("resource_already_exists"),
     StripeRefused("invalid_request_error", param="identifier")],
)  # fmt: skip
def test_what_stripe_had_taken_before_is_sent(post: Post, refusal: StripeRefused) -> None:
    place = a_user_on_account()
    an_export(place, 1)
    post.ends = [refusal]
    assert meters.send() == 1 and rows(place)[0].state == "sent"


def test_what_is_too_old_for_stripe_is_given_up_with_an_alarm(post: Post) -> None:
    place, before = a_user_on_account(), alarms("meter_export_dead")
    an_export(place, 1, soon() - timedelta(days=35))
    an_export(place, 2, soon() - timedelta(days=33))
    assert meters.send() == 1
    assert [row.state for row in rows(place)] == ["dead", "sent"]
    assert alarms("meter_export_dead") == before + 1


def test_use_of_a_period_that_was_billed_counts_in_the_present_one(post: Post) -> None:
    place = a_user_on_account()
    begun = soon() - HOUR
    change_subscription(place, period_start=begun)
    an_export(place, 1, soon() - 3 * HOUR)
    post.ends = [StripeRefused("idempotency_error")]
    meters.send()
    times = [at for _, _, at in post.taken.values()]
    assert times == [soon() - 2 * HOUR - timedelta(seconds=1)] and len(post.asked) == 2
    an_export(place, 1, soon() - 2 * HOUR)
    meters.send()
    assert [at for _, _, at in post.taken.values()][-1] == begun


def test_a_tenant_without_a_customer_is_refused_not_forgotten(post: Post) -> None:
    place = a_user_on_account()
    with db.transaction(BILLING) as session:
        session.execute(
            text("update app.stripe_customers set deleted_at = now() where tenant_id = :t"),
            {"t": place.tenant_id},
        )
    an_export(place, 1)
    assert meters.send() == 0
    assert rows(place)[0].error == "no_customer" and post.asked == []


def test_lag_is_measured_and_raises_an_alarm_after_a_day(post: Post) -> None:
    place, before = a_user_on_account(), alarms("meter_lag")
    an_export(place, 1, soon() - timedelta(hours=20))
    meters.collect_all()
    assert alarms("meter_lag") == before
    an_export(place, 1, soon() - timedelta(hours=40))
    meters.collect_all()
    assert alarms("meter_lag") == before + 1
    post.ends = [errors.Unavailable("down")]
    meters.send()
    lag_s = telemetry.registry.get_sample_value("purser_meter_lag_seconds") or 0
    assert 38 * 3600 <= lag_s <= 40 * 3600
    meters.send()
    assert telemetry.registry.get_sample_value("purser_meter_lag_seconds") is not None


def test_nothing_is_claimed_where_nothing_is_sold(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = a_user_on_account()
    an_export(place, 1)
    monkeypatch.setattr(stripe_api, "_installed", None)
    before = rows(place)[0].due_at
    assert meters.send() == 0 and rows(place)[0].due_at == before


def test_an_error_report_tells_an_operator() -> None:
    before = alarms("meter_error_report")
    with db.transaction(BILLING) as session:
        effect = meters.on_error_report(session, {"id": "mtr_1", "type": "billing.meter"})
    assert effect == Handled("operators were told") and alarms("meter_error_report") == before + 1
