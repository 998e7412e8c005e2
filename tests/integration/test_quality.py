"""``make quality`` on a small history in the columns of the Fraud Detection Handbook."""

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from tests.quality.__main__ import MODELS, main

FIRST = datetime(2018, 4, 1, tzinfo=UTC)
DAYS = 65
QUIET_DAY = 63
A_DAY = 70
FOLD = date(2018, 5, 10)


def write_history(path: Path) -> list[dict[str, Any]]:
    """Write customers of whom one in 20 purchases is a large fraud, or small and found late."""
    chance = np.random.default_rng(7)
    rows: list[dict[str, Any]] = []
    for day in range(DAYS):
        seconds = np.sort(chance.choice(86_400, A_DAY, replace=False))
        if day == QUIET_DAY:
            continue
        for second in seconds.tolist():
            customer, fraud = int(chance.integers(40)), bool(chance.random() < 0.05)
            amount = 20.0 + customer + chance.normal(0, 5)
            rows.append(
                {
                    "TRANSACTION_ID": len(rows),
                    "TX_DATETIME": (FIRST + timedelta(days=day, seconds=second)).replace(
                        tzinfo=None
                    ),
                    "CUSTOMER_ID": customer,
                    "TERMINAL_ID": int(chance.integers(25)),
                    "TX_AMOUNT": round(amount * (4 if fraud and chance.random() < 0.7 else 1), 2),
                    "TX_FRAUD": int(fraud),
                }
            )
    pq.write_table(pa.Table.from_pylist(rows), path)
    return rows


def chosen_plainly(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The transactions of the fold's test days, by the words of the protocol."""
    chosen = []
    for number in range(7):
        day = FOLD + timedelta(14 + number)
        known = {
            row["CUSTOMER_ID"]
            for row in rows
            if row["TX_FRAUD"] and FOLD <= row["TX_DATETIME"].date() <= day - timedelta(8)
        }
        chosen += [
            row
            for row in rows
            if row["TX_DATETIME"].date() == day and row["CUSTOMER_ID"] not in known
        ]
    return chosen


def card_precision_plainly(rows: list[dict[str, Any]], scores: dict[int, float]) -> float:
    found: set[int] = set()
    daily = []
    for day in sorted({row["TX_DATETIME"].date() for row in rows}):
        highest: dict[int, float] = defaultdict(lambda: -1.0)
        compromised = set()
        for row in rows:
            if row["TX_DATETIME"].date() == day and row["CUSTOMER_ID"] not in found:
                customer = row["CUSTOMER_ID"]
                score = scores[row["TRANSACTION_ID"]]
                highest[customer] = max(highest[customer], score)
                compromised |= {customer} if row["TX_FRAUD"] else set()
        top = sorted(highest, key=lambda customer: -highest[customer])[:100]
        found |= compromised & set(top)
        daily.append(len(compromised & set(top)) / 100)
    return float(np.mean(daily))


def run(data: Path, folder: Path, folds: str = str(FOLD)) -> dict[str, Any]:
    assert main({"DATA": str(data), "FOLDS": folds}, folder) == 0
    report: dict[str, Any] = orjson.loads((folder / "report.json").read_bytes())
    return report


@pytest.mark.timeout(240)
def test_figures_follow_from_the_scores_and_data_sets_are_made_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, folder = tmp_path / "history.parquet", tmp_path / "quality"
    rows = write_history(data)
    report = run(data, folder)
    test = chosen_plainly(rows)
    frauds = [row["TX_FRAUD"] for row in test]
    models = report["folds"][str(FOLD)]
    for name in MODELS:
        table = pq.read_table(folder / f"scores-{FOLD}-{name}.parquet").to_pydict()
        scores = dict(zip(table["transaction_id"], table["score"], strict=True))
        assert list(scores) == [row["TRANSACTION_ID"] for row in test]
        values = list(scores.values())
        assert models[name]["roc_auc"] == pytest.approx(roc_auc_score(frauds, values))
        expected = average_precision_score(frauds, values)
        assert models[name]["average_precision"] == pytest.approx(expected)
        expected = card_precision_plainly(test, scores)
        assert models[name]["card_precision_100"] == pytest.approx(expected)
        assert (models[name]["test_rows"], models[name]["test_frauds"]) == (len(test), sum(frauds))
    week = [row for row in rows if 0 <= (row["TX_DATETIME"].date() - FOLD).days < 7]
    assert models["baseline"]["train_rows"] == len(week) == 7 * A_DAY
    assert models["baseline"]["train_frauds"] == sum(row["TX_FRAUD"] for row in week)
    assert models["own"]["train_from"] == "2018-05-08"
    assert models["own"]["average_precision"] > 0.5
    assert not any(each["kept"] for each in report["replays"].values())

    later = FOLD + timedelta(6)
    again = run(data, folder, f"{FOLD}, {later}")
    assert all(each["kept"] for each in again["replays"].values())
    assert list(again["folds"]) == [str(FOLD), str(later)]
    for name in MODELS:
        assert {**again["folds"][str(FOLD)][name], "seconds": 0} == {**models[name], "seconds": 0}
    assert models["own"]["train_rows"] < again["folds"][str(later)]["own"]["train_rows"]
    missing = ["2018-06-03", "2018-06-05"]
    assert again["folds"][str(later)]["missing_test_days"] == missing
    told = capsys.readouterr().err
    assert f"no transactions on {', '.join(missing)}; judged by the others" in told

    (folder / "report.json").unlink()
    assert main({"DATA": str(data), "FOLDS": "2018-05-01 2018-06-01"}, folder) == 2
    told = capsys.readouterr().err
    assert "at least 37 days before 2018-05-01, which fill the features" in told
    assert "transactions of its test days, 2018-06-15 to 2018-06-21" in told
    assert not (folder / "report.json").exists()


def test_missing_and_mistaken_words_are_told_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main({"DATA": "", "FOLDS": "monday"}, tmp_path) == 2
    told = capsys.readouterr().err
    assert "make quality DATA=transactions.parquet FOLDS=2018-07-25" in told
    assert "'monday'" in told
    assert main({"DATA": str(tmp_path / "none.parquet"), "FOLDS": "2018-07-25"}, tmp_path) == 2
    assert "no such file" in capsys.readouterr().err
    other = tmp_path / "other.parquet"
    pq.write_table(pa.table({"TX_AMOUNT": [1.0]}), other)
    assert main({"DATA": str(other), "FOLDS": "2018-07-25"}, tmp_path) == 2
    assert "also TRANSACTION_ID, TX_DATETIME, CUSTOMER_ID" in capsys.readouterr().err
