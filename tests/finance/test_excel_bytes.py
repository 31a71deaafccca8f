"""Excel files to the byte: as xlsxwriter makes them of the same values cell by cell."""

from __future__ import annotations

import io
import zipfile
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.finance.datasets.columns import Column, Dataset, Query, Type
from core.finance.files import excel_cells, excel_file
from tests.finance.excel_by_cells import by_cells
from tests.finance.files_read import file_of, made_up, read_xlsx, sheets_of
from tests.finance.test_files import TYPES, rows

pytestmark = pytest.mark.usefixtures("database")

_YEARS = datetime(1900, 3, 1), datetime(2199, 1, 1)  # noqa: DTZ001 - hypothesis adds the zone
_TEXTS = st.none() | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8
)
_WORDS = st.sampled_from(
    ["", " ", "\t", "\n", "a\nb", "\\N", "\\", "\\.", "_x0041_", "_x000D_", "<b>&amp;", "\ufffe\uffff", "x "]
)  # fmt: skip
_ROWS = st.lists(
    st.tuples(
        _TEXTS | _WORDS,
        st.none() | st.integers(-(2**63), 2**63 - 1),
        st.none() | st.decimals("-1e15", "1e15", places=9) | st.just(Decimal("0.000000000")),
        st.none() | st.datetimes(*_YEARS, timezones=st.just(UTC)),
        st.none() | st.dates(date(1900, 3, 1)),
        st.none() | st.booleans(),
    ),
    max_size=12,
)  # fmt: skip


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/St_Johns"])
def test_every_kind_of_value(zone: str, tmp_path: Path) -> None:
    found = made_up(rows(), *TYPES, zone=zone, totals=[1, 2])
    assert_same(file_of(found, "xlsx"), by_cells(found, rows(), tmp_path / "x.xlsx"))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_ROWS, st.integers(1, 5))
def test_any_values_on_several_sheets(
    tmp_path: Path, values: list[tuple[Any, ...]], sheet_rows: int
) -> None:
    found = made_up(values, *TYPES, zone="Europe/Berlin", totals=[1, 2])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(excel_file, "ROWS_MAX", sheet_rows)
        ours = file_of(found, "xlsx")
    assert_same(ours, by_cells(found, values, tmp_path / "x.xlsx", sheet_rows))


def test_more_rows_than_are_written_at_once(tmp_path: Path) -> None:
    values = [
        (f"text {n % 5_000}", n if n > 20_000 else None, Decimal(n).scaleb(-9))
        for n in range(25_000)
    ]
    found = made_up(values, Type.TEXT, Type.INTEGER, Type.DECIMAL, totals=[1, 2])
    assert_same(file_of(found, "xlsx"), by_cells(found, values, tmp_path / "x.xlsx"))


def test_looks_that_are_first_needed_in_different_rows(tmp_path: Path) -> None:
    values = [(None, None, 1), (None, Decimal("1.5"), 2), ("late", None, 3), (None, None, None)]
    found = made_up(values, Type.TEXT, Type.DECIMAL, Type.INTEGER)
    assert_same(file_of(found, "xlsx"), by_cells(found, values, tmp_path / "x.xlsx"))


def test_columns_past_the_letter_z(tmp_path: Path) -> None:
    columns = tuple(Column(f"c{n}", Type.INTEGER, "A number.", is_total=n > 50) for n in range(60))
    query = Query("select " + ", ".join(f"{n}::bigint as c{n}" for n in range(60)), "", {})
    found = Dataset("usage", columns, query, "UTC")
    assert_same(file_of(found, "xlsx"), by_cells(found, [range(60)], tmp_path / "x.xlsx"))


@pytest.mark.parametrize(
    "said", ["<r>x</r>", "<r><t>bold</t></r>", "<r></c></r>", "<r>", "</t></is></c>"]
)
def test_text_never_becomes_markup(said: str) -> None:
    """xlsxwriter takes what begins with <r> for its own markup."""
    (row,) = read_xlsx(file_of(made_up([(said,)], Type.TEXT), "xlsx"))
    assert row["a"] == said


def test_a_text_of_signs_that_count_twice_is_seen_to_be_cut() -> None:
    long = "x" + "\U0001f680" * (excel_cells.TEXT_LENGTH_MAX // 2 + 1)
    (row,) = read_xlsx(file_of(made_up([(long,)], Type.TEXT), "xlsx"))
    assert row["a"].endswith("\U0001f680…")
    assert len(row["a"].encode("utf-16-le")) // 2 <= excel_cells.TEXT_LENGTH_MAX


def test_a_sheet_ends_before_its_xml_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(excel_file, "SHEET_BYTES_MAX", 1_000_000)
    found = made_up([(n, "ü" * 500) for n in range(3_000)], Type.INTEGER, Type.TEXT)
    content = file_of(found, "xlsx")
    assert [name for name in sheets_of(content) if name.startswith("Usage")] == [
        "Usage", "Usage 2", "Usage 3", "Usage 4",
    ]  # fmt: skip
    assert [row["a"] for row in read_xlsx(content)] == list(range(3_000))
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        sizes = [packed.getinfo(f"xl/worksheets/sheet{n}.xml").file_size for n in (1, 2, 3)]
    assert 900_000 < min(sizes) < max(sizes) < 1_001_000


def assert_same(ours: bytes, theirs: bytes) -> None:
    """Part by part first: that says more than that two files differ."""
    with zipfile.ZipFile(io.BytesIO(ours)) as one, zipfile.ZipFile(io.BytesIO(theirs)) as other:
        assert one.namelist() == other.namelist()
        for name in one.namelist():
            assert one.read(name).decode() == other.read(name).decode(), name
    assert ours == theirs
