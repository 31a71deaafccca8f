"""The command line's way to the database: the address in the settings, or the embedded server.

Works as the System (app_jobs). Refuses a database that `migrate` has not brought to head.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import SecretStr
from sqlalchemy import NullPool, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError, ProgrammingError

from core import clock, db, errors, postgres, schema, settings, telemetry
from core.db import Database, Lane, System
from core.settings import Settings

WHO = System("command line")


@contextmanager
def address(given: SecretStr | None) -> Iterator[str]:
    """The address `given`, or that of the embedded server, running meanwhile."""
    if given is not None:
        yield given.get_secret_value()
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a missing XDG_RUNTIME_DIR is no concern of the operator
        server = postgres.start(settings.current().purser_data_dir)
    try:
        yield server.url
    finally:
        server.stop()


@contextmanager
def connected(*, log_level: str = "ERROR") -> Iterator[Settings]:
    """This process's database, installed. Raises errors.Unavailable where it is not at head."""
    current = settings.current()
    _log_to_stderr(log_level)
    with address(current.database_url) as url:
        _must_be_at_head(url)
        web_url, jobs_url = _logins(current, url)
        database = Database(current, web_url, jobs_url)
        try:
            database.verify_roles()
            db.install(database)
            with db.transaction(WHO) as session:
                clock.compare(session)
            with db.use_lane(Lane.LONG):  # somebody waits for it, and nobody else does
                yield current
        finally:
            database.close()


def _logins(current: Settings, url: str) -> tuple[str, str | None]:
    """The addresses for the web role and for jobs; the embedded server has a login for each."""
    if current.database_url is None:
        server = make_url(url)
        logins = (server.set(username=role) for role in (db.RW, db.JOBS))
        web, jobs = (login.render_as_string(hide_password=False) for login in logins)
        return web, jobs
    jobs_url = current.database_jobs_url
    return url, jobs_url.get_secret_value() if jobs_url else None


def _must_be_at_head(url: str) -> None:
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), poolclass=NullPool)
    try:
        with engine.connect() as connection:
            ready = schema.at_head(connection)
    except OperationalError as error:
        raise errors.Unavailable("The database is not reachable.") from error
    except ProgrammingError:
        ready = False
    finally:
        engine.dispose()
    if not ready:
        raise errors.Unavailable(
            "The database is not at this version: run `python -m core migrate` first."
        )


def _log_to_stderr(level: str) -> None:
    """Standard output belongs to the command's answer."""
    telemetry.configure(level)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(sys.stderr)
