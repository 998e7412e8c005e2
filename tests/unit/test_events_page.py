"""What docs/events.md shows is accepted, and what it lists is complete."""

import re
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from jsonschema import Draft202012Validator

from consumer.decode import DecodeRules, decode
from consumer.model import Label, LabelOutcome, Transaction
from consumer.rates import RateTable
from consumer.schema import published_schema
from consumer.settings import Events, Kcl
from consumer.wire import LabelEvent, TransactionEvent

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "events.md").read_text("utf-8")
SAMPLES: list[str] = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
# Raised while an event is decoded or decided; commands and adapters reject objects of their own.
MODULES = (
    "compression",
    "currency",
    "decode",
    "field_checks",
    "intake",
    "json_checks",
    "pan",
    "rates",
    "worker",
)
CODES = {
    code
    for module in MODULES
    for code in re.findall(
        r'Rejected\(\s*"(\w+)"', (ROOT / "consumer" / f"{module}.py").read_text("utf-8")
    )
}


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def first_cells(table_in: str) -> list[str]:
    return re.findall(r"^\| `(\w+)` \|", table_in, re.MULTILINE)


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_sample_is_valid_and_decoded(sample: str) -> None:
    event: dict[str, Any] = orjson.loads(sample)
    schema = orjson.loads(published_schema(event["type"]))
    checker = Draft202012Validator.FORMAT_CHECKER

    Draft202012Validator(schema, format_checker=checker).validate(event)
    decode(sample.encode(), DecodeRules.of(Events()))


def test_there_are_samples_of_both_events_and_one_has_every_field() -> None:
    rules = DecodeRules.of(Events())
    kinds = [type(decode(sample.encode(), rules)) for sample in SAMPLES]
    fullest = max((orjson.loads(sample) for sample in SAMPLES), key=len)

    assert kinds.count(Transaction) == 2
    assert kinds.count(Label) == 1
    assert fullest.keys() == {"type", *TransactionEvent.__struct_fields__}


@pytest.mark.parametrize(
    ("title", "event"), [("Transaction", TransactionEvent), ("Label", LabelEvent)]
)
def test_every_field_has_a_row_that_says_whether_it_is_required(
    title: str, event: type[msgspec.Struct]
) -> None:
    table = section(title)
    required = {
        "type",
        *(field.encode_name for field in msgspec.structs.fields(event) if field.required),
    }

    assert set(first_cells(table)) == {"type", *event.__struct_fields__}
    assert set(re.findall(r"^\| `(\w+)` \| yes \|", table, re.MULTILINE)) == required


def test_every_code_has_a_row_with_meaning_and_remedy() -> None:
    listed = first_cells(section("What is rejected, and what to do"))

    assert sorted(listed) == sorted(CODES)


def test_the_command_puts_a_good_event_under_its_card() -> None:
    (command,) = re.findall(r"```sh\n(aws kinesis put-record .*)\n```", PAGE)
    words = shlex.split(command)
    options = dict(zip(words[3::2], words[4::2], strict=True))
    event = decode(options["--data"].encode(), DecodeRules.of(Events()))

    assert isinstance(event, Transaction)
    assert options["--partition-key"] == event.card_id
    assert options["--stream-name"] == Kcl().stream_name
    # Version 2 of the AWS command line takes --data as base64 unless told otherwise.
    assert options["--cli-binary-format"] == "raw-in-base64-out"


def test_the_table_of_rates_is_one(tmp_path: Path) -> None:
    (table,) = re.findall(r"```csv\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "rates.csv").write_text(table, "utf-8")
    read = RateTable.read(tmp_path / "rates.csv", Events().base_currency, 7)

    assert read.convert(1_000, "JPY", datetime(2026, 5, 2, tzinfo=UTC)) == 620


def test_every_outcome_of_a_label_is_explained() -> None:
    listed = first_cells(section("What becomes of a label"))

    assert listed == list(LabelOutcome)
