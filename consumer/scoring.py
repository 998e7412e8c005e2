"""
Both endpoints, in parallel, until the chunk's deadline.

A chunk's vectors are encoded once and cut into requests that respect each
endpoint's limits. What has not arrived at the deadline is missing: its rows are
decided without it and say why. Nothing is shared between chunks but the threads,
and each endpoint has threads of its own, so that one that hangs cannot hold up
the other.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass

import orjson

from consumer.clock import Clock
from consumer.errors import Unavailable
from consumer.model import Scores
from consumer.pool import BoundedPool
from consumer.ports import Endpoint

# A chunk of 1,000 rows makes ten requests of 100, and two chunks may be under way.
# Far more only wait when every thread is stuck, and then waiting is of no use.
_WAITING = 32


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
class _Lane:
    """An endpoint and the threads that wait for it."""

    endpoint: Endpoint
    pool: BoundedPool


@dataclass(frozen=True, slots=True)
class _Request:
    """The rows (by index) that travel together to one endpoint; no future when refused."""

    endpoint: str
    rows: tuple[int, ...]
    future: Future[list[float]] | None


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
            answer = _collect(request.future)
            if isinstance(answer, str):
                self._on_error(request.endpoint, answer)
                for row in request.rows:
                    causes[row].append(f"{request.endpoint}:{answer}")
            else:
                for row, score in zip(request.rows, answer, strict=True):
                    scores[row][request.endpoint] = score
        return [
            Scores(found.get("fraud"), found.get("anomaly"), tuple(cause))
            for found, cause in zip(scores, causes, strict=True)
        ]


class Scorer:
    """
    Sends chunks to the fraud and the anomaly endpoint.

    *threads* are the requests in flight at most, half of them an endpoint's.
    ``on_error(endpoint, cause)`` hears of every request without a usable answer
    in time, ``observe_seconds(endpoint, seconds)`` of the duration of every
    request that was sent; the second is called from the threads.
    """

    def __init__(  # noqa: PLR0913 - two endpoints, two limits, the clock and two hooks
        self,
        fraud: Endpoint,
        anomaly: Endpoint,
        *,
        deadline_s: float,
        threads: int,
        clock: Clock,
        on_error: Callable[[str, str], None],
        observe_seconds: Callable[[str, float], None],
    ) -> None:
        self._lanes = tuple(
            _Lane(
                endpoint,
                BoundedPool(
                    f"score-{endpoint.name}", threads=max(1, threads // 2), waiting=_WAITING
                ),
            )
            for endpoint in (fraud, anomaly)
        )
        self._deadline_s = deadline_s
        self._clock = clock
        self._on_error = on_error
        self._observe_seconds = observe_seconds

    def start(self, rows: Sequence[Sequence[float]], inference_id: str) -> PendingScores:
        """
        Send *rows* to both endpoints; the deadline counts from this call.

        *inference_id*, at most 56 ASCII characters, should be the same for the
        same rows; a request that does not begin with the first row adds the
        number of the row it begins with. Never blocks: requests that find no
        place are ``saturated`` at once.
        """
        deadline_s = self._clock.monotonic_s() + self._deadline_s
        lines = encode_rows(rows)
        encodable = [b"null" not in line for line in lines]
        requests = [
            self._send(lane, lines, part, deadline_s, inference_id)
            for lane in self._lanes
            for part in _split(lines, encodable, lane.endpoint.max_rows, lane.endpoint.max_bytes)
        ]
        return PendingScores(
            encodable, requests, lambda: deadline_s - self._clock.monotonic_s(), self._on_error
        )

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
        body = [lines[row] for row in part]
        name = f"{inference_id}-{part[0]}" if part[0] else inference_id

        def invoke() -> list[float]:
            started_s = self._clock.monotonic_s()
            try:
                return endpoint.invoke(body, deadline_s, name)
            finally:
                self._observe_seconds(endpoint.name, self._clock.monotonic_s() - started_s)

        return _Request(endpoint.name, part, lane.pool.submit(invoke))


def _split(
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


def _collect(future: Future[list[float]] | None) -> list[float] | str:
    """Return the scores, or the cause of their absence."""
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
