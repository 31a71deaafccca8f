"""Runs migrations as app_owner, one process at a time. Called by core.migrating, which gives the
connection; the tables of all rooms are imported here and nowhere else."""

from __future__ import annotations

from alembic import context
from sqlalchemy import text

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
_ONE_MIGRATOR = 7_001  # key of the advisory lock

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    version_table_schema="app",
    include_schemas=True,
    transaction_per_migration=False,
)
with context.begin_transaction():
    connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _ONE_MIGRATOR})
    connection.execute(text("set local role app_owner"))
    context.run_migrations()
