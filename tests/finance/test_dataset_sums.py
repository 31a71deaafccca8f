"""Every export of a period comes to the same, to the last digit, in the days of each tenant's zone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import text

from core import db
from core.billing import statement
from core.billing.statement import StatementAsk
from core.db import Database, new_id
from core.identity import zones
from core.identity.access import Operator, Role
from core.identity.tables import ZoneChange
from core.identity.zones import Calendar
from core.money import to_usd
from core.periods import Period
from tests.analytics.using import colleague, correct, cost_of, use
from tests.billing.books import bought, set_times
from tests.factories import TESTS, Place, make_model, make_place
from tests.finance.rows import JULY, change, close_july, ever_since, export, read, total

OPERATOR = Operator(new_id(), "op@example.com", "Op")
EVENTS = ("usage", "daily", "chargeback", "focus")
COSTS = {
    "billed_cost_usd": "BilledCost", "list_cost_usd": "x_ProviderCost", "markup_usd": "x_Markup",
    "requests": "x_Requests", "prompt_tokens": "x_PromptTokens",
    "completion_tokens": "x_CompletionTokens",
}  # fmt: skip
FIRST, LAST = date(2026, 6, 28), date(2026, 8, 4)
AROUND = Period(FIRST, LAST)


def an_admin(zone: str = "UTC", *, markup: str = "0") -> Place:
    return make_place(role="admin", time_zone=zone, markup=markup)


def calendar_of(place: Place) -> Calendar:
    with db.transaction(TESTS) as session:
        return zones.calendar_of(session, place.tenant_id)


def change_zone(place: Place, zone: str) -> None:
    """Another zone from August on."""
    span = zones.next_change(calendar_of(place), zone, datetime(2026, 7, 10, tzinfo=UTC))
    with db.transaction(TESTS) as session:
        session.add(
            ZoneChange(
                tenant_id=place.tenant_id, starts_on=span.starts_on, starts_at=span.starts_at,
                time_zone=zone,
            )
        )  # fmt: skip


def use_around_the_clock(place: Place) -> None:
    """A call in every sixth hour of a week before and after the end of July, each of another cost."""
    model, other = make_model(), make_model()
    friend = colleague(place)
    moment, n = datetime(2026, 7, 30, 0, 30, tzinfo=UTC), 1
    while moment < datetime(2026, 8, 3, tzinfo=UTC):
        use((place.who, friend)[n % 2], (model, other)[n % 3 == 0], f"0.00{n:04}", at=moment)
        moment, n = moment + timedelta(hours=6), n + 1


@pytest.fixture(scope="module")
def around(database: Database) -> tuple[Place, ...]:
    """Tenants of the ends of the world, and two that change from one to the other."""
    db.install(database)
    found = tuple(
        an_admin(zone, markup="0.1")
        for zone in ("UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Asia/Kathmandu") * 2
    )[:6]
    change_zone(found[4], "Pacific/Kiritimati")
    change_zone(found[5], "Pacific/Pago_Pago")
    for place in found:
        use_around_the_clock(place)
    return found


def sums(kind: str, period: Period, place: Place | None) -> dict[str, Decimal]:
    rows = read(OPERATOR, kind, period, place.tenant_id if place else None)
    found = {}
    for name, focus in COSTS.items():
        if name == "requests" and kind == "usage":
            found[name] = Decimal(sum(row["kind"] == "call" for row in rows))
        else:
            found[name] = total(rows, focus if kind == "focus" else name)
    return found


def test_every_export_of_events_comes_to_the_same(around: tuple[Place, ...]) -> None:
    for place in around:
        calendar = calendar_of(place)
        periods = [Period(day, day + timedelta(days=more))
                   for day in Period(date(2026, 7, 29), date(2026, 8, 3)).each_day()
                   for more in (0, 2)]  # fmt: skip
        events = read(OPERATOR, "usage", AROUND, place.tenant_id)
        assert len(events) == 16
        for period in periods:
            inside = [
                row for row in events
                if period.first <= calendar.day_of(row["occurred_at"]) <= period.last
            ]  # fmt: skip
            expected = total(inside)
            for kind in EVENTS:
                found = sums(kind, period, place)
                assert found == sums("usage", period, place), kind
                assert found["billed_cost_usd"] == expected, kind
                assert found["requests"] == len(inside), kind


def test_the_day_is_the_tenants(around: tuple[Place, ...]) -> None:
    days = set()
    for place in around:
        calendar = calendar_of(place)
        for who, tenant in ((place.who, None), (OPERATOR, place.tenant_id), (OPERATOR, None)):
            rows = [row for row in read(who, "usage", AROUND, tenant)
                    if row["tenant_id"] == str(place.tenant_id)]  # fmt: skip
            assert [row["day"] for row in rows] == [
                calendar.day_of(row["occurred_at"]) for row in rows
            ]
            days.add(tuple(row["day"] for row in rows))
    assert len(days) == len(around)  # no two of these calendars agree


def test_times_are_written_in_the_tenants_zone_and_for_all_in_utc(
    around: tuple[Place, ...],
) -> None:
    kiritimati, changed = around[1], around[4]
    august = Period(date(2026, 8, 1), date(2026, 8, 2))
    assert export(kiritimati.who, "usage", JULY).zone == "Pacific/Kiritimati"
    assert export(changed.who, "usage", JULY).zone == "UTC"
    assert export(changed.who, "usage", august).zone == "Pacific/Kiritimati"
    assert export(kiritimati.who, "focus", JULY).zone == "UTC"
    assert export(OPERATOR, "usage", JULY).zone == "UTC"


@pytest.mark.parametrize("kind", EVENTS)
def test_all_tenants_come_to_the_sum_of_tenants(kind: str, around: tuple[Place, ...]) -> None:
    period = Period(date(2026, 7, 31), date(2026, 8, 1))
    with db.transaction(TESTS) as session:
        tenants = list(zones.calendars(session))
    rows = [read(OPERATOR, kind, period, tenant) for tenant in tenants]
    everything = read(OPERATOR, kind, period)
    assert sorted(map(repr, (row for some in rows for row in some))) == sorted(
        map(repr, everything)
    )
    assert len(everything) >= len(around)


def ledger_total(place: Place) -> Decimal:
    with db.transaction(TESTS) as session:
        return to_usd(
            session.execute(
                text("select coalesce(-sum(amount_nusd), 0) from app.entries"
                     " where tenant_id = :t and kind in ('capture', 'adjust')"),
                {"t": place.tenant_id},
            ).scalar_one()
        )  # fmt: skip


def test_usage_comes_to_what_the_wallet_paid() -> None:
    place = an_admin(markup="0.15")
    model = make_model()
    for n in range(1, 8):
        use(place.who, model, f"0.01234567{n}")
    guessed = use(place.who, model, cost=cost_of("0.03", lookup=True))
    correct(guessed, "0.0200001")
    always = ever_since(date(2026, 1, 1))
    used = [row for row in read(place.who, "statement", always)
            if row["kind"] in ("capture", "adjust")]  # fmt: skip
    assert -total(used, "amount_usd") == ledger_total(place) > 0
    for kind in EVENTS:
        assert sums(kind, always, place)["billed_cost_usd"] == ledger_total(place), kind


def test_a_correction_of_a_closed_month_is_in_the_month_it_came() -> None:
    place, model = an_admin(), make_model()
    guessed = use(
        place.who, model, at=datetime(2026, 7, 9, tzinfo=UTC), cost=cost_of("0.5", lookup=True)
    )
    before = {kind: read(place.who, kind, JULY) for kind in EVENTS}
    close_july(place.tenant_id)
    correct(guessed, "0.4")
    since = ever_since(date(2026, 8, 1))
    for kind in EVENTS:
        assert read(place.who, kind, JULY) == before[kind], kind
        assert sums(kind, JULY, place)["billed_cost_usd"] == Decimal("0.5"), kind
        assert sums(kind, since, place)["billed_cost_usd"] == Decimal("-0.1"), kind
        assert sums(kind, since, place)["requests"] == 0, kind
    (late,) = read(place.who, "usage", since)
    assert (late["kind"], late["adjusts_call_id"]) == ("adjustment", str(guessed.call_id))


def test_chargeback_has_a_row_for_each_centre_project_and_model_and_for_none() -> None:
    place, first, second = an_admin(), make_model(), make_model()
    moment = datetime(2026, 7, 9, tzinfo=UTC)
    use(place.who, first, "0.1", at=moment)
    for centre, project in (("Lab", None), ("Lab", "Moon"), ("Ünit", "Moon")):
        change(
            "update app.tenants set cost_center = :c, project = :p where tenant_id = :t",
            c=centre, p=project, t=place.tenant_id,
        )  # fmt: skip
        use(place.who, first, "0.2", at=moment)
        use(colleague(place), first, "0.3", at=moment)
        use(place.who, second, "0.4", at=moment)
    rows = read(place.who, "chargeback", JULY)
    found = [(row["cost_center"], row["project"], row["model"]) for row in rows]
    models = sorted((first, second))
    assert found == [
        *(("Lab", "Moon", model) for model in models), *(("Lab", None, model) for model in models),
        *(("Ünit", "Moon", model) for model in models), (None, None, first),
    ]  # fmt: skip
    of_first = [row for row in rows if row["model"] == first]
    assert [row["billed_cost_usd"] for row in of_first] == [
        Decimal(cost) for cost in ("0.5", "0.5", "0.5", "0.1")
    ]
    assert [row["requests"] for row in of_first] == [2, 2, 2, 1]


def test_names_are_those_of_the_time_of_the_call() -> None:
    place, model = an_admin(), make_model()
    moment = datetime(2026, 7, 9, tzinfo=UTC)
    use(place.who, model, "0.1", at=moment)
    before = read(place.who, "usage", JULY)
    with db.transaction(TESTS) as session:
        made = session.execute(
            text("insert into app.labels(tenant_id, label_id, subject_id, name)"
                 " values (:t, :l, :t, 'Later Ltd') returning label_id"),
            {"t": place.tenant_id, "l": new_id()},
        ).scalar_one()  # fmt: skip
        session.execute(
            text("update app.tenants set name = 'Later Ltd', label_id = :l where tenant_id = :t"),
            {"t": place.tenant_id, "l": made},
        )
    assert read(place.who, "usage", JULY) == before
    assert before[0]["tenant_name"] == place.who.tenant_name
    assert before[0]["user_email"] == place.who.email
    assert read(place.who, "focus", JULY)[0]["BillingAccountName"] == place.who.tenant_name


@pytest.fixture
def wallet(database: Database, database_url: str) -> Callable[[Period], None]:
    """A check of a period of a wallet against the Billing page's statement of the same days."""
    place = an_admin("Europe/Berlin")
    bought(place)
    model = make_model()
    for n in range(12):
        use(place.who, model, f"0.{n + 1:02}")
    guessed = use(place.who, model, cost=cost_of("0.05", lookup=True))
    correct(guessed, "0.01")
    always = ever_since(date(2026, 1, 1))
    count = len(read(place.who, "statement", always))
    midnight = datetime(2026, 3, 28, 23, tzinfo=UTC)  # the clocks change on the 29th
    times = [midnight + timedelta(hours=7 * (n - 5)) for n in range(count)]
    # Two that waited for the lock over midnight: their place is later, their time is earlier.
    times[4], times[5] = midnight + timedelta(seconds=3), midnight - timedelta(seconds=3)
    set_times(database_url, place.tenant_id, times)

    def check(period: Period) -> None:
        with db.transaction(place.who) as session:
            asked = StatementAsk(period.first, period.last, limit=100)
            page = statement.read(session, place.who, asked)
        rows = read(place.who, "statement", period)
        assert [row["line"] for row in rows] == [line.seq for line in reversed(page.lines)]
        assert total(rows, "amount_usd") == to_usd(page.movements_nusd)
        if rows:
            opening = rows[0]["balance_after_usd"] - rows[0]["amount_usd"]
            assert opening == to_usd(page.opening_nusd)
            assert rows[-1]["balance_after_usd"] == to_usd(page.closing_nusd)
        assert rows == read(OPERATOR, "statement", period, place.tenant_id)

    return check


def test_the_statement_is_that_of_the_billing_page(wallet: Callable[[Period], None]) -> None:
    days = Period(date(2026, 3, 25), date(2026, 4, 2)).each_day()
    for first in days:
        for last in days:
            if first <= last:
                wallet(Period(first, last))


def test_a_movement_says_what_is_behind_it() -> None:
    place, model = an_admin(), make_model()
    order = bought(place)
    use(place.who, model, "0.1")
    finance = colleague(place, Role.FINANCE)
    rows = read(finance, "statement", ever_since(date(2026, 1, 1)))
    used = next(row for row in rows if row["kind"] == "capture")
    assert (used["movement"], used["model"], used["source"]) == ("Usage", model, "chat")
    assert used["user_email"] == place.who.email
    assert used["amount_usd"] == Decimal("-0.1")
    credit = next(row for row in rows if row["order_id"] == str(order.order_id))
    assert (credit["movement"], credit["order_title"]) == ("Credit added", "Pro")
    assert credit["credit_kind"] == "purchase"
