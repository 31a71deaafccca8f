"""Turns the gate's verdict into a refusal a person understands: which limit, what is used, when it
resets, what still works. It decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from core import errors, telemetry
from core.money import show
from core.quota.standing import Standing

if TYPE_CHECKING:
    from core.quota.gate import Admission

_WHOSE = {"user": "your", "key": "this key's", "tenant": "your team's"}
_FREE_STILL_WORKS = "Free models still work, and so do cheaper models or a shorter answer that fit."


def of_verdict(
    verdict: Mapping[str, Any], admission: Admission, standing: Standing
) -> errors.Refusal:
    """The refusal for a verdict of verbs.admit other than 'ok'; counted by its code."""
    code = str(verdict.get("code"))
    telemetry.refusals_total.labels(code=code).inc()
    if code == "repeated":
        return errors.Conflict(
            f"This Idempotency-Key was used before, by call {verdict['first_call_id']}.",
            param="Idempotency-Key",
        )
    if code in {"credit", "debt"}:
        return _no_credit(code, verdict, admission)
    if code == "monthly_nusd":
        return _budget(verdict, admission, standing)
    if code in {"monthly_messages", "monthly_tokens"}:
        return _quota(code, verdict, standing)
    if code in {"requests_per_minute", "requests_per_hour"}:
        return _rate(code, verdict)
    return errors.Unavailable("The call could not be admitted right now.", retry_after_s=5)


def cap_unaffordable(standing: Standing, asked: int, affordable: int) -> errors.InsufficientCredit:
    """An explicit answer cap that cannot be paid for, with the one that can."""
    return errors.InsufficientCredit(
        f"An answer of {asked} tokens cannot be covered; {affordable} tokens can. Set max_tokens to"
        f" {affordable} or less, or ask your admin for more credit.",
        limit="credit", scope="tenant", used=show(0), maximum=show(standing.available_nusd or 0),
        still_works=f"max_tokens up to {affordable}",
    )  # fmt: skip


def _no_credit(
    code: str, verdict: Mapping[str, Any], admission: Admission
) -> errors.InsufficientCredit:
    available = int(verdict.get("maximum") or 0)
    if code == "debt":
        debt = show(int(verdict.get("used") or 0))
        return errors.InsufficientCredit(
            f"Your team owes {debt}. New calls start again once credit is added, which pays it first.",
            limit="debt", scope="tenant", used=debt, maximum=show(0),
        )  # fmt: skip
    return errors.InsufficientCredit(
        f"Not enough credit: this call may cost up to {show(admission.hold_nusd)}, and"
        f" {show(available)} is available. {_FREE_STILL_WORKS}",
        limit="credit", scope="tenant", used=show(admission.hold_nusd), maximum=show(available),
        still_works=_FREE_STILL_WORKS,
    )  # fmt: skip


def _budget(
    verdict: Mapping[str, Any], admission: Admission, standing: Standing
) -> errors.BudgetReached:
    whose, used, most = _used(verdict)
    return errors.BudgetReached(
        f"This call may cost up to {show(admission.hold_nusd)}, and {whose} budget of {show(most)} for"
        f" this month has {show(max(0, most - used))} left. It resets {_when(standing)}."
        f" {_FREE_STILL_WORKS}",
        limit="monthly_usd", scope=str(verdict["scope"]), used=show(used), maximum=show(most),
        resets_at=standing.period_ends, still_works=_FREE_STILL_WORKS,
    )  # fmt: skip


def _quota(code: str, verdict: Mapping[str, Any], standing: Standing) -> errors.QuotaReached:
    whose, used, most = _used(verdict)
    unit = "messages" if code == "monthly_messages" else "tokens"
    return errors.QuotaReached(
        f"{whose.capitalize()} {most:,} {unit} of this month are used or reserved ({used:,})."
        f" They reset {_when(standing)}. A larger plan allows more; your chats stay readable.",
        limit=code, scope=str(verdict["scope"]), used=f"{used}", maximum=f"{most}",
        resets_at=standing.period_ends,
    )  # fmt: skip


def _rate(code: str, verdict: Mapping[str, Any]) -> errors.RateLimited:
    whose, used, most = _used(verdict)
    wait_s = max(1, -(-int(verdict.get("retry_ms") or 0) // 1000))
    unit = "minute" if code == "requests_per_minute" else "hour"
    return errors.RateLimited(
        f"{whose.capitalize()} limit of {most:,} requests per {unit} is reached. Try again in"
        f" {_duration(wait_s)}.",
        limit=code, scope=str(verdict["scope"]), used=f"{used}", maximum=f"{most}",
        resets_at=datetime.now(UTC) + timedelta(seconds=wait_s), retry_after_s=wait_s,
    )  # fmt: skip


def _used(verdict: Mapping[str, Any]) -> tuple[str, int, int]:
    return (
        _WHOSE.get(str(verdict.get("scope")), "the"),
        int(verdict.get("used") or 0),
        int(verdict.get("maximum") or 0),
    )


def _when(standing: Standing) -> str:
    resets = standing.period_ends.astimezone(ZoneInfo(standing.time_zone))
    return f"on {resets:%-d %B} ({standing.time_zone})"


def _duration(seconds: int) -> str:
    return f"{seconds} seconds" if seconds < 120 else f"{-(-seconds // 60)} minutes"
