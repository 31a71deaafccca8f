"""What a model said, in one shape for every provider: deltas, usage, failure and the answer itself.

Pure data: it opens no connection, prices nothing and decides nothing about money.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Literal

from core.catalog.tokens import guess_tokens

Outcome = Literal["running", "ok", "cut", "error", "timeout", "stopped"]
FailureKind = Literal[
    "model_not_found",
    "bad_request",
    "context_too_long",
    "provider_unavailable",
    "content_refused",
    "model_unavailable",
    "provider_timeout",
    "provider_overloaded",
    "provider_error",
]

EXTRA_FIELDS = (
    "tool_calls",
    "reasoning_details",
    "images",
    "annotations",
    "audio",
    "refusal",
)

_MAX_NAME_CHARS = 200
_MAX_TOKENS = 10**12  # far above any real count, far below a 64-bit overflow
_MAX_COST_USD = Decimal(1_000_000)


# Codes that may be shown to operators; anything else a provider sends is dropped.
_CODES = """
    context_length_exceeded max_tokens_exceeded token_limit_exceeded string_too_long authentication
    permission_denied payment_required rate_limit_exceeded provider_overloaded provider_unavailable
    invalid_request invalid_prompt not_found payload_too_large unprocessable
    content_policy_violation refusal server timeout unmapped model_not_found wrong_endpoint
    no_endpoints model_deprecated model_unavailable_upstream privacy_restricted constraint_filtered
    free_variant_ended capacity_exhausted temporarily_unavailable region_restricted invalid_api_key
    insufficient_quota invalid_request_error server_error overloaded_error
"""
_KNOWN_CODES = frozenset(_CODES.split())


@dataclass(frozen=True, slots=True)
class Delta:
    """One normalised event of an answer.

    `extra` holds only the raw fields named in `EXTRA_FIELDS`, as the provider sent them.
    """

    text: str = ""
    reasoning: str = ""
    extra: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and cost as the provider reports them.

    `prompt_tokens` includes cached and cache-write tokens, `completion_tokens` includes reasoning,
    image and audio tokens. `cost_usd` is the provider's own amount, exactly as written, plus the
    upstream's where the key belongs to us (`is_byok`); None where the provider does not say.
    `cache_write_1h_tokens` are those of `cache_write_tokens` that stay for an hour; None: not told.
    """

    prompt_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    image_tokens: int
    audio_prompt_tokens: int
    audio_completion_tokens: int
    searches: int
    cost_usd: Decimal | None
    cache_write_1h_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an answer did not come to a good end.

    `status` is the HTTP status, or the code inside an error event. `reason` is made of known codes
    and numbers only, never of the provider's own sentences: those may repeat a key or the prompt.
    """

    kind: FailureKind
    status: int | None
    retry_after_s: int | None
    reason: str


@dataclass(slots=True)
class Answer:
    """An answer while it grows and after it ended.

    `failure` is set for the outcomes error, timeout and cut; `latency_ms` once it has ended.
    """

    deltas: list[Delta] = field(default_factory=list)
    generation_id: str | None = None
    model_served: str | None = None
    provider_name: str | None = None
    finish_reason: str | None = None
    native_finish_reason: str | None = None
    usage: Usage | None = None
    failure: Failure | None = None
    outcome: Outcome = "running"
    first_token_ms: int | None = None
    latency_ms: int | None = None

    @property
    def text(self) -> str:
        return "".join(delta.text for delta in self.deltas)

    @property
    def reasoning(self) -> str:
        return "".join(delta.reasoning for delta in self.deltas)

    @property
    def has_output(self) -> bool:
        """Whether the person got anything: text, reasoning, a tool call, an image, ..."""
        return bool(self.deltas)

    @property
    def is_complete(self) -> bool:
        """Whether the provider said both how the answer ended and what it used."""
        return self.finish_reason is not None and self.usage is not None

    @property
    def tool_calls(self) -> list[dict[str, object]]:
        """The tool calls in OpenAI's shape, put together from their pieces."""
        return [call.shaped() for call in _assemble_tool_calls(self.deltas)]

    @property
    def delivered_tokens(self) -> int:
        """An estimate of the tokens received, for answers that end without usage."""
        calls = "".join(call.name + call.arguments for call in _assemble_tool_calls(self.deltas))
        return guess_tokens(self.text) + guess_tokens(self.reasoning + calls)

    def absorb(self, chunk: Mapping[str, object]) -> Delta | None:
        """Take in one chunk of a stream, or a whole answer; return what it added, if anything.

        Fields of the wrong type are ignored: providers add and change fields without notice.
        """
        self.generation_id = self.generation_id or name_of(chunk.get("id"))
        self.model_served = name_of(chunk.get("model")) or self.model_served
        self.provider_name = name_of(chunk.get("provider")) or self.provider_name
        if (usage := mapping_of(chunk.get("usage"))) and (read := read_usage(usage)):
            self.usage = read
        error = chunk.get("error")
        choice = _first_choice(chunk)
        if choice:
            error = error or choice.get("error")
            self.finish_reason = name_of(choice.get("finish_reason")) or self.finish_reason
            native = name_of(choice.get("native_finish_reason"))
            self.native_finish_reason = native or self.native_finish_reason
        if error or self.finish_reason == "error":
            self.failure = self.failure or failure_in_stream(error)
        delta = _read_delta(mapping_of(choice.get("delta")) or mapping_of(choice.get("message")))
        if delta is not None:
            self.deltas.append(delta)
        return delta


def read_usage(raw: Mapping[str, object]) -> Usage | None:
    """Read a usage object in OpenAI's or OpenRouter's form; None when it counts nothing."""
    if "prompt_tokens" not in raw and "completion_tokens" not in raw:
        return None
    prompt = mapping_of(raw.get("prompt_tokens_details"))
    completion = mapping_of(raw.get("completion_tokens_details"))
    tools = mapping_of(raw.get("server_tool_use_details")) or mapping_of(raw.get("server_tool_use"))
    written, written_1h = _cache_writes(raw, prompt)
    return Usage(
        prompt_tokens=count_of(raw.get("prompt_tokens")),
        cached_tokens=count_of(prompt.get("cached_tokens")),
        cache_write_tokens=written,
        completion_tokens=count_of(raw.get("completion_tokens")),
        reasoning_tokens=count_of(completion.get("reasoning_tokens")),
        image_tokens=count_of(completion.get("image_tokens")),
        audio_prompt_tokens=count_of(prompt.get("audio_tokens")),
        audio_completion_tokens=count_of(completion.get("audio_tokens")),
        searches=count_of(tools.get("web_search_requests")),
        cost_usd=_cost_usd(raw),
        cache_write_1h_tokens=written_1h,
    )


def failure_in_stream(error: object) -> Failure:
    """The failure of an error that came inside an answer whose HTTP status was 200."""
    raw = mapping_of(error)
    status = _status_of(raw.get("code"))
    words = [str(status)] if status else []
    words += known_codes(raw)
    return Failure("provider_error", status, None, "in answer: " + (" ".join(words) or "unnamed"))


def known_codes(error: Mapping[str, object]) -> list[str]:
    """The codes of an error object that are on our own list, in a fixed order, each once."""
    candidates = (
        mapping_of(error.get("metadata")).get("error_type"),
        mapping_of(error.get("availability")).get("code"),
        error.get("code"),
        error.get("type"),
    )
    codes = [c for c in candidates if isinstance(c, str) and c in _KNOWN_CODES]
    return list(dict.fromkeys(codes))


def count_of(value: object) -> int:
    """A token count, or 0 for anything that cannot be one."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_TOKENS:
        return value
    return 0


def usd_of(value: object) -> Decimal | None:
    """An amount of USD exactly as written, or None for anything that cannot be one."""
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        return None
    try:
        amount = Decimal(value)
    except (InvalidOperation, ValueError):
        return None
    return amount if amount.is_finite() and 0 <= amount <= _MAX_COST_USD else None


def name_of(value: object) -> str | None:
    """A short single-purpose string (id, model, reason), or None for anything else."""
    if not isinstance(value, str) or not value:
        return None
    return value[:_MAX_NAME_CHARS].replace("\x00", "")


def _cache_writes(
    raw: Mapping[str, object], prompt: Mapping[str, object]
) -> tuple[int, int | None]:
    """Tokens written to the cache, and those of them that stay for an hour; None where nobody says.

    Anthropic's split lies beside the counts, or among the prompt's details where a gateway put it.
    """
    places = (raw.get("cache_creation"), prompt.get("cache_creation"),
              prompt.get("cache_creation_token_details"))  # fmt: skip
    split = next((found for place in places if (found := mapping_of(place))), {})
    told = (prompt.get("cache_write_tokens"), raw.get("cache_creation_input_tokens"))
    written = next((count for value in told if (count := count_of(value))), 0)
    if not split.keys() & {"ephemeral_1h_input_tokens", "ephemeral_5m_input_tokens"}:
        return written, None
    written_1h = count_of(split.get("ephemeral_1h_input_tokens"))
    together = written_1h + count_of(split.get("ephemeral_5m_input_tokens"))
    return max(written, together), written_1h


def _cost_usd(raw: Mapping[str, object]) -> Decimal | None:
    cost = usd_of(raw.get("cost"))
    if raw.get("is_byok") is not True:
        return cost
    upstream = usd_of(mapping_of(raw.get("cost_details")).get("upstream_inference_cost"))
    # With a key of our own the fee alone is not the cost: without the upstream's part say nothing.
    return None if upstream is None else upstream + (cost or 0)


def _first_choice(chunk: Mapping[str, object]) -> Mapping[str, object]:
    choices = chunk.get("choices")
    if not isinstance(choices, list):
        return {}
    return next((c for c in choices if isinstance(c, dict) and not c.get("index")), {})


def _read_delta(raw: Mapping[str, object]) -> Delta | None:
    text = _text_of(raw.get("content"))
    reasoning = _text_of(raw.get("reasoning")) or _text_of(raw.get("reasoning_content"))
    extra = {name: _clean(raw[name]) for name in EXTRA_FIELDS if raw.get(name)}
    if not (text or reasoning or extra):
        return None
    return Delta(text, reasoning, extra or None)


def _text_of(value: object) -> str:
    """Text, also where a provider sends a list of parts; without NUL, which Postgres refuses."""
    if isinstance(value, str):
        return value.replace("\x00", "") if "\x00" in value else value
    if isinstance(value, list):
        return "".join(_text_of(part.get("text")) for part in value if isinstance(part, dict))
    return ""


def _clean(value: object) -> object:
    if isinstance(value, str):
        return value.replace("\x00", "") if "\x00" in value else value
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {_text_of(key): _clean(item) for key, item in value.items()}
    return value


@dataclass(slots=True)
class _ToolCall:
    """A tool call under assembly; `extra_content` is Google's, and must go back unchanged."""

    id: str | None = None
    name: str = ""
    arguments: str = ""
    extra_content: object = None

    def add(self, piece: Mapping[str, object]) -> None:
        function = mapping_of(piece.get("function"))
        self.id = self.id or name_of(piece.get("id"))
        self.name += _text_of(function.get("name"))
        self.arguments += _text_of(function.get("arguments"))
        self.extra_content = piece.get("extra_content") or self.extra_content

    def shaped(self) -> dict[str, object]:
        function = {"name": self.name, "arguments": self.arguments}
        call: dict[str, object] = {
            "id": self.id,
            "type": "function",
            "function": function,
        }
        return call | ({"extra_content": self.extra_content} if self.extra_content else {})


def _assemble_tool_calls(deltas: list[Delta]) -> list[_ToolCall]:
    calls: dict[object, _ToolCall] = {}
    for position, piece in _tool_call_pieces(deltas):
        index = piece.get("index")
        # Google's compatible endpoint leaves the index out: the id, else the place, stands in.
        key = index if isinstance(index, int) else (name_of(piece.get("id")) or position)
        calls.setdefault(key, _ToolCall()).add(piece)
    return list(calls.values())


def _tool_call_pieces(deltas: list[Delta]) -> Iterator[tuple[int, dict[str, object]]]:
    for delta in deltas:
        pieces = delta.extra.get("tool_calls") if delta.extra else None
        if isinstance(pieces, list):
            yield from ((n, piece) for n, piece in enumerate(pieces) if isinstance(piece, dict))


def _status_of(code: object) -> int | None:
    text = str(code)
    return int(text) if len(text) == 3 and text.isascii() and text.isdigit() else None


def mapping_of(value: object) -> Mapping[str, object]:
    """A JSON object, or an empty one for anything else."""
    return value if isinstance(value, dict) else {}
