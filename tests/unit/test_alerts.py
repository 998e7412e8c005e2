"""An alert says the same, made from an assessment or from the document stored of it."""

import orjson

from consumer.document import DocumentFormat, alert_of, build_alert, build_document
from consumer.model import Decision, Outcome, Scores
from tests.builders import an_assessment

FORM = DocumentFormat(("amount", "card_count_1h"), "f" * 64, "EUR")


def test_the_alert_of_a_document_equals_the_alert_of_its_assessment() -> None:
    for scores in (Scores(0.9, 1.5), Scores(None, None, ("timeout",))):
        assessment = an_assessment(
            scores=scores, decision=Decision(Outcome.REVIEW, ("fraud_score_high",))
        )
        document = orjson.loads(build_document(assessment, FORM))
        assert alert_of(document) == build_alert(assessment)


def test_an_approved_document_has_no_alert() -> None:
    assert alert_of(orjson.loads(build_document(an_assessment(), FORM))) is None
