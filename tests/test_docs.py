"""What is documented is what there is: commands, settings, routes, fields, views, the database's map."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import psycopg
import pytest

from core import errors
from core.commands.program import program
from core.http.fields import _CHECKS
from core.http.routes import ROUTES
from core.settings import Settings
from migrations import database_map

DOCS = Path(__file__).parent.parent / "docs"
CONTRACT_VIEWS = {
    "usage_events": "event_id kind adjusts_call_id call_id occurred_at tenant_id tenant_name user_id"
    " user_email api_key_id cost_center source purpose conversation_id provider model_requested"
    " model_served prompt_tokens cached_tokens cache_write_tokens completion_tokens reasoning_tokens"
    " list_cost_usd billed_cost_usd cost_source final outcome latency_ms first_token_ms cached"
    " generation_id",
    "usage_daily": "tenant_id user_id model source day requests prompt_tokens cached_tokens"
    " cache_write_tokens completion_tokens reasoning_tokens list_cost_usd billed_cost_usd errors",
    "wallets": "tenant_id posted_usd held_usd available_usd debt_usd",
    "ledger_entries": "entry_id tenant_id seq kind amount_usd balance_after_usd call_id lot_id"
    " source_type source_id actor reason occurred_at",
    "lots": "granted remaining consumed expired revoked kind expires_at source",
    "holds": "tenant_id amount_usd captured_usd state call_id opened_at lease_until",
    "turns": "turn_id call_id conversation_id status started_at ended_at",
    "calls": "call_id tenant_id source purpose model_requested state opened_at settled_at lease_until",
    "audit_log": "actor tenant action object outcome before after occurred_at",
}


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


@pytest.mark.parametrize(("name", "command"), sorted(commands(program)))
def test_every_command_and_option_is_documented(name: str, command: click.Command) -> None:
    text = (DOCS / "commands.md").read_text()
    row = next((line for line in text.splitlines() if line.startswith(f"| `{name}")), "")
    assert row, f"docs/commands.md has no row for {name}"
    for option in (o for p in command.params for o in p.opts if o.startswith("--")):
        assert option in {"--json", "--help"} or option in row, option


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_is_documented(name: str) -> None:
    assert f"| `{name.upper()}` |" in (DOCS / "configuration.md").read_text()


def test_there_are_not_too_many_settings() -> None:
    assert len(Settings.model_fields) <= 40


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_every_route_is_documented(route: object) -> None:
    text = (DOCS / "api.md").read_text()
    for method in route.methods:  # type: ignore[attr-defined]
        assert f"`{method} {route.path}`" in text  # type: ignore[attr-defined]


@pytest.mark.parametrize("field", sorted(_CHECKS))
def test_every_field_of_the_api_is_documented(field: str) -> None:
    assert re.search(rf"`{field}`", (DOCS / "api.md").read_text())


def test_every_code_a_caller_may_see_is_documented() -> None:
    text = (DOCS / "api.md").read_text()
    refusals = [errors.Refusal]
    for refusal in refusals:
        refusals += refusal.__subclasses__()
    for refusal in refusals:
        if refusal.__module__.startswith("core") and refusal.code not in {
            "refused",
            "length_required",
        }:
            assert f"`{refusal.code}`" in text or refusal.status == 500, refusal.code


def test_the_reporting_views_have_the_columns_promised(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "select table_name, column_name from information_schema.columns"
            " where table_schema = 'reporting'"
        ).fetchall()
    found: dict[str, set[str]] = {}
    for view, column in rows:
        found.setdefault(view, set()).add(column)
    for view, columns in CONTRACT_VIEWS.items():
        assert set(columns.split()) <= found.get(view, set()), view


def test_every_view_column_is_documented(database_url: str) -> None:
    text = (DOCS / "reporting-views.md").read_text()
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "select table_name, column_name from information_schema.columns"
            " where table_schema = 'reporting' order by 1, ordinal_position"
        ).fetchall()
    for view, column in rows:
        section = text.partition(f"## {view}\n")[2].partition("\n## ")[0]
        assert f"`{column}`" in section, f"{view}.{column}"


def test_the_map_of_the_database_is_up_to_date() -> None:
    printed = "\n".join(database_map.lines()) + "\n"
    assert (DOCS / "database.md").read_text() == printed
