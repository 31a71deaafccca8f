"""GET /api/usage, /api/usage/details, /api/costs and /api/quota: what the Usage page shows, for programs.

The same filters and the same numbers as the page. A member's key sees that member's own calls, an
admin's or finance person's the tenant's. Amounts are exact USD as text; days are the tenant's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta

from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import Response

from core import db, errors
from core.analytics import budgets, cursors, details, figures, parameters
from core.analytics.details import Cursor, EventRow, Key, Order
from core.analytics.figures import Step, Totals
from core.analytics.selection import Grain, Group, Selection
from core.http import keys, problems, work
from core.identity import zones
from core.identity.access import Principal, Scope, require_scope
from core.identity.limits import LimitName
from core.identity.zones import Calendar
from core.money import exact
from core.periods import Period, month_of
from core.quota import standing

_LIMIT, _AFTER, _ORDER = "limit", "after", "order"
_SELECTING = frozenset(
    {parameters.FROM, parameters.TO, parameters.SPAN, parameters.HOUR, parameters.SLOT, *Group}
)
_STEPS_MAX = 10_000
_LAST = "\U0010ffff"
_COUNTS = (
    "requests", "messages", "errors", "prompt_tokens", "cached_tokens", "cache_write_tokens",
    "completion_tokens", "reasoning_tokens",
)  # fmt: skip

Answer = dict[str, object]


@dataclass(frozen=True, slots=True)
class _Asked:
    """Who asks for which usage, within an open transaction."""

    session: Session
    who: Principal
    calendar: Calendar
    selection: Selection
    given: Mapping[str, list[str]]

    def single(self, name: str) -> str | None:
        """A parameter that may be given once. Raises BadInput."""
        values = self.given.get(name, [])
        if len(values) > 1:
            raise errors.BadInput(f"{name} is given more than once.", param=name)
        return values[0] if values else None

    def limit(self, default: int, most: int) -> int:
        """How many rows are wanted. Raises BadInput."""
        text = self.single(_LIMIT)
        if text is None:
            return default
        if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= most:
            raise errors.BadInput(f"limit is a whole number from 1 to {most}.", param=_LIMIT)
        return int(text)


async def usage(request: Request) -> Response:
    """Sums by step (`rollup`) and part (`group_by`), in order, and the sums of the whole selection."""
    return await _answer(request, {parameters.GROUP_BY, parameters.ROLLUP, _LIMIT, _AFTER}, _usage)


async def usage_details(request: Request) -> Response:
    """The events behind the sums: calls and their adjustments, page by page."""
    return await _answer(request, {_LIMIT, _AFTER, _ORDER}, _details)


async def costs(request: Request) -> Response:
    """What each part (`group_by`) of the period cost, the costliest first."""
    return await _answer(request, {parameters.GROUP_BY}, _costs)


async def quota(request: Request) -> Response:
    """What is used of this month's limits, and when they start anew."""
    return await _answer(request, set(), _quota, selecting=False)


async def _answer(
    request: Request, more: set[str], ask: Callable[[_Asked], Answer], *, selecting: bool = True
) -> Response:
    who = await keys.caller(request)
    keys.require_rate(who)
    given = {name: request.query_params.getlist(name) for name in request.query_params}
    taken = more | (_SELECTING if selecting else frozenset())
    found = await work.run(who.tenant_id, _read, keys.bearer(request), given, taken, ask)
    return problems.as_json(found)


def _read(
    secret: str, given: dict[str, list[str]], taken: set[str], ask: Callable[[_Asked], Answer]
) -> Answer:
    who = require_scope(standing.of_key(secret, None).principal, Scope.USAGE)
    if strange := given.keys() - taken:
        name = min(strange)[:100]
        raise errors.BadInput(f"Unknown parameter {name!r}.", param=name)
    with db.transaction(who) as session:
        calendar = zones.calendar_of(session, who.tenant_id)
        selection = parameters.read(given, calendar.today())
        return ask(_Asked(session, who, calendar, selection, given))


def _usage(asked: _Asked) -> Answer:
    group, grain = parameters.read_view(asked.given)
    limit, word = asked.limit(1_000, _STEPS_MAX), asked.single(_AFTER)
    bucket, part = ("", "") if word is None else map(str, cursors.unpack(word, str, str))
    rows: list[Answer] = []
    for piece in _pieces(asked.selection.period, grain, bucket):
        selection = replace(asked.selection, period=piece)
        steps = figures.series(asked.session, asked.who, selection, grain, group)
        found = sorted((_step(step, grain) for step in steps), key=_place)
        rows += [row for row in found if _place(row) > (bucket, part)]
        if len(rows) > limit:
            break
    return {
        **_head("usage", asked),
        "group_by": group, "rollup": grain, "data": rows[:limit],
        "totals": _sums(figures.totals(asked.session, asked.who, asked.selection)),
        "next": cursors.pack(*_place(rows[limit - 1])) if len(rows) > limit else None,
    }  # fmt: skip


def _pieces(period: Period, grain: Grain, bucket: str) -> Iterator[Period]:
    """The period from the step `bucket` on ('' from its beginning), in pieces that end with a step, so
    that a page reads about what it shows. Raises BadInput for hours of a long period or no such step."""
    parameters.require_grain(period, grain)
    try:
        first = max(period.first, date.fromisoformat(bucket[:10])) if bucket else period.first
    except ValueError:
        raise cursors.refused() from None
    while first <= period.last:
        ends = month_of(first).last if grain is Grain.MONTH else _fourth_sunday(first)
        yield Period(first, min(ends, period.last))
        first = ends + timedelta(days=1)


def _fourth_sunday(day: date) -> date:
    return day + timedelta(days=27 - day.weekday())


def _details(asked: _Asked) -> Answer:
    order, after = _order(asked.single(_ORDER)), asked.single(_AFTER)
    page = details.rows(
        asked.session, asked.who, asked.selection, order=order,
        after=Cursor.read(after) if after is not None else None,
        limit=asked.limit(50, details.ROWS_MAX),
    )  # fmt: skip
    return {
        **_head("usage.details", asked),
        "data": [_event(row) for row in page.rows],
        "totals": _sums(details.sums(asked.session, asked.who, asked.selection)),
        "next": page.next.text() if page.next else None,
    }


def _costs(asked: _Asked) -> Answer:
    group, _ = parameters.read_view(asked.given)
    rows = figures.groups(asked.session, asked.who, asked.selection, group)
    unsure = figures.estimates(asked.session, asked.who, asked.selection)
    return {
        **_head("costs", asked),
        "group_by": group,
        "data": [
            {"group": _text(row.value), "label": row.label, **_sums(row.totals)} for row in rows
        ],
        "totals": _sums(sum((row.totals for row in rows), Totals())),
        "estimated": {"calls": unsure.calls, "billed_cost_usd": exact(unsure.billed_nusd)},
    }


def _quota(asked: _Asked) -> Answer:
    month = budgets.this_month(asked.session, asked.who)
    return {
        "object": "quota",
        "month": f"{month.month.first:%Y-%m}",
        "time_zone": asked.who.time_zone,
        "resets_at": month.resets_at.isoformat(),
        "limits": [
            {
                "scope": use.scope, "limit": use.name, "unit": _unit(use.name),
                **{name: _amount(use.name, value) for name, value in (
                    ("used", use.used), ("held", use.held), ("maximum", use.maximum))},
            }
            for use in month.uses
        ],
        "rates": {"requests_per_minute": month.per_minute, "requests_per_hour": month.per_hour},
    }  # fmt: skip


def _head(kind: str, asked: _Asked) -> Answer:
    period = asked.selection.period
    return {
        "object": kind, "from": period.first.isoformat(), "to": period.last.isoformat(),
        "time_zone": asked.calendar.zone_of(period), "currency": "USD",
    }  # fmt: skip


def _step(step: Step, grain: Grain) -> Answer:
    begins = step.bucket.isoformat()  # of an hour up to its seconds
    bucket = begins.removesuffix(":00") if grain is Grain.HOUR else begins
    return {"bucket": bucket, "group": step.group, **_sums(step.totals)}


def _place(row: Answer) -> tuple[str, str]:
    """Where a step stands in the order of the answer: those without a part come last."""
    group = row["group"]
    return str(row["bucket"]), _LAST if group is None else str(group)


def _sums(sums: Totals) -> Answer:
    counts = {name: getattr(sums, name) for name in _COUNTS}
    return {**counts, "billed_cost_usd": exact(sums.billed_nusd)}


def _event(row: EventRow) -> Answer:
    return {
        "event_id": row.event_id, "kind": row.kind, "call_id": str(row.call_id),
        "occurred_at": row.occurred_at.isoformat(), "user": row.person, "model": row.model,
        "provider": row.provider, "source": row.source, "purpose": row.purpose,
        "cost_center": row.cost_center, "project": row.project, "key": _text(row.key_id),
        "prompt_tokens": row.prompt_tokens, "cached_tokens": row.cached_tokens,
        "completion_tokens": row.completion_tokens, "billed_cost_usd": exact(row.billed_nusd),
        "cost_source": row.cost_source, "final": row.final, "outcome": row.outcome,
        "latency_ms": row.latency_ms, "first_token_ms": row.first_token_ms,
        "conversation_id": _text(row.conversation_id),
    }  # fmt: skip


def _order(word: str | None) -> Order:
    """`time` is oldest first, `-time` newest first; the same of the other keys."""
    given = word or "-time"
    key = given.removeprefix("-")
    if key not in [*Key]:
        raise errors.BadInput(
            f"order is one of {', '.join(Key)}, with a minus for the largest first.", param=_ORDER
        )
    return Order(Key(key), given.startswith("-"))


def _unit(name: LimitName) -> str:
    return "USD" if name is LimitName.MONTHLY_NUSD else name.removeprefix("monthly_")


def _amount(name: LimitName, value: int | None) -> int | str | None:
    return exact(value) if value is not None and name is LimitName.MONTHLY_NUSD else value


def _text(value: object) -> str | None:
    return None if value is None else str(value)
