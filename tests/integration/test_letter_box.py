"""Dead letters as they are sent again: found by what is asked, claimed by one, over HTTP."""

import gzip
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

import pytest

from consumer.adapters.s3.letter_box import S3LetterBox
from consumer.adapters.s3.letters import S3DeadLetters, letter_key, read_letters
from consumer.errors import Unavailable
from consumer.letters import Filed, Filter, Mark, State, Unreadable
from consumer.model import DeadLetter, Position
from tests.builders import SHARD
from tests.emulated_s3 import emulated_s3

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PREFIX = "dead-letters/"
DAY_MS = 86_400_000
NUMBERS = count()
MARK = Mark(State.SENDING, 1_790_000_000_123, "ops@host", "engine", changed=True)


@pytest.fixture(scope="module")
def s3() -> Iterator["S3Client"]:
    with emulated_s3() as client:
        yield client


@pytest.fixture
def bucket(s3: "S3Client") -> str:
    name = f"letters-{next(NUMBERS)}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
def box(s3: "S3Client", bucket: str) -> Iterator[S3LetterBox]:
    with closing(S3LetterBox(s3, bucket, PREFIX)) as made:
        yield made


def a_letter(number: int, **changes: object) -> DeadLetter:
    letter = DeadLetter(SHARD, Position(number), number * DAY_MS, "bad_value", "why", '{"a": 1}')
    return replace(letter, **changes)  # type: ignore[arg-type]  # the names are the caller's


def put(s3: "S3Client", bucket: str, *letters: DeadLetter) -> None:
    with closing(S3DeadLetters(s3, bucket, PREFIX)) as store:
        store.put(letters)


def everything(_: Filed) -> bool:
    return True


def found(box: S3LetterBox, wanted: Filter, limit: int | None = None) -> list[DeadLetter]:
    listed = box.find(wanted, everything, limit)
    assert all(isinstance(each, Filed) for each in listed)
    return [each.letter for each in listed if isinstance(each, Filed)]


def one(box: S3LetterBox, letter: DeadLetter) -> Filed:
    filed = box.find_one(letter.letter_id)
    assert isinstance(filed, Filed)
    return filed


def test_letters_are_found_by_time_error_and_shard(
    s3: "S3Client", bucket: str, box: S3LetterBox
) -> None:
    letters = [a_letter(1), a_letter(2, error="too_large"), a_letter(3)]
    put(s3, bucket, *letters)
    first, second, third = letters
    for wanted, expected in (
        (Filter(), letters),
        (Filter(since_ms=2 * DAY_MS), [second, third]),
        (Filter(since_ms=2 * DAY_MS + 1), [third]),
        (Filter(until_ms=2 * DAY_MS), [first, second]),
        (Filter(until_ms=2 * DAY_MS - 1), [first]),
        (Filter(error="too_large"), [second]),
        (Filter(shard=SHARD), letters),
        (Filter(shard="another"), []),
    ):
        assert found(box, wanted) == expected, wanted
    assert found(box, Filter(), limit=2) == letters[:2]


def test_a_letter_is_found_by_its_id_alone(s3: "S3Client", bucket: str, box: S3LetterBox) -> None:
    # The name of the one begins with that of the other.
    put(s3, bucket, a_letter(1), a_letter(1, position=Position(1, 10)))
    assert one(box, a_letter(1)).letter == a_letter(1)
    assert box.find_one("nobody") is None


def test_a_letter_in_the_object_of_another_is_found(
    s3: "S3Client", bucket: str, box: S3LetterBox
) -> None:
    first, second = a_letter(1), a_letter(2)
    put(s3, bucket, first, second)
    keys = [letter_key(PREFIX, letter) for letter in (first, second)]
    bodies = [s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys]
    s3.put_object(Bucket=bucket, Key=keys[0], Body=b"".join(bodies))
    s3.delete_object(Bucket=bucket, Key=keys[1])
    listed = box.find(Filter(), everything, None)
    assert [(each.letter, each.place) for each in listed if isinstance(each, Filed)] == [
        (first, keys[0]),
        (second, keys[0]),
    ]


def test_of_two_who_saw_a_letter_open_one_claims_it(
    s3: "S3Client", bucket: str, box: S3LetterBox
) -> None:
    put(s3, bucket, a_letter(1))
    with closing(S3LetterBox(s3, bucket, PREFIX)) as other:
        mine, theirs = one(box, a_letter(1)), one(other, a_letter(1))
        (claimed,) = box.claim([mine], [MARK])
        assert isinstance(claimed, Filed)
        assert other.claim([theirs], [MARK]) == [None]
    assert one(box, a_letter(1)).mark == MARK


def test_a_claimed_letter_is_claimed_again_only_by_who_saw_its_mark(
    s3: "S3Client", bucket: str, box: S3LetterBox
) -> None:
    put(s3, bucket, a_letter(1))
    (claimed,) = box.claim([one(box, a_letter(1))], [MARK])
    assert isinstance(claimed, Filed)
    seen = one(box, a_letter(1))
    sent = replace(MARK, state=State.SENT, result="decided", detail="approve")
    box.settle([claimed], [sent])
    assert one(box, a_letter(1)).mark == sent
    assert box.claim([seen], [MARK]) == [None]
    (again,) = box.claim([one(box, a_letter(1))], [MARK])
    assert again is not None


def test_what_is_asked_for_may_depend_on_the_mark(
    s3: "S3Client", bucket: str, box: S3LetterBox
) -> None:
    put(s3, bucket, a_letter(1), a_letter(2))
    box.claim([one(box, a_letter(1))], [MARK])
    (listed,) = box.find(Filter(), lambda filed: filed.state is State.OPEN, None)
    assert isinstance(listed, Filed)
    assert listed.letter == a_letter(2)


def test_marks_are_no_letters(s3: "S3Client", bucket: str, box: S3LetterBox) -> None:
    put(s3, bucket, a_letter(1))
    box.claim([one(box, a_letter(1))], [MARK])
    assert list(read_letters(s3, bucket, PREFIX)) == [a_letter(1)]
    assert found(box, Filter()) == [a_letter(1)]


@pytest.mark.parametrize("body", [b"", b"no mark", b'{"state": "gone", "by": "x"}'])
def test_a_mark_that_is_none_is_named(
    s3: "S3Client", bucket: str, box: S3LetterBox, body: bytes
) -> None:
    put(s3, bucket, a_letter(1))
    key = f"{PREFIX}dt=1970-01-02/_{a_letter(1).letter_id}.redrive.json"
    s3.put_object(Bucket=bucket, Key=key, Body=body)
    (listed,) = box.find(Filter(), everything, None)
    assert isinstance(listed, Unreadable)
    assert key in listed.message


def test_a_broken_object_hides_no_other(s3: "S3Client", bucket: str, box: S3LetterBox) -> None:
    put(s3, bucket, a_letter(1), a_letter(2))
    key = letter_key(PREFIX, a_letter(1))
    s3.put_object(Bucket=bucket, Key=key, Body=gzip.compress(b"{}"))
    broken, whole = box.find(Filter(), everything, None)
    assert isinstance(broken, Unreadable)
    assert broken.place == key
    assert isinstance(whole, Filed)
    assert whole.letter == a_letter(2)


def test_a_bucket_that_is_gone_is_unavailable(s3: "S3Client") -> None:
    with closing(S3LetterBox(s3, "nowhere", PREFIX)) as box:
        with pytest.raises(Unavailable, match="NoSuchBucket"):
            box.find(Filter(), everything, None)
        filed = Filed(a_letter(1), f"{PREFIX}dt=1970-01-02/x.ndjson.gz")
        (refusal,) = box.claim([filed], [MARK])
        assert isinstance(refusal, Unavailable)
        assert "put_object" in refusal.message
