"""`export`: whole files or none, for one tenant or all, with what identifies them."""

from __future__ import annotations

import csv
import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from core import db
from core.finance.files import writing
from tests.analytics.using import use
from tests.core.cli import Run
from tests.factories import Place, make_model, make_place
from tests.finance.files_read import read_csv, read_jsonl, read_parquet, read_xlsx
from tests.identity.people import audit_rows

SPAN = ("--from", "2026-07-01", "--to", "2026-07-31")
READERS = {"csv": read_csv, "jsonl": read_jsonl, "parquet": read_parquet, "xlsx": read_xlsx}


@pytest.fixture(scope="module")
def place(database: db.Database) -> Place:
    db.install(database)
    found, model = make_place(markup="0.5"), make_model()
    for day in (3, 4):
        use(found.who, model, "0.01", at=datetime(2026, 7, day, tzinfo=UTC))
    return found


@pytest.mark.parametrize("form", writing.FORMATS)
def test_a_tenants_usage_in_every_format(run: Run, place: Place, tmp_path: Path, form: str) -> None:
    file = tmp_path / f"usage.{form}"
    answer = run(
        "export", "usage", *SPAN, "--tenant", str(place.tenant_id), "--format", form,
        "-o", str(file), "--json",
    )  # fmt: skip
    assert answer.status == 0, answer
    assert len(READERS[form](file.read_bytes())) == 2
    assert answer.facts["rows"] == 2
    assert answer.facts["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert answer.facts["size_bytes"] == file.stat().st_size
    assert list(tmp_path.iterdir()) == [file]


def test_operators_see_what_the_provider_costs_and_it_is_recorded(
    run: Run, place: Place, tmp_path: Path
) -> None:
    file = tmp_path / "usage.csv"
    run("export", "usage", *SPAN, "--tenant", str(place.tenant_id), "-o", str(file))
    (row, _) = read_csv(file.read_bytes())
    assert (row["list_cost_usd"], row["billed_cost_usd"]) == ("0.010000000", "0.015000000")
    assert "export.write" in [row[0] for row in audit_rows(f"tenant:{place.tenant_id}")]


def test_without_a_tenant_it_is_of_all(run: Run, place: Place, tmp_path: Path) -> None:
    file = tmp_path / "all.jsonl"
    answer = run("export", "daily", *SPAN, "--format", "jsonl", "--output", str(file))
    assert answer.status == 0 and answer.out.startswith(
        f"{len(read_jsonl(file.read_bytes()))} rows"
    )
    assert str(place.tenant_id) in {row["tenant_id"] for row in read_jsonl(file.read_bytes())}


def test_focus_is_a_format_of_usage(run: Run, place: Place, tmp_path: Path) -> None:
    file = tmp_path / "focus.csv"
    tenant = ("--tenant", str(place.tenant_id))
    assert run(
        "export", "usage", *SPAN, *tenant, "--format", "focus", "--bom", "-o", str(file)
    ).status == 0  # fmt: skip
    assert file.read_bytes().startswith(b"\xef\xbb\xbfBilledCost,")
    again = tmp_path / "again.csv"
    run("export", "focus", *SPAN, *tenant, "--bom", "-o", str(again))
    assert again.read_bytes() == file.read_bytes()
    assert run("export", "daily", *SPAN, "--format", "focus", "-o", str(again)).status == 2


BAD = {
    "reversed": ("--from", "2026-07-31", "--to", "2026-07-01"),
    "no date": ("--from", "yesterday", "--to", "2026-07-01"),
    "no tenant": (*SPAN, "--tenant", "nobody at all"),
    "too long": ("--from", "1000-01-01", "--to", "2026-07-01"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_leaves_no_file(run: Run, tmp_path: Path, case: str) -> None:
    file = tmp_path / "x.csv"
    answer = run("export", "usage", *BAD[case], "-o", str(file))
    assert answer.status == 2 and answer.err and not list(tmp_path.iterdir())


def test_a_file_is_replaced_only_by_a_whole_one(
    run: Run, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "x.csv"
    file.write_text("as it was")
    assert run("export", "usage", *BAD["reversed"], "-o", str(file)).status == 2
    assert file.read_text() == "as it was"
    assert run("export", "usage", *SPAN, "-o", str(file)).status == 0
    assert next(csv.reader(file.open()))[0] == "event_id" and list(tmp_path.iterdir()) == [file]


def test_a_folder_that_is_not_there_is_refused(run: Run, tmp_path: Path) -> None:
    answer = run("export", "usage", *SPAN, "-o", str(tmp_path / "no" / "x.csv"))
    assert answer.status == 2 and "Cannot write" in answer.err
