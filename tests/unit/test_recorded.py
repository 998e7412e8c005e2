"""Decisions that are read back from their rows are what was judged."""

from datetime import UTC, datetime
from math import isnan
from typing import Any

import orjson
import pytest

from consumer.document import DocumentFormat, build_document
from consumer.model import Kind, Scores
from consumer.recorded import read_case
from consumer.row import build_row
from tests.builders import a_transaction, an_assessment

FEATURES = ("amount", "card_count_1h")
FORM = DocumentFormat(feature_names=FEATURES, feature_hash="f" * 64, base_currency="EUR")


def a_row(**changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = orjson.loads(build_row(build_document(an_assessment(1, **changes), FORM)))
    return row


def test_a_row_gives_the_case_that_was_judged() -> None:
    transaction = a_transaction(
        1,
        amount_minor=1_999,
        currency="USD",
        base_amount_minor=1_777,
        kind=Kind.REFUND,
        country="DE",
        latitude=52.5,
        longitude=13.4,
        device_id="device_1",
        extra={"loyalty": "gold"},
    )
    row = a_row(transaction=transaction, scores=Scores(0.25, None, ("anomaly:timeout",)))
    case = read_case(row, FEATURES, 2)
    for name in ("transaction_id", "event_time", "card_id", "merchant_id", "amount_minor"):
        assert getattr(case.transaction, name) == getattr(transaction, name)
    for name in ("currency", "base_amount_minor", "kind", "country", "latitude", "device_id"):
        assert getattr(case.transaction, name) == getattr(transaction, name)
    assert case.transaction.extra == {"loyalty": "gold"}
    assert case.values == (12.5, 1.0)
    assert case.scores == Scores(0.25, None, ("anomaly:timeout",))
    assert case.time_s == int(transaction.event_time.timestamp())


def test_times_may_be_those_of_a_table() -> None:
    moment = datetime(2026, 6, 1, 12, 0, 1)  # noqa: DTZ001 - Arrow's, which means UTC
    case = read_case(a_row() | {"event_time": moment, "arrival_time": None}, FEATURES, 2)
    assert case.transaction.event_time == moment.replace(tzinfo=UTC)


def test_an_event_ahead_of_its_arrival_counts_when_it_arrived() -> None:
    case = read_case(a_row() | {"event_time": "2026-06-01 13:00:00.000"}, FEATURES, 2)
    assert case.time_s == int(datetime(2026, 6, 1, 12, 0, 1, tzinfo=UTC).timestamp())


def test_a_feature_that_a_row_lacks_is_no_number() -> None:
    case = read_case(a_row(), ("amount", "other"), 2)
    assert case.values[0] == 12.5
    assert isnan(case.values[1])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"card_id": None}, "no card_id"),
        ({"event_time": "yesterday"}, "yesterday"),
        ({"currency": "XXQ"}, "currency 'XXQ'"),
        ({"amount": "12.50"}, "amount '12.50', which is no number"),
        ({"base_amount": float("nan")}, "base_amount nan"),
        ({"f_amount": True}, "f_amount True, which is no number"),
        ({"kind": "gift"}, "'gift' is not a valid Kind"),
    ],
)
def test_what_is_no_row_is_told(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        read_case(a_row() | changes, FEATURES, 2)
