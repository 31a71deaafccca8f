"""The `stripe` commands against a Stripe that refuses: a sentence and exit status 1, never a traceback."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from core.billing import connection, offers, stripe_api
from core.billing.stripe_api import StripeApi, StripeRefused
from core.settings import Settings
from tests.core.cli import Run


class Refusing(StripeApi):
    """A Stripe that takes the key for nothing it is asked."""

    def __init__(self) -> None:
        super().__init__("rk_test_x", base="http://127.0.0.1:1")

    def _refuse(self, *_: object, **__: object) -> Iterator[None]:
        raise StripeRefused("more_permissions_required", status=403)

    events = sessions_since = refunds_since = payouts_since = _refuse  # type: ignore[assignment]
    subscription = mirror_price = _refuse  # type: ignore[assignment]


@pytest.fixture(autouse=True)
def _refusing(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def connected(settings: Settings) -> Iterator[None]:
        stripe_api.install(Refusing())
        try:
            yield
        finally:
            stripe_api.install(None)

    monkeypatch.setattr(connection, "connected", connected)


def test_a_comparison_says_what_stripe_refused_and_fails(run: Run) -> None:
    answer = run("stripe", "reconcile", "--json")
    assert answer.status == 1
    assert {"events", "sessions", "refunds", "payouts"} <= set(answer.facts["refused"])  # type: ignore[call-overload]
    assert "payouts: Stripe refused" in answer.err
    assert "Traceback" not in answer.out + answer.err


def test_prices_that_stripe_refuses_are_a_sentence(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offers, "_fitting", lambda session, terms: None)  # all are to be made
    answer = run("stripe", "mirror")
    assert (answer.status, answer.out) == (1, "")
    assert answer.err == "Stripe refused: more_permissions_required, status 403.\n"
