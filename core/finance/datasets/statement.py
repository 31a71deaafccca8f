"""The wallet's statement as an export: every movement of the period in the ledger's own order.

A period is cut as the statement of the Billing page cuts it, so that opening balance and movements
make the closing balance; the page's own file has the same columns and lines.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from core.billing.statement import BORDER, KINDS, Cut
from core.finance.datasets.columns import Column, Dataset, Query, Type
from core.finance.datasets.fields import Field, select_list, text, usd
from core.finance.datasets.scope import Scope

FIELDS = (
    text("tenant_id", "e.tenant_id::text", "The tenant."),
    text("tenant_name", "t.name", "The tenant's name now."),
    Field(Column("line", Type.INTEGER, "Number of the movement in the tenant's ledger."), "e.seq"),
    Field(Column("occurred_at", Type.TIME, "When it was booked."), "e.occurred_at"),
    text("kind", "e.kind", f"One of {', '.join(KINDS)}."),
    text("movement", "%(words)s::jsonb ->> e.kind", "The kind in words."),
    Field(
        Column(
            "amount_usd",
            Type.DECIMAL,
            "The movement, USD, exact; usage is negative.",
            is_total=True,
        ),
        usd("e.amount_nusd"),
    ),
    Field(
        Column("balance_after_usd", Type.DECIMAL, "The balance after it, USD, exact."),
        usd("e.posted_after_nusd"),
    ),
    text("actor", "e.actor", "Who booked it."),
    text("reason", "e.reason", "Why, where a reason was given."),
    text("call_id", "e.call_id::text", "The call behind usage and its corrections."),
    text("user_email", "u.name", "The caller's e-mail at the time of the call."),
    text("model", "coalesce(v.model_served, c.model_requested)", "The model of that call."),
    text("source", "c.source", "'chat', 'api' or 'background'."),
    text("order_id", "o.order_id::text", "The order behind bought credit."),
    text("order_title", "o.title", "What was ordered."),
    text("invoice_number", "i.number", "The invoice behind bought credit or a payment."),
    text("credit_kind", "l.kind", "'purchase', 'plan', 'promo' or 'manual' credit."),
    Field(Column("credit_expires_at", Type.TIME, "When that credit expires."), "l.expires_at"),
)
COLUMNS = tuple(field.column for field in FIELDS)
_EDGE = BORDER.format(tenant="b.tenant_id", moment="b.{side}")
_EDGES = f"""
  select b.tenant_id, ({_EDGE.format(side="begins")}) as after_seq,
    ({_EDGE.format(side="ends")}) as until_seq
  from unnest(%(tenants)s::uuid[], %(froms)s::timestamptz[], %(untils)s::timestamptz[])
    as b(tenant_id, begins, ends)"""  # noqa: S608 - our own text
_RUN = """
  select app.tenant() as tenant_id, %(after)s::bigint as after_seq, %(until)s::bigint as until_seq"""


def query(scope: Scope) -> Query:
    """All movements of the scope, oldest first."""
    bounds = scope.bounds()
    return _movements(
        _EDGES, tuple(KINDS),
        scope.parameters(
            tenants=list(bounds), froms=[begins for begins, _ in bounds.values()],
            untils=[ends for _, ends in bounds.values()],
        ),
    )  # fmt: skip


def of_cut(cut: Cut, kinds: tuple[str, ...] = ()) -> Dataset:
    """The same of a run of the own tenant's ledger, of these kinds; none means all."""
    parameters = {"after": cut.after_seq, "until": cut.until_seq}
    found = _movements(_RUN, kinds or tuple(KINDS), parameters)
    return Dataset("statement", COLUMNS, found, cut.time_zone)


def _movements(edges: str, kinds: tuple[str, ...], parameters: Mapping[str, object]) -> Query:
    return Query.ordered(
        f"""with edges as ({edges})
select {select_list(FIELDS, for_operators=True)}
from edges
join app.entries e on e.tenant_id = edges.tenant_id and e.seq > edges.after_seq
  and e.seq <= edges.until_seq and e.kind = any(%(kinds)s)
join app.tenants n on n.tenant_id = e.tenant_id
join app.labels t on t.tenant_id = n.tenant_id and t.label_id = n.label_id
left join app.calls c on c.tenant_id = e.tenant_id and c.call_id = e.call_id
left join app.labels u on u.tenant_id = c.tenant_id and u.label_id = c.user_label_id
left join app.usage_events v on v.tenant_id = c.tenant_id and v.occurred_at = c.opened_at
  and v.call_id = c.call_id and v.kind = 'call'
left join app.lots l on l.tenant_id = e.tenant_id and l.lot_id = e.lot_id
left join app.fulfilments f on f.tenant_id = e.tenant_id and f.stripe_id = e.source_id
  and e.source_type in (f.kind, f.kind || '_bonus')
left join app.orders o on o.tenant_id = f.tenant_id and o.order_id = f.order_id
left join app.invoices i on i.tenant_id = e.tenant_id and i.invoice_id
  = coalesce(f.invoice_id, o.invoice_id, case when e.source_type = 'invoice' then e.source_id end)""",  # noqa: S608
        "e.tenant_id, e.seq",
        {**parameters, "kinds": list(kinds), "words": json.dumps(dict(KINDS))},
    )
