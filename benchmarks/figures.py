"""The rows of the table about usage and exports, from what usage.py and export.py measured."""

from __future__ import annotations

from datetime import UTC, datetime

from benchmarks import bars, excel, export, product, usage
from benchmarks.bench import Bench
from benchmarks.events import Size
from benchmarks.quantiles import median
from benchmarks.table import Figure


def of_usage(bench: Bench) -> list[Figure]:
    """The dashboard's questions over months of events; the baseline column is the raw events."""
    dsn, empty_dsn = bench.cluster.create("usage"), bench.cluster.create("usage_empty")
    product.migrate(dsn)
    product.migrate(empty_dsn)
    today = datetime.now(UTC).date()
    with usage.filled(dsn, Size(bench.scale.events), today.replace(day=1)) as made:
        found = usage.ask(made, today)
        kept = usage.keep(dsn, empty_dsn, made)
    bench.notes.append(f"usage: {made.events:,} events, made at {made.events_per_s:,.0f}/s")
    rows = [
        Figure(f"{one.question}, one tenant, p95", "ms", bars.QUESTION_MS, one.p95_ms, one.raw_ms)
        for one in found.tenant
    ]
    rows += [
        Figure(f"{one.question}, all, p95", "ms", bars.QUESTION_ALL_MS, one.p95_ms, one.raw_ms)
        for one in found.everyone
    ]
    return [
        *rows,
        Figure("12 months, one tenant, worst p95", "ms", bars.QUESTION_MS, found.tenant_year_p95_ms),
        Figure("12 months, all, worst p95", "ms", bars.QUESTION_ALL_MS, found.everyone_year_p95_ms),
        Figure("one tenant's page, 30 days, every question", "ms", bars.USAGE_PAGE_MS, found.page_ms),
        Figure("sums of an event in its settlement", "ms", bars.SUMS_MS, kept.sums_ms),
        Figure(
            "adding an event after the last, ratio to the first", "", bars.EVENT_RATIO,
            kept.last_event_ms / kept.first_event_ms, 1.0,
        ),
    ]  # fmt: skip


def of_export(bench: Bench) -> list[Figure]:
    """A large CSV file; the baseline column is Postgres' own COPY. Then Excel files."""
    if bench.setup is None:
        return [Figure("export as CSV, ratio to COPY", "", bars.EXPORT_RATIO)]
    prepared = export.prepare(bench.setup.dsn, bench.scale.export_rows)
    speeds = [export.speed(bench.setup.dsn, prepared) for _ in range(bench.scale.rounds)]
    with bench.product() as running:
        served = export.serve(running, prepared, bench.scale.slice_s) if running else None
        built = excel.build(running, prepared, 2 * bench.scale.slice_s) if running else None
    bench.notes.append(f"export: {speeds[0].rows:,} rows, {speeds[0].size_bytes:,} bytes")
    rows = [
        Figure(
            "export as CSV, speed, ratio to COPY", "", bars.EXPORT_RATIO,
            median([one.copy_s / one.ours_s for one in speeds]), 1.0,
        ),
        Figure(
            "the same, ratio to COPY of the table's columns alone", "", None,
            median([one.table_s / one.ours_s for one in speeds]), 1.0,
        ),
        Figure(
            "export as CSV", "s", None, median([one.ours_s for one in speeds]),
            median([one.copy_s for one in speeds]),
        ),
    ]  # fmt: skip
    if served is None or built is None:
        return rows
    return [
        *rows,
        Figure("memory above idle while it is sent", "MB", bars.EXPORT_MB, served.above_idle_mb),
        Figure(
            "first token p95 beside it, ratio to without", "", bars.EXPORT_FIRST_TOKEN_RATIO,
            served.busy.ttft_ms.p95 / served.quiet.ttft_ms.p95, 1.0,
        ),
        Figure("the same", "ms", None, served.busy.ttft_ms.p95, served.quiet.ttft_ms.p95),
        *_of_excel(built),
    ]  # fmt: skip


def _of_excel(built: excel.Built) -> list[Figure]:
    """Files that the product builds while people chat; the baseline column is the chats alone."""
    return [
        Figure(
            "100,000 rows as Excel, beside chats", "s", bars.EXCEL_S,
            built.seconds * excel.ROWS / built.rows,
        ),
        Figure("memory above idle while it is built", "MB", bars.EXPORT_MB, built.above_idle_mb),
        Figure("memory of the process that writes it", "MB", bars.EXCEL_MB, built.writer_mb),
        Figure(
            "first token p95 beside it, ratio to without", "", bars.EXPORT_FIRST_TOKEN_RATIO,
            built.busy.ttft_ms.p95 / built.quiet.ttft_ms.p95, 1.0,
        ),
        Figure("the same", "ms", None, built.busy.ttft_ms.p95, built.quiet.ttft_ms.p95),
    ]  # fmt: skip
