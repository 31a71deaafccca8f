"""Every part of the benchmarks runs against the product as it is now, and all its figures come out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from benchmarks import __main__ as program
from benchmarks import bars, parts
from benchmarks.bench import Bench
from benchmarks.table import HEADER, Bar, Figure

ROOT = Path(__file__).resolve().parents[2]
# What each part promises to measure.
PROMISED: dict[str, tuple[Bar, ...]] = {
    "start": (bars.START_S, bars.IDLE_MB),
    "streams": (
        *bars.FIRST_TOKEN_P50_MS.values(), *bars.FIRST_TOKEN_P95_MS.values(), bars.STREAMS_RATIO,
        bars.STREAM_CPU_RATIO, bars.STREAMS_MB, bars.NONE_FAILED,
    ),
    "calls": (bars.SHORT_CALLS_RATIO, bars.NONE_FAILED),
    "round_trips": (bars.ROUND_TRIPS, bars.COMMITS),
    "admission": (bars.ADMIT_P50_MS, bars.ADMIT_P99_MS, bars.TURNS_RATIO),
    "ledger": (bars.PAIRS_RATIO, bars.HOT_PAIRS_RATIO, bars.MONEY_MS),
    "page": (bars.RERUN_MS,),
    "browser": (bars.VISIBLE_TOKEN_MS,),
    "usage": (
        bars.QUESTION_MS, bars.QUESTION_ALL_MS, bars.USAGE_PAGE_MS, bars.SUMS_MS, bars.EVENT_RATIO,
    ),
    "export": (
        bars.EXPORT_RATIO, bars.EXPORT_MB, bars.EXPORT_FIRST_TOKEN_RATIO, bars.EXCEL_S, bars.EXCEL_MB,
    ),
}  # fmt: skip
SLOW = {"browser": pytest.mark.browser}


def test_every_part_and_every_bar_is_promised() -> None:
    known = {bar for bar in vars(bars).values() if isinstance(bar, Bar)}
    assert set(PROMISED) == set(parts.PARTS)
    assert known <= {bar for promised in PROMISED.values() for bar in promised}


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=SLOW.get(name, ())) for name in parts.PARTS]
)
def test_a_part_gives_a_number_for_every_figure(name: str) -> None:
    """A run as `make bench` does it, of seconds; in a process of its own, for it brings a database."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--smoke", "--only", name],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    at_once, whole = (_rows(part) for part in done.stdout.split(HEADER)[1:])
    assert "FAILED" not in done.stdout, done.stderr[-3000:]
    assert at_once and at_once == whole
    for metric, measured, passes, *_ in whole:
        assert float(measured) >= 0 or not passes, metric
        assert measured != "-", metric
    assert len([row for row in whole if row[2]]) >= len(PROMISED[name])


def test_what_was_measured_before_a_part_fails_is_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaks(_: Bench) -> Iterator[Figure]:
        yield Figure("before", "ms", None, 1.0)
        raise RuntimeError("no disk")

    def works(_: Bench) -> Iterator[Figure]:
        yield Figure("after", "ms", None, 2.0)

    monkeypatch.setattr(parts, "PARTS", {"breaks": breaks, "works": works})
    figures, failed = program.measure(cast("Bench", SimpleNamespace()), ["breaks", "works"])
    shown = capsys.readouterr()
    assert [figure.metric for figure in figures] == ["before", "after"]
    assert failed == ["breaks"] and "no disk" in shown.err
    assert shown.out.index("before") < shown.out.index("after")


def _rows(table: str) -> list[list[str]]:
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
