"""Packages, plans, the house's terms and the meter, as rows that operators change later."""

from __future__ import annotations

import json
from pathlib import Path

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0007"
down_revision = "0006"
_TYPES: dict[str, sa.types.TypeEngine[object]] = {
    "tiers": JSONB(),
    "features": sa.ARRAY(sa.Text),
}


def upgrade() -> None:
    rows = json.loads(Path(__file__).with_suffix(".json").read_text())
    for name, values in rows.items():
        columns = (sa.column(column, _TYPES.get(column)) for column in values[0])
        op.bulk_insert(sa.table(name, *columns, schema="app"), values)
