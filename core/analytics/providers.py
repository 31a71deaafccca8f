"""How the providers do, for operators: calls, successes and how long they took in the last day. Reads the
events of all tenants and names none of them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from sqlalchemy import text
from sqlalchemy.orm import Session

from core.identity.access import Actor, require_operator

HOURS = 24


@dataclass(frozen=True, slots=True)
class ProviderRow:
    """One provider's last HOURS hours. Times are whole milliseconds of the calls that answered, as
    p50, p95 and p99; None where none did."""

    provider: str
    calls: int
    failed: int
    first_token_ms: tuple[int, int, int] | None
    duration_ms: tuple[int, int, int] | None

    @property
    def succeeded(self) -> Fraction | None:
        """The share of calls that did not fail."""
        return None if not self.calls else Fraction(self.calls - self.failed, self.calls)


def providers(session: Session, who: Actor) -> tuple[ProviderRow, ...]:
    """Every provider that was called lately, the busiest first. Raises errors.Forbidden."""
    require_operator(who)
    rows = session.execute(text(_PROVIDERS), {"hours": HOURS})
    return tuple(
        ProviderRow(row.provider, row.calls, row.failed, _three(row.first), _three(row.whole))
        for row in rows
    )


def _three(found: list[int] | None) -> tuple[int, int, int] | None:
    if found is None:
        return None
    p50, p95, p99 = found
    return p50, p95, p99


_PROVIDERS = """
select provider, count(*) as calls, count(*) filter (where outcome in ('error', 'timeout')) as failed,
  percentile_disc(array[0.5, 0.95, 0.99]) within group (order by first_token_ms)
    filter (where first_token_ms is not null) as first,
  percentile_disc(array[0.5, 0.95, 0.99]) within group (order by latency_ms)
    filter (where outcome not in ('error', 'timeout')) as whole
from app.usage_events
where kind = 'call' and occurred_at > now() - make_interval(hours => :hours)
group by provider order by calls desc, provider
"""
