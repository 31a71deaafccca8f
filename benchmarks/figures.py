"""The rows of the table about usage and exports, from what usage.py and export.py measure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from benchmarks import bars, excel, export, load, product, usage
from benchmarks.bench import Bench
from benchmarks.events import Size
from benchmarks.quantiles import median
from benchmarks.table import Figure

CHATS = 10


def of_usage(bench: Bench) -> Iterator[Figure]:
    """The dashboard's questions over months of events; the baseline column is the raw events."""
    dsn, empty_dsn = bench.cluster.create("usage"), bench.cluster.create("usage_empty")
    product.migrate(dsn)
    product.migrate(empty_dsn)
    today, repeats = datetime.now(UTC).date(), bench.scale.repeats
    with usage.filled(dsn, Size(bench.scale.events), today.replace(day=1)) as made:
        bench.notes.append(f"usage: {made.events:,} events, made at {made.events_per_s:,.0f}/s")
        page_ms = 0.0
        for who, whose, bar in (
            (usage.admin(made), "one tenant", bars.QUESTION_MS),
            (usage.EVERYONE, "all", bars.QUESTION_ALL_MS),
        ):
            for one in usage.month(who, today, repeats):
                yield Figure(f"{one.question}, {whose}, p95", "ms", bar, one.p95_ms, one.raw_ms)
                page_ms += one.median_ms if who is not usage.EVERYONE else 0
            worst_ms = usage.year_p95_ms(who, today, repeats)
            yield Figure(f"12 months, {whose}, worst p95", "ms", bar, worst_ms)
        yield Figure(
            "one tenant's page, 30 days, every question", "ms", bars.USAGE_PAGE_MS, page_ms
        )
        kept = usage.keep(dsn, empty_dsn, made)
        yield Figure("adding an event to its sums, in batches", "ms", bars.SUMS_MS, kept.sums_ms)
        yield Figure(
            "adding an event after the last, ratio to the first", "", bars.EVENT_RATIO,
            kept.last_event_ms / kept.first_event_ms, 1.0,
        )  # fmt: skip


def of_export(bench: Bench) -> Iterator[Figure]:
    """A large CSV file; the baseline column is Postgres' own COPY. Then Excel files."""
    if bench.setup is None:
        yield Figure("export as CSV, ratio to COPY", "", bars.EXPORT_RATIO)
        return
    prepared = export.prepare(bench.setup.dsn, bench.scale.export_rows)
    speeds = [export.speed(bench.setup.dsn, prepared) for _ in range(bench.scale.rounds)]
    bench.notes.append(f"export: {speeds[0].rows:,} rows, {speeds[0].size_bytes:,} bytes")
    yield Figure(
        "export as CSV, speed, ratio to COPY", "", bars.EXPORT_RATIO,
        median([one.copy_s / one.ours_s for one in speeds]), 1.0,
    )  # fmt: skip
    yield Figure(
        "the same, ratio to COPY of the table's columns alone", "", None,
        median([one.table_s / one.ours_s for one in speeds]), 1.0,
    )  # fmt: skip
    yield Figure(
        "export as CSV", "s", None, median([one.ours_s for one in speeds]),
        median([one.copy_s for one in speeds]),
    )  # fmt: skip
    with bench.product() as running:
        if running is None:
            return
        plan = bench.plan(CHATS, bench.scale.slice_s)
        served = export.serve(running, prepared, plan)
        yield Figure(
            "memory above idle while it is sent", "MB", bars.EXPORT_MB, served.above_idle_mb
        )
        yield from _first_tokens(served.busy, served.quiet)
        built = excel.build(running, prepared, bench.plan(CHATS, 2 * bench.scale.slice_s))
        yield from _of_excel(built)


def _first_tokens(busy: load.Slice, quiet: load.Slice) -> Iterator[Figure]:
    ratio = busy.ttft_ms.p95 / quiet.ttft_ms.p95
    yield Figure(
        "first token p95 beside it, ratio to without", "", bars.EXPORT_FIRST_TOKEN_RATIO, ratio, 1.0
    )
    yield Figure("the same", "ms", None, busy.ttft_ms.p95, quiet.ttft_ms.p95)


def _of_excel(built: excel.Built) -> Iterator[Figure]:
    """Files that the product builds while people chat; the baseline column is the chats alone."""
    yield Figure(
        "100,000 rows as Excel, beside chats", "s", bars.EXCEL_S,
        built.seconds * excel.ROWS / built.rows,
    )  # fmt: skip
    yield Figure("memory above idle while it is built", "MB", bars.EXPORT_MB, built.above_idle_mb)
    yield Figure("memory of the process that writes it", "MB", bars.EXCEL_MB, built.writer_mb)
    yield from _first_tokens(built.busy, built.quiet)
