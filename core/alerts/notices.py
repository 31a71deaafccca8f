"""The in-app inbox: something is told once, and each person puts it away for themselves.

Says what happened in facts (ids, amounts, dates), never in anybody's words. Decides nothing: rules.py
does. Sends nothing out of the product.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core import errors
from core.alerts.tables import Notice, NoticeRead, OperatorNotice, OperatorNoticeRead
from core.db import new_id
from core.identity.access import Actor, Operator, Principal, Role, require_person

Audience: TypeAlias = Literal["user", "admins", "finance"]
SHOWN_MAX = 50
_AUDIENCES = {
    Role.MEMBER: ("user",), Role.FINANCE: ("user", "finance"),
    Role.ADMIN: ("user", "finance", "admins"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Told:
    """A notice in somebody's inbox; `tenant_id` is None for what belongs to no tenant.

    `subject` is what the person, tenant or API key it is about is called now.
    """

    notice_id: UUID
    tenant_id: UUID | None
    tenant_name: str | None
    kind: str
    subject: str | None
    facts: dict[str, Any]
    created_at: datetime
    read: bool


def post(
    session: Session, tenant_id: UUID, *, kind: str, key: str, audience: Audience,
    user_id: UUID | None = None, facts: Mapping[str, object],
) -> bool:  # fmt: skip
    """Tell something of a tenant; False when it was told before (by the same kind and key).

    Needs a transaction of the jobs role, or of an operator.
    """
    row = insert(Notice).values(
        tenant_id=tenant_id, notice_id=new_id(), kind=kind, key=key, audience=audience,
        user_id=user_id, facts=dict(facts),
    )  # fmt: skip
    told = session.execute(row.on_conflict_do_nothing().returning(Notice.notice_id))
    return told.first() is not None


def post_operators(session: Session, *, kind: str, key: str, facts: Mapping[str, object]) -> bool:
    """Tell operators something that belongs to no tenant; False when it was told before."""
    row = insert(OperatorNotice).values(notice_id=new_id(), kind=kind, key=key, facts=dict(facts))
    told = session.execute(row.on_conflict_do_nothing().returning(OperatorNotice.notice_id))
    return told.first() is not None


def inbox(session: Session, who: Actor, *, unread_only: bool = False) -> tuple[Told, ...]:
    """What was told this person, newest first, at most SHOWN_MAX.

    An operator gets what belongs to no tenant, what is for them alone, and every tenant's notices that
    are for a role.
    """
    person = _person(who)
    if isinstance(person, Principal):
        asked = {"tenant": person.tenant_id, "audiences": list(_AUDIENCES[person.role])}
        statement = _OF_PERSON
    else:
        asked, statement = {}, _OF_OPERATOR
    rows = session.execute(
        text(statement),
        {**asked, "user": person.user_id, "unread": unread_only, "limit": SHOWN_MAX},
    ).mappings()
    return tuple(Told(**row) for row in rows)


def unread(session: Session, who: Actor) -> int:
    """How many notices wait, at most SHOWN_MAX."""
    return len(inbox(session, who, unread_only=True))


def put_away(session: Session, who: Actor, notice_id: UUID) -> None:
    """Mark a notice as read by this person; again changes nothing. Raises errors.NotFound."""
    person = _person(who)
    if notice_id not in {told.notice_id for told in inbox(session, person)}:
        raise errors.NotFound("There is no such notice.")
    if isinstance(person, Principal):
        row = insert(NoticeRead).values(
            tenant_id=person.tenant_id, notice_id=notice_id, user_id=person.user_id
        )
    else:
        row = insert(OperatorNoticeRead).values(notice_id=notice_id, user_id=person.user_id)
    session.execute(row.on_conflict_do_nothing())


def _person(who: Actor) -> Principal | Operator:
    require_person(who)
    if not isinstance(who, Principal | Operator):
        raise errors.Forbidden("Only people have an inbox.")
    return who


_NAMED = """
select n.notice_id, n.tenant_id, t.name as tenant_name, n.kind, n.facts, n.created_at, n.read,
  coalesce(
    (select l.name from app.labels l where l.tenant_id = n.tenant_id and l.subject_id = n.about
      order by l.label_id desc limit 1),
    (select k.name from app.api_keys k where k.tenant_id = n.tenant_id and k.key_id = n.about))
    as subject
from (
  select *, coalesce(facts ->> 'subject_id', facts ->> 'user_id')::uuid as about from told) n
left join app.tenants t on t.tenant_id = n.tenant_id
order by n.created_at desc, n.notice_id
"""

_OF_PERSON = f"""
with told as (
select n.notice_id, n.tenant_id, n.kind, n.facts, n.created_at, r.user_id is not null as read
from app.notices n
left join app.notice_reads r on r.tenant_id = n.tenant_id and r.notice_id = n.notice_id
  and r.user_id = :user
where n.tenant_id = :tenant and n.audience = any(:audiences)
  and (n.user_id is null or n.user_id = :user) and not (:unread and r.user_id is not null)
order by n.created_at desc, n.notice_id limit :limit) {_NAMED}
"""  # noqa: S608 - our own text

_OF_OPERATOR = f"""
with told as (
select n.notice_id, n.tenant_id, n.kind, n.facts, n.created_at, r.user_id is not null as read
from (
  select notice_id, tenant_id, kind, facts, created_at from app.notices
  where audience <> 'user' or user_id = :user
  union all
  select notice_id, null, kind, facts, created_at from app.operator_notices) n
left join app.operator_notice_reads r on r.notice_id = n.notice_id and r.user_id = :user
where not (:unread and r.user_id is not null)
order by n.created_at desc, n.notice_id limit :limit) {_NAMED}
"""  # noqa: S608 - our own text
