"""
What happens now, gathered once for everybody who looks.

While somebody looks, the index of decisions is counted once a second and the alerts stream
read four times a second, however many look. A viewer holds a cursor and a version instead of
a queue: one that is slow gets the newest figures and all alerts a little later, and costs no
memory. Alerts that the shared part no longer holds are read from the stream for him alone.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, TypeVar

import orjson
from anyio import CapacityLimiter, to_thread

from consumer.alert_log import AlertLog, AlertPage
from consumer.api.alert_ring import AlertRing
from consumer.api.recent import WINDOW_S, Recent
from consumer.clock import Clock
from consumer.errors import Unavailable
from consumer.live_figures import LiveFigures
from consumer.logs import get_logger

T = TypeVar("T")

FIRST_ALERTS = 50
"""Alerts that a page begins with."""

_TICK_S = 1.0
_ALERTS_EVERY_S = 0.25
_DAEMONS_EVERY_S = 2.0
# What is kept up to date after the last viewer left: a page that is loaded anew finds it.
_LINGER_S = 5.0
_SILENCE_S = 10.0
# So many seconds are counted at once: milliseconds of the server at a thousand a second.
_SLICE_S = 5
_GLIMPSES = 100
_PAGE = 500
_TOP_REASONS = 8


class DaemonReader(Protocol):
    """Whoever asks the daemons; see ``daemon_figures``."""

    def read(self) -> list[dict[str, object]]:
        """What each daemon says."""
        ...


@dataclass(frozen=True, slots=True)
class Sources:
    """Where everything comes from; ``daemons`` is None where none is configured."""

    alerts: AlertLog
    figures: LiveFigures
    daemons: DaemonReader | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One event for a viewer; ``cursor`` is what to come back with."""

    name: str
    data: bytes
    cursor: str | None = None


class Live:
    """The shared part; ``close`` ends every viewer's stream, so that a server can stop."""

    def __init__(self, sources: Sources, clock: Clock, most_viewers: int = 100) -> None:
        self._sources, self._clock = sources, clock
        self._most_viewers = most_viewers
        self._viewers, self._left_s = 0, 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self._pulse = asyncio.Event()
        self._closed = False
        # A server that hangs in one kind of question must not keep the others from being asked.
        self._limits = {name: CapacityLimiter(1) for name in ("alerts", "decisions", "daemons")}
        self._forget()

    @property
    def full(self) -> bool:
        """Whether as many look as may."""
        return self._viewers >= self._most_viewers

    async def close(self) -> None:
        """End all streams and stop gathering."""
        self._closed = True
        self._notify()
        await self._stop()

    async def follow(self, cursor: str | None, *, figures: bool) -> AsyncIterator[Message | None]:
        """
        Yield what happens from now on, None when nothing did for a while.

        Alerts come after *cursor*; without one those to come, and before them the newest
        few where *figures* asks for the page's summaries as well.
        """
        self._viewers += 1
        self._start()
        seen = 0
        try:
            while not self._closed:
                pulse, silent = self._pulse, True
                if figures and self._version > seen:
                    data, seen, silent = self._summary(seen), self._version, False
                    yield Message("summary", data)
                page = await self._alerts_after(cursor, FIRST_ALERTS if figures else 0)
                for message in _messages(page):
                    silent = False
                    yield message
                if page is not None and page.cursor != cursor:
                    cursor = page.cursor
                    continue
                with suppress(TimeoutError):
                    await asyncio.wait_for(pulse.wait(), _SILENCE_S)
                    silent = False
                if silent:
                    yield None
        finally:
            self._viewers -= 1
            self._left_s = self._clock.monotonic_s()

    async def _alerts_after(self, cursor: str | None, first: int) -> AlertPage | None:
        """Return what is new, from the stream itself where the shared part does not reach."""
        shared = self._ring.after(cursor, first)
        if shared is not None or cursor is None:
            return shared
        try:
            return await self._ask("alerts", lambda: self._sources.alerts.after(cursor, _PAGE))
        except Unavailable:
            return None

    def _forget(self) -> None:
        """Begin anew: what was gathered before a pause is too old to show."""
        self._recent, self._ring = Recent(), AlertRing()
        self._daemons: list[dict[str, object]] = []
        self._problems: dict[str, str] = {}
        self._version = 0
        self._older_s = 0
        self._encoded: dict[int, bytes] = {}

    def _start(self) -> None:
        if self._closed or (self._tasks and not any(task.done() for task in self._tasks)):
            return
        for task in self._tasks:
            task.cancel()
        self._forget()
        loops = [
            self._every(_ALERTS_EVERY_S, "alerts", self._take_alerts),
            self._every(_TICK_S, "decisions", self._take_figures),
        ]
        if self._sources.daemons is not None:
            loops.append(self._every(_DAEMONS_EVERY_S, "daemons", self._take_daemons))
        self._tasks = [asyncio.create_task(loop) for loop in loops]

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _every(self, pause_s: float, name: str, take: Callable[[], Awaitable[None]]) -> None:
        """*take* again and again while somebody looks; what fails is told and tried again."""
        while self._viewers or self._clock.monotonic_s() - self._left_s < _LINGER_S:
            try:
                await take()
            except Unavailable as error:
                self._tell(name, str(error))
            except Exception:  # noqa: BLE001 - what one figure lacks must not end all streams
                get_logger(__name__).exception("the live page lacks figures", figures=name)
                self._tell(name, "failed; the log of the service says why")
            else:
                self._tell(name, None)
            await asyncio.sleep(pause_s)

    def _tell(self, name: str, problem: str | None) -> None:
        if self._problems.get(name) == problem:
            return
        self._problems.pop(name, None)
        if problem is not None:
            self._problems[name] = problem
        self._changed()

    async def _take_alerts(self) -> None:
        alerts, ring = self._sources.alerts, self._ring
        tip = ring.tip
        if tip is None:
            ring.begin(await self._ask("alerts", lambda: alerts.newest(ring.size)))
            self._changed()
        elif ring.add(await self._ask("alerts", lambda: alerts.after(tip, _PAGE))):
            self._notify()

    async def _take_figures(self) -> None:
        """Count the newest seconds, then older ones, for late events: all at first, or in turn."""
        now_s = self._clock.now_ms() // 1000
        newest_s, oldest_s = now_s + 1 - _SLICE_S, now_s + 1 - WINDOW_S
        await self._count(newest_s)
        await self._glimpse(now_s - 2)
        self._recent.forget_before(oldest_s)
        self._changed()
        if self._older_s:
            self._older_s -= _SLICE_S
            if self._older_s < oldest_s:
                self._older_s = newest_s - _SLICE_S
            await self._count(self._older_s)
            return
        for older_s in range(newest_s - _SLICE_S, oldest_s - 1, -_SLICE_S):
            await self._count(older_s)
            await self._glimpse(older_s)
        self._older_s = newest_s
        self._changed()

    async def _count(self, since_s: int) -> None:
        until_s = since_s + _SLICE_S
        figures = self._sources.figures
        tally = await self._ask("decisions", lambda: figures.tally(since_s, until_s))
        if not tally.partial:
            self._recent.count(tally, since_s, until_s, self._version + 1)

    async def _glimpse(self, second: int) -> None:
        """Look at some decisions of one second that is over."""
        figures = self._sources.figures
        found = await self._ask("decisions", lambda: figures.glimpse(second, second + 1, _GLIMPSES))
        self._recent.glimpse(second, found, self._version + 1)

    async def _take_daemons(self) -> None:
        daemons = self._sources.daemons
        assert daemons is not None
        self._daemons = await self._ask("daemons", daemons.read)
        self._changed()

    async def _ask(self, name: str, question: Callable[[], T]) -> T:
        """Ask in a thread, one question of a kind at a time."""
        return await to_thread.run_sync(question, limiter=self._limits[name])

    def _changed(self) -> None:
        self._version += 1
        self._encoded.clear()
        self._notify()

    def _notify(self) -> None:
        pulse, self._pulse = self._pulse, asyncio.Event()
        pulse.set()

    def _summary(self, seen: int) -> bytes:
        """What changed since version *seen*, encoded once for all who saw the same."""
        data = self._encoded.get(seen)
        if data is None:
            data = self._encoded[seen] = orjson.dumps(
                {
                    "now_ms": self._clock.now_ms(),
                    "window_s": WINDOW_S,
                    "seconds": list(self._recent.changed_since(seen)),
                    "latency": self._recent.latency(),
                    "scores": self._recent.scores(),
                    "reasons": self._ring.top_reasons(_TOP_REASONS),
                    "alerts": len(self._ring),
                    "daemons": self._daemons if self._sources.daemons else None,
                    "problems": self._problems,
                }
            )
        return data


def _messages(page: AlertPage | None) -> Iterator[Message]:
    if page is None:
        return
    if page.lost:
        yield Message("gap", b"{}")
    for entry in page.entries:
        yield Message("alert", entry.alert, entry.cursor)
