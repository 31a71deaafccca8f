"""The events behind a figure, page by page: calls, and the adjustments that correct them. Their sums are
the figure, to the last digit. Shows no content, and of conversations only the reader's own ids."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from core.analytics import cursors, figures, sources
from core.analytics.figures import Totals
from core.analytics.scope import scope_of
from core.analytics.selection import Selection
from core.identity.access import Actor, Principal
from core.metering.charges import is_final

ROWS_MAX = 200


class Key(StrEnum):
    """What rows are ordered by; of equal ones the event's number decides."""

    TIME = "time"
    COST = "cost"
    TOKENS = "tokens"
    DURATION = "duration"


@dataclass(frozen=True, slots=True)
class Order:
    """The order of rows: newest, costliest, largest or longest first, or the other way round."""

    key: Key = Key.TIME
    descending: bool = True


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last row of a page in its order: the next page holds what comes after it."""

    order: Order
    value: int  # microseconds since 1970, nano-USD, tokens, or milliseconds
    event_id: int

    def text(self) -> str:
        """The same as a word for an address."""
        return cursors.pack(self.order.key, int(self.order.descending), self.value, self.event_id)

    @classmethod
    def read(cls, word: str) -> Cursor:
        """The cursor that `text` wrote. Raises errors.BadInput."""
        key, descending, value, event_id = cursors.unpack(word, str, int, int, int)
        if key not in [*Key] or descending not in {0, 1}:
            raise cursors.refused()
        return cls(Order(Key(str(key)), bool(descending)), int(value), int(event_id))


@dataclass(frozen=True, slots=True)
class EventRow:
    """A call, or an adjustment with the differences to what was booked before (they may be negative).

    `person` is what they were called then. `final` is False while the cost may still change;
    `conversation_id` is None unless it is the reader's own, `list_nusd` unless they see the list cost.
    """

    event_id: int
    kind: str
    call_id: UUID
    occurred_at: datetime
    tenant_id: UUID
    person: str
    model: str
    provider: str
    source: str
    purpose: str
    cost_center: str | None
    project: str | None
    key_id: UUID | None
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    billed_nusd: int
    list_nusd: int | None
    outcome: str
    cost_source: str
    final: bool
    latency_ms: int
    first_token_ms: int | None
    conversation_id: UUID | None

    def place(self, order: Order) -> Cursor:
        """Where this row stands in an order."""
        match order.key:
            case Key.TIME:
                value = cursors.of_moment(self.occurred_at)
            case Key.COST:
                value = self.billed_nusd
            case Key.TOKENS:
                value = self.prompt_tokens + self.completion_tokens
            case Key.DURATION:
                value = self.latency_ms
        return Cursor(order, value, self.event_id)


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the rows; `next` is None where they end."""

    rows: tuple[EventRow, ...]
    next: Cursor | None


def rows(
    session: Session,
    who: Actor,
    selection: Selection,
    *,
    order: Order = Order(),
    after: Cursor | None = None,
    limit: int = 50,
) -> Page:
    """The next rows after `after`, at most ROWS_MAX. Raises errors.BadInput for another order's place."""
    if after is not None and after.order != order:
        raise cursors.refused()
    size = min(max(limit, 1), ROWS_MAX)
    source = sources.events(session, scope_of(who, selection), selection)
    statement = _ROWS.format(
        relation=source.relation,
        condition=source.condition + (_after(order) if after else ""),
        by=_BY[order.key],
        direction="desc" if order.descending else "asc",
        final=is_final("p"),
    )
    asked = source.bound | {
        "limit": size + 1,
        "reader": who.user_id if isinstance(who, Principal) else None,
        "sees_list": source.sees_list_cost,
    }
    if after is not None:
        by_time = order.key is Key.TIME
        asked["after"] = cursors.moment_of(after.value) if by_time else after.value
        asked["after_id"] = after.event_id
    found = [EventRow(**row) for row in session.execute(text(statement), asked).mappings()]
    more = len(found) > size
    return Page(tuple(found[:size]), found[size - 1].place(order) if more else None)


def sums(session: Session, who: Actor, selection: Selection) -> Totals:
    """What `rows` of the same selection come to on all pages, added up from the events themselves."""
    return figures.totals_of(session, sources.events(session, scope_of(who, selection), selection))


def _after(order: Order) -> str:
    beyond = "<" if order.descending else ">"
    return f" and ({_BY[order.key]}, u.event_id) {beyond} (:after, :after_id)"


_BY = {
    Key.TIME: "u.occurred_at",
    Key.COST: "u.billed_nusd",
    Key.TOKENS: "(u.prompt_tokens + u.completion_tokens)",
    Key.DURATION: "u.latency_ms",
}

_ROWS = """
with page as (
  select u.*, {by} as ordered_by from {relation} where {condition}
  order by {by} {direction}, u.event_id {direction} limit :limit)
select p.event_id, p.kind, p.call_id, p.occurred_at, p.tenant_id, coalesce(l.name, '') as person,
  p.model_served as model, p.provider, p.source, p.purpose, p.cost_center, p.project,
  p.api_key_id as key_id, p.prompt_tokens, p.completion_tokens, p.cached_tokens, p.billed_nusd,
  case when :sees_list then p.list_nusd end as list_nusd, p.outcome, p.cost_source,
  {final} as final,
  p.latency_ms, p.first_token_ms,
  case when p.user_id = :reader then p.conversation_id end as conversation_id
from page p left join app.labels l on l.tenant_id = p.tenant_id and l.label_id = p.user_label_id
order by p.ordered_by {direction}, p.event_id {direction}
"""
