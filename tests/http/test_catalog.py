"""GET /v1/models: what can be called with this key, and what it costs this tenant."""

from __future__ import annotations

from typing import Any

import httpx2
import openai
from sqlalchemy import text

from core import db
from core.catalog import blocks
from tests.factories import TESTS, make_model
from tests.http.serving import Client, Service, a_client, unpriced_model


def get(service: Service, key: str, path: str = "") -> httpx2.Response:
    return httpx2.get(
        f"{service.url}/v1/models{path}", headers={"authorization": f"Bearer {key}"}, timeout=30
    )


def listed(service: Service, key: str) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in get(service, key).json()["data"]}


def test_a_model_is_listed_at_the_tenants_price(service: Service, model: str) -> None:
    plain, marked_up = a_client(), a_client(markup="0.5")
    assert listed(service, plain.key)[model]["pricing"] == {
        "prompt": "0.000001", "completion": "0.000002"
    }  # fmt: skip
    assert listed(service, marked_up.key)[model]["pricing"] == {
        "prompt": "0.0000015", "completion": "0.000003"
    }  # fmt: skip


def test_what_cannot_be_called_is_not_listed(service: Service, client: Client) -> None:
    unpriced, retired, demo = unpriced_model(), make_model(), make_model(provider="demo")
    with db.transaction(TESTS) as session:
        session.execute(
            text("update app.models set active = false where model_id = :m"), {"m": retired}
        )
    assert not {unpriced, retired, demo} & listed(service, client.key).keys()
    for model_id in (unpriced, retired, demo, "no/such"):
        assert get(service, client.key, f"/{model_id}").status_code == 404


def test_a_model_a_tenant_switched_off_is_missing_there_and_refused(
    service: Service, model: str
) -> None:
    client, other = a_client(), a_client()
    with db.transaction(TESTS) as session:
        blocks.block(session, TESTS, client.place.tenant_id, model)
    assert model not in listed(service, client.key)
    assert model in listed(service, other.key)
    assert get(service, client.key, f"/{model}").status_code == 404
    refused = service.ask(client.key, model)
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "model_forbidden"
    assert "switched off by your team" in refused.json()["error"]["message"]
    service.up.play("01_normal_usage_cost.txt", fresh_ids=True)
    assert service.ask(other.key, model).status_code == 200


def test_one_model_is_found_by_its_name(service: Service, client: Client, model: str) -> None:
    assert get(service, client.key, f"/{model}").json()["id"] == model
    quoted = model.replace("/", "%2F")
    assert get(service, client.key, f"/{quoted}").json()["id"] == model


def test_the_official_client_lists_models(service: Service, client: Client, model: str) -> None:
    sdk = openai.OpenAI(base_url=f"{service.url}/v1", api_key=client.key)
    assert model in {row.id for row in sdk.models.list()}
    assert sdk.models.retrieve(model).object == "model"
