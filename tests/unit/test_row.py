from datetime import UTC, datetime

import orjson
import pytest

from consumer.document import DocumentFormat, build_document
from consumer.model import Assessment, Bands, Decision, Outcome, Scores
from consumer.row import COLUMNS, build_row
from tests.builders import a_transaction, an_assessment, an_origin

FORM = DocumentFormat(
    feature_names=("amount", "card_count_1h"), feature_hash="f" * 64, base_currency="EUR"
)


def row_of(assessment: Assessment) -> dict[str, object]:
    line = build_row(build_document(assessment, FORM))
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    row: dict[str, object] = orjson.loads(line)
    return row


def test_a_row_holds_the_transaction_and_its_decision() -> None:
    row = row_of(
        an_assessment(
            1,
            scores=Scores(0.97, None, ("anomaly:timeout",)),
            decision=Decision(Outcome.DECLINE, ("fraud_score_high", "score_missing")),
        )
    )
    assert row["transaction_id"] == "tx_1"
    assert row["event_time"] == "2026-06-01 12:00:01.000"
    assert (row["amount"], row["currency"], row["base_amount"]) == (12.5, "EUR", 12.5)
    assert (row["decision"], row["reasons"]) == ("decline", ["fraud_score_high", "score_missing"])
    assert (row["fraud_score"], row["anomaly_score"]) == (0.97, None)
    assert row["degraded"] == ["anomaly:timeout"]
    assert (row["f_amount"], row["f_card_count_1h"]) == (12.5, 1.0)
    assert (row["shard_id"], row["position"]) == ("shardId-000000000000", "1:0")
    assert row["decided_time"] == "2026-06-01 12:00:01.075"


def test_a_row_says_which_thresholds_were_applied_and_whose_they_are() -> None:
    bands = Bands(0.4, 0.9, 1.7, "settings", "ab12cd34ef56")
    row = row_of(an_assessment(1, decision=Decision(Outcome.APPROVE, (), bands=bands)))
    assert (row["fraud_review"], row["fraud_decline"], row["anomaly_review"]) == (0.4, 0.9, 1.7)
    assert (row["fraud_bands"], row["anomaly_bands"]) == ("settings", "ab12cd34ef56")
    assert row_of(an_assessment(1))["anomaly_bands"] is None


def test_every_row_has_the_same_columns_in_the_same_order() -> None:
    bare = row_of(an_assessment(1, origin=an_origin(1, shard_id=None, position=None)))
    full = row_of(
        an_assessment(
            2,
            transaction=a_transaction(2, country="DE", latitude=52.5, device_id="device_1"),
            future=True,
        )
    )
    assert tuple(bare) == tuple(full) == (*COLUMNS, "f_amount", "f_card_count_1h")
    assert (bare["country"], bare["future"]) == (None, False)
    assert (full["country"], full["latitude"], full["future"]) == ("DE", 52.5, True)


def test_nothing_in_a_row_nests() -> None:
    for value in row_of(an_assessment(1)).values():
        assert not isinstance(value, dict)


def test_a_further_field_cannot_pass_for_a_column() -> None:
    transaction = a_transaction(1, extra={"decision": "approve", "basket": 3})
    row = row_of(an_assessment(1, transaction=transaction))
    assert (row["decision"], row["x_decision"], row["x_basket"]) == ("approve", "approve", 3)


def test_a_stored_label_does_not_change_the_row() -> None:
    document = orjson.loads(build_document(an_assessment(1), FORM))
    labelled = document | {"label": {"label": "fraud", "time_ms": 1}, "stored_ms": 5}
    assert build_row(orjson.dumps(labelled)) == build_row(orjson.dumps(document))


@pytest.mark.parametrize("millisecond", [0, 1, 999])
def test_times_keep_their_milliseconds(millisecond: int) -> None:
    time = datetime(2026, 6, 1, 23, 59, 59, millisecond * 1000, tzinfo=UTC)
    row = row_of(an_assessment(1, transaction=a_transaction(1, event_time=time)))
    assert row["event_time"] == f"2026-06-01 23:59:59.{millisecond:03d}"
