"""`stripe mirror`, `stripe reconcile` and `stripe replay`: what jobs do by themselves, on demand.

Without a key it speaks to the stand-in of the web process that runs in the same data folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import click

from core import clock, db, errors
from core.billing import connection, inbox, offers, reconcile, stripe_api
from core.billing.stripe_api import StripeRefused
from core.commands.connection import WHO, connected
from core.commands.output import Group, answer, say


@click.group(cls=Group)
def stripe() -> None:
    """What is sold through Stripe."""


@stripe.command()
def mirror() -> None:
    """Make products and prices of the packages and plans."""
    with _selling():
        offers.mirror()
    answer("Stripe has every package and plan.", {"id": "mirror"})


@stripe.command("reconcile")
@click.option(
    "--scope", type=click.Choice(["hourly", "daily", "all"]), default="all", show_default=True,
    help="hourly: events of 48 hours, sessions and refunds of 3 days; daily: the rest.",
)  # fmt: skip
def reconcile_(scope: reconcile.Scope) -> int:
    """Compare Stripe's books with ours and book what is missing; exit 1 when they differ."""
    with _selling():
        found = reconcile.run(clock.now(), scope=scope)
    for difference in found.differences:
        say(
            f"{difference.kind} {difference.stripe_id}: ours {difference.ours}, theirs"
            f" {difference.theirs}: {difference.cause}", err=True,
        )  # fmt: skip
    for name in found.refused:
        say(f"{name}: Stripe refused to list them; look at the key's rights.", err=True)
    answer(
        f"{found.events_new} missed events, {len(found.differences)} differences.",
        {"id": "reconcile", **asdict(found)},
    )
    return 1 if found.differences or found.refused else 0


@stripe.command()
@click.argument("event_id")
def replay(event_id: str) -> None:
    """Apply an event of the inbox again; its effect is booked once."""
    with _selling():
        with db.transaction(WHO) as session:
            inbox.replay(session, WHO, event_id)
        inbox.handle(event_id)
        with db.transaction(WHO) as session:
            found = inbox.one(session, WHO, event_id)
    answer(f"{found.state}: {found.reason}", {"id": event_id, **asdict(found)})


@contextmanager
def _selling() -> Iterator[None]:
    """The database and Stripe. Raises errors.Unavailable where nothing is sold or Stripe refuses."""
    with connected() as settings, connection.connected(settings):
        stripe_api.current()
        try:
            yield
        except StripeRefused as refused:
            raise errors.Unavailable(f"{refused}.") from None
