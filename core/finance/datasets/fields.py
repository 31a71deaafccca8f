"""The columns of exports together with the SQL that gives their values: what several exports share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from core.finance.datasets.columns import Column, Type


@dataclass(frozen=True, slots=True)
class Field:
    """A column and the SQL of its value."""

    column: Column
    value: str


def text(name: str, value: str, meaning: str) -> Field:
    """A field of text."""
    return Field(Column(name, Type.TEXT, meaning), value)


def code(name: str, value: str, meaning: str) -> Field:
    """A field of text of our own: an id, or a word of a fixed list."""
    return Field(Column(name, Type.TEXT, meaning, is_code=True), value)


def tokens(name: str, value: str, meaning: str) -> Field:
    """A field with a number of tokens or calls, summed in totals."""
    return Field(Column(name, Type.INTEGER, meaning, is_total=True), value)


def costs(billed: str, listed: str) -> tuple[Field, ...]:
    """What a row cost the tenant, and for operators how much of it was the markup."""
    return (
        _cost("billed_cost_usd", billed, "What the tenant pays, USD, exact."),
        _cost("list_cost_usd", listed, "The cost at the provider, USD, exact.", secret=True),
        _cost(
            "markup_usd", f"({billed} - {listed})", "billed_cost_usd less list_cost_usd, USD.",
            secret=True,
        ),
    )  # fmt: skip


def usd(nusd: str) -> str:
    """Nano-USD in SQL as exact USD with nine decimals."""
    return f"({nusd} * 0.000000001)"


def shown(fields: Iterable[Field], *, for_operators: bool) -> tuple[Field, ...]:
    """The fields somebody gets: what the platform pays is for operators only."""
    return tuple(field for field in fields if for_operators or not field.column.operators_only)


def select_list(fields: Iterable[Field], *, for_operators: bool) -> str:
    """The fields somebody gets as the columns of a SELECT."""
    found = shown(fields, for_operators=for_operators)
    return ",\n  ".join(f'{field.value} as "{field.column.name}"' for field in found)


def _cost(name: str, nusd: str, meaning: str, *, secret: bool = False) -> Field:
    column = Column(name, Type.DECIMAL, meaning, operators_only=secret, is_total=True)
    return Field(column, usd(nusd))
