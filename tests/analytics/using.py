"""Usage made through the gate for the tests of figures: only a call's clock is turned back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from sqlalchemy import text

from core import db
from core.identity import members, tenants
from core.identity.access import Principal, Role
from core.quota import gate, standing
from core.quota.costs import Cost
from core.quota.gate import Ask, OpenCall
from tests.factories import TESTS, Place, sum_up


def cost_of(usd: str, *, prompt: int = 100, answer: int = 50, lookup: bool = False) -> Cost:
    """A cost as the provider reports it (or, with `lookup`, as estimated until it does)."""
    source = "estimate" if lookup else "provider"
    return Cost(Decimal(usd), source, lookup, Decimal(usd), prompt, 0, 0, answer, 0)


def opened_at(call: OpenCall, at: datetime) -> None:
    """Turn the clock of an open call back, as if it had been admitted then."""
    with db.transaction(TESTS) as session:
        session.execute(
            text("update app.calls set opened_at = :at where call_id = :call"),
            {"at": at, "call": call.call_id},
        )


def use(
    who: Principal,
    model: str,
    usd: str = "0.01",
    *,
    days_ago: int = 0,
    at: datetime | None = None,
    cost: Cost | None = None,
    outcome: str = "ok",
    source: gate.Source = "chat",
    conversation_id: UUID | None = None,
    latency_ms: int = 1_500,
    first_token_ms: int | None = 200,
) -> OpenCall:
    """One settled call of a person."""
    call = gate.open_call(
        standing.of_member(who, model),
        Ask(
            source, "test", prompt_tokens_guess=100, max_tokens=1_000,
            conversation_id=conversation_id,
        ),
    )  # fmt: skip
    opened_at(call, at or datetime.now(UTC) - timedelta(days=days_ago))
    gate.close(
        gate.settlement(
            call, cost or cost_of(usd), outcome=outcome, gave_output=True,
            latency_ms=latency_ms, first_token_ms=first_token_ms, generation_id=f"gen-{call.call_id}",
        )
    )  # fmt: skip
    sum_up()
    return call


def correct(call: OpenCall, usd: str) -> None:
    """Book the true cost of a call that was settled by estimate."""
    gate.correct(gate.settlement(call, cost_of(usd), outcome="ok", gave_output=True, latency_ms=0))
    sum_up()


def colleague(place: Place, role: Role = Role.MEMBER, name: str = "Grace") -> Principal:
    """Another person of the same tenant."""
    user_id = add_person(place.tenant_id, role, name)
    return replace(place.who, user_id=user_id, role=role, name=name)


def add_person(tenant_id: UUID, role: Role, name: str) -> UUID:
    """A new member of a tenant."""
    with db.transaction(TESTS) as session:
        email = f"{db.new_id().hex}@example.com"
        user_id = tenants.create_user(session, TESTS, email, name=name)
        members.add(session, TESTS, tenant_id, user_id, role, confirmed=True)
    return user_id
