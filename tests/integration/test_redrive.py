"""``redrive`` as a person runs it, on the embedded AWS and a real Redis."""

import gzip
import platform
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import orjson
import pytest
from botocore.exceptions import ClientError

from consumer.__main__ import main
from consumer.adapters.redis.connection import command, connect
from consumer.adapters.s3.letter_box import S3LetterBox
from consumer.adapters.s3.letters import S3DeadLetters, letter_key
from consumer.clock import SystemClock
from consumer.decode import DecodeRules
from consumer.errors import Unavailable
from consumer.intake import Intake
from consumer.letters import Filed, Filter, State
from consumer.local.resources import Resources, prepare, session
from consumer.local.stack import Stack
from consumer.model import DeadLetter, Position, Record
from consumer.redrive import Outcome, Ready, Redrive, Result, Wishes
from consumer.settings import Events
from tests.builders import SHARD
from tests.fakes.clock import FakeClock

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"),
    reason="the embedded Redis exists for Linux x86-64 only",
)
BUCKET = "fraudstream-dead-letters"
HOUR_MS = 3_600_000
NUMBERS = count()
INTAKE = Intake(DecodeRules.of(Events()), 48 * HOUR_MS, source="redrive")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("stack")) as running:
        prepare(session(running.aws_url), Resources(shards=1))
        yield running


@pytest.fixture(scope="module")
def s3(stack: Stack) -> Iterator["S3Client"]:
    made: S3Client = session(stack.aws_url).client("s3")
    yield made
    made.close()


@pytest.fixture(scope="module")
def kinesis(stack: Stack) -> Iterator["KinesisClient"]:
    made: KinesisClient = session(stack.aws_url).client("kinesis")
    yield made
    made.close()


class Desk:
    """Letters of a prefix of their own, and what became of them."""

    def __init__(
        self, stack: Stack, s3: "S3Client", kinesis: "KinesisClient", prefix: str, now_ms: int
    ) -> None:
        self.stack = stack
        self.prefix = prefix
        self.now_ms = now_ms
        self.s3 = s3
        self.kinesis = kinesis
        self.store = S3DeadLetters(s3, BUCKET, prefix)
        shard = self.kinesis.list_shards(StreamName="transactions")["Shards"][0]["ShardId"]
        self._iterator = self.kinesis.get_shard_iterator(
            StreamName="transactions", ShardId=shard, ShardIteratorType="LATEST"
        )["ShardIterator"]

    def reject(self, number: int, *, age_ms: int = 1_000, **changes: Any) -> DeadLetter:
        """The letter of an event that a worker rejects for *changes*; null leaves a field out."""
        event = {**self.event(number), **changes}
        data = orjson.dumps({name: value for name, value in event.items() if value is not None})
        return self.reject_bytes(number, data, age_ms=age_ms)

    def reject_bytes(self, number: int, data: bytes, *, age_ms: int = 1_000) -> DeadLetter:
        record = Record(SHARD, Position(number), self.now_ms - age_ms, data)
        intake = Intake(DecodeRules.of(Events()), 48 * HOUR_MS)
        (letter,) = intake.sort([record], self.now_ms).letters
        self.store.put([letter])
        return letter

    def event(self, number: int) -> dict[str, Any]:
        return {
            "type": "transaction",
            "transaction_id": f"{self.prefix.strip('/')}_{number}",
            "event_time": "2026-06-01T12:00:00Z",
            "card_id": f"card_{number}",
            "merchant_id": "merchant_1",
            "amount": "12.50",
            "currency": "EUR",
        }

    def edit(self, letter: DeadLetter, body: bytes) -> None:
        """Put *body* in the place of the letter's object, as a person would."""
        self.s3.put_object(Bucket=BUCKET, Key=letter_key(self.prefix, letter), Body=body)

    def mend(self, letter: DeadLetter, event: dict[str, Any]) -> None:
        """Put *event* in the place of the letter's payload."""
        fields = orjson.loads(self.read(letter))
        self.edit(letter, orjson.dumps({**fields, "payload": orjson.dumps(event).decode()}))

    def read(self, letter: DeadLetter) -> bytes:
        key = letter_key(self.prefix, letter)
        return gzip.decompress(self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())

    def streamed(self) -> list[tuple[str, dict[str, Any]]]:
        """Partition key and event of every record since the last look."""
        answer = self.kinesis.get_records(ShardIterator=self._iterator)
        self._iterator = answer["NextShardIterator"]
        return [(each["PartitionKey"], orjson.loads(each["Data"])) for each in answer["Records"]]

    def document(self, number: int) -> dict[str, Any] | None:
        key = f"tx:{self.event(number)['transaction_id']}"
        with closing(connect(self.stack.redis_url, connect_timeout_s=2, timeout_s=5)) as client:
            found = command(client, "JSON.GET", key)
        return None if found is None else orjson.loads(found)

    def rows(self) -> list[str]:
        """The transactions in what Firehose delivered."""
        entries = self.s3.list_objects_v2(Bucket="fraudstream-decisions").get("Contents", ())
        bodies = [
            self.s3.get_object(Bucket="fraudstream-decisions", Key=entry["Key"])["Body"].read()
            for entry in entries
        ]
        lines = b"".join(bodies).splitlines()
        return [orjson.loads(line)["transaction_id"] for line in lines]

    def close(self) -> None:
        self.store.close()


@pytest.fixture
def desk(
    stack: Stack,
    s3: "S3Client",
    kinesis: "KinesisClient",
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Desk]:
    monkeypatch.chdir(tmp_path)
    for name, value in stack.environment().items():
        monkeypatch.setenv(name, value)
    # Decided without scores at once: no model servers run here.
    monkeypatch.setenv("FRAUDSTREAM_SCORING__DEADLINE_MS", "100")
    prefix = f"letters-{next(NUMBERS)}/"
    monkeypatch.setenv("FRAUDSTREAM_DEAD_LETTERS__PREFIX", prefix)
    with closing(Desk(stack, s3, kinesis, prefix, SystemClock().now_ms())) as made:
        yield made


Output = pytest.CaptureFixture[bytes]


def listed(output: Output, *words: str, code: int = 0) -> list[dict[str, Any]]:
    assert main(["redrive", "list", "--json", *words]) == code
    return [orjson.loads(line) for line in output.readouterr().out.splitlines()]


def sent(output: Output, *words: str, code: int = 0) -> dict[str, Any]:
    assert main(["redrive", "send", "--json", *words]) == code
    report: dict[str, Any] = orjson.loads(output.readouterr().out)
    return report


def test_letters_are_listed_by_what_is_asked(desk: Desk, capsysbinary: Output) -> None:
    old = desk.reject(1, amount="x", age_ms=30 * HOUR_MS)
    new = desk.reject(2, card_id=None)

    assert [each["id"] for each in listed(capsysbinary)] == [old.letter_id, new.letter_id]
    words = ["--since", "2d", "--until", "1h", "--error", old.error, "--shard", str(SHARD)]
    assert [each["id"] for each in listed(capsysbinary, *words)] == [old.letter_id]
    assert len(listed(capsysbinary, "--limit", "1")) == 1


def test_a_list_for_a_person_says_which_payloads_are_whole(
    desk: Desk, capsysbinary: Output
) -> None:
    letter = desk.reject(1, amount="x")
    masked = desk.reject(2, card_id="4111111111111111")
    assert main(["redrive", "list"]) == 0
    shown = capsysbinary.readouterr()
    lines = shown.out.decode().splitlines()
    assert [line.split()[-1] for line in lines[1:]] == [letter.letter_id, masked.letter_id]
    assert "whole" in lines[1]
    assert "masked" in lines[2]
    assert shown.err == b"2 letters\n"


def test_a_letter_is_shown_in_full(desk: Desk, capsysbinary: Output) -> None:
    letter = desk.reject(1, amount="x")
    assert main(["redrive", "show", letter.letter_id]) == 0
    text = capsysbinary.readouterr().out.decode()
    assert letter.message in text
    assert letter.payload in text
    assert main(["redrive", "show", letter.letter_id, "--payload"]) == 0
    assert capsysbinary.readouterr().out.decode() == letter.payload + "\n"


def test_an_unknown_id_is_told_in_one_line(desk: Desk, capsysbinary: Output) -> None:
    assert main(["redrive", "show", "nobody"]) == 1
    assert capsysbinary.readouterr().err == b"fraudstream: no dead letter has the id 'nobody'\n"
    assert main(["redrive", "send", "nobody"]) == 2
    assert b"found 'nobody', expected the id of a dead letter" in capsysbinary.readouterr().err


def test_a_bucket_that_is_not_there_is_named(
    desk: Desk, capsysbinary: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAUDSTREAM_DEAD_LETTERS__BUCKET", "nowhere")
    assert main(["redrive", "list"]) == 2
    assert b"dead_letters.bucket: found nowhere" in capsysbinary.readouterr().err


def test_what_is_patched_goes_to_the_stream_once_by_its_card(
    desk: Desk, capsysbinary: Output
) -> None:
    letters = [desk.reject(number, currency=None) for number in (1, 2)]
    patch = ["--all", "--patch", '{"currency": "EUR"}']

    report = sent(capsysbinary, *patch, "--dry-run")
    assert report["results"] == {"would_send": 2}
    assert desk.streamed() == []

    assert sent(capsysbinary, *patch)["results"] == {"sent": 2}
    assert desk.streamed() == [(f"card_{number}", desk.event(number)) for number in (1, 2)]
    assert listed(capsysbinary) == []
    marks = [each["sent"] for each in listed(capsysbinary, "--all")]
    assert [(mark["to"], mark["result"], mark["changed"]) for mark in marks] == [
        ("stream", "sent", True)
    ] * 2

    assert sent(capsysbinary, *patch)["asked"] == 0
    again = sent(capsysbinary, letters[0].letter_id, *patch[1:], code=1)
    assert again["results"] == {"done_before": 1}
    assert desk.streamed() == []
    assert sent(capsysbinary, letters[0].letter_id, *patch[1:], "--again")["ok"]
    assert [key for key, _ in desk.streamed()] == ["card_1"]


def test_a_letter_that_would_be_rejected_again_is_not_sent(
    desk: Desk, capsysbinary: Output
) -> None:
    letter = desk.reject(1, amount="x")
    report = sent(capsysbinary, letter.letter_id, code=1)
    assert report["letters"][0]["result"] == "rejected"
    assert report["letters"][0]["error"] == letter.error
    assert desk.streamed() == []
    assert listed(capsysbinary)[0]["state"] == "open"


def test_a_masked_letter_is_sent_only_when_it_was_mended(desk: Desk, capsysbinary: Output) -> None:
    letter = desk.reject(1, card_id="4111111111111111")
    assert "[pan]" in letter.payload
    assert sent(capsysbinary, "--all", code=1)["results"] == {"masked": 1}
    assert sent(capsysbinary, "--all", "--patch", '{"card_id": "card_1"}')["ok"]
    assert desk.streamed() == [("card_1", desk.event(1))]


def test_a_letter_that_was_cut_needs_its_payload(
    desk: Desk, capsysbinary: Output, tmp_path: Path
) -> None:
    letter = desk.reject_bytes(1, b'{"type": "transaction", "note": "' + b"a" * 70_000)
    assert sent(capsysbinary, letter.letter_id, code=1)["results"] == {"incomplete": 1}

    path = tmp_path / "mended.json"
    path.write_bytes(orjson.dumps(desk.event(1)) + b"\n")
    assert sent(capsysbinary, letter.letter_id, "--payload", str(path))["ok"]
    assert desk.streamed() == [("card_1", desk.event(1))]


@pytest.mark.parametrize("form", ["gzip", "plain", "indented"])
def test_an_object_that_was_edited_by_hand_is_sent_as_it_is_now(
    desk: Desk, capsysbinary: Output, form: str
) -> None:
    letter = desk.reject(1, currency=None)
    fields = orjson.loads(desk.read(letter))
    if form == "indented":
        # Whoever edits JSON in JSON will take the quotes away.
        fields["payload"] = desk.event(1)
        body = orjson.dumps(fields, option=orjson.OPT_INDENT_2)
    else:
        fields["payload"] = orjson.dumps(desk.event(1)).decode()
        body = orjson.dumps(fields)
    desk.edit(letter, gzip.compress(body) if form == "gzip" else body)

    assert sent(capsysbinary, "--all")["ok"]
    assert desk.streamed() == [("card_1", desk.event(1))]


def test_an_object_that_is_no_letter_is_named_and_hides_no_other(
    desk: Desk, capsysbinary: Output
) -> None:
    broken = desk.reject(1, currency=None)
    desk.edit(broken, b"not a letter")
    desk.reject(2, currency=None)

    assert main(["redrive", "list"]) == 1
    assert letter_key(desk.prefix, broken) in capsysbinary.readouterr().err.decode()
    report = sent(capsysbinary, "--all", "--patch", '{"currency": "EUR"}', code=1)
    assert report["results"] == {"unreadable": 1, "sent": 1}
    assert main(["redrive", "show", broken.letter_id]) == 1
    assert b"expected dead letters" in capsysbinary.readouterr().err


def test_what_a_process_left_in_the_middle_is_unknown_until_it_is_asked_for_again(
    desk: Desk, capsysbinary: Output
) -> None:
    letter = desk.reject(1, currency=None)
    folder = letter_key(desk.prefix, letter).rpartition("/")[0]
    mark = {"state": "sending", "at": "2026-06-01T12:00:00Z", "by": "ops@host", "to": "stream"}
    desk.s3.put_object(
        Bucket=BUCKET,
        Key=f"{folder}/_{letter.letter_id}.redrive.json",
        Body=orjson.dumps(mark),
    )
    words = ["--all", "--patch", '{"currency": "EUR"}']

    report = sent(capsysbinary, *words, code=1)
    assert report["letters"][0]["result"] == "unknown"
    assert "by ops@host" in report["letters"][0]["detail"]
    assert desk.streamed() == []
    assert sent(capsysbinary, *words, "--again")["results"] == {"sent": 1}


def test_a_stream_that_is_gone_leaves_the_letter_unknown(
    desk: Desk, capsysbinary: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.reject(1, currency=None)
    monkeypatch.setenv("FRAUDSTREAM_KCL__STREAM_NAME", "gone")
    report = sent(capsysbinary, "--all", "--patch", '{"currency": "EUR"}', code=69)
    assert report["results"] == {"unknown": 1}
    assert listed(capsysbinary)[0]["state"] == "sending"


def test_the_engine_decides_letters_with_every_effect(desk: Desk, capsysbinary: Output) -> None:
    letters = [desk.reject(number, currency=None) for number in (1, 2)]
    for number, letter in enumerate(letters, start=1):
        desk.mend(letter, desk.event(number))
    desk.reject(3, amount="x")

    report = sent(capsysbinary, "--all", "--to", "engine", code=1)
    assert report["results"] == {"decided": 2, "rejected": 1}
    document = desk.document(1)
    assert document is not None
    assert document["origin"]["source"] == "redrive"
    assert document["origin"]["position"] == "1:0"
    assert document["features"]["card_count_1h"] == 1
    assert {desk.event(number)["transaction_id"] for number in (1, 2)} <= set(desk.rows())

    conflicting = desk.reject(4, currency=None)
    desk.mend(conflicting, {**desk.event(1), "amount": "99.00"})
    label = {"type": "label", "transaction_id": desk.event(1)["transaction_id"], "label": "fraud"}
    labelling = desk.reject_bytes(5, orjson.dumps(label))
    desk.mend(labelling, {**label, "label_time": "2026-06-02T12:00:00Z", "source": "chargeback"})
    report = sent(capsysbinary, "--all", "--to", "engine", "--again", code=1)
    assert report["results"] == {"duplicate": 2, "rejected": 1, "conflict": 1, "labelled": 1}
    after = desk.document(1)
    assert after is not None
    assert after.pop("label")["label"] == "fraud"
    assert after == document
    states = {each["id"]: each["state"] for each in listed(capsysbinary)}
    assert states[conflicting.letter_id] == "failed"
    assert labelling.letter_id not in states


def test_a_letter_older_than_documents_live_is_sent_only_on_purpose(
    desk: Desk, capsysbinary: Output
) -> None:
    letter = desk.reject_bytes(1, orjson.dumps(desk.event(1)), age_ms=49 * HOUR_MS)
    assert letter.error == "stale"
    report = sent(capsysbinary, "--all", code=1)
    assert report["results"] == {"stale": 1}
    assert "--allow-stale" in report["letters"][0]["detail"]
    assert sent(capsysbinary, "--all", "--to", "engine", "--allow-stale")["ok"]
    assert desk.document(1) is not None


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "which letters: found neither"),
        (["shard-1-0", "--all"], "found IDs and --all"),
        (["--all", "--payload", "x"], "--payload: found 0 ids"),
        (["shard-1-0", "--payload", "/nowhere"], "No such file"),
    ],
)
def test_arguments_that_cannot_be_meant_are_refused(
    desk: Desk, capsysbinary: Output, words: list[str], told: str
) -> None:
    assert main(["redrive", "send", *words]) == 2
    assert told in capsysbinary.readouterr().err.decode()


def test_the_report_for_a_person_counts_by_result_and_error(
    desk: Desk, capsysbinary: Output
) -> None:
    desk.reject(1, amount="x")
    desk.reject(2, currency=None)
    assert main(["redrive", "send", "--all", "--rate", "1000"]) == 1
    lines = capsysbinary.readouterr().out.decode().splitlines()
    assert lines[-3] == "2 letters, 0 sent"
    assert all("rejected" in line for line in lines[-2:])


class Recorder:
    """A way back in that keeps what came, and loses its answer once ``gone`` were taken."""

    name = "stream"

    def __init__(self, gone: int | None = None) -> None:
        self.sent: list[str] = []
        self._gone = gone

    def send(self, letters: Sequence[Ready]) -> list[Outcome]:
        if self._gone is not None and len(self.sent) >= self._gone:
            raise Unavailable("kinesis", "put_records: told to fail")
        self.sent += [each.partition_key for each in letters]
        return [Outcome(each.filed.letter.letter_id, Result.SENT) for each in letters]


def test_letters_leave_at_the_rate_that_is_asked_for(desk: Desk) -> None:
    for number in range(5):
        desk.mend(desk.reject(number, currency=None), desk.event(number))
    clock, recorder = FakeClock(desk.now_ms), Recorder()
    with closing(S3LetterBox(desk.s3, BUCKET, desk.prefix)) as box:
        found = box.find(Filter(), lambda _: True, None)
        redrive = Redrive(box, INTAKE, recorder, clock=clock, sleep=clock.sleep)
        outcomes = list(redrive.run(found, Wishes(by="ops@host", rate=2.0)))

    assert all(each.is_good for each in outcomes)
    assert recorder.sent == [f"card_{number}" for number in range(5)]
    assert clock.pauses == [0.0, pytest.approx(1.0), pytest.approx(1.0)]


class Refusing:
    """A client of S3 for which one object cannot be put."""

    def __init__(self, s3: "S3Client") -> None:
        self._s3 = s3
        self.refused: str | None = None

    def __getattr__(self, name: str) -> object:
        return getattr(self._s3, name)

    def put_object(self, **parameters: Any) -> object:
        if self.refused is not None and self.refused in parameters["Key"]:
            raise ClientError({"Error": {"Code": "SlowDown"}}, "PutObject")
        return self._s3.put_object(**parameters)


def test_a_mark_that_is_refused_stops_neither_the_letters_that_are_marked_nor_hides_its_own(
    desk: Desk,
) -> None:
    for number in range(4):
        desk.mend(desk.reject(number, currency=None), desk.event(number))
    clock, recorder = FakeClock(desk.now_ms), Recorder()
    outcomes: list[Outcome] = []
    s3 = Refusing(desk.s3)
    with closing(S3LetterBox(cast("S3Client", s3), BUCKET, desk.prefix)) as box:
        found = [
            each for each in box.find(Filter(), lambda _: True, None) if isinstance(each, Filed)
        ]
        s3.refused = found[2].letter.letter_id
        redrive = Redrive(box, INTAKE, recorder, clock=clock, sleep=clock.sleep)
        with pytest.raises(Unavailable, match="SlowDown"):
            outcomes.extend(redrive.run(found, Wishes(by="ops@host")))
        states = [
            each.state
            for each in box.find(Filter(), lambda _: True, None)
            if isinstance(each, Filed)
        ]

    results = {each.letter_id: each.result for each in outcomes}
    expected = [Result.SENT, Result.SENT, Result.UNKNOWN, Result.SENT]
    assert [results[each.letter.letter_id] for each in found] == expected
    assert states == [State.SENT, State.SENT, State.OPEN, State.SENT]
    assert recorder.sent == ["card_0", "card_1", "card_3"]


def test_what_stops_answering_leaves_the_rest_untouched(desk: Desk) -> None:
    for number in range(5):
        desk.mend(desk.reject(number, currency=None), desk.event(number))
    clock, recorder = FakeClock(desk.now_ms), Recorder(gone=2)
    outcomes: list[Outcome] = []
    with closing(S3LetterBox(desk.s3, BUCKET, desk.prefix)) as box:
        found = box.find(Filter(), lambda _: True, None)
        redrive = Redrive(box, INTAKE, recorder, clock=clock, sleep=clock.sleep)
        with pytest.raises(Unavailable, match="told to fail"):
            outcomes.extend(redrive.run(found, Wishes(by="ops@host", rate=2.0)))
        states = [
            each.state
            for each in box.find(Filter(), lambda _: True, None)
            if isinstance(each, Filed)
        ]

    assert [each.result for each in outcomes] == [Result.SENT] * 2 + [Result.UNKNOWN] * 2
    assert states == [State.SENT] * 2 + [State.SENDING] * 2 + [State.OPEN]
