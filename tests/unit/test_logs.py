import io
import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import orjson
import pytest
import structlog

from consumer.logs import configure, get_logger, reemit


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def _lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [orjson.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_with_time_level_words_and_fields() -> None:
    stream = io.StringIO()
    configure("info", "json", stream)
    structlog.contextvars.bind_contextvars(shard="shard-1")
    get_logger("consumer.worker").warning("slow", age_ms=5)
    (line,) = _lines(stream)
    assert str(line.pop("timestamp")).endswith("Z")
    assert line == {
        "level": "warning",
        "event": "slow",
        "logger_name": "consumer.worker",
        "shard": "shard-1",
        "age_ms": 5,
    }


def test_lines_below_the_level_are_not_written() -> None:
    stream = io.StringIO()
    configure("warning", "json", stream)
    get_logger("x").info("quiet")
    assert stream.getvalue() == ""


def test_auto_is_json_where_nobody_looks() -> None:
    stream = io.StringIO()
    configure("info", "auto", stream)
    get_logger("x").info("hello")
    assert _lines(stream)[0]["event"] == "hello"


def test_console_lines_are_readable() -> None:
    stream = io.StringIO()
    configure("info", "console", stream)
    get_logger("x").info("hello", shard="shard-1")
    assert "hello" in stream.getvalue()
    assert "shard=shard-1" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_what_libraries_log_comes_out_the_same_way() -> None:
    stream = io.StringIO()
    configure("info", "json", stream)
    logging.getLogger("some.library").warning("retried %d times", 3)
    (line,) = _lines(stream)
    assert (line["logger_name"], line["event"]) == ("some.library", "retried 3 times")


def test_an_exception_is_one_line_without_local_variables() -> None:
    stream = io.StringIO()
    configure("info", "json", stream)
    payload = "4" * 16
    try:
        int(payload[:0])
    except ValueError:
        get_logger("x").exception("failed")
    (line,) = _lines(stream)
    assert "ValueError: invalid literal" in str(line["exception"])
    assert "4444" not in stream.getvalue()


@pytest.mark.parametrize("form", ["json", "console"])
def test_an_event_of_another_process_keeps_its_time(form: str) -> None:
    stream = io.StringIO()
    configure("error", "json" if form == "json" else "console", stream)
    reemit({"timestamp": "2020-01-01T00:00:00Z", "level": "info", "event": "theirs", "n": 1})
    assert "2020-01-01T00:00:00Z" in stream.getvalue()
    assert "theirs" in stream.getvalue()


def test_values_that_json_does_not_know_are_shown_as_text() -> None:
    stream = io.StringIO()
    configure("info", "json", stream)
    get_logger("x").info("odd", value=object)
    assert _lines(stream)[0]["value"] == "<class 'object'>"


def test_a_line_that_cannot_be_written_is_lost_and_nothing_else() -> None:
    with Path("/dev/full").open("w", buffering=1) as full:
        configure("info", "json", full)
        get_logger("x").error("nobody reads this")
        get_logger("x").error("nor this")
        with suppress(OSError):
            full.close()


def test_a_card_number_in_the_words_of_an_error_is_masked() -> None:
    stream = io.StringIO()
    configure("info", "json", stream)
    try:
        raise KeyError("4111111111111111")  # noqa: TRY301 - as a library does
    except KeyError:
        get_logger("x").exception("failed")
    assert "4111111111111111" not in stream.getvalue()
    assert "KeyError: '[pan]'" in str(_lines(stream)[0]["exception"])


def test_bytes_that_are_no_text_do_not_lose_the_line() -> None:
    stream = io.StringIO()
    configure("info", "json", stream)
    get_logger("x").warning("odd", header=b"a\xff".decode("utf-8", "surrogateescape"))
    assert _lines(stream)[0]["header"] == "a?"
