"""Foreign text on pages: a whole text of Markdown, and one line of text for a label."""

from __future__ import annotations

import re

from pages.widgets.markdown import Cleaner
from pages.widgets.markdown_spans import split

_SIGN = re.compile(
    r"(?P<arrow>(?<=-)[->]|(?<=<)[-=]|(?<=[>~])=)|(?P<colon>:(?=[^\W\d]|[+:&/\\-]|\d[\w+-]{0,63}:))|[\\`*_{}\[\]()#+!|<>~$&:-]"
)
_NUMBER = re.compile(r"^(\d{1,9})\.(?=\s|$)")


def clean(text: str) -> str:
    """Return the whole of a Markdown text, safe to draw."""
    cleaner = Cleaner()
    return cleaner.feed(text) + cleaner.close()


def plain(text: str) -> str:
    """Return one line of foreign text for a label: every sign in it is shown, none obeyed."""
    return _NUMBER.sub(r"\1\\.", _SIGN.sub(_shown, " ".join(text.split())))


def _shown(found: re.Match[str]) -> str:
    if found["colon"]:
        return ":color[:]"
    return split(found[0]) if found["arrow"] else f"\\{found[0]}"
