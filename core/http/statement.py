"""GET /billing/statement.csv: the statement of a period as a file, for the tenant's buyers.

It is sent in blocks as it is read, so its length costs no memory; no text in it can act as a formula
in a spreadsheet. It takes no API key: only a signed-in browser.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import date, datetime
from functools import partial
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.responses import StreamingResponse

from core import db, errors
from core.billing import statement
from core.billing.statement import Cut, Line, StatementAsk
from core.chat import engine
from core.finance.files import cells
from core.http import problems
from core.http.sessions import COOKIE
from core.identity import audit, sessions
from core.identity.access import Principal, SignedIn
from core.money import exact

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_END = "\r\n"
_COLUMNS = (
    "time", "kind", "description", "amount_usd", "balance_after_usd", "model", "prompt_tokens",
    "completion_tokens", "person", "call_id", "order_id", "order", "invoice", "lot_id", "lot_kind",
    "expires_at", "reason", "entry",
)  # fmt: skip


async def as_csv(request: Request) -> StreamingResponse:
    """The lines of `from` to `to` (days of the tenant's zone), of each `kind` named; newest first."""
    running = engine.current()
    who = _principal(await running.sql(sessions.who, request.cookies.get(COOKIE)))
    asked = _asked(request)
    cut = await running.sql(_begin, who, asked)
    name = f"statement_{asked.first_day}_{asked.last_day}.csv"
    return StreamingResponse(
        _blocks(who, cut, asked.kinds), media_type="text/csv; charset=utf-8",
        headers={
            "content-disposition": f'attachment; filename="{name}"',
            "cache-control": problems.NO_STORE,
        },
    )  # fmt: skip


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


async def _blocks(who: Principal, cut: Cut, kinds: tuple[str, ...]) -> AsyncIterator[bytes]:
    """The file in blocks of some hundred lines, each read in a transaction of its own."""
    running = engine.current()
    zone = ZoneInfo(who.time_zone)
    yield cells.lines([_COLUMNS], end=_END)
    before: int | None = None
    while page := await running.sql(_page, who, cut, kinds, before):
        rows = [_cells(line, zone) for line in page]
        yield await running.sql(partial(cells.lines, rows, end=_END))
        before = page[-1].seq


def _page(who: Principal, cut: Cut, kinds: tuple[str, ...], before: int | None) -> tuple[Line, ...]:
    with db.transaction(who) as session:
        return statement.lines(session, who, cut, kinds, before=before)


def _cells(line: Line, zone: ZoneInfo) -> tuple[str, ...]:
    call, order, grant = line.call, line.order, line.grant
    return (
        _time(line.occurred_at, zone), line.kind, _text(line.description),
        exact(line.amount_nusd), exact(line.balance_after_nusd),
        _text(call.model if call else None), _number(call.prompt_tokens if call else None),
        _number(call.completion_tokens if call else None), _text(call.person if call else None),
        str(call.call_id) if call else "", str(order.order_id or "") if order else "",
        _text(order.title if order else None), _text(order.invoice_number if order else None),
        str(grant.lot_id) if grant else "", grant.kind if grant else "",
        _time(grant.expires_at if grant else None, zone), _text(line.reason), str(line.seq),
    )  # fmt: skip


def _text(value: str | None) -> str:
    return cells.guard(value or "")


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def _time(at: datetime | None, zone: ZoneInfo) -> str:
    return "" if at is None else at.astimezone(zone).isoformat(timespec="milliseconds")
