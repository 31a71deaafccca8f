"""`cost-centre set`: where the use of a tenant, a person in it or one of its keys is booked."""

from __future__ import annotations

import click

from core import db
from core.commands import finding
from core.commands.connection import WHO, connected
from core.commands.output import Group, answer
from core.identity import cost_centres
from core.identity.limits import Subject


@click.group("cost-centre", cls=Group)
def cost_centre() -> None:
    """Where use is booked for chargeback."""


@cost_centre.command("set")
@click.option("--tenant", "tenant_name", required=True, help="Its id or exact name.")
@click.option("--user", "person", help="For this person in it: id or e-mail.")
@click.option("--key", "key_id", help="For this API key of it.")
@click.option("--centre", help="The cost centre; '' leaves it to what stands above.")
@click.option("--project", help="The project; '' leaves it to what stands above.")
def set_cost_centre(
    tenant_name: str, person: str | None, key_id: str | None, centre: str | None,
    project: str | None,
) -> None:  # fmt: skip
    """Set a cost centre, a project or both, from the next call on; prints what counts then."""
    if centre is None and project is None:
        raise click.UsageError("Name a cost centre or a project.")
    if person and key_id:
        raise click.UsageError("Name a person or a key, not both.")
    with connected(), db.transaction(WHO) as session:
        tenant_id = finding.tenant(session, tenant_name).tenant_id
        subject, subject_id = Subject.TENANT, tenant_id
        if person:
            subject, subject_id = Subject.USER, finding.person(session, person)
        elif key_id:
            subject, subject_id = Subject.KEY, finding.key(session, key_id)
        place = (session, WHO, tenant_id, subject, subject_id)
        before = cost_centres.of_subject(*place)
        cost_centres.assign(
            *place, before.cost_center if centre is None else centre,
            before.project if project is None else project,
        )  # fmt: skip
        found = cost_centres.of_subject(*place)
    center, project = found.booked_cost_center, found.booked_project
    answer(
        f"cost centre: {center or 'none'}\nproject: {project or 'none'}",
        {"id": subject_id, "subject": subject, "cost_center": center, "project": project},
    )
