"""Compares our books with the provider's bill, one closed UTC day at a time, and keeps what came of it.

Opens no connection. A difference beyond one percent is an alarm and, once for each day, a notice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

from sqlalchemy import delete, func, insert, select, text
from sqlalchemy.orm import Session

from core import clock, errors, telemetry
from core.alerts import notices
from core.finance.bills import causes, ours
from core.finance.bills.causes import Cause, ModelCheck, Theirs
from core.finance.bills.rows import less, total
from core.finance.tables import BillCheck, ProviderBill
from core.identity.access import Actor, require_operator

DIFFERS = "provider_bill.differs"
_BEYOND_PERCENT = 1
_BEYOND_USD = Decimal("0.01")
_ONE_COMPARISON = 7_040  # key of the advisory lock
_DAYS_MAX = 400


@dataclass(frozen=True, slots=True)
class DayCheck:
    """A UTC day of a provider, model by model."""

    provider: str
    day: date
    models: tuple[ModelCheck, ...]
    checked_at: datetime

    @property
    def ours_usd(self) -> Decimal:
        """What we recorded."""
        return total(model.ours_usd for model in self.models)

    @property
    def theirs_usd(self) -> Decimal:
        """What the provider took."""
        return total(model.theirs_usd for model in self.models)

    @property
    def difference_usd(self) -> Decimal:
        """What the provider took beyond what we recorded; negative: less."""
        return less(self.theirs_usd, self.ours_usd)

    @property
    def ratio(self) -> Decimal | None:
        """The difference as a part of what the provider took; None where it took nothing."""
        theirs = self.theirs_usd
        return self.difference_usd / theirs if theirs else None

    @property
    def worst(self) -> Cause:
        """Why the model differs that differs most."""
        found = max(self.models, key=lambda model: abs(model.difference_usd), default=None)
        return found.cause if found else "agrees"

    @property
    def differs(self) -> bool:
        """Whether the models together differ by more than one percent, and a cent.

        Counted model by model, so that too much of one does not hide too little of another; one
        amount under two names is no difference.
        """
        gaps = total(abs(m.difference_usd) for m in self.models if m.cause != "named_differently")
        return gaps > _BEYOND_USD and gaps * 100 > self.theirs_usd * _BEYOND_PERCENT


def require_closed(day: date) -> None:
    """Refuse a UTC day that is not over. Raises errors.BadInput."""
    if day >= clock.now().date():
        raise errors.BadInput(f"{day} is not over yet in UTC.", param="day")


def lock(session: Session) -> None:
    """One change of bills and comparisons at a time, until the end of the transaction."""
    session.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _ONE_COMPARISON})


def compare(session: Session, provider: str, day: date) -> DayCheck:
    """Compare one closed day with the bill as last read, and keep it. Alarms beyond one percent.

    Raises errors.BadInput for a day that is not over.
    """
    require_closed(day)
    lock(session)
    bill = session.scalars(
        select(ProviderBill).where(ProviderBill.provider == provider, ProviderBill.day == day)
    )
    theirs = {row.model: Theirs(row.requests, row.cost_usd) for row in bill}
    models = causes.compare(ours.of_day(session, provider, day), theirs)
    found = DayCheck(provider, day, models, _keep(session, provider, day, models))
    if found.differs:
        _tell(session, found)
    return found


def compare_all(session: Session, provider: str, days: Collection[date]) -> tuple[DayCheck, ...]:
    """Compare these days, in order."""
    return tuple(compare(session, provider, day) for day in sorted(days))


def has_bill(session: Session, provider: str, day: date) -> bool:
    """Whether anything is known of what the provider took that day."""
    query = select(ProviderBill.model).where(
        ProviderBill.provider == provider, ProviderBill.day == day
    )
    return session.scalar(query.limit(1)) is not None


def listed(session: Session, who: Actor, *, days: int = 31) -> tuple[DayCheck, ...]:
    """The last `days` days that were compared, newest first, for operators."""
    require_operator(who)
    since = clock.now().date() - timedelta(days=min(max(days, 1), _DAYS_MAX))
    grouped: dict[tuple[date, str], list[BillCheck]] = defaultdict(list)
    query = select(BillCheck).where(BillCheck.day >= since).order_by(BillCheck.model)
    for row in session.scalars(query.execution_options(populate_existing=True)):
        grouped[row.day, row.provider].append(row)
    return tuple(
        DayCheck(provider, day, tuple(map(_model, rows)), max(row.checked_at for row in rows))
        for (day, provider), rows in sorted(grouped.items(), reverse=True)
    )


def _keep(session: Session, provider: str, day: date, models: tuple[ModelCheck, ...]) -> datetime:
    """Put the comparison in the place of the one before; returns when it was made."""
    session.execute(delete(BillCheck).where(BillCheck.provider == provider, BillCheck.day == day))
    if models:
        session.execute(
            insert(BillCheck),
            [
                {
                    "provider": provider, "day": day, "model": m.model, "ours_usd": m.ours_usd,
                    "ours_requests": m.ours_requests, "theirs_usd": m.theirs_usd,
                    "theirs_requests": m.theirs_requests, "cause": m.cause,
                }
                for m in models
            ],
        )  # fmt: skip
    return session.scalar(select(func.now())) or clock.now()


def _tell(session: Session, found: DayCheck) -> None:
    notices.post_operators(
        session, kind=DIFFERS, key=f"{found.provider}:{found.day}",
        facts={
            "provider": found.provider, "day": found.day.isoformat(),
            "ours_usd": format(found.ours_usd, "f"), "theirs_usd": format(found.theirs_usd, "f"),
            "cause": found.worst,
        },
    )  # fmt: skip
    reason = f"{found.day}: {found.worst}"
    telemetry.alarm("provider_bill_differs", provider=found.provider, reason=reason)


def _model(row: BillCheck) -> ModelCheck:
    return ModelCheck(
        row.model, row.ours_usd, row.ours_requests, row.theirs_usd, row.theirs_requests,
        row.cause,  # type: ignore[arg-type]
    )  # fmt: skip
