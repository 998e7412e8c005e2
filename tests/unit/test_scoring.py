import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from queue import SimpleQueue

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.breaker import BreakerState
from consumer.clock import Clock, SystemClock
from consumer.model import Scores
from consumer.scoring import Scorer, encode_rows
from consumer.settings import BreakerSettings, Scoring
from tests.fakes.clock import FakeClock
from tests.fakes.endpoints import FakeEndpoint

ROWS = [[0.5, 1.0], [0.25, 2.0], [0.125, 3.0], [1.0, 4.0], [0.0, 5.0]]
AMPLE_S = 30.0
SHORT_S = 0.05


@dataclass
class Bench:
    """A scorer between two fakes, and what it reported."""

    fraud: FakeEndpoint = field(default_factory=lambda: FakeEndpoint("fraud"))
    anomaly: FakeEndpoint = field(default_factory=lambda: FakeEndpoint("anomaly"))
    errors: list[tuple[str, str]] = field(default_factory=list)
    durations: SimpleQueue[tuple[str, float]] = field(default_factory=SimpleQueue)
    states: list[tuple[str, BreakerState]] = field(default_factory=list)
    scorers: list[Scorer] = field(default_factory=list)

    def scorer(
        self,
        deadline_s: float = AMPLE_S,
        threads: int = 4,
        *,
        breaker: BreakerSettings | None = None,
        clock: Clock | None = None,
        unusable: str = "",
    ) -> Scorer:
        settings = Scoring(
            deadline_ms=round(deadline_s * 1000),
            threads=threads,
            breaker=breaker or BreakerSettings(),
        )
        scorer = Scorer(
            self.fraud,
            self.anomaly,
            settings,
            clock=clock or SystemClock(),
            on_error=lambda endpoint, cause: self.errors.append((endpoint, cause)),
            observe_seconds=lambda endpoint, seconds: self.durations.put((endpoint, seconds)),
            on_breaker=lambda endpoint, state: self.states.append((endpoint, state)),
            objection=lambda endpoint: "feature_hash" if endpoint == unusable else None,
        )
        self.scorers.append(scorer)
        return scorer


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.fraud.release()
    bench.anomaly.release()
    for scorer in bench.scorers:
        scorer.close()


def rows_from(first: int, count: int) -> list[list[float]]:
    return [[row / 1000, 0.0] for row in range(first, first + count)]


def test_each_row_gets_both_of_its_scores(bench: Bench) -> None:
    bench.anomaly.plan(lambda rows: [row[1] for row in rows])
    scores = bench.scorer().start(ROWS, "chunk").result()
    assert scores == [Scores(fraud=row[0], anomaly=row[1]) for row in ROWS]
    assert bench.errors == []


def test_a_chunk_without_rows_asks_nobody(bench: Bench) -> None:
    assert bench.scorer().start([], "chunk").result() == []
    assert bench.fraud.requests == []


def test_requests_are_cut_by_rows_and_name_where_they_begin(bench: Bench) -> None:
    bench.anomaly.max_rows = 2
    scores = bench.scorer().start(ROWS, "chunk").result()
    assert [each.anomaly for each in scores] == [row[0] for row in ROWS]
    assert [name for _, name in bench.fraud.requests] == ["chunk"]
    assert sorted((name, len(lines)) for lines, name in bench.anomaly.requests) == [
        ("chunk", 2),
        ("chunk-2", 2),
        ("chunk-4", 1),
    ]


def test_requests_are_cut_by_bytes(bench: Bench) -> None:
    bench.fraud.max_bytes = 13
    bench.scorer().start(ROWS, "chunk").result()
    bodies = [lines for lines, _ in bench.fraud.requests]
    assert sorted(len(lines) for lines in bodies) == [1, 2, 2]
    assert all(sum(len(line) + 1 for line in lines) <= 13 for lines in bodies)


def test_a_row_above_the_limit_travels_alone(bench: Bench) -> None:
    bench.fraud.max_bytes = 3
    scores = bench.scorer().start(ROWS, "chunk").result()
    assert len(bench.fraud.requests) == len(ROWS)
    assert [each.fraud for each in scores] == [row[0] for row in ROWS]


def test_a_failed_request_degrades_only_its_own_rows(bench: Bench) -> None:
    bench.anomaly.max_rows = 2

    def answer(rows: list[list[float]]) -> list[float]:
        return [1.0] * len(rows)

    bench.anomaly.plan(answer, "status_500", answer)
    scores = bench.scorer(threads=2).start(ROWS, "chunk").result()
    failed = [row for row, each in enumerate(scores) if each.degraded]
    assert failed == [2, 3]
    assert scores[2] == Scores(ROWS[2][0], None, ("anomaly:status_500",))
    assert scores[4] == Scores(ROWS[4][0], 1.0)
    assert bench.errors == [("anomaly", "status_500")]


def test_both_endpoints_may_fail_a_row(bench: Bench) -> None:
    bench.fraud.plan("connection")
    bench.anomaly.plan("not_a_number")
    (scores,) = bench.scorer().start(ROWS[:1], "chunk").result()
    assert scores == Scores(None, None, ("fraud:connection", "anomaly:not_a_number"))


def test_what_is_missing_at_the_deadline_is_a_timeout(bench: Bench) -> None:
    bench.anomaly.hold()
    scores = bench.scorer(SHORT_S).start(ROWS, "chunk").result()
    assert scores == [Scores(row[0], None, ("anomaly:timeout",)) for row in ROWS]
    assert bench.errors == [("anomaly", "timeout")]


def test_a_late_answer_never_reaches_the_next_chunk(bench: Bench) -> None:
    scorer = bench.scorer(SHORT_S, threads=2)
    bench.anomaly.hold()
    scorer.start(rows_from(0, 5), "first").result()
    bench.anomaly.release()
    second = Scores(0.1, 0.1)
    found = second
    for _ in range(200):
        (found,) = scorer.start([[0.1]], "second").result()
        if not found.degraded:
            break
    assert found == second


def test_a_hung_endpoint_does_not_hold_up_the_other(bench: Bench) -> None:
    scorer = bench.scorer(SHORT_S, threads=2)
    bench.anomaly.hold()
    for number in range(5):
        scores = scorer.start(rows_from(number, 3), f"chunk-{number}").result()
        assert [each.fraud for each in scores] == [row[0] for row in rows_from(number, 3)]


def test_requests_without_a_place_are_saturated_at_once(bench: Bench) -> None:
    bench.anomaly.hold()
    bench.anomaly.max_rows = 1
    scorer = bench.scorer(threads=2)
    scorer.start(rows_from(0, 1), "taken up")
    bench.anomaly.await_request()
    scorer.start(rows_from(0, 32), "waiting")
    (scores,) = scorer.start(rows_from(0, 1), "refused").result()
    assert scores == Scores(0.0, None, ("anomaly:saturated",))
    assert bench.errors == [("anomaly", "saturated")]


def test_a_request_that_nobody_waits_for_any_more_is_not_sent(bench: Bench) -> None:
    bench.anomaly.hold()
    scorer = bench.scorer(SHORT_S, threads=2)
    scorer.start(rows_from(0, 1), "hung").result()
    scorer.start(rows_from(1, 1), "given up").result()
    bench.anomaly.release()
    scorer.close()
    bench.scorers.clear()
    assert [name for _, name in bench.anomaly.requests] == ["hung"]


def test_chunks_under_way_at_once_keep_their_own_scores(bench: Bench) -> None:
    bench.anomaly.max_rows = 3
    scorer = bench.scorer(threads=4)
    found: dict[int, list[float | None]] = {}

    def run(number: int) -> None:
        for turn in range(20):
            first = number * 1000 + turn * 10
            scores = scorer.start(rows_from(first, 7), f"chunk-{first}").result()
            found[first] = [each.anomaly for each in scores]

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 40
    for first, scores in found.items():
        assert scores == [row[0] for row in rows_from(first, 7)]


def test_a_row_that_is_no_number_is_told_and_sent_nowhere(bench: Bench) -> None:
    rows = [[0.5, 1.0], [math.nan, 1.0], [0.25, math.inf], [1.0, 2.0]]
    scores = bench.scorer().start(rows, "chunk").result()
    assert [each.fraud for each in scores] == [0.5, None, None, 1.0]
    assert scores[1] == Scores(None, None, ("fraud:not_finite", "anomaly:not_finite"))
    assert bench.fraud.requests[0][0] == [b"0.5,1", b"1,2"]


def test_every_request_is_timed_the_failed_ones_too(bench: Bench) -> None:
    bench.fraud.plan("status_424")
    bench.scorer().start(ROWS, "chunk").result()
    timed = sorted(bench.durations.get(timeout=10) for _ in range(2))
    assert [endpoint for endpoint, _ in timed] == ["anomaly", "fraud"]
    assert all(seconds >= 0 for _, seconds in timed)


def test_an_endpoint_that_keeps_failing_is_left_alone_and_tried_again(bench: Bench) -> None:
    clock = FakeClock()
    breaker = BreakerSettings(window=4, minimum=4, open_s=5, probes=2)
    scorer = bench.scorer(breaker=breaker, clock=clock)
    bench.anomaly.plan(*["status_500"] * 4)
    for _ in range(4):
        scorer.start(ROWS[:1], "failing").result()
    (refused,) = scorer.start(ROWS[:1], "refused").result()
    assert refused == Scores(ROWS[0][0], None, ("anomaly:breaker_open",))
    assert len(bench.anomaly.requests) == 4
    assert len(bench.errors) == 4
    clock.sleep(5)
    for _ in range(2):
        (probe,) = scorer.start(ROWS[:1], "probe").result()
        assert not probe.degraded
    assert bench.states == [
        ("anomaly", BreakerState.OPEN),
        ("anomaly", BreakerState.HALF_OPEN),
        ("anomaly", BreakerState.CLOSED),
    ]
    assert len(bench.fraud.requests) == 7


def test_an_endpoint_that_is_slow_without_failing_is_left_alone(bench: Bench) -> None:
    clock = FakeClock()
    breaker = BreakerSettings(window=2, minimum=2, slow_after=0.5, slow_share=1)

    def slow(rows: list[list[float]]) -> list[float]:
        clock.sleep(AMPLE_S / 2)
        return [row[0] for row in rows]

    bench.fraud.plan(slow, slow)
    scorer = bench.scorer(breaker=breaker, clock=clock)
    for _ in range(2):
        (scored,) = scorer.start(ROWS[:1], "slow").result()
        assert scored.fraud is not None
    (refused,) = scorer.start(ROWS[:1], "refused").result()
    assert "fraud:breaker_open" in refused.degraded


def test_a_model_of_other_features_is_not_asked(bench: Bench) -> None:
    scores = bench.scorer(unusable="anomaly").start(ROWS[:1], "chunk").result()
    assert scores == [Scores(ROWS[0][0], None, ("anomaly:feature_hash",))]
    assert bench.anomaly.requests == []
    assert bench.errors == []


def test_a_line_is_short_and_exact() -> None:
    assert encode_rows([[10.0, 0.1, 1e-7], [0.0, 1.05, 250_000.0]]) == [
        b"10,0.1,1e-7",
        b"0,1.05,250000",
    ]
    assert encode_rows([(7.0,)]) == [b"7"]


@given(
    st.integers(1, 6).flatmap(
        lambda width: st.lists(
            st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * width), max_size=6
        )
    )
)
def test_every_finite_value_survives_the_encoding(rows: list[tuple[float, ...]]) -> None:
    decoded = [tuple(float(value) for value in line.split(b",")) for line in encode_rows(rows)]
    assert decoded == rows


def test_it_is_well_while_every_breaker_is_closed_and_every_endpoint_usable(bench: Bench) -> None:
    scorer = bench.scorer(breaker=BreakerSettings(minimum=1, window=1))
    assert scorer.well()
    bench.fraud.plan("status_500")
    scorer.start(ROWS, "chunk").result()
    assert not scorer.well()
    assert not bench.scorer(unusable="anomaly").well()
