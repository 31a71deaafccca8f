"""What the parts of a run share: how long to measure, the servers, and figures over rounds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

from benchmarks import fakes, load, processes, product
from benchmarks.database import Cluster
from benchmarks.quantiles import median

Pick = Callable[[load.Slice], float]


@dataclass(frozen=True, slots=True)
class Scale:
    """How long things are measured. A share of each slice is its ramp, which is not counted."""

    rounds: int
    slice_s: float
    reruns: int
    browser_turns: int
    events: int
    export_rows: int
    repeats: int = 20
    ramp: float = 0.25


FULL = Scale(
    rounds=3, slice_s=10.0, reruns=50, browser_turns=10, events=10_000_000, export_rows=1_000_000
)
QUICK = Scale(
    rounds=1, slice_s=5.0, reruns=15, browser_turns=3, events=500_000, export_rows=100_000
)
# Whether every figure still comes out, not what it is: a slice has no ramp, so that its first requests
# count.
SMOKE = Scale(
    rounds=1,
    slice_s=0.3,
    reruns=2,
    browser_turns=1,
    events=3_000,
    export_rows=3_000,
    repeats=1,
    ramp=0,
)


@dataclass(frozen=True, slots=True)
class Bench:
    """One run. Without `setup` only the baselines are measured; `notes` collects what the table
    cannot say."""

    scale: Scale
    cluster: Cluster
    upstream: processes.Server
    minimal_dsn: str
    setup: product.Setup | None
    notes: list[str] = field(default_factory=list)

    @contextmanager
    def targets(self) -> Iterator[list[load.Target]]:
        """Direct upstream, minimal gateway and product, started and warm, in this order."""
        with self.minimal() as minimal, self.product() as running:
            servers = [self.upstream, minimal, *([running.server] if running else [])]
            yield [load.Target(s.name, s.url, s.key, (s.pid,)) for s in servers]

    @contextmanager
    def minimal(self) -> Iterator[processes.Server]:
        """The minimal gateway."""
        with processes.running_minimal_gateway(self.minimal_dsn, self.upstream.url) as server:
            yield server

    @contextmanager
    def product(self) -> Iterator[product.Product | None]:
        """The product, or None where only the baselines are measured."""
        with product.start_product(self.setup) if self.setup else nullcontext() as running:
            yield running

    def plan(self, users: int, seconds: float, model: str = fakes.STREAM_MODEL) -> load.Plan:
        """So many users for so long, at this run's scale."""
        return load.Plan(users, seconds, model, ramp_s=seconds * self.scale.ramp)


@dataclass(frozen=True, slots=True)
class Rounds:
    """The slices of all targets, read as medians over rounds; NaN for a target that is absent."""

    slices: Mapping[str, Sequence[load.Slice]]

    def value(self, name: str, pick: Pick) -> float:
        return median([pick(one) for one in self.slices.get(name, ())])

    def above(self, name: str, base: str, pick: Pick) -> float:
        """By how much the target exceeds the base of the same round."""
        return median([pick(one) - pick(other) for one, other in self._pairs(name, base)])

    def ratio(self, name: str, base: str, pick: Pick) -> float:
        """The target as a share of the base of the same round."""
        pairs = [(pick(one), pick(other)) for one, other in self._pairs(name, base)]
        return median([one / other if other else math.nan for one, other in pairs])

    def failures(self, name: str) -> Counter[str]:
        """Failed requests by what was wrong with them."""
        return sum((Counter(one.errors) for one in self.slices.get(name, ())), Counter[str]())

    def _pairs(self, name: str, base: str) -> list[tuple[load.Slice, load.Slice]]:
        return list(zip(self.slices.get(name, ()), self.slices.get(base, ()), strict=False))
