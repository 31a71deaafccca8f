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
PATH_MAX = 2_000
_PATH = text("""
with recursive path as (
  select message_id, parent_id, 1 as place from app.messages
  where tenant_id = :tenant and conversation_id = :conversation and message_id = :leaf
  union all
  select m.message_id, m.parent_id, place + 1
  from path join app.messages m on m.tenant_id = :tenant and m.conversation_id = :conversation
    and m.message_id = path.parent_id
  where place < :most)
select m.* from path join app.messages m on m.tenant_id = :tenant
  and m.conversation_id = :conversation and m.message_id = path.message_id
order by place desc
""")


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
    """The newest PATH_MAX messages up to the shown leaf, oldest first, each answer with its cost.

    Other branches are not read: of them only the ids beside what is shown.
    """
    row = find(session, who, conversation_id)
    path = path_to(session, who, conversation_id, row.leaf_id)
    siblings = _siblings(session, who, conversation_id, path)
    costs = _costs(session, who, [message.turn_id for message in path if message.turn_id])
    return [_shown(message, siblings[message.parent_id], costs) for message in path]


def show_branch(session: Session, who: Principal, conversation_id: UUID, message_id: UUID) -> None:
    """Make the branch through `message_id` the shown one, following newest answers to its leaf."""
    row = find(session, who, conversation_id)
    rows = session.execute(
        select(Message.message_id, Message.parent_id)
        .where(Message.tenant_id == who.tenant_id, Message.conversation_id == conversation_id)
        .order_by(Message.message_id)
    )
    newest = {parent_id: one for one, parent_id in rows}  # the newest message below each
    if message_id not in newest and message_id not in newest.values():
        message_in(session, who, conversation_id, message_id)
    leaf = message_id
    while (newer := newest.get(leaf)) is not None:
        leaf = newer
    session.execute(
        update(Conversation)
        .where(
            Conversation.tenant_id == who.tenant_id,
            Conversation.conversation_id == row.conversation_id,
        )
        .values(leaf_id=leaf)
    )


def path_to(
    session: Session, who: Principal, conversation_id: UUID, leaf_id: UUID | None
) -> list[Message]:
    """The newest PATH_MAX messages from the root to `leaf_id`, oldest first.

    The conversation must be the person's: `find` says so.
    """
    rows = session.scalars(
        select(Message).from_statement(_PATH),
        {
            "tenant": who.tenant_id, "conversation": conversation_id, "leaf": leaf_id,
            "most": PATH_MAX,
        },
    )  # fmt: skip
    return list(rows)


def message_in(
    session: Session, who: Principal, conversation_id: UUID, message_id: UUID
) -> Message:
    """One message of the person's conversation. Raises errors.NotFound."""
    find(session, who, conversation_id)
    row = session.get(Message, (who.tenant_id, conversation_id, message_id))
    if row is None:
        raise errors.NotFound("There is no such message.")
    return row


def _siblings(
    session: Session, who: Principal, conversation_id: UUID, path: list[Message]
) -> dict[UUID | None, tuple[UUID, ...]]:
    """The ids below each parent of a path's messages, oldest first."""
    parents = [message.parent_id for message in path if message.parent_id is not None]
    rows = session.execute(
        select(Message.parent_id, Message.message_id)
        .where(
            Message.tenant_id == who.tenant_id,
            Message.conversation_id == conversation_id,
            Message.parent_id.in_(parents) | Message.parent_id.is_(None),
        )
        .order_by(Message.message_id)
    )
    found: dict[UUID | None, tuple[UUID, ...]] = {}
    for parent_id, message_id in rows:
        found[parent_id] = (*found.get(parent_id, ()), message_id)
    return found


@dataclass(frozen=True, slots=True)
class _Receipt:
    billed_nusd: int
    tokens: int
    latency_ms: int
    final: bool


def _costs(session: Session, who: Principal, turn_ids: list[UUID]) -> dict[UUID, _Receipt]:
    """What each of the turns cost, adjustments included."""
    rows = session.execute(
        select(Turn.turn_id, UsageEvent, text(is_final("usage_events")))
        .join(
            UsageEvent,
            (UsageEvent.tenant_id == Turn.tenant_id) & (UsageEvent.call_id == Turn.call_id),
        )
        .where(Turn.tenant_id == who.tenant_id, Turn.turn_id.in_(turn_ids))
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


def _shown(message: Message, siblings: tuple[UUID, ...], costs: dict[UUID, _Receipt]) -> Shown:
    receipt = (
        costs.get(message.turn_id) if message.turn_id and message.role == "assistant" else None
    )
    return Shown(
        message_id=message.message_id, parent_id=message.parent_id, role=message.role,
        status=message.status, content=message.content, reasoning=message.reasoning,
        model_id=message.model_id, failure_code=message.failure_code, left_out=message.left_out,
        extras=message.extras, turn_id=message.turn_id,
        siblings=siblings,
        billed_nusd=receipt.billed_nusd if receipt else None,
        tokens=receipt.tokens if receipt else None,
        latency_ms=receipt.latency_ms if receipt else None,
        final=receipt.final if receipt else False,
    )  # fmt: skip
