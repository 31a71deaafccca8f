"""Guesses how many tokens a text or a conversation has, before it is sent.

For holds and for trimming only: no tokenizer, no network, no promise. Real counts come from the
provider.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from core.errors import BadInput

IMAGE_TOKENS = 1_600  # the upper end of what providers count for one picture of normal detail

_ASCII_CHARS_PER_TOKEN = 4
_OTHER_CHARS_PER_TOKEN = 2
_ASTRAL_TOKENS = 2
_MESSAGE_TOKENS = 4
_CONVERSATION_TOKENS = 3
_IMAGE_PARTS = frozenset({"image_url", "input_image", "image"})
_OVERHEAD_FIELDS = frozenset({"role", "content"})

# UTF-8 tells a character's script by its first byte; deleting all other bytes counts a script.
_ASCII = bytes(range(0x80))
_CJK_LEADS = bytes((*range(0xE3, 0xEE), 0xEF))  # kana, Han, Hangul, compatibility and wide forms
_ASTRAL_LEADS = bytes(range(0xF0, 0xF5))  # emoji and rare Han
_ALL = bytes(range(0x100))


def guess_tokens(text: str) -> int:
    """Guess the tokens of a text: ASCII / 4, CJK 1 each, emoji 2 each, other characters / 2.

    Rounded up. A megabyte takes a few milliseconds.
    """
    if text.isascii():
        return -(-len(text) // _ASCII_CHARS_PER_TOKEN)
    data = text.encode("utf-8", "surrogatepass")
    ascii_chars = _count(data, _ASCII)
    cjk_chars = _count(data, _CJK_LEADS)
    astral_chars = _count(data, _ASTRAL_LEADS)
    other_chars = len(text) - ascii_chars - cjk_chars - astral_chars
    return (
        -(-ascii_chars // _ASCII_CHARS_PER_TOKEN)
        + cjk_chars
        + astral_chars * _ASTRAL_TOKENS
        + -(-other_chars // _OTHER_CHARS_PER_TOKEN)
    )


def guess_messages(
    messages: Sequence[Mapping[str, object]],
    *,
    tools: object = None,
    response_format: object = None,
) -> int:
    """Guess the prompt tokens of a conversation in OpenAI's shape, with its schemas.

    Images count 1,600 each; everything that is neither text nor image (tool calls, files, sound)
    counts as the text of its JSON. Raises BadInput for what cannot be sent as JSON.
    """
    schemas = sum(_guess_json(schema) for schema in (tools, response_format) if schema)
    return _CONVERSATION_TOKENS + schemas + sum(_guess_message(message) for message in messages)


def _guess_message(message: Mapping[str, object]) -> int:
    rest = {
        name: value for name, value in message.items() if name not in _OVERHEAD_FIELDS and value
    }
    guess = _MESSAGE_TOKENS + _guess_content(message.get("content"))
    return guess + _guess_json(rest) if rest else guess


def _guess_content(content: object) -> int:
    if content is None:
        return 0
    if isinstance(content, str):
        return guess_tokens(content)
    parts = content if isinstance(content, list) else [content]
    return sum(_guess_part(part) for part in parts)


def _guess_part(part: object) -> int:
    if isinstance(part, Mapping):
        if part.get("type") in _IMAGE_PARTS:
            return IMAGE_TOKENS
        text = part.get("text")
        if part.get("type") == "text" and isinstance(text, str):
            return guess_tokens(text)
    return _guess_json(part)


def _guess_json(value: object) -> int:
    try:
        return guess_tokens(orjson.dumps(value).decode())
    except TypeError:
        # Not chained: the original error would carry a piece of the content.
        pass
    raise BadInput("A message or a schema cannot be sent as JSON.")


def _count(data: bytes, wanted: bytes) -> int:
    """How many of the bytes are among the wanted ones."""
    return len(data.translate(None, delete=_ALL.translate(None, delete=wanted)))
