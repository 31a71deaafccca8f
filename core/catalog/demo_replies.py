"""What the demo provider says: Markdown replies by subject, and the choice between them.

No model and no network: the same conversation always gets the same reply.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from core.catalog.demo_texts import FALLBACK, GREETING, TOPICS, Topic

_ECHO = re.compile(
    r"^\s*(?:please\s+)?(?:echo|repeat after me|(?:say|reply with|answer with) (?:exactly|only))"
    r"(?:\s*:\s*|\s+)(?P<text>.+)$",
    re.IGNORECASE | re.DOTALL,
)
_TITLE = re.compile(
    r"\btitle\b.{0,80}\b(?:chat|conversation)|\b(?:chat|conversation) title\b", re.IGNORECASE
)
_ABOUT = re.compile(
    r"\b(?:who|what) (?:are|is) (?:you|this)\b|\bwhat can (?:you|i) do\b", re.IGNORECASE
)
_PIECE = re.compile(r"\s*\S{1,12}|\s+$")
_WORD = re.compile(r"[a-z][a-z'-]*")
_DOOR = re.compile(r"\[\[(slow|error|cut|silent|long)(?:\s+(\d{1,6}))?\]\]", re.IGNORECASE)
_MAX_TITLE_WORDS = 6
_LONG_SENTENCE = (
    "The purser walks the deck and counts crates and coins and every cup of coffee while the ship "
    "keeps her course and the log keeps every number"
)


@dataclass(frozen=True, slots=True)
class Doors:
    """What a message asks of the demonstration itself: `[[slow]]`, `[[silent 20]]`, ..."""

    is_slow: bool = False
    has_error: bool = False
    has_cut: bool = False
    silent_s: int = 0
    long_words: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply in pieces of about a token each; joined, the pieces are the text."""

    pieces: tuple[str, ...]
    reasoning: tuple[str, ...] = ()


def read_doors(message: str) -> Doors:
    """Find the steering marks in a message."""
    found = {name.lower(): int(number or 0) for name, number in _DOOR.findall(message)}
    return Doors(
        is_slow="slow" in found,
        has_error="error" in found,
        has_cut="cut" in found,
        silent_s=found.get("silent", 0),
        long_words=found.get("long", 0),
    )


def reply_to(messages: Sequence[str], *, system: str = "", reasons: bool = False) -> Reply:
    """Reply to a conversation, given as the people's messages, oldest first."""
    question = messages[-1] if messages else ""
    doors = read_doors(question)
    if doors.long_words:
        return Reply(_long_text(doors.long_words))
    if found := _ECHO.match(question):
        return Reply(pieces_of(_without_quotes(_DOOR.sub("", found["text"]))))
    if _TITLE.search(system) or _TITLE.search(question.partition("\n")[0]):
        return Reply(pieces_of(_title_of(question)))
    topic = _best_topic(_DOOR.sub("", question))
    text = topic.replies[_variant(messages, len(topic.replies))]
    return Reply(pieces_of(text), _reasoning_about(question, topic) if reasons else ())


def pieces_of(text: str) -> tuple[str, ...]:
    """Cut a text into pieces of about a token; joined again they are the same text."""
    return tuple(_PIECE.findall(text))


def _best_topic(question: str) -> Topic:
    if _ABOUT.search(question):
        return TOPICS[-1]
    words = {word.removesuffix("s") for word in _WORD.findall(question.lower())}
    scores = [len(words & topic.words) for topic in TOPICS]
    best = max(scores)
    if best > 0:
        return TOPICS[scores.index(best)]
    return GREETING if len(words) <= 4 and words & GREETING.words else FALLBACK


def _variant(messages: Sequence[str], count: int) -> int:
    digest = sha256("\x1e".join(messages).encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:4], "big") % count


def _reasoning_about(question: str, topic: Topic) -> tuple[str, ...]:
    words = len(_WORD.findall(question.lower()))
    return pieces_of(
        f"The question has {words} words and is about {topic.name}. "
        "First the short answer, then what to look at next. "
        "Keep it to what Purser really does."
    )


def _long_text(words: int) -> tuple[str, ...]:
    sentence = _LONG_SENTENCE.split()
    cycle = len(sentence)
    return tuple(
        ("" if n == 0 else ". " if n % cycle == 0 else " ") + sentence[n % cycle]
        for n in range(words)
    )


def _title_of(question: str) -> str:
    """A title from the last line of the question, which holds the words to be named."""
    lines = [line for line in question.splitlines() if line.strip()]
    subject = re.sub(r"^\s*\w+:\s*", "", lines[-1]) if lines else ""
    words = re.findall(r"[\w'-]+", _DOOR.sub("", subject))[:_MAX_TITLE_WORDS]
    return " ".join(words).capitalize() or "New conversation"


def _without_quotes(text: str) -> str:
    text = text.strip()
    is_quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'`"
    return text[1:-1] if is_quoted else text
