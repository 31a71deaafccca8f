"""The job queue's own schema, and what the web role may do with it: add jobs, read none."""

from __future__ import annotations

from alembic import op
from procrastinate.schema import SchemaManager

revision = "0004"
down_revision = "0003"

_RIGHTS = """
grant usage on schema jobs to app_rw, app_jobs;
grant usage on all sequences in schema jobs to app_rw, app_jobs;
grant insert, select (id) on jobs.procrastinate_jobs to app_rw;
grant insert on jobs.procrastinate_events to app_rw;
grant select, insert, update, delete on all tables in schema jobs to app_jobs;
grant execute on all functions in schema jobs to app_rw, app_jobs;
"""


def upgrade() -> None:
    connection = op.get_bind()
    connection.exec_driver_sql("set local search_path = jobs")
    driver = connection.connection.driver_connection
    driver.execute(SchemaManager.get_schema())
    driver.execute(_RIGHTS)
    connection.exec_driver_sql("set local search_path = app")
