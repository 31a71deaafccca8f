"""The stand-in's own desk: a page and controls for what the bank, a buyer or time would do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from core.billing.sandbox import html
from core.billing.sandbox.control import Control
from core.billing.sandbox.pay_page import form_of
from core.billing.sandbox.refusals import Obj, Refused, wrong

_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class _Order:
    """One press of a button, or one JSON body."""

    fields: dict[str, str]

    def text(self, name: str) -> str:
        if name not in self.fields:
            raise wrong(name, f"Missing: {name}")
        return self.fields[name]

    def whole(self, name: str, default: int | None = None) -> int:
        given = self.fields.get(name)
        if given is None and default is not None:
            return default
        if given is None or not given.isascii() or not given.isdigit():
            raise wrong(name, f"{name} must be a whole number.")
        return int(given)

    def flag(self, name: str) -> bool:
        return self.fields.get(name, "false").lower() in {"true", "1", "yes"}


def routes(control: Control) -> list[Route]:
    """The page, and one control per path; they take a form or a JSON object."""
    desk = _Desk(control)
    controls = {
        "clock": desk.clock, "faults": desk.faults, "debits": desk.debits,
        "disputes": desk.disputes, "refunds": desk.refunds, "sender": desk.sender,
        "payouts": desk.payouts, "invoices": desk.invoices,
    }  # fmt: skip
    posts = [
        Route(f"/sandbox/{name}", desk.taking(act), methods=["POST"])
        for name, act in controls.items()
    ]
    return [Route("/sandbox", desk.show, methods=["GET"]), *posts]


class _Desk:
    def __init__(self, control: Control) -> None:
        self._control = control

    async def show(self, _: Request) -> Response:
        return _page(self._control)

    def clock(self, order: _Order) -> None:
        self._control.advance(order.whole("advance_s"))

    def faults(self, order: _Order) -> None:
        self._control.fail_next(order.text("path"), order.text("kind"), order.whole("times", 1))

    def debits(self, order: _Order) -> None:
        self._control.settle_debit(order.text("payment_intent"), order.flag("ok"))

    def disputes(self, order: _Order) -> None:
        if "dispute" in order.fields:
            self._control.close_dispute(order.text("dispute"), order.flag("won"))
        else:
            self._control.dispute(order.text("payment_intent"))

    def refunds(self, order: _Order) -> None:
        if "refund" in order.fields:
            self._control.fail_refund(order.text("refund"))
        else:
            amount = order.whole("amount") if "amount" in order.fields else None
            self._control.refund(order.text("payment_intent"), amount)

    def sender(self, order: _Order) -> None:
        dropped = [kind for kind in order.fields.get("drop", "").split(",") if kind]
        self._control.sender(
            copies=order.whole("copies", 1), is_reordering=order.flag("reorder"),
            delay_s=order.whole("delay_s", 0), drop=dropped,
        )  # fmt: skip

    def payouts(self, _: _Order) -> None:
        self._control.pay_out()

    def invoices(self, order: _Order) -> None:
        self._control.pay_invoice(order.text("invoice"))

    def taking(self, act: Callable[[_Order], None]) -> Callable[[Request], object]:
        """The endpoint of one control."""

        async def endpoint(request: Request) -> Response:
            is_json = request.headers.get("content-type", "").startswith("application/json")
            try:
                act(_Order(_json(await request.body()) if is_json else await form_of(request)))
            except Refused as refused:
                return Response(orjson.dumps({"error": refused.error}), refused.status,
                                media_type="application/json")  # fmt: skip
            if is_json:
                return Response(b"{}", media_type="application/json")
            return html.away("/sandbox")

        return endpoint


def _json(raw: bytes) -> dict[str, str]:
    try:
        given = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise wrong("body", "Not JSON.") from None
    if not isinstance(given, dict):
        raise wrong("body", "Not an object.")
    return {str(name): str(value) for name, value in given.items()}


def _page(control: Control) -> Response:
    body = (
        "<h1>The sandbox's desk</h1><p>What the bank, a buyer or time would do.</p>"
        "<h2>Time</h2>"
        + html.button("/sandbox/clock", "A day passes", {"advance_s": str(_DAY_S)})
        + html.button("/sandbox/clock", "A month passes", {"advance_s": str(31 * _DAY_S + 7_200)})
        + _payments(control)
        + _disputes(control)
        + "<h2>Payout</h2>"
        + html.button("/sandbox/payouts", "Pay out everything now", {})
        + _events(control)
    )
    return html.page("Sandbox", body)


def _payments(control: Control) -> str:
    rows = []
    for intent in reversed(control.objects("payment_intent")[-25:]):
        acts = ""
        name = intent["id"]
        if intent["status"] == "processing":
            acts = html.button(
                "/sandbox/debits", "Debit arrives", {"payment_intent": name, "ok": "true"}
            )
            acts += html.button(
                "/sandbox/debits", "Debit fails", {"payment_intent": name, "ok": "false"}
            )
        elif intent["status"] == "succeeded":
            acts = html.button("/sandbox/disputes", "Dispute", {"payment_intent": name})
            acts += html.button("/sandbox/refunds", "Refund all", {"payment_intent": name})
        amount = html.money(intent["amount"], intent["currency"])
        rows.append((amount, html.text(intent["status"]), acts))
    return "<h2>Payments</h2>" + html.table(("Amount", "Status", ""), rows, empty="None yet.")


def _disputes(control: Control) -> str:
    rows = []
    for found in reversed(control.objects("dispute")):
        acts = ""
        if found["status"] not in {"won", "lost"}:
            acts = html.button("/sandbox/disputes", "Win", {"dispute": found["id"], "won": "true"})
            acts += html.button(
                "/sandbox/disputes", "Lose", {"dispute": found["id"], "won": "false"}
            )
        amount = html.money(found["amount"], found["currency"])
        rows.append((amount, html.text(found["status"]), acts))
    return "<h2>Disputes</h2>" + html.table(("Amount", "Status", ""), rows, empty="None.")


def _events(control: Control) -> str:
    newest: list[Obj] = control.objects("event")[-25:]
    rows = [
        (html.text(event["type"]), "waiting" if event["pending_webhooks"] else "delivered")
        for event in reversed(newest)
    ]
    return "<h2>Events</h2>" + html.table(("Type", "Delivery"), rows, empty="None yet.")
