"""The dead letter store's promises, on the fake and on an S3 that answers over HTTP."""

import gzip
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Protocol

import orjson
import pytest

from consumer.adapters.aws import client
from consumer.adapters.s3.letters import S3DeadLetters, letter_key, read_letters
from consumer.errors import Rejected, Unavailable
from consumer.model import DeadLetter, Position, ShardId
from consumer.ports import DeadLetterStore
from consumer.settings import Aws
from tests.emulated_s3 import emulated_s3
from tests.fakes.dead_letters import FakeDeadLetters

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "letters"
PREFIX = "dead-letters/"
LETTER = DeadLetter(
    shard_id=ShardId("shardId-000000000000"),
    position=Position(49590338271490256608559692538361571095921575989136588898, 3),
    arrival_ms=1_790_035_199_999,  # 2026-09-21T23:59:59.999Z
    error="not_json",
    message="event: expected one JSON object (RFC 8259)",
    payload='transaction\n"[pan]" \u20ac',
    masked=True,
)


class Store(Protocol):
    """A store with a way to look behind it."""

    port: DeadLetterStore

    def read(self) -> list[DeadLetter]: ...

    def break_down(self) -> None: ...


class InMemory:
    def __init__(self) -> None:
        self.fake = FakeDeadLetters()
        self.port: DeadLetterStore = self.fake

    def read(self) -> list[DeadLetter]:
        return list(self.fake.letters.values())

    def break_down(self) -> None:
        self.fake.down = True


class InS3:
    def __init__(self, s3: "S3Client", store: S3DeadLetters, bucket: str) -> None:
        self.s3 = s3
        self.bucket = bucket
        self.port: DeadLetterStore = store

    def read(self) -> list[DeadLetter]:
        return list(read_letters(self.s3, self.bucket, PREFIX))

    def break_down(self) -> None:
        for entry in self.s3.list_objects_v2(Bucket=self.bucket).get("Contents", ()):
            self.s3.delete_object(Bucket=self.bucket, Key=entry["Key"])
        self.s3.delete_bucket(Bucket=self.bucket)


@pytest.fixture(scope="module")
def s3() -> Iterator["S3Client"]:
    with emulated_s3() as client:
        yield client


NUMBERS = count()


@pytest.fixture
def in_s3(s3: "S3Client") -> Iterator[InS3]:
    bucket = f"{BUCKET}-{next(NUMBERS)}"
    s3.create_bucket(Bucket=bucket)
    with closing(S3DeadLetters(s3, bucket, PREFIX)) as store:
        yield InS3(s3, store, bucket)


@pytest.fixture(params=["fake", "s3"])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "fake":
        return InMemory()
    found: InS3 = request.getfixturevalue("in_s3")
    return found


def test_a_letter_is_kept_as_it_was_put(store: Store) -> None:
    store.port.put([LETTER])

    assert store.read() == [LETTER]


def test_no_letters_are_nothing_to_do(store: Store) -> None:
    store.port.put([])

    assert store.read() == []


def test_a_letter_that_is_put_again_is_the_same_letter(store: Store) -> None:
    store.port.put([LETTER])
    store.port.put([LETTER, LETTER])

    assert store.read() == [LETTER]


def test_letters_of_one_aggregate_are_kept_apart(store: Store) -> None:
    letters = [
        replace(LETTER, position=replace(LETTER.position, sub_sequence_number=number))
        for number in range(20)
    ]
    store.port.put(letters)

    assert sorted(store.read(), key=lambda letter: letter.position) == letters


def test_a_store_that_does_not_take_a_letter_says_so(store: Store) -> None:
    store.break_down()

    with pytest.raises(Unavailable) as caught:
        store.port.put([LETTER])

    assert caught.value.dependency == "s3"


def test_an_object_is_named_by_the_day_of_arrival_and_the_place_in_the_stream(in_s3: InS3) -> None:
    in_s3.port.put([LETTER])

    (entry,) = in_s3.s3.list_objects_v2(Bucket=in_s3.bucket)["Contents"]
    assert entry["Key"] == letter_key(PREFIX, LETTER)
    assert entry["Key"] == (
        "dead-letters/dt=2026-09-21/shardId-000000000000-"
        "49590338271490256608559692538361571095921575989136588898-3.ndjson.gz"
    )


def test_an_object_is_one_line_of_json_and_the_same_bytes_each_time(in_s3: InS3) -> None:
    bodies = []
    for _ in range(2):
        in_s3.port.put([LETTER])
        answer = in_s3.s3.get_object(Bucket=in_s3.bucket, Key=letter_key(PREFIX, LETTER))
        bodies.append(answer["Body"].read())

    assert bodies[0] == bodies[1]
    assert orjson.loads(gzip.decompress(bodies[0])) == {
        "id": LETTER.letter_id,
        "shard_id": "shardId-000000000000",
        "sequence_number": "49590338271490256608559692538361571095921575989136588898",
        "sub_sequence_number": 3,
        "arrival_time": "2026-09-21T23:59:59.999Z",
        "error": "not_json",
        "message": "event: expected one JSON object (RFC 8259)",
        "payload": 'transaction\n"[pan]" \u20ac',
        "masked": True,
        "whole": True,
    }


def test_letters_are_read_by_day_and_past_the_first_page(in_s3: InS3) -> None:
    day_ms = 86_400_000
    letters = [
        replace(LETTER, position=Position(number), arrival_ms=number * day_ms + 1)
        for number in range(3)
    ]
    in_s3.port.put(letters)

    assert list(read_letters(in_s3.s3, in_s3.bucket, PREFIX, "1970-01-02")) == [letters[1]]
    assert in_s3.read() == letters


def test_an_object_may_hold_several_letters(in_s3: InS3) -> None:
    other = replace(LETTER, position=Position(7))
    in_s3.port.put([LETTER, other])
    keys = [letter_key(PREFIX, letter) for letter in (LETTER, other)]
    bodies = [in_s3.s3.get_object(Bucket=in_s3.bucket, Key=key)["Body"].read() for key in keys]
    in_s3.s3.put_object(Bucket=in_s3.bucket, Key=keys[0], Body=b"".join(bodies))
    in_s3.s3.delete_object(Bucket=in_s3.bucket, Key=keys[1])

    assert in_s3.read() == [LETTER, other]


@pytest.mark.parametrize(
    "body", [b"no gzip", gzip.compress(b"{}\n", mtime=0), gzip.compress(b"whole", mtime=0)[:-4]]
)
def test_an_object_that_is_no_letter_is_named(in_s3: InS3, body: bytes) -> None:
    key = f"{PREFIX}dt=2026-09-21/odd.ndjson.gz"
    in_s3.s3.put_object(Bucket=in_s3.bucket, Key=key, Body=body)

    with pytest.raises(Rejected) as caught:
        in_s3.read()

    assert caught.value.code == "bad_letter"
    assert key in caught.value.message


def test_an_s3_that_cannot_be_reached_is_unavailable(in_s3: InS3) -> None:
    nowhere = client(
        "s3",
        Aws(endpoint_url="http://127.0.0.1:9"),
        connect_timeout_s=1,
        read_timeout_s=1,
        max_pool_connections=1,
    )
    with closing(S3DeadLetters(nowhere, in_s3.bucket, PREFIX)) as store:
        with pytest.raises(
            Unavailable,
            match=r"s3: put_object s3://.+ \(nothing answers there: .+\): EndpointConnectionError$",
        ):
            store.put([LETTER])
        with pytest.raises(
            Unavailable, match=r"s3: list_objects_v2 s3://.+: EndpointConnectionError$"
        ):
            list(read_letters(nowhere, in_s3.bucket, PREFIX))
    nowhere.close()
