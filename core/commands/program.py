"""The command line: its commands by name, and how every refusal ends. Knows no command's work.

Exit status: 0 done, 1 refused or a check that failed, 2 input that cannot be used. A refusal is one
sentence on standard error, or with --json one object `{"error": ...}` on standard output.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import click
from sqlalchemy.exc import DBAPIError

from core import errors
from core.catalog.providers import ProviderUnreachable
from core.commands import (
    catalogue,
    cost_centres,
    credit,
    database,
    exports,
    finance,
    keys,
    limits,
    operations,
    people,
    stripe,
    tenants,
)
from core.commands.output import Group, say
from core.db import DatabaseRefused
from core.money import NotMoney
from core.postgres import EmbeddedServerFailed
from core.settings import SettingsRefused

REFUSED, UNUSABLE = 1, 2
_UNUSABLE_INPUT = (errors.BadInput, errors.NotFound, errors.ModelNotFound, errors.TooLarge)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
def program() -> None:
    """Purser's command line: for operators and for the machine that runs it."""


for room in (
    database.migrate, database.seed, tenants.tenant, people.user, people.operator, keys.key,
    credit.credit, limits.limit, cost_centres.cost_centre, catalogue.models, operations.worker,
    operations.reap, operations.reconcile, operations.rollup, operations.check, stripe.stripe,
    finance.month, exports.export,
):  # fmt: skip
    program.add_command(room)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in given
    try:
        status = program.main(given, "python -m core", standalone_mode=False, obj=as_json)
    except click.exceptions.NoArgsIsHelpError as error:
        say(error.format_message(), err=True)
        return UNUSABLE
    except click.UsageError as error:
        return _refuse(UNUSABLE, error.format_message(), "usage", as_json=as_json)
    except errors.Refusal as error:
        status = UNUSABLE if isinstance(error, _UNUSABLE_INPUT) else REFUSED
        return _refuse(status, error.message, error.code, param=error.param, as_json=as_json)
    except (NotMoney, SettingsRefused) as error:
        return _refuse(UNUSABLE, f"{error}.", "invalid_input", as_json=as_json)
    except UnicodeError:
        message = "The input has characters that cannot be stored."
        return _refuse(UNUSABLE, message, "invalid_input", as_json=as_json)
    except (DatabaseRefused, EmbeddedServerFailed, ProviderUnreachable) as error:
        return _refuse(REFUSED, f"{error}.", "unavailable", as_json=as_json)
    except DBAPIError as error:
        message = f"The database refused this ({type(error.orig).__name__})."
        return _refuse(REFUSED, message, "database", as_json=as_json)
    except click.Abort:
        return REFUSED
    return status if isinstance(status, int) else 0


def _refuse(
    status: int, message: str, code: str, *, as_json: bool, param: str | None = None
) -> int:
    sentence = " ".join(message.split())
    if as_json:
        click.echo(json.dumps({"error": {"message": sentence, "code": code, "param": param}}))
    else:
        say(sentence, err=True)
    return status
