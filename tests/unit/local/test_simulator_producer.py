"""The producer keeps to limits, rate and order, and sends again only what was refused."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from consumer.errors import Misconfigured, Unavailable
from consumer.local.simulator.events import Event, RecordKind
from consumer.local.simulator.ledger import Ledger, LedgerWriter
from consumer.local.simulator.producer import MAX_BYTES, MAX_RECORDS, Producer, Progress
from consumer.model import Kind
from tests.fakes.clock import FakeClock

EVENT = Event(
    data=b'{"type":"transaction"}',
    partition_key="card_1",
    record=RecordKind.TRANSACTION,
    time_ms=1,
    transaction_id="tx_0",
    event_time_ms=1,
    card_id="card_1",
    merchant_id="merchant_1",
    amount_minor=100,
    currency="EUR",
    base_amount_minor=100,
    kind=Kind.PURCHASE,
    fraud=False,
    pattern="",
)


def events(n: int) -> list[Event]:
    return [
        msgspec.structs.replace(EVENT, transaction_id=f"tx_{i}", data=b'{"n":%d}' % i)
        for i in range(n)
    ]


class FakeKinesis:
    """Takes records, except where ``refuse``, given request number and data, says so or raises."""

    def __init__(self, refuse: Callable[[int, bytes], bool] = lambda _n, _data: False) -> None:
        self.requests: list[list[bytes]] = []
        self.taken: list[bytes] = []
        self._refuse = refuse

    def put_records(self, *, StreamName: str, Records: list[Any]) -> dict[str, Any]:  # noqa: N803
        assert StreamName == "events"
        number = len(self.requests)
        self.requests.append([record["Data"] for record in Records])
        answers: list[dict[str, str]] = []
        for record in Records:
            if self._refuse(number, record["Data"]):
                answers.append({"ErrorCode": "ProvisionedThroughputExceededException"})
            else:
                self.taken.append(record["Data"])
                answers.append({"ShardId": "shard-0", "SequenceNumber": str(len(self.taken))})
        return {"Records": answers}


def producer(
    kinesis: FakeKinesis, clock: FakeClock | None = None, ledger: LedgerWriter | None = None
) -> Producer:
    clock = clock or FakeClock()
    return Producer(cast("Any", kinesis), "events", ledger, clock=clock, sleep=clock.sleep)


def failing(number: int, error: Exception) -> Callable[[int, bytes], bool]:
    def refuse(request: int, _: bytes) -> bool:
        if request == number:
            raise error
        return False

    return refuse


def client_error(code: str, status: int) -> ClientError:
    return ClientError(
        {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "PutRecords",
    )


def test_everything_is_sent_once_and_in_order() -> None:
    kinesis = FakeKinesis()
    summary = producer(kinesis).send(events(1_234))
    assert kinesis.taken == [event.data for event in events(1_234)]
    assert (summary.sent, summary.requests, summary.refused, summary.uncertain) == (1_234, 3, 0, 0)


def test_a_request_keeps_to_the_limits_of_kinesis() -> None:
    kinesis = FakeKinesis()
    large = msgspec.structs.replace(EVENT, data=b"x" * 1_000_000)
    producer(kinesis).send([*events(1_100), *[large] * 12])
    assert max(len(request) for request in kinesis.requests) == MAX_RECORDS
    sizes = [sum(len(d) + len("card_1") for d in request) for request in kinesis.requests]
    assert 4_000_000 < max(sizes) <= MAX_BYTES


def test_only_what_was_refused_is_sent_again() -> None:
    kinesis = FakeKinesis(lambda request, data: request < 2 and data in {b'{"n":3}', b'{"n":7}'})
    summary = producer(kinesis).send(events(10))
    assert kinesis.requests[1:] == [[b'{"n":3}', b'{"n":7}'], [b'{"n":3}', b'{"n":7}']]
    assert sorted(kinesis.taken) == sorted(event.data for event in events(10))
    assert (summary.sent, summary.refused, summary.uncertain) == (10, 4, 0)


def test_a_stream_that_takes_nothing_is_given_up_after_a_minute() -> None:
    clock = FakeClock()
    started_s = clock.monotonic_s()
    with pytest.raises(Unavailable, match="10 records were refused"):
        producer(FakeKinesis(lambda _n, _data: True), clock).send(events(10))
    assert 60 <= clock.monotonic_s() - started_s < 65


def test_a_missing_stream_is_a_mistake_and_not_waited_for() -> None:
    missing = client_error("ResourceNotFoundException", 400)
    kinesis = FakeKinesis(failing(0, missing))
    with pytest.raises(Misconfigured, match="existing stream"):
        producer(kinesis).send(events(10))
    assert len(kinesis.requests) == 1


@pytest.mark.parametrize(
    "error",
    [client_error("InternalFailure", 500), ReadTimeoutError(endpoint_url="http://127.0.0.1")],
)
def test_what_may_have_been_taken_is_sent_again_and_noted_as_uncertain(
    tmp_path: Path, error: Exception
) -> None:
    with LedgerWriter(tmp_path / "ledger") as ledger:
        summary = producer(FakeKinesis(failing(0, error)), ledger=ledger).send(events(10))
    assert (summary.sent, summary.uncertain) == (10, 10)
    assert Ledger.read(tmp_path / "ledger").uncertain == 10


def test_throttling_of_a_whole_request_leaves_no_doubt() -> None:
    throttled = client_error("ProvisionedThroughputExceededException", 400)
    summary = producer(FakeKinesis(failing(0, throttled))).send(events(10))
    assert (summary.sent, summary.uncertain) == (10, 0)


def test_records_are_sent_at_the_rate_and_shortly_after_they_are_due() -> None:
    clock, kinesis = FakeClock(), FakeKinesis()
    summary = producer(kinesis, clock).send(events(500), rate=100.0)
    assert summary.seconds == pytest.approx(5.0, abs=0.05)
    assert summary.behind_s <= 0.03
    assert 200 < len(kinesis.requests) <= 500


def test_after_a_slow_answer_the_producer_catches_up_instead_of_shifting_the_schedule() -> None:
    clock = FakeClock()

    def slow(request: int, _: bytes) -> bool:
        if request == 10:
            clock.sleep(0.05)
        return False

    summary = producer(FakeKinesis(slow), clock).send(events(1_000), rate=200.0)
    assert summary.behind_s > 0.04
    assert summary.seconds == pytest.approx(5.0, abs=0.1)


def test_progress_counts_what_is_acknowledged() -> None:
    heard: list[Progress] = []
    producer(FakeKinesis()).send(events(1_001), on_progress=heard.append)
    assert [progress.sent for progress in heard] == [500, 1_000, 1_001]


def test_events_are_taken_as_they_are_needed() -> None:
    kinesis = FakeKinesis()

    def source() -> Iterator[Event]:
        for number, event in enumerate(events(2_000)):
            assert number <= len(kinesis.taken) + MAX_RECORDS
            yield event

    producer(kinesis).send(source())
    assert len(kinesis.taken) == 2_000


def test_the_ledger_holds_what_was_acknowledged_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "new" / "ledger.ndjson"
    kinesis = FakeKinesis(lambda request, data: request == 0 and data == b'{"n":0}')
    with LedgerWriter(path) as ledger:
        producer(kinesis, ledger=ledger).send(events(3))
        written = Ledger.read(path)
    assert [entry.transaction_id for entry in written.entries] == ["tx_1", "tx_2", "tx_0"]
    assert [entry.sequence_number for entry in written.entries] == ["1", "2", "3"]


def test_the_ledger_counts_each_kind(tmp_path: Path) -> None:
    kinds = [
        msgspec.structs.replace(EVENT, transaction_id="tx_1", fraud=True, held_ms=5),
        msgspec.structs.replace(EVENT, transaction_id="tx_2"),
        msgspec.structs.replace(EVENT, transaction_id="tx_1", record=RecordKind.DUPLICATE),
        msgspec.structs.replace(
            EVENT, transaction_id="tx_3", record=RecordKind.MALFORMED, malformed="not_json"
        ),
        msgspec.structs.replace(EVENT, transaction_id="tx_1", record=RecordKind.LABEL, time_ms=9),
    ]
    with LedgerWriter(tmp_path / "ledger") as writer:
        producer(FakeKinesis(), ledger=writer).send(kinds)
    ledger = Ledger.read(tmp_path / "ledger")
    assert (ledger.sent, ledger.unique, ledger.duplicates) == (5, 2, 1)
    assert (ledger.malformed, ledger.labels, ledger.late, ledger.frauds) == (1, 1, 1, 1)
    assert ledger.entries[4].label_time_ms == 9
    assert ledger.entries[0].label_time_ms is None
    assert set(ledger.transactions) == {"tx_1", "tx_2"}


def test_a_half_written_line_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with LedgerWriter(path) as writer:
        producer(FakeKinesis(), ledger=writer).send(events(2))
    path.write_bytes(path.read_bytes() + b'{"record":"trans')
    assert Ledger.read(path).sent == 2
