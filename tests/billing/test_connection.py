"""Which Stripe a process sells through, and the stand-in's life over restarts."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr

from core.billing import connection, stripe_api
from core.db import Database
from core.settings import Settings

pytestmark = pytest.mark.usefixtures("database")


def settings(folder: Path, **more: object) -> Settings:
    return Settings(
        app_env="development", purser_data_dir=folder, app_url="http://127.0.0.1:9"
    ).model_copy(update=more)


async def customer_and_port(
    configured: Settings, customer_id: str | None = None
) -> tuple[str, int]:
    """A customer made with (or known to) the stand-in, and the port it listens on."""
    async with connection.serving(configured):
        api = stripe_api.current()
        port = next(p for p in map(_port, api.page_origins()) if p)
        if customer_id is None:
            customer_id = await asyncio.to_thread(
                api.create_customer, tenant_id=None, name="Acme", email="a@example.com", key="k"
            )
        else:
            await asyncio.to_thread(api.fetch, "customer", customer_id)
    return customer_id, port


def _port(origin: str) -> int | None:
    return urlsplit(origin).port


def test_a_restart_keeps_the_stand_ins_port_and_books(tmp_path: Path) -> None:
    customer_id, port = asyncio.run(customer_and_port(settings(tmp_path)))
    assert asyncio.run(customer_and_port(settings(tmp_path), customer_id)) == (customer_id, port)


def test_a_port_somebody_else_has_taken_is_left_to_them(tmp_path: Path) -> None:
    customer_id, port = asyncio.run(customer_and_port(settings(tmp_path)))
    with socket.create_server(("127.0.0.1", port)):
        known, other = asyncio.run(customer_and_port(settings(tmp_path), customer_id))
    assert known == customer_id
    assert other != port


def test_production_without_a_key_sells_nothing(tmp_path: Path) -> None:
    async def sells() -> bool:
        async with connection.serving(settings(tmp_path, app_env="production")):
            return stripe_api.configured()

    assert not asyncio.run(sells())
    assert not (tmp_path / "stripe_sandbox").exists()


def test_with_a_key_the_real_one_is_used_and_no_stand_in_runs(
    tmp_path: Path, database: Database
) -> None:
    async def sandbox() -> bool:
        key = SecretStr("sk_test_real")
        async with connection.serving(settings(tmp_path, stripe_secret_key=key)):
            return stripe_api.current().sandbox

    assert not asyncio.run(sandbox())
    assert not (tmp_path / "stripe_sandbox").exists()
