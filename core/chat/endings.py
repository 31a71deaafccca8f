"""What is written of a running call: the text so far, the generation id, and once its end.

Synchronous; the engine calls it off its loop. It never decides whether a call ends.
"""

from __future__ import annotations

import orjson
from sqlalchemy import select

from core import db, telemetry
from core.catalog import pricing
from core.catalog.answers import Answer, Failure
from core.catalog.pricing import Terms
from core.catalog.tables import Model, Price
from core.chat import outcomes
from core.chat.runs import Run, Saved, TurnIds
from core.metering import calls
from core.metering.calls import LEASE_S, Beat
from core.quota import costs, gate
from core.quota.gate import OpenCall, Receipt, Settlement

_BEAT = "select alive, stop from verbs.beat_turn(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
_CLOSE = (
    "select * from verbs.close_turn(jsonb_populate_record(null::verbs.ending, %s),"
    " jsonb_populate_record(null::verbs.settlement, %s))"
)
_OURS_TO_MEND = {"provider_unavailable"}


def save_so_far(run: Run, *, with_text: bool) -> Beat:
    """The heartbeat of a running call, `with_text` with what came since the text was last saved.

    Only the new piece is read, guessed and sent: a long answer costs as much per character as a
    short one. The piece goes behind a stated position, so that saving it twice changes nothing.
    """
    call, turn, saved = run.call, run.turn, run.saved
    fresh = Answer(deltas=run.answer.deltas[saved.deltas :] if with_text else [])
    delivered = saved.tokens + fresh.delivered_tokens
    piece, thought = fresh.text, fresh.reasoning
    if turn is None or not with_text:
        beat = calls.beat(
            call.tenant_id, call.call_id, call.lease_token, delivered_tokens=delivered
        )
    else:
        row = db.current().call_again(
            _BEAT,
            (
                call.tenant_id, call.call_id, call.lease_token, LEASE_S, delivered, None,
                turn.conversation_id, turn.answer_id, saved.text_length, piece,
                saved.reasoning_length, thought,
            ),
        )  # fmt: skip
        beat = Beat(alive=bool(row and row["alive"]), stop=bool(row and row["stop"]))
    run.saved = Saved(
        deltas=saved.deltas + len(fresh.deltas), text_length=saved.text_length + len(piece),
        reasoning_length=saved.reasoning_length + len(thought), tokens=delivered,
    )  # fmt: skip
    return beat


def save_generation(run: Run, generation_id: str) -> Beat:
    """Commit the generation id as soon as it is known: with it, the truth can always be asked for."""
    call = run.call
    return calls.beat(call.tenant_id, call.call_id, call.lease_token, generation_id=generation_id)


def settle(run: Run) -> None:
    """Price the answer, save it, and settle the call; sets the run's settlement and receipt.

    A lease that was taken over books nothing here but the provider's own figure, as a correction.
    """
    if run.settlement is None:
        run.settlement = _settlement(run.call, run.answer)
    run.receipt = close(run.settlement, run.turn, run.answer)
    if run.receipt.code == "stale":
        telemetry.lease_losses_total.inc()
        if run.settlement.cost_source == "provider":
            run.receipt = gate.correct(run.settlement)
    _tell(run)


def close(settlement: Settlement, turn: TurnIds | None, answer: Answer | None) -> Receipt:
    """Settle a call; for a chat turn together with its answer. Without one the saved text stays."""
    if turn is None:
        return gate.close(settlement)
    ending = {
        "turn_id": turn.turn_id,
        "status": outcomes.message_status(answer) if answer else "interrupted",
        "content": answer.text if answer else None,
        "reasoning": answer.reasoning if answer else None,
        "failure_code": answer.failure.kind if answer and answer.failure else None,
        "extras": _extras(answer) if answer else None,
    }
    return gate.receipt_of(
        db.current().call_again(
            _CLOSE,
            (orjson.dumps(ending).decode(), gate.as_json(settlement)),
            tenant_id=settlement.tenant_id,
        )
    )


def mark_failed(answer: Answer) -> None:
    """An error of our own while streaming ends the answer as one of the provider's would."""
    answer.outcome = "error"
    answer.failure = answer.failure or Failure("provider_error", None, None, "internal")


def _settlement(call: OpenCall, answer: Answer) -> Settlement:
    cost = costs.of_answer(
        answer, _terms_served(call, answer), prompt_tokens_guess=call.prompt_tokens_guess,
        keeps_generations=call.keeps_generations,
    )  # fmt: skip
    return gate.settlement(
        call, cost, outcome="cut" if answer.outcome == "running" else answer.outcome,
        gave_output=answer.has_output, latency_ms=answer.latency_ms or 0,
        first_token_ms=answer.first_token_ms, generation_id=answer.generation_id,
        model_served=answer.model_served,
    )  # fmt: skip


def _terms_served(call: OpenCall, answer: Answer) -> Terms:
    """The price of the model that served, where it is not the one that was asked for."""
    served = answer.model_served
    priced_by_provider = answer.usage is not None and answer.usage.cost_usd is not None
    if served is None or served == call.model_id or priced_by_provider:
        return call.terms
    with db.transaction(db.Reader()) as session:
        terms = session.scalar(
            select(Price.terms)
            .join(Model, Model.price_id == Price.price_id)
            .where(Model.model_id == served)
        )
    try:
        return pricing.read_terms(terms) if terms else call.terms
    except pricing.PriceRefused:
        return call.terms


def _extras(answer: Answer) -> dict[str, list[object]] | None:
    """Pictures and citations of an answer, to keep beside its text."""
    kept: dict[str, list[object]] = {}
    for delta in answer.deltas:
        for name in ("images", "annotations"):
            pieces = (delta.extra or {}).get(name)
            if isinstance(pieces, list):
                kept.setdefault(name, []).extend(pieces)
    return kept or None


def _tell(run: Run) -> None:
    """Counters and alarms of a call that ended."""
    answer, call = run.answer, run.call
    telemetry.turns_total.labels(source=call.source, outcome=answer.outcome).inc()
    if answer.first_token_ms is not None:
        telemetry.first_token_seconds.observe(answer.first_token_ms / 1000)
    if run.receipt and run.receipt.generation_known:
        telemetry.alarm("generation_repeated", call_id=str(call.call_id), provider=call.provider)
    if answer.failure and answer.failure.kind in _OURS_TO_MEND:
        telemetry.alarm("provider_refuses_us", provider=call.provider, reason=answer.failure.reason)
