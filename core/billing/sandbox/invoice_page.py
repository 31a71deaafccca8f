"""The hosted page of one invoice, where a buyer pays or authenticates what a card refused."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from core.billing.sandbox import clockwork, collecting, html, people
from core.billing.sandbox.pay_page import form_of
from core.billing.sandbox.refusals import Obj
from core.billing.sandbox.world import World


def routes(world: World) -> list[Route]:
    """GET shows the invoice, POST pays it; a receipt says that a payment was made."""
    desk = _Desk(world)
    return [
        Route("/invoice/{id}", desk.show, methods=["GET"]),
        Route("/invoice/{id}", desk.pay, methods=["POST"]),
        Route("/receipt/{id}", desk.receipt, methods=["GET"]),
    ]


class _Desk:
    def __init__(self, world: World) -> None:
        self._world = world

    async def show(self, request: Request) -> Response:
        with self._world.lock:
            invoice = self._world.store.maybe("invoice", request.path_params["id"])
            return _page(invoice)

    async def pay(self, request: Request) -> Response:
        asked = await form_of(request)
        with self._world.changing():
            clockwork.run_due(self._world)
            invoice = self._world.store.maybe("invoice", request.path_params["id"])
            if invoice is None or invoice["status"] != "open":
                return _page(invoice)
            pay(self._world, invoice, asked.get("how", "card"))
            return html.away(f"/invoice/{invoice['id']}")

    async def receipt(self, request: Request) -> Response:
        with self._world.lock:
            intent = self._world.store.maybe("payment_intent", request.path_params["id"])
        if intent is None:
            return html.page("Not found", "<h1>There is no such receipt</h1>", status=404)
        amount = html.money(intent["amount_received"], intent["currency"])
        return html.page("Receipt", f'<h1>Receipt</h1><p class="amount">{amount}</p>')


def pay(world: World, invoice: Obj, how: str) -> bool:
    """The buyer pays on the page: with a new card, or by authenticating the one on file."""
    customer = world.store.get("customer", invoice["customer"])
    subscription = world.store.maybe("subscription", invoice["_subscription"])
    named = subscription["default_payment_method"] if subscription else None
    method = people.paying_method(world, customer["id"], named)
    if how == "card" or method is None:
        method = people.method_named(world, "pm_card_visa", customer)
    refused = collecting.attempt(
        world, invoice, is_off_session=False, method=method, is_authenticated=True
    )
    return refused is None


def _page(invoice: Obj | None) -> Response:
    if invoice is None:
        return html.page("Not found", "<h1>There is no such invoice</h1>", status=404)
    rows = [
        (html.text(line["description"]), html.money(line["amount"], line["currency"]))
        for line in invoice["lines"]["data"]
    ]
    body = (
        f"<h1>Invoice {html.text(invoice['number'] or '')}</h1>"
        f"<p>Status: {html.text(invoice['status'])}</p>"
        + html.table(("What", "Amount"), rows, empty="Nothing")
        + f'<p class="amount">{html.money(invoice["total"], invoice["currency"])}</p>'
    )
    if invoice["status"] == "open":
        action = f"/invoice/{invoice['id']}"
        body += html.button(action, "Pay with a card", {"how": "card"}, is_main=True)
        body += html.button(action, "Authenticate the card on file", {"how": "authenticate"})
    return html.page("Invoice (sandbox)", body)
