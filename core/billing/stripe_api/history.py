"""What happened at Stripe: its events, any object as it is now, and the money it paid out to us."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

from core.billing.stripe_api.asks import BalanceTransaction, Payout
from core.billing.stripe_api.connection import (
    PAGE_SIZE,
    Connection,
    as_json,
    asking,
    each,
    text,
    whole,
)
from core.billing.stripe_api.plans import Plans
from core.billing.stripe_api.refusals import StripeRefused
from core.billing.stripe_objects import Json, Unreadable

_TYPES_MAX = 20


class History(Plans, Connection):
    """Every method raises StripeDown or StripeRefused."""

    def fetch(self, object_kind: str, object_id: str) -> Json:
        """The object as it is now, in the pinned version's shape; invoices with all their lines.

        Kinds are Stripe's names ("checkout.session"); "v2.core.event" is the event behind a thin one.
        Raises StripeRefused("unknown_kind") for what is of no concern here.
        """
        if object_kind == "invoice":
            return self._invoice_json(object_id)
        retrieve = self._retrieving().get(object_kind)
        if retrieve is None:
            raise StripeRefused("unknown_kind")
        with asking():
            return as_json(retrieve(object_id))

    def events(self, *, types: Sequence[str], since: datetime, undelivered: bool) -> Iterator[Json]:
        """Events of these types since then, oldest first; `undelivered`: only those that an endpoint
        has not taken. Stripe keeps them for 30 days.

        Stripe lists the newest first and turns round only before an event known to be older, which
        nobody knows after a long silence: so all are read (at most 10,000 per 20 types), then ordered.
        """
        found: list[Json] = []
        for start in range(0, len(types), _TYPES_MAX):
            batch = list(types[start : start + _TYPES_MAX])
            found += self._events_of(batch, since, undelivered=undelivered)
        with asking():
            found.sort(key=lambda event: (whole(event, "created"), text(event, "id")))
        yield from found

    def payouts_since(self, at: datetime) -> Iterator[Payout]:
        """Payouts made since then, newest first."""
        pages = each(
            lambda: self._v1.payouts.list(
                {"created": {"gte": int(at.timestamp())}, "limit": PAGE_SIZE}
            )
        )
        for found in pages:
            with asking():
                payout = _payout(found)
            yield payout

    def balance_transactions(self, payout_id: str) -> Iterator[BalanceTransaction]:
        """What one automatic payout consists of, the payout itself included."""
        pages = each(
            lambda: self._v1.balance_transactions.list(
                {"payout": payout_id, "limit": PAGE_SIZE, "expand": ["data.source"]}
            )
        )
        for found in pages:
            with asking():
                transaction = _balance_transaction(found)
            yield transaction

    def _events_of(self, types: list[str], since: datetime, *, undelivered: bool) -> Iterator[Json]:
        created_s = int(since.timestamp())
        if undelivered:
            return each(
                lambda: self._v1.events.list(
                    {
                        "types": types, "created": {"gte": created_s}, "limit": PAGE_SIZE,
                        "delivery_success": False,
                    }
                )
            )  # fmt: skip
        return each(
            lambda: self._v1.events.list(
                {"types": types, "created": {"gte": created_s}, "limit": PAGE_SIZE}
            )
        )

    def _retrieving(self) -> dict[str, Callable[[str], object]]:
        v1 = self._v1
        return {
            "billing.meter": v1.billing.meters.retrieve,
            "charge": v1.charges.retrieve,
            "checkout.session": v1.checkout.sessions.retrieve,
            "customer": v1.customers.retrieve,
            "dispute": v1.disputes.retrieve,
            "event": v1.events.retrieve,
            "invoice_payment": v1.invoice_payments.retrieve,
            "payment_intent": v1.payment_intents.retrieve,
            "payment_method": v1.payment_methods.retrieve,
            "payout": v1.payouts.retrieve,
            "radar.early_fraud_warning": v1.radar.early_fraud_warnings.retrieve,
            "refund": v1.refunds.retrieve,
            "subscription": v1.subscriptions.retrieve,
            "v2.core.event": self._client.v2.core.events.retrieve,
        }


def _payout(found: Json) -> Payout:
    return Payout(
        text(found, "id"), text(found, "currency"), whole(found, "amount"),
        datetime.fromtimestamp(whole(found, "arrival_date"), UTC), text(found, "status"),
    )  # fmt: skip


def _balance_transaction(found: Json) -> BalanceTransaction:
    source = found.get("source")
    return BalanceTransaction(
        text(found, "id"), text(found, "reporting_category"), _id_of(source),
        _id_of(source.get("payment_intent")) if isinstance(source, dict) else None,
        whole(found, "amount"), whole(found, "fee"), whole(found, "net"), text(found, "currency"),
    )  # fmt: skip


def _id_of(reference: object) -> str | None:
    """The id of what is referred to, expanded or not."""
    if isinstance(reference, dict):
        return text(reference, "id")
    if reference is None or isinstance(reference, str):
        return reference
    raise Unreadable("source")
