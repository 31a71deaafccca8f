"""Draws every refusal of the core in one manner: what was refused, why, and what still works.
It draws no traceback and none of the words of an error that is not a refusal."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from core import errors
from core.identity.access import Role
from pages.widgets import session as tab
from pages.widgets.shown import moment, zone
from pages.widgets.text import clean

_CALM = ":material/info:"
_LIMIT = ":material/speed:"
_OURS = ":material/cloud_off:"


@dataclass(frozen=True, slots=True)
class _Manner:
    """How a family of refusals looks."""

    title: str
    icon: str
    is_error: bool = False


# The first class that fits decides, so the special ones come first.
_MANNERS: tuple[tuple[type[errors.Refusal], _Manner], ...] = (
    (errors.InsufficientCredit, _Manner("Not enough credit", ":material/account_balance_wallet:")),
    (errors.BudgetReached, _Manner("The month's budget does not cover this", _LIMIT)),
    (errors.QuotaReached, _Manner("The month's quota is used up", _LIMIT)),
    (errors.RateLimited, _Manner("Too many requests at once", ":material/hourglass_top:")),
    (errors.LimitReached, _Manner("A limit is reached", _LIMIT)),
    (errors.NotSignedIn, _Manner("Please sign in again", ":material/login:")),
    (errors.Forbidden, _Manner("This is not allowed", ":material/lock:")),
    (errors.Conflict, _Manner("Not just now", _CALM)),
    (errors.NotFound, _Manner("Nothing here", ":material/search_off:")),
    (errors.ModelNotFound, _Manner("No such model", _CALM)),
    (errors.ModelForbidden, _Manner("This model cannot be used", _CALM)),
    (errors.ModelUnavailable, _Manner("This model is not available", _CALM)),
    (errors.ContentRefused, _Manner("The provider declined", ":material/shield:")),
    (errors.ProviderTimedOut, _Manner("No answer in time", _OURS, is_error=True)),
    (errors.ProviderFailed, _Manner("The provider failed", _OURS, is_error=True)),
    (errors.Busy, _Manner("Too much at once", ":material/hourglass_top:")),
    (errors.Draining, _Manner("One moment", ":material/hourglass_top:")),
    (errors.DatabaseAway, _Manner("The database is away", _OURS, is_error=True)),
    (errors.Unavailable, _Manner("Not possible right now", _OURS, is_error=True)),
)
_OTHERWISE = _Manner("This was not done", _CALM)
_SCOPES = {"user": "yours", "tenant": "your team's", "key": "this key's"}
_LIMITS = {
    "credit": "credit",
    "debt": "debt",
    "dispute": "disputed payment",
    "monthly_usd": "monthly budget",
    "monthly_messages": "messages per month",
    "monthly_tokens": "tokens per month",
    "requests_per_minute": "requests per minute",
    "requests_per_hour": "requests per hour",
}


def show(refusal: errors.Refusal) -> None:
    """Draw one refusal: its title, its sentence, and for a limit the figures behind it."""
    manner = _manner_of(refusal)
    lines = [f"**{manner.title}**", clean(refusal.message)]
    if isinstance(refusal, errors.LimitReached):
        lines.append(clean(figures(refusal)))
    if isinstance(refusal, errors.InsufficientCredit):
        lines.append(_way_on())
    draw = st.error if manner.is_error else st.warning
    draw("  \n".join(lines), icon=manner.icon)


def _way_on() -> str:
    """Where credit comes from, for who looks: buyers may add it, members know whom to ask."""
    found = tab.signed_in()
    member = found.principal if found else None
    if member is None or member.role is Role.MEMBER:
        return "Ask an admin or a finance person of your team to add credit."
    return f"[{'Add credit' if member.mode == 'prepaid' else 'Open Billing'}](/billing)"


def figures(refusal: errors.LimitReached) -> str:
    """The limit in figures: whose it is, what is used of what, and when it starts anew."""
    name = _LIMITS.get(refusal.limit, refusal.limit.replace("_", " "))
    parts = [f"Limit: {name} ({_SCOPES.get(refusal.scope, refusal.scope)})"]
    if refusal.limit == "credit":
        parts.append(f"needed up to {refusal.used}, available {refusal.maximum}")
    elif refusal.limit == "debt":
        parts.append(f"owed {refusal.used}")
    elif refusal.limit != "dispute":
        parts.append(f"used {refusal.used} of {refusal.maximum}")
    if refusal.resets_at is not None:
        parts.append(f"resets {moment(refusal.resets_at)} ({zone()})")
    return " · ".join(parts)


def on_script_error(error: Exception) -> bool:
    """Streamlit's hook for an exception no page caught: draws a refusal and says that it did.

    Anything else is left to the caller, who logs it under an id and calls `show_failure`.
    """
    if not isinstance(error, errors.Refusal):
        return False
    show(error)
    return True


def show_failure(error_id: str) -> None:
    """Draw an error of our own: nothing of it but the id under which it was logged."""
    st.error(
        "**Something went wrong on our side.** Nothing you wrote is lost. Please try again; if it"
        f" happens again, tell your operator this number: `{error_id}`",
        icon=":material/error:",
    )


def _manner_of(refusal: errors.Refusal) -> _Manner:
    return next((manner for kind, manner in _MANNERS if isinstance(refusal, kind)), _OTHERWISE)
