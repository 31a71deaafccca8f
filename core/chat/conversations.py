"""A person's conversations: list, read, rename, delete. Somebody else's look like missing ones.

Starting and regenerating answers is in turns.py. Deleting empties a conversation for good; what it
cost stays in the books.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import delete, select, text, update
from sqlalchemy.orm import Session

from core import clock, errors
from core.chat.tables import Conversation, Message, Turn
from core.identity.access import Principal
from core.metering.charges import Charge, is_final
from core.metering.tables import UsageEvent

TITLE_LENGTH_MAX = 80


@dataclass(frozen=True, slots=True)
class Shown:
    """A message as people see it, with what its answer cost. Costs are None while not settled."""

    message_id: UUID
    parent_id: UUID | None
    role: str
    status: str
    content: str
    reasoning: str
    model_id: str | None
    failure_code: str | None
    left_out: int
    extras: dict[str, list[object]] | None
    turn_id: UUID | None
    siblings: tuple[UUID, ...]
    billed_nusd: int | None
    tokens: int | None
    latency_ms: int | None
    final: bool

    @property
    def charge(self) -> Charge:
        """What the answer is charged, as booked."""
        return Charge(self.billed_nusd, self.final)


def listing(
    session: Session, who: Principal, *, search: str = "", limit: int = 200
) -> list[Conversation]:
    """The person's conversations, newest first, with `search` in the title."""
    query = select(Conversation).where(
        Conversation.tenant_id == who.tenant_id,
        Conversation.user_id == who.user_id,
        Conversation.deleted_at.is_(None),
    )
    if search:
        query = query.where(Conversation.title.icontains(search[:200], autoescape=True))
    newest = query.order_by(Conversation.updated_at.desc(), Conversation.conversation_id.desc())
    return list(session.scalars(newest.limit(limit)))


def find(
    session: Session, who: Principal, conversation_id: UUID, *, for_update: bool = False
) -> Conversation:
    """One of the person's conversations. Raises errors.NotFound for missing and foreign ones alike."""
    row = session.get(
        Conversation, (who.tenant_id, conversation_id), with_for_update=for_update or None
    )
    if row is None or row.user_id != who.user_id or row.deleted_at is not None:
        raise errors.NotFound("There is no such conversation.")
    return row


def rename(session: Session, who: Principal, conversation_id: UUID, title: str) -> None:
    """Give a conversation another title (1 to 80 characters)."""
    cleaned = " ".join(title.replace("\x00", "").split())[:TITLE_LENGTH_MAX]
    if not cleaned:
        raise errors.BadInput("A title needs at least one character.", param="title")
    find(session, who, conversation_id).title = cleaned


def remove(session: Session, who: Principal, conversation_id: UUID) -> UUID | None:
    """Delete a conversation's text for good. Returns the call of a running answer, to be stopped."""
    row = find(session, who, conversation_id, for_update=True)
    running = session.scalar(
        select(Turn.call_id).where(
            Turn.tenant_id == who.tenant_id,
            Turn.conversation_id == conversation_id,
            Turn.status == "running",
        )
    )
    session.execute(
        delete(Message).where(
            Message.tenant_id == who.tenant_id, Message.conversation_id == conversation_id
        )
    )
    row.title, row.leaf_id, row.deleted_at = "", None, clock.now()
    return running


def branch(session: Session, who: Principal, conversation_id: UUID) -> list[Shown]:
    """The messages from the first to the shown leaf, oldest first, each answer with its cost."""
    row = find(session, who, conversation_id)
    messages = _all_messages(session, who, conversation_id)
    children: dict[UUID | None, list[UUID]] = {}
    for message in messages.values():
        children.setdefault(message.parent_id, []).append(message.message_id)
    costs = _costs(session, who, conversation_id)
    path = path_to(messages, row.leaf_id)
    return [_shown(message, children, costs) for message in path]


def show_branch(session: Session, who: Principal, conversation_id: UUID, message_id: UUID) -> None:
    """Make the branch through `message_id` the shown one, following newest answers to its leaf."""
    row = find(session, who, conversation_id)
    messages = _all_messages(session, who, conversation_id)
    if message_id not in messages:
        raise errors.NotFound("There is no such message.")
    leaf = message_id
    while newer := [m.message_id for m in messages.values() if m.parent_id == leaf]:
        leaf = max(newer)
    session.execute(
        update(Conversation)
        .where(
            Conversation.tenant_id == who.tenant_id,
            Conversation.conversation_id == row.conversation_id,
        )
        .values(leaf_id=leaf)
    )


def path_to(messages: dict[UUID, Message], leaf_id: UUID | None) -> list[Message]:
    """The messages from the root to `leaf_id`, oldest first."""
    path: list[Message] = []
    while leaf_id is not None and (message := messages.get(leaf_id)) is not None:
        path.append(message)
        leaf_id = message.parent_id
    return path[::-1]


def messages_of(session: Session, who: Principal, conversation_id: UUID) -> dict[UUID, Message]:
    """Every message of the person's conversation by id, oldest first."""
    find(session, who, conversation_id)
    return _all_messages(session, who, conversation_id)


def _all_messages(session: Session, who: Principal, conversation_id: UUID) -> dict[UUID, Message]:
    rows = session.scalars(
        select(Message)
        .where(Message.tenant_id == who.tenant_id, Message.conversation_id == conversation_id)
        .order_by(Message.message_id)
    )
    return {row.message_id: row for row in rows}


@dataclass(frozen=True, slots=True)
class _Receipt:
    billed_nusd: int
    tokens: int
    latency_ms: int
    final: bool


def _costs(session: Session, who: Principal, conversation_id: UUID) -> dict[UUID, _Receipt]:
    """What each turn of the conversation cost, adjustments included."""
    rows = session.execute(
        select(Turn.turn_id, UsageEvent, text(is_final("usage_events")))
        .join(
            UsageEvent,
            (UsageEvent.tenant_id == Turn.tenant_id) & (UsageEvent.call_id == Turn.call_id),
        )
        .where(Turn.tenant_id == who.tenant_id, Turn.conversation_id == conversation_id)
        .order_by(UsageEvent.event_id)
    )
    sums: dict[UUID, _Receipt] = {}
    for turn_id, event, final in rows:
        had = sums.get(turn_id, _Receipt(0, 0, event.latency_ms, final=True))
        sums[turn_id] = _Receipt(
            had.billed_nusd + event.billed_nusd,
            had.tokens + event.prompt_tokens + event.completion_tokens,
            had.latency_ms,
            final=had.final and final,
        )
    return sums


def _shown(
    message: Message, children: dict[UUID | None, list[UUID]], costs: dict[UUID, _Receipt]
) -> Shown:
    receipt = (
        costs.get(message.turn_id) if message.turn_id and message.role == "assistant" else None
    )
    return Shown(
        message_id=message.message_id, parent_id=message.parent_id, role=message.role,
        status=message.status, content=message.content, reasoning=message.reasoning,
        model_id=message.model_id, failure_code=message.failure_code, left_out=message.left_out,
        extras=message.extras, turn_id=message.turn_id,
        siblings=tuple(sorted(children.get(message.parent_id, []))),
        billed_nusd=receipt.billed_nusd if receipt else None,
        tokens=receipt.tokens if receipt else None,
        latency_ms=receipt.latency_ms if receipt else None,
        final=receipt.final if receipt else False,
    )  # fmt: skip
