"""The routes of the API, of sign-in and of the probes, and who answers each. No page is among them.

Plain lookups instead of patterns: a path is exact, or one that ends in a name.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.types import ASGIApp

from core import errors
from core.http import (
    catalog,
    completions,
    exports,
    health,
    problems,
    sessions,
    statement,
    usage,
    webhooks,
)

Handler = Callable[[Request], Awaitable[ASGIApp]]


@dataclass(frozen=True, slots=True)
class Route:
    """One path and the handler of each method."""

    path: str
    handlers: dict[str, Handler]

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods it takes, HEAD aside."""
        return tuple(self.handlers)


ROUTES = (
    Route("/v1/chat/completions", {"POST": completions.complete}),
    Route("/v1/models", {"GET": catalog.list_models}),
    Route("/v1/models/{id}", {"GET": catalog.one_model}),
    Route("/api/usage", {"GET": usage.usage}),
    Route("/api/usage/details", {"GET": usage.usage_details}),
    Route("/api/costs", {"GET": usage.costs}),
    Route("/api/quota", {"GET": usage.quota}),
    Route("/session", {"POST": sessions.sign_in, "DELETE": sessions.sign_out}),
    Route("/billing/statement.csv", {"GET": statement.as_csv}),
    Route("/exports/{id}", {"GET": exports.download}),
    Route("/stripe/webhook", {"POST": webhooks.receive}),
    Route("/livez", {"GET": health.livez}),
    Route("/readyz", {"GET": health.readyz}),
    Route("/metrics", {"GET": health.metrics}),
)
_ROOTS = ("/v1/", "/api/", "/exports/")
_EXACT = {route.path: route for route in ROUTES if "{" not in route.path}
_NAMED = [(route.path.partition("{")[0], route) for route in ROUTES if "{" in route.path]


def is_ours(path: str) -> bool:
    """Whether this path is answered here; all below these roots is, also what does not exist."""
    return path in _EXACT or path in {"/v1", "/api"} or path.startswith(_ROOTS)


def find(path: str, method: str) -> Handler:
    """Who answers. Raises NotFound, and MethodNotAllowed naming the methods there are."""
    route = _EXACT.get(path)
    if route is None:
        named = (r for start, r in _NAMED if path.startswith(start) and len(path) > len(start))
        route = next(named, None)
    if route is None:
        raise errors.NotFound("There is no such route.")
    handler = route.handlers.get("GET" if method == "HEAD" else method)
    if handler is None:
        allowed = ", ".join(route.methods)
        raise problems.MethodNotAllowed(f"This route takes {allowed} only.")
    return handler
