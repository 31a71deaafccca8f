"""Chargeback as an export: what each cost centre and project used of each model in the period."""

from __future__ import annotations

from core.finance.datasets.columns import Query
from core.finance.datasets.fields import costs, select_list, text, tokens
from core.finance.datasets.scope import Scope

FIELDS = (
    text("tenant_id", "g.tenant_id::text", "The tenant."),
    text("tenant_name", "t.name", "The tenant's name now."),
    text("cost_center", "g.cost_center", "The cost centre charged; empty where none was set."),
    text("project", "g.project", "The project charged; empty where none was set."),
    text("model", "g.model_served", "The model that answered."),
    tokens("requests", "g.requests", "Calls."),
    tokens("prompt_tokens", "g.prompt_tokens", "Tokens sent, cached ones included."),
    tokens("completion_tokens", "g.completion_tokens", "Tokens received, reasoning included."),
    *costs("g.billed_nusd", "g.list_nusd"),
)


def query(scope: Scope) -> Query:
    """The sums of the scope by cost centre, project and model; what has no cost centre comes last."""
    events = scope.events()
    fields = select_list(FIELDS, for_operators=scope.for_operators)
    return Query.ordered(
        f"""select {fields}
from (
  select e.tenant_id, e.cost_center, e.project, e.model_served,
    count(*) filter (where e.kind = 'call') as requests,
    sum(e.prompt_tokens)::bigint as prompt_tokens,
    sum(e.completion_tokens)::bigint as completion_tokens,
    sum(e.billed_nusd)::bigint as billed_nusd, sum(e.list_nusd)::bigint as list_nusd
  from {events.source}
  where {events.where}
  group by 1, 2, 3, 4) as g
join app.tenants n on n.tenant_id = g.tenant_id
join app.labels t on t.tenant_id = n.tenant_id and t.label_id = n.label_id""",  # noqa: S608
        'g.tenant_id, g.cost_center collate "C", g.project collate "C", g.model_served collate "C"',
        events.parameters,
    )
