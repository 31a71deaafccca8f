"""Recovery: settles calls whose owner died, and books the truth about calls settled by estimate.

The reaper settles, it never just releases. Both passes may run in several processes at once: taking a
lease and booking a correction happen once.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy import select, update

from core import db, jobs, telemetry
from core.catalog.providers import Generation, Provider, ProviderUnreachable
from core.catalog.registry import connect
from core.catalog.tokens import guess_tokens
from core.chat import endings
from core.chat.runs import TurnIds
from core.chat.tables import Message, Turn
from core.db import System
from core.metering.tables import Call, Lookup
from core.money import billed_nusd, ceil_nusd
from core.quota import costs, gate
from core.quota.costs import Cost
from core.quota.gate import Settlement, TakenOver
from core.settings import Settings, current

BATCH = 200
_AT_ONCE = 8
_LATENCY_MAX_MS = 2**31 - 1
_NO_RECORD = "not ready"
_ASK_AGAIN_S = (1, 3, 10, 60, 600, 3_600)
# A provider that answers, and has no record after an hour, will not have one; one that does not answer
# gets a day. Then the estimate is final and what was kept for the truth comes back.
_NO_RECORD_PATIENCE_S = 3_600
_NO_ANSWER_PATIENCE_S = 86_400
REAPER = System("reaper")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the provider said about a generation: the record, or None with the reason."""

    generation: Generation | None
    error: str | None


def reap(settings: Settings) -> int:
    """Settle every open call whose lease has ended; returns how many."""
    with db.transaction(REAPER) as session:
        due = session.execute(
            select(Call.tenant_id, Call.call_id)
            .where(Call.state == "open", Call.lease_until < datetime.now(UTC))
            .order_by(Call.lease_until)
            .limit(BATCH)
        ).all()
    taken = [call for row in due if (call := gate.take_over(row.tenant_id, row.call_id))]
    asked = _ask(settings, [(t.call.provider, t.generation_id) for t in taken])
    for call, answer in zip(taken, asked, strict=True):
        _settle_abandoned(call, answer.generation)
    return len(taken)


def reconcile(settings: Settings, *, ignore_backoff: bool = False) -> int:
    """Ask the providers about calls that are not final, and make final what none of them told in time;
    returns how many became final."""
    with db.transaction(REAPER) as session:
        query = select(Lookup).order_by(Lookup.due_at).limit(BATCH)
        if not ignore_backoff:
            query = query.where(Lookup.due_at <= datetime.now(UTC))
        due = list(session.scalars(query))
    asked = _ask(settings, [(row.provider, row.generation_id) for row in due])
    final = 0
    for row, answer in zip(due, asked, strict=True):
        if answer.generation is not None:
            _correct(row.tenant_id, row.call_id, answer.generation)
            final += 1
        else:
            final += _give_up_or_ask_later(row, answer.error)
    return final


def _settle_abandoned(taken: TakenOver, generation: Generation | None) -> None:
    call = taken.call
    turn, text = _turn_of(call.tenant_id, call.call_id)
    delivered = max(taken.delivered_tokens, guess_tokens(text))
    known = call.keeps_generations and taken.generation_id is not None
    if generation is not None:
        cost = costs.of_generation(generation)
    elif delivered:
        cost = costs.of_guess(call.terms, call.prompt_tokens_guess, delivered, needs_lookup=known)
    else:
        cost = costs.of_nothing(needs_lookup=known)
    settlement = gate.settlement(
        call, cost, outcome="cut", gave_output=delivered > 0,
        latency_ms=_waited_ms(taken.opened_at),
        generation_id=taken.generation_id, model_served=generation.model if generation else None,
        actor="reaper",
    )  # fmt: skip
    endings.close(settlement, turn, None)
    telemetry.lease_losses_total.inc()
    log.warning(
        "reaper.settled", call_id=str(call.call_id), generation_known=generation is not None
    )


def _waited_ms(since: datetime) -> int:
    """How long ago that is, as far as the column can say: we may have been away for months."""
    return min(int((datetime.now(UTC) - since).total_seconds() * 1000), _LATENCY_MAX_MS)


def _turn_of(tenant_id: UUID, call_id: UUID) -> tuple[TurnIds | None, str]:
    """The turn of a chat call and the text saved so far; (None, '') for other calls."""
    with db.transaction(REAPER) as session:
        turn = session.scalar(
            select(Turn).where(Turn.tenant_id == tenant_id, Turn.call_id == call_id)
        )
        if turn is None:
            return None, ""
        answer = session.get(Message, (tenant_id, turn.conversation_id, turn.answer_id))
        ids = TurnIds(turn.turn_id, turn.conversation_id, turn.question_id, turn.answer_id)
        return ids, (answer.content + answer.reasoning) if answer else ""


def _correct(tenant_id: UUID, call_id: UUID, generation: Generation) -> None:
    with db.transaction(REAPER) as session:
        call = session.get_one(Call, call_id)
    cost: Cost = costs.of_generation(generation)
    gate.correct(
        Settlement(
            tenant_id=tenant_id, call_id=call_id, lease_token=call.lease_token,
            outcome=call.outcome or "cut", gave_output=True, prompt_tokens=cost.prompt_tokens,
            cached_tokens=cost.cached_tokens, cache_write_tokens=cost.cache_write_tokens,
            completion_tokens=cost.completion_tokens, reasoning_tokens=cost.reasoning_tokens,
            provider_cost_usd=str(cost.usd), list_nusd=ceil_nusd(cost.usd),
            billed_nusd=billed_nusd(cost.usd, call.markup), cost_source="provider", latency_ms=0,
            first_token_ms=None, generation_id=call.generation_id, model_served=generation.model,
            needs_lookup=False, actor="reconcile",
        )
    )  # fmt: skip


def _give_up_or_ask_later(row: Lookup, error: str | None) -> bool:
    """Whether the estimate is final now; else the attempt is noted, and when to ask again."""
    has_answered = error == _NO_RECORD
    patience_s = _NO_RECORD_PATIENCE_S if has_answered else _NO_ANSWER_PATIENCE_S
    if gate.give_up(row.tenant_id, row.call_id, patience_s=patience_s):
        log.warning("reconcile.given_up", call_id=str(row.call_id), error=error)
        if not has_answered:
            telemetry.alarm("generation_unknown", call_id=str(row.call_id), provider=row.provider)
        return True
    wait_s = _ASK_AGAIN_S[min(row.attempts, len(_ASK_AGAIN_S) - 1)]
    with db.transaction(REAPER) as session:
        session.execute(
            update(Lookup)
            .where(Lookup.tenant_id == row.tenant_id, Lookup.call_id == row.call_id)
            .values(
                attempts=Lookup.attempts + 1, last_error=error,
                due_at=datetime.now(UTC) + timedelta(seconds=wait_s),
            )
        )  # fmt: skip
    return False


def _ask(settings: Settings, wanted: list[tuple[str, str | None]]) -> list[_Asked]:
    """Ask the providers about generations, some at once; no transaction is open meanwhile."""
    if not any(generation_id for _, generation_id in wanted):
        return [_Asked(None, None) for _ in wanted]
    return asyncio.run(_ask_all(settings, wanted))


async def _ask_all(settings: Settings, wanted: list[tuple[str, str | None]]) -> list[_Asked]:
    clients = connect(settings)
    limit = asyncio.Semaphore(_AT_ONCE)

    async def one(provider: str, generation_id: str | None) -> _Asked:
        async with limit:
            return await _ask_one(clients.get(provider), generation_id)

    try:
        return await asyncio.gather(*(one(*pair) for pair in wanted))
    finally:
        for client in clients.values():
            await client.close()


async def _ask_one(client: Provider | None, generation_id: str | None) -> _Asked:
    if client is None or generation_id is None:
        return _Asked(None, "the provider is not configured" if generation_id else None)
    try:
        found = await client.generation(generation_id)
    except ProviderUnreachable as error:
        return _Asked(None, str(error)[:200])
    return _Asked(found, None if found else _NO_RECORD)


@jobs.periodic("* * * * * */5", "chat.reap")
def _reap() -> None:
    reap(current())


@jobs.periodic("* * * * * */5", "chat.reconcile")
def _reconcile() -> None:
    reconcile(current())
