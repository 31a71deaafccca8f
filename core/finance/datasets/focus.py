"""Cost and usage in the columns of FOCUS 1.4, the FinOps Open Cost and Usage Specification.

A row is what a tenant used on one of its days of one model, provider and source for one cost centre
and project; adjustments stand in rows of their own. Only usage is here: credit that was bought is in
the statement. So that nothing counts twice, usage bears its whole cost, however it was paid.

Columns that only apply to commitments, reservations, regions, resources, currencies and price lists
are left out: there are none of these. Source: https://focus.finops.org/focus-specification/v1-4/
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from core.finance.datasets.columns import Column, Query, Type
from core.finance.datasets.fields import Field, select_list, text, tokens, usd
from core.finance.datasets.scope import Scope
from core.identity.zones import Calendar
from core.periods import following_month

VERSION = "1.4"
SELLER = "Purser"
_TOKENS = "(u.prompt_tokens + u.completion_tokens)::numeric"


@dataclass(frozen=True, slots=True)
class _Day:
    """A day of a calendar and the month it is in, as moments."""

    day: date
    begins: datetime
    ends: datetime
    month_begins: datetime
    month_ends: datetime


def _decimal(name: str, value: str, meaning: str, *, secret: bool = False) -> Field:
    column = Column(name, Type.DECIMAL, meaning, operators_only=secret, is_total=True)
    return Field(column, value)


def _time(name: str, value: str, meaning: str) -> Field:
    return Field(Column(name, Type.TIME, meaning), value)


FIELDS = (
    _decimal("BilledCost", usd("u.billed_nusd"), "What the tenant pays, USD, exact."),
    text("BillingAccountId", "u.tenant_id::text", "The tenant."),
    text("BillingAccountName", "t.name", "The tenant's name at the time of the calls."),
    text("BillingCurrency", "'USD'", "Always USD."),
    _time("BillingPeriodEnd", "d.month_ends", "The first moment after the tenant's month."),
    _time("BillingPeriodStart", "d.month_begins", "The first moment of the tenant's month."),
    text("ChargeCategory", "'Usage'", "Always 'Usage'."),
    text(
        "ChargeClass", "case when u.is_late then 'Correction' end",
        "'Correction' for adjustments of calls of a closed month; else empty.",
    ),
    text(
        "ChargeDescription",
        "case u.kind when 'call' then 'Calls of ' else 'Adjusted calls of ' end || u.model",
        "The row in words.",
    ),
    text("ChargeFrequency", "'Usage-Based'", "Always 'Usage-Based'."),
    _time("ChargePeriodEnd", "d.ends", "The first moment after the tenant's day."),
    _time("ChargePeriodStart", "d.begins", "The first moment of the tenant's day."),
    _decimal("ConsumedQuantity", _TOKENS, "Tokens sent and received."),
    text("ConsumedUnit", "'Tokens'", "Always 'Tokens'."),
    _decimal("ContractedCost", usd("u.billed_nusd"), "The same as BilledCost."),
    _decimal("EffectiveCost", usd("u.billed_nusd"), "The same as BilledCost."),
    text("HostProviderName", "coalesce(p.title, u.provider)", "Where the model ran."),
    text("InvoiceDetailId", "null::text", "Always empty: a wallet is charged, not an invoice."),
    text("InvoiceId", "null::text", "Always empty: the statement names invoices."),
    text("InvoiceIssuerName", f"'{SELLER}'", "Who charges the tenant."),
    _decimal("ListCost", usd("u.billed_nusd"), "The same as BilledCost: nothing is discounted."),
    text("PricingCategory", "'Dynamic'", "Always 'Dynamic': the price is what a call cost."),
    _decimal("PricingQuantity", _TOKENS, "The same as ConsumedQuantity."),
    text("PricingUnit", "'Tokens'", "Always 'Tokens'."),
    text("ServiceCategory", "'AI and Machine Learning'", "Always 'AI and Machine Learning'."),
    text("ServiceName", "'AI models'", "Always 'AI models'."),
    text("ServiceProviderName", f"'{SELLER}'", "Who sells the service."),
    text("ServiceSubcategory", "'Generative AI'", "Always 'Generative AI'."),
    text("SkuId", "u.model", "The model that answered."),
    text("SkuMeter", "'Tokens'", "Always 'Tokens'."),
    text("SkuPriceDetails", "null::text", "Always empty: a model has one price of each kind."),
    text("SkuPriceId", "u.model", "The same as SkuId."),
    text(
        "Tags",
        "jsonb_strip_nulls(jsonb_build_object('cost_center', u.cost_center, 'project', u.project))"
        "::text",
        "Cost centre and project, JSON.",
    ),
    Field(Column("x_Day", Type.DATE, "The tenant's own day."), "u.day"),
    text("x_Kind", "u.kind", "'call', or 'adjustment' for later corrections."),
    text("x_Source", "u.source", "'chat', 'api' or 'background'."),
    text("x_CostCenter", "u.cost_center", "The cost centre charged; empty where none was set."),
    text("x_Project", "u.project", "The project charged; empty where none was set."),
    tokens("x_Requests", "u.requests", "Calls."),
    tokens("x_PromptTokens", "u.prompt_tokens", "Tokens sent, cached ones included."),
    tokens("x_CachedTokens", "u.cached_tokens", "Of x_PromptTokens: read from the cache."),
    tokens("x_CacheWriteTokens", "u.cache_write_tokens", "Of x_PromptTokens: put into the cache."),
    tokens("x_CompletionTokens", "u.completion_tokens", "Tokens received, reasoning included."),
    tokens("x_ReasoningTokens", "u.reasoning_tokens", "Of x_CompletionTokens: for reasoning."),
    _decimal("x_ProviderCost", usd("u.list_nusd"), "The cost at the provider, USD.", secret=True),
    _decimal(
        "x_Markup", usd("(u.billed_nusd - u.list_nusd)"), "BilledCost less x_ProviderCost, USD.",
        secret=True,
    ),
)  # fmt: skip

# An adjustment has another date than its call only where the call's month was closed before.
_LATE = """case when e.kind = 'call' then false else
      (select c.opened_at <> e.occurred_at from app.calls c
       where c.tenant_id = e.tenant_id and c.call_id = e.adjusts_call_id) end"""
_SUMMED = ",\n    ".join(
    f"sum(e.{name})::bigint as {name}"
    for name in (
        "prompt_tokens", "cached_tokens", "cache_write_tokens", "completion_tokens",
        "reasoning_tokens", "billed_nusd", "list_nusd",
    )
)  # fmt: skip


def query(scope: Scope) -> Query:
    """The rows of the scope, day by day of each tenant."""
    events = scope.events()
    fields = select_list(FIELDS, for_operators=scope.for_operators)
    kinds = list(dict.fromkeys(scope.calendars.values()))
    days = [(n, day) for n, one in enumerate(kinds) for day in _days(one, scope)]
    return Query.ordered(
        f"""with used as (
  select e.tenant_id, e.tenant_label_id, {events.day} as day, e.provider, e.model_served as model,
    e.source, e.cost_center, e.project, e.kind, {_LATE} as is_late,
    count(*) filter (where e.kind = 'call') as requests,
    {_SUMMED}
  from {events.source}
  where {events.where}
  group by 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
select {fields}
from used u
join unnest(%(owners)s::uuid[], %(calendars)s::int[]) as k(tenant_id, calendar)
  on k.tenant_id = u.tenant_id
join unnest(%(day_calendars)s::int[], %(days)s::date[], %(day_begins)s::timestamptz[],
    %(day_ends)s::timestamptz[], %(month_begins)s::timestamptz[], %(month_ends)s::timestamptz[])
  as d(calendar, day, begins, ends, month_begins, month_ends)
  on d.calendar = k.calendar and d.day = u.day
join app.labels t on t.tenant_id = u.tenant_id and t.label_id = u.tenant_label_id
left join app.providers p on p.provider = u.provider""",  # noqa: S608 - our own text
        """u.tenant_id, u.day, u.provider collate "C", u.model collate "C", u.source collate "C",
  u.cost_center collate "C", u.project collate "C", u.kind collate "C" desc, u.is_late,
  u.tenant_label_id""",
        {
            **events.parameters,
            "owners": list(scope.calendars),
            "calendars": [kinds.index(one) for one in scope.calendars.values()],
            "day_calendars": [number for number, _ in days],
            "days": [day.day for _, day in days],
            "day_begins": [day.begins for _, day in days],
            "day_ends": [day.ends for _, day in days],
            "month_begins": [day.month_begins for _, day in days],
            "month_ends": [day.month_ends for _, day in days],
        },
    )


def _days(calendar: Calendar, scope: Scope) -> list[_Day]:
    """Every day of the scope as this calendar cuts it."""
    return [
        _Day(
            day, calendar.start_of(day), calendar.start_of(day + timedelta(days=1)),
            calendar.start_of(day.replace(day=1)), calendar.start_of(following_month(day)),
        )
        for day in scope.period.each_day()
    ]  # fmt: skip
