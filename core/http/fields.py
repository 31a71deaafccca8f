"""Checks the fields of a completion request by one table: what is taken, its type and its range.

A field that is not in the table is refused by its name; nothing is passed on unread.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial

from core.errors import BadInput
from core.http.bodies import shown

_ANSWER_TOKENS_MAX = 10_000_000
_SEED_MAX = 2**63 - 1
_STOPS_MAX = 4
_STOP_LENGTH_MAX = 1_000
_BIASES_MAX = 300
_TOOLS_MAX = 128
_TEXT_LENGTH_MAX = 512
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_EFFORTS = frozenset({"max", "xhigh", "high", "medium", "low", "minimal", "none"})
_FORMATS = frozenset({"text", "json_object", "json_schema"})
_CHOICES = frozenset({"none", "auto", "required"})

Check = Callable[[object, str], None]


def check(body: Mapping[str, object]) -> None:
    """Raise BadInput for the first field that is not taken, or has a wrong type or range."""
    for name, value in body.items():
        found = _CHECKS.get(name)
        if found is None:
            raise unknown(name)
        if value is not None:
            found(value, name)


def unknown(name: str) -> BadInput:
    """The refusal of a field by its name, with the reason where people ask for one."""
    why = _REASONS.get(name, "This API does not take it.")
    return BadInput(f"Unknown field {shown(name)!r}. {why}", param=shown(name))


def keys(value: object, name: str, allowed: frozenset[str]) -> dict[str, object]:
    """The value as an object that has no other key than these. Raises BadInput."""
    if not isinstance(value, dict):
        raise _wrong(name, "an object")
    if strange := value.keys() - allowed:
        field = f"{name}.{shown(min(strange))}"
        raise BadInput(f"Unknown field {field!r}. This API does not take it.", param=field)
    return value


def text(value: object, name: str, *, length_max: int = _TEXT_LENGTH_MAX) -> str:
    """The value as a text that is not empty. Raises BadInput."""
    if not isinstance(value, str) or not 0 < len(value) <= length_max:
        raise _wrong(name, f"a text of 1 to {length_max} characters")
    return value


def _wrong(name: str, wanted: str) -> BadInput:
    return BadInput(f"{name} must be {wanted}.", param=name)


def _flag(value: object, name: str) -> None:
    if not isinstance(value, bool):
        raise _wrong(name, "true or false")


def _whole(value: object, name: str, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise _wrong(name, f"a whole number from {least} to {most}")


def _number(value: object, name: str, least: float, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise _wrong(name, f"a number from {least:g} to {most:g}")


def _one_of(value: object, name: str, allowed: frozenset[str]) -> None:
    if not isinstance(value, str) or value not in allowed:
        raise _wrong(name, "one of " + ", ".join(sorted(allowed)))


def _only(value: object, name: str, wanted: object, why: str) -> None:
    if value is not wanted and (isinstance(value, bool) or value != wanted):
        raise BadInput(f"{name} must be {str(wanted).lower()}: {why}", param=name)


def _model(value: object, name: str) -> None:
    text(value, name, length_max=200)


def _messages(value: object, name: str) -> None:
    if not isinstance(value, list) or not value:
        raise _wrong(name, "a list of at least one message")


def _stop(value: object, name: str) -> None:
    stops = value if isinstance(value, list) else [value]
    if not 1 <= len(stops) <= _STOPS_MAX:
        raise _wrong(name, f"a text or a list of 1 to {_STOPS_MAX}")
    for stop in stops:
        text(stop, name, length_max=_STOP_LENGTH_MAX)


def _bias(value: object, name: str) -> None:
    if not isinstance(value, dict) or len(value) > _BIASES_MAX:
        raise _wrong(name, f"an object of at most {_BIASES_MAX} tokens")
    for token, bias in value.items():
        if not (token.isascii() and token.isdigit()):
            raise _wrong(name, "an object whose keys are token ids")
        _number(bias, name, -100, 100)


def _stream_options(value: object, name: str) -> None:
    for field, given in keys(value, name, frozenset({"include_usage"})).items():
        _flag(given, f"{name}.{field}")


def _reasoning(value: object, name: str) -> None:
    given = keys(value, name, frozenset({"effort", "max_tokens", "exclude", "enabled"}))
    if given.get("effort") is not None:
        _one_of(given["effort"], f"{name}.effort", _EFFORTS)
    if given.get("max_tokens") is not None:
        _whole(given["max_tokens"], f"{name}.max_tokens", 1, _ANSWER_TOKENS_MAX)
    for field in ("exclude", "enabled"):
        if given.get(field) is not None:
            _flag(given[field], f"{name}.{field}")


def _response_format(value: object, name: str) -> None:
    given = keys(value, name, frozenset({"type", "json_schema"}))
    _one_of(given.get("type"), f"{name}.type", _FORMATS)
    if given["type"] != "json_schema":
        return
    described = keys(
        given.get("json_schema"), f"{name}.json_schema",
        frozenset({"name", "description", "schema", "strict"}),
    )  # fmt: skip
    _tool_name(described.get("name"), f"{name}.json_schema.name")
    if not isinstance(described.get("schema", {}), dict):
        raise _wrong(f"{name}.json_schema.schema", "an object")


def _tools(value: object, name: str) -> None:
    if not isinstance(value, list) or len(value) > _TOOLS_MAX:
        raise _wrong(name, f"a list of at most {_TOOLS_MAX} tools")
    for number, tool in enumerate(value):
        place = f"{name}[{number}]"
        given = keys(tool, place, frozenset({"type", "function"}))
        if given.get("type") != "function":
            raise BadInput(
                f"{place}.type must be function: tools that the provider runs cost extra.",
                param=f"{place}.type",
            )
        described = keys(
            given.get("function"), f"{place}.function",
            frozenset({"name", "description", "parameters", "strict"}),
        )  # fmt: skip
        _tool_name(described.get("name"), f"{place}.function.name")
        if not isinstance(described.get("parameters") or {}, dict):
            raise _wrong(f"{place}.function.parameters", "an object")
        if not isinstance(described.get("description") or "", str):
            raise _wrong(f"{place}.function.description", "a text")


def _tool_choice(value: object, name: str) -> None:
    if isinstance(value, str):
        _one_of(value, name, _CHOICES)
        return
    given = keys(value, name, frozenset({"type", "function"}))
    if given.get("type") != "function":
        raise _wrong(f"{name}.type", "function")
    function = keys(given.get("function"), f"{name}.function", frozenset({"name"}))
    _tool_name(function.get("name"), f"{name}.function.name")


def _user(value: object, name: str) -> None:
    text(value, name)  # taken, because clients send it; the provider gets a hash of our own


def _tool_name(value: object, name: str) -> None:
    if not isinstance(value, str) or not _TOOL_NAME.fullmatch(value):
        raise _wrong(name, "a name of 1 to 64 letters, digits, _ or -")


_ONE_ANSWER = "one answer is given and paid for per call."
_CHECKS: dict[str, Check] = {
    "model": _model,
    "messages": _messages,
    "stream": _flag,
    "stream_options": _stream_options,
    "max_tokens": partial(_whole, least=1, most=_ANSWER_TOKENS_MAX),
    "max_completion_tokens": partial(_whole, least=1, most=_ANSWER_TOKENS_MAX),
    "temperature": partial(_number, least=0, most=2),
    "top_p": partial(_number, least=0, most=1),
    "frequency_penalty": partial(_number, least=-2, most=2),
    "presence_penalty": partial(_number, least=-2, most=2),
    "seed": partial(_whole, least=-_SEED_MAX, most=_SEED_MAX),
    "stop": _stop,
    "logit_bias": _bias,
    "tools": _tools,
    "tool_choice": _tool_choice,
    "parallel_tool_calls": _flag,
    "response_format": _response_format,
    "reasoning": _reasoning,
    "reasoning_effort": partial(_one_of, allowed=_EFFORTS),
    "user": _user,
    "n": partial(_only, wanted=1, why=_ONE_ANSWER),
    "store": partial(_only, wanted=False, why="answers are not stored at the provider."),
}

_ELSEWHERE = "Where a call goes is set by the operators, never by the caller."
_PRICE = "It would change the price of the call."
_REASONS = {
    "api_base": _ELSEWHERE, "base_url": _ELSEWHERE, "api_key": _ELSEWHERE, "api_type": _ELSEWHERE,
    "api_version": _ELSEWHERE, "provider": _ELSEWHERE, "custom_llm_provider": _ELSEWHERE,
    "organization": _ELSEWHERE, "extra_headers": _ELSEWHERE, "extra_body": _ELSEWHERE,
    "models": "A call names one model; it is reserved and priced by it.",
    "fallbacks": "A call names one model; it is reserved and priced by it.",
    "route": "A call names one model; it is reserved and priced by it.",
    "plugins": _PRICE, "service_tier": _PRICE, "web_search_options": _PRICE, "preset": _PRICE,
    "transforms": "Messages are sent as they are, never shortened on the way.",
    "best_of": _ONE_ANSWER.capitalize(),
    "logprobs": "Log probabilities are not passed on.",
    "top_logprobs": "Log probabilities are not passed on.",
    "functions": "Use tools.", "function_call": "Use tool_choice.",
}  # fmt: skip
