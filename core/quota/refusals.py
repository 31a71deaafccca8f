"""Turns the gate's verdict into a refusal a person understands: which limit, what is used, when it
resets, what still works. It decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

from core import clock, errors, telemetry
from core.money import show
from core.quota import alternatives
from core.quota.admissions import Admission
from core.quota.standing import Standing

_WHOSE = {"user": "your", "key": "this key's", "tenant": "your team's"}
_SHORTER_FITS = {"credit", "monthly_usd", "monthly_tokens"}
_NOTHING_ELSE = "Please ask your admin for more credit or a larger budget."


def of_verdict(
    verdict: Mapping[str, Any],
    admission: Admission,
    standing: Standing,
    *,
    fits_tokens: int | None = None,
) -> errors.Refusal:
    """The refusal for a verdict of verbs.admit other than 'ok'; counted by its code.

    `fits_tokens` is the longest answer that would be admitted, where the caller asked for another.
    """
    refusal = _of_code(verdict, admission, standing)
    if fits_tokens and isinstance(refusal, errors.LimitReached) and refusal.limit in _SHORTER_FITS:
        refusal.message += f" An answer of at most {fits_tokens:,} tokens would fit (max_tokens)."
        refusal.args = (refusal.message,)
        refusal.still_works = " ".join(
            filter(None, (f"max_tokens up to {fits_tokens}.", refusal.still_works))
        )
    return refusal


def _of_code(
    verdict: Mapping[str, Any], admission: Admission, standing: Standing
) -> errors.Refusal:
    code = str(verdict.get("code"))
    telemetry.refusals_total.labels(code=code).inc()
    if code == "repeated":
        return errors.Conflict(
            f"This Idempotency-Key was used before, by call {verdict['first_call_id']}.",
            param="Idempotency-Key",
        )
    if code in {"credit", "debt", "frozen"}:
        return _no_credit(code, verdict, admission, standing)
    if code == "monthly_nusd":
        return _budget(verdict, admission, standing)
    if code in {"monthly_messages", "monthly_tokens"}:
        return _quota(code, verdict, admission, standing)
    if code in {"requests_per_minute", "requests_per_hour"}:
        return _rate(code, verdict)
    return errors.Unavailable("The call could not be admitted right now.", retry_after_s=5)


def _no_credit(
    code: str, verdict: Mapping[str, Any], admission: Admission, standing: Standing
) -> errors.InsufficientCredit:
    available = int(verdict.get("maximum") or 0)
    if code == "frozen":
        return errors.InsufficientCredit(
            "A payment of your team is disputed. New calls start again once that is settled.",
            limit="dispute", scope="tenant", used=show(0), maximum=show(0),
        )  # fmt: skip
    if code == "debt":
        debt = show(int(verdict.get("used") or 0))
        return errors.InsufficientCredit(
            f"Your team owes {debt}. New calls start again once credit is added, which pays it first.",
            limit="debt", scope="tenant", used=debt, maximum=show(0),
        )  # fmt: skip
    still_works = alternatives.still_works(standing, admission)
    return errors.InsufficientCredit(
        f"Not enough credit: this call may cost up to {show(admission.hold_nusd)}, and"
        f" {show(available)} is available. {still_works or _NOTHING_ELSE}",
        limit="credit", scope="tenant", used=show(admission.hold_nusd), maximum=show(available),
        still_works=still_works,
    )  # fmt: skip


def _budget(
    verdict: Mapping[str, Any], admission: Admission, standing: Standing
) -> errors.BudgetReached:
    whose, used, most = _used(verdict)
    still_works = alternatives.still_works(standing, admission)
    return errors.BudgetReached(
        f"This call may cost up to {show(admission.hold_nusd)}, and {whose} budget of {show(most)} for"
        f" this month has {show(max(0, most - used))} left. It resets {_when(standing)}."
        f" {still_works or _NOTHING_ELSE}",
        limit="monthly_usd", scope=str(verdict["scope"]), used=show(used), maximum=show(most),
        resets_at=standing.period_ends, still_works=still_works,
    )  # fmt: skip


def _quota(
    code: str, verdict: Mapping[str, Any], admission: Admission, standing: Standing
) -> errors.QuotaReached:
    whose, used, most = _used(verdict)
    needs = ""
    unit = "messages"
    if code == "monthly_tokens":
        unit = "tokens"
        needs = f", and this call may need {admission.tokens_held:,} more"
    return errors.QuotaReached(
        f"{used:,} of {whose} {most:,} {unit} for this month are used or reserved{needs}."
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
        resets_at=clock.now() + timedelta(seconds=wait_s), retry_after_s=wait_s,
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
