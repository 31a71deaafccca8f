"""`models sync`: the catalogue from the provider, or from a file of the same shape; `models enable` and
`models disable`, for everybody or one tenant."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click
from sqlalchemy import func, select

from core import clock, db
from core.catalog import blocks, sync
from core.catalog.listing import read_file
from core.catalog.sync_job import sync_now
from core.catalog.tables import CatalogSync
from core.commands import finding
from core.commands.connection import WHO, connected
from core.commands.output import Group, answer


@click.group(cls=Group)
def models() -> None:
    """The catalogue of AI models and their prices."""


@models.command("sync")
@click.option(
    "--from", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file as OpenRouter's /models answers.",
)  # fmt: skip
@click.option("--retire-any", is_flag=True, help="Also when more than a fifth of them would go.")
def sync_models(file: Path | None, *, retire_any: bool) -> None:
    """Bring the catalogue in line with the provider's list; prints what came of it."""
    with connected() as settings:
        if file is None:
            report = sync_now(settings)
        else:
            rows = read_file(file)
            with db.transaction(WHO) as session:
                report = sync.apply(
                    session, sync.OPENROUTER, rows, source="file", now=clock.now(),
                    retire_any=retire_any,
                )  # fmt: skip
        if report is None:
            raise click.UsageError(
                "There is no OPENROUTER_API_KEY: give the list with --from FILE."
            )
        with db.transaction(WHO) as session:
            sync_id = session.scalar(select(func.max(CatalogSync.sync_id)))
    line = (
        f"{report.outcome}: {report.seen} models, {report.added} new, {report.repriced} repriced,"
        f" {report.held} prices held, {report.retired} retired"
    )
    answer(line, {"id": sync_id, **asdict(report)})


@models.command("enable")
@click.argument("model_id", metavar="MODEL")
@click.option("--tenant", "tenant_name", help="Only for this one: its id or exact name.")
def enable(model_id: str, tenant_name: str | None) -> None:
    """Offer a model again, to everybody or to one tenant that switched it off."""
    _switch(model_id, tenant_name, on=True)


@models.command("disable")
@click.argument("model_id", metavar="MODEL")
@click.option("--tenant", "tenant_name", help="Only for this one: its id or exact name.")
def disable(model_id: str, tenant_name: str | None) -> None:
    """Take a model out of the offer, for everybody or for one tenant; no sync undoes it."""
    _switch(model_id, tenant_name, on=False)


def _switch(model_id: str, tenant_name: str | None, *, on: bool) -> None:
    tenant_id = None
    with connected(), db.transaction(WHO) as session:
        if tenant_name is None:
            sync.set_model_active(session, WHO, model_id, active=on, now=clock.now())
        else:
            tenant_id = finding.tenant(session, tenant_name).tenant_id
            turn = blocks.unblock if on else blocks.block
            turn(session, WHO, tenant_id, model_id)
    answer(
        f"{model_id} is {'on' if on else 'off'}.",
        {"id": model_id, "active": on, "tenant": tenant_id},
    )
