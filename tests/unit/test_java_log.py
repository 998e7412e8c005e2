import io

import pytest
from structlog.testing import capture_logs

from consumer.java_log import (
    JavaLine,
    log_java_line,
    log_worker_line,
    parse_java_line,
    parse_worker_line,
    read_lines,
)

LINE = "2026-11-23T20:34:53.771Z\tWARN\tsoftware.amazon.kinesis.leases.Lease\tshard-1\ttaken \t"


def test_a_line_of_java_is_read() -> None:
    assert parse_java_line(LINE) == JavaLine("warning", "leases.Lease", "shard-1", "taken", "")


def test_an_exception_stands_apart_from_the_message() -> None:
    parsed = parse_java_line(LINE + "java.io.IOException: gone |  at a.B.c(B.java:1)")
    assert parsed is not None
    assert parsed.exception == "java.io.IOException: gone |  at a.B.c(B.java:1)"


@pytest.mark.parametrize(
    "line", ["", "Exception in thread main", LINE + "\tmore", "a\tb\tc\td\te\tf"]
)
def test_anything_else_is_not_taken_for_one(line: str) -> None:
    assert parse_java_line(line) is None


def test_a_line_of_java_is_logged_with_its_level_and_told() -> None:
    heard: list[JavaLine] = []
    with capture_logs() as logs:
        log_java_line(LINE, heard.append)
        log_java_line("Heap", heard.append)
    assert [line.message for line in heard] == ["taken"]
    assert logs == [
        {
            "event": "taken",
            "log_level": "warning",
            "logger_name": "kcl.leases.Lease",
            "shard": "shard-1",
        },
        {"event": "Heap", "log_level": "warning", "logger_name": "kcl"},
    ]


def test_a_worker_line_is_an_event_only_when_it_is_one_of_ours() -> None:
    ours = '{"timestamp":"t","level":"info","event":"decided"}'
    assert parse_worker_line(ours) == {"timestamp": "t", "level": "info", "event": "decided"}
    for other in ("Traceback", "{", '{"action":"status"}', "[1]"):
        assert parse_worker_line(other) is None


def test_other_lines_of_a_worker_are_warnings() -> None:
    with capture_logs() as logs:
        log_worker_line("Segmentation fault")
    assert logs[0]["event"] == "Segmentation fault"
    assert logs[0]["log_level"] == "warning"


def test_every_line_is_read_whatever_one_of_them_does() -> None:
    taken: list[str] = []

    def take(line: str) -> None:
        if line == "bad":
            raise ValueError(line)
        taken.append(line)

    with capture_logs() as logs:
        thread = read_lines(io.BytesIO(b"one\n\nbad\n  two\t\n\xff\n"), take, "test")
        thread.join(10)
    assert not thread.is_alive()
    assert taken == ["one", "  two\t", "\N{REPLACEMENT CHARACTER}"]
    assert [line["event"] for line in logs] == ["a line could not be logged"]
