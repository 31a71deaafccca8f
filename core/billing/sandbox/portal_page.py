"""The buyer's own page: cards, the subscription's end or going on, invoices and receipts."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from core.billing.sandbox import clockwork, html, people, standing, subscriptions
from core.billing.sandbox.pay_page import form_of
from core.billing.sandbox.refusals import Obj, Refused
from core.billing.sandbox.world import World

_NEW_CARDS = (
    ("pm_card_visa", "Add a card that works"),
    ("pm_card_chargeCustomerFail", "Add a card that will be declined"),
    ("pm_card_authenticationRequired", "Add a card that asks for authentication"),
)


def routes(world: World) -> list[Route]:
    """GET shows the page, POST is a button pressed."""
    desk = _Desk(world)
    return [
        Route("/portal/{id}", desk.show, methods=["GET"]),
        Route("/portal/{id}", desk.act, methods=["POST"]),
    ]


class _Desk:
    def __init__(self, world: World) -> None:
        self._world = world

    async def show(self, request: Request) -> Response:
        with self._world.changing():
            clockwork.run_due(self._world)
            visit = self._visit(request)
            if visit is None:
                return html.page("Not found", "<h1>There is no such page</h1>", status=404)
            return _page(self._world, visit)

    async def act(self, request: Request) -> Response:
        asked = await form_of(request)
        with self._world.changing():
            clockwork.run_due(self._world)
            visit = self._visit(request)
            if visit is None:
                return html.page("Not found", "<h1>There is no such page</h1>", status=404)
            try:
                _act(self._world, visit["customer"], asked)
            except Refused as refused:
                return html.page("Not done", html.problem(str(refused)), status=400)
            is_card_visit = (visit["flow"] or {}).get("type") == "payment_method_update"
            if is_card_visit and visit["return_url"]:
                return html.away(visit["return_url"])
            return html.away(f"/portal/{visit['id']}")

    def _visit(self, request: Request) -> Obj | None:
        return self._world.store.maybe("billing_portal.session", request.path_params["id"])


def _act(world: World, customer_id: str, asked: dict[str, str]) -> None:
    customer = people.living_customer(world, customer_id)
    act, name = asked.get("act"), asked.get("name", "")
    if act == "add" and name in people.CARDS:
        method = people.attach(world, people.method_named(world, name, customer), customer)
        clockwork.set_default_card(world, customer, method)
    elif act == "default":
        clockwork.set_default_card(world, customer, people.own_method(world, customer_id, name))
    elif act in {"cancel", "resume"}:
        found = world.store.get("subscription", name)
        if found["customer"] != customer_id or found["status"] in standing.ENDED:
            raise Refused(404, "There is no such subscription.")
        subscriptions.set_cancel_at_period_end(world, found, is_cancelled=act == "cancel")


def _page(world: World, visit: Obj) -> Response:
    action, customer_id = f"/portal/{visit['id']}", visit["customer"]
    body = (
        "<h1>Billing</h1>"
        + _cards(world, action, customer_id)
        + _plans(world, action, customer_id)
        + _invoices(world, customer_id)
        + html.link(visit["return_url"], "Return to the merchant")
    )
    return html.page("Billing (sandbox)", body)


def _cards(world: World, action: str, customer_id: str) -> str:
    customer = world.store.get("customer", customer_id)
    default = customer.get("invoice_settings", {}).get("default_payment_method")
    rows = [
        (
            f"{html.text(card['card']['brand'])} •••• {html.text(card['card']['last4'])}",
            "default" if card["id"] == default
            else html.button(action, "Make default", {"act": "default", "name": card["id"]}),
        )
        for card in world.store.where("payment_method", customer=customer_id, type="card")
    ]  # fmt: skip
    adding = "".join(
        html.button(action, label, {"act": "add", "name": name}) for name, label in _NEW_CARDS
    )
    shown = html.table(("Card", ""), rows, empty="No card yet.")
    return f"<h2>Payment method</h2>{shown}{adding}"


def _plans(world: World, action: str, customer_id: str) -> str:
    rows = []
    for found in world.store.where("subscription", customer=customer_id):
        if found["status"] in standing.ENDED:
            continue
        product = world.store.get("product", standing.the_item(found)["price"]["product"])
        label = "Resume" if found["cancel_at_period_end"] else "Cancel at the end of the period"
        act = "resume" if found["cancel_at_period_end"] else "cancel"
        pressed = html.button(action, label, {"act": act, "name": found["id"]})
        rows.append((html.text(product["name"]), html.text(found["status"]), pressed))
    return "<h2>Plan</h2>" + html.table(("Plan", "Status", ""), rows, empty="No subscription.")


def _invoices(world: World, customer_id: str) -> str:
    rows = [
        (
            f'<a href="/invoice/{invoice["id"]}">{html.text(invoice["number"] or "draft")}</a>',
            html.money(invoice["total"], invoice["currency"]), html.text(invoice["status"]),
        )
        for invoice in reversed(world.store.where("invoice", customer=customer_id))
    ]  # fmt: skip
    shown = html.table(("Invoice", "Amount", "Status"), rows, empty="No invoices yet.")
    return f"<h2>Invoices</h2>{shown}"
