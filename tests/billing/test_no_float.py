"""Money is never a float: no annotation in the rooms that reckon it, and no column, is one."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from sqlalchemy import text

import core
from core import db
from core.billing import sales_tables, stripe_tables
from core.billing import tables as accounts
from core.metering import tables as usage
from core.quota import tables as counters
from tests.factories import TESTS

CORE = Path(core.__file__).parent
FILES = [
    *(CORE / "billing").rglob("*.py"),
    *(CORE / "quota").rglob("*.py"),
    *(CORE / "metering").rglob("*.py"),
    CORE / "money.py",
]
_DURATION = ("_s", "_ms")  # how long a connection may take is no amount
_CLOCKS = {"opened"}  # a reading of the monotonic clock


def annotations(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """The names that bear an annotation, with it: variables, fields, arguments, results."""
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign):
            yield ast.unparse(node.target), node.annotation
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            given = node.args
            arguments = [
                *given.posonlyargs,
                *given.args,
                *given.kwonlyargs,
                given.vararg,
                given.kwarg,
            ]
            for argument in filter(None, arguments):
                if argument.annotation:
                    yield argument.arg, argument.annotation
            if node.returns:
                yield node.name, node.returns


def is_float(annotation: ast.expr) -> bool:
    parts: list[ast.AST] = [annotation]
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        parts.append(ast.parse(annotation.value, mode="eval"))
    return any(
        isinstance(node, ast.Name) and node.id in {"float", "Float", "REAL"}
        for part in parts
        for node in ast.walk(part)
    )


def floats_of(source: str) -> list[str]:
    """The names in a file that are floats and neither durations nor clocks."""
    return [
        name
        for name, annotation in annotations(ast.parse(source))
        if is_float(annotation) and not name.endswith(_DURATION) and name not in _CLOCKS
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(CORE)))
def test_no_annotation_of_money_is_a_float(file: Path) -> None:
    assert floats_of(file.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "price: float = 0",
        "@dataclass\nclass Sale:\n    total_minor: float | None",
        "def pay(amount: 'float') -> None: ...",
        "async def paid(*, rest: Sequence[float]) -> None: ...",
        "def total(*amounts: float) -> None: ...",
        "def total(sale: Sale) -> Mapping[str, tuple[float, ...]]: ...",
    ],
)
def test_a_float_is_found_wherever_an_annotation_may_be(source: str) -> None:
    assert len(floats_of(source)) == 1


def test_a_duration_may_be_a_float() -> None:
    assert floats_of("timeout_s: float = 0.5\nopened: float = 0") == []


@pytest.mark.parametrize("file", [*(CORE / "billing").glob("*.sql")], ids=lambda file: file.name)
def test_no_verb_of_the_ledger_reckons_with_floats(file: Path) -> None:
    words = set(re.findall(r"[a-z0-9_]+", file.read_text().partition("-- name: float_column")[0]))
    assert not words & {"float4", "float8", "float", "real", "precision", "money"}


@pytest.mark.parametrize(
    "tables",
    [accounts, sales_tables, stripe_tables, counters, usage],
    ids=lambda room: room.__name__,
)
def test_no_table_of_the_code_has_a_column_of_floats(tables: ModuleType) -> None:
    rows = [
        kind for kind in vars(tables).values() if getattr(kind, "__module__", "") == tables.__name__
    ]
    columns = [column for row in rows for column in row.__table__.columns]
    assert columns
    assert [column for column in columns if column.type.python_type is float] == []


@pytest.mark.usefixtures("database")
def test_the_database_has_no_column_of_floats() -> None:
    with db.transaction(TESTS) as session:
        rows = session.execute(
            text(
                "select table_name || '.' || column_name from information_schema.columns"
                " where table_schema = 'app' and data_type in ('real', 'double precision', 'money')"
            )
        )
        assert rows.scalars().all() == []
        money = session.execute(
            text(
                "select data_type from information_schema.columns where table_schema = 'app'"
                " and (column_name like '%\\_nusd' or column_name like '%\\_minor')"
            )
        )
        assert set(money.scalars()) == {"bigint"}
