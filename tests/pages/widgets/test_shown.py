"""pages/widgets/shown.py"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pages.widgets import shown

NOW = datetime(2026, 3, 10, 23, 30, tzinfo=UTC)


def test_money_within_markdown_opens_no_formula() -> None:
    assert shown.usd(1_500_000_000) == "\\$1.50"


@pytest.mark.parametrize(
    ("nusd", "said"),
    [(0, "$0"), (1, "$0.000000001"), (714_400, "$0.0007144"), (-5_000_000_000, "-$5")],
)
def test_exact_money_keeps_every_digit_and_no_more(nusd: int, said: str) -> None:
    assert shown.usd_exact(nusd) == said


@pytest.mark.parametrize(("nusd", "said"), [(2_565_487, "$0.002565"), (7, "$0.000000007")])
def test_a_mean_price_has_four_significant_digits(nusd: int, said: str) -> None:
    assert shown.rate(nusd) == said


def test_a_moment_is_of_the_zone_that_is_named() -> None:
    assert shown.moment(NOW, "Europe/Berlin") == "Mar 11, 2026, 00:30"
    assert shown.moment(None) == shown.NONE


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(3, "just now"), (40, "40 s ago"), (61, "1 min ago"), (7_300, "2 h ago"), (10**6, "11 d ago")],
)
def test_how_long_ago_is_one_whole_unit(seconds: int, said: str) -> None:
    assert shown.ago(NOW - timedelta(seconds=seconds), NOW) == said


@pytest.mark.parametrize(
    ("agent", "said"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64) Chrome/140.0 Safari/537.36", "Chrome on Linux"),
        ("Mozilla/5.0 (Windows NT 10.0) Chrome/140 Safari/537 Edg/140", "Edge on Windows"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Safari/604", "Safari on iPhone"),
        ("[a](b) tool", "\\[a\\]\\(b\\) tool"),
        (None, "Unknown browser"),
    ],
)
def test_a_browser_is_named_by_what_it_says(agent: str | None, said: str) -> None:
    assert shown.browser(agent) == said
