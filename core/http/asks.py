"""A completion request as the gate and the provider need it, from the bytes a program sent.

Pure: it knows no database. What a model does not support is refused here too, once it is known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from core.catalog import tokens
from core.catalog.prompt_bounds import bound_request
from core.errors import BadInput
from core.http import bodies, fields, messages
from core.quota.standing import Standing

# Fields that go to the provider, with the parameters of which the model must support one.
_SENT = {
    "temperature": ("temperature",),
    "top_p": ("top_p",),
    "frequency_penalty": ("frequency_penalty",),
    "presence_penalty": ("presence_penalty",),
    "seed": ("seed",),
    "stop": ("stop",),
    "logit_bias": ("logit_bias",),
    "tools": ("tools",),
    "tool_choice": ("tool_choice", "tools"),
    "parallel_tool_calls": ("parallel_tool_calls", "tools"),
    "response_format": ("response_format", "structured_outputs"),
    "reasoning": ("reasoning",),
    "reasoning_effort": ("reasoning_effort", "reasoning"),
}
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A checked request. `max_tokens` None leaves the cap to us; `inputs` are kinds of content."""

    model_id: str
    messages: list[dict[str, object]]
    fields: Mapping[str, object]
    inputs: frozenset[str]
    prompt_tokens_guess: int
    prompt_tokens_bound: int
    max_tokens: int | None
    is_stream: bool
    idempotency_key: str | None


def read(raw: bytes, idempotency_key: str | None) -> Wanted:
    """The request in a body. Raises BadInput naming the field that is wrong."""
    if idempotency_key is not None and not _IDEMPOTENCY_KEY.fullmatch(idempotency_key):
        raise BadInput(
            "Idempotency-Key must be 1 to 255 visible ASCII characters.", param="Idempotency-Key"
        )
    body = {name: value for name, value in bodies.parse(raw).items() if value is not None}
    fields.check(body)
    for name in ("model", "messages"):
        if name not in body:
            raise BadInput(f"{name} is missing.", param=name)
    said = body["messages"]
    assert isinstance(said, list)  # noqa: S101 - checked above; tells the type
    inputs = messages.check(said)
    sent = messages.without_nulls(said)
    others = {name: body[name] for name in _SENT if name in body and body[name] != []}
    return Wanted(
        model_id=str(body["model"]), messages=sent, inputs=inputs,
        fields=others, prompt_tokens_bound=bound_request(sent, others),
        prompt_tokens_guess=tokens.guess_messages(
            sent, tools=body.get("tools"), response_format=body.get("response_format")
        ),
        max_tokens=_max_tokens(body), is_stream=_is_stream(body), idempotency_key=idempotency_key,
    )  # fmt: skip


def require_supported(wanted: Wanted, standing: Standing) -> None:
    """Raise BadInput for a field or a kind of content that this model does not take."""
    supported = set(standing.supported_parameters or ())
    for name in wanted.fields:
        if supported.isdisjoint(_SENT[name]):
            raise BadInput(f"{standing.model_id} does not support {name}.", param=name)
    if strange := wanted.inputs - {"text"} - set(standing.input_modalities or ()):
        kind = min(strange)
        raise BadInput(f"{standing.model_id} takes no {kind} input.", param="messages")
    if "text" not in (standing.output_modalities or ()):
        raise BadInput(f"{standing.model_id} does not answer with text.", param="model")


def _max_tokens(body: Mapping[str, object]) -> int | None:
    old, new = body.get("max_tokens"), body.get("max_completion_tokens")
    if old is not None and new is not None and old != new:
        raise BadInput(
            "max_tokens and max_completion_tokens name the same limit and differ.",
            param="max_completion_tokens",
        )
    given = old if new is None else new
    return given if isinstance(given, int) else None


def _is_stream(body: Mapping[str, object]) -> bool:
    is_stream = body.get("stream") is True
    if "stream_options" in body and not is_stream:
        raise BadInput("stream_options needs stream: true.", param="stream_options")
    if "tool_choice" in body and not body.get("tools"):
        raise BadInput("tool_choice needs tools.", param="tool_choice")
    if "reasoning" in body and "reasoning_effort" in body:
        raise BadInput("Give reasoning or reasoning_effort, not both.", param="reasoning_effort")
    return is_stream
