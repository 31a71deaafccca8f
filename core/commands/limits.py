"""`limit set`: for a tenant, a person in it, or one of its keys."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict

import click

from core import db, errors
from core.commands import finding
from core.commands.connection import WHO, connected
from core.commands.output import Group, Maximum, answer, read_count
from core.identity import limits
from core.identity.limits import LimitName, Subject
from core.money import parse_usd

_COUNT, _USD = Maximum(read_count), Maximum(parse_usd)


@click.group(cls=Group)
def limit() -> None:
    """What a tenant, a person or a key may use."""


@limit.command("set")
@click.option("--tenant", "tenant_name", required=True, help="Its id or exact name.")
@click.option("--user", "person", help="For this person in it: id or e-mail.")
@click.option("--key", "key_id", help="For this API key of it.")
@click.option("--monthly-usd", "monthly_nusd", type=_USD)
@click.option("--monthly-messages", type=_COUNT)
@click.option("--monthly-tokens", type=_COUNT)
@click.option("--requests-per-minute", type=_COUNT)
@click.option("--requests-per-hour", type=_COUNT)
def set_limits(
    tenant_name: str, person: str | None, key_id: str | None, **given: int | str | None
) -> None:
    """Set limits; 'none' lifts one, 'default' returns it to the plan's. Prints those in force."""
    wanted = {LimitName(name): value for name, value in given.items() if value is not None}
    if not wanted:
        raise click.UsageError("Name at least one limit to set.")
    if person and key_id:
        raise click.UsageError("Name a person or a key, not both.")
    with connected(), db.transaction(WHO) as session:
        tenant_id = finding.tenant(session, tenant_name).tenant_id
        subject, subject_id = Subject.TENANT, tenant_id
        if person:
            subject, subject_id = Subject.USER, finding.person(session, person)
        elif key_id:
            subject, subject_id = Subject.KEY, finding.key(session, key_id)
        for name, value in wanted.items():
            if value == "default":
                with suppress(errors.NotFound):  # it is the plan's already
                    limits.unset_limit(session, WHO, tenant_id, subject, subject_id, name)
            else:
                maximum = value if isinstance(value, int) else None
                limits.set_limit(session, WHO, tenant_id, subject, subject_id, name, maximum)
        in_force = asdict(limits.of(session, tenant_id, subject, subject_id))
    lines = [f"{name}: {'unlimited' if v is None else v}" for name, v in in_force.items()]
    answer("\n".join(lines), {"id": subject_id, "subject": subject, "limits": in_force})
