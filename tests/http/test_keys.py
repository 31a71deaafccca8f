"""Who may call: keys on every carrier and route, and what nobody learns without one."""

from __future__ import annotations

import httpx2
import pytest
from sqlalchemy import text

from core import db
from core.identity import keys
from tests.factories import TESTS
from tests.http.serving import Client, Service, a_client, calls_of, question

ROUTES = [("POST", "/v1/chat/completions"), ("GET", "/v1/models"), ("GET", "/v1/models/a/b")]
SHAPE = {"message", "type", "code", "param", "request_id"}


def ask(
    service: Service,
    route: tuple[str, str],
    model: str,
    headers: list[tuple[str, str]],
    query: str = "",
) -> httpx2.Response:
    method, path = route
    body = question(model) if method == "POST" else None
    return httpx2.request(
        method, f"{service.url}{path}{query}", headers=headers, json=body, timeout=30
    )


def check_401(response: httpx2.Response) -> None:
    assert response.status_code == 401
    assert response.json()["error"].keys() == SHAPE
    assert response.json()["error"]["message"] == "The API key is not valid."


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    "value",
    ["", "Bearer", "Bearer x", "Basic eDp5", "Bearer sk-purser-'; drop table x--",
     "Bearer sk-purser-" + "x" * 43, "Bearer sk-purser-" + "x" * 20_000],
)  # fmt: skip
def test_what_is_no_key_is_refused_alike_everywhere(
    service: Service, model: str, route: tuple[str, str], value: str
) -> None:
    check_401(ask(service, route, model, [("authorization", value)]))


@pytest.mark.parametrize("route", ROUTES)
def test_a_key_counts_in_one_place_only(
    service: Service, client: Client, model: str, route: tuple[str, str]
) -> None:
    check_401(ask(service, route, model, []))
    check_401(ask(service, route, model, [("x-api-key", client.key)]))
    check_401(ask(service, route, model, [], query=f"?api_key={client.key}"))


@pytest.mark.parametrize("route", ROUTES)
def test_two_keys_that_differ_are_refused(
    service: Service, client: Client, model: str, route: tuple[str, str]
) -> None:
    bearer = ("authorization", f"Bearer {client.key}")
    other = a_client().key
    check_401(ask(service, route, model, [bearer, ("authorization", f"Bearer {other}")]))
    check_401(ask(service, route, model, [bearer, ("x-api-key", other)]))
    check_401(ask(service, route, model, [bearer], query=f"?api_key={other}"))


def test_a_revoked_key_is_dead_at_once(service: Service, client: Client, model: str) -> None:
    assert service.ask(client.key, model).status_code == 200
    with db.transaction(TESTS) as session:
        keys.revoke(session, TESTS, client.key_id)
    for route in ROUTES:
        check_401(ask(service, route, model, [("authorization", f"Bearer {client.key}")]))


def test_an_expired_key_is_dead(service: Service, client: Client, model: str) -> None:
    with db.transaction(TESTS) as session:
        session.execute(
            text("update app.api_keys set expires_at = now() - interval '1 s' where key_id = :k"),
            {"k": client.key_id},
        )
    check_401(service.ask(client.key, model))


def test_a_disabled_person_and_a_suspended_team_may_not(service: Service, model: str) -> None:
    gone, suspended = a_client(), a_client()
    change = {
        "update app.users set status = 'disabled' where user_id = :id": gone.place.user_id,
        "update app.tenants set status = 'suspended' where tenant_id = :id": (
            suspended.place.tenant_id
        ),
    }
    with db.transaction(TESTS) as session:
        for statement, subject in change.items():
            session.execute(text(statement), {"id": subject})
    assert service.ask(gone.key, model).status_code == 401
    assert service.ask(suspended.key, model).status_code == 403
    assert calls_of(gone.place) == calls_of(suspended.place) == 0


def test_a_key_without_the_scope_may_not(service: Service, model: str) -> None:
    lister = a_client(scopes=["models"])
    refused = service.ask(lister.key, model)
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "forbidden"
    headers = {"authorization": f"Bearer {lister.key}"}
    assert httpx2.get(f"{service.url}/v1/models", headers=headers).status_code == 200
    talker = a_client(scopes=["chat"])
    headers = {"authorization": f"Bearer {talker.key}"}
    assert httpx2.get(f"{service.url}/v1/models", headers=headers).status_code == 403


def test_who_has_no_key_learns_nothing_of_a_bad_body(service: Service) -> None:
    check_401(service.post("sk-purser-" + "x" * 43, b"{"))
    check_401(service.post("nobody", b"{"))
