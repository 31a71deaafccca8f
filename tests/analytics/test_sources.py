"""core/analytics/sources.py: the smallest table that can answer, and nothing written into a statement."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from sqlalchemy import text

from core import db
from core.analytics import figures, sources
from core.analytics.scope import Scope
from core.analytics.selection import Grain, Group, Selection, Slot
from core.periods import Period
from tests.analytics.using import use
from tests.factories import TESTS, make_model, make_place

pytestmark = pytest.mark.usefixtures("database")
MARCH = Selection(Period(date(2026, 3, 1), date(2026, 3, 31)))
ALL = Scope(None, None, sees_list_cost=True)


@pytest.mark.parametrize(
    ("asked", "groups", "table"),
    [
        (MARCH, set(), "usage_daily_models"),
        (MARCH.only(Group.MODEL, "a"), {Group.TENANT, Group.SOURCE}, "usage_daily_models"),
        (MARCH.only(Group.USER, db.new_id()), set(), "usage_daily"),
        (MARCH, {Group.USER}, "usage_daily"),
        (MARCH, {Group.PROVIDER}, "usage_events"),
        (MARCH.only(Group.KEY, None), set(), "usage_events"),
        (MARCH.in_slot(Slot(0, 1)), set(), "usage_events"),
        (MARCH.at_hour(datetime(2026, 3, 1, 5)), {Group.MODEL}, "usage_events"),  # noqa: DTZ001
    ],
)
def test_the_smallest_table_that_can_answer_is_read(
    asked: Selection, groups: set[Group], table: str
) -> None:
    with db.transaction(TESTS) as session:
        assert sources.pick(session, ALL, asked, groups).relation.startswith(f"app.{table} u")


def test_a_member_is_not_answered_from_a_table_without_persons() -> None:
    place = make_place()
    own = Scope((place.tenant_id,), place.user_id, sees_list_cost=False)
    with db.transaction(place.who) as session:
        assert sources.pick(session, own, MARCH).relation == "app.usage_daily u"


def test_values_are_bound_and_never_part_of_a_statement() -> None:
    place = make_place(role="admin")
    use(place.who, make_model())
    poison = "x'; drop table app.usage_events; --"
    with db.transaction(place.who) as session:
        for group in (Group.MODEL, Group.PROVIDER, Group.PURPOSE, Group.COST_CENTER, Group.PROJECT):
            asked = MARCH.only(group, poison, ":zone", "%(x)s", "{day}")
            source = sources.events(
                session, Scope((place.tenant_id,), None, sees_list_cost=False), asked
            )
            assert poison not in source.rows
            assert figures.totals(session, place.who, asked).requests == 0


def test_tenants_whose_time_is_cut_alike_need_no_join() -> None:
    first, second = make_place(), make_place()
    third = make_place(time_zone="Asia/Kathmandu")
    alike = Scope((first.tenant_id, second.tenant_id), None, sees_list_cost=True)
    mixed = Scope((first.tenant_id, third.tenant_id), None, sees_list_cost=True)
    with db.transaction(TESTS) as session:
        assert "join" not in sources.events(session, alike, MARCH).relation
        assert "join" in sources.events(session, mixed, MARCH).relation


@pytest.mark.parametrize("zones", [("UTC", "UTC"), ("Pacific/Niue", "Pacific/Kiritimati")])
def test_only_the_months_of_the_period_are_read(zones: tuple[str, str]) -> None:
    """The plan names the partitions: those of the month, and of a neighbour where zones reach over."""
    today = datetime.now(UTC).date()
    asked = Selection(Period(today.replace(day=10), today.replace(day=12)))
    places = [make_place(time_zone=zone) for zone in zones]
    scope = Scope(tuple(place.tenant_id for place in places), None, sees_list_cost=True)
    with db.transaction(TESTS) as session:
        source = sources.events(session, scope, asked)
        plan = session.scalars(
            text(
                f"explain select {source.bucket(Grain.DAY)}, {source.sums} {source.rows} group by 1"
            ),
            source.bound,
        ).all()
    read = {word for line in plan for word in line.split() if word.startswith("usage_events_")}
    assert {word for word in read if word[13:17].isdigit() and word.count("_") == 3} == {
        f"usage_events_{today:%Y_%m}"
    }


def test_every_question_is_planned_for_itself_and_nothing_of_that_outlives_the_transaction() -> (
    None
):
    query = text("select current_setting('plan_cache_mode')")
    for find in (sources.pick, sources.events):
        with db.transaction(TESTS) as session:
            find(session, ALL, MARCH)
            assert session.scalar(query) == "force_custom_plan"
        with db.transaction(TESTS) as session:
            assert session.scalar(query) == "auto"
