"""Usage events as an export: every call and every later correction, one row each."""

from __future__ import annotations

from core.finance.datasets.columns import Column, Query, Type
from core.finance.datasets.fields import Field, code, costs, select_list, text, tokens
from core.finance.datasets.scope import Scope


def _name(label: str) -> str:
    return f"(select names from labels) ->> e.{label}::text"  # noqa: S608 - our own text


FIELDS = (
    Field(Column("event_id", Type.INTEGER, "Number of the row; never used again."), "e.event_id"),
    code("kind", "e.kind", "'call', or 'adjustment' for a later correction of one."),
    code("adjusts_call_id", "e.adjusts_call_id::text", "The call that an adjustment corrects."),
    code("call_id", "e.call_id::text", "The call; its adjustments bear the same."),
    Field(
        Column(
            "occurred_at", Type.TIME,
            "When the call was made; of an adjustment that came after the month was closed, when"
            " it came.",
        ),
        "e.occurred_at",
    ),
    Field(Column("recorded_at", Type.TIME, "When the row was written."), "e.recorded_at"),
    Field(Column("day", Type.DATE, "The tenant's own day of occurred_at."), "e.day"),
    code("tenant_id", "e.tenant_id::text", "The tenant."),
    text("tenant_name", _name("tenant_label_id"), "The tenant's name at the time of the call."),
    code("user_id", "e.user_id::text", "The person."),
    text("user_email", _name("user_label_id"), "The person's e-mail at the time of the call."),
    code("api_key_id", "e.api_key_id::text", "The API key used; empty for the chat."),
    text("cost_center", "e.cost_center", "The cost centre charged, as set at the time."),
    text("project", "e.project", "The project charged, as set at the time."),
    code("source", "e.source", "'chat', 'api' or 'background'."),
    text("purpose", "e.purpose", "What the call was for, such as 'chat' or 'completion'."),
    code("conversation_id", "e.conversation_id::text", "The conversation; empty for API calls."),
    text("provider", "e.provider", "Where the model ran."),
    text("model_requested", "e.model_requested", "The model that was asked for."),
    text("model_served", "e.model_served", "The model that answered and is priced."),
    tokens("prompt_tokens", "e.prompt_tokens", "Tokens sent, cached ones included."),
    tokens("cached_tokens", "e.cached_tokens", "Of prompt_tokens: read from the cache."),
    tokens("cache_write_tokens", "e.cache_write_tokens", "Of prompt_tokens: put into the cache."),
    tokens("completion_tokens", "e.completion_tokens", "Tokens received, reasoning included."),
    tokens("reasoning_tokens", "e.reasoning_tokens", "Of completion_tokens: spent on reasoning."),
    *costs("e.billed_nusd", "e.list_nusd"),
    Field(
        Column(
            "provider_cost_usd", Type.DECIMAL, "What the provider reported, USD; empty if nothing.",
            operators_only=True, is_total=True,
        ),
        "e.provider_cost_usd",
    ),
    code(
        "cost_source", "e.cost_source",
        "How the cost was found: 'provider' (reported), 'price_table' (tokens by the price list) or"
        " 'estimate' (from the text).",
    ),
    code("outcome", "e.outcome", "'ok', 'stopped', 'cut', 'error' or 'timeout'."),
    Field(Column("latency_ms", Type.INTEGER, "Duration of the call, ms."), "e.latency_ms"),
    Field(
        Column("first_token_ms", Type.INTEGER, "Time to the first token, ms; empty if none came."),
        "e.first_token_ms",
    ),
    text("generation_id", "e.generation_id", "The provider's own id of the call."),
)  # fmt: skip


_ORDER = "e.occurred_at, e.event_id"


def query(scope: Scope) -> Query:
    """All events of the scope, in the order they are dated."""
    events = scope.events()
    fields = select_list(FIELDS, for_operators=scope.for_operators)
    order = _ORDER if scope.tenant_id else f"e.tenant_id, {_ORDER}"
    # Names are looked up in one object and not joined: a join would lose the order in which the key
    # gives the events, and a million rows be sorted once more. Cells are worked out after the sort.
    return Query(
        f"""with labels as (
  select jsonb_object_agg(x.label_id, x.name) as names from app.labels x where {scope.tenants})
select {fields}
from (
  select e.*, {events.day} as day from {events.source} where {events.where} order by {order}) as e
order by {order}""",  # noqa: S608 - our own text
        f"select from {events.source} where {events.where}",
        events.parameters,
    )
