"""``rules backtest`` as an analyst uses it: the shipped rules, files of decisions, labels."""

import gzip
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from consumer.__main__ import main
from consumer.document import DocumentFormat, build_document
from consumer.features.specification import load_plan
from consumer.model import Bands, Decision, Observation, Outcome, Scores
from consumer.row import build_row
from consumer.settings import SHIPPED
from tests.builders import a_transaction, an_assessment

PLAN = load_plan(SHIPPED / "features.yaml", "EUR")
FORM = DocumentFormat(PLAN.names, PLAN.hash, "EUR")
NEW = """
version: 1
rules:
- id: dear
  when: tx.base_amount > 500.0
  outcome: decline
  reason: {code: dear, text: The amount is large.}
  examples: {hits: [{tx.base_amount: 501}], misses: [{tx.base_amount: 500}]}
"""


def a_row(number: int, amount: float, fraud: float = 0.01) -> dict[str, Any]:
    assessment = an_assessment(
        number,
        transaction=a_transaction(
            number, amount_minor=round(amount * 100), base_amount_minor=round(amount * 100)
        ),
        observation=Observation((0.0,) * len(PLAN.names), ()),
        scores=Scores(fraud, 0.4),
        decision=Decision(Outcome.APPROVE, (), bands=Bands(0.5, 0.9, 2.0)),
    )
    row: dict[str, Any] = orjson.loads(build_row(build_document(assessment, FORM)))
    return row


ROWS = [a_row(1, 600), a_row(2, 700), a_row(3, 800), a_row(4, 10), a_row(5, 900, fraud=0.99)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with decisions as Firehose leaves them, labels, and a rule to try."""
    assert main(["init", str(tmp_path / "config")]) == 0
    (tmp_path / "new.yaml").write_text(NEW)
    stored = tmp_path / "decisions" / "2026" / "06"
    stored.mkdir(parents=True)
    lines = b"".join(orjson.dumps(row) + b"\n" for row in ROWS)
    (stored / "fraudstream-1-part").write_bytes(lines)
    # Firehose delivers at least once.
    with gzip.open(stored / "fraudstream-2-part.gz", "wb") as file:
        file.write(lines[: lines.index(b"\n") + 1])
    (tmp_path / "labels.csv").write_text(
        "transaction_id,label\ntx_1,fraud\ntx_2,legitimate\ntx_5,fraud\n"
    )
    return tmp_path


def backtest(folder: Path, *more: str, source: str = "decisions") -> int:
    config = str(folder / "config" / "fraudstream.yaml")
    words = ["rules", "backtest", "--config", config, str(folder / "new.yaml"), *more]
    return main([*words, "--source", str(folder / source)])


def test_a_rule_goes_from_file_to_labelled_backtest(
    folder: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    labels = str(folder / "labels.csv")
    capsysbinary.readouterr()
    assert backtest(folder, "--add", "--json", "--labels", labels) == 0
    found = orjson.loads(capsysbinary.readouterr().out)
    matches, alone = found["rules"]["dear"]["matches"], found["rules"]["dear"]["alone"]
    assert [matches[each] for each in ("fraud", "legitimate", "unlabelled")] == [2, 1, 1]
    assert (matches["fraud_amount"], matches["legitimate_amount"]) == (1_500.0, 700.0)
    # The score alone declines the fifth.
    assert alone["fraud"] == 1
    declined = found["shifts"]["newly_declined"]
    assert (declined["transactions"], declined["fraud"]) == (3, 1)
    assert found["shifts"]["newly_missed"]["transactions"] == 0
    assert found["repeated_rows"] == 1
    assert [each["transaction_id"] for each in found["samples"]] == ["tx_1", "tx_2", "tx_3", "tx_5"]
    assert found["rules"]["dear"]["changed"]
    assert not any(each["changed"] for name, each in found["rules"].items() if name != "dear")


def test_the_same_for_a_person(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert backtest(folder, "--add", "--labels", str(folder / "labels.csv")) == 0
    told = capsys.readouterr()
    assert "5 decisions: 2 fraud, 1 legitimate, 2 unlabelled" in told.out
    assert "1 repeated rows passed over" in told.out
    line = next(line for line in told.out.splitlines() if " dear " in line)
    matches = "2 (1,500) 1 (700) 1 (800) 66.7%"
    assert " ".join(line.split()) == f"* dear {matches} 1 (600) 1 (700)"
    assert "newly declined  tx_3" in told.out
    # What is approved has frauds in it that were missed, and no precision.
    approved = [line for line in told.out.splitlines() if line.startswith("approve")]
    assert approved
    assert not any("%" in line for line in approved)
    declined = next(line for line in told.out.splitlines() if line.startswith("decline"))
    assert declined.endswith("%")


def test_a_set_of_its_own_says_what_it_would_miss(
    folder: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    (folder / "old.yaml").write_text(NEW.replace("500.0", "5.0").replace("500}", "5}"))
    capsysbinary.readouterr()
    assert backtest(folder, "--json", "--against", str(folder / "old.yaml")) == 0
    found = orjson.loads(capsysbinary.readouterr().out)
    assert found["shifts"]["newly_missed"]["transactions"] == 1
    assert found["rules"]["dear"]["changed"]


def test_a_table_of_a_replay_is_read_like_the_rows_of_firehose(
    folder: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    rows = [row | {"fraud": row["transaction_id"] == "tx_3"} for row in ROWS]
    (folder / "table").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), folder / "table" / "decisions.parquet")
    capsysbinary.readouterr()
    assert backtest(folder, "--json", "--against", "none", source="table") == 0
    found = orjson.loads(capsysbinary.readouterr().out)
    assert found["against"] is None
    assert found["rules"]["dear"]["matches"]["fraud"] == 1
    assert found["rules"]["dear"]["matches"]["legitimate"] == 3


def test_a_rule_in_shadow_decides_where_it_is_asked_to(
    folder: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    new = folder / "new.yaml"
    new.write_text(NEW.replace("  outcome:", "  mode: shadow\n  outcome:"))
    capsysbinary.readouterr()
    assert backtest(folder, "--add", "--json") == 0
    assert orjson.loads(capsysbinary.readouterr().out)["outcomes"]["decline"]["transactions"] == 1
    assert backtest(folder, "--add", "--json", "--as-live") == 0
    assert orjson.loads(capsysbinary.readouterr().out)["outcomes"]["decline"]["transactions"] == 4


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda row: row.pop("card_id"), "line 1: found no card_id"),
        (lambda row: row.pop("fraud_review"), "line 1"),
        (lambda row: row.update(event_time="4026"), "line 1: found"),
    ],
)
def test_what_is_no_decision_is_named_with_its_line(
    folder: Path, capsys: pytest.CaptureFixture[str], spoil: Any, told: str
) -> None:
    row = dict(ROWS[0])
    spoil(row)
    (folder / "bad.ndjson").write_bytes(orjson.dumps(row) + b"\n")
    assert backtest(folder, source="bad.ndjson") == 1
    assert f"bad.ndjson:{told}" in capsys.readouterr().out.replace(": line", ":line")


def test_features_that_were_not_logged_are_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{k: v for k, v in row.items() if k != "f_card_count_1h"} for row in ROWS]
    lines = b"".join(orjson.dumps(row) + b"\n" for row in rows)
    (folder / "old.ndjson").write_bytes(lines)
    (folder / "new.yaml").write_text(NEW.replace("tx.base_amount > 500.0", "f.card_count_1h > 5.0"))
    assert backtest(folder, "--against", "none", source="old.ndjson") == 1
    told = capsys.readouterr().out
    assert "5 decisions without f_card_count_1h, which rules read" in told


def test_rules_that_are_wrong_are_refused_by_place(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "new.yaml").write_text(NEW.replace("tx.base_amount", "tx.colour"))
    assert backtest(folder) == 1
    assert "new.yaml:5:9: rule dear: found tx.colour" in capsys.readouterr().out
