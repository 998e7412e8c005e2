"""The worker with fakes outside: order, checkpoints, and what a failure leaves."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path

import orjson
import pytest

from consumer.decode import DecodeRules, decode
from consumer.document import DocumentFormat
from consumer.engine import Engine, Settled
from consumer.errors import Held, Rejected, Unavailable
from consumer.intake import Batch, FloodLimit, Intake
from consumer.labels import Labels
from consumer.model import (
    DeadLetter,
    Label,
    LabelOutcome,
    Position,
    Record,
    Scores,
    ShardId,
    Transaction,
)
from consumer.patience import Patience
from consumer.ports import Durability
from consumer.settings import Events
from consumer.settings import Worker as WorkerSettings
from consumer.suspicion import Death, Suspects, accuse
from consumer.worker import Worker, WorkerParts
from tests.builders import SHARD
from tests.fakes.clock import FakeClock
from tests.fakes.documents import FakeDocuments
from tests.fakes.features import FakeFeatures
from tests.rulebook import a_book, a_rule, a_set

FORM = DocumentFormat(FakeFeatures.names, "f" * 64, "EUR")
TTL_MS = 172_800_000
PROGRESS_LIMIT_S = 60.0


class FakeScoring:
    """Scores that are there at once."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def start(self, rows: Sequence[Sequence[float]], inference_id: str) -> "FakePending":
        assert inference_id
        self.batches.append(len(rows))
        return FakePending(len(rows))


class FakePending:
    def __init__(self, count: int) -> None:
        self.count = count

    def result(self) -> list[Scores]:
        return [Scores(0.01, 0.5)] * self.count


class Hanging(Future[None]):
    """Never done; waiting for it takes the time it is given."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self.clock = clock

    def result(self, timeout: float | None = None) -> None:
        assert timeout is not None, "it would wait for ever"
        self.clock.sleep(timeout)
        raise TimeoutError


class HeldSink:
    """Acknowledges when told to."""

    def __init__(self) -> None:
        self.make: Callable[[], Future[None]] = Future
        self.sent: list[list[bytes]] = []
        self.futures: list[Future[None]] = []
        self.acknowledge_at_once = True

    def publish(self, documents: Sequence[bytes]) -> "Future[None]":
        self.sent.append(list(documents))
        future = self.make()
        self.futures.append(future)
        if self.acknowledge_at_once:
            future.set_result(None)
        return future

    @property
    def ids(self) -> list[str]:
        return [orjson.loads(each)["transaction_id"] for batch in self.sent for each in batch]


class KeptLetters:
    def __init__(self) -> None:
        self.letters: dict[str, DeadLetter] = {}

    def put(self, letters: Sequence[DeadLetter]) -> None:
        self.letters.update({letter.letter_id: letter for letter in letters})


class Silence:
    """Telemetry that keeps the stages and what became of labels."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.entered: list[str] = []
        self.labels: list[LabelOutcome] = []
        self.begun: list[tuple[Position, Position]] = []

    def spent(self, stage: str, seconds: float) -> None:
        self.stages.append(stage)

    def started(self, shard_id: ShardId) -> None: ...
    def stage(self, name: str) -> None:
        self.entered.append(name)

    def delivered(self, records: Sequence[Record]) -> None: ...
    def under_way(self, first: Position, last: Position) -> None:
        self.begun.append((first, last))

    def nothing_under_way(self) -> None: ...
    def crashed(self, position: Position, error: Rejected) -> None: ...
    def sorted(self, batch: Batch) -> None: ...
    def settled(self, settled: Sequence[Settled]) -> None: ...
    def labelled(self, outcomes: Sequence[LabelOutcome]) -> None:
        self.labels += outcomes

    def progressed(self, position: Position | None, millis_behind: int | None) -> None: ...
    def checkpointed(self, position: Position) -> None: ...


def decode_or_explode(data: bytes, rules: DecodeRules) -> Transaction | Label:
    """Fails at the events that ask for it, as no decoder should."""
    if b"explode" in data:
        raise RecursionError
    if b"exhaust" in data:
        raise MemoryError
    return decode(data, rules)


class Bench:
    """A worker and all that it touches."""

    def __init__(
        self,
        *,
        sink: bool = True,
        chunk_size: int = 10,
        limit_share: float = 0.5,
        durability: Durability | None = None,
        suspects: Suspects | None = None,
    ) -> None:
        self.clock = FakeClock()
        self.features = FakeFeatures()
        self.scoring = FakeScoring()
        self.documents = FakeDocuments(FORM)
        self.letters = KeptLetters()
        self.sink = HeldSink()
        self.telemetry = Silence()
        self.checkpoints: list[Position] = []
        self.book = a_book()
        engine = Engine(
            features=self.features,
            scoring=self.scoring,
            documents=self.documents,
            judge=self.book,
            clock=self.clock,
            timing=self.telemetry,
        )
        self.waits: list[str] = []
        patience = Patience(
            self.clock,
            self.clock.sleep,
            5.0,
            lambda error, _waited_s: self.waits.append(str(error)),
        )
        parts = WorkerParts(
            intake=Intake(DecodeRules.of(Events()), TTL_MS, decode_or_explode),
            flood=FloodLimit(limit_share, 100),
            engine=engine,
            labels=Labels(self.documents, None, patience, TTL_MS),
            dead_letters=self.letters,
            sink=self.sink if sink else None,
            patience=patience,
            telemetry=self.telemetry,
            clock=self.clock,
            durability=durability,
            suspects=suspects,
        )
        settings = WorkerSettings(
            chunk_size=chunk_size, checkpoint_interval_s=2.0, progress_limit_s=PROGRESS_LIMIT_S
        )
        self.worker = Worker(parts, settings)
        self.worker.start(SHARD, None)

    def deliver(self, *records: Record) -> None:
        self.clock.sleep(3.0)
        self.worker.process(records, 0, self.checkpoints.append)

    def record(self, number: int, data: bytes | None = None) -> Record:
        return Record(
            shard_id=SHARD,
            position=Position(number),
            arrival_ms=self.clock.now_ms() - 50,
            data=an_event(number) if data is None else data,
        )


def an_event(number: int, **changes: object) -> bytes:
    return orjson.dumps(
        {
            "type": "transaction",
            "transaction_id": f"tx_{number}",
            "event_time": "2026-09-01T12:00:00Z",
            "card_id": "card_1",
            "merchant_id": "merchant_1",
            "amount": 12.5,
            "currency": "EUR",
            **changes,
        }
    )


def test_a_delivery_is_decided_published_and_checkpointed() -> None:
    bench = Bench()
    bench.deliver(*(bench.record(number) for number in range(1, 26)))
    assert len(bench.documents.documents) == 25
    assert bench.sink.ids == [f"tx_{number}" for number in range(1, 26)]
    assert bench.checkpoints == [Position(25)]
    assert bench.scoring.batches == [10, 10, 5]


def test_new_rules_are_taken_over_without_traffic_too() -> None:
    bench = Bench()
    every = a_set(a_rule("every", "true"))
    bench.book.offer(every)
    bench.deliver()
    assert bench.book.active is every
    bench.deliver(bench.record(1))
    (document,) = bench.documents.documents.values()
    assert orjson.loads(document)["decision"]["outcome"] == "decline"


def test_a_chunk_is_decided_while_the_next_is_applied_and_stored_while_that_is_scored() -> None:
    bench = Bench(chunk_size=1)
    bench.deliver(bench.record(1), bench.record(2))
    assert bench.telemetry.entered[:12] == [
        *("decode", "observe", "observe"),
        *("decode", "observe", "score", "decide", "observe", "decide"),
        *("score", "decide", "decide"),
    ]


def test_features_are_read_in_stream_order() -> None:
    bench = Bench(chunk_size=2)
    bench.deliver(*(bench.record(number) for number in range(1, 6)))
    assert bench.features.calls == [["tx_1", "tx_2"], ["tx_3", "tx_4"], ["tx_5"]]


def test_a_record_without_acknowledgement_is_not_checkpointed() -> None:
    bench = Bench()
    bench.sink.acknowledge_at_once = False
    bench.deliver(bench.record(1))
    assert bench.checkpoints == []
    bench.sink.futures[0].set_result(None)
    bench.deliver()
    assert bench.checkpoints == [Position(1)]


def test_an_acknowledgement_that_comes_early_waits_for_the_one_before() -> None:
    bench = Bench()
    bench.sink.acknowledge_at_once = False
    bench.deliver(bench.record(1))
    bench.deliver(bench.record(2))
    bench.sink.futures[1].set_result(None)
    bench.deliver()
    assert bench.checkpoints == []
    bench.sink.futures[0].set_result(None)
    bench.deliver()
    assert bench.checkpoints == [Position(2)]


def test_without_traffic_rows_that_hang_are_waited_for_and_then_the_worker_leaves() -> None:
    bench = Bench()
    bench.sink.make = lambda: Hanging(bench.clock)
    bench.sink.acknowledge_at_once = False
    bench.deliver(bench.record(1))
    before_s = bench.clock.monotonic_s()
    while not bench.waits and bench.clock.monotonic_s() < before_s + PROGRESS_LIMIT_S / 2 - 3:
        bench.deliver()
    assert not bench.waits
    with pytest.raises(Unavailable, match="firehose: rows are not acknowledged"):
        bench.deliver()
    waited_s = bench.clock.monotonic_s() - before_s
    assert PROGRESS_LIMIT_S / 2 <= waited_s < PROGRESS_LIMIT_S
    assert bench.waits
    assert len(bench.sink.sent) == 1, "what hangs need not be sent again"
    assert bench.checkpoints == []


def test_rows_that_firehose_refused_are_sent_again() -> None:
    bench = Bench()
    bench.sink.acknowledge_at_once = False
    bench.deliver(bench.record(1))
    bench.sink.futures[0].set_exception(Unavailable("firehose", "throttled"))
    bench.sink.acknowledge_at_once = True
    bench.deliver()
    assert bench.sink.ids == ["tx_1", "tx_1"]
    assert bench.checkpoints == [Position(1)]


def test_the_end_of_a_shard_waits_for_all_that_was_started() -> None:
    bench = Bench()
    bench.sink.acknowledge_at_once = False
    bench.deliver(bench.record(1))
    bench.sink.futures[0].set_result(None)
    bench.worker.shard_ended(bench.checkpoints.append)
    assert bench.checkpoints == [Position(1)]


def test_shutdown_drains_and_checkpoints() -> None:
    bench = Bench()
    bench.sink.acknowledge_at_once = False
    bench.deliver(bench.record(1))
    bench.sink.futures[0].set_result(None)
    bench.worker.shutdown_requested(bench.checkpoints.append)
    assert bench.checkpoints == [Position(1)]


def test_after_a_lost_lease_nothing_is_waited_for() -> None:
    bench = Bench()
    bench.sink.acknowledge_at_once = False
    bench.deliver(bench.record(1))
    bench.worker.lease_lost()
    bench.worker.shutdown_requested(bench.checkpoints.append)
    assert bench.checkpoints == []
    assert bench.sink.futures[0].cancelled(), "what waits for a thread is not sent"


def test_checkpoints_keep_their_distance() -> None:
    bench = Bench()
    bench.deliver(bench.record(1))
    bench.worker.process([bench.record(2)], 0, bench.checkpoints.append)
    assert bench.checkpoints == [Position(1)]
    bench.deliver()
    assert bench.checkpoints == [Position(1), Position(2)]


def test_an_idle_shard_is_not_checkpointed_again() -> None:
    bench = Bench()
    bench.deliver(bench.record(1))
    bench.deliver()
    bench.deliver()
    assert bench.checkpoints == [Position(1)]


def test_a_redelivered_record_is_published_again_and_decided_once() -> None:
    bench = Bench()
    record = bench.record(1)
    bench.deliver(record)
    again = Bench()
    again.documents, again.features = bench.documents, bench.features
    bench.worker.process([record], 0, bench.checkpoints.append)
    assert bench.sink.ids == ["tx_1", "tx_1"]
    assert bench.features.applied == {"card_1": ["tx_1"]}


def test_a_producers_duplicate_is_answered_by_the_first_record() -> None:
    bench = Bench()
    bench.deliver(bench.record(1), bench.record(2, an_event(1)))
    assert bench.sink.ids == ["tx_1"]
    assert bench.letters.letters == {}
    assert bench.checkpoints == [Position(2)]


def test_the_same_id_with_other_content_becomes_a_dead_letter() -> None:
    bench = Bench()
    bench.deliver(bench.record(1), bench.record(2, an_event(1, amount=99.0)))
    (letter,) = bench.letters.letters.values()
    assert (letter.error, letter.position) == ("conflict", Position(2))
    assert "99.0" in letter.payload
    assert bench.sink.ids == ["tx_1"]


def test_a_bad_record_costs_itself_only() -> None:
    bench = Bench()
    bench.deliver(bench.record(1), bench.record(2, b"{"), bench.record(3))
    assert bench.sink.ids == ["tx_1", "tx_3"]
    (letter,) = bench.letters.letters.values()
    assert letter.position == Position(2)
    assert bench.checkpoints == [Position(3)]


def test_a_record_older_than_documents_live_is_stale() -> None:
    bench = Bench()
    record = bench.record(1)
    bench.clock.sleep(TTL_MS / 1000)
    bench.deliver(record)
    (letter,) = bench.letters.letters.values()
    assert letter.error == "stale"
    assert bench.documents.documents == {}


def test_a_flood_of_bad_records_holds_before_a_checkpoint() -> None:
    bench = Bench(chunk_size=100)
    with pytest.raises(Held, match="60 of the last 100 records were rejected"):
        bench.deliver(
            *(bench.record(number, b"{" if number <= 60 else None) for number in range(1, 101))
        )
    assert len(bench.letters.letters) == 60
    assert bench.checkpoints == []


def test_while_a_flood_may_have_begun_nothing_is_checkpointed() -> None:
    bench = Bench(chunk_size=10)
    bench.deliver(*(bench.record(number) for number in range(1, 11)))
    with pytest.raises(Held):
        bench.deliver(*(bench.record(number, b"{") for number in range(11, 200)))
    assert bench.checkpoints == [Position(10)]
    bench.worker.shutdown_requested(bench.checkpoints.append)
    assert bench.checkpoints == [Position(10)]


def test_a_flood_of_conflicts_holds_too() -> None:
    bench = Bench(chunk_size=10)
    with pytest.raises(Held):
        bench.deliver(
            *(bench.record(number, an_event(1, amount=number)) for number in range(1, 102))
        )


def test_whatever_reading_a_record_raises_costs_that_record_only() -> None:
    bench = Bench()
    bad = an_event(2, merchant_id="explode")
    bench.deliver(bench.record(1), bench.record(2, bad), bench.record(3))
    (letter,) = bench.letters.letters.values()
    assert (letter.error, letter.position) == ("unreadable", Position(2))
    assert bench.checkpoints == [Position(3)]


def test_bad_records_below_the_limit_pass() -> None:
    bench = Bench(chunk_size=100)
    bench.deliver(
        *(bench.record(number, b"{" if number <= 50 else None) for number in range(1, 101))
    )
    assert bench.checkpoints == [Position(100)]


def test_without_firehose_a_stored_decision_is_enough() -> None:
    bench = Bench(sink=False)
    bench.deliver(bench.record(1))
    assert bench.checkpoints == [Position(1)]


def test_a_label_is_noted_on_its_document() -> None:
    bench = Bench()
    bench.deliver(bench.record(1), bench.record(2, a_label_event(1)))
    assert orjson.loads(bench.documents.documents["tx_1"])["label"]["label"] == "fraud"
    assert bench.checkpoints == [Position(2)]


def a_label_event(number: int) -> bytes:
    return orjson.dumps(
        {
            "type": "label",
            "transaction_id": f"tx_{number}",
            "label": "fraud",
            "label_time": "2026-09-05T12:00:00Z",
            "source": "chargeback",
        }
    )


def test_a_label_that_comes_first_is_in_the_document_of_its_transaction() -> None:
    bench = Bench(chunk_size=1)
    bench.deliver(bench.record(1, a_label_event(1)), bench.record(2, an_event(1)))
    assert orjson.loads(bench.documents.documents["tx_1"])["label"]["label"] == "fraud"
    assert bench.telemetry.labels == [LabelOutcome.UNMATCHED]


def test_labels_without_transactions_neither_hold_the_daemon_nor_hide_a_flood() -> None:
    bench = Bench(chunk_size=100)
    bench.deliver(*(bench.record(number, a_label_event(number)) for number in range(1, 301)))
    assert bench.checkpoints == [Position(300)]
    mixed = [
        bench.record(number, b"{" if number % 2 else a_label_event(number))
        for number in range(301, 501)
    ]
    with pytest.raises(Held, match="100 of the last 100"):
        bench.deliver(*mixed)


@pytest.mark.parametrize("outage", [FakeFeatures.fail, FakeDocuments.fail])
def test_a_short_outage_of_redis_is_waited_out(outage: Callable[[object, int], None]) -> None:
    bench = Bench()
    outage(bench.features if outage is FakeFeatures.fail else bench.documents, 3)
    bench.deliver(bench.record(1))
    assert bench.checkpoints == [Position(1)]


def test_a_long_outage_leaves_without_a_checkpoint() -> None:
    bench = Bench()
    bench.features.fail(10**9)
    with pytest.raises(Unavailable):
        bench.deliver(bench.record(1))
    assert bench.checkpoints == []


class Copies:
    """Answers ``confirm`` with what it was told, in turn."""

    def __init__(self, *answers: bool | Unavailable) -> None:
        self.answers = list(answers)

    def confirm(self) -> bool:
        answer = self.answers.pop(0)
        if isinstance(answer, Unavailable):
            raise answer
        return answer


def test_a_checkpoint_waits_until_there_are_copies_enough() -> None:
    few = Unavailable("redis", "0 of 1 replicas have what was written")
    copies = Copies(few, few, True)
    bench = Bench(durability=copies)
    bench.deliver(bench.record(1))
    assert bench.checkpoints == [Position(1)]
    assert copies.answers == []


def test_a_replaced_primary_means_leaving_without_a_checkpoint() -> None:
    bench = Bench(durability=Copies(True, False))
    bench.deliver(bench.record(1))
    with pytest.raises(Unavailable, match="a primary was replaced"):
        bench.deliver(bench.record(2))
    assert bench.checkpoints == [Position(1)]


def suspecting(run_dir: Path, *ranges: tuple[int, int], stage: str = "score") -> Suspects:
    """Suspects after one death in each of *ranges*."""
    for first, last in ranges:
        at = (str(Position(first)), str(Position(last)))
        accuse(run_dir, "app", SHARD, Death("SIGSEGV", stage, 0.1, 0, at))
    return Suspects(run_dir, "app")


def test_suspected_records_are_worked_one_by_one_and_the_others_in_chunks(tmp_path: Path) -> None:
    bench = Bench(chunk_size=3, suspects=suspecting(tmp_path, (4, 6)))
    bench.deliver(*(bench.record(number) for number in range(1, 11)))
    assert [len(call) for call in bench.features.calls] == [3, 1, 1, 1, 3, 1]
    assert len(bench.documents.documents) == 10
    assert bench.letters.letters == {}
    alone = [(Position(number), Position(number)) for number in (4, 5, 6)]
    assert [each for each in bench.telemetry.begun if each in alone] == alone


def test_a_suspected_record_is_acknowledged_before_the_next_is_touched(tmp_path: Path) -> None:
    bench = Bench(suspects=suspecting(tmp_path, (1, 3)))
    bench.deliver(*(bench.record(number) for number in range(1, 4)))
    assert bench.telemetry.stages == ["observe", "score", "decide"] * 3
    assert [len(batch) for batch in bench.sink.sent] == [1, 1, 1]


def test_suspected_records_are_checkpointed_in_between(tmp_path: Path) -> None:
    bench = Bench(suspects=suspecting(tmp_path, (1, 2)))
    bench.deliver(bench.record(1), bench.record(2))
    assert bench.checkpoints[0] == Position(1), "Java is told that we live"


@pytest.mark.parametrize(("stage", "read"), [("score", True), ("decode", False)])
def test_the_third_death_at_a_record_makes_it_a_letter_and_it_is_not_touched(
    tmp_path: Path, stage: str, *, read: bool
) -> None:
    bench = Bench(suspects=suspecting(tmp_path, *[(2, 2)] * 3, stage=stage))
    bench.deliver(bench.record(1), bench.record(2, b'{"explode": 1}'), bench.record(3))
    (letter,) = bench.letters.letters.values()
    assert (letter.error, letter.position) == ("crashed", Position(2))
    assert f"SIGSEGV in stage {stage}" in letter.message
    assert ("explode" in letter.payload) is read, "what reading ended is not read again"
    assert set(bench.documents.documents) == {"tx_1", "tx_3"}
    assert bench.features.calls == [["tx_1"], ["tx_3"]]


def test_what_is_under_way_includes_the_chunk_that_waits_and_rows_on_their_way() -> None:
    bench = Bench(chunk_size=2)
    bench.sink.acknowledge_at_once = False
    bench.deliver(*(bench.record(number) for number in range(1, 7)))
    bench.deliver(bench.record(7))
    assert bench.telemetry.begun == [
        (Position(1), Position(2)),
        (Position(1), Position(4)),
        (Position(1), Position(6)),
        (Position(1), Position(7)),
    ]


def test_an_allocation_that_fails_is_the_processes_trouble_and_no_letter() -> None:
    bench = Bench()
    with pytest.raises(MemoryError):
        bench.deliver(bench.record(1, b'{"exhaust": 1}'))
    assert bench.letters.letters == {}
