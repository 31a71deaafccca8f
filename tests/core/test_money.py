"""Money is whole nano-USD: exact in, exact out, rounded up once."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import money

AMOUNTS = st.integers(0, money.NANO_PER_USD * 10**6)


@pytest.mark.parametrize(
    ("usd", "nusd"),
    [
        ("0", 0),
        ("0.000000001", 1),
        ("0.0000000001", 1),
        ("7.9e-07", 790),
        ("1.0000000001", 10**9 + 1),
    ],
)
def test_costs_round_up_to_the_next_nano(usd: str, nusd: int) -> None:
    assert money.ceil_nusd(Decimal(usd)) == nusd


@given(AMOUNTS, st.decimals("0", "5", places=6))
def test_what_is_billed_is_within_one_nano_of_the_exact_amount(nusd: int, markup: Decimal) -> None:
    usd = Decimal(nusd) / money.NANO_PER_USD
    exact = usd * (1 + markup) * money.NANO_PER_USD
    assert 0 <= money.billed_nusd(usd, markup) - exact < 1


@given(AMOUNTS)
def test_an_exact_amount_reads_back_as_itself(nusd: int) -> None:
    assert money.parse_usd(money.exact(nusd)) == nusd


@pytest.mark.parametrize(
    "text",
    ["", "x", "-1", "1e3", "NaN", "Infinity", "0.0000000001", "10000000000", "1.2.3", "٣", "1_0"],
)
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(money.NotMoney):
        money.parse_usd(text)


@pytest.mark.parametrize(
    ("nusd", "shown"),
    [
        (0, "$0.00"), (1, "$0.000000001"), (714_400, "$0.0007144"), (12_345_678, "$0.0123"),
        (1_500_000_000, "$1.50"), (1_234_567_890_000, "$1,234.57"), (-2_000_000_000, "-$2.00"),
    ],
)  # fmt: skip
def test_people_see_cents_from_a_dollar_up_and_all_digits_below_a_cent(
    nusd: int, shown: str
) -> None:
    assert money.show(nusd) == shown


@given(st.integers(0, 10**11))
def test_whole_cents_read_back_as_themselves(minor: int) -> None:
    assert money.parse_minor(money.show_minor(minor)) == minor


@pytest.mark.parametrize(
    ("text", "minor"), [("0.5", 50), ("$1,234.50", 123_450), (" 20 ", 2000), ("0.010", 1)]
)
def test_what_is_paid_is_cents(text: str, minor: int) -> None:
    assert money.parse_minor(text) == minor
    assert minor * money.NANO_PER_CENT == money.parse_usd(text)


@pytest.mark.parametrize("text", ["0.001", "79.001", "0.000000001"])
def test_a_fraction_of_a_cent_cannot_be_paid(text: str) -> None:
    with pytest.raises(money.NotCents):
        money.parse_minor(text)


@pytest.mark.parametrize("text", ["", "-1", "1e3", "twelve"])
def test_what_is_no_amount_cannot_be_paid(text: str) -> None:
    with pytest.raises(money.NotMoney) as refused:
        money.parse_minor(text)
    assert not isinstance(refused.value, money.NotCents)


@pytest.mark.parametrize(
    ("minor", "shown"),
    [(0, "$0.00"), (5, "$0.05"), (50, "$0.50"), (123_450, "$1,234.50"), (-200, "-$2.00")],
)
def test_money_paid_always_shows_its_cents(minor: int, shown: str) -> None:
    assert money.show_minor(minor) == shown
