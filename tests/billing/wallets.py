"""Looks at one wallet from outside: its figures, and whether everything about it adds up."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from core import db
from tests.billing.purchases import offences
from tests.factories import TESTS

# Each is true of a sound wallet: `a` is the account, `e`, `l`, `d` its entries, lots and dues.
_SOUND = text(
    """
    with a as (select * from app.accounts where tenant_id = :tenant),
      e as (select *, sum(amount_nusd) over (order by seq) as running from app.entries
        where tenant_id = :tenant),
      l as (select *, coalesce((select sum(amount_nusd) from app.lot_uses u
          where u.tenant_id = :tenant and u.lot_id = lots.lot_id), 0) as used,
          -coalesce((select sum(amount_nusd) from app.entries b where b.tenant_id = :tenant
            and b.lot_id = lots.lot_id and b.kind in ('revoke', 'reinstate')), 0) as clawed_back
        from app.lots where tenant_id = :tenant)
    select a.posted_nusd = coalesce((select sum(amount_nusd) from e), 0) as posted_is_the_entries,
      a.seq = (select count(*) from e) and a.seq = coalesce((select max(seq) from e), 0) as no_gap,
      not exists (select from e where posted_after_nusd <> running) as runs,
      a.posted_nusd = coalesce((select sum(remaining_nusd) from l), 0) - a.debt_nusd
        - a.receivable_nusd as posted_is_the_lots,
      a.receivable_nusd = coalesce((select sum(amount_nusd) from app.dues where tenant_id = :tenant), 0)
        as receivable_is_the_dues,
      a.held_nusd = coalesce((select sum(amount_nusd) from app.holds
        where tenant_id = :tenant and state = 'open'), 0)
        + coalesce((select sum(kept_nusd) from app.lookups where tenant_id = :tenant), 0)
        as held_is_the_holds_and_what_is_kept,
      not exists (select from l where consumed_nusd <> used) as consumed_is_the_uses,
      not exists (select from l where clawed_back not between revoked_nusd and granted_nusd)
        as clawed_back_within_the_grant,
      -coalesce((select sum(amount_nusd) from e where kind in ('capture', 'adjust')), 0)
        + coalesce((select sum(clawed_back - revoked_nusd) from l), 0)
        = coalesce((select sum(consumed_nusd) from l), 0) + a.debt_nusd + a.receivable_nusd
        + coalesce((select sum(amount_nusd) from e where kind in ('payment', 'write_off')), 0)
        as all_use_is_paid_or_owed
    from a
    """
)


@dataclass(frozen=True, slots=True)
class Figures:
    """The stored sums of a wallet."""

    posted: int
    held: int
    debt: int
    receivable: int


def figures(session: Session, tenant_id: UUID) -> Figures:
    row = session.execute(
        text(
            "select posted_nusd, held_nusd, debt_nusd, receivable_nusd from app.accounts"
            " where tenant_id = :tenant"
        ),
        {"tenant": tenant_id},
    ).one()
    return Figures(*row)


def unsound(session: Session, tenant_id: UUID) -> list[str]:
    """What does not add up about the wallet."""
    row = session.execute(_SOUND, {"tenant": tenant_id}).one()
    return [name for name, holds in row._mapping.items() if not holds]


def assert_sound(*tenant_ids: UUID) -> None:
    """Everything about these wallets adds up, also as the product's own queries see it."""
    with db.transaction(TESTS) as session:
        assert [unsound(session, tenant_id) for tenant_id in tenant_ids] == [[] for _ in tenant_ids]
    assert offences(*tenant_ids) == []
