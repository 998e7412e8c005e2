"""The decision sink's promises, on the fake and on Firehose over a real socket."""

from collections.abc import Iterator
from typing import Protocol

import orjson
import pytest

from consumer.adapters.aws import client
from consumer.adapters.firehose import (
    BATCH_LIMIT_BYTES,
    RECORD_LIMIT_BYTES,
    FirehoseSink,
    cut,
    pack,
)
from consumer.document import DocumentFormat, build_document
from consumer.errors import Rejected, Unavailable
from consumer.ports import DecisionSink
from consumer.settings import Aws, Firehose
from tests import firehose_server as server
from tests.builders import a_transaction, an_assessment
from tests.fakes.clock import FakeClock
from tests.fakes.decision_sink import FakeSink
from tests.firehose_server import FirehoseServer

FORM = DocumentFormat(
    feature_names=("amount", "card_count_1h"), feature_hash="f" * 64, base_currency="EUR"
)
ATTEMPTS = 4
SETTINGS = Firehose(
    enabled=True,
    stream_name="fraudstream-decisions",
    record_bytes=2_048,
    attempts=ATTEMPTS,
    timeout_s=5.0,
)


def documents(*numbers: int) -> list[bytes]:
    return [build_document(an_assessment(number), FORM) for number in numbers]


def ids(content: bytes) -> list[str]:
    return [orjson.loads(line)["transaction_id"] for line in content.splitlines()]


class Behind(Protocol):
    """A sink with a way to make it fail for good and to see what arrived."""

    port: DecisionSink

    def fail_next(self) -> None: ...

    def arrived(self) -> list[str]: ...


class InMemory:
    def __init__(self) -> None:
        self.fake = FakeSink()
        self.port: DecisionSink = self.fake

    def fail_next(self) -> None:
        self.fake.fail(1)

    def arrived(self) -> list[str]:
        return ids(b"".join(self.fake.rows))


class OnSocket:
    def __init__(self, remote: FirehoseServer) -> None:
        self.remote = remote
        self.clock = FakeClock()
        self.errors: list[str] = []
        firehose = client(
            "firehose",
            Aws(region="us-east-1", endpoint_url=remote.url, sagemaker_runtime_url=None),
            connect_timeout_s=5,
            read_timeout_s=5,
            max_pool_connections=2,
        )
        self.sink = FirehoseSink(
            firehose, SETTINGS, sleep=self.clock.sleep, on_error=self.errors.append
        )
        self.port: DecisionSink = self.sink

    def fail_next(self) -> None:
        self.remote.plan(*[server.fail(503, "ServiceUnavailableException")] * ATTEMPTS)

    def arrived(self) -> list[str]:
        return ids(b"".join(self.remote.accepted))


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


@pytest.fixture
def firehose() -> Iterator[OnSocket]:
    with FirehoseServer() as remote:
        socket = OnSocket(remote)
        yield socket
        socket.sink.close()


@pytest.fixture(params=["fake", "firehose"])
def behind(request: pytest.FixtureRequest) -> Behind:
    if request.param == "fake":
        return InMemory()
    on_socket: OnSocket = request.getfixturevalue("firehose")
    return on_socket


def test_every_row_has_arrived_when_the_future_ends(behind: Behind) -> None:
    behind.port.publish(documents(1, 2, 3)).result(timeout=10)
    assert behind.arrived() == ["tx_1", "tx_2", "tx_3"]


def test_nothing_to_publish_ends_at_once(behind: Behind) -> None:
    behind.port.publish([]).result(timeout=10)
    assert behind.arrived() == []


def test_a_failed_publication_says_so_and_may_be_repeated(behind: Behind) -> None:
    behind.fail_next()
    with pytest.raises(Unavailable, match="firehose"):
        behind.port.publish(documents(1)).result(timeout=10)
    behind.port.publish(documents(1)).result(timeout=10)
    assert behind.arrived() == ["tx_1"]


def test_rows_share_records_that_end_in_a_newline(firehose: OnSocket) -> None:
    firehose.port.publish(documents(*range(10))).result(timeout=10)
    ((stream, records),) = firehose.remote.calls
    assert stream == "fraudstream-decisions"
    assert 1 < len(records) < 10
    assert all(record.endswith(b"}\n") and len(record) <= 2_048 for record in records)
    assert ids(b"".join(records)) == [f"tx_{number}" for number in range(10)]


def test_only_the_failed_records_are_sent_again(firehose: OnSocket) -> None:
    firehose.remote.plan(server.refuse(0, 2), server.refuse(1), server.accept)
    firehose.port.publish(documents(*range(8))).result(timeout=10)
    first, second, third = (records for _, records in firehose.remote.calls)
    assert second == [first[0], first[2]]
    assert third == [first[2]]
    assert sorted(firehose.arrived()) == sorted(f"tx_{number}" for number in range(8))
    assert firehose.errors == ["ServiceUnavailableException"] * 2


def test_records_without_an_answer_count_as_failed(firehose: OnSocket) -> None:
    firehose.remote.plan(server.answer_some)
    firehose.port.publish(documents(*range(8))).result(timeout=10)
    first, second = (records for _, records in firehose.remote.calls)
    assert second == first[1:]


def test_a_lost_answer_sends_the_rows_again(firehose: OnSocket) -> None:
    firehose.remote.plan(server.lose_answer)
    firehose.port.publish(documents(1)).result(timeout=10)
    assert firehose.arrived() == ["tx_1", "tx_1"]
    assert firehose.errors == ["connection"]


def test_pauses_grow_with_jitter_and_attempts_end(firehose: OnSocket) -> None:
    firehose.remote.always(server.fail(400, "ResourceNotFoundException"))
    with pytest.raises(Unavailable, match="ResourceNotFoundException") as failure:
        firehose.port.publish(documents(1)).result(timeout=10)
    assert failure.value.__cause__ is not None
    assert len(firehose.remote.calls) == ATTEMPTS
    assert len(firehose.clock.pauses) == ATTEMPTS - 1
    for pause_s, longest_s in zip(firehose.clock.pauses, (0.1, 0.2, 0.4), strict=True):
        assert 0 <= pause_s <= longest_s


def test_closing_sends_what_was_published(firehose: OnSocket) -> None:
    futures = [firehose.port.publish(documents(number)) for number in range(20)]
    firehose.sink.close()
    assert all(future.done() for future in futures)
    assert sorted(firehose.arrived()) == sorted(f"tx_{number}" for number in range(20))


def test_a_row_that_no_record_can_hold_is_rejected(firehose: OnSocket) -> None:
    giant = a_transaction(1, extra={"note": "x" * RECORD_LIMIT_BYTES})
    document = build_document(an_assessment(1, transaction=giant), FORM)
    with pytest.raises(Rejected, match="Firehose at most"):
        firehose.port.publish([document]).result(timeout=10)


def test_a_row_above_the_usual_size_is_a_record_of_its_own() -> None:
    assert list(pack([b"a\n", b"b" * 50 + b"\n", b"c\n", b"d\n"], 10)) == [
        b"a\n",
        b"b" * 50 + b"\n",
        b"c\nd\n",
    ]


def test_batches_keep_both_limits_of_the_service() -> None:
    assert [len(batch) for batch in cut([b"x"] * 1_001)] == [500, 500, 1]
    quarter = b"x" * (BATCH_LIMIT_BYTES // 4)
    assert [len(batch) for batch in cut([quarter] * 5)] == [4, 1]
    assert list(cut([])) == []
