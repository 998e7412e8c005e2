"""
A second look at what was decided without a score, once its endpoint answers again.

The decision stays as it was made. Its document gets ``second_assessment``, and where
the outcome would have been worse, people are alerted. Training reads neither: its
vectors come out of the engine and its truth from labels.

Best effort: what waits lies in memory, so a worker that leaves takes it along. The
path of decisions comes first: one request at a time, small batches with pauses, and
none while a breaker is open. The traffic closes a breaker again, not this thread.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from threading import Event, Lock, Thread
from typing import Final

from consumer.clock import Clock
from consumer.document import build_second_alert, build_second_assessment
from consumer.engine import Incoming
from consumer.errors import Unavailable
from consumer.logs import get_logger
from consumer.model import Assessment, Decision, Outcome, Ruled, Scores, TransactionId
from consumer.ports import Endpoint
from consumer.rules.facts import Case
from consumer.scoring import encode_rows, split
from consumer.settings import SecondAssessmentSettings

# 25 judgements hold the interpreter for some 2 ms, which the path of decisions may wait for;
# at 20 batches a second they take a twentieth of a core.
_BATCH: Final = 25
_PAUSE_S: Final = 0.05
_LOOK_S: Final = 0.5
_REST_S: Final = 1.0
_LONGEST_REST_S: Final = 60.0
_CLOSE_LIMIT_S: Final = 2.0

_SEVERITY: Final = {Outcome.APPROVE: 0, Outcome.REVIEW: 1, Outcome.DECLINE: 2}
_COMPARED: Final = {-1: "milder", 0: "same", 1: "worse"}


@dataclass(frozen=True, slots=True)
class SecondDesk:
    """
    What a second assessment works with.

    ``endpoints`` are its own, so that no connection of the path of decisions is taken;
    ``well()`` tells whether every endpoint answers that path. ``judge`` decides by the
    rules in force and changes nothing. ``write(transaction_id, assessment, alert)``
    stores, says whether it did, and may raise Unavailable. ``count(outcome, number)``
    hears of ``worse``, ``same``, ``milder``, ``unwritten`` (the document is gone, or has
    been assessed) and ``dropped``.
    """

    endpoints: Sequence[Endpoint]
    well: Callable[[], bool]
    judge: Callable[[Case], tuple[Decision, Ruled]]
    write: Callable[[TransactionId, bytes, bytes | None], bool]
    count: Callable[[str, int], None]


class SecondAssessor:
    """Assesses in the background, from ``start`` to ``close``."""

    def __init__(self, desk: SecondDesk, settings: SecondAssessmentSettings, clock: Clock) -> None:
        self._desk = desk
        self._settings = settings
        self._clock = clock
        self._waiting: deque[Assessment] = deque()
        self._lock = Lock()
        self._size = _BATCH
        self._rest_s = _REST_S
        self._closed = Event()
        self._thread = Thread(target=self._work, name="second-assessment", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """End the thread, in two seconds at most, and drop what waits."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join(_CLOSE_LIMIT_S)
        self._drop(len(self._take(self._settings.waiting)))

    def observe(self, assessments: Sequence[Assessment]) -> None:
        """
        Queue those of stored *assessments* that lack a score. Never waits for a request.

        The oldest give way when there are too many: the newest alert is worth most.
        """
        degraded = [each for each in assessments if each.scores.degraded]
        if not degraded:
            return
        # A vector that no endpoint can be sent will not be scored later either.
        scorable = [each for each in degraded if not _is_unscorable(each)]
        with self._lock:
            self._waiting.extend(scorable)
            surplus = max(0, len(self._waiting) - self._settings.waiting)
            for _ in range(surplus):
                self._waiting.popleft()
        self._drop(surplus + len(degraded) - len(scorable))

    def step(self) -> float:
        """Assess one batch, if there is one and its endpoints answer; return the pause after it."""
        self._expire()
        if not self._waiting or not self._desk.well():
            return _LOOK_S
        batch = self._take(self._size)
        try:
            scored = self._score(batch)
        except Unavailable as error:
            # Behind the others and one by one: one vector that a model fails on must
            # neither stand before the rest nor take its batch along.
            with self._lock:
                self._waiting.extend(batch)
            self._size = 1
            return self._rest(error)
        for done, (assessment, scores) in enumerate(zip(batch, scored, strict=True)):
            try:
                self._assess(assessment, scores)
            except Unavailable as error:
                with self._lock:
                    self._waiting.extendleft(reversed(batch[done:]))
                return self._rest(error)
        self._size = min(self._size * 2, _BATCH)
        self._rest_s = _REST_S
        return _PAUSE_S

    def _work(self) -> None:
        pause_s = _PAUSE_S
        while not self._closed.wait(pause_s):
            pause_s = self.step()

    def _take(self, count: int) -> list[Assessment]:
        with self._lock:
            return [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]

    def _expire(self) -> None:
        """Drop what was decided too long ago; it stands in front, or comes there in time."""
        newest_ms = self._clock.now_ms() - self._settings.give_up_s * 1000
        expired = 0
        with self._lock:
            while self._waiting and self._waiting[0].decided_ms < newest_ms:
                self._waiting.popleft()
                expired += 1
        self._drop(expired)

    def _drop(self, number: int) -> None:
        if number:
            self._desk.count("dropped", number)

    def _rest(self, error: Unavailable) -> float:
        """Seconds to leave alone what failed with *error*: twice as long each time."""
        rest_s, self._rest_s = self._rest_s, min(self._rest_s * 2, _LONGEST_REST_S)
        get_logger(__name__).warning(
            "second assessments wait", error=str(error), waiting=len(self._waiting), rest_s=rest_s
        )
        return rest_s

    def _score(self, batch: Sequence[Assessment]) -> list[Scores]:
        """The scores of each with those added that were missing. Raises Unavailable."""
        found: list[dict[str, float | None]] = [
            {"fraud": each.scores.fraud, "anomaly": each.scores.anomaly} for each in batch
        ]
        for endpoint in self._desk.endpoints:
            missing = [row for row, scores in enumerate(found) if scores[endpoint.name] is None]
            lines = encode_rows([batch[row].observation.values for row in missing])
            fine = [True] * len(lines)
            for part in split(lines, fine, endpoint.max_rows, endpoint.max_bytes):
                name = f"second-{batch[missing[part[0]]].transaction.digest[:32]}"
                deadline_s = self._clock.monotonic_s() + self._settings.deadline_ms / 1000
                answer = endpoint.invoke([lines[place] for place in part], deadline_s, name)
                for place, score in zip(part, answer, strict=True):
                    found[missing[place]][endpoint.name] = score
        return [Scores(scores["fraud"], scores["anomaly"]) for scores in found]

    def _assess(self, first: Assessment, scores: Scores) -> None:
        """Judge *first* with *scores* and store what comes of it. Raises Unavailable."""
        transaction = first.transaction
        time_s = Incoming(transaction, first.origin).time_s
        observation = first.observation
        case = Case(transaction, observation.values, scores, time_s, observation.warming)
        decision, ruled = self._desk.judge(case)
        second = replace(
            first,
            scores=scores,
            decision=decision,
            rules=ruled,
            decided_ms=self._clock.now_ms(),
        )
        compared = compare(decision.outcome, first.decision.outcome)
        alert = build_second_alert(second, first) if compared == "worse" else None
        written = self._desk.write(
            transaction.transaction_id, build_second_assessment(second), alert
        )
        self._desk.count(compared if written else "unwritten", 1)


def compare(second: Outcome, first: Outcome) -> str:
    """Whether *second* is ``worse`` than *first*, the ``same`` or ``milder``."""
    difference = _SEVERITY[second] - _SEVERITY[first]
    return _COMPARED[(difference > 0) - (difference < 0)]


def _is_unscorable(assessment: Assessment) -> bool:
    return any(cause.endswith(":not_finite") for cause in assessment.scores.degraded)
