"""Plans, limits, providers and the sign-up promotion, as rows that operators change later."""

from __future__ import annotations

import json
from pathlib import Path

import sqlalchemy as sa
from alembic import op

from core.money import NANO_PER_USD
from core.settings import current

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    rows = json.loads(Path(__file__).with_suffix(".json").read_text())
    monthly_nusd = int(current().ai_monthly_quota_per_tenant * NANO_PER_USD)
    for row in rows["plan_limits"]:
        if row["limit_name"] == "monthly_nusd":
            row["maximum"] = monthly_nusd
    for name, values in rows.items():
        table = sa.table(name, *(sa.column(column) for column in values[0]), schema="app")
        op.bulk_insert(table, values)
