from pathlib import Path

import pytest

from consumer.errors import Misconfigured
from consumer.replay.mapping import Column, Constant, EventForm, FieldMap, LabelWords, Template
from consumer.replay.mapping_source import read_duration_s, read_field_map

FORM = EventForm("EUR", ("basket",))


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "map.yaml"
    path.write_text(text)
    return path


def test_words_name_columns_constants_and_templates() -> None:
    found = read_field_map(
        ["card_id=c-{A}_{B}", "currency==EUR", "amount=PAID", "basket=x=y", "kind="], None, FORM
    )
    assert found.fields == {
        "card_id": Template(("c-", Column("A"), "_", Column("B"))),
        "currency": Constant("EUR"),
        "amount": Column("PAID"),
        "basket": Column("x=y"),
    }
    assert found.dropped == {"kind"}


def test_a_file_says_the_same_and_words_win_over_it(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """
fields:
  card_id: c-{A}
  merchant_id: {column: "{odd}"}
  currency: {constant: EUR}
  terminal_id: T
  channel:
time: {zone: Europe/Berlin, format: "%d.%m.%Y", unit: ms}
amount: {unit: minor}
label: {fraud: [1, true, chargeback], legitimate: 0, unknown: [""]}
""",
    )
    found = read_field_map(["card_id=B", "terminal_id=", "channel=C"], path, FORM)
    assert found == FieldMap(
        fields={
            "card_id": Column("B"),
            "merchant_id": Column("{odd}"),
            "currency": Constant("EUR"),
            "channel": Column("C"),
        },
        dropped=frozenset({"terminal_id"}),
        time_zone="Europe/Berlin",
        time_format="%d.%m.%Y",
        time_unit="ms",
        minor_units=True,
        words=LabelWords(("1", "true", "chargeback"), ("0",), ("",)),
    )


def test_everything_wrong_with_a_file_is_told_with_its_line(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """fields:
  cardid: A
  amount: [1]
  merchant_id: "{x"
time: {zone: Berlin, unit: hours}
amount: {unit: cents}
label: {fraud: [1], legitimate: [1], maybe: [2]}
extra: 1
""",
    )
    with pytest.raises(Misconfigured) as refused:
        read_field_map([], path, FORM)
    found = [(each.source.removeprefix(f"{path}:"), each.key) for each in refused.value.problems]
    assert sorted(found) == [
        ("2:11", "fields.cardid"),
        ("3:11", "fields.amount"),
        ("4:16", "fields.merchant_id"),
        ("5:14", "time.zone"),
        ("5:28", "time.unit"),
        ("6:16", "amount.unit"),
        ("7:45", "label.maybe"),
        ("7:8", "label"),
        ("8:8", "extra"),
    ]


def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    for text in ("- 1", "fields: 5", "a: [", "\x00"):
        with pytest.raises(Misconfigured):
            read_field_map([], written(tmp_path, text), FORM)
    with pytest.raises(Misconfigured, match="unreadable"):
        read_field_map([], tmp_path / "none.yaml", FORM)


def test_the_shipped_example_is_a_mapping() -> None:
    path = Path(__file__).parents[3] / "config" / "mappings" / "handbook.yaml"
    found = read_field_map([], path, FORM)
    assert found.fields["card_id"] == Column("CUSTOMER_ID")
    assert found.fields["currency"] == Constant("EUR")


def test_the_digest_tells_other_mappings() -> None:
    same = read_field_map(["card_id=A", "amount=B"], None, FORM).digest
    assert read_field_map(["amount=B", "card_id=A"], None, FORM).digest == same
    for words in (["card_id==A", "amount=B"], ["card_id=A"], ["card_id=A", "amount=B", "kind="]):
        assert read_field_map(words, None, FORM).digest != same


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7d", 604_800), ("0", 0), ("12h", 43_200), ("90m", 5_400), ("1w", 604_800)],
)
def test_durations_are_read(text: str, seconds: int) -> None:
    assert read_duration_s(text, "--label-delay") == seconds


@pytest.mark.parametrize("text", ["", "7", "-1d", "1.5d", "7 d", "5ms", "x"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(Misconfigured):
        read_duration_s(text, "--label-delay")
