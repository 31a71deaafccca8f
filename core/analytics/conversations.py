"""What conversations used and cost: their length, one's own recent ones, and for admins who, when, which
model and how much. Titles are shown to their owner only; text is never read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from core import errors
from core.analytics import cursors, sources
from core.analytics.scope import Scope, scope_of
from core.analytics.selection import Group, Selection
from core.identity import zones
from core.identity.access import Actor, Principal, Role, require

ROWS_MAX = 200
_FILTERS = frozenset({Group.TENANT, Group.USER, Group.MODEL})


@dataclass(frozen=True, slots=True)
class ConversationRow:
    """One's own conversation and what it came to in all; `title` None where it was deleted."""

    conversation_id: UUID
    title: str | None
    model: str
    requests: int
    tokens: int
    billed_nusd: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Metadata:
    """A conversation as those see it who may not read it; `model` is the one used last."""

    tenant_id: UUID
    conversation_id: UUID
    user_id: UUID
    person: str
    model: str
    requests: int
    tokens: int
    billed_nusd: int
    list_nusd: int | None
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Place:
    """The last row of a page: the next one holds what was used before it."""

    last_at: datetime
    conversation_id: UUID

    def text(self) -> str:
        """The same as a word for an address."""
        return cursors.pack(cursors.of_moment(self.last_at), str(self.conversation_id))

    @classmethod
    def read(cls, word: str) -> Place:
        """The place that `text` wrote. Raises errors.BadInput."""
        last_at, conversation_id = cursors.unpack(word, int, str)
        try:
            return cls(cursors.moment_of(int(last_at)), UUID(str(conversation_id)))
        except ValueError:
            raise cursors.refused() from None


@dataclass(frozen=True, slots=True)
class MetadataPage:
    """Some of the conversations; `next` is None where they end."""

    rows: tuple[Metadata, ...]
    next: Place | None


def average_length(session: Session, who: Actor, selection: Selection) -> Fraction | None:
    """Calls per conversation of a selection; None where no call belongs to one."""
    source = sources.events(session, scope_of(who, selection), selection)
    statement = _LENGTH.format(relation=source.relation, condition=source.condition)
    calls, conversations = session.execute(text(statement), source.bound).one()
    return Fraction(calls, conversations) if conversations else None


def recent(session: Session, who: Principal, limit: int = 20) -> tuple[ConversationRow, ...]:
    """One's own conversations, the one used last first."""
    asked = {
        "tenant": who.tenant_id, "user": who.user_id, "limit": min(max(limit, 1), ROWS_MAX),
    }  # fmt: skip
    found = session.execute(text(_RECENT), asked).mappings()
    return tuple(ConversationRow(**row) for row in found)


def metadata(
    session: Session,
    who: Actor,
    selection: Selection,
    *,
    above_nusd: int | None = None,
    after: Place | None = None,
    limit: int = 50,
) -> MetadataPage:
    """The conversations last used in the period, newest first, each with all it ever came to; with
    `above_nusd` those that cost more.

    For admins and operators; by tenant, person and last model. Raises errors.Forbidden,
    errors.BadInput for another filter.
    """
    if isinstance(who, Principal):
        require(who, Role.ADMIN)
    if unknown := selection.filtered - _FILTERS:
        raise errors.BadInput("Conversations have no such filter.", param=min(unknown))
    scope = scope_of(who, selection)
    size = min(max(limit, 1), ROWS_MAX)
    asked = _asked(session, scope, selection)
    asked |= {
        "after_at": after.last_at if after else None,
        "after_id": after.conversation_id if after else None,
        "above": above_nusd,
        "limit": size + 1,
        "sees_list": scope.sees_list_cost,
    }
    found = [Metadata(**row) for row in session.execute(text(_METADATA), asked).mappings()]
    kept = tuple(found[:size])
    more = len(found) > size
    return MetadataPage(kept, Place(kept[-1].last_at, kept[-1].conversation_id) if more else None)


def _asked(session: Session, scope: Scope, selection: Selection) -> dict[str, object]:
    """Each tenant's bounds of the period, and the filters."""
    calendars = zones.calendars(session, scope.tenant_ids) if not scope.is_empty else {}
    bounds = [
        (tenant_id, *calendar.bounds(selection.period)) for tenant_id, calendar in calendars.items()
    ]
    users, models = selection.filters.get(Group.USER), selection.filters.get(Group.MODEL)
    return {
        "tenants": [tenant_id for tenant_id, _, _ in bounds],
        "begins": [begins for _, begins, _ in bounds],
        "ends": [ends for _, _, ends in bounds],
        "users": None if users is None else list(users),
        "models": None if models is None else list(models),
    }


_LENGTH = """
select coalesce(sum(calls), 0)::bigint, count(*) from (
  select count(*) as calls from {relation}
  where {condition} and u.kind = 'call' and u.conversation_id is not null
  group by u.tenant_id, u.conversation_id) as lengths
"""

_RECENT = """
select u.conversation_id, c.title, u.model, u.requests, u.tokens, u.billed_nusd, u.last_at
from app.usage_conversations u
left join app.conversations c on c.tenant_id = u.tenant_id and c.conversation_id = u.conversation_id
  and c.user_id = u.user_id and c.deleted_at is null
where u.tenant_id = :tenant and u.user_id = :user
order by u.last_at desc, u.conversation_id desc limit :limit
"""

_METADATA = """
with page as (
  select u.* from app.usage_conversations u
  join unnest(cast(:tenants as uuid[]), cast(:begins as timestamptz[]), cast(:ends as timestamptz[]))
    as span(tenant_id, begins, ends) on span.tenant_id = u.tenant_id
  where u.last_at >= span.begins and u.last_at < span.ends
    and (cast(:users as uuid[]) is null or u.user_id = any(cast(:users as uuid[])))
    and (cast(:models as text[]) is null or u.model = any(cast(:models as text[])))
    and (cast(:above as bigint) is null or u.billed_nusd > :above)
    and (cast(:after_at as timestamptz) is null
      or (u.last_at, u.conversation_id) < (:after_at, cast(:after_id as uuid)))
  order by u.last_at desc, u.conversation_id desc limit :limit)
select p.tenant_id, p.conversation_id, p.user_id, l.name as person, p.model, p.requests, p.tokens,
  p.billed_nusd, case when :sees_list then p.list_nusd end as list_nusd, p.first_at, p.last_at
from page p
join app.memberships m on m.tenant_id = p.tenant_id and m.user_id = p.user_id
join app.labels l on l.tenant_id = m.tenant_id and l.label_id = m.label_id
order by p.last_at desc, p.conversation_id desc
"""
