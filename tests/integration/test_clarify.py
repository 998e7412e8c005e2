"""An endpoint that explains, asked over HTTP from behind the decision, to the document in Redis."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from consumer.adapters import aws
from consumer.adapters.clarify import ClarifyExplanations
from consumer.adapters.redis.connection import connect
from consumer.adapters.redis.documents import RedisDocuments
from consumer.adapters.redis.explanations import Explanations
from consumer.adapters.trial import try_explainer
from consumer.checkup import ExplainerFacts
from consumer.clock import SystemClock
from consumer.document import DocumentFormat
from consumer.engine import Settled
from consumer.errors import Unavailable
from consumer.evidence import decode_evidence
from consumer.explanation import Explainer
from consumer.features.specification import parse_plan
from consumer.followers import Archives, follow
from consumer.heartbeat import Heartbeat
from consumer.local.redis_server import RedisServer
from consumer.metrics import Metrics
from consumer.model import (
    Applied,
    Decision,
    Observation,
    Outcome,
    Stored,
    StoredDecision,
    TransactionId,
)
from consumer.outside import build_explanations
from consumer.settings import Aws, Scoring, Settings
from consumer.show_command import render
from consumer.telemetry import WorkerTelemetry
from tests import sagemaker_server as server
from tests.builders import an_assessment
from tests.sagemaker_server import Handler, Request, SageMakerServer

TEXT = """
version: 1
entities: {card: {key: card_id}}
features:
  - {name: amount, field: amount}
  - {name: "card_count_{window}", entity: card, aggregation: count, windows: [1h]}
"""
PLAN = parse_plan(TEXT, source="features")
DECLINED = an_assessment(
    decision=Decision(Outcome.DECLINE, ("fraud_score_high",)),
    observation=Observation(values=(95.5, 1.0), applied=(Applied.APPLIED,)),
)
APPROVED = an_assessment(2, observation=DECLINED.observation)


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


@pytest.fixture
def endpoint() -> Iterator[SageMakerServer]:
    with SageMakerServer() as running:
        yield running


def settings(url: str) -> Settings:
    scoring = Scoring(explanations="endpoint", explanation_endpoint="fraud-explained")
    return Settings(aws=Aws(sagemaker_runtime_url=url), scoring=scoring)


def source(url: str) -> ClarifyExplanations:
    built = build_explanations(settings(url), PLAN)
    assert built is not None
    return built


def thousandths(handler: Handler, request: Request) -> None:
    """Explain each row by a thousandth of its values."""
    rows = [[float(field) / 1_000 for field in line.split(",")] for line in request.lines]
    handler.reply(server.explanations(rows, PLAN.names))


def await_(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def test_a_decline_is_explained_by_the_endpoint_in_its_document(
    endpoint: SageMakerServer, tmp_path: Path
) -> None:
    endpoint.always(thousandths)
    registry, clock = CollectorRegistry(), SystemClock()
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        client = stack.enter_context(closing(connect(redis.url, connect_timeout_s=5, timeout_s=5)))
        form = DocumentFormat(PLAN.names, PLAN.hash, "EUR")
        documents = RedisDocuments(client, form=form, ttl_s=600, alerts_max_length=100)
        documents.prepare()
        documents.decide([APPROVED, DECLINED])
        heartbeat = stack.enter_context(Heartbeat(tmp_path / "run", clock))
        telemetry = WorkerTelemetry(Metrics(registry), heartbeat, clock, ["card"])
        archives = Archives(settings(endpoint.url).scoring, PLAN, lambda _, target: target)
        write = Explanations(client).write
        follow(archives, telemetry, clock, write, stack, source(endpoint.url))
        created = StoredDecision(Stored.CREATED, b"{}")
        telemetry.settled([Settled(APPROVED, created), Settled(DECLINED, created)])
        await_(lambda: written(registry))
        document = documents.read(TransactionId("tx_1")) or b""
    assert json.loads(document)["explanation"] == [
        {"feature": "amount", "value": 95.5, "contribution": 0.0955, "unit": "probability"},
        {"feature": "card_count_1h", "value": 1.0, "contribution": 0.001, "unit": "probability"},
    ]
    assert "explanation (probability: above zero towards fraud)" in render(
        decode_evidence(document)
    )
    (request,) = endpoint.requests
    assert request.path == "/endpoints/fraud-explained/invocations"
    assert request.headers["X-Amzn-SageMaker-Enable-Explanations"] == "`true`"
    assert request.headers["Accept"] == "text/csv"
    assert request.lines == ["95.5,1"]


def written(registry: CollectorRegistry) -> float | None:
    return registry.get_sample_value("fraudstream_explanations_total", {"outcome": "written"})


def test_at_most_twenty_rows_are_asked_at_once_and_none_after_a_failure(
    endpoint: SageMakerServer,
) -> None:
    counts: Counter[str] = Counter()
    endpoint.plan(thousandths, server.status(500))
    explainer = Explainer(
        source(endpoint.url),
        PLAN.names,
        lambda _transaction_id, _explanation: None,
        lambda outcome, number: counts.update({outcome: number}),
    )
    with closing(explainer):
        explainer.observe([DECLINED] * 100)
        await_(lambda: counts.total() == 100)
        explainer.observe([DECLINED])
        await_(lambda: counts.total() == 101)
    sizes = [len(request.lines) for request in endpoint.requests]
    assert len(sizes) == 2
    assert max(sizes) <= 20
    assert counts == {"written": sizes[0], "dropped": 101 - sizes[0]}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (server.status(424), "status 424"),
        (server.reset, "did not answer"),
        (server.no_http, "did not answer"),
        (server.echo, "no explanations"),
        (server.body(b" " * 100_000), "more than"),
    ],
)
def test_what_is_no_explanation_is_unavailable_and_the_next_may_be_one(
    endpoint: SageMakerServer, answer: server.Answer, expected: str
) -> None:
    endpoint.plan(answer, thousandths)
    with closing(source(endpoint.url)) as explaining:
        with pytest.raises(Unavailable, match=expected):
            explaining.explain([[0.5, 1.0]])
        explaining.close()
        assert explaining.explain([[0.5, 2.0]]) == [[(1, 0.002), (0, 0.0005)]]


def test_a_row_that_cannot_be_sent_stays_unexplained_alone(endpoint: SageMakerServer) -> None:
    endpoint.always(thousandths)
    with closing(source(endpoint.url)) as explaining:
        found = explaining.explain([[float("nan"), 1.0], [3.0, 1.0]])
        assert found == [[], [(0, 0.003), (1, 0.001)]]
        assert explaining.explain([[float("inf"), 1.0]]) == [[]]
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize("what", ["archive", "off"])
def test_no_endpoint_is_asked_unless_the_settings_say_so(what: str) -> None:
    scoring = Scoring.model_validate({"explanations": what, "explanation_endpoint": "other"})
    assert build_explanations(Settings(scoring=scoring), PLAN) is None


@pytest.mark.parametrize(
    ("inference", "shap", "expected"),
    [
        (
            {"FeatureHeaders": ["amount", "card_count_1h"], "MaxRecordCount": 25},
            {"UseLogit": True},
            ExplainerFacts("Updating", ("amount", "card_count_1h"), 25, logit=True),
        ),
        ({}, {}, ExplainerFacts("Updating")),
    ],
)
def test_what_an_endpoint_is_configured_to_explain_is_read_from_its_description(
    endpoint: SageMakerServer,
    inference: dict[str, object],
    shap: dict[str, object],
    expected: ExplainerFacts,
) -> None:
    explainer = {"InferenceConfig": inference, "ShapConfig": shap}
    description = {
        "EndpointName": "fraud-explained",
        "EndpointStatus": "Updating",
        "ExplainerConfig": {"ClarifyExplainerConfig": explainer},
    }
    endpoint.plan(server.body(json.dumps(description).encode(), "application/x-amz-json-1.1"))
    client = aws.client(
        "sagemaker",
        Aws(endpoint_url=endpoint.url),
        connect_timeout_s=5,
        read_timeout_s=5,
        max_pool_connections=1,
    )
    with closing(client):
        assert try_explainer(client, "fraud-explained") == expected
