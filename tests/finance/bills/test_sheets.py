"""Files as providers and spreadsheets write them, and a corpus of bad ones, each refused by its place."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from core import errors
from core.finance.bills import sheets
from core.finance.bills.rows import DayRow, Line
from core.finance.bills.sheets import Row, Sheet

NOW = datetime(2026, 11, 20, 9, tzinfo=UTC)
LINES = "generation_id,created_at,cost_total,model\n"
DAYS = "date,model,usage,requests\n"


def opened(content: str | bytes) -> Sheet:
    data = content.encode() if isinstance(content, str) else content
    return sheets.open_sheet(io.BytesIO(data), NOW)


def read(content: str | bytes) -> list[Row]:
    return list(opened(content).rows)


def test_the_providers_own_export_of_generations() -> None:
    (found,) = read(
        "generation_id,created_at,cost_total,cost_web_search,byok_usage_inference,tokens_prompt,"
        "tokens_completion,tokens_reasoning,model_permaslug,provider_name,variant,cancelled\n"
        "gen-1-a,2026-11-18 18:54:30.040,0.0123,0,0.0007,12,34,5,acme/one-20260414,Acme,free,false\n"
    )
    at = datetime(2026, 11, 18, 18, 54, 30, 40_000, tzinfo=UTC)
    assert found == Line("gen-1-a", at, "acme/one-20260414:free", 12, 34, Decimal("0.0130"))


def test_sums_by_day_with_other_names_signs_and_order() -> None:
    found = read('"Model";"Total Cost";"Day";"Request Count";"Total Tokens"\r\n'
                 '"acme/one";"$1.5";"2026-11-18";"7";"900"\r\n\r\n')  # fmt: skip
    assert found == [DayRow(date(2026, 11, 18), "acme/one", 7, 900, Decimal("1.5"))]


@pytest.mark.parametrize(
    "content",
    [
        DAYS + "2026-11-18,acme/one,0.5,2\n",
        "\ufeff" + DAYS + "2026-11-18,acme/one,0.5,2\n",
        DAYS.replace(",", ";") + "2026-11-18;acme/one;0.5;2\n",
        DAYS.replace(",", "\t") + "2026-11-18\tacme/one\t0.5\t2",
        DAYS + "2026-11-18 00:00:00,acme/one,0.5,2\n",
        DAYS + "2026-11-18T01:00:00+02:00,acme/one,5e-1,2\n".replace("11-18T", "11-19T"),
        DAYS + "\n2026-11-18T10:00:00Z, acme/one ,0.5,2\n\n",
        DAYS + '"2026-11-18","acme/one","0.5","2"\n',
    ],
)
def test_ways_to_write_the_same_row(content: str) -> None:
    assert read(content) == [DayRow(date(2026, 11, 18), "acme/one", 2, 0, Decimal("0.5"))]


def test_amounts_are_exact_as_written() -> None:
    (found,) = read(LINES + "g,2026-11-18,0.000000123456789012345678,m\n")
    assert str(found.cost_usd) == "1.23456789012345678E-7"


def test_what_looks_like_a_formula_is_text() -> None:
    (found,) = read(LINES + '"=cmd|x",2026-11-18,0.5,"=HYPERLINK(""http://x"")"\n')
    assert isinstance(found, Line)
    assert (found.generation_id, found.model) == ("=cmd|x", '=HYPERLINK("http://x")')


def test_rows_of_a_day_that_is_not_over_are_left_out_and_counted() -> None:
    sheet = opened(LINES + "a,2026-11-19 23:59:59.999,1,m\nb,2026-11-20 00:00:00,1,m\n")
    assert [row.model for row in sheet.rows] == ["m"]
    assert sheet.left_out == 1


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("", "no column says the time"),
        ("\n\n", "no column says the time"),
        ("date,model\n2026-11-18,m\n", "no column says the cost"),
        ("date,usage\n2026-11-18,1\n", "no column says the model"),
        ("date,model,usage,usage\n2026-11-18,m,1,2\n", "several columns 'usage'"),
        (DAYS, "has no rows"),
        (DAYS + "\n \n", "has no rows"),
        (DAYS + "2026-11-18,m,0.5,1\n2026-11-18,m,0.5\n", "Row 3: it has 3 columns"),
        (DAYS + "2026-11-18,m,0.5,1,9\n", "Row 2: it has 5 columns"),
        (DAYS + "18.11.2026,m,0.5,1\n", "Row 2, column 'date': '18.11.2026' is not a date"),
        (DAYS + "2026-13-18,m,0.5,1\n", "column 'date'"),
        (DAYS + "2019-11-18,m,0.5,1\n", "column 'date'"),
        (DAYS + "9999-12-31,m,0.5,1\n", "column 'date'"),
        (DAYS + "2027-01-01,m,0.5,1\n", "lies in the future"),
        (
            DAYS + "2026-11-18,m,0.5,1\n2026-11-18,m,abc,1\n",
            "Row 3, column 'usage': 'abc' is not an amount",
        ),
        (DAYS + "2026-11-18,m,,1\n", "column 'usage': '' is not an amount"),
        (DAYS + "2026-11-18,m,-0.5,1\n", "is not an amount"),
        (DAYS + "2026-11-18,m,nan,1\n", "is not an amount"),
        (DAYS + "2026-11-18,m,Infinity,1\n", "is not an amount"),
        (DAYS + "2026-11-18,m,1e99,1\n", "is not an amount"),
        (DAYS + "2026-11-18,m,1e-99,1\n", "is not an amount"),
        (DAYS + "2026-11-18,m,2000000,1\n", "is not an amount"),
        (DAYS + '2026-11-18,m,"0,5",1\n', "is not an amount"),
        (DAYS + '2026-11-18,m,"1,234.5",1\n', "is not an amount"),
        (DAYS + "2026-11-18,m,=1+1,1\n", "is not an amount"),
        (DAYS + "2026-11-18,m,٣,1\n", "is not an amount"),
        (DAYS + "2026-11-18,m,0.5,-1\n", "column 'requests': '-1' is not a whole number"),
        (DAYS + "2026-11-18,m,0.5,1.5\n", "is not a whole number"),
        (DAYS + "2026-11-18,m,0.5,1234567890123\n", "is not a whole number"),
        (DAYS + "2026-11-18,,0.5,1\n", "column 'model': '' is not a name"),
        (DAYS + f"2026-11-18,{'m' * 201},0.5,1\n", "is not a name"),
        (DAYS + "2026-11-18,m\x00,0.5,1\n", "is not a name"),
        (DAYS + "2026-11-18,m\u202em,0.5,1\n", "is not a name"),
        (LINES + ",2026-11-18,0.5,m\n", "column 'generation_id': '' is not a name"),
        (DAYS + '2026-11-18,"m,0.5,1\n', "is not CSV"),
        (DAYS + '2026-11-18,"m"x,0.5,1\n', "Row 2: this is not CSV"),
        (DAYS.encode() + b"2026-11-18,m\xff,0.5,1\n", "Row 2: the file is not UTF-8"),
        ((DAYS + "2026-11-18,m,0.5,1\n").encode("utf-16"), "Row 1: the file is not UTF-8"),
        (b"PK\x03\x04" + bytes(200), "no column says"),
        (DAYS + "x" * 70_000 + "\n", "Row 2: the line is too long"),
    ],
)
def test_a_bad_file_is_refused_by_row_and_column(content: str | bytes, named: str) -> None:
    with pytest.raises(errors.BadInput) as refused:
        read(content)
    assert named in refused.value.message


def test_a_file_that_is_too_large_or_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheets, "ROWS_MAX", 3)
    assert len(read(DAYS + "2026-11-18,m,0.5,1\n" * 3)) == 3
    with pytest.raises(errors.TooLarge, match="more than 3 rows"):
        read(DAYS + "2026-11-18,m,0.5,1\n" * 4)
    monkeypatch.setattr(sheets, "BYTES_MAX", 60)
    with pytest.raises(errors.TooLarge):
        read(DAYS + "2026-11-18,m,0.5,1\n" * 3)
