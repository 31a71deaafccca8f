"""What an export consists of: its columns with their meaning, and one query that gives their values in
order. Knows neither file formats nor who asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Type(StrEnum):
    """What a column holds, whatever the format of the file."""

    TEXT = "text"
    INTEGER = "integer"
    DECIMAL = "decimal"  # an exact number; money is in USD
    TIME = "time"  # a moment, written in the zone of the dataset
    DATE = "date"
    BOOLEAN = "boolean"


@dataclass(frozen=True, slots=True)
class Column:
    """One column; `meaning` is its line in the dictionary and `is_total` says that files sum it.

    `is_code` is text of our own, ids and fixed words, which nobody can turn into a formula.
    """

    name: str
    type: Type
    meaning: str
    operators_only: bool = False
    is_total: bool = False
    is_code: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """One SELECT in psycopg's style (`%(name)s`) with a total order, and one that has as many rows.

    Each is always sent with the parameters, also where it has none to fill in.
    """

    sql: str
    counted: str
    parameters: Mapping[str, object]

    @classmethod
    def ordered(cls, select: str, order: str, parameters: Mapping[str, object]) -> Query:
        """A SELECT and what its rows are ordered by."""
        return cls(f"{select}\norder by {order}", select, parameters)


@dataclass(frozen=True, slots=True)
class Dataset:
    """What to write: the query gives exactly these columns, in this order, typed as they say.

    TIME columns are written in `zone`; over all tenants, and where a specification wants it, in UTC.
    """

    kind: str
    columns: tuple[Column, ...]
    query: Query
    zone: str
