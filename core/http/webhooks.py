"""POST /stripe/webhook: takes an event when its signature holds, stores it, and says so.

Nothing is done with it here: Stripe gets its answer first. Closed where no signing secret is set.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from prometheus_client import Counter
from starlette.requests import Request
from starlette.responses import Response

from core import db, errors, telemetry
from core.billing import inbox, stripe_api
from core.billing.ledger import BILLING
from core.billing.stripe_api import SignatureRefused, StripeApi
from core.billing.stripe_objects import Unreadable
from core.http import bodies, problems, work
from core.http.bodies import Share

LENGTH_MAX = 1024 * 1024
_SIGNATURE = "stripe-signature"
_SHAPE = re.compile(r"t=\d{1,20}(?:,v\d=[0-9a-f]{1,200}){1,20}", re.ASCII)

refused_total = Counter(
    "purser_webhooks_refused", "Webhooks refused, by reason", ["reason"],
    registry=telemetry.registry,
)  # fmt: skip


class WebhookRefused(errors.Refusal):
    """The body is not an event that Stripe signed for us now."""

    code = "webhook_refused"


async def receive(request: Request) -> Response:
    """Store the event, new or a copy: 200. Raises NotFound, TooLarge, WebhookRefused, Unavailable."""
    api = _open()
    signatures = request.headers.getlist(_SIGNATURE)
    _require_shape(signatures)
    with bodies.in_flight(_SIGNATURE) as share:
        payload = _verified(api, await _body(request, share), signatures)
    try:
        await work.run(_SIGNATURE, _store, payload)
    except Unreadable:
        raise _refusal("not_an_event") from None
    return problems.as_json({"received": True})


def _open() -> StripeApi:
    if not stripe_api.configured() or not stripe_api.current().webhook_secrets:
        raise errors.NotFound("Webhooks are not set up.")
    return stripe_api.current()


def _require_shape(signatures: list[str]) -> None:
    """Refuse what cannot be signed by Stripe before a byte of it is read."""
    if len(signatures) != 1 or not signatures[0].strip():
        raise _refusal("no_header")
    if not _SHAPE.fullmatch(signatures[0]):
        raise _refusal("bad_signature")


async def _body(request: Request, share: Share) -> bytes:
    try:
        return await bodies.read(request, share, length_max=LENGTH_MAX)
    except errors.TooLarge:
        refused_total.labels(reason="too_large").inc()
        raise


def _verified(api: StripeApi, raw: bytes, signatures: list[str]) -> Mapping[str, Any]:
    """What was signed, parsed. Two signature headers are no signature."""
    try:
        return api.verify(raw, signatures[0] if len(signatures) == 1 else "")
    except SignatureRefused as refused:
        raise _refusal(refused.reason) from None


def _refusal(reason: str) -> WebhookRefused:
    refused_total.labels(reason=reason).inc()
    return WebhookRefused(f"The webhook was refused: {reason.replace('_', ' ')}.")


def _store(payload: Mapping[str, Any]) -> bool:
    with db.transaction(BILLING) as session:
        return inbox.receive(session, payload, came_by="webhook")
