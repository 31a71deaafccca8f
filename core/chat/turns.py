"""A chat turn: start it, follow its answer, stop it. The engine answers and alone ends it.

Starting stores the question and passes the gate in one statement; a refusal stores nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from uuid import UUID

import orjson
from sqlalchemy import func, select

from core import crypto, db, errors
from core.catalog.prompt_bounds import bound_request
from core.catalog.providers import ChatRequest
from core.chat import conversations, engine, prompt
from core.chat.prompt import Prompt
from core.chat.runs import Run, TurnIds
from core.chat.tables import Conversation, Message, Turn
from core.db import new_id
from core.identity.access import Principal
from core.metering import calls
from core.quota import gate, refusals, standing
from core.quota.admissions import Admission
from core.quota.gate import Ask, OpenCall
from core.quota.standing import Standing

QUESTION_LENGTH_MAX = 100_000
_OPEN = (
    "select * from verbs.open_turn(jsonb_populate_record(null::verbs.opening, %s),"
    " jsonb_populate_record(null::verbs.admission, %s))"
)
_POLL_S = 0.2
_IN_CONVERSATION = (Conversation.tenant_id == Message.tenant_id) & (
    Conversation.conversation_id == Message.conversation_id
)


@dataclass(frozen=True, slots=True)
class Live:
    """A turn as its followers know it."""

    turn_id: UUID
    call_id: UUID
    conversation_id: UUID
    answer_id: UUID


@dataclass(frozen=True, slots=True)
class _Opening:
    """The first argument of verbs.open_turn, field by field."""

    turn_id: UUID
    conversation_id: UUID
    is_new: bool
    title: str
    question_id: UUID
    question: str | None
    parent_id: UUID | None
    answer_id: UUID
    left_out: int


def start(
    who: Principal,
    text: str,
    *,
    model_id: str,
    offered: frozenset[str],
    conversation_id: UUID | None = None,
    question_id: UUID | None = None,
) -> Live:
    """Ask `text` at the shown end of a conversation (None: a new one). Raises errors.Refusal.

    `question_id`, made by the caller, makes a repeated send return the first turn.
    """
    question = _clean(text)
    engine.current().refuse_when_draining()
    asker = standing.of_member(who, model_id)
    standing.require_model(asker, offered=offered)
    history: list[Message] = []
    if conversation_id is not None:
        with db.transaction(who) as session:
            row = conversations.find(session, who, conversation_id)
            history = conversations.path_to(session, who, conversation_id, row.leaf_id)
    built = _build(asker, history, question)
    opening = _Opening(
        turn_id=new_id(), conversation_id=conversation_id or new_id(),
        is_new=conversation_id is None, title=_title_of(question),
        question_id=question_id or new_id(), question=question,
        parent_id=history[-1].message_id if history else None, answer_id=new_id(),
        left_out=built.left_out,
    )  # fmt: skip
    return _open(who, asker, opening, built)


def regenerate(
    who: Principal,
    conversation_id: UUID,
    answer_id: UUID,
    *,
    model_id: str,
    offered: frozenset[str],
) -> Live:
    """Answer the question of `answer_id` anew, as another branch. Raises errors.Refusal."""
    engine.current().refuse_when_draining()
    asker = standing.of_member(who, model_id)
    standing.require_model(asker, offered=offered)
    with db.transaction(who) as session:
        answer = conversations.message_in(session, who, conversation_id, answer_id)
        if answer.parent_id is None:
            raise errors.NotFound("There is no such answer.")
        question = conversations.message_in(session, who, conversation_id, answer.parent_id)
        history = conversations.path_to(session, who, conversation_id, question.parent_id)
    built = _build(asker, history, question.content)
    opening = _Opening(
        turn_id=new_id(), conversation_id=conversation_id, is_new=False, title="",
        question_id=question.message_id, question=None, parent_id=None, answer_id=new_id(),
        left_out=built.left_out,
    )  # fmt: skip
    return _open(who, asker, opening, built)


def running(who: Principal, conversation_id: UUID) -> Live | None:
    """The turn being answered in a conversation of the person's, in whatever process."""
    mine = (Conversation.tenant_id == Turn.tenant_id) & (
        Conversation.conversation_id == Turn.conversation_id
    )
    with db.transaction(who) as session:
        row = session.scalar(
            select(Turn)
            .join(Conversation, mine)
            .where(
                Turn.tenant_id == who.tenant_id,
                Turn.conversation_id == conversation_id,
                Turn.status == "running",
                Conversation.user_id == who.user_id,
            )
        )
    return _live(row) if row else None


def follow(
    who: Principal, live: Live, *, tick: Callable[[], object] = lambda: None, gap_s: float = 0.1
) -> Iterator[str]:
    """The text of the person's answer from its beginning and then what is new, until its turn has
    ended; nothing of anybody else's.

    Leaving early changes nothing for the turn. `tick` is called while nothing comes.
    """
    if (run := _own_run(who, live)) is not None:
        yield from run.text(gap_s=gap_s, tick=tick)
    else:
        yield from _follow_row(who, live, tick)


def stop(who: Principal, live: Live) -> None:
    """Stop an answer of the person's: at once where this process runs it, else with the next
    heartbeat of whoever does. Anybody else's goes on."""
    if _own_run(who, live) is not None:
        engine.current().stop(live.call_id)
    calls.ask_stop(who.tenant_id, who.user_id, live.call_id)


def delete_conversation(who: Principal, conversation_id: UUID) -> None:
    """Delete a conversation for good; an answer still running there is stopped and settled."""
    with db.transaction(who) as session:
        call_id = conversations.remove(session, who, conversation_id)
    if call_id is not None:
        if engine.running(call_id) is not None:
            engine.current().stop(call_id)
        calls.ask_stop(who.tenant_id, who.user_id, call_id)


def _open(who: Principal, asker: Standing, opening: _Opening, built: Prompt) -> Live:
    ask = Ask(
        source="chat", purpose="chat", prompt_tokens_guess=built.tokens_guess,
        prompt_tokens_bound=bound_request(built.messages),
        conversation_id=opening.conversation_id,
    )  # fmt: skip
    admission = gate.prepare(asker, ask)
    arguments = (orjson.dumps(opening).decode(), gate.as_json(admission))
    row = engine.current().admit_from_thread(
        who.tenant_id, db.current().call_again, _OPEN, arguments, tenant_id=who.tenant_id
    )
    verdict = row or {}
    first = verdict.get("first_turn_id")
    if first is not None and first != opening.turn_id and verdict["code"] == "ok":
        return _find(who, first)  # the same question, sent twice
    if verdict.get("code") != "ok" and first != opening.turn_id:
        raise _refusal(verdict, admission, asker)
    call = gate.opened(asker, admission)
    ids = TurnIds(opening.turn_id, opening.conversation_id, opening.question_id, opening.answer_id)
    engine.current().submit(Run(call, _request(call, built, opening.conversation_id), ids))
    return Live(ids.turn_id, call.call_id, ids.conversation_id, ids.answer_id)


def _refusal(verdict: dict[str, object], admission: Admission, asker: Standing) -> errors.Refusal:
    if verdict.get("code") == "missing":
        return errors.NotFound("There is no such conversation.")
    if verdict.get("code") == "busy":
        return errors.Conflict("An answer is still being written in this conversation.")
    return refusals.of_verdict(verdict, admission, asker)


def _request(call: OpenCall, built: Prompt, conversation_id: UUID) -> ChatRequest:
    return ChatRequest(
        model=call.model_id, messages=built.messages,
        end_user=crypto.end_user_hash(call.tenant_id, call.user_id), fields={},
        session_id=str(conversation_id),
    )  # fmt: skip


def _build(asker: Standing, history: list[Message], question: str) -> Prompt:
    window = asker.context_tokens or 0
    answer = min(asker.answer_tokens_default or 0, asker.output_tokens_max or 2**31 - 1)
    built = prompt.build(history, question, window_tokens=window, answer_tokens=answer)
    if built.tokens_guess > window:
        raise errors.BadInput(
            f"This message is longer than {asker.model_id} can read ({window:,} tokens).",
            param="text",
        )
    return built


def _clean(text: str) -> str:
    cleaned = text.replace("\x00", "").encode("utf-8", "replace").decode().strip()
    if not cleaned:
        raise errors.BadInput("Please write a message first.", param="text")
    if len(cleaned) > QUESTION_LENGTH_MAX:
        raise errors.BadInput(
            f"The message has {len(cleaned):,} characters; {QUESTION_LENGTH_MAX:,} are possible.",
            param="text",
        )
    return cleaned


def _title_of(question: str) -> str:
    line = " ".join(question.split())
    if len(line) <= conversations.TITLE_LENGTH_MAX:
        return line
    return line[: conversations.TITLE_LENGTH_MAX - 1].rsplit(" ", 1)[0] + "…"


def _find(who: Principal, turn_id: UUID) -> Live:
    with db.transaction(who) as session:
        row = session.get(Turn, (who.tenant_id, turn_id))
    if row is None:
        raise errors.NotFound("There is no such turn.")
    return _live(row)


def _live(row: Turn) -> Live:
    return Live(row.turn_id, row.call_id, row.conversation_id, row.answer_id)


def _own_run(who: Principal, live: Live) -> Run | None:
    """The run of the person's answer in this process, if it runs here."""
    run = engine.running(live.call_id)
    if run is None or (run.call.tenant_id, run.call.user_id) != (who.tenant_id, who.user_id):
        return None
    return run


def _follow_row(who: Principal, live: Live, tick: Callable[[], object]) -> Iterator[str]:
    """Follow a turn of another process by the text it saves."""
    position = 0
    while True:
        with db.transaction(who) as session:
            row = session.execute(
                select(Message.status, func.substr(Message.content, position + 1).label("fresh"))
                .join(Conversation, _IN_CONVERSATION)
                .where(
                    Message.tenant_id == who.tenant_id,
                    Message.conversation_id == live.conversation_id,
                    Message.message_id == live.answer_id,
                    Conversation.user_id == who.user_id,
                )
            ).one_or_none()
        if row is not None and row.fresh:
            yield row.fresh
            position += len(row.fresh)
        if row is None or row.status != "running":
            return
        tick()
        time.sleep(_POLL_S)
