"""The parts of a run: each drives the product beside the baselines and yields its figures as it has
them.

A part starts the product for itself, so that parts can be run alone and do not warm each other.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks import (
    admission,
    bars,
    browser,
    fakes,
    figures,
    ledger,
    load,
    processes,
    product,
    tabs,
)
from benchmarks.bench import Bench, Rounds
from benchmarks.quantiles import Quantiles, median
from benchmarks.sampling import rss_mb
from benchmarks.table import Bar, Figure

IDLE_AFTER_S = 2.0
SHORT_CALL_USERS = 16
ADMISSION_THREADS = 16
NAMES = ("product", "minimal", "direct")


def start(bench: Bench) -> Iterator[Figure]:
    """From process start to the first served completion, and the memory of an idle process."""
    started: dict[str, list[float]] = {"product": [], "minimal": []}
    idle: dict[str, list[float]] = {"product": [], "minimal": []}
    for _ in range(bench.scale.rounds):
        begin = time.perf_counter()
        with bench.minimal() as server:
            started["minimal"].append(time.perf_counter() - begin)
            idle["minimal"].append(_idle_mb(server))
        with bench.product() as running:
            if running:
                started["product"].append(running.started_s)
                idle["product"].append(_idle_mb(running.server))
    for metric, unit, bar, of in (
        ("start to first served request", "s", bars.START_S, started),
        ("memory idle", "MB", bars.IDLE_MB, idle),
    ):
        yield Figure(metric, unit, bar, median(of["product"]), median(of["minimal"]))


def streams(bench: Bench) -> Iterator[Figure]:
    """100-chunk streams at 50 chunks a second: first token, throughput, CPU and memory."""
    with bench.targets() as targets:
        for users in bars.FIRST_TOKEN_P50_MS:
            plan = bench.plan(users, bench.scale.slice_s)
            rounds = Rounds(load.interleave(targets, plan, bench.scale.rounds))
            yield from _first_token(rounds, users)
            yield _failed(bench, rounds, _many(users))
    yield from _full_house(rounds)


def calls(bench: Bench) -> Iterator[Figure]:
    """Short non-streaming calls per second."""
    with bench.targets() as targets:
        plan = bench.plan(SHORT_CALL_USERS, bench.scale.slice_s / 2, fakes.SHORT_MODEL)
        plan = replace(plan, stream=False)
        rounds = Rounds(load.interleave(targets, plan, bench.scale.rounds))
    ratio = rounds.ratio("product", "minimal", _per_s)
    yield Figure("short calls/s, ratio to minimal", "", bars.SHORT_CALLS_RATIO, ratio, 1.0)
    yield Figure("short calls/s", "", None, *(rounds.value(name, _per_s) for name in NAMES))
    yield _failed(bench, rounds, "short calls")


def round_trips(bench: Bench) -> Iterator[Figure]:
    """What the database is asked before the first token; the minimal gateway's count is by
    construction: BEGIN, two statements, COMMIT."""
    counted = product.count_round_trips(bench.setup) if bench.setup else None
    statements, commits = (counted.statements, counted.commits) if counted else (math.nan,) * 2
    yield Figure("database round trips before first token", "", bars.ROUND_TRIPS, statements, 4)
    yield Figure("commits before first token", "", bars.COMMITS, commits, 1)


def admit(bench: Bench) -> Iterator[Figure]:
    """Admission and settlement without HTTP and provider, against TPC-B on the same server."""
    tpcb_dsn = bench.cluster.create("tpcb")
    admission.create_tpcb(tpcb_dsn)
    pgbench = bench.cluster.programs / "pgbench"
    ours = product.product_callables(bench.setup.dsn) if bench.setup else None
    results: dict[str, list[admission.Admission]] = {"product": [], "minimal": []}
    with admission.minimal_calls(bench.minimal_dsn, ADMISSION_THREADS) as baseline:
        for _ in range(bench.scale.rounds):
            for name, of in (("product", ours), ("minimal", baseline)):
                if of is not None:
                    results[name].append(_admission(bench, of, tpcb_dsn, pgbench))
    if not pgbench.exists():
        bench.notes.append("pgbench is not among the server's programs; only the Python TPC-B ran")

    def row(metric: str, unit: str, bar: Bar | None, pick: _PickAdmission) -> Figure:
        values = [median([pick(one) for one in results[name]]) for name in ("product", "minimal")]
        return Figure(metric, unit, bar, *values)

    yield from (
        row("admission p50, one client", "ms", bars.ADMIT_P50_MS, lambda a: a.admit_ms.p50),
        row("admission p99, one client", "ms", bars.ADMIT_P99_MS, lambda a: a.admit_ms.p99),
        row("admit+settle/s at 16 threads, ratio to pgbench", "", bars.TURNS_RATIO, _to_pgbench),
        row("the same, ratio to TPC-B from Python", "", None, _to_python),
        row("admit+settle/s at 16 threads", "", None, lambda a: a.turns_per_s),
        row("resolve+admit+settle/s at 16 threads", "", None, lambda a: a.whole_turns_per_s),
        row("TPC-B/s by pgbench, same server", "", None, lambda a: a.pgbench_per_s or math.nan),
    )


def money(bench: Bench) -> Iterator[Figure]:
    """The ledger alone, against TPC-B and a plain row on the same server; and a turn's share of it."""
    setup, pgbench = bench.setup, bench.cluster.programs / "pgbench"
    if setup is None or not pgbench.exists():
        bench.notes.append("the ledger is measured with the product and by pgbench only")
        yield Figure("hold+capture pairs/s, ratio to TPC-B", "", bars.PAIRS_RATIO)
        return
    tpcb_dsn, dsn = bench.cluster.create("tpcb_ledger"), bench.cluster.create("ledger")
    admission.create_tpcb(tpcb_dsn)
    product.migrate(dsn)
    ledger.prepare(dsn, pgbench)
    seconds = bench.scale.slice_s / 3
    rounds = [
        ledger.measure(dsn, tpcb_dsn, pgbench, number=number, seconds=seconds)
        for number in range(1, bench.scale.rounds + 1)
    ]
    ours = product.product_callables(setup.dsn)
    share = median([ledger.share_ms(ours, seconds) for _ in range(bench.scale.rounds)])

    def row(metric: str, bar: Bar | None, pick: Callable[[ledger.Ledger], float]) -> Figure:
        return Figure(metric, "", bar, median([pick(one) for one in rounds]))

    yield from (
        row("hold+capture pairs/s over 1,000 tenants, ratio to TPC-B", bars.PAIRS_RATIO,
            lambda one: one.pairs_per_s / one.tpcb_per_s),
        row("hold+capture pairs/s on one tenant, ratio to plain updates", bars.HOT_PAIRS_RATIO,
            lambda one: one.hot_pairs_per_s / one.plain_pairs_per_s),
        row("the same, where a commit takes 2 ms more to reach the disk", None,
            lambda one: one.slow_hot_pairs_per_s / one.slow_plain_pairs_per_s),
        Figure("money's share of a turn (resolve, admit, settle), p50", "ms", bars.MONEY_MS, share),
        row("hold+capture pairs/s over 1,000 tenants", None, lambda one: one.pairs_per_s),
        row("hold+capture pairs/s on one tenant", None, lambda one: one.hot_pairs_per_s),
        row("plain pairs of updates/s on one row", None, lambda one: one.plain_pairs_per_s),
        row("TPC-B/s by pgbench beside them", None, lambda one: one.tpcb_per_s),
    )  # fmt: skip


def page(bench: Bench) -> Iterator[Figure]:
    """A plain rerun of the chat page with 30 messages, over its websocket."""

    def measure(visit: tabs.ChatVisit) -> Quantiles:
        return tabs.rerun_ms(visit, bench.scale.reruns)

    yield _visits(bench, "plain rerun of the chat page, p50", bars.RERUN_MS, measure)


def chromium(bench: Bench) -> Iterator[Figure]:
    """In Chromium, submit to the first visible token, without the model's own wait."""

    def measure(visit: tabs.ChatVisit) -> Quantiles:
        return browser.added_first_token_ms(visit, bench.scale.browser_turns)

    metric = "Chromium: submit to first visible token, minus model"
    yield _visits(bench, metric, bars.VISIBLE_TOKEN_MS, measure)


PARTS: dict[str, Callable[[Bench], Iterator[Figure]]] = {
    "start": start,
    "streams": streams,
    "calls": calls,
    "round_trips": round_trips,
    "admission": admit,
    "ledger": money,
    "page": page,
    "browser": chromium,
    "usage": figures.of_usage,
    "export": figures.of_export,
}

_PickAdmission = Callable[[admission.Admission], float]


def _first_token(rounds: Rounds, users: int) -> list[Figure]:
    return [
        Figure(
            f"added first-token time {label}, {_many(users)}",
            "ms",
            by_users[users],
            rounds.above("product", "direct", pick),
            rounds.above("minimal", "direct", pick),
            rounds.value("direct", pick),
        )
        for label, by_users, pick in (
            ("p50", bars.FIRST_TOKEN_P50_MS, _ttft_p50),
            ("p95", bars.FIRST_TOKEN_P95_MS, _ttft_p95),
        )
        if users in by_users
    ]


def _full_house(rounds: Rounds) -> list[Figure]:
    """The figures of the round with the most streams."""
    throughput = [rounds.ratio(name, "direct", _per_s) for name in NAMES]
    cpu = [rounds.value(name, _cpu_ms) for name in NAMES]
    memory = [rounds.value(name, lambda s: s.rss_peak_mb) for name in NAMES]
    gaps = [rounds.value(name, lambda s: s.gap_ms.p95) for name in NAMES]
    ratio = rounds.ratio("product", "minimal", _cpu_ms)
    return [
        Figure("streams/s at 100, ratio to direct", "", bars.STREAMS_RATIO, *throughput),
        Figure("CPU per stream, ratio to minimal", "", bars.STREAM_CPU_RATIO, ratio, 1.0),
        Figure("CPU per stream", "ms", None, *cpu),
        Figure("pause between chunks at 100, p95", "ms", None, *gaps),
        Figure("memory at 100 streams", "MB", bars.STREAMS_MB, *memory[:2]),
    ]


def _failed(bench: Bench, rounds: Rounds, what: str) -> Figure:
    counts = []
    for name in NAMES:
        failures = rounds.failures(name)
        counts.append(float(failures.total()) if name in rounds.slices else math.nan)
        bench.notes.extend([f"{name}, {what}: {n} x {why}" for why, n in failures.most_common(3)])
    return Figure(f"failed requests, {what}", "", bars.NONE_FAILED, *counts)


def _admission(
    bench: Bench, of: admission.Calls, tpcb_dsn: str, pgbench: Path
) -> admission.Admission:
    program = pgbench if pgbench.exists() else None
    seconds = bench.scale.slice_s / 3
    return admission.measure(of, tpcb_dsn, program, threads=ADMISSION_THREADS, seconds=seconds)


def _visits(
    bench: Bench, metric: str, bar: Bar, measure: Callable[[tabs.ChatVisit], Quantiles]
) -> Figure:
    """Product and bare Streamlit page in turn; the page stands in the minimal gateway's column."""
    times: dict[str, list[float]] = {"product": [], "bare": []}
    with processes.running_bare_chat(bench.upstream.url) as url, bench.product() as running:
        visit = product.chat_visit(running) if running else None
        for _ in range(bench.scale.rounds):
            times["bare"].append(measure(tabs.ChatVisit(url)).p50)
            if visit:
                times["product"].append(measure(visit).p50)
    return Figure(metric, "ms", bar, median(times["product"]), median(times["bare"]))


def _many(users: int) -> str:
    return "1 stream" if users == 1 else f"{users} streams"


def _idle_mb(server: processes.Server) -> float:
    time.sleep(IDLE_AFTER_S)
    return rss_mb([server.pid])


def _ttft_p50(one: load.Slice) -> float:
    return one.ttft_ms.p50


def _ttft_p95(one: load.Slice) -> float:
    return one.ttft_ms.p95


def _per_s(one: load.Slice) -> float:
    return one.per_s


def _cpu_ms(one: load.Slice) -> float:
    return one.cpu_ms_per_request


def _to_pgbench(one: admission.Admission) -> float:
    return one.turns_per_s / one.pgbench_per_s if one.pgbench_per_s else math.nan


def _to_python(one: admission.Admission) -> float:
    return one.turns_per_s / one.tpcb_per_s
