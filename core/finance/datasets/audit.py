"""The audit log as an export: who did what in the period, allowed or refused.

A tenant's admins get its rows without what the platform earns by it; operators get the log as it is.
"""

from __future__ import annotations

from core.finance.datasets.columns import Column, Query, Type
from core.finance.datasets.fields import Field, select_list, text
from core.finance.datasets.scope import Scope

FIELDS = (
    Field(Column("audit_id", Type.INTEGER, "Number of the row; never used again."), "l.audit_id"),
    Field(Column("occurred_at", Type.TIME, "When it happened."), "l.occurred_at"),
    text("tenant_id", "l.of_tenant::text", "The tenant; empty for acts on the platform itself."),
    text("tenant_name", "t.name", "The tenant's name now."),
    text("actor", "l.actor", "Who acted, by kind and id."),
    text("actor_email", "u.name", "The actor's e-mail now, where it is a person of the tenant."),
    text("action", "l.action", "What was done."),
    text("object", "l.object", "What it was done to, by kind and id."),
    text("outcome", "l.outcome", "'done', 'denied' or 'failed'."),
    text("before", "l.before::text", "What it was before, JSON."),
    text("after", "l.after::text", "What it was afterwards, JSON."),
)
_OF_TENANT = "verbs.audit_of(%(tenant)s, %(begins)s, %(ends)s)"
_OF_OPERATOR = """(select a.* from app.audit_log a
  left join unnest(%(tenants)s::uuid[], %(froms)s::timestamptz[], %(untils)s::timestamptz[])
    as b(tenant_id, begins, ends) on b.tenant_id = a.of_tenant
  where a.occurred_at >= coalesce(b.begins, %(begins)s) and a.occurred_at < coalesce(b.ends, %(ends)s)
    and (%(tenant)s::uuid is null or a.of_tenant = %(tenant)s))"""


def query(scope: Scope) -> Query:
    """All rows of the scope in the order they were written; the platform's own by days of UTC."""
    bounds = scope.bounds()
    begins, ends = scope.utc_bounds() if scope.tenant_id is None else bounds[scope.tenant_id]
    source = _OF_OPERATOR if scope.for_operators else _OF_TENANT
    fields = select_list(FIELDS, for_operators=scope.for_operators)
    return Query.ordered(
        f"""select {fields}
from {source} as l
left join app.tenants n on n.tenant_id = l.of_tenant
left join app.labels t on t.tenant_id = n.tenant_id and t.label_id = n.label_id
left join app.memberships m on m.tenant_id = l.of_tenant and l.actor = 'user:' || m.user_id
left join app.labels u on u.tenant_id = m.tenant_id and u.label_id = m.label_id""",  # noqa: S608
        "l.audit_id",
        scope.parameters(
            begins=begins, ends=ends, tenants=list(bounds),
            froms=[begins for begins, _ in bounds.values()],
            untils=[ends for _, ends in bounds.values()],
        ),
    )  # fmt: skip
