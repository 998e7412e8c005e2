"""
Lines of the KCL's Java process, turned into our own log events.

Java's standard output carries its log in the pattern of ``config/logback.xml``;
its standard error carries, as they are, the lines that workers write to theirs
(the multilang daemon copies them there) and what the JVM itself has to say.
"""

import threading
from collections.abc import Callable, Mapping
from typing import IO

import msgspec
import orjson

from consumer.logs import LEVELS, get_logger, reemit

_FIELDS = 6
_LEVELS = {"TRACE": "debug", "DEBUG": "debug", "INFO": "info", "WARN": "warning", "ERROR": "error"}
_KCL_PACKAGE = "software.amazon.kinesis."


class JavaLine(msgspec.Struct, frozen=True):
    """One event of Java's log; ``shard`` and ``exception`` are empty when it has none."""

    level: str
    logger: str
    shard: str
    message: str
    exception: str


def parse_java_line(line: str) -> JavaLine | None:
    """Read a line in the pattern of ``config/logback.xml``; None when it is anything else."""
    fields = line.split("\t")
    if len(fields) != _FIELDS or fields[1] not in _LEVELS:
        return None
    _, level, logger, shard, message, exception = fields
    return JavaLine(
        _LEVELS[level], logger.removeprefix(_KCL_PACKAGE), shard, message.strip(), exception.strip()
    )


def parse_worker_line(line: str) -> dict[str, object] | None:
    """Read a line that one of our processes logged as JSON; None when it is anything else."""
    if not line.startswith("{"):
        return None
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return event if isinstance(event, dict) and "event" in event and "level" in event else None


def log_java_line(line: str, heard: Callable[[JavaLine], None]) -> None:
    """Log one line of Java's standard output, and tell *heard* when it is an event."""
    parsed = parse_java_line(line)
    if parsed is None:
        get_logger("kcl").warning(line)
        return
    heard(parsed)
    fields = {"shard": parsed.shard, "exception": parsed.exception}
    get_logger(f"kcl.{parsed.logger}").log(
        LEVELS[parsed.level],
        parsed.message,
        **{key: value for key, value in fields.items() if value},
    )


def log_worker_line(
    line: str,
    heard: Callable[[Mapping[str, object] | None, str], None] = lambda _event, _line: None,
) -> None:
    """
    Log one line of Java's standard error: a worker's event as it is, the rest as warning.

    *heard* is told of both, the event None for the rest.
    """
    event = parse_worker_line(line)
    heard(event, line)
    if event is not None:
        reemit(event)
    else:
        get_logger("kcl.stderr").warning(line)


def read_lines(stream: IO[bytes], take: Callable[[str], None], name: str) -> threading.Thread:
    """
    Hand every non-empty line of *stream* to *take* in a thread, until it ends.

    A pipe that nobody reads stops its writer once it is full, so a line that
    *take* fails on must not end the reading.
    """

    def run() -> None:
        with stream:
            for raw in stream:
                line = raw.decode("utf-8", "replace").rstrip("\r\n")
                if not line.strip():
                    continue
                try:
                    take(line)
                except Exception:  # noqa: BLE001 - told in the docstring
                    get_logger(__name__).exception("a line could not be logged")

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread
