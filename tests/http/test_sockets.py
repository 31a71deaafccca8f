"""Sockets of ended sessions are closed within seconds; those of everybody else stay open."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from uuid import UUID

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from core import db, settings
from core.db import Database
from core.http import sockets
from core.http.edge import Edge
from core.http.headers import SecurityHeaders
from core.identity import members, passwords, sessions, tenants
from core.identity.access import Role
from core.identity.cookies import SESSION as COOKIE
from tests.http.serving import PAGE
from tests.identity.people import (
    PASSWORD,
    SYSTEM,
    Browser,
    a_tenant,
    a_user,
    an_address,
    an_email,
    change,
    join,
    sign_in,
)
from tests.processes import free_port

pytestmark = pytest.mark.usefixtures("database")
WITHIN_S = 4 * sockets.LOOK_EVERY_S  # the machine may be busy; two rounds are what is promised


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """What Streamlit would do with a socket: accept it, and answer until it is gone."""
    if scope["type"] != "websocket":
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


@pytest.fixture(scope="module")
def address(database: Database) -> Iterator[str]:
    """Where the edge listens, in front of an application that answers what it is told."""
    port = free_port()
    edge = Edge(echo, SecurityHeaders(PAGE, settings.current()))
    server = uvicorn.Server(
        uvicorn.Config(edge, host="127.0.0.1", port=port, lifespan="off", log_level="warning",
                       ws="websockets-sansio")
    )  # fmt: skip
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


@dataclass(frozen=True, slots=True)
class Cast:
    """A person signed in twice, who is an admin of one team and an operator, and a colleague."""

    tenant_id: UUID
    user_id: UUID
    email: str
    browser: Browser
    other: Browser
    colleague: Browser


@pytest.fixture
def cast() -> Cast:
    tenant_id, email = a_tenant(), an_email()
    user_id, colleague = a_user(email, password=PASSWORD), a_user()
    join(tenant_id, user_id, Role.ADMIN)
    join(tenant_id, colleague, Role.ADMIN)
    with db.transaction(SYSTEM) as session:
        tenants.make_operator(session, SYSTEM, user_id, confirmed=True)
    browser, other = sign_in(user_id), sign_in(user_id)
    return Cast(tenant_id, user_id, email, browser, other, sign_in(colleague))


def open_socket(address: str, token: str | None) -> ClientConnection:
    headers = {"Cookie": f"{COOKIE}={token}"} if token else {}
    return connect(
        f"ws://{address}/_stcore/stream", additional_headers=headers, origin=f"http://{address}"
    )  # type: ignore[arg-type]


def answers(socket: ClientConnection) -> bool:
    socket.send("ahoy")
    return socket.recv(timeout=10) == "ahoy"


def code_of_end(socket: ClientConnection, within_s: float = WITHIN_S) -> int | None:
    """The code the socket was closed with; None if it stayed open."""
    try:
        socket.recv(timeout=within_s)
    except TimeoutError:
        return None
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else 0
    raise AssertionError("nothing was asked")


def sign_out(cast: Cast) -> None:
    sessions.end(cast.browser.token)


def sign_out_elsewhere(cast: Cast) -> None:
    with db.transaction(cast.other.principal) as session:
        sessions.end_one(session, cast.other.signed_in, cast.browser.signed_in.session_id)


def sign_out_by_the_admin(cast: Cast) -> None:
    with db.transaction(cast.colleague.principal) as session:
        members.sign_out(session, cast.colleague.principal, cast.tenant_id, cast.user_id)


def disable_the_person(cast: Cast) -> None:
    with db.transaction(SYSTEM) as session:
        tenants.disable_user(session, SYSTEM, cast.user_id)


def disable_the_tenant(cast: Cast) -> None:
    with db.transaction(SYSTEM) as session:
        tenants.set_tenant_active(session, SYSTEM, cast.tenant_id, active=False)


def change_the_role(cast: Cast) -> None:
    with db.transaction(SYSTEM) as session:
        members.change(session, SYSTEM, cast.tenant_id, cast.user_id, role=Role.MEMBER)


def end_the_membership(cast: Cast) -> None:
    with db.transaction(SYSTEM) as session:
        members.change(session, SYSTEM, cast.tenant_id, cast.user_id, active=False)


def dismiss_the_operator(cast: Cast) -> None:
    with db.transaction(SYSTEM) as session:
        tenants.dismiss_operator(session, SYSTEM, cast.user_id)


def change_the_password(cast: Cast) -> None:
    passwords.change_own(cast.other.token, PASSWORD, "another horse 8", an_address())


def run_out(cast: Cast) -> None:
    change(
        "update app.sessions set expires_at = now() where session_id = :session_id",
        session_id=cast.browser.signed_in.session_id,
    )


def work_in_another_tenant(cast: Cast) -> None:
    second = a_tenant()
    join(second, cast.user_id)
    with db.transaction(cast.other.principal) as session:
        sessions.choose_tenant(session, cast.browser.signed_in, second)


ENDS = [
    sign_out, sign_out_elsewhere, sign_out_by_the_admin, disable_the_person, disable_the_tenant,
    change_the_role, end_the_membership, dismiss_the_operator, change_the_password, run_out,
    work_in_another_tenant,
]  # fmt: skip


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_a_socket_whose_person_changed_is_closed(
    address: str, cast: Cast, end: Callable[[Cast], None]
) -> None:
    with (
        open_socket(address, cast.browser.token) as socket,
        open_socket(address, a_stranger().token) as stranger,
        open_socket(address, None) as nobody,
    ):
        assert answers(socket)
        time.sleep(0.5)  # it was looked at once
        end(cast)
        assert code_of_end(socket) == sockets.SESSION_ENDED
        assert answers(stranger)
        assert answers(nobody)


def a_stranger() -> Browser:
    user_id = a_user()
    join(a_tenant(), user_id)
    return sign_in(user_id)


def test_what_changes_no_rights_closes_nothing(address: str, cast: Cast) -> None:
    with open_socket(address, cast.browser.token) as socket:
        assert answers(socket)
        sessions.end(cast.other.token)
        with db.transaction(SYSTEM) as session:
            tenants.rename(session, SYSTEM, cast.tenant_id, "Another name")
        assert code_of_end(socket, 2.5 * sockets.LOOK_EVERY_S) is None
        assert answers(socket)


def test_a_socket_that_comes_with_an_ended_session_is_nobodys_and_stays(
    address: str, cast: Cast
) -> None:
    """It shows the sign-in, which needs a socket too."""
    sessions.end(cast.browser.token)
    with open_socket(address, cast.browser.token) as socket:
        assert code_of_end(socket, 2.5 * sockets.LOOK_EVERY_S) is None
        assert answers(socket)


def test_every_tab_of_the_session_is_closed_at_once(address: str, cast: Cast) -> None:
    with ExitStack() as stack:
        tabs = [stack.enter_context(open_socket(address, cast.browser.token)) for _ in range(20)]
        assert all(answers(tab) for tab in tabs)
        time.sleep(0.5)
        sessions.end(cast.browser.token)
        began = time.monotonic()
        assert {code_of_end(tab) for tab in tabs} == {sockets.SESSION_ENDED}
        assert time.monotonic() - began < WITHIN_S


def test_a_database_that_is_away_closes_nobody(
    address: str, cast: Cast, database: Database, data_dir: object
) -> None:
    with open_socket(address, cast.browser.token) as socket:
        assert answers(socket)
        time.sleep(0.5)
        away = Database(settings.current(), "postgresql://nobody@127.0.0.1:1/none")
        db.install(away)
        try:
            assert code_of_end(socket, 2 * sockets.LOOK_EVERY_S) is None
        finally:
            db.install(database)
            away.close()
        sessions.end(cast.browser.token)
        assert code_of_end(socket, 4 * WITHIN_S) == sockets.SESSION_ENDED


def test_one_look_is_one_question_however_many_sockets(address: str, cast: Cast) -> None:
    tokens = [a_stranger().token for _ in range(6)]
    found = sessions.all_still([sessions.token_hash(token) for token in [*tokens, "x" * 43]])
    assert len(found) == 6
    assert all(who.principal is not None for who in found.values())
