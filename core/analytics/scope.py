"""Whose usage a person may see. Members see their own, admins and finance their tenant's, operators
all. What may not be seen looks as if it did not exist; nothing is ever refused here."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from core.analytics.selection import Group, Selection
from core.identity.access import Actor, Principal, Role

_WIDE = (Role.ADMIN, Role.FINANCE)


@dataclass(frozen=True, slots=True)
class Scope:
    """The rows somebody may see: of these tenants (None: all), and of one person where it is set."""

    tenant_ids: tuple[UUID, ...] | None
    user_id: UUID | None
    sees_list_cost: bool

    @property
    def is_empty(self) -> bool:
        """Whether no row at all may be seen."""
        return self.tenant_ids == ()


def scope_of(who: Actor, selection: Selection) -> Scope:
    """What of a selection may be seen. The filter by tenant is answered here, all others are not."""
    asked = selection.filters.get(Group.TENANT)
    named = None if asked is None else tuple(sorted(id_ for id_ in asked if isinstance(id_, UUID)))
    if not isinstance(who, Principal):
        return Scope(named, None, sees_list_cost=True)
    own = (who.tenant_id,) if named is None or who.tenant_id in named else ()
    return Scope(own, None if sees_tenant(who) else who.user_id, sees_list_cost=False)


def sees_tenant(who: Principal) -> bool:
    """Whether the person's role shows the whole tenant's usage rather than their own."""
    return who.role in _WIDE
