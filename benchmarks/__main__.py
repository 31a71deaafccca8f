"""`python -m benchmarks`: the product beside its baselines in one run, as one Markdown table.

Everything runs on loopback and in a temporary database. Only ratios within a run mean something
on a shared machine; exit status 1 when a figure misses its bar or was not measured.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys

from benchmarks import database, parts, processes, product
from benchmarks.bench import FULL, QUICK, Bench, Scale
from benchmarks.table import Figure, markdown


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round of everything")
    parser.add_argument(
        "--only",
        action="append",
        choices=list(parts.PARTS),
        metavar="NAME",
        help=f"run only this part, repeatable: {', '.join(parts.PARTS)}",
    )
    parser.add_argument("--baselines", action="store_true", help="leave the product out")
    args = parser.parse_args()
    scale = QUICK if args.quick else FULL
    load_before = os.getloadavg()[0]
    with database.temporary_cluster() as cluster, processes.running_upstream() as upstream:
        bench = Bench(
            scale=scale,
            cluster=cluster,
            upstream=upstream,
            minimal_dsn=cluster.create("minimal"),
            setup=None if args.baselines else _prepared(cluster, upstream),
        )
        figures = _measured(bench, args.only or list(parts.PARTS))
    print(_conditions(scale, load_before), "", markdown(figures), sep="\n")
    for note in bench.notes:
        print(f"\n- {note}", end="")
    print("\n\nIn the page and Chromium rows the baseline is a bare Streamlit page.")
    judged = [figure for figure in figures if figure.bar]
    return 0 if all(figure.verdict in {"goal", "pass"} for figure in judged) else 1


def _prepared(cluster: database.Cluster, upstream: processes.Server) -> product.Setup:
    return product.prepare_product(cluster.create("product"), upstream.url)


def _measured(bench: Bench, names: list[str]) -> list[Figure]:
    figures: list[Figure] = []
    for name in names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        figures += parts.PARTS[name](bench)
    return figures


def _conditions(scale: Scale, load_before: float) -> str:
    return (
        f"Python {platform.python_version()}, {os.cpu_count()} cores, load {load_before:.1f} before"
        f" and {os.getloadavg()[0]:.1f} after; {scale.rounds} round(s) of {scale.slice_s:.0f} s,"
        " medians over rounds."
    )


if __name__ == "__main__":
    sys.exit(main())
