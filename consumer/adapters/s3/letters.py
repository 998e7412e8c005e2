"""
Dead letters as S3 objects (gzip NDJSON, one letter an object, by day of arrival).

Name and content of an object depend on the record alone, so a record that is
delivered again overwrites its letter with the same bytes. NDJSON under
``dt=YYYY-MM-DD/`` is what Athena reads as it stands; a reader must be ready for
several letters in an object.
"""

import gzip
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import orjson

from consumer.adapters.s3.calls import list_keys, read_object, translated
from consumer.compression import GZIP_MAGIC
from consumer.errors import Rejected
from consumer.model import DeadLetter, Position, ShardId

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class S3DeadLetters:
    """
    A DeadLetterStore in one bucket.

    *threads* letters are put at a time; the client's connection pool should
    hold as many. Whoever makes it closes it.
    """

    def __init__(self, client: "S3Client", bucket: str, prefix: str, threads: int = 8) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="dead-letters")

    def put(self, letters: Sequence[DeadLetter]) -> None:
        """
        Store each letter and return when S3 has acknowledged all of them.

        Raises Unavailable when one was not acknowledged; others may be stored then.
        """
        puts = [self._pool.submit(self._put, letter) for letter in letters]
        # None may still be on its way when the caller learns of the first failure and retries.
        wait(puts)
        for put in puts:
            put.result()

    def close(self) -> None:
        """Let the threads go."""
        self._pool.shutdown()

    def _put(self, letter: DeadLetter) -> None:
        # No time and no name in the gzip header: the same letter is the same bytes.
        body = gzip.compress(_line(letter), compresslevel=6, mtime=0)
        with translated("put_object", self._bucket, self._prefix):
            self._client.put_object(
                Bucket=self._bucket,
                Key=letter_key(self._prefix, letter),
                Body=body,
                # Not Content-Encoding: a client that obeys it would unpack what is named .gz.
                ContentType="application/gzip",
            )


def letter_key(prefix: str, letter: DeadLetter) -> str:
    """Name the object of *letter*: the day is that of arrival, which no redelivery changes."""
    return f"{prefix}dt={_arrival(letter):%Y-%m-%d}/{letter.letter_id}.ndjson.gz"


def read_letters(
    client: "S3Client", bucket: str, prefix: str, day: str | None = None
) -> Iterator[DeadLetter]:
    """
    Yield the letters under *prefix* by day and name, or those of one *day* (YYYY-MM-DD).

    Raises Unavailable, and Rejected (``bad_letter``) for an object that holds
    something else, with its key.
    """
    folder = f"{prefix}dt={day}/" if day else f"{prefix}dt="
    for key in list_keys(client, bucket, folder):
        if not is_beside(key):
            yield from parse_letters(key, read_object(client, bucket, key))


def is_beside(key: str) -> bool:
    """Whether *key* is no letter but lies beside them; Athena passes over such names too."""
    return key.rpartition("/")[2].startswith("_")


def parse_letters(key: str, body: bytes) -> list[DeadLetter]:
    """
    Read the letters in the object *key*.

    People edit them, so an object may be plain text, one letter may take several
    lines, and its payload may be an object where there was a text. Raises Rejected
    (``bad_letter``).
    """
    try:
        text = gzip.decompress(body) if body.startswith(GZIP_MAGIC) else body
        try:
            return [_letter(msgspec.json.decode(text, type=_Line))]
        except msgspec.DecodeError:
            lines = [line for line in text.splitlines() if line.strip()]
            return [_letter(msgspec.json.decode(line, type=_Line)) for line in lines]
    except (EOFError, OSError, ValueError, OverflowError, RecursionError, zlib.error) as error:
        expected = f"expected dead letters, gzip or plain, a line of JSON each ({error})"
        raise Rejected("bad_letter", f"{key}: {expected}") from error


class _Line(msgspec.Struct):
    """One line. The sequence number is text: it has up to 56 digits, and JSON numbers 15."""

    id: str
    shard_id: str
    sequence_number: str
    sub_sequence_number: int
    arrival_time: datetime
    error: str
    message: str
    payload: msgspec.Raw
    masked: bool = False
    whole: bool = True


def _line(letter: DeadLetter) -> bytes:
    return orjson.dumps(
        {
            "id": letter.letter_id,
            "shard_id": letter.shard_id,
            "sequence_number": str(letter.position.sequence_number),
            "sub_sequence_number": letter.position.sub_sequence_number,
            "arrival_time": _arrival(letter)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "error": letter.error,
            "message": letter.message,
            "payload": letter.payload,
            "masked": letter.masked,
            "whole": letter.whole,
        },
        option=orjson.OPT_APPEND_NEWLINE,
    )


def _letter(line: _Line) -> DeadLetter:
    return DeadLetter(
        shard_id=ShardId(line.shard_id),
        position=Position(int(line.sequence_number), line.sub_sequence_number),
        arrival_ms=round(line.arrival_time.timestamp() * 1_000),
        error=line.error,
        message=line.message,
        payload=_payload(bytes(line.payload)),
        masked=line.masked,
        whole=line.whole,
    )


def _payload(raw: bytes) -> str:
    return msgspec.json.decode(raw, type=str) if raw.startswith(b'"') else raw.decode()


def _arrival(letter: DeadLetter) -> datetime:
    seconds, milliseconds = divmod(letter.arrival_ms, 1_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=milliseconds * 1_000)
