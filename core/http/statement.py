"""GET /billing/statement.csv: the statement of a period as a file, for the tenant's buyers.

It is the statement export cut to the lines asked for: the same columns, cells and order. It is sent in
blocks, each read in a transaction of its own. It takes no API key: only a signed-in browser.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import replace
from datetime import date

from starlette.requests import Request

from core import db, errors
from core.billing import statement
from core.billing.statement import Cut, StatementAsk
from core.finance.datasets import statement as dataset
from core.finance.files import csv_file
from core.finance.files.copying import Progress
from core.http import problems, work
from core.http.sending import Blocks, Sending
from core.http.sessions import signed_in
from core.identity import audit
from core.identity.access import Principal, SignedIn

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_BLOCK_LINES = 1_000


async def as_csv(request: Request) -> Sending:
    """The lines of `from` to `to` (days of the tenant's calendar), of each `kind` named, oldest first."""
    who = _principal(await signed_in(request))
    asked = _asked(request)
    cut = await work.run(who.tenant_id, _begin, who, asked)
    name = f"statement_{asked.first_day}_{asked.last_day}.csv"
    progress = Progress()
    return Sending(
        Blocks(_blocks(who, cut, asked.kinds, progress), progress),
        {
            "content-type": "text/csv; charset=utf-8",
            "content-disposition": f'attachment; filename="{name}"',
            "cache-control": problems.NO_STORE,
        },
        who.tenant_id,
    )


def _principal(found: SignedIn | None) -> Principal:
    if found is None:
        raise errors.NotSignedIn("Please sign in to download this.")
    if found.principal is None:
        raise errors.Forbidden("Only the people of a team have a statement.")
    return found.principal


def _asked(request: Request) -> StatementAsk:
    kinds = tuple(dict.fromkeys(request.query_params.getlist("kind")))
    return StatementAsk(_day(request, "from"), _day(request, "to"), kinds)


def _day(request: Request, name: str) -> date:
    given = request.query_params.getlist(name)
    if len(given) != 1 or not _DAY.fullmatch(given[0]):
        raise errors.BadInput(f"'{name}' is one day, as YYYY-MM-DD.", param=name)
    try:
        return date.fromisoformat(given[0])
    except ValueError:
        raise errors.BadInput(f"'{name}' is no day of the calendar.", param=name) from None


def _begin(who: Principal, asked: StatementAsk) -> Cut:
    """Fix what is exported, and record that it is. Raises Forbidden (recorded too) and BadInput."""
    exported = f"tenant:{who.tenant_id}"
    with (
        audit.denials(who, "statement.export", exported),
        db.transaction(who) as session,
    ):
        cut = statement.find_cut(session, who, asked)
        audit.record(
            session, who, "statement.export", exported,
            after={"from": asked.first_day, "to": asked.last_day, "kinds": list(asked.kinds)},
        )  # fmt: skip
    return cut


def _blocks(
    who: Principal, cut: Cut, kinds: tuple[str, ...], progress: Progress
) -> Generator[bytes]:
    """The file in blocks of at most so many lines: a slow client holds nothing."""
    begins = range(cut.after_seq, max(cut.until_seq, cut.after_seq + 1), _BLOCK_LINES)
    for after in begins:
        run = replace(cut, after_seq=after, until_seq=min(after + _BLOCK_LINES, cut.until_seq))
        found = dataset.of_cut(run, kinds)
        with db.transaction(who) as session:
            block = b"".join(
                csv_file.blocks(session, found, progress, header=after == cut.after_seq)
            )
        if block:
            yield block
