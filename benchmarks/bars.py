"""The bars: what every figure must reach, and what it should."""

from __future__ import annotations

from benchmarks.table import Bar

NONE_FAILED = Bar(0, 0)
FIRST_TOKEN_P50_MS = {1: Bar(8, 6), 50: Bar(8, 6), 100: Bar(15, 8)}
FIRST_TOKEN_P95_MS = {50: Bar(20, 10), 100: Bar(60, 15)}
STREAMS_RATIO = Bar(0.98, 0.99, at_least=True)
STREAM_CPU_RATIO = Bar(1.6, 1.3)
SHORT_CALLS_RATIO = Bar(0.5, 0.7, at_least=True)
ROUND_TRIPS = Bar(3, 2)
COMMITS = Bar(1, 1)
ADMIT_P50_MS = Bar(2, 1)
ADMIT_P99_MS = Bar(6, 3)
TURNS_RATIO = Bar(0.25, 0.4, at_least=True)
PAIRS_RATIO = Bar(0.4, 0.6, at_least=True)
HOT_PAIRS_RATIO = Bar(0.9, 1.0, at_least=True)
MONEY_MS = Bar(5, 3)
QUESTION_MS = Bar(100, 50)
QUESTION_ALL_MS = Bar(500, 250)
USAGE_PAGE_MS = Bar(300, 150)
SUMS_MS = Bar(1, 0.5)
EVENT_RATIO = Bar(1.2, 1.0)
EXPORT_RATIO = Bar(0.6, 0.8, at_least=True)
EXPORT_MB = Bar(150, 50)
EXPORT_FIRST_TOKEN_RATIO = Bar(1.5, 1.2)
EXCEL_S = Bar(60, 20)
EXCEL_MB = Bar(100, 60)
RERUN_MS = Bar(40, 20)
VISIBLE_TOKEN_MS = Bar(80, 45)
IDLE_MB = Bar(250, 180)
STREAMS_MB = Bar(320, 220)
START_S = Bar(4, 3)
