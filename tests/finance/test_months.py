"""The months as finance looks at them: what was used, what is closed, what came late, which files
are kept."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import text

from core import db, errors
from core.finance import months
from core.finance.months import State
from core.identity.access import Role
from core.periods import following_month
from tests.analytics.using import use
from tests.factories import TESTS, make_model, make_place
from tests.finance.books import (
    an_operator,
    close,
    keeper,
    last_month,
    listed,
    month_before,
    old_place,
    reopen,
    within,
)

pytestmark = pytest.mark.usefixtures("database")
USD = 10**9


def test_the_list_begins_with_the_first_use_and_ends_with_this_month() -> None:
    place, model = make_place(), make_model()
    first = month_before(last_month(place))
    use(place.who, model, "0.1", at=within(place, first))
    found = listed(place)
    assert list(found) == [following_month(last_month(place)), last_month(place), first]
    assert [row.ended for row in found.values()] == [False, True, True]
    assert (found[first].requests, found[first].tokens, found[first].billed_nusd) == (
        1, 150, USD // 10,
    )  # fmt: skip
    assert found[last_month(place)].billed_nusd == 0
    assert list(listed(make_place())) == [following_month(last_month(place))]


def test_the_files_of_a_closing_are_those_that_were_built_of_it() -> None:
    place = make_place()
    month = last_month(place)
    use(place.who, make_model(), at=within(place, month))
    closed = close(place, month)
    with db.transaction(TESTS) as session:
        for state, sha256, size, whose in (
            ("ready", "ab" * 32, 5, "true"), ("ready", "cd" * 32, 7, "false"),
            ("failed", None, None, "true"),
        ):  # fmt: skip
            session.execute(
                text(
                    "insert into app.export_files(tenant_id, file_id, closing_id, kind, format,"
                    " first_day, last_day, detail, state, rows_total, size_bytes, sha256, built_at)"
                    " values (:t, gen_random_uuid(), :c, 'usage', 'csv', :m, :m,"
                    " jsonb_build_object('operators', cast(:o as boolean)), :s, 1, :z, :h, now())"
                ),
                {"t": place.tenant_id, "c": closed.closing_id, "m": month, "s": state,
                 "z": size, "h": sha256, "o": whose},
            )  # fmt: skip
        (kept,) = months.files(session, TESTS, place.tenant_id, closed.closing_id)
    buyer = replace(place.who, role=Role.FINANCE)
    with db.transaction(buyer) as session:  # a team's people have files of their own
        (own,) = months.files(session, buyer, place.tenant_id, closed.closing_id)
    assert own.sha256 == "cd" * 32
    assert (kept.kind, kept.format, kept.rows, kept.size_bytes, kept.sha256) == (
        "usage", "csv", 1, 5, "ab" * 32,
    )  # fmt: skip
    reopen(place, month)
    with db.transaction(TESTS) as session:
        assert len(months.files(session, TESTS, place.tenant_id, closed.closing_id)) == 1


def test_operators_see_a_month_of_every_tenant() -> None:
    shut, idle, young, model = old_place(), old_place(), make_place(), make_model()
    month = last_month(shut)
    use(shut.who, model, "0.1", at=within(shut, month))
    close(shut, month)
    reopen(shut, month)
    closed = close(shut, month)
    operator = an_operator()
    with db.transaction(operator) as session:
        found = {row.tenant_id: row for row in months.of_all(session, operator, month)}
    ours = found[shut.tenant_id]
    assert (ours.name, ours.state, ours.closed_at) == (
        shut.who.tenant_name, State.CLOSED, closed.closed_at,
    )  # fmt: skip
    assert (ours.requests, ours.billed_nusd, ours.list_nusd) == (1, USD // 10, USD // 10)
    assert (found[idle.tenant_id].state, found[idle.tenant_id].billed_nusd) == (State.OPEN, 0)
    assert young.tenant_id not in found  # it was made this month
    reopen(shut, month)
    with db.transaction(operator) as session:
        (again,) = [
            row
            for row in months.of_all(session, operator, month)
            if row.tenant_id == shut.tenant_id
        ]
    assert (again.state, again.closed_at) == (State.REOPENED, None)
    who = keeper(shut)
    with pytest.raises(errors.Forbidden), db.transaction(who) as session:
        months.of_all(session, who, month)
