"""Every format against what the database holds: to the last digit, in order, as other programs read it."""

from __future__ import annotations

import csv
import re
import threading
import time
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import psutil
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from core import db, errors
from core.finance.datasets.columns import Column, Dataset, Query, Type
from core.finance.files import cells, copying, excel_cells, excel_file, writing
from core.finance.files.copying import Progress
from core.finance.files.dictionary import dictionary
from tests.factories import TESTS
from tests.finance.files_read import (
    file_of,
    made_up,
    moment,
    number,
    read_csv,
    read_jsonl,
    read_parquet,
    read_xlsx,
    sheets_of,
)

pytestmark = pytest.mark.usefixtures("database")

TYPES = (Type.TEXT, Type.INTEGER, Type.DECIMAL, Type.TIME, Type.DATE, Type.BOOLEAN)
BERLIN, KOLKATA = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kolkata")
TEXTS = ["Ada", "", None, 'say "hi"', "a,b;c\td", "two\nlines\r\nmore", "ﬁ 漢 \U0001f680", "\\N", "\\.",
         "null", "true", "0012", " x ", "100%", "\x01\x1f"]  # fmt: skip
NUMBERS = [0, -1, None, 2**62, 15, -(2**53) - 1, 7]
AMOUNTS = ["0.000000000", "0.000000001", None, "-12.500000000", "123456.789012345", "0.1",
           "0.000000012345678901234567", "99999999999999.999999999"]  # fmt: skip
TIMES = [
    datetime(2026, 10, 25, 0, 30, tzinfo=UTC), datetime(2026, 10, 25, 1, 30, tzinfo=UTC), None,
    datetime(2026, 3, 29, 1, 0, 0, 123456, tzinfo=UTC), datetime(2026, 7, 1, 12, tzinfo=UTC),
    datetime(2026, 12, 31, 23, 59, 59, 999000, tzinfo=UTC), datetime(1999, 1, 1, tzinfo=UTC),
]  # fmt: skip
DAYS = [date(2026, 2, 28), None, date(2000, 1, 1)]


def rows() -> list[tuple[object, ...]]:
    """Each value of each type at least once, beside values of other lengths."""
    amounts = [None if one is None else Decimal(one) for one in AMOUNTS]
    pools = (TEXTS, NUMBERS, amounts, TIMES, DAYS, [True, False, None])
    return [tuple(pool[n % len(pool)] for pool in pools) for n in range(60)]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kolkata", "America/St_Johns"])
def test_csv_holds_what_the_database_does(zone: str) -> None:
    read = read_csv(file_of(made_up(rows(), *TYPES, zone=zone), "csv"))
    assert len(read) == len(rows())
    for cell, (said, count, amount, at, day, flag) in zip(read, rows(), strict=True):
        assert cell["a"] == (said or "")
        assert cell["b"] == ("" if count is None else str(count))
        assert (Decimal(cell["c"]) if cell["c"] else None) == amount and "E" not in cell["c"]
        assert (datetime.fromisoformat(cell["d"]) if cell["d"] else None) == at
        assert cell["e"] == ("" if day is None else str(day))
        assert cell["f"] == {True: "true", False: "false", None: ""}[flag]  # type: ignore[index]


@pytest.mark.parametrize(
    ("format_name", "zone", "spelled"),
    [
        ("csv", "Europe/Berlin", "2026-03-29T03:00:00.123456+02:00"),
        ("csv", "Asia/Kolkata", "2026-03-29T06:30:00.123456+05:30"),
        ("csv", "UTC", "2026-03-29T01:00:00.123456Z"),
        ("jsonl", "Europe/Berlin", "2026-03-29T03:00:00.123456+02:00"),
        ("jsonl", "Asia/Kolkata", "2026-03-29T06:30:00.123456+05:30"),
        ("jsonl", "UTC", "2026-03-29T01:00:00.123456Z"),
    ],
)
def test_a_time_is_iso_with_the_offset_of_the_zone(
    format_name: str, zone: str, spelled: str
) -> None:
    content = file_of(made_up([(TIMES[3],)], Type.TIME, zone=zone), format_name)
    assert spelled.encode() in content


def test_the_hour_that_comes_twice_is_told_apart() -> None:
    found = made_up([(TIMES[0],), (TIMES[1],)], Type.TIME, zone="Europe/Berlin")
    assert [row["a"] for row in read_csv(file_of(found, "csv"))] == [
        "2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00",
    ]  # fmt: skip


def test_both_spellings_of_a_time_are_the_same() -> None:
    found = made_up([(at,) for at in TIMES], Type.TIME)
    spelled = [
        cells.as_csv(found.columns[0], found.zone, whole_hours=quick) for quick in (True, False)
    ]
    with db.transaction(TESTS) as session:
        assert copying.begin(session, "Europe/Berlin")
        for one in spelled:
            lines = copying.blocks(
                session, f"copy (select {one} from ({found.query.sql}) as d) to stdout",
                found.query.parameters, Progress(),
            )  # fmt: skip
            spelled[spelled.index(one)] = b"".join(lines).decode()
    assert spelled[0] == spelled[1] and spelled[0].count("T") == len(TIMES) - 1


@pytest.mark.parametrize(
    ("zone", "whole"),
    [("UTC", True), ("America/New_York", True), ("Asia/Kolkata", False), ("Asia/Kathmandu", False),
     ("Australia/Lord_Howe", False), ("Asia/Pyongyang", False)],
)  # fmt: skip
def test_zones_with_odd_offsets_are_known(zone: str, whole: bool) -> None:
    with db.transaction(TESTS) as session:
        assert copying.begin(session, zone) is whole


def test_json_lines_hold_what_the_database_does() -> None:
    content = file_of(made_up(rows(), *TYPES, zone="Europe/Berlin"), "jsonl")
    for cell, (said, count, amount, at, day, flag) in zip(read_jsonl(content), rows(), strict=True):
        assert list(cell) == list("abcdef")
        assert (cell["a"], cell["b"], cell["f"]) == (said, count, flag)
        assert (None if cell["c"] is None else Decimal(cell["c"])) == amount
        assert (None if cell["d"] is None else datetime.fromisoformat(cell["d"])) == at
        assert cell["e"] == (None if day is None else str(day))


def test_parquet_holds_what_the_database_does() -> None:
    content = file_of(made_up(rows(), *TYPES, zone="Asia/Kolkata"), "parquet")
    assert [tuple(row.values()) for row in read_parquet(content)] == rows()
    schema = pa.parquet.read_schema(pa.BufferReader(content))
    assert pa.types.is_decimal(schema.field("c").type)
    assert schema.field("d").type == pa.timestamp("us", "Asia/Kolkata")
    assert schema.field("b").metadata[b"meaning"] == b"Column 1."


def test_parquet_refuses_a_number_it_would_have_to_round() -> None:
    with pytest.raises(pa.ArrowInvalid):
        file_of(made_up([(Decimal("1e-25"),)], Type.DECIMAL), "parquet")


def test_parquet_is_cut_in_groups_of_a_fixed_number_of_rows() -> None:
    found = made_up([(n,) for n in range(25_000)], Type.INTEGER)
    read = pa.parquet.ParquetFile(pa.BufferReader(file_of(found, "parquet"))).metadata
    assert [read.row_group(n).num_rows for n in range(read.num_row_groups)] == [
        10_000, 10_000, 5_000,
    ]  # fmt: skip


def test_excel_holds_typed_cells_and_real_dates_of_the_zone() -> None:
    plain = [row for row in rows() if row[1] not in {2**62, -(2**53) - 1}]
    fitting = [(*row[:2], row[2] if row[2] is None or len(str(row[2])) < 17 else None, *row[3:])
               for row in plain]  # fmt: skip
    content = file_of(made_up(fitting, *TYPES, zone="Europe/Berlin"), "xlsx")
    read = read_xlsx(content)
    assert len(read) == len(fitting)
    for cell, (said, count, amount, at, day, flag) in zip(read, fitting, strict=True):
        assert (cell["a"] or "") == (said or "")
        assert (cell["b"], cell["f"]) == (count, flag)
        assert number(cell["c"]) == amount
        local = at.astimezone(BERLIN).replace(tzinfo=None) if isinstance(at, datetime) else None
        assert moment(cell["d"]) == moment(local)
        assert (None if cell["e"] is None else cell["e"].date()) == day
    titles = sheets_of(content)["Usage"][0]
    assert titles == ("a", "b", "c", "d (Europe/Berlin)", "e", "f")


def test_a_full_sheet_is_followed_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(excel_file, "ROWS_MAX", 4)
    found = made_up([(n, Decimal(n)) for n in range(9)], Type.INTEGER, Type.DECIMAL, totals=[1])
    sheets = sheets_of(file_of(found, "xlsx"))
    assert list(sheets) == ["Usage", "Usage 2", "Usage 3", "Totals", "Columns"]
    assert [len(sheets[name]) - 1 for name in list(sheets)[:3]] == [4, 4, 1]
    assert all(sheets[name][0] == ("a", "b") for name in list(sheets)[:3])
    assert sheets["Totals"][1:] == [("rows", 9, "9"), ("b", 36, "36")]


def test_the_totals_are_exact_as_text_where_a_number_is_not() -> None:
    amounts = [Decimal("99999999999.999999999"), Decimal("0.000000001"), None]
    found = made_up([(one, 1) for one in amounts], Type.DECIMAL, Type.INTEGER, totals=[0, 1])
    sheet = sheets_of(file_of(found, "xlsx"))["Totals"]
    assert sheet[2][2] == "100000000000.000000000" and sheet[3][1:] == (3, "3")


def test_a_text_longer_than_a_cell_is_seen_to_be_cut() -> None:
    long = "x" * (excel_cells.TEXT_LENGTH_MAX + 1)
    (row,) = read_xlsx(file_of(made_up([(long,)], Type.TEXT), "xlsx"))
    assert len(row["a"]) == excel_cells.TEXT_LENGTH_MAX and row["a"].endswith("x…")
    assert read_csv(file_of(made_up([(long,)], Type.TEXT), "csv"))[0]["a"] == long


@pytest.mark.parametrize("format_name", writing.FORMATS)
def test_no_rows_are_a_file_too(format_name: str) -> None:
    content = file_of(made_up([], *TYPES), format_name)
    reader = {"csv": read_csv, "jsonl": read_jsonl, "parquet": read_parquet, "xlsx": read_xlsx}
    assert reader[format_name](content) == []
    if format_name == "csv":
        assert content == b"a,b,c,d,e,f\n"


@pytest.mark.parametrize("format_name", writing.FORMATS)
def test_the_same_rows_give_the_same_bytes(format_name: str) -> None:
    found = made_up(rows(), *TYPES, zone="Europe/Berlin", totals=[1, 2])
    assert file_of(found, format_name) == file_of(found, format_name)


def test_lines_of_csv_end_with_lf_and_nothing_differs_from_an_empty_text() -> None:
    content = file_of(made_up([("", 1), (None, 2)], Type.TEXT, Type.INTEGER), "csv")
    assert content == b'a,b\n"",1\n,2\n'


def test_a_byte_order_mark_only_where_it_is_asked_for() -> None:
    found = made_up([("ü",)], Type.TEXT)
    plain = file_of(found, "csv")
    assert file_of(found, "csv", bom=True) == b"\xef\xbb\xbf" + plain
    assert file_of(found, "jsonl", bom=True) == file_of(found, "jsonl")


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(errors.BadInput) as refused:
        file_of(made_up([], Type.TEXT), "exe")
    assert refused.value.param == "format"


FORMULAS = [
    "=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "＋1", "－1", "＠x", "  =1",  # noqa: RUF001
    "\u3000=1", "\u00a0@x", "\ufeff=1", "=cmd|' /C calc'!A0", '=HYPERLINK("http://x","y")',
    "\u3000＝1",  # noqa: RUF001
    '"=1', "'=1", "''@x", "\t'=1",
]  # fmt: skip
INNER = [
    "x;=cmd|' /C calc'!A0", "x,+1", "x\t@SUM(A1)", "x\n-1", "x\r\n=1", "x|=1", "x; =1", 'x;"=1', "x;'=1",
    "x;＝1", "a;b,=1;-2", "x;;=1", "=1;=2", "\t=1\t=2",  # noqa: RUF001
]  # fmt: skip
PLAIN = ["Pro", "a=b", "x-1", "'quoted", "https://example.com", "http://x y", "mailto:a@b.c", "5", "日本",
         "internal:Sheet!A1", "{=1}", "", "é=1"]  # fmt: skip


@pytest.mark.parametrize("said", FORMULAS)
def test_no_text_begins_a_formula(said: str) -> None:
    found = made_up([(said, -5, Decimal("-0.5"))], Type.TEXT, Type.INTEGER, Type.DECIMAL)
    (row,) = read_csv(file_of(found, "csv"))
    assert row["a"].startswith("'") and cells.unguard(row["a"]) == said
    assert (row["b"], row["c"]) == ("-5", "-0.5")
    (cells_,) = read_xlsx(file_of(found, "xlsx"))  # which refuses any cell that is a formula
    assert (cells_["a"].strip(), cells_["b"], cells_["c"]) == (said.strip(), -5, -0.5)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("said", FORMULAS + INNER)
def test_no_cell_is_a_formula_wherever_a_program_splits_the_lines(
    said: str, separator: str
) -> None:
    columns = (Type.INTEGER, Type.TEXT, Type.TEXT)
    content = file_of(made_up([(1, said, said), (2, "x", said)], *columns), "csv").decode()
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE):
        read = csv.reader(content.splitlines(), delimiter=separator, quoting=quoting)
        for cell in (cell for row in read for cell in row):
            assert not re.match('[\\s\ufeff"]*[-=+@＝＋－＠]', cell), cell  # noqa: RUF001


@pytest.mark.parametrize("said", INNER)
def test_a_text_is_read_back_from_its_cell(said: str) -> None:
    (row,) = read_csv(file_of(made_up([(said,)], Type.TEXT), "csv"))
    assert row["a"] != said and cells.unguard(row["a"]) == said
    ((excel,),) = sheets_of(file_of(made_up([(said,)], Type.TEXT), "xlsx"))["Usage"][1:]
    assert excel.replace("\r", "") == said.replace("\r", "")


@given(st.text(alphabet="=+-@;,|\t\r\n \"'x\u3000\uff1d", max_size=14))
def test_every_text_is_read_back_from_its_cell(said: str) -> None:
    assert cells.unguard(cells.guard(said)) == said


def test_every_text_is_quoted_and_no_number() -> None:
    types = (Type.TEXT, Type.INTEGER, Type.DECIMAL)
    found = made_up([("x", 1, Decimal("-0.5")), (None, None, None)], *types)
    assert file_of(found, "csv") == b'a,b,c\n"x",1,-0.5\n,,\n'


def test_the_guard_takes_time_in_proportion_to_the_text() -> None:
    for sign in (";", "'", '"', " ", "=", "; ", ";'"):
        begun = time.perf_counter()
        cells.guard(sign * (1_000_000 // len(sign)))
        assert time.perf_counter() - begun < 5, sign  # a quadratic one takes hours


@pytest.mark.parametrize("said", PLAIN)
def test_other_text_stays_as_it_is(said: str) -> None:
    (row,) = read_csv(file_of(made_up([(said,)], Type.TEXT), "csv"))
    assert row["a"] == said
    ((excel,),) = sheets_of(file_of(made_up([(said,)], Type.TEXT), "xlsx"))["Usage"][1:]
    assert (excel or "") == said


@settings(max_examples=30)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
        | st.text(alphabet="=-@;,|\t\r\n \"'x\uff1d", max_size=9),
        min_size=1, max_size=60,
    )
)  # fmt: skip
def test_postgres_guards_text_exactly_as_python_does(said: list[str]) -> None:
    read = read_csv(file_of(made_up([(one,) for one in said], Type.TEXT), "csv"))
    assert [row["a"] for row in read] == [cells.guard(one) for one in said]


def test_the_dictionary_says_what_a_column_holds() -> None:
    found = made_up([], Type.TIME, Type.TEXT, zone="Europe/Berlin")
    hostile = Column("c", Type.TEXT, "=1+1")
    (at, said, third) = read_csv(
        dictionary(Dataset("usage", (*found.columns, hostile), found.query, found.zone))
    )
    assert (at["column"], at["type"], at["meaning"]) == ("a", "time (Europe/Berlin)", "Column 0.")
    assert (said["type"], third["meaning"]) == ("text", "'=1+1")
    sheet = sheets_of(file_of(found, "xlsx"))["Columns"]
    assert sheet[1] == ("a", "time (Europe/Berlin)", "Column 0.")


@pytest.mark.parametrize(
    ("format_name", "count"),
    [("csv", 200_000), ("jsonl", 200_000), ("parquet", 200_000), ("xlsx", 20_000)],
)
def test_memory_does_not_grow_with_the_rows(format_name: str, count: int) -> None:
    """Each dataset holds more text than the memory that may be used."""
    select = f"""select n::bigint as a, repeat(md5(n::text), {260_000_000 // count // 32}) as b
from generate_series(1, {count}) as n"""
    found = replace(made_up([], Type.INTEGER, Type.TEXT), query=Query.ordered(select, "n", {}))
    process, progress = psutil.Process(), Progress()
    idle = most = process.memory_info().rss
    with db.transaction(TESTS) as session:
        for _ in writing.write(session, found, format_name, progress):
            most = max(most, process.memory_info().rss)
    assert progress.rows == count
    assert most - idle < 150 * 2**20


def test_a_query_is_ended_from_another_thread() -> None:
    select = "select n::bigint as a from generate_series(1, 2) as n where pg_sleep(20) is not null"
    found = replace(made_up([], Type.INTEGER), query=Query(select, select, {}))
    progress = Progress()
    timer = threading.Timer(0.5, progress.cancel)
    timer.start()
    begun = time.monotonic()
    with pytest.raises(errors.Unavailable), db.transaction(TESTS) as session:
        list(writing.write(session, found, "csv", progress))
    assert time.monotonic() - begun < 10
    progress.cancel()  # there is nothing left to end
    with db.transaction(TESTS) as session:
        assert session.scalar(text("select 1")) == 1


def test_a_file_given_up_gives_its_connection_back() -> None:
    found = made_up([(n, "x" * 1000) for n in range(2000)], Type.INTEGER, Type.TEXT)
    for _ in range(40):  # more than the pool has
        with db.transaction(TESTS) as session:
            blocks = writing.write(session, found, "csv", Progress())
            assert next(blocks)
            blocks.close()
