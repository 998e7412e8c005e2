"""
Structured logs on standard error: JSON for machines, readable on a terminal.

Fields bound with ``structlog.contextvars`` (``shard``) stand on every line. What
libraries say through ``logging`` comes out the same way. Nothing here sees a
payload; a line carries positions, counts and causes.
"""

import json
import logging
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any, Literal, TextIO, cast

import orjson
import structlog
from structlog.typing import FilteringBoundLogger, Processor

from consumer.masking import mask_text

Format = Literal["auto", "json", "console"]

# As in ``logging``.
LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
# These log every request or every retry below warning.
_TALKATIVE = ("botocore", "boto3", "urllib3", "asyncio")


def configure(level: str, form: Format = "auto", stream: TextIO | None = None) -> None:
    """
    Send everything at or above *level* to *stream*, standard error by default.

    ``auto`` is ``console`` on a terminal and ``json`` elsewhere.
    """
    stream = stream or sys.stderr
    if form == "auto":
        form = "console" if stream.isatty() else "json"
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        _mask_exception,
    ]
    structlog.configure(
        processors=[*shared, _console(stream) if form == "console" else _render_json],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _Lossy(stream))),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[_Forward()], level=LEVELS[level], force=True)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(logging.WARNING, LEVELS[level]))
    logging.captureWarnings(capture=True)


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger whose *name* stands as ``logger_name`` on its lines."""
    return cast("FilteringBoundLogger", structlog.get_logger(logger_name=name))


def reemit(event: MutableMapping[str, Any]) -> None:
    """
    Print an event of another process as it is: its time, level and fields.

    It was filtered where it was made, so no level applies here.
    """
    settings = structlog.get_config()
    render = settings["processors"][-1]
    logger = settings["logger_factory"]()
    logger.msg(render(logger, str(event.get("level", "info")), event))


class _Lossy:
    """
    A stream whose lines may be lost, when the log's disk is full or its reader has gone.

    A decision must not fail because a line about it cannot be written.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


def _console(stream: TextIO) -> Processor:
    return structlog.dev.ConsoleRenderer(
        colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
    )


def _mask_exception(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """An error of a library may quote what it was given."""
    if isinstance(event.get("exception"), str):
        event["exception"] = mask_text(event["exception"])
    return event


def _render_json(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    # The time and the words come first for whoever reads the raw lines.
    head = {key: event[key] for key in ("timestamp", "level", "event") if key in event}
    whole = {**head, **event}
    try:
        return orjson.dumps(whole, default=repr).decode()
    except TypeError:
        # Bytes that are no UTF-8, such as those of a header: a line less would hide the error.
        text = json.dumps(whole, default=repr, ensure_ascii=False, skipkeys=True)
        return text.encode("utf-8", "replace").decode()


class _Forward(logging.Handler):
    """Hands what libraries log to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log *record* under its own name and level."""
        logger = get_logger(record.name)
        logger.log(record.levelno, record.getMessage(), exc_info=record.exc_info)
