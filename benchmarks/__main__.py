"""`python -m benchmarks`: the product beside its baselines in one run, as one Markdown table.

Everything runs on loopback and in a temporary database. Only ratios within a run mean something
on a shared machine. Each figure is printed as soon as it is known and again in the table at the end; a
part that fails says so and the others go on. Exit status 1 when a part failed, or a figure misses its
bar or was not measured.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
import traceback
from collections.abc import Sequence

from benchmarks import database, parts, processes, product
from benchmarks.bench import FULL, QUICK, SMOKE, Bench, Scale
from benchmarks.table import HEADER, RULE, Figure, markdown, row


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="one short round of everything")
    size.add_argument(
        "--smoke", action="store_true", help="seconds of everything: does it still run?"
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=list(parts.PARTS),
        metavar="NAME",
        help=f"run only this part, repeatable: {', '.join(parts.PARTS)}",
    )
    parser.add_argument("--baselines", action="store_true", help="leave the product out")
    args = parser.parse_args()
    scale = SMOKE if args.smoke else QUICK if args.quick else FULL
    load_before = os.getloadavg()[0]
    with database.temporary_cluster() as cluster, processes.running_upstream() as upstream:
        bench = Bench(
            scale=scale,
            cluster=cluster,
            upstream=upstream,
            minimal_dsn=cluster.create("minimal"),
            setup=None if args.baselines else _prepared(cluster, upstream),
        )
        figures, failed = measure(bench, args.only or list(parts.PARTS))
    print(_conditions(scale, load_before), "", markdown(figures), sep="\n")
    for note in bench.notes:
        print(f"\n- {note}", end="")
    print("\n\nIn the page and Chromium rows the baseline is a bare Streamlit page.")
    for name in failed:
        print(f"\n{name}: FAILED, its figures are not complete; the reason is above.")
    judged = [figure for figure in figures if figure.bar]
    return 0 if not failed and all(one.verdict in {"goal", "pass"} for one in judged) else 1


def _prepared(cluster: database.Cluster, upstream: processes.Server) -> product.Setup:
    return product.prepare_product(cluster.create("product"), upstream.url)


def measure(bench: Bench, names: Sequence[str]) -> tuple[list[Figure], list[str]]:
    """Every figure, each printed at once, and the parts that failed: what they had by then counts."""
    figures: list[Figure] = []
    failed: list[str] = []
    print(HEADER, RULE, sep="\n", flush=True)
    for name in names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        started = time.perf_counter()
        try:
            for figure in parts.PARTS[name](bench):
                print(row(figure), flush=True)
                figures.append(figure)
        except Exception:  # noqa: BLE001 - a run of many minutes is not lost for one part
            traceback.print_exc()
            failed.append(name)
        print(f"... {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    print()
    return figures, failed


def _conditions(scale: Scale, load_before: float) -> str:
    return (
        f"Python {platform.python_version()}, {os.cpu_count()} cores, load {load_before:.1f} before"
        f" and {os.getloadavg()[0]:.1f} after; {scale.rounds} round(s) of {scale.slice_s:.0f} s,"
        " medians over rounds."
    )


if __name__ == "__main__":
    sys.exit(main())
