"""Failures: the right kind, and never a secret or a flagged text in them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from core.catalog.providers import (
    ProviderUnreachable,
)
from tests.catalog.asking import (
    CANARY_KEY,
    ask,
    lookup,
)
from tests.upstream import Script, Upstream


@pytest.fixture
def up() -> Iterator[Upstream]:
    with Upstream() as server:
        yield server


ERRORS_THAT_REPEAT_THE_KEY = {
    "message": f"Incorrect API key provided: {CANARY_KEY}",
    "code": CANARY_KEY,
    "type": CANARY_KEY,
    "metadata": {"error_type": CANARY_KEY, "reasons": [CANARY_KEY], "patterns": [CANARY_KEY]},
    "availability": {"code": CANARY_KEY, "retry_after": CANARY_KEY},
}


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 429, 500])
def test_a_key_repeated_by_the_provider_is_never_in_the_failure(up: Upstream, status: int) -> None:
    body = json.dumps({"error": ERRORS_THAT_REPEAT_THE_KEY}).encode()
    headers = ("Content-Type: application/json", f"Retry-After: {CANARY_KEY}")
    up.play_script(Script(f"HTTP/1.1 {status} X", headers, (body,)))
    answer = ask(up).answer
    assert answer.outcome == "error"
    assert "canary" not in repr(answer)


def test_a_failed_lookup_does_not_tell_the_key(up: Upstream) -> None:
    up.play_lookup("21_error_401.txt")
    with pytest.raises(ProviderUnreachable) as caught:
        lookup(up)
    error: BaseException | None = caught.value
    assert str(error) == "openrouter: http 401"
    while error is not None:
        assert "canary" not in repr(error)
        error = error.__cause__ or error.__context__


def test_moderation_says_its_categories_and_not_the_flagged_text(up: Upstream) -> None:
    up.play("24_error_403_moderation.txt")
    failure = ask(up).answer.failure
    assert failure is not None and failure.reason == "violence/graphic"


def test_a_region_that_is_shut_out_is_not_refused_content(up: Upstream) -> None:
    body = b'{"error": {"code": 403, "availability": {"code": "region_restricted"}}}'
    up.play_script(Script("HTTP/1.1 403 X", ("Content-Type: application/json",), (body,)))
    failure = ask(up).answer.failure
    assert failure is not None and failure.kind == "model_unavailable"


@pytest.mark.parametrize(
    "error",
    [
        {"metadata": {"error_type": "context_length_exceeded"}},
        {"code": "context_length_exceeded"},
        {"message": "This endpoint's maximum context length is 8192 tokens"},
    ],
)
def test_a_prompt_that_is_too_long_is_told_apart(up: Upstream, error: dict[str, object]) -> None:
    body = json.dumps({"error": error}).encode()
    up.play_script(Script("HTTP/1.1 400 X", ("Content-Type: application/json",), (body,)))
    failure = ask(up).answer.failure
    assert failure is not None and failure.kind == "context_too_long"
