"""Makes foreign Markdown safe and calm to draw, piece by piece as it streams, in time proportional to its
length. Code is shown to the letter, LaTeX as formulas; nothing loads and nothing of Streamlit's is obeyed.

Where readers of Markdown could differ about what a line is, what is written out leaves them no choice: a
code fence begins at the margin of its surroundings and is closed before they end."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pages.widgets.markdown_spans import Spans, is_formula

_HELD_MAX = 1200  # of a line whose kind is not known yet
_FORMULA_MAX = 4000
_NESTED_MAX, _INDENT_MAX = 16, 80
_PART = re.compile(r"[ \t]*(?:>|[-+*](?=[ \t]|$)|\d{1,9}[.)](?=[ \t]|$))")
_FENCE = re.compile(r"(`{3,}|~{3,})([^\n]*)")
_LANGUAGE = re.compile(r"[A-Za-z0-9_+#.-]{1,40}")
_RULE = re.compile(r"([-*_])[ \t]*(?:\1[ \t]*){2,}|=+[ \t]*")
_DELIMITERS = re.compile(r"[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*")
_HEADING = re.compile(r"[ ]{0,3}#{1,6}(?=[ \t]|$)")
_BOUNDARY = re.compile(r"[ ]{0,3}(?:[-+*]|1[.)])[ \t]+[^\s]")
# A line that is surely prose, whatever comes: signs of lists and quotations, then soon a letter.
_SURE = re.compile(
    r"[ \t>]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+[ \t>]*)*(?:#{1,6} )?"
    r"[^\w`~$\\\n]{0,12}(?:`{1,2}(?!`)[^`\n])?[^\W\d_]"
)
_SIGN = re.compile(r">[ ]?|(?:[-+*]|\d{1,9}[.)])[ ]*")
_INDENTED = "~" * 9

Container = int | None  # the width of a list item, or None for a quotation


@dataclass(frozen=True, slots=True)
class _Fence:
    """Open code: its mark, what it stands in, and by how much its lines are moved in."""

    mark: str
    surroundings: tuple[Container, ...]
    spare: int
    is_indented: bool = False

    @property
    def prefix(self) -> str:
        return "".join("> " if width is None else " " * width for width in self.surroundings)


class Cleaner:
    """Cleans a text that comes in pieces; what cannot be decided yet is held back."""

    def __init__(self) -> None:
        self._text, self._at = "", 0
        self._spans = Spans()
        self._fence: _Fence | None = None
        self._lists: list[int] = []  # where the text of each open list item begins
        self._is_inside_line = self._is_paragraph = False
        self._is_after_blank = True
        self._blanks = 0  # lines within indented code that belong to it only if it goes on

    def feed(self, piece: str) -> str:
        """Return what can be drawn now that `piece` came."""
        self._text += piece.encode("utf-8", "replace").decode()
        return self._take(at_end=False)

    def close(self) -> str:
        """Return the rest, once nothing more comes."""
        return self._take(at_end=True)

    def _take(self, *, at_end: bool) -> str:
        kept = "\r" if self._text.endswith("\r") and not at_end else ""
        text = self._text.removesuffix(kept) if kept else self._text
        self._text = text.replace("\r\n", "\n").replace("\r", "\n")
        taken: list[str] = []
        while self._at < len(self._text):
            before = self._at, self._is_inside_line, self._fence
            made = (
                self._within(at_end=at_end) if self._is_inside_line else self._line(at_end=at_end)
            )
            if made is None:
                break
            taken.append(made)
            if not made and before == (self._at, self._is_inside_line, self._fence):
                break
        seen = max(0, self._at - 1)
        self._text, self._at = self._text[seen:] + kept, self._at - seen
        return "".join(taken)

    def _end(self) -> tuple[int, bool]:
        """Where the line ends as far as it came, and whether it has come to its end."""
        end = self._text.find("\n", self._at)
        return (len(self._text), False) if end < 0 else (end, True)

    def _within(self, *, at_end: bool) -> str | None:
        end, has_end = self._end()
        is_whole = has_end or at_end
        if self._fence:
            self._at, made = end, self._text[self._at : end]
        else:
            self._at, made = self._spans.take(self._text, self._at, end, is_whole=is_whole)
        if self._at == end and has_end:
            self._is_inside_line = False
            self._at += 1
            return f"{made}\n"
        return made or None

    def _line(self, *, at_end: bool) -> str | None:
        """Begin a line: say what it is, and write what stands before its text."""
        end, has_end = self._end()
        line = self._text[self._at : min(end, self._at + _HELD_MAX)]
        is_known = has_end or at_end or end - self._at >= _HELD_MAX
        if not is_known and (self._fence or not _SURE.match(line)):
            return None
        if self._fence:
            return self._code(self._fence, line)
        if not line.strip():
            self._spans.begin_block()
            self._is_paragraph, self._is_after_blank = False, True
            return self._pass(line, line[:_INDENT_MAX])
        is_first, self._is_after_blank = self._is_after_blank, False
        if is_first and (made := self._begin_indented(line)) is not None:
            return made
        is_complete = (has_end or at_end) and end - self._at < _HELD_MAX
        return self._text_line(line, is_complete=is_complete, at_end=at_end)

    def _pass(self, source: str, written: str) -> str:
        """Write the line's beginning, `source`, as `written`; its rest follows as it comes."""
        self._at += len(source)
        self._is_inside_line = True
        return written

    # Code

    def _code(self, fence: _Fence, line: str) -> str:
        rest = _inside(line, fence.surroundings)
        spare = 4 if fence.is_indented else fence.spare
        is_blank = not (rest or "").strip()
        indent = _indent(rest or "")
        if rest is None or (fence.is_indented and not is_blank and indent < 4):
            return self._leave(fence)
        if fence.is_indented:
            if is_blank:
                self._blanks += 1
                return self._skip(line)
            if rest.strip().startswith(_INDENTED):
                left, self._is_after_blank = self._leave(fence), False
                return left
        elif indent < 4 and _closes(rest, fence.mark):
            if len(line) >= _HELD_MAX:
                return self._pass(line, f"{fence.prefix}    {rest}")
            self._fence, self._is_paragraph, self._is_after_blank = None, False, True
            return self._skip(line) + f"{fence.prefix}{fence.mark}\n"
        pending, self._blanks = f"{fence.prefix}\n" * self._blanks, 0
        shown = _moved(rest, min(spare, indent))
        return pending + self._pass(line, fence.prefix + shown)

    def _skip(self, line: str) -> str:
        """Go past a short line and its end without writing it."""
        self._at += len(line)
        if self._text.startswith("\n", self._at):
            self._at += 1
        return ""

    def _leave(self, fence: _Fence) -> str:
        """End code whose surroundings ended; the line is looked at anew."""
        blanks, self._blanks, self._fence = self._blanks, 0, None
        self._is_paragraph, self._is_after_blank = False, blanks > 0
        return f"{fence.prefix}{fence.mark}\n" + "\n" * bool(blanks)

    def _begin_indented(self, line: str) -> str | None:
        """Code that is only moved in gets a fence, for in it nothing may be escaped."""
        indent = _indent(line)
        lists = [column for column in self._lists if column <= indent]
        base = lists[-1] if lists else 0
        if indent < base + 4 or indent > _INDENT_MAX:
            return None
        self._lists = lists
        self._fence = _Fence(_INDENTED, (base,) if base else (), 0, is_indented=True)
        return f"{self._fence.prefix}{_INDENTED}\n"

    # Prose

    def _text_line(self, line: str, *, is_complete: bool, at_end: bool) -> str | None:
        head, is_cut = _head(line)
        rest = line[len(head) :]
        if is_complete and not is_cut and _is_rule(head, rest, was_paragraph=self._is_paragraph):
            self._is_paragraph = "|" in rest
            return self._pass(line, _bounded(head) + rest)
        if not head.strip() and rest.startswith(("$$", "\\[")):
            made = self._formula(head, at_end=at_end)
            if made != "":
                return made
        surroundings = self._surroundings(head)
        spare = _spare(head) if head.strip() else _indent(head) - sum(filter(None, surroundings))
        opened = _FENCE.match(rest) if is_complete and spare < 4 and not is_cut else None
        if opened and not ("`" in opened[1] and "`" in opened[2]):
            return self._begin_fence(
                line, head, opened, _Fence(opened[1][:64], surroundings, spare)
            )
        is_heading = bool(_HEADING.match(line))
        if is_heading or _BOUNDARY.match(line):
            self._spans.begin_block()
        self._is_paragraph, self._is_after_blank = not is_heading, is_heading
        if is_cut and (part := _PART.match(rest)):
            return self._pass(head + part[0], _bounded(head) + _escaped(part[0]))
        return self._pass(head, _bounded(head)) or self._within(at_end=at_end) or ""

    def _surroundings(self, head: str) -> tuple[Container, ...]:
        """What the line stands in, outermost first; keeps the open list items up to date."""
        wide = head.expandtabs(4)
        indent = len(wide) - len(wide.lstrip(" "))
        is_lazy = self._is_paragraph and not head.strip()  # may go on with the item's paragraph
        if not is_lazy:
            self._lists = [column for column in self._lists if column <= indent]
        base = max((column for column in self._lists if column <= indent), default=0)
        found: list[Container] = [base] if base else []
        start, is_quoted = base, False
        for part in _SIGN.finditer(wide):
            if part[0][0] == ">":
                found.append(None)
                start, is_quoted = part.end(), True
                continue
            spaces = len(part[0]) - len(part[0].rstrip(" "))
            after = part.end() if 1 <= spaces <= 4 else part.end() - max(0, spaces - 1)
            if is_quoted:
                found.append(after - start)
            else:
                self._lists.append(after)
                found = [after]
            start = after
        return tuple(found)

    def _begin_fence(self, line: str, head: str, opened: re.Match[str], fence: _Fence) -> str:
        words = opened[2].split()
        # Of Mermaid Streamlit draws a picture, which may load others.
        is_language = words and _LANGUAGE.fullmatch(words[0]) and "mermaid" not in words[0].lower()
        start = _at_margin(head, fence) if head.strip() else fence.prefix
        # After a blank line there is no paragraph that this could be a part of.
        is_doubtful = self._is_paragraph and (_indent(start) >= 4 or bool(re.search(r"\d", head)))
        self._fence, self._is_paragraph = fence, False
        self._lists = [column for column in self._lists if column <= _indent(fence.prefix)]
        self._spans.begin_block()
        written = f"{start}{fence.mark}{words[0] if is_language else ''}\n"
        return self._skip(line) + "\n" * is_doubtful + written

    def _formula(self, head: str, *, at_end: bool) -> str | None:
        """A formula of several lines, written as the page knows it; nothing where it is none."""
        first = self._at + len(head) + 2
        opened = self._text[first - 2 : first]
        stop = first + _FORMULA_MAX
        close = self._text.find("$$" if opened == "$$" else "\\]", first, stop)
        blank = self._text.find("\n\n", first, close if close >= 0 else stop)
        end = self._text.find("\n", max(close, first))
        if close < 0 or end < 0:
            may_come = not at_end and blank < 0 and len(self._text) < stop
            if close < 0 or may_come:
                return None if may_come else ""
        body = self._text[first:close]
        base = max((column for column in self._lists if column <= _indent(head)), default=0)
        if blank >= 0 or "\n" not in body or "$" in body or "`" in body or not is_formula(body):
            return ""
        if self._text[close + 2 : end if end >= 0 else stop].strip() or _indent(head) >= base + 4:
            return ""
        lines = [one.strip() for one in body.split("\n") if one.strip()]
        gap = "\n" if self._is_paragraph and base >= 4 else ""
        shown = "\n".join(" " * base + one for one in ("$$", *lines, "$$"))
        self._at = len(self._text) if end < 0 else end + 1
        self._is_paragraph = False
        self._spans.begin_block()
        return f"{gap}{shown}\n"


def _head(line: str) -> tuple[str, bool]:
    """The signs of lists and quotations before a line's text, and whether there are too many."""
    at = count = 0
    while count < _NESTED_MAX and (part := _PART.match(line, at)):
        at, count = part.end(), count + 1
    is_cut = count == _NESTED_MAX and bool(_PART.match(line, at))
    while not is_cut and line[at : at + 1] in {" ", "\t"}:
        at += 1
    return line[:at], is_cut


def _bounded(head: str) -> str:
    return head if len(head.expandtabs(4)) <= _INDENT_MAX else re.sub(r"[ \t]+", " ", head)


def _escaped(part: str) -> str:
    """One more sign of a list or quotation, as text."""
    return f" {part.strip()[:-1]}\\{part.strip()[-1]}"


def _spare(head: str) -> int:
    """How far the text is moved in behind the last sign of a list or quotation."""
    wide = head.expandtabs(4)
    spaces = len(wide) - len(wide.rstrip(" "))
    is_list = not wide.rstrip(" ").endswith(">")
    return 0 if is_list and 1 <= spaces <= 4 else max(0, spaces - 1)


def _at_margin(head: str, fence: _Fence) -> str:
    """The head with its signs, and exactly the room its surroundings ask for after it."""
    bare = head.expandtabs(4).rstrip(" ")
    return bare + (" " if bare.endswith(">") else " " * max(1, len(fence.prefix) - len(bare)))


def _indent(line: str) -> int:
    wide = line[:200].expandtabs(4)
    return len(wide) - len(wide.lstrip(" "))


def _moved(line: str, columns: int) -> str:
    """The line without so many columns of blanks before it."""
    if not columns:
        return line
    blanks = line[: len(line) - len(line.lstrip(" \t"))]
    return blanks.expandtabs(4)[columns:] + line[len(blanks) :]


def _inside(line: str, surroundings: tuple[Container, ...]) -> str | None:
    """The rest of a line that is still within its surroundings; None where one of them has ended."""
    rest = line
    for width in surroundings:
        if width is None:
            quoted = re.match(r" {0,3}>[ ]?", rest)
            if quoted is None:
                return None
            rest = rest[quoted.end() :]
        elif not rest.strip():
            return ""
        elif _indent(rest) < width:
            return None
        else:
            rest = _moved(rest, width)
    return rest


def _closes(rest: str, mark: str) -> bool:
    bare = rest.strip()
    return len(bare) >= len(mark) and not bare.strip(mark[0])


def _is_rule(head: str, rest: str, *, was_paragraph: bool) -> bool:
    """Whether the line only divides: a rule, an underlined heading, the second row of a table."""
    if _RULE.fullmatch(head.lstrip(" \t>") + rest):
        return True
    if head.strip(" \t>"):
        return False
    if "|" in rest or ":" in rest:
        return bool(was_paragraph and _DELIMITERS.fullmatch(rest))
    return was_paragraph and rest.strip() in {"-", "--"}
