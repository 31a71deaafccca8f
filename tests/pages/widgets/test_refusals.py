"""Every refusal of the core is drawn by one function, with its figures and without a traceback."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from streamlit.testing.v1 import AppTest

from core import db, errors
from core.db import Database
from core.identity.access import Role
from pages.widgets import refusals
from pages.widgets import session as tab
from tests.identity.people import a_browser, a_tenant


def kinds(parent: type[errors.Refusal] = errors.Refusal) -> list[type[errors.Refusal]]:
    found = [parent]
    for child in parent.__subclasses__():
        found += kinds(child)
    return [kind for kind in found if kind.__module__.startswith("core.")]  # none of other tests'


def a_refusal(kind: type[errors.Refusal]) -> errors.Refusal:
    if issubclass(kind, errors.LimitReached):
        return kind(
            "Your budget of $5 is used.", limit="monthly_usd", scope="user", used="$5.00",
            maximum="$5.00", resets_at=datetime(2026, 12, 1, tzinfo=UTC),
        )  # fmt: skip
    refusal = kind.__new__(kind)  # some make up their sentence from what they were given
    errors.Refusal.__init__(refusal, "This costs $5 too much.")
    return refusal


SCRIPT = """
import streamlit as st
from pages.widgets import refusals

error = st.session_state["error"]
if not refusals.on_script_error(error):
    refusals.show_failure("abc123")
"""


def drawn(error: Exception) -> str:
    app = AppTest.from_string(SCRIPT)
    app.session_state["error"] = error
    app.run()
    assert not app.exception
    return " ".join(str(e.value) for e in [*app.warning, *app.error])


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_every_kind_of_refusal_is_drawn_with_its_sentence(kind: type[errors.Refusal]) -> None:
    words = drawn(a_refusal(kind))
    assert "\\$5" in words
    assert words.startswith("**")


def test_a_limit_is_drawn_with_whose_it_is_what_is_used_and_when_it_resets() -> None:
    words = drawn(a_refusal(errors.BudgetReached))
    assert "monthly budget (yours) · used \\$5.00 of \\$5.00 · resets Dec 1, 2026, 00:00" in words


@pytest.mark.parametrize(
    ("role", "mode", "words"),
    [
        (Role.MEMBER, "prepaid", "Ask an admin or a finance person of your team"),
        (Role.FINANCE, "prepaid", "[Add credit](/billing)"),
        (Role.ADMIN, "postpaid", "[Open Billing](/billing)"),
    ],
)
def test_missing_credit_leads_buyers_to_billing_and_members_to_a_buyer(
    database: Database, monkeypatch: pytest.MonkeyPatch, role: Role, mode: str, words: str
) -> None:
    db.install(database)
    token = a_browser(a_tenant(mode=mode), role).token
    monkeypatch.setattr(tab, "token", lambda: token)
    assert words in drawn(a_refusal(errors.InsufficientCredit))
    assert words not in drawn(a_refusal(errors.BudgetReached))


def test_another_error_shows_nothing_but_its_number() -> None:
    words = drawn(RuntimeError("secret detail"))
    assert "abc123" in words
    assert "secret detail" not in words


def test_an_error_that_is_no_refusal_is_left_to_the_caller() -> None:
    assert refusals.on_script_error(RuntimeError("x")) is False
