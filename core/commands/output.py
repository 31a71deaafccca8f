"""How a command answers: a line for people, or with --json one object; and its options' types.

Every command takes --json. What it says goes to standard output, remarks to standard error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import click

from core.money import NotMoney, parse_usd

_COUNT_MAX = 2**62
# Control signs but the line's end, and those that turn the direction of what follows.
_OBEYED = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


class Command(click.Command):
    """A command that takes --json."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.params.append(
            click.Option(
                ["--json", "as_json"], is_flag=True, expose_value=False,
                help="Answer with one JSON object on standard output.",
            )
        )  # fmt: skip


class Group(click.Group):
    """A group whose commands take --json."""

    command_class = Command
    group_class = type


def answer(line: str, facts: Mapping[str, object]) -> None:
    """Print the command's answer: `facts` with --json, else `line`."""
    if click.get_current_context().find_root().obj:
        click.echo(json.dumps(dict(facts), default=str))
    elif line:
        say(line)


def remark(line: str) -> None:
    """Tell a person something beside the answer; silent with --json."""
    if not click.get_current_context().find_root().obj:
        say(line, err=True)


def say(line: str, *, err: bool = False) -> None:
    """Print text that may hold names of others: what a terminal would obey is spelled out."""
    click.echo(_OBEYED.sub(lambda found: ascii(found[0])[1:-1], line), err=err)


class Usd(click.ParamType[int]):
    """An amount in USD, given to the command as nano-USD."""

    name = "usd"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_usd(str(value))
        except NotMoney as error:
            self.fail(f"{error}.", param, ctx)


class Maximum(click.ParamType[int | str]):
    """A limit: a count (or an amount), 'none' for unlimited, 'default' for what the plan says."""

    name = "number|none|default"

    def __init__(self, read: Callable[[str], int]) -> None:
        self._read = read

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        word = str(value).strip().lower()
        if word in {"none", "default"}:
            return word
        try:
            return self._read(word)
        except ValueError as error:
            self.fail(f"{error}; also 'none' or 'default'.", param, ctx)


def read_count(word: str) -> int:
    """A whole number from 0. Raises ValueError."""
    if not (word.isascii() and word.isdigit() and len(word) < 20 and int(word) <= _COUNT_MAX):
        raise ValueError(f"{word[:40]!r} is not a whole number from 0")
    return int(word)


USD = Usd()
