"""
Both endpoints, in parallel, until the chunk's deadline.

A chunk's vectors are encoded once and cut into requests that respect each
endpoint's limits. What has not arrived at the deadline is missing: its rows are
decided without it and say why. Nothing is shared between chunks but the threads
and the breakers, and each endpoint has its own of both, so that one that hangs
cannot hold up the other.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Lock

import orjson

from consumer.breaker import Breaker, BreakerPolicy, BreakerState, Permit
from consumer.clock import Clock
from consumer.errors import Unavailable
from consumer.model import Scores
from consumer.pool import BoundedPool
from consumer.ports import Endpoint
from consumer.settings import BreakerSettings
from consumer.settings import Scoring as ScoringSettings

# A chunk of 1,000 rows makes ten requests of 100, and two chunks may be under way.
# Far more only wait when every thread is stuck, and then waiting is of no use.
_WAITING = 32
_BREAKER_OPEN = "breaker_open"


def encode_rows(rows: Sequence[Sequence[float]]) -> list[bytes]:
    """
    Encode each row as a line of CSV: ``12.5,1,0.003``.

    Floats keep their shortest exact form and whole numbers lose the ``.0``. A
    value that is no finite number becomes ``null``, which no endpoint is sent.
    About 1 µs a row of 25 values.
    """
    if not rows:
        return []
    # orjson writes floats about eight times faster than a loop over repr() does.
    text = orjson.dumps(rows)[2:-2].replace(b"],[", b"\n")
    return (text + b"\n").replace(b".0,", b",").replace(b".0\n", b"\n")[:-1].split(b"\n")


@dataclass(frozen=True, slots=True)
class _Answer:
    """One score a row, and how long they took."""

    scores: list[float]
    seconds: float


@dataclass(frozen=True, slots=True)
class _Lane:
    """An endpoint, the threads that wait for it, and what became of its newest requests."""

    endpoint: Endpoint
    pool: BoundedPool
    gate: "_Gate"


@dataclass(frozen=True, slots=True)
class _Request:
    """
    The rows (by index) that travel together to one endpoint.

    Without a permit it was not sent on purpose, and ``refusal`` is the cause;
    without a future, because every thread is busy.
    """

    lane: _Lane
    rows: tuple[int, ...]
    permit: Permit | None
    future: Future[_Answer] | None
    refusal: str = _BREAKER_OPEN


class _Gate:
    """The breaker of one endpoint on a clock, for several threads, with its changes told."""

    def __init__(
        self,
        policy: BreakerPolicy,
        slow_s: float,
        clock: Clock,
        on_change: Callable[[BreakerState], None],
    ) -> None:
        self._breaker = Breaker(policy)
        self._slow_s = slow_s
        self._clock = clock
        self._on_change = on_change
        self._lock = Lock()

    @property
    def closed(self) -> bool:
        return self.state is BreakerState.CLOSED

    @property
    def state(self) -> BreakerState:
        return self._breaker.state

    def permit(self) -> Permit | None:
        with self._lock, self._telling():
            return self._breaker.permit(self._clock.monotonic_s())

    def record(self, permit: Permit, answer: _Answer | str) -> None:
        failed = isinstance(answer, str)
        slow = not isinstance(answer, str) and answer.seconds >= self._slow_s
        with self._lock, self._telling():
            self._breaker.record(permit, self._clock.monotonic_s(), failed=failed, slow=slow)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        before = self._breaker.state
        yield
        if self._breaker.state is not before:
            self._on_change(self._breaker.state)


class PendingScores:
    """The requests of one chunk, under way until its deadline."""

    def __init__(
        self,
        encodable: Sequence[bool],
        requests: Sequence[_Request],
        remaining_s: Callable[[], float],
        on_error: Callable[[str, str], None],
    ) -> None:
        self._encodable = encodable
        self._requests = requests
        self._remaining_s = remaining_s
        self._on_error = on_error

    def result(self) -> list[Scores]:
        """
        One entry a row, in order, at the latest at the deadline; call it once.

        A score that did not arrive is None, with the cause of its request. An
        answer that comes later is dropped with this chunk.
        """
        futures = [request.future for request in self._requests if request.future is not None]
        wait(futures, timeout=max(0.0, self._remaining_s()))
        scores: list[dict[str, float]] = [{} for _ in self._encodable]
        causes: list[list[str]] = [
            [] if fine else [f"{name}:not_finite" for name in ("fraud", "anomaly")]
            for fine in self._encodable
        ]
        for request in self._requests:
            name, answer = request.lane.endpoint.name, self._answer(request)
            if isinstance(answer, str):
                for row in request.rows:
                    causes[row].append(f"{name}:{answer}")
            else:
                for row, score in zip(request.rows, answer.scores, strict=True):
                    scores[row][name] = score
        return [
            Scores(found.get("fraud"), found.get("anomaly"), tuple(cause))
            for found, cause in zip(scores, causes, strict=True)
        ]

    def _answer(self, request: _Request) -> _Answer | str:
        """The answer, or the cause of its absence; the breaker hears of what was permitted."""
        if request.permit is None:
            return request.refusal
        answer = _collect(request.future)
        request.lane.gate.record(request.permit, answer)
        if isinstance(answer, str):
            self._on_error(request.lane.endpoint.name, answer)
        return answer


class Scorer:
    """
    Sends chunks to the fraud and the anomaly endpoint.

    Of ``settings.threads``, the requests in flight at most, each endpoint has half.
    ``on_error(endpoint, cause)`` hears of every request without a usable answer
    in time, ``observe_seconds(endpoint, seconds)`` of the duration of every
    request that was sent, from the threads, and ``on_breaker(endpoint, state)``
    of every change of a breaker's state. An endpoint with an ``objection``, the cause
    why what its model says cannot be used, is sent nothing.
    """

    def __init__(  # noqa: PLR0913 - two endpoints, the settings, the clock and four hooks
        self,
        fraud: Endpoint,
        anomaly: Endpoint,
        settings: ScoringSettings,
        *,
        clock: Clock,
        on_error: Callable[[str, str], None],
        observe_seconds: Callable[[str, float], None],
        on_breaker: Callable[[str, BreakerState], None],
        objection: Callable[[str], str | None] = lambda _endpoint: None,
    ) -> None:
        self._objection = objection
        self._deadline_s = settings.deadline_ms / 1000
        self._clock = clock
        threads = max(1, settings.threads // 2)
        self._lanes = tuple(
            _Lane(
                endpoint,
                BoundedPool(f"score-{endpoint.name}", threads=threads, waiting=_WAITING),
                _Gate(
                    policy_of(settings.breaker),
                    self._deadline_s * settings.breaker.slow_after,
                    clock,
                    partial(on_breaker, endpoint.name),
                ),
            )
            for endpoint in (fraud, anomaly)
        )
        self._on_error = on_error
        self._observe_seconds = observe_seconds

    def start(self, rows: Sequence[Sequence[float]], inference_id: str) -> PendingScores:
        """
        Send *rows* to both endpoints; the deadline counts from this call.

        *inference_id*, at most 56 ASCII characters, should be the same for the
        same rows; a request that does not begin with the first row adds the
        number of the row it begins with. Never blocks: requests that find no
        place are ``saturated`` at once, and those to an endpoint that is left
        alone for a while are ``breaker_open``.
        """
        deadline_s = self._clock.monotonic_s() + self._deadline_s
        lines = encode_rows(rows)
        encodable = [b"null" not in line for line in lines]
        requests = [
            self._send(lane, lines, part, deadline_s, inference_id)
            for lane in self._lanes
            for part in split(lines, encodable, lane.endpoint.max_rows, lane.endpoint.max_bytes)
        ]
        return PendingScores(
            encodable, requests, lambda: deadline_s - self._clock.monotonic_s(), self._on_error
        )

    def well(self) -> bool:
        """Whether nothing objects to any endpoint and its breaker is closed, as of the newest."""
        return all(
            lane.gate.closed and self._objection(lane.endpoint.name) is None for lane in self._lanes
        )

    def breakers(self) -> dict[str, BreakerState]:
        """Score → the state of its endpoint's breaker, as of the newest requests."""
        return {lane.endpoint.name: lane.gate.state for lane in self._lanes}

    def close(self) -> None:
        """Let requests in flight end and stop the threads."""
        for lane in self._lanes:
            lane.pool.close()

    def _send(
        self,
        lane: _Lane,
        lines: Sequence[bytes],
        part: tuple[int, ...],
        deadline_s: float,
        inference_id: str,
    ) -> _Request:
        endpoint = lane.endpoint
        if (objection := self._objection(endpoint.name)) is not None:
            return _Request(lane, part, None, None, objection)
        permit = lane.gate.permit()
        if permit is None:
            return _Request(lane, part, None, None)
        body = [lines[row] for row in part]
        name = f"{inference_id}-{part[0]}" if part[0] else inference_id

        def invoke() -> _Answer:
            started_s = self._clock.monotonic_s()
            try:
                scores = endpoint.invoke(body, deadline_s, name)
            finally:
                self._observe_seconds(endpoint.name, self._clock.monotonic_s() - started_s)
            return _Answer(scores, self._clock.monotonic_s() - started_s)

        return _Request(lane, part, permit, lane.pool.submit(invoke))


def policy_of(settings: BreakerSettings) -> BreakerPolicy:
    """The breaker's policy in *settings*."""
    return BreakerPolicy(
        window=settings.window,
        minimum=settings.minimum,
        failure_share=settings.failure_share,
        slow_share=settings.slow_share,
        open_s=settings.open_s,
        probes=settings.probes,
    )


def split(
    lines: Sequence[bytes], encodable: Sequence[bool], max_rows: int, max_bytes: int
) -> Iterator[tuple[int, ...]]:
    """
    Cut the encodable rows into requests, in order and as few as the limits allow.

    A line above *max_bytes* travels alone: the endpoint's answer decides on it.
    """
    part: list[int] = []
    size = 0
    for row, line in enumerate(lines):
        if not encodable[row]:
            continue
        if part and (len(part) == max_rows or size + len(line) + 1 > max_bytes):
            yield tuple(part)
            part, size = [], 0
        part.append(row)
        size += len(line) + 1
    if part:
        yield tuple(part)


def _collect(future: Future[_Answer] | None) -> _Answer | str:
    """Return the answer, or the cause of their absence."""
    if future is None:
        return "saturated"
    if not future.done():
        # Still queued, it need not be sent any more; under way, its answer is dropped.
        future.cancel()
        return "timeout"
    error = future.exception()
    if isinstance(error, Unavailable):
        return error.message
    return future.result()
