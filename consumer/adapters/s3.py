"""
Dead letters as S3 objects (gzip NDJSON, one letter an object, by day of arrival), and texts.

Name and content of an object depend on the record alone, so a record that is
delivered again overwrites its letter with the same bytes. NDJSON under
``dt=YYYY-MM-DD/`` is what Athena reads as it stands; a reader must be ready for
several letters in an object.
"""

import gzip
import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec
import orjson
from botocore.exceptions import BotoCoreError, ClientError

from consumer.errors import Rejected, Unavailable
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
        with _translated("put_object"):
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
    for key in _keys(client, bucket, folder):
        with _translated("get_object"):
            body = client.get_object(Bucket=bucket, Key=key)["Body"].read()
        try:
            lines = gzip.decompress(body).splitlines()
            letters = [_letter(msgspec.json.decode(line, type=_Line)) for line in lines]
        except (EOFError, OSError, ValueError, zlib.error) as error:
            raise Rejected("bad_letter", f"{key}: expected gzip lines of dead letters") from error
        yield from letters


def fetch(client: "S3Client", source: str, target: Path) -> Path:
    """
    A local file with what *source* names: itself, or *target* with the ``s3://`` object.

    Raises Unavailable.
    """
    if not source.startswith("s3://"):
        return Path(source)
    location = urlsplit(source)
    with _translated("get_object"):
        body = client.get_object(Bucket=location.netloc, Key=location.path.lstrip("/"))["Body"]
        with target.open("wb") as file:
            for piece in body.iter_chunks():
                file.write(piece)
    return target


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    """One line. The sequence number is text: it has up to 56 digits, and JSON numbers 15."""

    id: str
    shard_id: str
    sequence_number: str
    sub_sequence_number: int
    arrival_time: datetime
    error: str
    message: str
    payload: str


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
        payload=line.payload,
    )


def _arrival(letter: DeadLetter) -> datetime:
    seconds, milliseconds = divmod(letter.arrival_ms, 1_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=milliseconds * 1_000)


def _keys(client: "S3Client", bucket: str, folder: str) -> Iterator[str]:
    with _translated("list_objects_v2"):
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=folder):
            yield from (entry["Key"] for entry in page.get("Contents", ()))


@contextmanager
def _translated(operation: str) -> Iterator[None]:
    """Turn the errors of the SDK into Unavailable with the operation and the error's code."""
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "unknown")
        raise Unavailable("s3", f"{operation}: {code}") from error
    except BotoCoreError as error:
        raise Unavailable("s3", f"{operation}: {type(error).__name__}") from error


class S3Texts:
    """
    Texts in the objects of *bucket* directly below *prefix* that end in *suffix*.

    A whole key as *prefix* with no suffix names one object. A version is the ETag. Audit lines
    are objects of their own under ``audit/``, since S3 cannot append.
    """

    def __init__(self, client: "S3Client", bucket: str, prefix: str, suffix: str = "") -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix
        self._suffix = suffix

    @property
    def place(self) -> str:
        """Where they are, for messages."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def versions(self) -> dict[str, str]:
        """Return name → ETag. Raises Unavailable."""
        found = {}
        with _translated("list_objects_v2"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix
            )
            for page in pages:
                for entry in page.get("Contents", ()):
                    name = entry["Key"].removeprefix(self._prefix)
                    if self._holds(name):
                        found[name] = entry["ETag"]
        return found

    def _holds(self, name: str) -> bool:
        if not self._suffix:
            return not name
        return name.endswith(self._suffix) and "/" not in name

    def read(self, name: str) -> bytes:
        """Return the content of *name*. Raises Unavailable."""
        with _translated("get_object"):
            key = self._prefix + name
            return self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()

    def change(self, name: str, data: bytes, expected: str | None, audit: bytes) -> None:
        """
        Replace *name* by *data* if its ETag is *expected* (None: if it does not exist).

        The line *audit* is stored first: one too many is better than a change nobody answers
        for. Raises Unavailable.
        """
        with _translated("put_object"):
            self._client.put_object(
                Bucket=self._bucket,
                Key=f"{self._prefix}audit/{time.time_ns()}.json",
                Body=audit + b"\n",
                ContentType="application/json",
            )
            if expected is None:
                self._client.put_object(
                    Bucket=self._bucket, Key=self._prefix + name, Body=data, IfNoneMatch="*"
                )
            else:
                self._client.put_object(
                    Bucket=self._bucket, Key=self._prefix + name, Body=data, IfMatch=expected
                )
