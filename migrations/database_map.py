"""Prints the map of the database for docs/database.md, from the tables of all rooms.

python -m migrations.database_map > docs/database.md
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import TypeGuard

from sqlalchemy import Column, Table
from sqlalchemy.dialects import postgresql

from core.alerts import tables as alerts
from core.billing import sales_tables as sales
from core.billing import stripe_tables as stripe
from core.billing import tables as billing
from core.catalog import tables as catalog
from core.chat import tables as chat
from core.db import Base
from core.finance import tables as finance
from core.identity import tables as identity
from core.metering import tables as metering
from core.quota import tables as quota

ROOMS = (identity, catalog, metering, billing, sales, stripe, quota, chat, alerts, finance)
_PARTS = {"sales_tables": ", what is sold", "stripe_tables": ", exchanged with Stripe"}


def lines() -> Iterator[str]:
    """The map as Markdown: a table per room, every column with its type and what it refers to."""
    yield "# The database\n"
    yield "Generated from the tables of each room by `python -m migrations.database_map`. All tables"
    yield "live in schema `app`; **isolated** tables carry `tenant_id` under forced row security, the"
    yield "others are platform data. Functions are in schema `verbs`, views in `reporting`, the job"
    yield "queue in `jobs`."
    for room in ROOMS:
        _, name, file = room.__name__.split(".")
        yield f"\n## {name}{_PARTS.get(file, '')}\n"
        yield (room.__doc__ or "").split("\n")[0]
        for found in vars(room).values():
            if _is_table_of(found, room):
                yield from _table(Base.metadata.tables[f"app.{found.__tablename__}"], found)


def _is_table_of(found: object, room: ModuleType) -> TypeGuard[type[Base]]:
    return isinstance(found, type) and issubclass(found, Base) and found.__module__ == room.__name__


def _table(table: Table, of: type[Base]) -> Iterator[str]:
    kind = "isolated" if "tenant_id" in table.c else "platform"
    yield f"\n### {table.name} ({kind})\n"
    yield " ".join((of.__doc__ or "").split()) + "\n"
    yield "| column | type | |"
    yield "|---|---|---|"
    for column in table.columns:
        yield f"| {column.name} | {_type(column)} | {_notes(column)} |"


def _type(column: Column[object]) -> str:
    text = column.type.compile(dialect=postgresql.dialect()).lower()
    return text.replace("timestamp with time zone", "timestamptz")


def _notes(column: Column[object]) -> str:
    notes = ["key"] if column.primary_key else []
    targets = {
        key.target_fullname.removeprefix("app.").split(".")[0] for key in column.foreign_keys
    }
    notes += [f"→ {name}" for name in sorted(targets)]
    notes += ["may be null"] if column.nullable else []
    return ", ".join(notes)


if __name__ == "__main__":
    print("\n".join(lines()))
