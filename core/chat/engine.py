"""The engine: streams answers from providers on the server's event loop, and alone ends every call.

It never lives in a page's script: a click, a reload or a lost socket ends a script, not a call. Its
threads serve running calls and nothing else: heartbeats, settlements and admissions each have their
own, and no tenant can have all of them. The loop itself never waits for the database.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from functools import partial
from typing import TypeVar
from uuid import UUID

import structlog

from core import errors, telemetry
from core.catalog.providers import Provider
from core.chat import endings
from core.chat.runs import Run
from core.lanes import Lane
from core.metering.calls import RENEW_EVERY_S, Beat
from core.threads import Threads

SAVE_EVERY_S = 0.5
_SAVE_EVERY_MAX_S = 5.0
_SAVED_AT_ONCE = 32 * 1024  # characters up to which the text is saved with every heartbeat
CLIENT_GONE_READ_ON_S = 60.0
_SETTLE_RETRY_S = (0.2, 0.5, 1, 2, 5)
_SETTLE_PATIENCE_S = 600.0
_ADMISSION_PATIENCE_S = 6.0
_THREADS_PATIENCE_S = 30.0

T = TypeVar("T")
log = structlog.get_logger(__name__)


class Engine:
    """All calls running in this process. Made in the lifespan, on the loop it runs on."""

    def __init__(self, providers: dict[str, Provider]) -> None:
        self.loop = asyncio.get_running_loop()
        self.providers = providers
        self.draining = False
        self._closed = False
        self._runs: dict[UUID, Run] = {}
        self._tasks: dict[UUID, asyncio.Task[None]] = {}
        self._streams: dict[UUID, asyncio.Task[None]] = {}
        # As many threads as the lane has connections.
        self._beats = Threads(Lane.ENGINE, 2, each_max=1)
        self._settlements = Threads(Lane.ENGINE, 3, each_max=2)
        self._admissions = Threads(
            Lane.ENGINE, 3, each_max=2, asked_max=400, each_asked_max=200,
            wait_s=_ADMISSION_PATIENCE_S,
        )  # fmt: skip

    async def admit(
        self, whose: Hashable, function: Callable[..., T], *arguments: object, **named: object
    ) -> T:
        """Call a function that resolves a caller or opens a call, in a thread kept for that.

        `whose` is the tenant, or what stands for it before it is known: nobody has all threads.
        Raises errors.Busy when too many wait.
        """
        return await self._admissions.run(whose, function, *arguments, **named)

    def admit_from_thread(
        self, whose: Hashable, function: Callable[..., T], *arguments: object, **named: object
    ) -> T:
        """`admit` for a page's script; it waits in line with everybody's calls."""
        admission = self.admit(whose, function, *arguments, **named)
        return asyncio.run_coroutine_threadsafe(admission, self.loop).result(_THREADS_PATIENCE_S)

    def start(self, run: Run) -> None:
        """Begin answering an open call. On the loop only; other threads use `submit`."""
        call_id = run.call.call_id
        self._runs[call_id] = run
        self._tasks[call_id] = task = self.loop.create_task(self._answer(run))
        task.add_done_callback(partial(_log_failure, "engine.call_left_to_reaper"))

    def submit(self, run: Run) -> None:
        """`start` from any other thread. The run can be followed at once."""
        self._runs[run.call.call_id] = run
        self.loop.call_soon_threadsafe(self.start, run)

    def find(self, call_id: UUID) -> Run | None:
        """The run of a call of this process, while it is running."""
        return self._runs.get(call_id)

    def refuse_when_draining(self) -> None:
        """Raise errors.Draining when the process is about to end."""
        if self.draining:
            raise errors.Draining("The server is restarting. Please try again.", retry_after_s=5)

    def stop(self, call_id: UUID) -> None:
        """Stop the provider's stream of a call of this process now; safe from any thread."""
        self.loop.call_soon_threadsafe(self._cancel_stream, call_id)

    def client_gone(self, run: Run) -> None:
        """Nobody listens any more: read on to the end for some time, then stop and settle."""
        self.loop.call_later(CLIENT_GONE_READ_ON_S, self._cancel_stream, run.call.call_id)

    async def drain(self, grace_s: float) -> None:
        """Take nothing new, let running calls end for `grace_s`, then cut and settle the rest."""
        self.draining = True
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=grace_s)
        for run in list(self._runs.values()):
            run.answer.outcome = "cut"
            self._cancel_stream(run.call.call_id)
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=grace_s)
        self._closed = True
        for threads in (self._beats, self._settlements, self._admissions):
            threads.close()

    async def _answer(self, run: Run) -> None:
        """Stream, settle, and tell the readers: whatever happens in between."""
        call = run.call
        telemetry.open_streams.inc()
        beats = self.loop.create_task(self._keep_lease(run))
        try:
            await self._stream(run)
        finally:
            beats.cancel()
            try:
                await self._settle(run)
            finally:
                run.finish()
                self._runs.pop(call.call_id, None)
                self._tasks.pop(call.call_id, None)
                telemetry.open_streams.dec()

    async def _stream(self, run: Run) -> None:
        call = run.call
        stream = self.loop.create_task(
            self.providers[call.provider].stream(
                call, run.request, run.answer, deadlines=call.deadlines,
                on_delta=run.publish, on_generation=partial(self._save_generation, run),
            )
        )  # fmt: skip
        self._streams[call.call_id] = stream
        try:
            await asyncio.wait({stream})
        finally:
            self._streams.pop(call.call_id, None)
        if self.draining and run.answer.outcome == "stopped":
            run.answer.outcome = "cut"
        if not stream.cancelled() and (error := stream.exception()) is not None:
            log.error("engine.stream_failed", call_id=str(call.call_id), exc_info=error)
            endings.mark_failed(run.answer)

    async def _keep_lease(self, run: Run) -> None:
        """Renew the lease and save what is new of the text; obey a stop asked for elsewhere."""
        every_s = RENEW_EVERY_S if run.turn is None else SAVE_EVERY_S
        pause_s, text_due = every_s, 0.0
        while True:
            await asyncio.sleep(pause_s)
            with_text = len(run.answer.deltas) > run.saved.deltas and self.loop.time() >= text_due
            try:
                found: Beat = await self._beats.run(
                    run.call.tenant_id, endings.save_so_far, run, with_text=with_text
                )
            except errors.Unavailable:
                # The call goes on, and so does the trying: a lease that ends is lost to the reaper.
                pause_s = SAVE_EVERY_S
                continue
            pause_s = every_s
            if with_text:
                text_due = self.loop.time() + _save_pause_s(run.saved.text_length) - every_s / 2
            if found.stop or not found.alive:
                self._cancel_stream(run.call.call_id)
                return

    def _save_generation(self, run: Run, generation_id: str) -> None:
        saving = self._beats.run(run.call.tenant_id, endings.save_generation, run, generation_id)
        task = self.loop.create_task(saving)
        task.add_done_callback(partial(_log_failure, "engine.generation_not_saved"))

    async def _settle(self, run: Run) -> None:
        """Book the end of the call; while the database is away or busy, again and again."""
        give_up_at = self.loop.time() + _SETTLE_PATIENCE_S
        attempt = 0
        while True:
            try:
                await self._settlements.run(run.call.tenant_id, endings.settle, run)
                return
            except errors.Unavailable:
                if self.loop.time() > give_up_at or self._closed:
                    telemetry.alarm("settlement_left_to_reaper", call_id=str(run.call.call_id))
                    return
            await asyncio.sleep(_SETTLE_RETRY_S[min(attempt, len(_SETTLE_RETRY_S) - 1)])
            attempt += 1

    def _cancel_stream(self, call_id: UUID) -> None:
        if stream := self._streams.get(call_id):
            stream.cancel()


def _save_pause_s(length: int) -> float:
    """Seconds until a text of this length is saved again. Each saving writes the row anew, so a long
    text is saved less often: the database writes at most some 64 kB/s for one answer."""
    return SAVE_EVERY_S * min(max(1.0, length / _SAVED_AT_ONCE), _SAVE_EVERY_MAX_S / SAVE_EVERY_S)


def _log_failure(event: str, task: asyncio.Task[T]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error(event, exc_info=error)


_engine: Engine | None = None


def install(engine: Engine | None) -> None:
    """Make `engine` this process's; None when it ends."""
    global _engine  # noqa: PLW0603 - one engine per process, set by the lifespan
    _engine = engine


def current() -> Engine:
    """This process's engine. Raises errors.Draining where none runs."""
    if _engine is None:
        raise errors.Draining("The server is starting. Please try again.", retry_after_s=2)
    return _engine


def running(call_id: UUID) -> Run | None:
    """The run of a call, if it runs in this process."""
    return _engine.find(call_id) if _engine else None
