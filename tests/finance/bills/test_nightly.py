"""The night's reading through a provider that answers by script: kept and compared, or nothing at all."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from core import db, errors, settings, telemetry
from core.finance.bills import nightly
from core.settings import Settings
from tests.factories import TESTS, make_place
from tests.finance.bills.bill import (
    a_model,
    an_operator,
    file,
    line,
    past,
    today,
    upload,
    used,
)
from tests.upstream import Script, Upstream

pytestmark = pytest.mark.usefixtures("books")
YESTERDAY = today() - timedelta(days=1)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as up:
        yield up


@pytest.fixture(autouse=True)
def _nothing_known(books: object) -> None:
    with db.transaction(TESTS) as session:
        session.execute(text("delete from app.provider_bills"))
        session.execute(text("delete from app.bill_checks"))


def with_key(upstream: Upstream) -> Settings:
    return settings.current().model_copy(
        update={
            "openrouter_management_key": SecretStr("sk-or-management"),
            "openrouter_base_url": upstream.url,
        }
    )


def row(model: str, usd: str, day: date = YESTERDAY, requests: int = 1) -> dict[str, object]:
    return {"date": str(day), "model": model, "usage": Decimal(usd), "requests": requests}


def kept() -> list[tuple[date, str, Decimal, str]]:
    with db.transaction(TESTS) as session:
        rows = session.execute(
            text("select day, model, cost_usd, came_by from app.provider_bills order by 1, 2")
        )
        return [tuple(row) for row in rows]  # type: ignore[misc]


def causes_of(model: str) -> list[tuple[date, str]]:
    with db.transaction(TESTS) as session:
        rows = session.execute(
            text("select day, cause from app.bill_checks where model = :m order by 1"),
            {"m": model},
        )
        return [tuple(row) for row in rows]  # type: ignore[misc]


def test_every_day_the_provider_tells_is_kept_and_compared(upstream: Upstream) -> None:
    model = a_model("openrouter")
    place = make_place()
    used(place, model, "0.5", at=past(1))
    used(place, model, "0.25", at=past(4))
    upstream.list_activity(
        [row(model, "0.2"), row(model, "0.3"), row(model, "0.5", past(4).date()),
         row(model, "9", today())]
    )  # fmt: skip
    checks = nightly.run(with_key(upstream), TESTS)
    assert [check.day for check in checks] == [YESTERDAY - timedelta(days=n) for n in (3, 2, 1, 0)]
    assert kept() == [
        (past(4).date(), model, Decimal("0.5"), "activity"),
        (YESTERDAY, model, Decimal("0.5"), "activity"),
    ]
    assert causes_of(model) == [(past(4).date(), "unknown"), (YESTERDAY, "agrees")]
    assert len(upstream.requests) == 1


def test_a_model_that_vanished_from_the_bill_goes(upstream: Upstream) -> None:
    upstream.list_activity([row("a/a", "1"), row("b/b", "1")])
    nightly.run(with_key(upstream), TESTS)
    upstream.list_activity([row("b/b", "2")])
    nightly.run(with_key(upstream), TESTS)
    assert [(r[1], r[2]) for r in kept()] == [("b/b", Decimal(2))]
    assert causes_of("a/a") == []


def test_an_empty_answer_means_that_yesterday_cost_nothing(upstream: Upstream) -> None:
    model = a_model("openrouter")
    used(make_place(), model, "0.5", at=past(1))
    upstream.list_activity([row(model, "1", past(9).date())])
    nightly.run(with_key(upstream), TESTS)
    upstream.list_activity([])
    nightly.run(with_key(upstream), TESTS)
    assert [r[0] for r in kept()] == [past(9).date()]
    assert causes_of(model)[-1] == (YESTERDAY, "only_ours")


def test_a_day_that_only_a_file_told_of_stays(upstream: Upstream) -> None:
    upload(file(line("gen-only-a-file", "1", "up/loaded", past(2))))
    upstream.list_activity([row("a/a", "1", past(3).date())])
    nightly.run(with_key(upstream), TESTS)
    assert [(r[1], r[3]) for r in kept()] == [("a/a", "activity"), ("up/loaded", "upload")]
    upstream.list_activity([row("a/a", "1", past(2).date())])
    nightly.run(with_key(upstream), TESTS)
    assert [(r[0], r[1], r[3]) for r in kept()][-1] == (past(2).date(), "a/a", "activity")


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (("401 Unauthorized", b"{}"), "provider_unavailable"),
        (("429 Busy", b"{}"), "provider_overloaded"),
        (("500 Oops", b"{}"), "provider_error"),
        (("504 Late", b"{}"), "provider_timeout"),
        (("200 OK", b"<html>"), "provider_error"),
        (("200 OK", b'{"data": [{"date": "2026-11-18"}]}'), "provider_error"),
    ],
)
def test_without_a_usable_answer_nothing_changes_and_the_job_says_so(
    upstream: Upstream, script: tuple[str, bytes], code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.list_activity([row("a/a", "1")])
    nightly.run(with_key(upstream), TESTS)
    before = kept()
    status, body = script
    upstream.play_activity(Script(f"HTTP/1.1 {status}", (), (body,)))
    monkeypatch.setattr(nightly, "current", lambda: with_key(upstream))
    alarms = telemetry.alarms_total.labels(name="provider_bill_unread")._value
    counted = alarms.get()
    with pytest.raises(errors.Refusal) as refused:
        nightly._nightly()
    assert refused.value.code == code
    assert alarms.get() == counted + 1
    assert kept() == before


def test_without_a_key_the_job_asks_nobody(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = settings.current().model_copy(update={"openrouter_base_url": upstream.url})
    monkeypatch.setattr(nightly, "current", lambda: bare)
    nightly._nightly()
    assert upstream.requests == []
    with pytest.raises(errors.Unavailable, match="OPENROUTER_MANAGEMENT_KEY"):
        nightly.run(bare, TESTS)


def test_one_day_is_asked_for_alone(upstream: Upstream) -> None:
    model = a_model("openrouter")
    used(make_place(), model, "0.5", at=past(5))
    upstream.list_activity([row(model, "0.5", past(5).date()), row(model, "7")])
    found = nightly.run_day(with_key(upstream), an_operator(), past(5).date())
    assert [m.cause for m in found.models if m.model == model] == ["agrees"]
    assert upstream.requests[0].path.endswith(f"?date={past(5).date()}")
    assert [r[0] for r in kept()] == [past(5).date()]


def test_a_day_out_of_the_providers_reach_is_compared_with_what_was_read(
    upstream: Upstream,
) -> None:
    day = past(40).date()
    with pytest.raises(errors.NotFound, match="No bill"):
        nightly.run_day(with_key(upstream), TESTS, day)
    upload(f"date,model,cost\n{day},a/a,1\n")
    found = nightly.run_day(with_key(upstream), TESTS, day)
    assert (found.theirs_usd, found.differs) == (1, True)
    assert upstream.requests == []


def test_it_is_for_operators_alone(upstream: Upstream) -> None:
    who = make_place(role="admin").who
    with pytest.raises(errors.Forbidden):
        nightly.run(with_key(upstream), who)
    with pytest.raises(errors.Forbidden):
        nightly.run_day(with_key(upstream), who, YESTERDAY)
    assert upstream.requests == []
