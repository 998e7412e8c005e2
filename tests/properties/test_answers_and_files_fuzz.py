"""
What servers answer and people write, made unreadable: one named error, never another.

Answers of models become Unavailable with a known cause, messages of the KCL end the
process without a checkpoint, letters are Rejected, and files Misconfigured.
"""

import base64
import json
import math
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any, NoReturn

import orjson
import pytest
import structlog
from hypothesis import example, given, settings
from hypothesis import strategies as st

from consumer.adapters.kinesis import EXIT_FAILED, EXIT_UNAVAILABLE, Checkpoint, Waiting, run_worker
from consumer.adapters.s3.letters import parse_letters
from consumer.adapters.sagemaker import _parse
from consumer.errors import Misconfigured, Rejected, Unavailable
from consumer.features.specification import parse_plan
from consumer.model import Position, Record, ShardId
from consumer.patience import Patience
from consumer.rates import RateTable
from consumer.rules.lists import build_lists, parse_list
from consumer.rules.specification import parse_rules
from consumer.settings_file import read_settings_file
from tests.examples import examples
from tests.fakes.clock import FakeClock
from tests.properties.hostile import CARD, NUMBERS, VALUES, damaged, packed

CONFIG = Path(__file__).parents[2] / "config"
CAUSES = {"unreadable", "wrong_row_count", "not_a_number", "out_of_range"}


def an_answer(field: str, numbers: list[str], separator: str) -> bytes:
    if field == "csv":
        return separator.join(numbers).encode()
    scores = ",".join(f'{{"score":{number}}}' for number in numbers)
    return f'{{"{field}":[{scores}]}}'.encode()


ANSWERS = st.builds(
    an_answer,
    st.sampled_from(["csv", "predictions", "scores", "other"]),
    st.lists(
        st.one_of(st.floats().map(repr), st.floats(0, 1).map(repr), NUMBERS), min_size=1, max_size=4
    ),
    st.sampled_from([",", "\n", ", ", "\r\n", ";", "\n\n"]),
)
DEEP = [b"[" * 4_000, b'{"x":' * 800, b'{"x":NaN,"y":' + b"[" * 4_000, b'{"predictions":' * 300]


def scores_of(answer: bytes, rows: int, highest: float) -> list[float] | str:
    try:
        return _parse(answer, rows, highest)
    except Unavailable as error:
        return error.message


@given(
    st.one_of(ANSWERS, ANSWERS.flatmap(damaged), VALUES, st.binary(max_size=60)),
    st.integers(0, 4),
    st.sampled_from([1.0, math.inf]),
)
@example(b'{"scores":[{"score":NaN,"x":' + b"9" * 4_400 + b"}]}", 1, 1.0)
@settings(max_examples=examples(300))
def test_an_answer_of_a_model_is_scores_or_a_known_cause(
    answer: bytes, rows: int, highest: float
) -> None:
    found = scores_of(answer, rows, highest)
    assert scores_of(answer, rows, highest) == found
    if isinstance(found, str):
        assert found in CAUSES
    else:
        assert len(found) == rows
        assert all(0 <= score <= highest and math.isfinite(score) for score in found)


@pytest.mark.parametrize("answer", DEEP)
def test_an_answer_that_nests_deeper_than_the_stack_is_unreadable(answer: bytes) -> None:
    assert scores_of(answer, 1, 1.0) == "unreadable"


def test_an_underscore_is_no_part_of_a_number() -> None:
    assert scores_of(b"0_1", 1, math.inf) == "unreadable"


class Checkpointing:
    """A processor that checkpoints each delivery, and notes what it was given."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def start(self, shard_id: ShardId, position: Position | None) -> None:
        assert position is None or isinstance(position.sequence_number, int)

    def process(
        self, records: Sequence[Record], millis_behind_latest: int | None, checkpoint: Checkpoint
    ) -> None:
        self.records += records
        if records:
            checkpoint(records[-1].position)

    def lease_lost(self) -> None: ...
    def shard_ended(self, checkpoint: Checkpoint) -> None: ...
    def shutdown_requested(self, checkpoint: Checkpoint) -> None: ...


class Left(BaseException):
    """The process has ended."""


RECORD: dict[str, Any] = {
    "action": "record",
    "sequenceNumber": "17",
    "subSequenceNumber": 0,
    "approximateArrivalTimestamp": 1_700_000_000_123,
    "partitionKey": "key",
    "data": base64.b64encode(b"event").decode(),
}
START: dict[str, Any] = {
    "action": "initialize",
    "shardId": "shard-1",
    "sequenceNumber": "TRIM_HORIZON",
    "subSequenceNumber": 0,
}
DELIVERY: dict[str, Any] = {
    "action": "processRecords",
    "millisBehindLatest": 4,
    "records": [RECORD],
}
REPLY = {"action": "checkpoint", "sequenceNumber": "17", "subSequenceNumber": 0, "error": None}
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False),
    st.text(max_size=20),
    st.sampled_from(["LATEST", "9" * 5_000, "²", "١٢", "-5", "1.5", "YQ", "YQ==YQ=="]),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A message of the KCL with a field that is odd or missing, or bytes damaged."""
    message = draw(st.sampled_from([START, DELIVERY, REPLY, RECORD]))
    target = draw(st.sampled_from([message, RECORD])) if message is DELIVERY else message
    field = draw(st.sampled_from(sorted(target)))
    changed = {**target, field: draw(ODD)}
    if draw(st.booleans()):
        del changed[field]
    whole = {**DELIVERY, "records": [changed]} if target is not message else changed
    line = json.dumps(whole).encode()
    return draw(st.one_of(st.just(line), damaged(line))).replace(b"\n", b" ")


def spoken(lines: list[bytes]) -> tuple[list[Record], list[dict[str, Any]]]:
    """Serve *lines* to a worker: the records it was given and what it sent."""

    def leave(code: int) -> NoReturn:
        assert code in (EXIT_FAILED, EXIT_UNAVAILABLE)
        raise Left

    processor, out, clock = Checkpointing(), BytesIO(), FakeClock()
    # Rendered, a traceback costs more than all the rest.
    with structlog.testing.capture_logs(), suppress(Left):
        ended = run_worker(
            processor,
            BytesIO(b"\n".join([*lines, b""])),
            out,
            waiting=Waiting(Patience(clock, clock.sleep, 1.0, lambda _error, _waited_s: None), 1.0),
            leave=leave,
        )
        assert ended == 0
    return processor.records, [orjson.loads(line) for line in out.getvalue().split(b"\n") if line]


@given(st.lists(messages(), min_size=1, max_size=3))
@settings(max_examples=examples(200))
def test_a_message_of_the_kcl_is_worked_or_ends_the_process(lines: list[bytes]) -> None:
    records, sent = spoken([orjson.dumps(START), *lines])
    for record in records:
        assert record.position >= Position(-(10**9))
        assert isinstance(record.arrival_ms, int)
    checkpoints = [each for each in sent if each["action"] == "checkpoint"]
    delivered = {(str(r.position.sequence_number)) for r in records}
    assert {each["sequenceNumber"] for each in checkpoints} <= delivered


LETTER = {
    "id": "shard-1-17-0",
    "shard_id": "shard-1",
    "sequence_number": "17",
    "sub_sequence_number": 0,
    "arrival_time": "2026-05-01T12:30:00.123Z",
    "error": "not_json",
    "message": "event: expected one JSON object (RFC 8259)",
    "payload": "{",
}


@st.composite
def letter_objects(draw: st.DrawFn) -> bytes:
    field = draw(st.sampled_from(sorted(LETTER)))
    raw = orjson.dumps({**LETTER, field: "@"}).replace(b'"@"', draw(VALUES))
    return draw(packed(raw * draw(st.integers(1, 2))))


@given(st.one_of(letter_objects(), letter_objects().flatmap(damaged), st.binary(max_size=40)))
@example(orjson.dumps(LETTER).replace(b'"{"', b"[" * 5_000))
@example(orjson.dumps({**LETTER, "arrival_time": "0001-01-01T00:00:00"}))
@example(orjson.dumps({**LETTER, "arrival_time": "9999-12-31T23:59:59"}))
@settings(max_examples=examples(200))
def test_an_object_of_letters_is_letters_or_rejected(body: bytes) -> None:
    try:
        letters = parse_letters("dt=2026-05-01/x.ndjson.gz", body)
    except Rejected as error:
        told = f"{error.code} {error.message}"
    else:
        assert all(isinstance(each.payload, str) for each in letters)
        return
    assert told.startswith("bad_letter dt=2026-05-01/x.ndjson.gz: ")


SCALARS = st.one_of(
    st.sampled_from(
        [
            *(
                "!!timestamp x",
                '!!int ""',
                "!!bool x",
                "!!float x",
                "!!binary é",
                "!!python/name:os",
            ),
            *("2026-02-30", "0x" + "f" * 400, "9" * 5_000, ".nan", "-.inf", "1:60", "=", "<<", "~"),
            *(
                '"\\ud800"',
                '"\\x00"',
                "'",
                '"',
                "|",
                ">",
                "&a [*a]",
                "*a",
                "[",
                "{",
                "]",
                "}",
                "- -",
            ),
            *("!!set {a}", "!!omap [a: 1]", "{? [a]: b}", "{<<: [1]}", "? ", "%", "@", "`", "yes"),
            *("[" * 40, "[" * 2_000, "{a: " * 40, "- " * 100, "\t", "\x85", "\u2028", "\ufeff"),
        ]
    ),
    st.text(max_size=10),
    st.integers().map(str),
)


@st.composite
def edited(draw: st.DrawFn, text: str) -> str:
    """A piece of *text* in which some values, lines and characters were exchanged."""
    lines = text.splitlines()
    start = draw(st.integers(0, max(0, len(lines) - 40)))
    lines = [*lines[:2], *lines[start : start + 40]]
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(lines) - 1))
        line, scalar = lines[place], draw(SCALARS)
        key = re.match(r"[^:]*:", line)
        how = draw(st.sampled_from(["value", "line", "drop", "twice", "indent"]))
        if how == "value" and key:
            lines[place] = f"{key.group()} {scalar}"
        elif how == "drop":
            del lines[place : place + draw(st.integers(1, 3))]
        else:
            new = {"twice": line, "indent": "  " + line}.get(how, scalar)
            lines.insert(place, new)
        if not lines:
            break
    return "\n".join(lines) + "\n"


def refused(error: Misconfigured, source: str) -> None:
    for problem in error.problems:
        assert problem.source.startswith(source)
        str(problem).encode()
        assert len(str(problem)) < 2_000
        assert CARD not in str(problem)


FILES = st.one_of(SCALARS, st.text(max_size=50))


@given(st.one_of(edited((CONFIG / "rules.yaml").read_text("utf-8")), FILES))
@settings(max_examples=examples(100))
def test_a_file_of_rules_is_read_or_misconfigured(text: str) -> None:
    try:
        parse_rules(text, "rules.yaml")
    except Misconfigured as error:
        refused(error, "rules.yaml")


@given(st.one_of(edited((CONFIG / "features.yaml").read_text("utf-8")), FILES))
@settings(max_examples=examples(100))
def test_a_file_of_features_is_read_or_misconfigured(text: str) -> None:
    try:
        parse_plan(text, source="features.yaml")
    except Misconfigured as error:
        refused(error, "features.yaml")


SETTINGS = (CONFIG / "fraudstream.yaml").read_text("utf-8")
RATES = "- {date: 2026-05-01, currency: USD, rate: 0.92}\n- date: 2026-05-02\n  currency: GBP\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


def read_rates(path: Path) -> object:
    return RateTable.read(path, "EUR", 7)


@pytest.mark.parametrize("read", [read_settings_file, read_rates])
@given(
    text=st.one_of(edited((CONFIG / "fraudstream.yaml").read_text("utf-8")), edited(RATES), FILES)
)
@settings(max_examples=examples(60))
def test_settings_and_rates_are_read_or_misconfigured(
    folder: Path, read: Callable[[Path], object], text: str
) -> None:
    path = folder / "some.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        read(path)
    except Misconfigured as error:
        refused(error, str(path))


ENTRIES = st.one_of(
    st.builds(
        lambda value, until: b'{"value":' + value + b',"until":' + until + b"}",
        VALUES,
        st.one_of(VALUES, st.datetimes().map(lambda t: f'"{t.isoformat()}Z"'.encode())),
    ),
    st.sampled_from([b"# a comment", b"", b"{}", b"[]", b'{"value":"' + CARD.encode() + b'"}']),
    st.binary(max_size=30),
)


@given(st.lists(ENTRIES, max_size=4), st.sampled_from([b"\n", b"\r\n", b"\r", b"\x0b", b"\0"]))
@example([b'{"value":' + b"[" * 100_000], b"\n")
@settings(max_examples=examples(200))
def test_a_file_of_a_list_is_read_or_misconfigured(lines: list[bytes], end: bytes) -> None:
    try:
        build_lists({"x": parse_list("x", end.join(lines), "x.ndjson").values()})
    except Misconfigured as error:
        refused(error, "x.ndjson:")
