import orjson
import pytest

from consumer.document import DocumentFormat, build_document
from consumer.errors import Rejected
from consumer.evidence import (
    compare_amount,
    decode_evidence,
    format_time,
    other_features,
    windows_of,
)
from consumer.model import Decision, Observation, Outcome, Scores
from consumer.show_command import render
from tests.builders import an_assessment

FEATURES = {
    "amount": 300.0,
    "card_count_1h": 3.0,
    "card_count_1d": 5.0,
    "card_count_30d": 34.0,
    "card_mean_30d": 50.0,
    "card_max_1d": 300.0,
    "card_max_30d": 400.0,
    "card_seconds_since_last": 60.0,
}


def a_document(**fields: object) -> bytes:
    assessment = an_assessment(
        1,
        observation=Observation(tuple(FEATURES.values()), ()),
        scores=Scores(0.97, None, ("anomaly:timeout",)),
        decision=Decision(Outcome.DECLINE, ("fraud_score_high",)),
    )
    form = DocumentFormat(tuple(FEATURES), "f" * 64, "EUR")
    return orjson.dumps({**orjson.loads(build_document(assessment, form)), **fields})


def test_windows_are_sorted_and_the_rest_of_the_longest_says_what_is_usual() -> None:
    count = windows_of(FEATURES)[0]
    assert (count.entity, count.what) == ("card", "count")
    assert count.windows == ("1h", "1d", "30d")
    assert count.values == (3.0, 5.0, 34.0)
    # 31 events in the other 719 hours, 29 in the other 29 days.
    assert count.usual == pytest.approx((31 / 719, 1.0))


def test_what_does_not_add_up_has_no_usual() -> None:
    assert [(each.what, each.usual) for each in windows_of(FEATURES)[1:]] == [
        ("mean", ()),
        ("max", ()),
    ]


def test_features_without_a_window_are_the_others() -> None:
    assert other_features(FEATURES) == {"amount": 300.0, "card_seconds_since_last": 60.0}


def test_the_amount_is_compared_with_mean_and_largest_of_the_longest_window() -> None:
    assert compare_amount(FEATURES) == [("card_mean_30d", 6.0), ("card_max_30d", 0.75)]
    assert compare_amount({"amount": 5.0, "card_mean_30d": 0.0}) == []
    assert compare_amount({"card_mean_30d": 10.0}) == []


def test_fields_of_a_later_version_are_kept() -> None:
    evidence = decode_evidence(a_document(graph={"version": "7"}))
    assert evidence.further["graph"] == {"version": "7"}
    assert ["graph.version", "7"] in [line.split() for line in render(evidence)]


@pytest.mark.parametrize("document", [b"{}", b"[]", b"no JSON", b'{"transaction_id": 7}'])
def test_what_is_no_document_is_refused(document: bytes) -> None:
    with pytest.raises(Rejected) as refused:
        decode_evidence(document)
    assert refused.value.code == "bad_document"


def test_a_person_reads_the_decision_first_then_why_and_whence() -> None:
    label = {"label": "fraud", "source": "chargeback", "time_ms": 1_780_315_200_000}
    lines = list(render(decode_evidence(a_document(label=label, stored_ms=1_780_315_201_080))))
    assert lines[0] == "tx_1: DECLINE"
    text = "\n".join(" ".join(line.split()) for line in lines)
    for part in (
        "fraud_score_high",
        "0.97",
        "anomaly:timeout",
        "fraud, by chargeback at 2026-06-01T12:00:00.000Z",
        "the amount is 6 times card_mean_30d",
        "1h 3",
        "usual",
        "card_seconds_since_last",
        "arrived 2026-06-01T12:00:01.050Z +50 ms",
        "stored 2026-06-01T12:00:01.080Z +5 ms",
        "shardId-000000000000 1:0",
        "feature_hash",
    ):
        assert part in text, part


def test_rules_and_the_explanation_are_told() -> None:
    document = a_document(
        decision={
            "outcome": "decline",
            "reasons": ["velocity"],
            "texts": ["Too many payments"],
            "risk": 0.99,
        },
        rules={
            "hash": "abc123",
            "lists_hash": "def456",
            "hits": ["velocity@3"],
            "shadow": ["travel@1"],
            "errors": ["broken"],
        },
        explanation=[{"feature": "card_count_1h", "value": 3.0, "contribution": 1.25}],
    )
    text = "\n".join(" ".join(line.split()) for line in render(decode_evidence(document)))
    for part in (
        "reasons velocity",
        "that is Too many payments",
        "risk with rules 0.99",
        "rules velocity@3",
        "in shadow travel@1",
        "rules without value broken",
        "explanation (log-odds: above zero towards fraud)",
        "+1.25 card_count_1h = 3.0",
        "rules abc123",
        "lists def456",
    ):
        assert part in text, part


def test_zeros_of_an_entity_that_the_event_does_not_name_are_told_apart() -> None:
    known = orjson.loads(a_document())
    features = {"device_age_seconds": 0.0, "merchant_count_1h": 1.0}

    def lines(**fields: str) -> str:
        transaction = {**known["transaction"], **fields}
        document = a_document(features=features, transaction=transaction)
        return "\n".join(render(decode_evidence(document)))

    told = "the event has no device_id: the features device_… are 0 for that"
    assert told in lines()
    assert "has no merchant_id" not in lines()
    assert told not in lines(device_id="device_1")


def test_a_second_assessment_is_told_beside_the_decision() -> None:
    second = {
        "scores": {"fraud": 0.97, "anomaly": 0.5},
        "outcome": "decline",
        "reasons": ["fraud_score_high"],
        "assessed_ms": 1_780_315_200_000,
    }
    text = "\n".join(render(decode_evidence(a_document(second_assessment=second))))
    assert (
        "assessed again     decline, for fraud_score_high, at 2026-06-01T12:00:00.000Z "
        "with all scores: fraud 0.97, anomaly 0.5"
    ) in text
    assert "second_assessment" not in text


def test_time_is_utc_to_the_millisecond() -> None:
    assert format_time(1_780_315_200_007) == "2026-06-01T12:00:00.007Z"
