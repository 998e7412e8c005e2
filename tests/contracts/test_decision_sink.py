"""The decision sink's promises, on the fake, on Firehose over a socket and on its spill in S3."""

import re
from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING, Protocol

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
from consumer.adapters.s3.rows import S3Rows, rows_key
from consumer.document import DocumentFormat, build_document
from consumer.errors import Rejected, Unavailable
from consumer.ports import DecisionSink
from consumer.row import build_row
from consumer.settings import Aws, Firehose
from consumer.spill import PROBE_S, Spill
from tests import firehose_server as server
from tests.builders import a_transaction, an_assessment, an_origin
from tests.emulated_s3 import emulated_s3
from tests.fakes.clock import FakeClock
from tests.fakes.decision_sink import FakeSink
from tests.firehose_server import FirehoseServer

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

NUMBERS = count()
AFTER_S = 30.0
FORM = DocumentFormat(
    feature_names=("amount", "card_count_1h"), feature_hash="f" * 64, base_currency="EUR"
)
ATTEMPTS = 4
SETTINGS = Firehose(
    enabled=True,
    stream_name="fraudstream-decisions",
    record_bytes=4_096,
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
    def __init__(self, remote: FirehoseServer, clock: FakeClock, spill: Spill | None) -> None:
        self.remote = remote
        self.clock = clock
        self.errors: list[str] = []
        firehose = client(
            "firehose",
            Aws(region="us-east-1", endpoint_url=remote.url, sagemaker_runtime_url=None),
            connect_timeout_s=5,
            read_timeout_s=5,
            max_pool_connections=2,
        )
        self.sink = FirehoseSink(
            firehose, SETTINGS, sleep=self.clock.sleep, on_error=self.errors.append, spill=spill
        )
        self.port: DecisionSink = self.sink

    def fail_next(self) -> None:
        self.remote.plan(*[server.fail(503, "ServiceUnavailableException")] * ATTEMPTS)

    def arrived(self) -> list[str]:
        return ids(b"".join(self.remote.accepted))


class Spilling(OnSocket):
    """Firehose that takes nothing, in front of an S3 that does."""

    def __init__(self, remote: FirehoseServer, clock: FakeClock, store: "S3Store") -> None:
        remote.always(server.fail(400, "ResourceNotFoundException"))
        self.store = store
        self.watcher = Heard()
        self.spill = Spill(store, after_s=AFTER_S, clock=clock, watcher=self.watcher)
        super().__init__(remote, clock, self.spill)

    def fail_next(self) -> None:
        self.store.failures = 1

    def arrived(self) -> list[str]:
        return ids(b"".join(self.store.objects().values())) + super().arrived()


class Heard:
    """Keeps what a spill says of itself."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.changes: list[bool] = []

    def rows_spilled(self, rows: int) -> None:
        self.rows.append(rows)

    def spilling_changed(self, begun: bool) -> None:  # noqa: FBT001 - as the protocol has it
        self.changes.append(begun)


class S3Store:
    """Rows in an S3 over HTTP, which may be told to fail first."""

    def __init__(self, s3: "S3Client", bucket: str) -> None:
        self.s3 = s3
        self.bucket = bucket
        self.rows = S3Rows(s3, bucket, "decisions/")
        self.failures = 0

    def put(self, rows: bytes) -> None:
        if self.failures:
            self.failures -= 1
            raise Unavailable("s3", "put_object: told to fail")
        self.rows.put(rows)

    def objects(self) -> dict[str, bytes]:
        """Key → content."""
        found = self.s3.list_objects_v2(Bucket=self.bucket).get("Contents", ())
        return {
            entry["Key"]: self.s3.get_object(Bucket=self.bucket, Key=entry["Key"])["Body"].read()
            for entry in found
        }


@pytest.fixture(scope="module")
def s3() -> Iterator["S3Client"]:
    with emulated_s3() as client:
        yield client


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


@pytest.fixture
def firehose() -> Iterator[OnSocket]:
    with FirehoseServer() as remote:
        socket = OnSocket(remote, FakeClock(), None)
        yield socket
        socket.sink.close()


@pytest.fixture
def spilling(s3: "S3Client") -> Iterator[Spilling]:
    bucket = f"decisions-{next(NUMBERS)}"
    s3.create_bucket(Bucket=bucket)
    with FirehoseServer() as remote:
        behind = Spilling(remote, FakeClock(), S3Store(s3, bucket))
        yield behind
        behind.sink.close()


@pytest.fixture(params=["fake", "firehose", "spilling"])
def behind(request: pytest.FixtureRequest) -> Behind:
    if request.param == "fake":
        return InMemory()
    on_socket: OnSocket = request.getfixturevalue(request.param)
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
    assert all(record.endswith(b"}\n") and len(record) <= 4_096 for record in records)
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


def test_rows_that_firehose_refuses_for_too_long_lie_in_s3(spilling: Spilling) -> None:
    spilling.port.publish(documents(1, 2)).result(timeout=10)

    ((key, rows),) = spilling.store.objects().items()
    assert ids(rows) == ["tx_1", "tx_2"]
    assert re.fullmatch(
        r"decisions/2026/06/01/12/spill-shardId-000000000000-1_0-2_0-[0-9a-f]{16}\.ndjson", key
    )
    assert sum(spilling.clock.pauses) >= AFTER_S
    assert spilling.watcher.changes == [True]
    assert spilling.watcher.rows == [2]


def test_what_is_sent_for_less_than_that_waits_for_firehose(spilling: Spilling) -> None:
    refusals = [server.fail(503, "ServiceUnavailableException")] * 5
    spilling.remote.plan(*refusals)
    spilling.remote.always(server.accept)
    spilling.port.publish(documents(1)).result(timeout=10)

    assert spilling.store.objects() == {}
    assert ids(b"".join(spilling.remote.accepted)) == ["tx_1"]
    assert spilling.watcher.changes == []


def test_only_what_was_not_taken_is_spilled(spilling: Spilling) -> None:
    spilling.remote.always(server.refuse(0))
    spilling.port.publish(documents(*range(8))).result(timeout=10)

    spilled = ids(b"".join(spilling.store.objects().values()))
    accepted = ids(b"".join(spilling.remote.accepted))
    assert spilled
    assert sorted(spilled + accepted) == sorted(f"tx_{number}" for number in range(8))


def test_an_open_spill_asks_firehose_now_and_then_and_gives_way_to_it(spilling: Spilling) -> None:
    spilling.port.publish(documents(1)).result(timeout=10)
    calls = len(spilling.remote.calls)
    for number in (2, 3):
        spilling.port.publish(documents(number)).result(timeout=10)
    assert len(spilling.remote.calls) == calls

    spilling.clock.sleep(PROBE_S)
    spilling.port.publish(documents(4)).result(timeout=10)
    assert len(spilling.remote.calls) == calls + 1
    assert len(spilling.store.objects()) == 4

    spilling.remote.always(server.accept)
    spilling.port.publish(documents(5)).result(timeout=10)
    spilling.clock.sleep(PROBE_S)
    for number in (6, 7):
        spilling.port.publish(documents(number)).result(timeout=10)
    assert ids(b"".join(spilling.remote.accepted)) == ["tx_6", "tx_7"]
    assert spilling.watcher.changes == [True, False]
    assert spilling.watcher.rows == [1] * 5


def test_a_spill_that_refuses_lets_the_next_batch_ask_firehose(spilling: Spilling) -> None:
    spilling.fail_next()
    with pytest.raises(Unavailable, match="nor does its spill: s3: put_object") as failure:
        spilling.port.publish(documents(1)).result(timeout=10)
    assert failure.value.dependency == "firehose"

    spilling.remote.always(server.accept)
    spilling.port.publish(documents(1)).result(timeout=10)
    assert ids(b"".join(spilling.remote.accepted)) == ["tx_1"]
    assert spilling.watcher.changes == [True, False]


def test_a_batch_that_is_delivered_again_overwrites_its_object(spilling: Spilling) -> None:
    for _ in range(2):
        spilling.port.publish(documents(1, 2)).result(timeout=10)

    assert spilling.arrived() == ["tx_1", "tx_2"]


def test_rows_from_elsewhere_than_a_shard_are_named_by_their_source() -> None:
    origin = an_origin(1, source="rest", shard_id=None, position=None)
    row = build_row(build_document(an_assessment(1, origin=origin), FORM))

    assert re.fullmatch(r"d/2026/06/01/12/spill-rest-[0-9a-f]{16}\.ndjson", rows_key("d/", row))
