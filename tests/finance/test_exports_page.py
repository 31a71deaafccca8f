"""docs/exports.md is the column dictionary of every export: no column is missing, none is made up."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from core.finance.datasets import catalogue

PAGE = (Path(__file__).parents[2] / "docs" / "exports.md").read_text()


def test_every_export_has_a_section() -> None:
    assert tuple(re.findall(r"^## .* \(`(\w+)`\)$", PAGE, re.MULTILINE)) == catalogue.KINDS


@pytest.mark.parametrize("kind", catalogue.KINDS)
def test_every_column_is_on_the_page_as_it_is_in_the_file(kind: str) -> None:
    (section,) = re.findall(
        rf"^## [^\n]* \(`{kind}`\)$(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL
    )
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    assert lines == [
        f"| `{column.name}` | {column.type} |"
        f" {'*Operators.* ' if column.operators_only else ''}{column.meaning} |"
        for column in catalogue.columns_of(kind, for_operators=True)
    ]
