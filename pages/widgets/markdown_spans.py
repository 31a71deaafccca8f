"""Cleans what stands within a line of foreign Markdown: code, formulas, links and emphasis work, while
Streamlit's own markup, pictures and HTML are shown as their letters.

Streamlit obeys some signs when it parses (`:red[x]`), others in finished text, where a backslash does not
help (`:smile:`, ` -> `): the text is then split by `:color[..]`, a span that looks like nothing."""

from __future__ import annotations

import html
import re
import string

LOOK_AHEAD = 1000
_MARKS_MAX = 600  # of emphasis and brackets in a block: half of it is how deep they can nest
_BRACKETS_MAX = 32
_FORMULA_MAX = 400
_SPLITS_MAX = 200
_SPLIT, _JOINER = ":color[", "\N{WORD JOINER}"
_PICTURE = "[picture: "

_ADDRESS = re.compile(r"(?<![A-Za-z0-9])(?:https?://|mailto:|tel:|www\.)", re.IGNORECASE)
_ADDRESS_BEGUN = re.compile(
    r"(?<![A-Za-z0-9])(?:h|ht|htt|https?|https?:/?|m|ma|mai|mail|mailt|mailto|t|te|tel|ww?w?)$",
    re.IGNORECASE,
)
_IN_ADDRESS = r"[^\s<>`|()\[\]!\"'*\\$&{}~^]"
_ADDRESS_REST = re.compile(rf"(?:{_IN_ADDRESS}|\({_IN_ADDRESS}*\)|\[{_IN_ADDRESS}*\])*")
_OPEN_REST = re.compile(rf"{_IN_ADDRESS}*")
_OBEYED_COLON = re.compile(r":(?=[\w+-]{1,64}:|material/|[^\W\d_][\w-]{0,64}[\[{])")
_COLONS = re.compile(r":{2,64}")
# What makes a colon one of Streamlit's: a name, a sign of one, or a number with a colon behind it.
_AFTER_COLON = re.compile(r"(\d)[\w+-]{0,63}([:&\\])?|[^\W\d]|[:+&\\-]|[^\x00-\x7f\s]")
_TOKEN = re.compile(rf"[\\`$!:&<>=\-~*_\[\]]|{_ADDRESS.pattern}", re.IGNORECASE)
_RUNS = {sign: re.compile(rf"{re.escape(sign)}{{1,4}}") for sign in "*_~"}
_BACKTICKS, _BACKTICKS_OPEN = re.compile(r"`+"), re.compile(r"`{1,64}")
_ENTITY = re.compile(r"&(?:#[xX][0-9a-fA-F]{1,6}|#[0-9]{1,7}|[A-Za-z][A-Za-z0-9]{1,31});")
_AUTOLINK = re.compile(r"<(?:https?://|mailto:)[^\s<>]{1,800}>", re.IGNORECASE)
_MATH_SIGN = re.compile(r"[\\^_={}+<>|]")
_SHORT_MATH = re.compile(
    r"\(?-?[A-Za-z](?:[A-Za-z0-9]{0,2}|\([\w, ]{1,12}\))(?:(?:, |[,*/-])[A-Za-z0-9]{1,3}){0,3}\)?'?"
)
_MATH_REFUSED = re.compile(
    r"\\(?:rule|m?kern|m?skip|hskip|hspace|vspace|raisebox|href|url|include\w*|html\w*|[gex]?def|let"
    r"|futurelet|newcommand|renewcommand|providecommand|llap|rlap|mathllap|mathrlap|lower|raise)(?![a-z])"
    r"|\\\\\s*\[|(?:\\[A-Za-z]+\s*){24}"
)
_PUNCTUATION = string.punctuation
_ARROWS = frozenset({"->", "--", "<-", "<=", ">=", "~="})
_DECODED_OBEYED = frozenset(":<>=-~")


def is_formula(body: str) -> bool:
    """Return whether KaTeX may draw this: it is nested little, moves nothing and defines nothing."""
    depth = deepest = 0
    for sign in re.findall(r"\\.|[{}]", body):
        depth += {"{": 1, "}": -1}.get(sign, 0)
        deepest = max(deepest, depth)
        if depth < 0:
            return False
    nested = body.count("\\left") + body.count("\\begin")
    return depth == 0 and deepest + nested <= 24 and not _MATH_REFUSED.search(body)


def split(sign: str) -> str:
    """Return a sign that Streamlit cannot read together with its neighbors."""
    return f":color[\\{sign}]{{}}"


class Spans:
    """Cleans a block of prose token by token, and counts what would nest too deep."""

    def __init__(self) -> None:
        self._marks = self._brackets = self._splits = 0

    def begin_block(self) -> None:
        """Count anew: nothing open before reaches what comes now."""
        self._marks = self._brackets = self._splits = 0

    def take(self, text: str, at: int, end: int, *, is_whole: bool) -> tuple[int, str]:
        """Return how far `text[at:end]`, a line's rest, could be cleaned, and what that gives.

        Unless `is_whole` more of the line may come; what cannot be decided yet is left.
        """
        taken: list[str] = []
        begun = None if is_whole else _ADDRESS_BEGUN.search(text, max(at, end - 8), end)
        while at < end:
            found = _TOKEN.search(text, at, end)
            start = found.start() if found else end
            is_address = begun is not None and at <= begun.start() <= start
            start = begun.start() if begun and is_address else start
            taken.append(text[at:start])
            at = start
            if found is None or is_address:
                break
            made = self._token(text, at, end, is_decided=is_whole or end - at > LOOK_AHEAD)
            if made is None:
                break
            length, cleaned = made
            if cleaned.startswith(_SPLIT):
                cleaned = self._apart(cleaned)
            taken.append(cleaned)
            at += length
        return at, "".join(taken)

    def _apart(self, cleaned: str) -> str:
        """A split sign; in a block of very many, which would keep the browser busy, a cheaper one."""
        self._splits += 1
        if self._splits <= _SPLITS_MAX:
            return cleaned
        sign = cleaned.removeprefix(_SPLIT).partition("]")[0]
        return f"{_JOINER}{sign}{_JOINER}"

    def _token(self, text: str, at: int, end: int, *, is_decided: bool) -> tuple[int, str] | None:
        sign = text[at]
        following = text[at + 1 : at + 2] if at + 1 < end else ""
        if not following and not is_decided:
            return None
        if sign in _BY_SIGN:
            return _BY_SIGN[sign](text, at, end, is_decided=is_decided)
        match sign:
            case "\\":
                return self._escape(text, at, end, is_decided=is_decided)
            case "!":
                return (2, self._open(_PICTURE)) if following == "[" else (1, "!")
            case "<":
                return self._angle(text, at, end, is_decided=is_decided)
            case ">" | "=" | "-":
                return 1, _second(text, at, end)
            case "*" | "_" | "~":
                return self._mark(text, at, end, is_decided=is_decided)
            case "[":
                return 1, self._open("[")
            case "]":
                return 1, self._close()
        return self._address(text, at, end, is_decided=is_decided)

    def _escape(self, text: str, at: int, end: int, *, is_decided: bool) -> tuple[int, str] | None:
        pair = text[at : min(at + 2, end)]
        if pair in {"\\(", "\\["}:
            return _tex(text, at, end, is_decided=is_decided)
        if pair == "\\:":
            return _colon(text, at, 2, end, is_decided=is_decided)
        if at and text[at - 1] + pair[1:] in _ARROWS:
            return 2, split(pair[1])
        return (2, pair) if pair[1:] in _PUNCTUATION and pair[1:] else (1, "\\")

    def _open(self, bracket: str) -> str:
        if self._brackets >= _BRACKETS_MAX or self._marks >= _MARKS_MAX:
            return f"\\{bracket}"
        self._brackets += 1
        self._marks += 1
        return bracket

    def _close(self) -> str:
        if not self._brackets:
            return "\\]"
        self._brackets -= 1
        return "]"

    def _mark(self, text: str, at: int, end: int, *, is_decided: bool) -> tuple[int, str] | None:
        run = _RUNS[text[at]].match(text, at, end)
        length = run.end() - at if run else 1
        if at + length == end and length < 4 and not is_decided:
            return None
        self._marks += 1
        is_allowed = length <= (2 if text[at] == "~" else 3) and self._marks <= _MARKS_MAX
        return length, text[at : at + length] if is_allowed else f"\\{text[at]}" * length

    def _angle(self, text: str, at: int, end: int, *, is_decided: bool) -> tuple[int, str] | None:
        stop = min(end, at + LOOK_AHEAD)
        if (link := _AUTOLINK.match(text, at, stop)) is not None:
            return link.end() - at, _shown_address(text, at, link.end())
        if (
            not is_decided
            and not re.search(r"[\s>]", text[at:stop])
            and text[at + 1 : at + 2] in "hHmM"
        ):
            return None
        return 1, "\\<"

    def _address(self, text: str, at: int, end: int, *, is_decided: bool) -> tuple[int, str] | None:
        scheme = _ADDRESS.match(text, at, end)
        cut = min(end, at + LOOK_AHEAD)
        rest = _ADDRESS_REST.match(text, scheme.end() if scheme else at, cut)
        stop = rest.end() if rest else at + 1
        is_open = stop < end and text[stop] in "([" and _OPEN_REST.fullmatch(text, stop + 1, end)
        if (stop == end or is_open) and not is_decided:
            return None
        self._marks += text.count("_", at, stop)
        shown = _shown_address(text, at, stop)
        return stop - at, shown.replace("_", "%5F") if self._marks > _MARKS_MAX else shown


def _shown_address(text: str, at: int, stop: int) -> str:
    """A web address, in which a colon that would be obeyed is percent-encoded."""
    parts, last = [], at
    for found in _OBEYED_COLON.finditer(text, at, min(len(text), stop + 1)):
        if found.start() < stop:
            parts += [text[last : found.start()], "%3A"]
            last = found.end()
    return "".join([*parts, text[last:stop]]).replace("[", "%5B").replace("]", "%5D")


def _colon(
    text: str, at: int, length: int, end: int, *, is_decided: bool
) -> tuple[int, str] | None:
    """A colon, escaped or not; a time of day such as 12:30 stays as it is."""
    if run := _COLONS.match(text, at, end):
        length = run.end() - at
        if run.end() == end and length < 64 and not is_decided:
            return None
        return length, f":color[{run[0]}]"
    found = _AFTER_COLON.match(text, at + length, min(end, at + length + 65))
    is_open = found.end() == end and found[1] and not found[2] if found else at + length == end
    if is_open and not is_decided:
        return None
    is_obeyed = found is not None and (not found[1] or found[2] is not None)
    return length, ":color[:]" if is_obeyed else text[at : at + length]


def _any_colon(text: str, at: int, end: int, *, is_decided: bool) -> tuple[int, str] | None:
    return _colon(text, at, 1, end, is_decided=is_decided)


def _second(text: str, at: int, end: int) -> str:
    """The second sign of an arrow or dash is kept from the first, unless it belongs to a word."""
    if at == 0 or text[at - 1 : at + 1] not in _ARROWS:
        return text[at]
    following = text[at + 1 : at + 2] if at + 1 < end else ""
    is_word = following.isalnum() and not _ADDRESS.match(text, at + 1)
    return text[at] if is_word else split(text[at])


def _entity(text: str, at: int, end: int, *, is_decided: bool) -> tuple[int, str] | None:
    stop = min(end, at + 40)
    if (found := _ENTITY.match(text, at, stop)) is None:
        rest = text[at + 1 : stop]
        is_open = stop == end and stop < at + 40 and re.fullmatch(r"#?[A-Za-z0-9]*", rest)
        return None if is_open and not is_decided else (1, "&")
    meant = html.unescape(found[0])
    return len(found[0]), split(meant) if meant in _DECODED_OBEYED else found[0]


def _code(text: str, at: int, end: int, *, is_decided: bool) -> tuple[int, str] | None:
    """Code within a line as it is; signs that nothing closes are just signs."""
    run = _BACKTICKS_OPEN.match(text, at, end)
    length = run.end() - at if run else 1
    stop = min(end, at + LOOK_AHEAD)
    for closing in _BACKTICKS.finditer(text, at + length, stop):
        if closing.end() - closing.start() == length and (
            closing.end() < stop or (stop == end and is_decided)
        ):
            mark, body = "`" * length, text[at + length : closing.start()]
            return closing.end() - at, f"{mark}{_unbroken(body, mark)}{mark}"
    return (length, "\\`" * length) if is_decided else None


def _unbroken(body: str, mark: str) -> str:
    """Streamlit rewrites this one word even in code: two pieces of code side by side keep it."""
    return body.replace(":material/", f":{mark}:color[]{mark}material/")


def _dollar(text: str, at: int, end: int, *, is_decided: bool) -> tuple[int, str] | None:
    mark = "$$" if text.startswith("$$", at) and at + 2 <= end else "$"
    first = at + len(mark)
    stop = min(end, first + _FORMULA_MAX)
    close = text.find(mark, first, stop)
    if close < 0:
        return (1, "\\$") if is_decided or stop < end else None
    after = close + len(mark)
    if after == end and not is_decided:
        return None
    body = text[first:close]
    around = text[at - 1 : at] if at else ""
    is_alone = not (around.isalnum() or text[after : min(end, after + 1)].isalnum())
    if "$" in body or "`" in body or not is_alone or not is_formula(body):
        return 1, "\\$"
    is_meant = body.strip() if mark == "$$" else _is_short_formula(body)
    return (after - at, f"{mark}{body}{mark}") if is_meant else (1, "\\$")


def _is_short_formula(body: str) -> bool:
    if not body or body[0].isspace() or body[-1].isspace() or body[-1] == "\\":
        return False
    if body[0].isdigit() and not re.search(r"[\\^_{=]", body):
        return False
    return bool(_MATH_SIGN.search(body) or _SHORT_MATH.fullmatch(body))


def _tex(text: str, at: int, end: int, *, is_decided: bool) -> tuple[int, str] | None:
    r"""A formula between `\(` and `\)` or `\[` and `\]`, in the signs that the page knows."""
    is_inline = text[at + 1] == "("
    stop = min(end, at + 2 + _FORMULA_MAX)
    close = text.find("\\)" if is_inline else "\\]", at + 2, stop)
    if close < 0:
        return (2, text[at : at + 2]) if is_decided or stop < end else None
    body, mark = text[at + 2 : close].strip(), "$" if is_inline else "$$"
    if not body or "$" in body or "`" in body or not is_formula(body):
        return 2, text[at : at + 2]
    if close + 2 == end and not is_decided:
        return None
    # The page takes a digit right behind for a sign that this is money.
    return close + 2 - at, f"{mark}{body}{mark}"


_BY_SIGN = {"`": _code, "$": _dollar, ":": _any_colon, "&": _entity}
