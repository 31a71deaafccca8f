"""core/identity/names.py"""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import errors
from core.identity import names


@pytest.mark.parametrize(
    ("given_", "cleaned"),
    [("Ada@Example.COM", "ada@example.com"), (" a.b+c@x-y.co.uk ", "a.b+c@x-y.co.uk")],
)
def test_an_e_mail_is_put_in_lower_case(given_: str, cleaned: str) -> None:
    assert names.email(given_) == cleaned


@pytest.mark.parametrize(
    "bad",
    ["", "a", "a@b", "@b.co", "a@.co", "a@b..co", "a b@c.de", "a@b.c\n", "a@b.co\0",
     "a@b.co,c@d.ef",
     "ä@b.co", "a@-b.co", "\ud800@b.co", "a" * 65 + "@b.co", "a@" + "b." * 200 + "co"],
)  # fmt: skip
def test_what_is_no_e_mail_is_refused(bad: str) -> None:
    with pytest.raises(errors.BadInput):
        names.email(bad)


def test_a_hostile_e_mail_is_refused_at_once() -> None:
    began = time.perf_counter()
    for bad in ("a@" + "a." * 120 + "!", "a@" + "a-" * 120, "a" * 1_000_000):
        with pytest.raises(errors.BadInput):
            names.email(bad)
    assert time.perf_counter() - began < 1


@given(st.text())
def test_a_name_is_one_storable_line_or_refused(text: str) -> None:
    try:
        cleaned = names.name(text, "name", length_max=50)
    except errors.BadInput:
        assert not text.strip() or len(text.strip()) > 50 or not names.is_line(text.strip())
    else:
        assert 0 < len(cleaned.encode()) <= 200
        assert "\0" not in cleaned
        assert len(cleaned.splitlines()) == 1
