"""`migrate` and `seed`: the database to head, and what is in it at first."""

from __future__ import annotations

import click
from sqlalchemy.exc import OperationalError

from core import clock, db, errors, schema, settings
from core.catalog import sync
from core.commands.connection import WHO, address, connected
from core.commands.output import Command, answer
from core.demonstration import script
from core.demonstration import seed as demonstration


@click.command(cls=Command)
def migrate() -> None:
    """Bring the database to head; safe to run by several processes at once."""
    current = settings.current()
    with address(current.database_owner_url or current.database_url) as url:
        try:
            schema.migrate(url)
        except OperationalError as error:
            raise errors.Unavailable("The database is not reachable.") from error
        except schema.MigrationFailed as failure:
            raise errors.Unavailable(f"{failure}.") from failure
    answer(f"The database is at {schema.head()}.", {"id": schema.head()})


@click.command(cls=Command)
@click.option("--demo", is_flag=True, help="Also demo tenants, people and 90 days of usage.")
def seed(*, demo: bool) -> None:
    """Fill the catalogue, and with --demo the demo tenants (development only); idempotent."""
    now = clock.now()
    with connected() as current, db.transaction(WHO) as session:
        sync.seed(session, development=current.development, now=now)
        made = demonstration.seed(session, current, now) if demo else False
    facts: dict[str, object] = {"id": "demo" if demo else "catalogue", "made": made}
    if demo:
        facts |= {"email": script.DEMO_EMAIL, "operator": script.OPERATOR_EMAIL}
    done = "Made the demo tenants." if made else "The demo tenants are there already."
    answer(done if demo else "The catalogue is filled.", facts)
