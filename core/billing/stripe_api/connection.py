"""The connection to Stripe, and the only importer of its library: the client, how each call ends, and
whether a message is really Stripe's. It holds the key and never shows it.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

import stripe

from core import clock, telemetry
from core.billing.stripe_api.refusals import (
    CardDeclined,
    SignatureReason,
    SignatureRefused,
    StripeDown,
    StripeRefused,
)
from core.billing.stripe_objects import Json, Unreadable

if TYPE_CHECKING:  # hundreds of classes, 2 MB, that only the type checker reads
    from stripe.params.checkout import SessionCreateParams, SessionCreateParamsLineItem

API_VERSION = "2026-10-28.endive"
CURRENCY = "usd"
PAGE_SIZE = 100
TOLERANCE_S = 300

_CONNECT_S, _SILENCE_S = 3.05, 20
_REPEATS = 2
_PAGES_MAX = 100
# The one refusal known by its words alone: a meter event sent again comes back without a code.
_TAKEN_IDENTIFIER = "An event already exists with identifier"
_NAME = re.compile(r"[A-Za-z0-9_.\[\]-]{1,100}")


# for the rooms' other files: they may not import the library, and its dicts are checked by type
CheckoutParams: TypeAlias = "SessionCreateParams"
CheckoutLine: TypeAlias = "SessionCreateParamsLineItem"
_STRIPE_PAGES = (
    "https://checkout.stripe.com",
    "https://billing.stripe.com",
    "https://invoice.stripe.com",
)


class _Wire(stripe.RequestsClient):
    """Takes what is not an answer of Stripe's (a gateway's page, half a body) for no answer: the
    library would trip over some of them, and nothing in them says whether the call was done."""

    def request(  # type: ignore[override]  # as the library's own client narrows it
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        post_data: Any = None,
    ) -> tuple[bytes, int, Mapping[str, str]]:
        body, status, given = super().request(method, url, headers, post_data)
        if not _is_an_answer(body, status):
            lost = stripe.APIConnectionError  # its constructor has no types
            raise lost("no answer of Stripe's", should_retry=True)  # type: ignore[no-untyped-call]
        return body, status, given


class Connection:
    """Stripe by one key. May be shared between threads.

    Every wait for the network ends: 3 s to connect, 20 s of silence, and two repeats (with the same
    idempotency key) after a lost connection, 409 or 5xx.
    """

    def __init__(
        self,
        key: str,
        *,
        base: str | None = None,
        webhook_secrets: tuple[str, ...] = (),
        sandbox: bool = False,
    ) -> None:
        stripe.enable_telemetry = False  # it would write a file and report timings
        logging.getLogger("stripe").setLevel(logging.WARNING)  # it logs whole requests
        self.live = key.startswith(("sk_live_", "rk_live_"))
        self.sandbox = sandbox
        self.webhook_secrets = tuple(secret for secret in webhook_secrets if secret.strip())
        address = (base or "").rstrip("/")
        self._base = address
        self._client = stripe.StripeClient(
            key,
            stripe_version=API_VERSION,
            max_network_retries=_REPEATS,
            http_client=_Wire(timeout=(_CONNECT_S, _SILENCE_S)),
            base_addresses=(
                {"api": address, "connect": address, "files": address, "meter_events": address}
                if address
                else None
            ),
        )
        self._v1 = self._client.v1

    def page_origins(self) -> tuple[str, ...]:
        """Where the pages are that a buyer may be sent to: Stripe's own, and the configured base's."""
        parts = urlsplit(self._base)
        own = (f"{parts.scheme}://{parts.netloc}",) if parts.netloc else ()
        return (*_STRIPE_PAGES, *own)

    def verify(self, raw: bytes, header: str | None) -> Json:
        """The message, when one of our secrets signed it within 300 s of now and it is of our mode.

        Snapshot and thin events alike. Raises SignatureRefused. Needs no network.
        """
        if not self.webhook_secrets:
            raise SignatureRefused("no_secret")
        if not header or not header.strip():
            raise SignatureRefused("no_header")
        text = _text_of(raw)
        if not any(_is_signed(text, header, secret) for secret in self.webhook_secrets):
            raise SignatureRefused("bad_signature")
        if refused := _untimely(_signed_at(header)):
            raise SignatureRefused(refused)
        return self._for_our_mode(_object_of(text))

    def _for_our_mode(self, message: Json) -> Json:
        if message.get("livemode") is not self.live:
            raise SignatureRefused("other_mode")
        return message


@contextmanager
def asking() -> Iterator[None]:
    """Ends a call to Stripe in one of our ways. Raises StripeDown, StripeRefused, CardDeclined."""
    try:
        yield
    except stripe.StripeError as error:
        raise _ending(error) from None
    except Unreadable as error:
        raise StripeRefused("unreadable", param=_name(str(error))) from None


def as_json(answer: object) -> Json:
    """An object of the library as the JSON it came from; exact decimals are strings again."""
    if not isinstance(answer, stripe.StripeObject):
        raise Unreadable("answer")
    return answer.to_dict(for_json=True)


def each(first: Callable[[], stripe.ListObject[Any]]) -> Iterator[Json]:
    """The objects of a list in its own order (newest first), page by page as they are wanted.

    Raises StripeRefused("too_many") after 100 pages, and how calls end.
    """
    with asking():
        page = first()
    for _ in range(_PAGES_MAX):
        with asking():
            found = as_json(page)
            rows = rows_of(found)
        yield from rows
        if not found.get("has_more") or not rows:
            return
        with asking():
            for name, where in (("id", rows[-1]), ("url", found)):
                text(where, name)  # the library goes on from there
            page = page.next_page()
    raise StripeRefused("too_many")


def rows_of(found: Json) -> list[Json]:
    """The objects of one page. Raises Unreadable."""
    rows = found.get("data")
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise Unreadable("data")
    return rows


def text(found: Json, name: str) -> str:
    """A string that must be there. Raises Unreadable."""
    value = found.get(name)
    if not isinstance(value, str) or not value:
        raise Unreadable(name)
    return value


def whole(found: Json, name: str) -> int:
    """A whole number that must be there. Raises Unreadable."""
    value = found.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Unreadable(name)
    return value


def _is_an_answer(body: bytes, status: int) -> bool:
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return False
    if 200 <= status < 300:
        return isinstance(parsed, dict)
    return isinstance(parsed, dict) and isinstance(parsed.get("error"), dict)


def _ending(error: stripe.StripeError) -> StripeDown | StripeRefused | CardDeclined:
    """What an error of the library means to us. Its text stays behind: it may quote what was sent."""
    status = error.http_status
    told = error.error
    code = _name(getattr(told, "code", None)) or _name(getattr(told, "type", None))
    if isinstance(error, stripe.CardError):
        return CardDeclined(
            code or "card_declined",
            decline_code=_name(getattr(told, "decline_code", None)),
            payment_intent_id=_name(getattr(getattr(told, "payment_intent", None), "id", None)),
        )
    if isinstance(error, stripe.APIConnectionError) or status is None:
        return StripeDown("could not be reached")
    if status in {409, 429} or status >= 500:
        return StripeDown("is busy")
    if told is None:
        return StripeDown("did not answer readably")
    if status in {401, 403}:
        telemetry.alarm("stripe_key_refused", status=status)
    param = _name(getattr(told, "param", None))
    if str(getattr(told, "message", "")).startswith(_TAKEN_IDENTIFIER):
        code = "duplicate_meter_event"
    request_id = _name(error.request_id)
    return StripeRefused(
        code or f"http_{status}", param=param, status=status, request_id=request_id
    )


def _name(value: object) -> str | None:
    """A code, parameter or id as far as it is one: nothing else of an answer is repeated."""
    return value if isinstance(value, str) and _NAME.fullmatch(value) else None


def _text_of(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise SignatureRefused("not_utf8") from None


def _is_signed(message: str, header: str, secret: str) -> bool:
    """Whether this secret signed it, at whatever time. The library trips over other than ASCII."""
    if not header.isascii():
        return False
    try:
        stripe.WebhookSignature.verify_header(message, header, secret, tolerance=None)
    except stripe.SignatureVerificationError:
        return False
    return True


def _signed_at(header: str) -> int:
    """The time in a header that was verified, read as the library reads it: the first `t`."""
    pairs = [part.split("=", 2) for part in header.split(",")]
    return int(next(pair[1] for pair in pairs if pair[0] == "t"))


def _untimely(signed_at: int) -> SignatureReason | None:
    """The library lets the future pass; a clock that is wrong here would too, for as long. The time is the
    database's: one process whose clock is wrong would refuse every event."""
    age_s = clock.time_s() - signed_at
    if age_s > TOLERANCE_S:
        return "too_old"
    return "in_the_future" if age_s < -TOLERANCE_S else None


def _object_of(message: str) -> Json:
    try:
        parsed = json.loads(message)
    except (ValueError, RecursionError):
        raise SignatureRefused("not_json") from None
    if not isinstance(parsed, dict):
        raise SignatureRefused("not_an_object")
    return parsed
