"""Keeps what a provider says it took: its days, as read from its activity or from a file, and the lines of
a file that names generations, each matched with our call of that generation. Compares no sums."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import BinaryIO, Literal, TypeAlias, TypeVar

from sqlalchemy import delete, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core import clock, errors
from core.catalog.activity import EXACT
from core.catalog.registry import OPENROUTER
from core.finance.bills import comparison, sheets
from core.finance.bills.rows import DayRow, Line
from core.finance.bills.sheets import Sheet
from core.finance.tables import ProviderBill
from core.identity import audit
from core.identity.access import Actor, require_operator

CameBy: TypeAlias = Literal["activity", "upload"]
_BATCH = 2_000
_DIGEST_BYTES = 1 << 20
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What an uploaded file held. The counts of lines are zero where it names no generations.

    `left_out`: rows of a day that is not over yet.
    """

    rows: int
    left_out: int
    days: tuple[date, ...]
    matched: int
    different: int
    unrecorded: int


def upload(session: Session, who: Actor, file: BinaryIO, *, provider: str = OPENROUTER) -> Uploaded:
    """Keep an uploaded bill and compare its days; for operators, audited.

    Raises errors.BadInput naming row and column, errors.TooLarge; then roll back, and nothing is kept.
    """
    with audit.denials(who, "provider_bill.upload", f"provider:{provider}"):
        require_operator(who)
    comparison.lock(session)
    sheet = sheets.open_sheet(file, clock.now())
    if sheet.has_generations:
        found = _keep_lines(session, provider, sheet)
    else:
        found = _keep_sheet(session, provider, sheet)
    comparison.compare_all(session, provider, found.days)
    audit.record(
        session, who, "provider_bill.upload", f"provider:{provider}",
        after={
            "rows": found.rows, "days": len(found.days), "different": found.different,
            "unrecorded": found.unrecorded, "sha256": _digest(file),
        },
    )  # fmt: skip
    return found


def replace_days(
    session: Session, provider: str, days: Collection[date], rows: Iterable[DayRow], came_by: CameBy
) -> None:
    """Put `rows` in the place of everything known of these days."""
    comparison.lock(session)
    session.execute(
        delete(ProviderBill).where(ProviderBill.provider == provider, ProviderBill.day.in_(days))
    )
    for batch in _batches(rows):
        _add(session, provider, batch, came_by)


def _keep_sheet(session: Session, provider: str, sheet: Sheet) -> Uploaded:
    """The sums of a file; each of its days is replaced as a whole."""
    days: set[date] = set()
    count = 0
    for batch in _batches(row for row in sheet.rows if isinstance(row, DayRow)):
        new = {row.day for row in batch} - days
        session.execute(
            delete(ProviderBill).where(ProviderBill.provider == provider, ProviderBill.day.in_(new))
        )
        _add(session, provider, batch, "upload")
        days |= new
        count += len(batch)
    return Uploaded(count, sheet.left_out, tuple(sorted(days)), 0, 0, 0)


def _add(session: Session, provider: str, rows: list[DayRow], came_by: CameBy) -> None:
    """Add rows to the days' models; a bill may list a model once for each of its endpoints."""
    sums: dict[tuple[date, str], DayRow] = {}
    for row in rows:
        before = sums.get((row.day, row.model))
        sums[row.day, row.model] = _sum(before, row) if before else row
    statement = insert(ProviderBill)
    statement = statement.on_conflict_do_update(
        index_elements=["provider", "day", "model"],
        set_={
            "requests": ProviderBill.requests + statement.excluded.requests,
            "tokens": ProviderBill.tokens + statement.excluded.tokens,
            "cost_usd": ProviderBill.cost_usd + statement.excluded.cost_usd,
        },
    )
    session.execute(
        statement,
        [
            {
                "provider": provider, "day": row.day, "model": row.model, "requests": row.requests,
                "tokens": row.tokens, "cost_usd": row.cost_usd, "came_by": came_by,
            }
            for row in sums.values()
        ],
    )  # fmt: skip


def _sum(one: DayRow, other: DayRow) -> DayRow:
    return DayRow(
        one.day, one.model, one.requests + other.requests, one.tokens + other.tokens,
        EXACT.add(one.cost_usd, other.cost_usd),
    )  # fmt: skip


def _keep_lines(session: Session, provider: str, sheet: Sheet) -> Uploaded:
    """The generations of a file, matched; they stand in for the bill of days nothing else tells of."""
    days: set[date] = set()
    states = {"matched": 0, "imported": 0, "different": 0, "unrecorded": 0}
    for batch in _batches(line for line in sheet.rows if isinstance(line, Line)):
        _keep_batch(session, provider, batch, sheet)
        for state, count in _match(session, batch):
            states[state] += count
        days |= {line.occurred_at.date() for line in batch}
    _stand_in(session, provider, days)
    return Uploaded(
        sum(states.values()), sheet.left_out, tuple(sorted(days)),
        states["matched"] + states["imported"], states["different"], states["unrecorded"],
    )  # fmt: skip


def _keep_batch(session: Session, provider: str, batch: list[Line], sheet: Sheet) -> None:
    """Keep lines, in the place of what an earlier file said of the same generations.

    Raises errors.BadInput for a generation that this file has named before.
    """
    ids = [line.generation_id for line in batch]
    kept = 0
    if len(set(ids)) == len(ids):
        found = session.execute(
            text(_KEEP_LINES),
            {
                "provider": provider, "ids": ids, "at": [line.occurred_at for line in batch],
                "models": [line.model for line in batch],
                "prompts": [line.prompt_tokens for line in batch],
                "completions": [line.completion_tokens for line in batch],
                "costs": [line.cost_usd for line in batch],
            },
        )  # fmt: skip
        kept = len(found.all())
    if kept < len(ids):
        raise errors.BadInput(
            f"The file names a generation twice, by row {sheet.row_number}.", param="file"
        )


# Arrays, not rows of parameters: half a million lines take seconds. What this transaction kept stays.
_KEEP_LINES = """
insert into app.bill_lines as l (provider, state, generation_id, occurred_at, model, prompt_tokens,
  completion_tokens, cost_usd)
select :provider, 'unrecorded', * from unnest(cast(:ids as text[]), cast(:at as timestamptz[]),
  cast(:models as text[]), cast(:prompts as bigint[]), cast(:completions as bigint[]),
  cast(:costs as numeric[]))
on conflict (generation_id) do update set provider = excluded.provider, state = 'unrecorded',
  occurred_at = excluded.occurred_at, model = excluded.model,
  prompt_tokens = excluded.prompt_tokens, completion_tokens = excluded.completion_tokens,
  cost_usd = excluded.cost_usd, ours_usd = null, of_tenant = null, call_id = null,
  uploaded_at = now()
where l.uploaded_at < now()
returning 1
"""


def _match(session: Session, batch: list[Line]) -> list[tuple[str, int]]:
    """Find our calls of these generations; returns how many lines are in which state."""
    ids = {"ids": [line.generation_id for line in batch]}
    session.execute(text(_MATCH), ids)
    return [(row.state, row.lines) for row in session.execute(text(_STATES), ids)]


# An imported line that our books say the same of stays one.
_MATCH = """
update app.bill_lines l set of_tenant = found.tenant_id, call_id = found.call_id, ours_usd = found.usd,
  state = case when not verbs.same_usd(l.cost_usd, found.usd) then 'different'
    when l.imported_at is null then 'matched' else 'imported' end
from (select g.generation_id, c.provider, c.tenant_id, c.call_id,
    verbs.provider_usd(c.tenant_id, c.call_id, c.opened_at) as usd
  from app.generations g join app.calls c on c.tenant_id = g.tenant_id and c.call_id = g.call_id
  where g.generation_id = any(:ids)) found
where l.generation_id = found.generation_id and l.provider = found.provider
"""
_STATES = (
    "select state, count(*) as lines from app.bill_lines where generation_id = any(:ids) group by 1"
)


def _stand_in(session: Session, provider: str, days: set[date]) -> None:
    """Sum the lines of days that no activity was read of, as their bill."""
    told = set(
        session.scalars(
            select(ProviderBill.day).where(
                ProviderBill.provider == provider, ProviderBill.day.in_(days),
                ProviderBill.came_by == "activity",
            )
        )
    )  # fmt: skip
    for day in sorted(days - told):
        session.execute(
            delete(ProviderBill).where(ProviderBill.provider == provider, ProviderBill.day == day)
        )
        begins = datetime(day.year, day.month, day.day, tzinfo=UTC)
        session.execute(
            text(_SUM_LINES),
            {
                "provider": provider,
                "day": day,
                "begins": begins,
                "ends": begins + timedelta(days=1),
            },
        )


_SUM_LINES = """
insert into app.provider_bills(provider, day, model, requests, tokens, cost_usd, came_by)
select :provider, :day, model, count(*), sum(prompt_tokens + completion_tokens), sum(cost_usd), 'upload'
from app.bill_lines where provider = :provider and occurred_at >= :begins and occurred_at < :ends
group by model
"""


def _batches(rows: Iterable[T]) -> Iterator[list[T]]:
    remaining = iter(rows)
    while batch := list(islice(remaining, _BATCH)):
        yield batch


def _digest(file: BinaryIO) -> str:
    file.seek(0)
    digest = hashlib.sha256()
    while piece := file.read(_DIGEST_BYTES):
        digest.update(piece)
    return digest.hexdigest()
