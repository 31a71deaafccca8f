"""Daily usage as an export: the sums by day, person, model and source that the product keeps."""

from __future__ import annotations

from core.finance.datasets.columns import Column, Query, Type
from core.finance.datasets.fields import Field, costs, select_list, text, tokens
from core.finance.datasets.scope import Scope

FIELDS = (
    Field(Column("day", Type.DATE, "The tenant's own day."), "x.day"),
    text("tenant_id", "x.tenant_id::text", "The tenant."),
    text("tenant_name", "t.name", "The tenant's name now."),
    text("user_id", "x.user_id::text", "The person."),
    text("user_email", "u.name", "The person's e-mail now."),
    text("model", "x.model", "The model that answered."),
    text("source", "x.source", "'chat', 'api' or 'background'."),
    tokens("requests", "x.requests", "Calls."),
    tokens("errors", "x.errors", "Of requests: ended by an error or a timeout."),
    tokens("prompt_tokens", "x.prompt_tokens", "Tokens sent, cached ones included."),
    tokens("cached_tokens", "x.cached_tokens", "Of prompt_tokens: read from the cache."),
    tokens("cache_write_tokens", "x.cache_write_tokens", "Of prompt_tokens: put into the cache."),
    tokens("completion_tokens", "x.completion_tokens", "Tokens received, reasoning included."),
    tokens("reasoning_tokens", "x.reasoning_tokens", "Of completion_tokens: spent on reasoning."),
    *costs("x.billed_nusd", "x.list_nusd"),
)


def query(scope: Scope) -> Query:
    """All days of the scope, one after the other."""
    fields = select_list(FIELDS, for_operators=scope.for_operators)
    return Query.ordered(
        f"""select {fields}
from app.usage_daily x
join app.tenants n on n.tenant_id = x.tenant_id
join app.labels t on t.tenant_id = n.tenant_id and t.label_id = n.label_id
join app.memberships m on m.tenant_id = x.tenant_id and m.user_id = x.user_id
join app.labels u on u.tenant_id = m.tenant_id and u.label_id = m.label_id
where {scope.tenants} and x.day between %(first)s and %(last)s""",  # noqa: S608 - our own text
        'x.tenant_id, x.day, x.user_id, x.model collate "C", x.source collate "C"',
        scope.parameters(),
    )
