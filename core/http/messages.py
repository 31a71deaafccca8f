"""Checks the messages of a completion request: roles, parts, and which kinds of input they carry.

It changes nothing and fetches nothing; a part it does not know is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from core.errors import BadInput
from core.http.fields import keys, text

COUNT_MAX = 2_000
_PARTS_MAX = 1_000
_URL_LENGTH_MAX = 2_048
_ID_LENGTH_MAX = 200
_TOOL_CALLS_MAX = 128
_IMAGE_DATA = re.compile(r"data:image/(?:png|jpeg|jpg|webp|gif);base64,[A-Za-z0-9+/]+={0,2}")
_FILE_DATA = re.compile(r"data:[a-z]+/[a-z0-9.+-]+;base64,[A-Za-z0-9+/]+={0,2}")
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_AUDIO_FORMATS = frozenset({"wav", "mp3", "aiff", "aac", "ogg", "flac", "m4a", "pcm16", "pcm24"})

_SPOKEN = frozenset({"role", "content", "name"})
_ANSWERED = _SPOKEN | {
    "tool_calls", "refusal", "reasoning", "reasoning_details", "annotations"
}  # fmt: skip
_FIELDS = {
    "system": _SPOKEN,
    "developer": _SPOKEN,
    "user": _SPOKEN,
    "assistant": _ANSWERED,
    "tool": _SPOKEN | {"tool_call_id"},
}


def check(messages: list[object]) -> frozenset[str]:
    """The kinds of input in them: text, image, audio, file. Raises BadInput with the place."""
    if len(messages) > COUNT_MAX:
        raise BadInput(f"messages has more than {COUNT_MAX} entries.", param="messages")
    inputs = {"text"}
    for number, message in enumerate(messages):
        inputs |= _message(message, f"messages[{number}]")
    return frozenset(inputs)


def without_nulls(messages: list[object]) -> list[dict[str, object]]:
    """The messages as they are sent: a field that is null is a field that is absent.

    The content stays where it is null: beside tool calls providers want it named.
    """
    return [
        {name: value for name, value in message.items() if value is not None or name == "content"}
        for message in messages
        if isinstance(message, dict)
    ]


def _message(message: object, place: str) -> set[str]:
    said = message if isinstance(message, dict) else {}
    role = said.get("role")
    if not isinstance(role, str) or role not in _FIELDS:
        roles = ", ".join(_FIELDS)
        raise BadInput(f"{place}.role must be one of {roles}.", param=f"{place}.role")
    given = keys({k: v for k, v in said.items() if v is not None}, place, _FIELDS[role])
    if "name" in given:
        text(given["name"], f"{place}.name", length_max=64)
    if role == "tool":
        text(given.get("tool_call_id"), f"{place}.tool_call_id", length_max=_ID_LENGTH_MAX)
    if role == "assistant":
        _answered(given, place)
    content = given.get("content")
    if content is None and role == "assistant" and given.keys() & {"tool_calls", "refusal"}:
        return set()
    return _content(content, f"{place}.content", text_only=role != "user")


def _answered(given: dict[str, object], place: str) -> None:
    for name in ("refusal", "reasoning"):
        if not isinstance(given.get(name, ""), str):
            raise BadInput(f"{place}.{name} must be a text.", param=f"{place}.{name}")
    for name in ("reasoning_details", "annotations"):
        if not isinstance(given.get(name, []), list):
            raise BadInput(f"{place}.{name} must be a list.", param=f"{place}.{name}")
    calls = given.get("tool_calls", [])
    if not isinstance(calls, list) or len(calls) > _TOOL_CALLS_MAX:
        raise BadInput(f"{place}.tool_calls must be a list.", param=f"{place}.tool_calls")
    for number, call in enumerate(calls):
        _tool_call(call, f"{place}.tool_calls[{number}]")


def _tool_call(call: object, place: str) -> None:
    given = keys(call, place, frozenset({"id", "type", "function", "index", "extra_content"}))
    text(given.get("id"), f"{place}.id", length_max=_ID_LENGTH_MAX)
    if given.get("type", "function") != "function":
        raise BadInput(f"{place}.type must be function.", param=f"{place}.type")
    function = keys(given.get("function"), f"{place}.function", frozenset({"name", "arguments"}))
    text(function.get("name"), f"{place}.function.name", length_max=64)
    if not isinstance(function.get("arguments", ""), str):
        where = f"{place}.function.arguments"
        raise BadInput(f"{where} must be a text of JSON.", param=where)


def _content(content: object, place: str, *, text_only: bool) -> set[str]:
    if isinstance(content, str):
        return set()
    if not isinstance(content, list) or not 0 < len(content) <= _PARTS_MAX:
        raise BadInput(f"{place} must be a text or a list of parts.", param=place)
    inputs = set()
    for number, part in enumerate(content):
        where = f"{place}[{number}]"
        kind = part.get("type") if isinstance(part, dict) else None
        check_part = _PARTS.get(kind) if isinstance(kind, str) else None
        if check_part is None or (text_only and kind != "text"):
            allowed = "text" if text_only else ", ".join(_PARTS)
            raise BadInput(f"{where}.type must be one of {allowed}.", param=f"{where}.type")
        inputs.add(check_part(part, where))
    return inputs


def _text(part: object, place: str) -> str:
    given = keys(part, place, frozenset({"type", "text"}))
    if not isinstance(given.get("text"), str):
        raise BadInput(f"{place}.text must be a text.", param=f"{place}.text")
    return "text"


def _image(part: object, place: str) -> str:
    given = keys(part, place, frozenset({"type", "image_url"}))
    image = keys(given.get("image_url"), f"{place}.image_url", frozenset({"url", "detail"}))
    url = image.get("url")
    is_link = isinstance(url, str) and url.startswith("https://") and len(url) <= _URL_LENGTH_MAX
    if not is_link and not (isinstance(url, str) and _IMAGE_DATA.fullmatch(url)):
        raise BadInput(
            f"{place}.image_url.url must be an https address, or a data URL of a PNG, JPEG, WebP or"
            " GIF picture.",
            param=f"{place}.image_url.url",
        )
    if image.get("detail", "auto") not in {"auto", "low", "high"}:
        where = f"{place}.image_url.detail"
        raise BadInput(f"{where} must be auto, low or high.", param=where)
    return "image"


def _audio(part: object, place: str) -> str:
    given = keys(part, place, frozenset({"type", "input_audio"}))
    audio = keys(given.get("input_audio"), f"{place}.input_audio", frozenset({"data", "format"}))
    data, kind = audio.get("data"), audio.get("format")
    if not isinstance(kind, str) or kind not in _AUDIO_FORMATS:
        where = f"{place}.input_audio.format"
        raise BadInput(f"{where} must be one of {', '.join(sorted(_AUDIO_FORMATS))}.", param=where)
    if not isinstance(data, str) or not _BASE64.fullmatch(data):
        where = f"{place}.input_audio.data"
        raise BadInput(f"{where} must be base64.", param=where)
    return "audio"


def _file(part: object, place: str) -> str:
    given = keys(part, place, frozenset({"type", "file"}))
    file = keys(given.get("file"), f"{place}.file", frozenset({"filename", "file_data"}))
    text(file.get("filename"), f"{place}.file.filename", length_max=255)
    data = file.get("file_data")
    if not isinstance(data, str) or not _FILE_DATA.fullmatch(data):
        where = f"{place}.file.file_data"
        raise BadInput(f"{where} must be a data URL.", param=where)
    return "file"


_PARTS: dict[str, Callable[[object, str], str]] = {
    "text": _text,
    "image_url": _image,
    "input_audio": _audio,
    "file": _file,
}
