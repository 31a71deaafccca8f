"""`limit set` and `limit show`: of a tenant, a person in it, or one of its keys."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from datetime import UTC

import click

from core import db, errors
from core.commands import finding
from core.commands.connection import WHO, connected
from core.commands.output import Group, Maximum, answer, read_count
from core.identity import limits
from core.identity.limits import LimitName, LimitUse, Subject
from core.money import exact, parse_usd

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


@limit.command("show")
@click.option("--tenant", "tenant_name", required=True, help="Its id or exact name.")
def show_limits(tenant_name: str) -> None:
    """Every limit of a tenant, its people and keys: what is used and held of it, when it resets."""
    with connected(), db.transaction(WHO) as session:
        tenant_id = finding.tenant(session, tenant_name).tenant_id
        found = limits.overview(session, WHO, tenant_id)
    answer(
        "\n".join(_line(use) for use in found if use.maximum is not None),
        {"limits": [asdict(use) | {"state": use.state} for use in found]},
    )


def _line(use: LimitUse) -> str:
    of = f"{use.subject} {use.label}{f' of {use.owner}' if use.owner else ''}"
    until = f", resets {use.resets_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if use.resets_at else ""
    amounts = [_said(use, amount) for amount in (use.used, use.held, use.maximum or 0)]
    return f"{of}: {use.name}: used {amounts[0]}, held {amounts[1]} of {amounts[2]}{until}"


def _said(use: LimitUse, amount: int) -> str:
    return f"${exact(amount)}" if use.name is LimitName.MONTHLY_NUSD else str(amount)
