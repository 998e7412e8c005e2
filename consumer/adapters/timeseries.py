"""
Decisions as time series, in the line protocol of InfluxDB over HTTP.

Amazon Timestream for InfluxDB and InfluxDB take it at ``/api/v2/write`` (and ``/write``),
VictoriaMetrics at ``/write``. A point stands at its transaction's event time. Tags are few and of
few values each; who paid is none of them. Points of one series and one time replace each other,
so nanoseconds below the event's millisecond come from the transaction's id: a point that is sent
again replaces itself, and no other.

What a decision is waited for never depends on this: points wait in a bounded buffer, a thread sends
them, and what finds no room or is not taken in time is counted and dropped.

Format: InfluxData, *Line protocol reference* (escapes, types, UTF-8, no newline in strings).
"""

import gzip
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

import urllib3
from urllib3.exceptions import HTTPError

from consumer.clock import Clock
from consumer.currency import EXPONENTS
from consumer.logs import get_logger
from consumer.model import Assessment
from consumer.patience import pauses_s
from consumer.settings import TimeSeries

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 15.0
_TAKEN: Final = range(200, 300)
# Too many requests, and what is no answer of the database itself: worth another try.
_PASSING: Final = frozenset({408, 429, 500, 502, 503, 504})
_LEVEL = 1
_TAG = str.maketrans({",": r"\,", "=": r"\=", " ": r"\ ", "\n": r"\ ", "\r": r"\ "})
_STRING = str.maketrans({'"': r"\"", "\\": r"\\", "\n": " ", "\r": " "})


class TimeSeriesSink:
    """
    Sends a point a decision, amounts in *base_currency*.

    ``on_points(outcome, number)`` hears what became of them: sent,
    full (no room in the buffer), refused (the database takes none such) or unavailable.
    """

    def __init__(
        self,
        settings: TimeSeries,
        base_currency: str,
        clock: Clock,
        on_points: Callable[[str, int], None],
    ) -> None:
        self._settings = settings
        self._form = PointForm(
            settings.measurement, 10 ** EXPONENTS[base_currency], settings.transaction_ids
        )
        self._clock = clock
        self._on_points = on_points
        self._waiting: deque[Assessment] = deque()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        timeout = urllib3.Timeout(connect=settings.timeout_s, read=settings.timeout_s)
        self._http = urllib3.PoolManager(maxsize=1, retries=False, timeout=timeout)
        self._headers = {"Content-Type": "text/plain; charset=utf-8", "Content-Encoding": "gzip"}
        if settings.token is not None:
            self._headers["Authorization"] = f"Token {settings.token.get_secret_value()}"
        self._thread = threading.Thread(target=self._work, name="timeseries", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def observe(self, assessments: Sequence[Assessment]) -> None:
        """Take the decisions of a chunk; what finds no room is dropped. Never blocks."""
        with self._changed:
            room = max(0, self._settings.buffer - len(self._waiting))
            self._waiting.extend(assessments[:room])
            if len(self._waiting) >= self._settings.batch:
                self._changed.notify()
        if len(assessments) > room:
            self._on_points("full", len(assessments) - room)

    def close(self) -> None:
        """Send what waits, for as long as one request may take, and end."""
        self._closing.set()
        with self._changed:
            self._changed.notify()
        self._thread.join(2 * self._settings.timeout_s)
        self._http.clear()

    def _work(self) -> None:
        while not (self._closing.is_set() and not self._waiting):
            batch = self._take()
            if batch:
                self._send(batch)

    def _take(self) -> list[Assessment]:
        with self._changed:
            if len(self._waiting) < self._settings.batch and not self._closing.is_set():
                self._changed.wait(self._settings.flush_s)
            number = min(len(self._waiting), self._settings.batch)
            return [self._waiting.popleft() for _ in range(number)]

    def _send(self, batch: Sequence[Assessment]) -> None:
        """Send *batch* until it is taken, or given up."""
        text = "\n".join(build_point(each, self._form) for each in batch)
        body = gzip.compress(text.encode(), _LEVEL)
        until_s = self._clock.monotonic_s() + self._settings.give_up_s
        for pause_s in pauses_s(_FIRST_PAUSE_S, _LONGEST_PAUSE_S):
            outcome, cause = self._post(body)
            if outcome != "unavailable":
                break
            if self._closing.is_set() or self._clock.monotonic_s() + pause_s >= until_s:
                break
            self._closing.wait(pause_s)
        if outcome != "sent":
            get_logger(__name__).warning(
                "points dropped", cause=cause, count=len(batch), outcome=outcome
            )
        self._on_points(outcome, len(batch))

    def _post(self, body: bytes) -> tuple[str, str]:
        """What became of *body*, and why."""
        try:
            answer = self._http.request(
                "POST", str(self._settings.url), body=body, headers=self._headers
            )
        except HTTPError as error:
            return "unavailable", type(error).__name__
        cause = f"status_{answer.status}"
        if answer.status in _TAKEN:
            return "sent", cause
        return ("unavailable" if answer.status in _PASSING else "refused"), cause


@dataclass(frozen=True, slots=True)
class PointForm:
    """What all points share: name, minor units in one of the base currency, ids or not."""

    measurement: str
    units: int
    transaction_ids: bool = False


def build_point(assessment: Assessment, form: PointForm) -> str:
    """
    Build the line of *assessment*, without a newline.

    Tags: category, channel, country, degraded, outcome, and of a review or decline the first
    reason. Fields: amount in the base currency, count (1), fraud and anomaly where there are such
    scores, and the transaction's id where *form* wants it.
    """
    transaction, scores = assessment.transaction, assessment.scores
    tags = {
        "category": transaction.merchant_category,
        "channel": transaction.channel,
        "country": transaction.country,
        "degraded": "true" if scores.degraded else "false",
        "outcome": str(assessment.decision.outcome),
    }
    fields = [f"amount={transaction.base_amount_minor / form.units!r}", "count=1i"]
    for name, score in (("fraud", scores.fraud), ("anomaly", scores.anomaly)):
        if score is not None:
            fields.append(f"{name}={score!r}")
    if assessment.decision.reasons:
        tags["reason"] = assessment.decision.reasons[0]
    if form.transaction_ids:
        fields.append(f'transaction_id="{transaction.transaction_id.translate(_STRING)}"')
    # In the order of their names, as the protocol recommends; an empty value is not allowed.
    written = "".join(
        f",{name}={value.translate(_TAG)}" for name, value in sorted(tags.items()) if value
    )
    return f"{form.measurement}{written} {','.join(fields)} {_time_ns(assessment)}"


def _time_ns(assessment: Assessment) -> int:
    transaction = assessment.transaction
    event_ms = round(transaction.event_time.timestamp() * 1_000)
    digest = blake2b(transaction.transaction_id.encode(), digest_size=4).digest()
    return event_ms * 1_000_000 + int.from_bytes(digest) % 1_000_000
