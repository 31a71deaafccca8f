"""The most tokens a prompt can have: what a hold is sized by, whatever tokenizer the model has.

A byte-level tokenizer makes at most one token of each UTF-8 byte, and so does one of whole words that
falls back to bytes. So everything that is sent counts by its bytes. What a price is worked out from where
nobody counted is a guess, and lives in tokens.py.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

import orjson

from core.errors import BadInput

# What chat templates and providers put around a request (dates, rules, marks), around each message, and
# in words of their own before tools and answer schemas (Anthropic: up to about 700).
REQUEST_TOKENS = 128
MESSAGE_TOKENS = 16
SCHEMA_TOKENS = 1_024
# The most that any model of the catalogue counts for one picture: gpt-4o-mini, 2,833 and 5,667 for each
# of 8 tiles. Others end at 16,384 (Qwen), 4,784 (Anthropic), 1,445 (OpenAI's larger ones).
PICTURE_TOKENS = 48_169
# Sound is counted by its seconds, at most 32 tokens each. These formats have 500 bytes a second at least.
_AUDIO_BYTES_PER_TOKEN = 12
_STEADY_AUDIO = frozenset({"wav", "aiff", "pcm16", "pcm24", "mp3"})
_PICTURES = frozenset({"image_url", "input_image", "image"})
_SCHEMAS = ("tools", "response_format")


def bound_text(text: str) -> int:
    """The most tokens a text can have: its bytes, also as tokenizers that compose characters see it."""
    if text.isascii():
        return len(text)
    size = len(text.encode("utf-8", "surrogatepass"))
    if unicodedata.is_normalized("NFC", text):
        return size
    composed = unicodedata.normalize(
        "NFC", text
    )  # a few characters grow, to three times their bytes
    return max(size, len(composed.encode("utf-8", "surrogatepass")))


def bound_request(
    messages: Sequence[Mapping[str, object]], fields: Mapping[str, object] | None = None
) -> int:
    """The most tokens the prompt of a request in OpenAI's shape can have; `fields` are what is sent
    besides the messages. Raises BadInput for what cannot be sent as JSON."""
    sent = fields or {}
    schemas = SCHEMA_TOKENS * sum(1 for name in _SCHEMAS if sent.get(name))
    around = sum(_bound_json(name) + _bound_json(value) for name, value in sent.items())
    return REQUEST_TOKENS + schemas + around + sum(_bound_message(message) for message in messages)


def _bound_message(message: Mapping[str, object]) -> int:
    rest = {name: value for name, value in message.items() if name != "content"}
    return MESSAGE_TOKENS + _bound_json(rest) + _bound_content(message.get("content"))


def _bound_content(content: object) -> int:
    if content is None:
        return 0
    if isinstance(content, str):
        return bound_text(content)
    parts = content if isinstance(content, list) else [content]
    return sum(_bound_part(part) for part in parts)


def _bound_part(part: object) -> int:
    if not isinstance(part, Mapping):
        return _bound_json(part)
    match part.get("type"), part.get("text"), part.get("input_audio"):
        case "text", str(text), _:
            return MESSAGE_TOKENS + bound_text(text)
        case str(kind), _, _ if kind in _PICTURES:
            return PICTURE_TOKENS
        case "input_audio", _, {"format": format_, "data": str(data)} if format_ in _STEADY_AUDIO:
            return MESSAGE_TOKENS + len(data) // _AUDIO_BYTES_PER_TOKEN
    # A file's pages are read as text and as pictures: its bytes, and a picture more.
    pages = PICTURE_TOKENS if part.get("type") == "file" else 0
    return MESSAGE_TOKENS + pages + _bound_json(part)


def _bound_json(value: object) -> int:
    try:
        return bound_text(orjson.dumps(value).decode())
    except TypeError:
        # Not chained: the original error would carry a piece of the content.
        pass
    raise BadInput("A message or a schema cannot be sent as JSON.")
