"""The hosted payment page: one visit of a buyer, who pays, authenticates, is declined or leaves."""

from __future__ import annotations

from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from core.billing.sandbox import clockwork, html, paying
from core.billing.sandbox.refusals import Obj, Refused
from core.billing.sandbox.world import World

_PLACEHOLDER = "{CHECKOUT_SESSION_ID}"
_WAYS = (
    ("card", "Pay with a card"),
    ("authenticate", "Pay with a card that asks for authentication"),
    ("declined", "Card is declined"),
    ("bank_debit", "Pay by bank debit (delayed)"),
)


def routes(world: World) -> list[Route]:
    """GET shows the page, POST is a button pressed."""
    desk = _Desk(world)
    return [
        Route("/pay/{id}", desk.show, methods=["GET"]),
        Route("/pay/{id}", desk.act, methods=["POST"]),
    ]


def success_url(session: Obj) -> str:
    """Where the merchant wants the buyer after paying."""
    url: str = session["success_url"]
    return url.replace(_PLACEHOLDER, session["id"])


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a pressed button."""
    given = parse_qs((await request.body()).decode())
    return {name: values[0] for name, values in given.items()}


class _Desk:
    def __init__(self, world: World) -> None:
        self._world = world

    async def show(self, request: Request) -> Response:
        with self._world.changing():
            clockwork.run_due(self._world)
            session = self._world.store.maybe("checkout.session", request.path_params["id"])
            if session is None:
                return _nothing()
            return self._page(session)

    async def act(self, request: Request) -> Response:
        asked = await form_of(request)
        with self._world.changing():
            clockwork.run_due(self._world)
            session = self._world.store.maybe("checkout.session", request.path_params["id"])
            if session is None:
                return _nothing()
            if session["status"] != "open":
                return self._page(session)
            return self._act(session, asked)

    def _act(self, session: Obj, asked: dict[str, str]) -> Response:
        how, code = asked.get("how", ""), asked.get("code", "").strip() or None
        try:
            total = paying.add_up(self._world, session, code).total
            if how == "look":
                return self._page(session, code=code)
            if how == "authenticate" and total:
                return self._authenticate(session, code)
            if not total:
                how = "card" if session["mode"] == "subscription" else "free"
            paying.complete(self._world, session, how, code=code)
        except Refused as refused:
            code = None if refused.error.get("code") == "promotion_code_invalid" else code
            return self._page(session, problem=str(refused), code=code)
        return html.away(success_url(session))

    def _page(
        self, session: Obj, *, problem: str | None = None, code: str | None = None
    ) -> Response:  # fmt: skip
        if session["status"] == "complete":
            body = "<h1>Already paid</h1>" + html.link(success_url(session), "Back to the merchant")
            return html.page("Already paid", body)
        if session["status"] == "expired":
            body = "<h1>This page has expired</h1>" + html.link(session["cancel_url"], "Back")
            return html.page("Expired", body, status=410)
        action = f"/pay/{session['id']}"
        is_plan = session["mode"] == "subscription"
        total = paying.add_up(self._world, session, code).total
        ways = [way for way in _WAYS if not (is_plan and way[0] == "bank_debit")]
        if total == 0:
            ways = [("free", "Complete without paying")]
        carried = {"code": code} if code else {}
        body = _head(session, total, html.problem(problem)) + _code_field(session, action, code)
        body += "".join(
            html.button(action, label, {"how": how} | carried, is_main=place == 0)
            for place, (how, label) in enumerate(ways)
        )
        body += html.link(session["cancel_url"], "Cancel and go back")
        return html.page("Pay (sandbox)", body, status=402 if problem else 200)

    def _authenticate(self, session: Obj, code: str | None) -> Response:
        carried = {"code": code} if code else {}
        action = f"/pay/{session['id']}"
        total = paying.add_up(self._world, session, code).total
        body = (
            _head(session, total, "")
            + "<h2>Your bank asks whether this is you</h2>"
            + html.button(action, "Authenticate", {"how": "authenticated"} | carried, is_main=True)
            + html.button(action, "Fail the authentication", {"how": "declined"} | carried)
            + html.link(action, "Back")
        )
        return html.page("Authenticate (sandbox)", body)


def _head(session: Obj, total: int, problem: str) -> str:
    titles = ", ".join(str(item["description"]) for item in session["_items"])
    each = ""
    if session["mode"] == "subscription":
        each = f" per {session['_items'][0]['price']['recurring']['interval']}"
    return (
        f"{problem}<h1>{html.text(titles)}</h1>"
        f'<p class="amount">{html.money(total, session["currency"])}{html.text(each)}</p>'
    )


def _code_field(session: Obj, action: str, code: str | None) -> str:
    if not session["allow_promotion_codes"]:
        return ""
    if code:
        return f"<p>Promotion code <strong>{html.text(code.upper())}</strong> is applied.</p>"
    return (
        f'<form method="post" action="{action}"><label for="code">Promotion code</label>'
        '<input type="hidden" name="how" value="look">'
        '<input id="code" name="code" autocomplete="off" placeholder="FREE100 or HALF50">'
        "<p><button>Apply</button></p></form>"
    )


def _nothing() -> Response:
    return html.page("Not found", "<h1>There is no such page</h1>", status=404)
