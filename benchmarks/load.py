"""The load client: virtual users against OpenAI-compatible servers, several targets interleaved.

It costs microseconds per chunk, checks every answer word by word, and talks to loopback only.

    python -m benchmarks.load -c 50 -t 8 --target direct=http://127.0.0.1:9100/v1=none \\
        --target product=http://127.0.0.1:8501/v1=KEY --pid product=12345
"""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson
import uvloop

from benchmarks import fakes
from benchmarks.quantiles import Quantiles, median, quantiles
from benchmarks.sampling import sampled
from benchmarks.wire import BrokenResponseError, Connection, Reply

LOOPBACK = frozenset({"127.0.0.1", "localhost"})
PAUSE_AFTER_ERROR_S = 0.05
PAUSE_BETWEEN_SLICES_S = 0.5
PROMPT = "Say something short about the sea."


@dataclass(frozen=True, slots=True)
class Target:
    """A server under load: `url` ends in `/v1`; `pids` are sampled while it is its turn."""

    name: str
    url: str
    key: str
    pids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """How one slice (one target, one round) is driven. Users start spread over `ramp_s`, and what
    began in the ramp is checked but not counted."""

    users: int
    seconds: float
    model: str = fakes.STREAM_MODEL
    stream: bool = True
    ramp_s: float = 0.0
    timeout_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One finished request of one user; times are `time.perf_counter()` seconds."""

    started_s: float
    ended_s: float
    first_token_s: float
    gaps_s: tuple[float, ...]
    error: str


@dataclass(frozen=True, slots=True)
class Slice:
    """What one target did in one round; times in milliseconds. `cpu_ms_per_request` covers all
    requests of the slice, the ramp included; NaN without pids."""

    requests: int
    errors: Mapping[str, int]
    per_s: float
    ttft_ms: Quantiles
    total_ms: Quantiles
    gap_ms: Quantiles
    cpu_ms_per_request: float
    rss_peak_mb: float


def interleave(targets: Sequence[Target], plan: Plan, rounds: int) -> dict[str, list[Slice]]:
    """Every target once per round, each round beginning with another; slices by target name."""
    return uvloop.run(_interleave(targets, plan, rounds))


async def _interleave(targets: Sequence[Target], plan: Plan, rounds: int) -> dict[str, list[Slice]]:
    slices: dict[str, list[Slice]] = {target.name: [] for target in targets}
    for number in range(rounds):
        shift = number % len(targets)
        for target in [*targets[shift:], *targets[:shift]]:
            slices[target.name].append(await run_slice(target, plan))
            await asyncio.sleep(PAUSE_BETWEEN_SLICES_S)
    return slices


async def run_slice(target: Target, plan: Plan) -> Slice:
    """Drive one target with all users of the plan until its seconds are over."""
    request = request_bytes(target, plan)
    begin = time.perf_counter()
    async with sampled(target.pids) as footprint:
        users = [_User(target, plan, request, begin, number) for number in range(plan.users)]
        samples_by_user = await asyncio.gather(*(user.run() for user in users))
    everything = [sample for samples in samples_by_user for sample in samples]
    counted_from = begin + plan.ramp_s
    counted = [s for s in everything if s.started_s >= counted_from and not s.error]
    finished = sum(1 for sample in everything if not sample.error)
    has_cpu = bool(target.pids) and finished > 0
    return Slice(
        requests=len(counted),
        errors=Counter(sample.error for sample in everything if sample.error),
        per_s=sum(_rate(samples, counted_from) for samples in samples_by_user),
        ttft_ms=quantiles((s.first_token_s - s.started_s for s in counted), 1000),
        total_ms=quantiles((s.ended_s - s.started_s for s in counted), 1000),
        gap_ms=quantiles((gap for s in counted for gap in s.gaps_s), 1000),
        cpu_ms_per_request=footprint.cpu_s * 1000 / finished if has_cpu else math.nan,
        rss_peak_mb=footprint.rss_peak_mb if target.pids else math.nan,
    )


def _rate(samples: Sequence[Sample], counted_from: float) -> float:
    """A user's finished requests per second, from its first counted start to its last end: free
    of the rounding that counting whole requests in a fixed window brings."""
    counted = [sample for sample in samples if sample.started_s >= counted_from]
    if not counted:
        return 0.0
    finished = sum(1 for sample in counted if not sample.error)
    return finished / (counted[-1].ended_s - counted[0].started_s)


class _User:
    """One virtual user: one connection, one request after the other."""

    def __init__(
        self, target: Target, plan: Plan, request: bytes, begin: float, number: int
    ) -> None:
        address = urlsplit(target.url)
        self._host, self._port = str(address.hostname), int(address.port or 80)
        self._plan, self._request = plan, request
        self._start_s = begin + plan.ramp_s * number / plan.users
        self._end_s = begin + plan.seconds
        self._expected = expected_words(plan.model)
        self._connection: Connection | None = None

    async def run(self) -> list[Sample]:
        samples: list[Sample] = []
        await asyncio.sleep(self._start_s - time.perf_counter())
        while time.perf_counter() < self._end_s:
            sample = await self._once()
            samples.append(sample)
            if sample.error:
                await asyncio.sleep(PAUSE_AFTER_ERROR_S)
        if self._connection is not None:
            self._connection.close()
        return samples

    async def _once(self) -> Sample:
        started_s = time.perf_counter()
        try:
            connection = await self._connected()
            started_s = time.perf_counter()
            reply = await connection.exchange(self._request, self._plan.timeout_s)
        except (OSError, BrokenResponseError, TimeoutError) as error:
            if self._connection is not None:
                self._connection.close()
            name = type(error).__name__
            return Sample(started_s, time.perf_counter(), math.nan, (), f"{name}: {error}")
        fault = find_fault(reply, self._expected, stream=self._plan.stream)
        first_token_s = reply.first_token_s if reply.first_token_s is not None else math.nan
        return Sample(reply.started_s, reply.ended_s, first_token_s, tuple(reply.gaps_s), fault)

    async def _connected(self) -> Connection:
        if self._connection is None or not self._connection.usable:
            loop = asyncio.get_running_loop()
            _, self._connection = await loop.create_connection(Connection, self._host, self._port)
        return self._connection


def request_bytes(target: Target, plan: Plan) -> bytes:
    """The whole request, head and body; `ValueError` for anything but loopback HTTP."""
    address = urlsplit(target.url)
    if address.scheme != "http" or address.hostname not in LOOPBACK:
        raise ValueError(f"loopback http only, not {target.url}")
    body: dict[str, Any] = {
        "model": plan.model,
        "stream": plan.stream,
        "messages": [
            {"role": "system", "content": "You are helpful."},
            {"role": "user", "content": PROMPT},
        ],
    }
    if plan.stream:
        body["stream_options"] = {"include_usage": True}
    data = orjson.dumps(body)
    return (
        f"POST {address.path.rstrip('/')}/chat/completions HTTP/1.1\r\nhost: {address.netloc}\r\n"
        f"authorization: Bearer {target.key}\r\ncontent-type: application/json\r\n"
        f"accept: */*\r\ncontent-length: {len(data)}\r\n\r\n"
    ).encode() + data


def expected_words(model: str) -> list[str]:
    """The words a fake model answers with; `ValueError` for a model that is none."""
    pace = fakes.pace_of(model)
    if pace is None:
        raise ValueError(f"not a fake model: {model}")
    return fakes.text_of(pace.chunks).split()


def find_fault(reply: Reply, expected: list[str], *, stream: bool) -> str:
    """What is wrong with a reply, "" when its text is right to the word and usage came along."""
    body = b"".join(reply.body)
    if reply.status != 200:
        return f"HTTP {reply.status}: {body[:120].decode('utf-8', 'replace')}"
    try:
        text, has_usage = _read_events(body) if stream else _read_whole(body)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        return f"unreadable body: {type(error).__name__}: {error}"
    if text.split() != expected:
        return f"wrong text of {len(text)} characters"
    return "" if has_usage else "no usage"


def _read_whole(body: bytes) -> tuple[str, bool]:
    answer = orjson.loads(body)
    return answer["choices"][0]["message"]["content"], bool(answer.get("usage"))


def _read_events(body: bytes) -> tuple[str, bool]:
    pieces: list[str] = []
    has_usage = done = False
    for line in body.splitlines():
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            done = True
            continue
        chunk = orjson.loads(data)
        if "error" in chunk:
            raise ValueError("error event")
        has_usage = has_usage or bool(chunk.get("usage"))
        pieces += [c["delta"].get("content") or "" for c in chunk.get("choices") or ()]
    if not done:
        raise ValueError("no [DONE]")
    return "".join(pieces), has_usage


def table(slices: Mapping[str, Sequence[Slice]]) -> str:
    """Medians over rounds as text, one line per target; ratios are to the first target."""
    heading = (
        f"{'target':<10}{'n':>7}{'errors':>7}{'per s':>9}{'ratio':>7}{'ttft p50':>9}{'p95':>8}"
        f"{'added':>7}{'total':>9}{'gap p95':>8}{'cpu ms':>8}{'rss MB':>8}"
    )
    base = next(iter(slices.values()))
    lines = [heading]
    for name, rounds in slices.items():
        pairs = list(zip(rounds, base, strict=True))
        ratio = median([a.per_s / b.per_s if b.per_s else math.nan for a, b in pairs])
        added = median([a.ttft_ms.p50 - b.ttft_ms.p50 for a, b in pairs])
        errors = sum((Counter(r.errors) for r in rounds), Counter[str]())
        lines.append(
            f"{name:<10}{sum(r.requests for r in rounds):>7}{errors.total():>7}"
            f"{median([r.per_s for r in rounds]):>9.2f}{ratio:>7.3f}"
            f"{median([r.ttft_ms.p50 for r in rounds]):>9.2f}"
            f"{median([r.ttft_ms.p95 for r in rounds]):>8.2f}{added:>7.2f}"
            f"{median([r.total_ms.p50 for r in rounds]):>9.2f}"
            f"{median([r.gap_ms.p95 for r in rounds]):>8.2f}"
            f"{median([r.cpu_ms_per_request for r in rounds]):>8.2f}"
            f"{median([r.rss_peak_mb for r in rounds]):>8.1f}"
        )
        lines += [f"  {count} x {error}" for error, count in errors.most_common(3)]
    return "\n".join(lines)


def main() -> int:
    """Command line; exit status 1 when any request failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", action="append", required=True, help="name=url=key")
    parser.add_argument("--pid", action="append", default=[], help="name=pid, repeatable")
    parser.add_argument("-c", "--users", type=int, default=20)
    parser.add_argument("-t", "--seconds", type=float, default=8.0, help="of one slice")
    parser.add_argument("--ramp", type=float, help="seconds; default a quarter of -t")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default=fakes.STREAM_MODEL)
    parser.add_argument("--json", action="store_true", help="non-streaming calls")
    args = parser.parse_args()
    pids = [(name, int(pid)) for name, pid in (given.split("=") for given in args.pid)]
    targets = [
        Target(name, url, key, tuple(pid for owner, pid in pids if owner == name))
        for name, url, key in (given.split("=", 2) for given in args.target)
    ]
    ramp_s = args.seconds / 4 if args.ramp is None else args.ramp
    plan = Plan(args.users, args.seconds, args.model, stream=not args.json, ramp_s=ramp_s)
    slices = interleave(targets, plan, args.rounds)
    print(table(slices))
    return 1 if any(s.errors for rounds in slices.values() for s in rounds) else 0


if __name__ == "__main__":
    sys.exit(main())
