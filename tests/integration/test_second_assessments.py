"""An endpoint that is down and then well: the decision stays, its second assessment alerts."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import redis
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from consumer.adapters.redis.connection import command, connect
from consumer.adapters.redis.documents import RedisDocuments
from consumer.breaker import BreakerState
from consumer.clock import SystemClock
from consumer.document import DocumentFormat
from consumer.engine import Engine, Incoming
from consumer.heartbeat import Heartbeat
from consumer.local.redis_server import RedisServer
from consumer.metrics import Metrics
from consumer.model import TransactionId
from consumer.outside import build_endpoints
from consumer.settings import Aws, BreakerSettings, Redis, Scoring, Settings
from consumer.telemetry import WorkerTelemetry
from consumer.wiring import assess_again, build_scorer
from tests.builders import a_transaction, an_origin
from tests.fakes.features import FakeFeatures
from tests.rulebook import a_book
from tests.sagemaker_server import Handler, Request, SageMakerServer, anomaly_scores, predictions

FORM = DocumentFormat(FakeFeatures.names, "f" * 64, "EUR")


OUTCOMES = ("worse", "dropped")


class Models:
    """Both models behind one server; that of fraud is down until it is mended."""

    def __init__(self) -> None:
        self.down = True

    def __call__(self, handler: Handler, request: Request) -> None:
        if "anomaly" in request.path:
            handler.reply(anomaly_scores([0.5 for _ in request.lines]))
        elif self.down:
            handler.reply(b"{}", status=500)
        else:
            handler.reply(predictions([0.97 for _ in request.lines]))


@pytest.fixture
def url() -> Iterator[str]:
    with RedisServer() as server:
        yield server.url


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


def test_what_an_outage_left_open_is_assessed_after_it_and_alerts(url: str, tmp_path: Path) -> None:
    models, registry, clock = Models(), CollectorRegistry(), SystemClock()
    with SageMakerServer() as server, ExitStack() as stack:
        server.always(models)
        settings = Settings(
            aws=Aws(sagemaker_runtime_url=server.url),
            redis=Redis(url=SecretStr(url)),
            scoring=Scoring(
                deadline_ms=2_000, breaker=BreakerSettings(minimum=1, open_s=0.1, probes=1)
            ),
        )
        heartbeat = stack.enter_context(Heartbeat(tmp_path / "run", clock))
        telemetry = WorkerTelemetry(Metrics(registry), heartbeat, clock, ["card"])
        client = stack.enter_context(closing(connect(url, connect_timeout_s=2, timeout_s=5)))
        documents = RedisDocuments(client, form=FORM, ttl_s=600, alerts_max_length=100)
        documents.prepare()
        scorer = stack.enter_context(
            closing(
                build_scorer(
                    build_endpoints(settings, clock),
                    settings.scoring,
                    clock,
                    telemetry,
                    lambda _: None,
                )
            )
        )
        book = a_book()
        assess_again(settings, scorer, book, telemetry, clock, stack)
        engine = Engine(
            features=FakeFeatures(),
            scoring=scorer,
            documents=documents,
            judge=book,
            clock=clock,
            timing=telemetry,
        )

        def decide(number: int) -> None:
            incoming = Incoming(a_transaction(number), an_origin(number))
            telemetry.settled(engine.store(engine.assess(engine.dispatch([incoming]))))

        decide(1)
        before = read(documents, 1)
        assert before["degraded"] == ["fraud:status_500"]
        assert breaker(registry) == BreakerState.OPEN
        models.down = False
        # The traffic probes: its first transactions may come before the breaker lets one by.
        last = 1
        while breaker(registry) != BreakerState.CLOSED:
            last += 1
            decide(last)
        after = await_second(documents, 1)
        second = after.pop("second_assessment")
        assert after == before
        assert isinstance(second, dict)
        assert second["scores"] == {"fraud": 0.97, "anomaly": 0.5}
        assert (second["outcome"], second["reasons"]) == ("decline", ["fraud_score_high"])
        assert [(each["outcome"], each.get("decided")) for each in alerts(client, "tx_1")] == [
            ("review", None),
            ("decline", "review"),
        ]
        assert len({each["prediction_id"] for each in alerts(client, "tx_1")}) == 2
        assert read(documents, last)["degraded"] == []
        assert "second_assessment" not in read(documents, last)
    name = "fraudstream_second_assessments_total"
    found = {each: registry.get_sample_value(name, {"outcome": each}) for each in OUTCOMES}
    # All before the last were degraded; what still waited at the end is dropped.
    assert sum(count or 0.0 for count in found.values()) == last - 1
    assert (found["worse"] or 0.0) >= 1


def read(documents: RedisDocuments, number: int) -> dict[str, object]:
    document: dict[str, object] = json.loads(documents.read(TransactionId(f"tx_{number}")) or b"{}")
    return document


def breaker(registry: CollectorRegistry) -> float | None:
    return registry.get_sample_value("fraudstream_breaker_state", {"endpoint": "fraud"})


def alerts(client: redis.Redis, transaction_id: str) -> list[dict[str, object]]:
    entries = command(client, "XRANGE", "alerts", "-", "+")
    every = [json.loads(fields[b"alert"]) for _, fields in entries]
    return [each for each in every if each["transaction_id"] == transaction_id]


def await_second(documents: RedisDocuments, number: int) -> dict[str, object]:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        document = read(documents, number)
        if "second_assessment" in document:
            return document
        time.sleep(0.02)
    pytest.fail("no second assessment came")
