"""
The files of a history: listed, narrowed by glob and time, and brought here one by one.

An address is ``s3://bucket/prefix`` or a path; either may hold a glob, in which ``**``
crosses folders, ``*`` and ``?`` stay within one. A folder or prefix means all below it but what
begins with ``_`` or ``.``, as those are the notes of other programs.
"""

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from consumer.errors import Misconfigured, Problem

S3 = "s3://"
_GLOB = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object of a bucket; ``version`` is its ETag."""

    key: str
    size_bytes: int
    version: str


class Bucket(Protocol):
    """The objects of one bucket."""

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        """List what begins with *prefix*, in order of keys. Raises Unavailable."""
        ...

    def fetch(self, stored: StoredObject, target: Path) -> None:
        """Write *stored* to *target*. Raises Unavailable, also when it has changed since."""
        ...


OpenBucket = Callable[[str], Bucket]
"""Gives the bucket of a name."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One file of a history; ``version`` is its ETag or its time of change in nanoseconds."""

    address: str
    size_bytes: int
    version: str
    stored: StoredObject | None = None
    bucket: Bucket | None = None


@dataclass(frozen=True, slots=True)
class Period:
    """From ``since`` until before ``until``, both UTC; None is open."""

    since: datetime | None = None
    until: datetime | None = None

    def holds(self, address: str) -> bool:
        """Whether the time that *address* names may lie within; True where it names none."""
        span = named_span(address)
        if span is None:
            return True
        first, end = span
        after = self.since is None or end > self.since
        return after and (self.until is None or first < self.until)


_PLAIN = re.compile(r"(?<!\d)(\d{4})[-/](\d\d)[-/](\d\d)(?:[T/](?:hour=)?(\d\d)(?=/))?(?!\d)")
_HIVE = re.compile(r"year=(\d{4})/month=(\d\d?)(?:/day=(\d\d?)(?:/hour=(\d\d?))?)?(?=/)")


def named_span(address: str) -> tuple[datetime, datetime] | None:
    """
    Return the span of UTC time that folders of *address* name, if they do.

    Known are ``2026/05/01/12/`` (Firehose), ``dt=2026-05-01``, ``2026-05-01`` and
    ``year=2026/month=05/day=01/hour=12``.
    """
    found = _HIVE.search(address) or _PLAIN.search(address)
    if found is None:
        return None
    year, month, day, hour = (None if each is None else int(each) for each in found.groups())
    try:
        first = datetime(year or 0, month or 1, day or 1, hour or 0, tzinfo=UTC)
    except ValueError:
        return None
    if day is None:
        return first, (first + timedelta(days=31)).replace(day=1)
    return first, first + (timedelta(days=1) if hour is None else timedelta(hours=1))


def list_files(
    source: str, period: Period, open_bucket: OpenBucket, option: str = "SOURCE"
) -> list[Listed]:
    """
    List the files of *source*, which *option* named, in order of address.

    Raises Misconfigured where there are none, and Unavailable.
    """
    found = _in_bucket(source, open_bucket) if source.startswith(S3) else _in_folder(source)
    chosen = sorted((each for each in found if period.holds(each.address)), key=_address)
    if not chosen:
        expected = "a file, folder, prefix or glob with files"
        raise Misconfigured([Problem("arguments", option, source, expected)])
    return chosen


def _address(listed: Listed) -> str:
    return listed.address


def _in_bucket(source: str, open_bucket: OpenBucket) -> Iterator[Listed]:
    name, _, key = source.removeprefix(S3).partition("/")
    if not name:
        raise Misconfigured([Problem("arguments", "SOURCE", source, "s3://bucket/prefix")])
    bucket = open_bucket(name)
    fixed, matches = _split(key)
    for stored in bucket.objects(fixed):
        if matches(stored.key):
            address = f"{S3}{name}/{stored.key}"
            yield Listed(address, stored.size_bytes, stored.version, stored, bucket)


def _in_folder(source: str) -> Iterator[Listed]:
    path = Path(source)
    if path.is_file():
        yield _local(path)
        return
    fixed, matches = _split(source if _GLOB.search(source) else f"{source.rstrip('/')}/")
    root = Path(fixed if fixed.endswith("/") else Path(fixed).parent)
    for each in root.rglob("*"):
        if each.is_file() and matches(str(each)):
            yield _local(each)


def _local(path: Path) -> Listed:
    status = path.stat()
    return Listed(str(path), status.st_size, str(status.st_mtime_ns))


def _split(pattern: str) -> tuple[str, Callable[[str], bool]]:
    """Return what every match of *pattern* begins with, and the test of a whole name."""
    start = _GLOB.search(pattern)
    if start is None:
        prefix = str(Path(pattern)) + "/" if pattern.endswith("/") else pattern
        return prefix, lambda name: not _is_note(name[len(prefix) :])
    compiled = re.compile(_translate(pattern))
    return pattern[: start.start()], lambda name: compiled.fullmatch(name) is not None


def _is_note(below: str) -> bool:
    return below.endswith("/") or any(part.startswith(("_", ".")) for part in below.split("/"))


_PIECES = re.compile(r"(?P<deep>\*\*/)|(?P<rest>\*\*)|(?P<star>\*)|(?P<any>\?)|(?P<set>\[[^\]]+\])")
_MEANS = {"deep": "(?:.*/)?", "rest": ".*", "star": "[^/]*", "any": "[^/]"}


def _translate(pattern: str) -> str:
    """Translate a glob to a regular expression."""
    parts: list[str] = []
    place = 0
    for piece in _PIECES.finditer(pattern):
        parts.append(re.escape(pattern[place : piece.start()]))
        kind = piece.lastgroup or ""
        parts.append(_MEANS.get(kind) or "[" + piece.group()[1:].replace("!", "^", 1))
        place = piece.end()
    return "".join(parts) + re.escape(pattern[place:])


class Spool:
    """
    Objects as local files, kept while there is room, since each is read more than once.

    What is on this machine already is read where it stands.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._kept: dict[str, tuple[Path, int]] = {}
        self._used: dict[str, int] = {}
        self._count = 0

    def take(self, listed: Listed) -> Path:
        """
        Return the file of *listed*; ``give_back`` ends its use.

        Raises Unavailable, and Misconfigured for a file that is no longer what was listed.
        """
        if listed.bucket is None or listed.stored is None:
            path = Path(listed.address)
            if not path.is_file() or _local(path) != listed:
                expected = "a file that stays as it is while it is replayed"
                problem = Problem(listed.address, "the file", "it has changed", expected)
                raise Misconfigured([problem])
            return path
        kept = self._kept.pop(listed.address, None)
        if kept is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._count += 1
            path = self._folder / f"object-{self._count}"
            listed.bucket.fetch(listed.stored, path)
            kept = (path, listed.size_bytes)
        self._kept[listed.address] = kept
        self._used[listed.address] = self._used.get(listed.address, 0) + 1
        self._make_room()
        return kept[0]

    def give_back(self, listed: Listed) -> None:
        """End one use of *listed*, so that it may be dropped when room is wanted."""
        if listed.address in self._used:
            self._used[listed.address] -= 1
        self._make_room()

    def clear(self) -> None:
        """Drop all copies, those of an earlier process too."""
        self._kept.clear()
        self._used.clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _make_room(self) -> None:
        size = sum(each for _, each in self._kept.values())
        for address in _idle(self._kept, self._used):
            if size <= self._limit_bytes:
                return
            path, size_bytes = self._kept.pop(address)
            path.unlink(missing_ok=True)
            size -= size_bytes


def _idle(kept: dict[str, tuple[Path, int]], used: dict[str, int]) -> Sequence[str]:
    """Name what nobody uses, that which was not used for longest first."""
    return [address for address in kept if not used.get(address)]
