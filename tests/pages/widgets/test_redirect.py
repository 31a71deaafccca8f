"""A browser is sent to the payment provider's own pages and to nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from core.billing import stripe_api
from core.billing.stripe_api import StripeApi
from pages.widgets import redirect


@pytest.fixture(autouse=True)
def _nothing_installed() -> Iterator[None]:
    yield
    stripe_api.install(None)


def install(base: str | None = None) -> None:
    stripe_api.install(StripeApi("sk_test_x", base=base))


@pytest.mark.parametrize(
    "url",
    ["https://checkout.stripe.com/c/pay/cs_test_1#x", "https://billing.stripe.com/p/session/1",
     "https://invoice.stripe.com/i/acct_1/test_1?s=ap"],
)  # fmt: skip
def test_the_providers_pages_are_allowed(url: str) -> None:
    install()
    assert redirect.is_allowed(url)


@pytest.mark.parametrize(
    "url",
    [
        None, "", "/billing", "checkout.stripe.com", "http://checkout.stripe.com/x",
        "https://stripe.com/x", "https://evil.example/checkout.stripe.com",
        "https://checkout.stripe.com.evil.example/x", "https://checkout.stripe.com@evil.example/x",
        "https://evil.example\\@checkout.stripe.com/x", "https://checkout.stripe.com\\@evil.example",
        "https://checkout.stripe.com:8443/x", "javascript:alert(1)//checkout.stripe.com",
        "https://checkout.stripe.com/x\n", " https://checkout.stripe.com/x", "https://[",
        "//checkout.stripe.com/x", "http://127.0.0.1:9999/pay/1",
    ],
)  # fmt: skip
def test_everything_else_is_not(url: str | None) -> None:
    install()
    assert not redirect.is_allowed(url)


def test_the_configured_base_is_allowed_and_only_its_origin() -> None:
    install("http://127.0.0.1:4242/")
    assert redirect.is_allowed("http://127.0.0.1:4242/pay/cs_1")
    assert not redirect.is_allowed("http://127.0.0.1:42420/pay/cs_1")
    assert not redirect.is_allowed("https://127.0.0.1:4242/pay/cs_1")
    assert redirect.is_allowed("https://checkout.stripe.com/x")


def test_without_a_provider_nothing_is_allowed() -> None:
    assert not redirect.is_allowed("https://checkout.stripe.com/x")
