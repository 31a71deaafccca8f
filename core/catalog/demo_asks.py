"""Reads a chat request sent to the demo provider and decides what the answer will be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from core.catalog.answers import mapping_of
from core.catalog.demo_models import DEMO_MODELS, DemoModel
from core.catalog.demo_replies import Doors, Reply, pieces_of, read_doors, reply_to
from core.catalog.tokens import guess_tokens

_TOKENS_PER_MESSAGE = 4
_TOKENS_PER_REQUEST = 3
_DEFAULT_MAX_TOKENS = 4096
_QUOTED_CHARS = 500
_CALL_A_TOOL = re.compile(
    r"\bcall\s+(?:the\s+)?(?:tool\s+|function\s+)?[`'\"]?(?P<name>[\w-]+)[`'\"]?\s*(?P<json>\{.*\})?",
    re.IGNORECASE | re.DOTALL,
)


class AskRefused(ValueError):
    """The request cannot be answered; `code` is one of OpenRouter's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Ask:
    """A request that can be answered, with its answer."""

    model: DemoModel
    prompt_tokens: int
    max_tokens: int
    is_stream: bool
    doors: Doors
    reply: Reply
    shows_reasoning: bool
    tool_call: dict[str, object] | None

    def limited_reply(self) -> Reply:
        """The reply as far as `max_tokens` allows; reasoning and a tool call count."""
        reasoning = self.reply.reasoning[: self.max_tokens]
        left = self.max_tokens - len(reasoning) - (self.tool_call is not None)
        return Reply(self.reply.pieces[: max(0, left)], reasoning)

    def finish_reason(self) -> str:
        limited = self.limited_reply()
        if len(limited.reasoning) + len(limited.pieces) < len(self.reply.reasoning) + len(
            self.reply.pieces
        ):
            return "length"
        return "tool_calls" if self.tool_call else "stop"


def read_ask(raw: bytes) -> Ask:
    """Read the JSON body of a chat request. Raises AskRefused."""
    try:
        body = mapping_of(orjson.loads(raw))
    except orjson.JSONDecodeError:
        raise AskRefused("invalid_request", "The body is not JSON.") from None
    model = DEMO_MODELS.get(str(body.get("model")))
    if model is None:
        raise AskRefused("model_not_found", "This is not a valid model ID of the demo provider.")
    messages = _read_messages(body.get("messages"))
    last_role, question = messages[-1]
    tool_call = _tool_call(question, body.get("tools")) if last_role == "user" else None
    return Ask(
        model=model,
        prompt_tokens=_TOKENS_PER_REQUEST
        + sum(guess_tokens(text) + _TOKENS_PER_MESSAGE for _, text in messages),
        max_tokens=_read_max_tokens(body),
        is_stream=body.get("stream") is True,
        doors=read_doors(question) if last_role == "user" else Doors(),
        reply=Reply(()) if tool_call else _reply(messages, reasons=_reasons(model, body)),
        shows_reasoning=mapping_of(body.get("reasoning")).get("exclude") is not True,
        tool_call=tool_call,
    )


def _reply(messages: list[tuple[str, str]], *, reasons: bool) -> Reply:
    last_role, last_text = messages[-1]
    if last_role == "tool":
        return Reply(pieces_of(f"The tool answered:\n\n> {last_text[:_QUOTED_CHARS]}"))
    questions = [text for role, text in messages if role == "user"]
    system = "\n".join(text for role, text in messages if role in ("system", "developer"))
    return reply_to(questions, system=system, reasons=reasons)


def _reasons(model: DemoModel, body: Mapping[str, object]) -> bool:
    wish = mapping_of(body.get("reasoning"))
    return model.reasons and wish.get("enabled") is not False and wish.get("effort") != "none"


def _read_messages(raw: object) -> list[tuple[str, str]]:
    messages = raw if isinstance(raw, list) else []
    read = [(str(m.get("role")), _text_of(m.get("content"))) for m in messages if mapping_of(m)]
    if not read:
        raise AskRefused("invalid_request", "There are no messages.")
    return read


def _read_max_tokens(body: Mapping[str, object]) -> int:
    limit = body.get("max_tokens") or body.get("max_completion_tokens") or _DEFAULT_MAX_TOKENS
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise AskRefused("invalid_request", "max_tokens must be a positive whole number.")
    return limit


def _text_of(content: object) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(str(part["text"]) for part in parts if "text" in mapping_of(part))


def _tool_call(question: str, tools: object) -> dict[str, object] | None:
    """A call of a tool the message asks for by name, with the JSON that follows as arguments."""
    found = _CALL_A_TOOL.search(question)
    offered = tools if isinstance(tools, list) else []
    names = {mapping_of(mapping_of(tool).get("function")).get("name") for tool in offered}
    if found is None or found["name"] not in names:
        return None
    arguments = found["json"] or "{}"
    try:
        orjson.loads(arguments)
    except orjson.JSONDecodeError:
        arguments = "{}"
    function = {"name": found["name"], "arguments": arguments}
    return {"id": "call_demo_1", "type": "function", "function": function}
