"""What the tests of bills need: calls of a past UTC day, files, and the books' answers."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import count
from uuid import UUID

from sqlalchemy import text

from core import db
from core.catalog.tables import Provider
from core.db import new_id
from core.finance.bills import comparison, received
from core.finance.bills.causes import ModelCheck
from core.finance.bills.comparison import DayCheck
from core.finance.bills.received import Uploaded
from core.finance.bills.rows import DayRow
from core.identity.access import Operator
from core.quota import gate, standing
from core.quota.costs import Cost
from core.quota.gate import OpenCall
from tests.factories import TESTS, Place, make_model
from tests.identity.people import a_user
from tests.quota.test_gate import ask

HEAD = "generation_id,created_at,cost_total,tokens_prompt,tokens_completion,model_permaslug"
_numbers = count(1)


def today() -> date:
    return datetime.now(UTC).date()


def past(days: int = 2, hour: int = 12) -> datetime:
    """A moment on a UTC day that is over."""
    day = today() - timedelta(days=days)
    return datetime(day.year, day.month, day.day, hour, tzinfo=UTC)


def an_operator() -> Operator:
    return Operator(a_user(), "op@example.com", "Op")


def a_provider() -> str:
    """A provider of one test, so that its days hold nobody else's calls."""
    name = f"provider-{next(_numbers)}"
    with db.transaction(TESTS) as session:
        session.add(Provider(provider=name, title=name, sends_cost=True, keeps_generations=True))
    return name


def a_model(provider: str, name: str | None = None) -> str:
    return make_model(provider=provider, model_id=name or f"test/{new_id().hex[-8:]}")


def opened(place: Place, model: str, at: datetime) -> OpenCall:
    """An open call of that moment, counted in the month it was opened in."""
    call = gate.open_call(standing.of_member(place.who, model), ask())
    with db.transaction(TESTS) as session:
        for statement in _TURN_BACK:
            session.execute(text(statement), {"call": call.call_id, "at": at})
    return call


# The call's clock, and its month: what it holds is counted there.
_TURN_BACK = (
    """
    insert into app.counters(tenant_id, subject_id, period, scope, messages, tokens_held, held_nusd)
    select c.tenant_id, k.subject_id, verbs.month_of(c.tenant_id, :at), k.scope, 1, c.tokens_held,
      c.hold_nusd
    from app.calls c join app.counters k on k.tenant_id = c.tenant_id and k.period = c.period
      and k.subject_id in (c.user_id, c.tenant_id)
    where c.call_id = :call
    on conflict (tenant_id, subject_id, period) do update set
      messages = counters.messages + 1, tokens_held = counters.tokens_held + excluded.tokens_held,
      held_nusd = counters.held_nusd + excluded.held_nusd
    """,
    """
    update app.counters k set messages = k.messages - 1, tokens_held = k.tokens_held - c.tokens_held,
      held_nusd = k.held_nusd - c.hold_nusd
    from app.calls c
    where c.call_id = :call and k.tenant_id = c.tenant_id and k.period = c.period
      and k.subject_id in (c.user_id, c.tenant_id)
    """,
    """
    update app.calls set opened_at = :at, period = verbs.month_of(tenant_id, :at),
      deadline_at = cast(:at as timestamptz) + interval '10 minutes' where call_id = :call
    """,
)


def settle(
    call: OpenCall, usd: str | None, *, generation: str | None = None, source: str = "provider",
    served: str | None = None, lookup: bool = False,
) -> OpenCall:  # fmt: skip
    """End a call at a cost; None: it ended before anything was known of it."""
    amount = Decimal(usd or 0)
    told = amount if source == "provider" and usd is not None else None
    tokens = (0, 0) if usd is None else (100, 50)
    spent = Cost(amount, source, lookup, told, tokens[0], 0, 0, tokens[1], 0)  # type: ignore[arg-type]
    gate.close(
        gate.settlement(
            call, spent, outcome="ok" if usd else "error", gave_output=usd is not None,
            latency_ms=5, generation_id=generation, model_served=served,
        )
    )  # fmt: skip
    return call


def used(place: Place, model: str, usd: str | None, **named: object) -> OpenCall:
    """One settled call, two days ago unless `at` says otherwise; it has a generation of its own."""
    at = named.pop("at", past())
    named.setdefault("generation", f"gen-{new_id().hex}")
    return settle(opened(place, model, at), usd, **named)  # type: ignore[arg-type]


def bill(provider: str, model: str, usd: str, requests: int = 1, day: date | None = None) -> None:
    """Let the provider's bill of a day name one more model."""
    row = DayRow(day or past().date(), model, requests, 150, Decimal(usd))
    with db.transaction(TESTS) as session:
        received._add(session, provider, [row], "activity")


def compare(provider: str, day: date | None = None) -> DayCheck:
    with db.transaction(TESTS) as session:
        return comparison.compare(session, provider, day or past().date())


def only(found: DayCheck) -> ModelCheck:
    (model,) = found.models
    return model


def upload(content: str | bytes, who: Operator | None = None, **named: str) -> Uploaded:
    """Upload a file as an operator does."""
    data = content.encode() if isinstance(content, str) else content
    who = who or an_operator()
    with db.transaction(who) as session:
        return received.upload(session, who, io.BytesIO(data), **named)


def line(
    generation: str, usd: str, model: str, at: datetime | None = None, tokens: str = "100,50"
) -> str:
    return f"{generation},{at or past():%Y-%m-%d %H:%M:%S.000},{usd},{tokens},{model}"


def file(*lines: str) -> str:
    return "\n".join((HEAD, *lines)) + "\n"


def booked(tenant_id: UUID) -> tuple[int, int]:
    """All that a tenant's events list and bill."""
    with db.transaction(TESTS) as session:
        row = session.execute(
            text(
                "select coalesce(sum(list_nusd), 0)::bigint, coalesce(sum(billed_nusd), 0)::bigint"
                " from app.usage_events where tenant_id = :tenant"
            ),
            {"tenant": tenant_id},
        ).one()
    return row[0], row[1]


def states() -> dict[str, str]:
    """The state of every kept line."""
    with db.transaction(TESTS) as session:
        rows = session.execute(text("select generation_id, state from app.bill_lines"))
        return {row.generation_id: row.state for row in rows}
