"""Rebuilding the daily sums: what settlement kept, made anew, also while calls settle."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from sqlalchemy import text

from core import db, invariants
from core.metering import rollups
from core.quota import gate
from tests.factories import TESTS, Place, make_model, make_place, sum_up
from tests.quota.test_gate import close, cost, open_call

pytestmark = pytest.mark.usefixtures("database")


def a_used_place(**terms: str) -> Place:
    """A tenant with settled, failed, estimated and corrected calls of two models."""
    place = make_place(**terms)
    first, second = make_model(), make_model()
    for model in (first, second, second):
        close(open_call(place, model), cost("0.001"))
    close(open_call(place, first), cost("0"), gave_output=False)
    guessed = open_call(place, first)
    close(guessed, cost("0.002", "estimate", needs_lookup=True), generation_id=str(guessed.call_id))
    gate.correct(
        gate.settlement(
            guessed, cost("0.003"), outcome="ok", gave_output=True, latency_ms=1,
            model_served=second,
        )
    )  # fmt: skip
    sum_up()
    return place


def sums(tenant_id: UUID) -> list[tuple[object, ...]]:
    """The sums, once nothing is pending."""
    sum_up()
    with db.transaction(TESTS) as session:
        rows = session.execute(
            text("select * from app.usage_daily where tenant_id = :t order by model, day"),
            {"t": tenant_id},
        )
        return [tuple(row) for row in rows]


def offences(tenant_id: UUID) -> list[str]:
    with db.transaction(TESTS) as session:
        rows = session.connection().exec_driver_sql(invariants.queries()["usage_daily"])
        return [row[0] for row in rows if str(tenant_id) in row[0]]


def change(statement: str, tenant_id: UUID) -> None:
    with db.transaction(TESTS) as session:
        session.execute(text(statement), {"t": tenant_id})


def rebuild(tenant_id: UUID | None = None) -> int:
    with db.transaction(TESTS) as session:
        return rollups.rebuild(session, tenant_id)


@pytest.mark.parametrize("time_zone", ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_a_rebuild_gives_what_settlement_kept(time_zone: str) -> None:
    place = a_used_place(time_zone=time_zone)
    kept = sums(place.tenant_id)
    assert len(kept) == 2
    assert rebuild(place.tenant_id) == 2
    assert sums(place.tenant_id) == kept
    assert rebuild(place.tenant_id) == 2
    assert sums(place.tenant_id) == kept


def test_a_rebuild_repairs_lost_changed_and_invented_sums() -> None:
    place = a_used_place()
    kept = sums(place.tenant_id)
    change("update app.usage_daily set billed_nusd = billed_nusd + 1 where tenant_id = :t",
           place.tenant_id)  # fmt: skip
    change("update app.usage_daily set day = day - 7 where tenant_id = :t", place.tenant_id)
    assert offences(place.tenant_id)
    rebuild(place.tenant_id)
    assert sums(place.tenant_id) == kept
    change("delete from app.usage_daily where tenant_id = :t", place.tenant_id)
    rebuild(place.tenant_id)
    assert sums(place.tenant_id) == kept


def test_a_rebuild_of_one_tenant_leaves_the_others_alone() -> None:
    place, other = a_used_place(), a_used_place()
    change("update app.usage_daily set requests = 99 where tenant_id = :t", other.tenant_id)
    rebuild(place.tenant_id)
    assert {row[5] for row in sums(other.tenant_id)} == {99}
    rebuild()
    assert offences(other.tenant_id) == []


def test_settlements_meanwhile_are_not_lost() -> None:
    place, model = make_place(), make_model()
    calls = [open_call(place, model) for _ in range(24)]
    with ThreadPoolExecutor(4) as pool:
        settled = [pool.submit(close, call, cost("0.001")) for call in calls]
        rebuilt = [pool.submit(rebuild, place.tenant_id) for _ in range(6)]
        assert [future.result().code for future in settled] == ["ok"] * 24
        assert all(future.exception() is None for future in rebuilt)
    assert offences(place.tenant_id) == []
    assert sums(place.tenant_id)[0][5] == 24
