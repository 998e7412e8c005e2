"""
Dead letters in S3 as they are sent again, and the marks beside them.

The mark of a letter is ``_<id>.redrive.json`` in the folder of its object, so that one
listing tells both; Athena passes over names that begin with ``_``. It is put on the
condition that none is there (``If-None-Match: *``) or that the one seen still is
(``If-Match``): of two operators one sends. A store without conditional puts refuses.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING

import msgspec
import orjson

from consumer.adapters.s3.calls import list_keys, read_object, translated
from consumer.adapters.s3.letters import is_beside, parse_letters
from consumer.errors import Rejected, Unavailable
from consumer.letters import Filed, Filter, Found, Mark, State, Unreadable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_AT_A_TIME = 200
_SUFFIX = ".redrive.json"
# Somebody else made or changed the mark between our look and our put.
_LOST = ("PreconditionFailed", "ConditionalRequestConflict")


class S3LetterBox:
    """A LetterBox in one bucket; reads *threads* objects at a time. Whoever makes it closes it."""

    def __init__(self, client: "S3Client", bucket: str, prefix: str, threads: int = 8) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="letters")

    def find(self, wanted: Filter, keep: Callable[[Filed], bool], limit: int | None) -> list[Found]:
        """Return the letters that *wanted* admits and *keep* takes. See ``LetterBox``."""
        found = (
            each
            for folder in self._folders(wanted)
            for each in self._read_folder(folder)
            if isinstance(each, Unreadable) or (wanted.admits(each.letter) and keep(each))
        )
        return list(islice(found, limit))

    def find_one(self, letter_id: str) -> Found | None:
        """
        Return the letter of that id, looked for by its name in each folder.

        One that a person moved into the object of another is found by ``find`` alone:
        a mistyped id must not read every letter there is.
        """
        for folder in self._folders(Filter()):
            for each in self._read_folder(folder, letter_id):
                if isinstance(each, Unreadable):
                    if f"{letter_id}." in each.place:
                        return each
                elif each.letter.letter_id == letter_id:
                    return each
        return None

    def claim(
        self, letters: Sequence[Filed], marks: Sequence[Mark]
    ) -> list[Filed | Unavailable | None]:
        """Put the mark of each letter beside it if it may be. See ``LetterBox``."""
        return list(self._pool.map(self._claim, letters, marks))

    def settle(self, letters: Sequence[Filed], marks: Sequence[Mark]) -> None:
        """Put the mark of each letter in the place of the claimed one. Raises Unavailable."""
        for _ in self._pool.map(self._put, letters, marks):
            pass

    def _claim(self, filed: Filed, mark: Mark) -> Filed | Unavailable | None:
        try:
            return replace(filed, mark=mark, version=self._put(filed, mark))
        except Unavailable as error:
            return None if error.message.endswith(_LOST) else error

    def close(self) -> None:
        """Let the threads go."""
        self._pool.shutdown(cancel_futures=True)

    def _folders(self, wanted: Filter) -> list[str]:
        """The folders of the days that *wanted* speaks of, oldest first."""
        with translated("list_objects_v2", self._bucket, self._prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=f"{self._prefix}dt=", Delimiter="/"
            )
            folders = sorted(
                each["Prefix"] for page in pages for each in page.get("CommonPrefixes", ())
            )
        first = "" if wanted.since_ms is None else _folder(self._prefix, wanted.since_ms)
        last = None if wanted.until_ms is None else _folder(self._prefix, wanted.until_ms)
        return [each for each in folders if first <= each and (last is None or each <= last)]

    def _read_folder(self, folder: str, letter_id: str | None = None) -> Iterator[Found]:
        """The letters of one day, those of the object of *letter_id* alone where it is named."""
        names = list(list_keys(self._client, self._bucket, f"{folder}{letter_id or ''}"))
        marks = {key for key in names if is_beside(key)}
        if letter_id is not None:
            marks |= set(list_keys(self._client, self._bucket, _mark_key(folder, letter_id)))
        letters = [key for key in names if not is_beside(key)]
        for start in range(0, len(letters), _AT_A_TIME):
            batch = letters[start : start + _AT_A_TIME]
            for found in self._pool.map(lambda key: self._read_object(key, marks), batch):
                yield from found

    def _read_object(self, key: str, marks: set[str]) -> Sequence[Found]:
        """The letters in the object *key*, with those of *marks* that are theirs."""
        body = read_object(self._client, self._bucket, key)
        try:
            letters = [Filed(letter, key) for letter in parse_letters(key, body)]
        except Rejected as error:
            return [Unreadable(key, error.message)]
        folder = key.rpartition("/")[0] + "/"
        named = [(each, _mark_key(folder, each.letter.letter_id)) for each in letters]
        return [self._with_mark(each, mark) if mark in marks else each for each, mark in named]

    def _with_mark(self, filed: Filed, key: str) -> Found:
        with translated("get_object", self._bucket, key):
            answer = self._client.get_object(Bucket=self._bucket, Key=key)
            body = answer["Body"].read()
        try:
            mark = _parse_mark(msgspec.json.decode(body, type=_MarkLine))
        except ValueError as error:
            return Unreadable(key, f"{key}: expected the mark of a letter ({error})")
        return replace(filed, mark=mark, version=answer["ETag"])

    def _put(self, filed: Filed, mark: Mark) -> str:
        """Put *mark* where that of *filed* is, or where none is; return its version."""
        folder = filed.place.rpartition("/")[0] + "/"
        condition: Mapping[str, str] = (
            {"IfNoneMatch": "*"} if filed.version is None else {"IfMatch": filed.version}
        )
        with translated("put_object", self._bucket, _mark_key(folder, filed.letter.letter_id)):
            return self._client.put_object(
                Bucket=self._bucket,
                Key=_mark_key(folder, filed.letter.letter_id),
                Body=_format_mark(filed.letter.letter_id, mark),
                ContentType="application/json",
                **condition,  # type: ignore[arg-type]  # one of two conditions, both texts
            )["ETag"]


class _MarkLine(msgspec.Struct):
    """A mark as it is stored."""

    state: State
    at: datetime
    by: str
    to: str
    result: str = ""
    detail: str = ""
    changed: bool = False


def _format_mark(letter_id: str, mark: Mark) -> bytes:
    return orjson.dumps(
        {
            "id": letter_id,
            "state": mark.state,
            "at": datetime.fromtimestamp(mark.at_ms / 1000, UTC).isoformat(timespec="milliseconds"),
            "by": mark.by,
            "to": mark.to,
            "result": mark.result,
            "detail": mark.detail,
            "changed": mark.changed,
        },
        option=orjson.OPT_APPEND_NEWLINE,
    )


def _parse_mark(line: _MarkLine) -> Mark:
    return Mark(
        state=line.state,
        at_ms=round(line.at.timestamp() * 1000),
        by=line.by,
        to=line.to,
        result=line.result,
        detail=line.detail,
        changed=line.changed,
    )


def _mark_key(folder: str, letter_id: str) -> str:
    return f"{folder}_{letter_id}{_SUFFIX}"


def _folder(prefix: str, time_ms: int) -> str:
    return f"{prefix}dt={datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d}/"
