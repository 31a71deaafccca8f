"""Makes foreign Markdown safe and calm to draw, piece by piece as it streams: pictures from other
hosts become links, and money does not turn into formulas. It never removes text."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LINE_HEAD = re.compile(r"[ \t>]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)*")
_LIST_SIGN_BEGUN = re.compile(r"[-*+]|\d{1,9}[.)]?")
_FENCE = re.compile(r"(`{3,}|~{3,})([^\n]{0,200})\n")
_BACKTICKS = re.compile(r"`+")
_PLAIN = re.compile(r"[^\\`$!\n]+")
_PICTURE = "[picture: "
_FORMULAS = {"\\(": "$", "\\)": "$", "\\[": "$$", "\\]": "$$"}
_LOOK_AHEAD = 300


@dataclass(frozen=True, slots=True)
class _Fence:
    """An open code fence. Only one at the very start of a line is sure to end where we see it end:
    inside a list or a quotation the block ends with its surroundings."""

    mark: str
    is_sure: bool


def clean(text: str, *, keeps_lines: bool = False) -> str:
    """The whole of `text`, safe to draw; `keeps_lines` shows line ends as people typed them."""
    cleaner = Cleaner(keeps_lines=keeps_lines)
    return cleaner.feed(text) + cleaner.close()


def plain(text: str) -> str:
    """One line of foreign text for a label: Markdown's signs are shown, not obeyed."""
    return re.sub(r"([\\`*_{}\[\]()#+!|<>~$:-])", r"\\\1", " ".join(text.split()))


class Cleaner:
    """Cleans a text that comes in pieces. What it cannot decide yet it holds back, a line at most.

    In doubt it cleans: a sign that code would have shown may then be escaped, but no picture loads.
    """

    def __init__(self, *, keeps_lines: bool = False) -> None:
        self._keeps_lines = keeps_lines
        self._held = ""
        self._fence: _Fence | None = None
        self._in_formula = False
        self._at_line_start = True

    def feed(self, piece: str) -> str:
        """What can be drawn now that `piece` came."""
        self._held += piece
        return self._take(at_end=False)

    def close(self) -> str:
        """The rest, once nothing more comes."""
        return self._take(at_end=True)

    def _take(self, *, at_end: bool) -> str:
        taken: list[str] = []
        while self._held:
            fence = self._fence
            found = self._inside(fence, at_end=at_end) if fence else self._outside(at_end=at_end)
            if found is None:
                break
            length, text = found
            self._held = self._held[length:]
            taken.append(text)
        return "".join(taken)

    def _inside(self, fence: _Fence, *, at_end: bool) -> tuple[int, str] | None:
        end = self._held.find("\n")
        line = self._held if end < 0 else self._held[: end + 1]
        bare = line.strip(" \t>\n")
        may_close = self._at_line_start and not bare.strip(fence.mark[0])
        if end < 0 and not at_end and may_close:
            return None
        if not fence.is_sure and line.endswith("!") and not at_end:
            return None
        if may_close and len(bare) >= len(fence.mark):
            self._fence = None
        self._at_line_start = end >= 0
        return len(line), line if fence.is_sure else line.replace("![", _PICTURE)

    def _outside(self, *, at_end: bool) -> tuple[int, str] | None:
        if self._at_line_start:
            return self._line_head(at_end=at_end)
        match self._held[0]:
            case "\n":
                self._at_line_start = True
                return 1, "  \n" if self._keeps_lines else "\n"
            case "\\":
                return self._escape(at_end=at_end)
            case "`":
                return self._code(at_end=at_end)
            case "$":
                return self._dollar(at_end=at_end)
            case "!":
                return self._exclamation(at_end=at_end)
        plain_run = _PLAIN.match(self._held)
        length = plain_run.end() if plain_run else 1
        return length, self._held[:length]

    def _line_head(self, *, at_end: bool) -> tuple[int, str] | None:
        head = _LINE_HEAD.match(self._held)
        length = head.end() if head else 0
        rest = self._held[length:]
        is_begun = not rest or _LIST_SIGN_BEGUN.fullmatch(rest)
        if is_begun and not at_end and length < _LOOK_AHEAD:
            return None
        if rest[:1] in ("`", "~") and "\n" not in rest and not at_end and len(rest) < _LOOK_AHEAD:
            first = rest[0]
            if not rest[:3].strip(first):
                return None
        self._at_line_start = False
        if (opened := _FENCE.match(rest)) and not ("`" in opened[1] and "`" in opened[2]):
            self._fence = _Fence(opened[1], is_sure=length == 0)
            self._at_line_start = True
            length += opened.end()
            return length, self._held[:length]
        if length:
            return length, self._held[:length]
        return self._outside(at_end=at_end) if rest else None

    def _escape(self, *, at_end: bool) -> tuple[int, str] | None:
        pair = self._held[:2]
        if len(pair) < 2:
            return (1, "\\") if at_end else None
        if pair[1] == "\n":
            return 1, "\\"
        return 2, _FORMULAS.get(pair, pair)

    def _code(self, *, at_end: bool) -> tuple[int, str] | None:
        """Code within a line, as it is; without its closing signs they are just signs."""
        run = _BACKTICKS.match(self._held)
        opened = run[0] if run else "`"
        line, is_whole = self._line(at_end=at_end)
        for closing in _BACKTICKS.finditer(line, len(opened)):
            if closing[0] == opened and (closing.end() < len(line) or is_whole):
                return closing.end(), line[: closing.end()].replace("![", _PICTURE)
        return (len(opened), opened) if is_whole else None

    def _dollar(self, *, at_end: bool) -> tuple[int, str] | None:
        if self._held[:2] == "$$":
            self._in_formula = not self._in_formula
            return 2, "$$"
        if len(self._held) < 2 and not at_end:
            return None
        if self._in_formula:
            return 1, "$"
        following = self._held[1:2]
        if not (following.isalpha() or following in ("\\", "{", "(", "|", "-")) or not following:
            return 1, "\\$"
        line, is_whole = self._line(at_end=at_end)
        formula = re.match(r"\$[^$\n]*[^$\s\\]\$(?!\d)", line)
        if formula and (formula.end() < len(line) or is_whole):
            return formula.end(), formula[0].replace("![", _PICTURE)
        return (1, "\\$") if is_whole or (line.count("$") > 1 and not formula) else None

    def _exclamation(self, *, at_end: bool) -> tuple[int, str] | None:
        if len(self._held) < 2 and not at_end:
            return None
        return (2, _PICTURE) if self._held[1:2] == "[" else (1, "!")

    def _line(self, *, at_end: bool) -> tuple[str, bool]:
        """What is held of this line, and whether to decide with it."""
        end = self._held.find("\n")
        if end >= 0:
            return self._held[: min(end, _LOOK_AHEAD)], True
        return self._held[:_LOOK_AHEAD], at_end or len(self._held) >= _LOOK_AHEAD
