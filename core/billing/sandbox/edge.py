"""One API request from its bytes to its answer: key, version, scripted trouble, idempotency, verb.

The same key with another body is refused; an answer that was kept is given again as it was.
"""

from __future__ import annotations

import asyncio
import hashlib
import time

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from core.billing.sandbox import clockwork, expanding, forms
from core.billing.sandbox.refusals import Obj, Refused, key_reused, scripted
from core.billing.sandbox.routes import VERBS, Verb
from core.billing.sandbox.store import new_id
from core.billing.sandbox.wires import hang_up
from core.billing.sandbox.world import API_VERSION, Ask, World

_BODY_MAX_BYTES = 1_000_000
_KEY_MAX_CHARS = 255
_HANG_S = 90  # longer than any caller waits
_ANSWERED = {"409", "429", "500", "500_kept"}


def routes(world: World) -> list[Route]:
    """The API's routes, and an answer in Stripe's shape for all others."""
    desks = [
        Route(path, _Desk(world, path, verb).respond, methods=[method])
        for (method, path), verb in VERBS.items()
    ]
    others = _Desk(world, "", None).respond
    return [*desks, Route("/v1/{rest:path}", others, methods=["GET", "POST", "DELETE"])]


class _Desk:
    """Answers one kind of request."""

    def __init__(self, world: World, path: str, verb: Verb | None) -> None:
        self._world = world
        self._verb = verb
        self._path = path

    async def respond(self, request: Request) -> Response:
        raw = await request.body()
        with self._world.lock:
            fault = _next_fault(self._world, request.url.path)
        if fault == "timeout":
            await asyncio.sleep(_HANG_S)
        if fault in {"timeout", "reset"}:
            return hang_up(request)
        request_id = new_id("req")
        with self._world.changing():
            clockwork.run_due(self._world)
            status, body = self._answer(request, raw, request_id, fault)
        if fault == "lost":
            return hang_up(request)
        headers = {"Request-Id": request_id, "Stripe-Version": API_VERSION}
        return Response(body, status, headers, media_type="application/json")

    def _answer(
        self, request: Request, raw: bytes, request_id: str, fault: str | None
    ) -> tuple[int, bytes]:
        world = self._world
        key = request.headers.get("idempotency-key") if request.method == "POST" else None
        params: Obj = {}
        try:
            _admit(request, raw, key)
            params = forms.decode(raw.decode() if raw else request.url.query)
            kept = _kept(world, request, raw, key)
            if kept is not None:
                return kept
            if fault in _ANSWERED:
                raise scripted(fault[:3]) if fault != "500_kept" else _kept_failure()
            shown = self._work(request, params, request_id, key)
        except Refused as refused:
            status, is_kept, shown = refused.status, refused.is_kept, {"error": refused.error}
        else:
            status, is_kept = 200, True
        body = orjson.dumps(shown)
        if key and is_kept:
            print_ = _fingerprint(request, raw)
            answer = {"print": print_, "status": status, "body": body.decode()}
            world.store.answers[key] = answer | {"at_s": int(time.time())}
        for observer in world.observers:
            observer(request.method, self._path or request.url.path, params, status, shown)
        return status, body

    def _work(self, request: Request, params: Obj, request_id: str, key: str | None) -> Obj:
        if self._verb is None:
            message = f"Unrecognized request URL ({request.method}: {request.url.path})."
            raise Refused(404, message)
        world = self._world
        world.request_id, world.request_key = request_id, key
        try:
            ids = {name: str(value) for name, value in request.path_params.items()}
            thing = self._verb(world, Ask(params, ids, request.url.path))
            return expanding.answer(world, thing, params)
        finally:
            world.request_id = world.request_key = None


def _admit(request: Request, raw: bytes, key: str | None) -> None:
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    if kind != "Bearer" or not given.startswith("sk_test_"):
        raise Refused(401, "Invalid API Key provided: the stand-in takes sk_test_ keys only.")
    version = request.headers.get("stripe-version")
    if version not in {None, API_VERSION}:
        raise Refused(400, f"The stand-in speaks {API_VERSION} only.")
    if len(raw) > _BODY_MAX_BYTES:
        raise Refused(413, "Request too large.")
    if key and len(key) > _KEY_MAX_CHARS:
        raise Refused(400, "Idempotency keys have at most 255 characters.")


def _kept(world: World, request: Request, raw: bytes, key: str | None) -> tuple[int, bytes] | None:
    kept = world.store.answers.get(key) if key else None
    if kept is None or key is None:
        return None
    if kept["print"] != _fingerprint(request, raw):
        raise key_reused(key)
    return kept["status"], kept["body"].encode()


def _fingerprint(request: Request, raw: bytes) -> str:
    return hashlib.sha256(f"{request.url.path}\n".encode() + raw).hexdigest()


def _kept_failure() -> Refused:
    failure = scripted("500")
    failure.is_kept = True
    return failure


def _next_fault(world: World, path: str) -> str | None:
    for fault in world.faults:
        if fault.times > 0 and path.startswith(fault.path):
            fault.times -= 1
            return fault.kind
    return None
