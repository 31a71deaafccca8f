"""What each cost centre and project used in a period and what it is charged: the rows of the chargeback
export, summed over its models. The two agree because they are read by the same query."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from sqlalchemy.orm import Session

from core.finance.datasets import catalogue
from core.identity.access import Actor
from core.money import NANO_PER_USD
from core.periods import Period


@dataclass(frozen=True, slots=True)
class Share:
    """One cost centre and project of a tenant; None where none was set. `list_nusd` only for operators."""

    tenant_id: UUID
    tenant_name: str
    cost_center: str | None
    project: str | None
    requests: int
    tokens: int
    billed_nusd: int
    list_nusd: int | None


def read(
    session: Session, who: Actor, period: Period, *, tenant_id: UUID | None
) -> tuple[Share, ...]:
    """The parts of a tenant's period, the costliest first; for operators without a tenant, of all.

    Raises as catalogue.dataset.
    """
    found = catalogue.dataset(session, who, "chargeback", period, tenant_id=tenant_id)
    rows = session.connection().exec_driver_sql(found.query.sql, dict(found.query.parameters))
    sums: dict[tuple[UUID, str, str | None, str | None], Share] = {}
    for row in rows.mappings():
        key = UUID(row["tenant_id"]), row["tenant_name"], row["cost_center"], row["project"]
        before = sums.get(key, Share(*key, 0, 0, 0, 0 if "list_cost_usd" in row else None))
        sums[key] = Share(
            *key, before.requests + row["requests"],
            before.tokens + row["prompt_tokens"] + row["completion_tokens"],
            before.billed_nusd + _nusd(row["billed_cost_usd"]),
            None if before.list_nusd is None else before.list_nusd + _nusd(row["list_cost_usd"]),
        )  # fmt: skip
    return tuple(sorted(sums.values(), key=lambda share: (-share.billed_nusd, _words(share))))


def _nusd(amount_usd: Decimal) -> int:
    """Exact USD of the export as the whole nano-USD it was written from."""
    return int(amount_usd * NANO_PER_USD)


def _words(share: Share) -> tuple[str, str, str]:
    return share.tenant_name, share.cost_center or "", share.project or ""
