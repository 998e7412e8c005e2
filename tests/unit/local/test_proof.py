from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from consumer.local.demo_rest import RestCheck
from consumer.local.proof import FeatureCheck, Found, Sent, Verdict, judge
from consumer.recomputation import Outcome
from consumer.verification import Tally, Verification

COUNT = 2_000


def a_document(number: int) -> dict[str, object]:
    return {
        "transaction_id": f"tx_{number}",
        "prediction_id": f"p_{number}",
        "origin": {"arrival_ms": 1_000, "received_ms": 1_040},
        "stored_ms": 1_050,
        "scores": {"fraud": number / COUNT, "anomaly": number / 7},
        "decision": {"outcome": "approve", "reasons": []},
        "degraded": [],
    }


LABELLED = {
    "tx_1": {**a_document(1), "label": {"label": "fraud"}},
    "tx_2": {**a_document(2), "label": {"label": "legitimate"}},
}


def a_row(number: int) -> dict[str, object]:
    return {
        "transaction_id": f"tx_{number}",
        "prediction_id": f"p_{number}",
        "decision": "approve",
    }


def sent() -> Sent:
    frauds = {f"tx_{number}": number > COUNT - 20 for number in range(COUNT)}
    return Sent(
        sent=COUNT + 5,
        duplicates=5,
        malformed=2,
        frauds=frauds,
        labels_sent=9,
        labels={"tx_1": "fraud", "tx_2": "legitimate"},
        corrected={"tx_2"},
    )


def found() -> Found:
    return Found(
        documents={f"tx_{number}": a_document(number) for number in range(COUNT)} | LABELLED,
        decisions={"approve": COUNT},
        rows=[a_row(number) for number in range(COUNT)],
        letters=["shard-1-0", "shard-2-0"],
        endpoint_requests=40,
        verification=verification(different=0),
    )


def verification(*, different: int) -> Verification:
    """A hundred values that were compared, so many of them different."""
    outcomes = Counter({Outcome.EQUAL: 100 - different, Outcome.DIFFERENT: different})
    tallies = {"merchant_count_1h": Tally("merchant", outcomes)}
    return Verification(50, 0, 0, 0, 0, tallies, ())


RIGHT = FeatureCheck(checked=100, wrong=0)


def verdict(found: Found, features: FeatureCheck = RIGHT) -> Verdict:
    return judge(sent(), found, features, {"live": 20.04}, RestCheck())


@pytest.mark.parametrize(
    ("given", "word"),
    [(verification(different=2), "SKEW: 2.00%"), (None, "no decision could be recomputed")],
)
def test_decisions_that_their_documents_do_not_give_are_told(
    given: Verification | None, word: str
) -> None:
    result = verdict(replace(found(), verification=given))
    assert [failure for failure in result.failures if word in failure]
    assert verdict(replace(found(), verification=verification(different=1))).failures == []


def test_a_faultless_run_is_proved() -> None:
    result = verdict(found())
    assert result.failures == []
    assert result.summary["ok"] is True
    assert result.summary["roc_auc"] == 1.0
    assert result.summary["distinct_scores"] == {"fraud": COUNT, "anomaly": COUNT}
    latency = {"p50": 10.0, "p99": 10.0, "p999": 10.0}
    assert result.summary["latency_ms"] == {
        "receive_to_decision": latency,
        "arrival_to_decision": {"p50": 50.0, "p99": 50.0, "p999": 50.0},
    }
    assert result.summary["seconds"] == {"live": 20.0}


def without_a_document(found: Found) -> Found:
    documents = dict(found.documents)
    del documents["tx_7"]
    return replace(found, documents=documents)


def with_an_unknown_document(found: Found) -> Found:
    return replace(found, documents={**found.documents, "tx_unknown": a_document(1)})


def with_a_repeated_row(found: Found) -> Found:
    return replace(found, rows=[*found.rows, a_row(7)])


def without_a_row(found: Found) -> Found:
    return replace(found, rows=found.rows[1:])


def with_another_decision_in_a_row(found: Found) -> Found:
    return replace(found, rows=[{**a_row(0), "decision": "decline"}, *found.rows[1:]])


def with_a_decision_too_few_in_the_index(found: Found) -> Found:
    return replace(found, decisions={"approve": COUNT - 1})


def without_a_letter(found: Found) -> Found:
    return replace(found, letters=["shard-1-0"])


def with_a_letter_stored_twice(found: Found) -> Found:
    return replace(found, letters=[*found.letters, "shard-1-0"])


def with_a_degraded_decision(found: Found) -> Found:
    degraded = {**a_document(3), "degraded": ["fraud:timeout"]}
    return replace(found, documents={**found.documents, "tx_3": degraded})


def without_a_score(found: Found) -> Found:
    unscored = {**a_document(3), "scores": {"fraud": 0.5}}
    return replace(found, documents={**found.documents, "tx_3": unscored})


def with_a_canned_score(found: Found) -> Found:
    documents = {
        key: {**document, "scores": {"fraud": 0.5, "anomaly": number}}
        for number, (key, document) in enumerate(found.documents.items())
    }
    return replace(found, documents=documents)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (without_a_document, "missing in Redis: tx_7"),
        (with_an_unknown_document, "unknown transactions are in Redis: tx_unknown"),
        (with_a_repeated_row, "more than one row: tx_7"),
        (without_a_row, "missing in S3: tx_0"),
        (with_another_decision_in_a_row, "differ from their document: tx_0"),
        (with_a_decision_too_few_in_the_index, "the index counts 1999 decisions"),
        (without_a_letter, "1 dead letters"),
        (with_a_letter_stored_twice, "3 dead letters"),
        (with_a_degraded_decision, "1 decisions are degraded"),
        (without_a_score, "1999 of 2000 documents have the score anomaly"),
        (with_a_canned_score, "the score fraud has 1 values"),
    ],
)
def test_what_is_wrong_is_named(change: Callable[[Found], Found], complaint: str) -> None:
    result = verdict(change(found()))
    assert result.summary["ok"] is False
    assert any(complaint in failure for failure in result.failures), result.failures


@pytest.mark.parametrize("features", [FeatureCheck(100, 1, ("card x",)), FeatureCheck(0, 0)])
def test_a_wrong_or_unchecked_feature_fails_the_proof(features: FeatureCheck) -> None:
    result = verdict(found(), features)
    assert result.summary["ok"] is False
    assert any("differ from the oracle" in failure for failure in result.failures)


def test_labels_are_due_on_the_documents_of_their_transactions() -> None:
    result = verdict(found())
    assert result.failures == []
    assert result.summary["labels"] == {"sent": 9, "due": 2, "corrected": 1}
    documents = {**found().documents, "tx_2": {**a_document(2), "label": {"label": "fraud"}}}
    result = verdict(replace(found(), documents=documents))
    assert result.failures == ["1 documents lack their label: tx_2"]


@pytest.mark.parametrize(
    ("unlabelled", "complaint"),
    [
        (replace(sent(), labels={}, corrected=()), "no label is proved: 9 were sent, none of"),
        (replace(sent(), corrected=()), "no correction is proved"),
    ],
)
def test_a_run_without_a_label_or_a_correction_on_a_document_is_not_proved(
    unlabelled: Sent, complaint: str
) -> None:
    result = judge(unlabelled, found(), RIGHT, {}, RestCheck())
    assert result.summary["ok"] is False
    assert len(result.failures) == 1
    assert complaint in result.failures[0]


def test_reasons_and_rules_are_counted_most_frequent_first() -> None:
    documents = dict(found().documents)
    for number, reasons in enumerate((["a"], ["b", "a"], ["a"]), start=3):
        documents[f"tx_{number}"] = {
            **a_document(number),
            "decision": {"outcome": "approve", "reasons": reasons},
            "rules": {"hits": [f"{reasons[0]}@1"]},
        }
    summary = judge(sent(), replace(found(), documents=documents), RIGHT, {}, RestCheck()).summary
    assert summary["reasons"] == {"a": 3, "b": 1}
    assert summary["rules"] == {"a@1": 2, "b@1": 1}


def test_what_was_wrong_over_rest_is_not_proved() -> None:
    rest = RestCheck(signed=3, decided=2, failures=["REST: a batch got 500 instead of 200: None"])
    result = judge(sent(), found(), RIGHT, {}, rest)
    assert result.failures == rest.failures
    assert result.summary["ok"] is False
    told = result.summary["rest"]
    assert isinstance(told, dict)
    assert (told["signed_requests"], told["decided"]) == (3, 2)


def test_without_frauds_there_is_no_ranking_to_report() -> None:
    honest = replace(sent(), frauds=dict.fromkeys(sent().frauds, False))
    result = judge(honest, found(), RIGHT, {}, RestCheck())
    assert result.summary["roc_auc"] is None
