"""``fraudstream rules`` and ``fraudstream lists`` as an analyst uses them."""

from pathlib import Path

import orjson
import pytest

from consumer.__main__ import main
from consumer.settings import SHIPPED


@pytest.fixture
def config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    folder = tmp_path / "config"
    assert main(["init", str(folder)]) == 0
    capsys.readouterr()
    return folder


def run(config: Path, *words: str) -> int:
    return main([*words, "--config", str(config / "fraudstream.yaml")])


def change_rules(config: Path, old: str, new: str) -> Path:
    path = config / "rules.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return path


def test_rules_that_are_fine_are_shown_by_lint(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(config, "rules", "lint") == 0
    out = capsys.readouterr().out
    assert "card_burst@1" in out
    assert "add 0.1" in out
    assert "blocked_cards 0" in out


def test_show_as_json_says_everything_that_decides(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(config, "rules", "show", "--json") == 0
    shown = orjson.loads(capsys.readouterr().out)
    assert shown["mode"] == "live"
    assert {"id", "version", "when", "outcome", "text"} < shown["rules"][0].keys()
    assert {"add": 0.1} in [rule["outcome"] for rule in shown["rules"]]


def test_show_without_redis_says_that_the_age_of_features_is_not_known(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAUDSTREAM_REDIS__URL", "redis://127.0.0.1:1/0")
    assert run(config, "rules", "show") == 0
    out = capsys.readouterr().out
    assert "card_burst@1" in out
    assert "which features are warming is not known: redis" in out


def test_a_mistake_is_told_at_its_line_and_column(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = change_rules(config, "f.card_count_1m >= 8.0", "f.card_count_2m >= 8.0")
    line = next(
        number
        for number, text in enumerate(path.read_text().splitlines(), start=1)
        if "card_count_2m" in text
    )
    assert run(config, "rules", "lint") == 1
    out = capsys.readouterr().out
    assert f"{path}:{line}:11: rule card_burst: found f.card_count_2m" in out
    assert out.endswith("1 to correct\n")


def test_problems_as_json_have_their_place(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change_rules(config, "8.0", "8")
    assert run(config, "rules", "lint", "--json") == 1
    (problem,) = orjson.loads(capsys.readouterr().out)["problems"]
    assert "1000.0" in problem["found"]


def test_examples_that_fail_are_named(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(config, "rules", "test") == 0
    assert "examples are as expected" in capsys.readouterr().out
    change_rules(config, "f.card_count_1m >= 8.0", "f.card_count_1m >= 9.0")
    assert run(config, "rules", "test") == 1
    assert "rule card_burst: hits, example 1: misses\n" in capsys.readouterr().out
    assert run(config, "rules", "test", "--json") == 1
    (failed,) = orjson.loads(capsys.readouterr().out)["failed"]
    assert failed == {"rule": "card_burst", "example": "hits[1]", "found": "misses"}


def test_lint_runs_the_examples_too(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = change_rules(config, "f.card_count_1m >= 8.0", "f.card_count_1m >= 9.0")
    example = "{f.card_count_1m: 8"
    lines = path.read_text().splitlines()
    number = next(number for number, text in enumerate(lines, start=1) if example in text)
    column = lines[number - 1].index(example) + 1
    assert run(config, "rules", "lint") == 1
    out = capsys.readouterr().out
    told = "rule card_burst: examples.hits[0]: found that it misses, expected hits"
    assert f"{path}:{number}:{column}: {told}" in out


def test_lint_warns_of_names_that_may_be_absent(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(config, "rules", "lint", "--json") == 0
    assert orjson.loads(capsys.readouterr().out)["warnings"] == []
    path = config / "rules.yaml"
    path.write_text(UNASKED)
    assert run(config, "rules", "lint") == 0
    out = capsys.readouterr().out
    warnings = [line for line in out.splitlines() if line.startswith("warning: ")]
    assert warnings == [
        (
            f"warning: {path}:4:31: rule abroad: found scores.fraud, which may be absent, expected "
            "has(scores.fraud) && … before it, or on_error: review speaks"
        ),
        (
            f"warning: {path}:4:9: rule abroad: found tx.country, which may be absent, expected "
            "has(tx.country) && … before it, or on_error: review speaks"
        ),
    ]


UNASKED = """version: 1
rules:
- id: abroad
  when: tx.country != "DE" && scores.fraud > 0.1 && has(tx.channel) && tx.channel == "a"
  outcome: review
  on_error: review
  reason: {code: abroad, text: Abroad.}
  examples:
    hits: [{tx.country: BR, scores.fraud: 0.2, tx.channel: a}]
    misses: [{tx.country: DE, scores.fraud: 0.2, tx.channel: a}]
"""


def test_another_file_can_be_tried_before_it_is_in_force(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("version: 1\nrules: []\n")
    assert run(config, "rules", "lint", "--rules", str(other)) == 0
    assert f"0 rules of {other}" in capsys.readouterr().out


def test_fields_name_everything_that_a_rule_may_use(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(config, "rules", "fields") == 0
    assert "tx.merchant_id" in capsys.readouterr().out
    assert run(config, "rules", "fields", "--json") == 0
    fields = {field["name"]: field for field in orjson.loads(capsys.readouterr().out)}
    assert fields["tx.country"]["optional"]
    assert fields["f.amount"]["unit"] == "EUR, major units"
    assert fields["scores.fraud"]["type"] == "number"


def add(config: Path, *words: str) -> int:
    return run(config, "lists", "add", *words, "--reason", "stolen")


def test_a_value_is_added_shown_and_removed(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config / "lists" / "blocked_cards.ndjson"
    path.write_text('{"value": "card_2", "until": "2001-01-01T00:00:00Z"}\n')
    assert add(config, "blocked_cards", "card_1", "--until", "2999-12-31") == 0
    assert add(config, "blocked_cards", "card_3") == 0
    assert add(config, "blocked_cards", "card_3") == 0
    assert capsys.readouterr().out == (
        "blocked_cards card_1: added\nblocked_cards card_3: added\nblocked_cards card_3: replaced\n"
    )
    assert run(config, "lists", "show") == 0
    assert "blocked_cards  2 active, 1 ended\n" in capsys.readouterr().out
    assert run(config, "lists", "show", "blocked_cards") == 0
    assert capsys.readouterr().out == (
        "card_2  until 2001-01-01 00:00 (ended)\n"
        "card_1  until 2999-12-31 00:00 stolen\ncard_3  stolen\n"
    )
    assert run(config, "lists", "remove", "blocked_cards", "card_1", "--reason", "found") == 0
    assert run(config, "lists", "show", "blocked_cards", "card_1") == 1
    assert capsys.readouterr().err == "blocked_cards card_1: not there\n"
    audit = [orjson.loads(x) for x in (config / "lists" / "audit.ndjson").read_bytes().splitlines()]
    assert [(line["action"], line["value"], line["reason"]) for line in audit] == [
        ("add", "card_1", "stolen"),
        ("add", "card_3", "stolen"),
        ("add", "card_3", "stolen"),
        ("remove", "card_1", "found"),
    ]


def test_all_that_lists_do_is_told_as_json(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert add(config, "blocked_cards", "card_1", "--json") == 0
    added = {"list": "blocked_cards", "value": "card_1", "done": True, "what": "added"}
    assert orjson.loads(capsys.readouterr().out) == added
    assert run(config, "lists", "show", "--json") == 0
    shown = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"list": "blocked_cards", "active": 1, "ended": 0} in shown
    assert len(shown) == len(list((config / "lists").glob("*.ndjson"))) - 1
    assert run(config, "lists", "show", "nowhere", "--json") == 1
    assert orjson.loads(capsys.readouterr().out)["what"] == "not there"


def test_a_card_is_blocked_while_the_rules_are_broken(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (config / "rules.yaml").write_text("rules: [")
    assert add(config, "blocked_cards", "card_1") == 0
    assert "the form of the value was not checked" in capsys.readouterr().err


def test_an_end_that_cannot_be_read_is_told_with_its_forms(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        add(config, "blocked_cards", "card_1", "--until", "tomorrow")
    assert "found 'tomorrow', expected a day (2026-12-31), a time" in capsys.readouterr().err


def test_an_entry_as_json_says_who_added_it(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert add(config, "blocked_cards", "card_1") == 0
    capsys.readouterr()
    assert run(config, "lists", "show", "blocked_cards", "card_1", "--json") == 0
    entry = orjson.loads(capsys.readouterr().out)
    assert (entry["value"], entry["active"]) == ("card_1", True)
    assert "@" in entry["by"]


WHY = ("--reason", "stolen")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("add", "blocked_cards"), 2, "one word too few"),
        (("add", "blocked_cards", "card_1"), 2, "--reason: found nothing, expected why"),
        (("add", "blocked_cards", "card_1", "--reason", " "), 2, "--reason: found nothing"),
        (("remove", "blocked_cards", "card_1"), 2, "--reason: found nothing, expected why"),
        (("add", "blocked_cards", "4111111111111111", *WHY), 2, "a card number"),
        (("add", "blocked_countries", "germany", *WHY), 2, "two upper-case letters, such as DE"),
        (("add", "blocked_cards", "c", *WHY, "--until", "2020-01-01"), 2, "Z, which is over"),
        (("add", "bloked_cards", "card_1", *WHY), 1, "no such list"),
        (("remove", "blocked_cards", "card_1", *WHY), 1, "not there"),
        (("show", "bloked_cards"), 1, "not there"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    config: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    assert run(config, "lists", *words) == code
    err = capsys.readouterr().err
    assert said in err
    assert "cannot start" not in err


def test_a_list_that_is_broken_is_shown_with_its_line(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (config / "lists" / "blocked_cards.ndjson").write_text("card_1\n")
    assert run(config, "lists", "show") == 2
    assert "blocked_cards.ndjson:1" in capsys.readouterr().err


def test_shipped_rules_and_lists_are_those_that_init_writes(config: Path) -> None:
    assert (config / "rules.yaml").read_bytes() == (SHIPPED / "rules.yaml").read_bytes()
    written = {path.name for path in (config / "lists").iterdir()}
    assert written == {path.name for path in (SHIPPED / "lists").glob("*.ndjson")}
