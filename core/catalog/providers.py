"""Talks to one OpenAI-compatible provider: streams answers, looks up generations, lists models.

The only file that imports `openai`. It prices nothing, keeps no state of a call, and sends nothing
that was not admitted: a stream needs the call that only the gate makes.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from typing import Protocol
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

import httpx2
import openai
import orjson

from core.catalog.answers import (
    Answer,
    Delta,
    Failure,
    Outcome,
    count_of,
    mapping_of,
    name_of,
    usd_of,
)
from core.catalog.failures import read_refusal
from core.catalog.reading import Deadlines, Reading, Watch, conclude, ms_since, provider_error
from core.catalog.sse import MAX_EVENT_BYTES, EventTooLarge

_FIELDS = """
    temperature top_p top_k top_a min_p frequency_penalty presence_penalty repetition_penalty
    seed stop logit_bias logprobs top_logprobs tools tool_choice parallel_tool_calls
    response_format reasoning reasoning_effort verbosity modalities audio image_config plugins
    web_search_options
"""
ALLOWED_FIELDS = frozenset(_FIELDS.split())

_LONGEST_RETRY_AFTER_S = 2
_RECONNECT_AFTER_S = 0.2
_LOOKUP_TIMEOUT_S = 15
_MODELS_TIMEOUT_S = 60
_MAX_MODEL_PAGES = 50
_LOOPBACK_HOSTS = {"127.0.0.1", "localhost", "::1"}


class ProviderUnreachable(Exception):
    """A lookup got no usable answer; the text names the provider and a status, nothing else."""


class AdmittedCall(Protocol):
    """A call the gate let through; nothing else may be sent to a provider."""

    @property
    def call_id(self) -> UUID: ...
    @property
    def lease_token(self) -> UUID: ...
    @property
    def max_tokens(self) -> int: ...


@dataclass(frozen=True, slots=True)
class MaxPrice:
    """The highest prices a router may choose for this call."""

    prompt_usd_per_million: Decimal
    completion_usd_per_million: Decimal


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What to ask. `end_user` is a keyed hash; `fields` holds only names in `ALLOWED_FIELDS`."""

    model: str
    messages: list[dict[str, object]]
    end_user: str
    fields: Mapping[str, object] = field(default_factory=dict)
    session_id: str | None = None
    max_price: MaxPrice | None = None


@dataclass(frozen=True, slots=True)
class Generation:
    """The provider's own record of a call: native (billed) tokens and the exact cost."""

    cost_usd: Decimal
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    cached_tokens: int
    model: str | None
    finish_reason: str | None
    cancelled: bool


class Provider:
    """One base URL with one key and one pool of connections; belongs to one event loop."""

    def __init__(
        self, name: str, base_url: str, api_key: str, *, site: str, max_connections: int
    ) -> None:
        self.name = name
        self._client = _Client(base_url, api_key, site=site, max_connections=max_connections)

    async def stream(
        self,
        call: AdmittedCall,
        request: ChatRequest,
        answer: Answer,
        *,
        deadlines: Deadlines,
        on_delta: Callable[[Delta], None],
        on_generation: Callable[[str], None],
    ) -> None:
        """Send the request and fill `answer` until it ends; `answer.outcome` says how.

        Raises nothing for the provider's reasons. Cancelling the task closes the connection at
        once, sets the outcome "stopped" and goes on raising. Raises ValueError for a field that is
        not allowed. One retry, only where nothing can have run: no connection, or refused as busy
        for at most 2 s.
        """
        body = orjson.dumps(_body(call, request))
        started = time.monotonic()
        watch = Watch(deadlines)
        reading = Reading(answer, started, watch, on_delta, on_generation)
        try:
            async with watch.timer:
                response = await self._open(body, deadlines)
                try:
                    await reading.read(response)
                finally:
                    await response.aclose()
            conclude(answer, "cut", "the answer ended early")
        except TimeoutError:
            if not watch.timer.expired():
                raise
            conclude(answer, "timeout", f"deadline: {watch.waiting_for}")
        except asyncio.CancelledError:
            answer.outcome = "stopped"
            raise
        except openai.APIStatusError as error:
            answer.failure = _refusal(error)
            answer.outcome = "error"
        except openai.APIConnectionError as error:
            answer.outcome, answer.failure = _no_connection(error)
        except EventTooLarge:
            reason = f"an event is larger than {MAX_EVENT_BYTES} bytes"
            answer.outcome, answer.failure = "error", provider_error(reason)
        except httpx2.HTTPError:
            conclude(answer, "cut", "the connection broke")
        finally:
            answer.latency_ms = ms_since(started)

    async def generation(self, generation_id: str) -> Generation | None:
        """Look up what a call really cost; None while the provider has no record of it.

        Raises ProviderUnreachable.
        """
        try:
            raw = await self._get("/generation", {"id": generation_id}, _LOOKUP_TIMEOUT_S)
        except _NotFound:
            return None
        return _read_generation(mapping_of(raw.get("data")))

    async def models(self) -> list[dict[str, object]]:
        """The whole catalogue, in the provider's own shape; fractions are exact Decimals.

        Raises ProviderUnreachable.
        """
        rows: list[dict[str, object]] = []
        query = {"output_modalities": "all"}
        for _ in range(_MAX_MODEL_PAGES):
            try:
                page = await self._get("/models", query, _MODELS_TIMEOUT_S)
            except _NotFound:
                raise ProviderUnreachable(f"{self.name}: http 404") from None
            data = page.get("data")
            rows += [row for row in data if isinstance(row, dict)] if isinstance(data, list) else []
            # Only the query of the next page is taken over: the key never follows a foreign link.
            following = name_of(mapping_of(page.get("links")).get("next"))
            next_query = query | dict(parse_qsl(urlsplit(following or "").query))
            if next_query == query:
                return rows
            query = next_query
        return rows

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def _open(self, body: bytes, deadlines: Deadlines) -> httpx2.Response:
        try:
            return await self._send(body, deadlines)
        except openai.APIError as error:
            wait_s = _safe_retry_after_s(error)
            if wait_s is None:
                raise
        await asyncio.sleep(wait_s)
        return await self._send(body, deadlines)

    async def _send(self, body: bytes, deadlines: Deadlines) -> httpx2.Response:
        connect_s = deadlines.connect_ms / 1000
        # All later silence is bounded by the watch, which does not mistake comments for progress.
        timeout = httpx2.Timeout(None, connect=connect_s, pool=connect_s)
        response: httpx2.Response = await self._client.post(
            "/chat/completions",
            cast_to=httpx2.Response,
            content=body,
            options={"timeout": timeout, "headers": {"Accept": "text/event-stream"}},
            stream=True,
        )
        return response

    async def _get(self, path: str, query: dict[str, str], timeout_s: int) -> dict[str, object]:
        """One JSON object. Raises _NotFound, and ProviderUnreachable for everything else."""
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._client.get(
                    path,
                    cast_to=httpx2.Response,
                    options={"params": query, "timeout": httpx2.Timeout(timeout_s)},
                )
            parsed = json.loads(response.content, parse_float=Decimal)
            if isinstance(parsed, dict):
                return parsed
            problem = "not an object"
        except openai.NotFoundError:
            problem = ""
        except openai.APIStatusError as error:
            problem = f"http {error.status_code}"
        except (openai.APIError, httpx2.HTTPError, TimeoutError) as error:
            problem = type(error).__name__
        except (ValueError, RecursionError):
            problem = "not JSON"
        # Raised here, not above: the caught errors carry the request, and so the key.
        if not problem:
            raise _NotFound
        raise ProviderUnreachable(f"{self.name}: {problem}")


class _NotFound(Exception):
    """The provider does not know what was asked for."""


class _Client(openai.AsyncOpenAI):
    """The SDK's client without what it takes from the environment or tells about this machine."""

    def __init__(self, base_url: str, api_key: str, *, site: str, max_connections: int) -> None:
        self._own_headers: dict[str, str | openai.Omit] = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
            "User-Agent": "Purser",
            "HTTP-Referer": site,
            "X-OpenRouter-Title": "Purser",
        }
        limits = httpx2.Limits(
            max_connections=max_connections,
            max_keepalive_connections=max_connections,
            keepalive_expiry=30,
        )
        super().__init__(
            base_url=base_url,
            # The SDK refuses an empty key; a local provider needs none and ignores this one.
            api_key=api_key or "none",
            # An empty one keeps the SDK from reading another key from the environment.
            admin_api_key="",
            max_retries=0,
            http_client=httpx2.AsyncClient(
                limits=limits,
                # A redirect would carry the prompt to a host nobody configured.
                follow_redirects=False,
                # Certificates cost 7 MB of memory for each client, so all share them; http needs none.
                verify=_certificates() if base_url.startswith("https:") else False,
                # A proxy set for the machine must not be asked for a provider on this machine.
                trust_env=urlsplit(base_url).hostname not in _LOOPBACK_HOSTS,
            ),
        )

    @property
    def default_headers(self) -> dict[str, str | openai.Omit]:
        """Exactly our own: no organisation, project or custom headers from the environment."""
        return self._own_headers


def _body(call: AdmittedCall, request: ChatRequest) -> dict[str, object]:
    if unknown := request.fields.keys() - ALLOWED_FIELDS:
        raise ValueError(f"fields that may not be sent: {sorted(unknown)}")
    body: dict[str, object] = {
        **request.fields,
        "model": request.model,
        "messages": request.messages,
        "max_tokens": call.max_tokens,
        "user": request.end_user,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if request.session_id is not None:
        body["session_id"] = request.session_id
    if request.max_price is not None:
        # OpenRouter takes these as strings, so they stay exact.
        body["provider"] = {
            "max_price": {
                "prompt": format(request.max_price.prompt_usd_per_million, "f"),
                "completion": format(request.max_price.completion_usd_per_million, "f"),
            }
        }
    return body


def _refusal(error: openai.APIStatusError) -> Failure:
    return read_refusal(error.status_code, error.response.headers, error.body)


def _no_connection(error: openai.APIConnectionError) -> tuple[Outcome, Failure]:
    match error.__cause__:
        case httpx2.PoolTimeout():
            reason = "all connections to the provider are in use"
            return "error", Failure("provider_overloaded", None, None, reason)
        case httpx2.ConnectTimeout():
            return "timeout", Failure("provider_timeout", None, None, "deadline: connect")
        case httpx2.ConnectError():
            return "error", provider_error("no connection")
    return "error", provider_error("the connection broke before the answer")


def _safe_retry_after_s(error: openai.APIError) -> float | None:
    """How long to wait before asking again; None where the call may have run."""
    if isinstance(error, openai.APIStatusError) and error.status_code in (429, 503):
        wait_s = _refusal(error).retry_after_s
        return wait_s if wait_s is not None and wait_s <= _LONGEST_RETRY_AFTER_S else None
    return _RECONNECT_AFTER_S if isinstance(error.__cause__, httpx2.ConnectError) else None


def _read_generation(data: Mapping[str, object]) -> Generation | None:
    cost = usd_of(data.get("total_cost"))
    if cost is None:
        return None
    if data.get("is_byok") is True:
        cost += usd_of(data.get("upstream_inference_cost")) or 0
    return Generation(
        cost_usd=cost,
        prompt_tokens=count_of(data.get("native_tokens_prompt")),
        completion_tokens=count_of(data.get("native_tokens_completion")),
        reasoning_tokens=count_of(data.get("native_tokens_reasoning")),
        cached_tokens=count_of(data.get("native_tokens_cached")),
        model=name_of(data.get("model")),
        finish_reason=name_of(data.get("finish_reason")),
        cancelled=data.get("cancelled") is True,
    )


@cache
def _certificates() -> ssl.SSLContext:
    """Whom TLS trusts, read once."""
    return httpx2.create_ssl_context()
