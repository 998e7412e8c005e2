"""Explanations reach documents on a real Redis; archives that do not fit are refused."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import redis
import xgboost
from prometheus_client import CollectorRegistry

from consumer.adapters.redis.connection import connect
from consumer.adapters.redis.documents import RedisDocuments
from consumer.adapters.redis.explanations import Explanations
from consumer.clock import SystemClock
from consumer.document import DocumentFormat
from consumer.engine import Settled
from consumer.errors import Misconfigured, Unavailable
from consumer.features.specification import parse_plan
from consumer.followers import Archives, follow
from consumer.heartbeat import Heartbeat
from consumer.local.redis_server import RedisServer
from consumer.metric_files import NOTHING
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
from consumer.settings import DriftSettings, EndpointSettings, Scoring
from consumer.telemetry import WorkerTelemetry
from consumer.training.artefacts import write_fraud
from consumer.training.bins import BINS, count_bins
from tests.builders import an_assessment

TEXT = """
version: 1
entities: {card: {key: card_id}}
features:
  - {name: amount, field: amount}
  - {name: "card_count_{window}", entity: card, aggregation: count, windows: [1h]}
"""
PLAN = parse_plan(TEXT, source="features")
ROWS = np.random.default_rng(1).uniform(0, 100, (500, 2)).astype(np.float32)
DECLINED = an_assessment(
    decision=Decision(Outcome.DECLINE, ("fraud_score_high",)),
    observation=Observation(values=(95.0, 1.0), applied=(Applied.APPLIED,)),
)


@pytest.fixture(scope="module")
def client() -> Iterator[redis.Redis]:
    with RedisServer() as server:
        client = connect(server.url, connect_timeout_s=5, timeout_s=5)
        with closing(client):
            yield client


def archive(folder: Path, feature_hash: str = PLAN.hash) -> Path:
    path = folder / "fraud.tar.gz"
    parameters = {"objective": "binary:logistic", "nthread": 1}
    matrix = xgboost.DMatrix(ROWS, ROWS[:, 0] > 80)
    booster = xgboost.train(parameters, matrix, num_boost_round=5)
    write_fraud(path, booster, PLAN.names, feature_hash, {BINS: count_bins(PLAN.names, ROWS)})
    return path


def archives(source: str | None, explanations: Literal["archive", "off"] = "archive") -> Archives:
    settings = Scoring(
        explanations=explanations,
        fraud=EndpointSettings(name="fraudstream-fraud", archive=source),
        drift=DriftSettings(sample_every=1, minimum=1),
    )
    return Archives(settings, PLAN, lambda found, _target: Path(found))


def test_a_decline_is_explained_in_its_document_and_drift_is_told(
    client: redis.Redis, tmp_path: Path
) -> None:
    documents = RedisDocuments(
        client,
        form=DocumentFormat(PLAN.names, PLAN.hash, "EUR"),
        ttl_s=600,
        alerts_max_length=100,
    )
    documents.prepare()
    registry, clock = CollectorRegistry(), SystemClock()
    documents.decide([DECLINED])
    with ExitStack() as stack:
        heartbeat = stack.enter_context(Heartbeat(tmp_path / "run", clock))
        telemetry = WorkerTelemetry(Metrics(registry), heartbeat, clock, ["card"])
        write = Explanations(client).write
        follow(archives(str(archive(tmp_path))), telemetry, clock, write, stack)
        telemetry.settled([Settled(DECLINED, StoredDecision(Stored.CREATED, b"{}"))])
        explanation = await_explanation(documents)
        assert explanation[0]["feature"] == "amount"
        assert explanation[0]["value"] == 95.0
        assert explanation[0]["contribution"] > 0
        assert explanation[1]["feature"] == "card_count_1h"
    counted = registry.get_sample_value("fraudstream_explanations_total", {"outcome": "written"})
    assert counted == 1
    assert 0 < client.ttl("tx:tx_1") <= 600


def test_an_archive_explains_nothing_where_explanations_are_off(tmp_path: Path) -> None:
    registry, clock = CollectorRegistry(), SystemClock()
    with ExitStack() as stack:
        heartbeat = stack.enter_context(Heartbeat(tmp_path / "run", clock))
        telemetry = WorkerTelemetry(Metrics(registry), heartbeat, clock, ["card"])
        source = archives(str(archive(tmp_path)), "off")
        follow(source, telemetry, clock, lambda _, explanation: None, stack)
        assert "explain" not in {thread.name for thread in threading.enumerate()}


def await_explanation(documents: RedisDocuments) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        document = json.loads(documents.read(TransactionId("tx_1")) or b"{}")
        if "explanation" in document:
            found: list[dict[str, Any]] = document["explanation"]
            return found
        time.sleep(0.02)
    pytest.fail("no explanation came")


def test_a_document_that_expired_is_not_brought_back(client: redis.Redis) -> None:
    Explanations(client).write(TransactionId("tx_gone"), b"[]")
    assert client.exists("tx:tx_gone") == 0


def test_a_server_that_is_away_is_unavailable() -> None:
    nowhere = connect("redis://127.0.0.1:1/0", connect_timeout_s=1, timeout_s=1)
    with pytest.raises(Unavailable):
        Explanations(nowhere).write(TransactionId("tx_1"), b"[]")


def test_followers_hear_of_empty_deliveries_too(tmp_path: Path) -> None:
    registry, clock = CollectorRegistry(), SystemClock()
    heard: list[int] = []
    with Heartbeat(tmp_path / "run", clock) as heartbeat:
        telemetry = WorkerTelemetry(Metrics(registry), heartbeat, clock, ["card"])
        telemetry.follow(lambda created: heard.append(len(created)))
        telemetry.progressed(None, 0)
        telemetry.drifted("amount", 0.2)
        assert registry.get_sample_value("fraudstream_psi", {"feature": "amount"}) == 0.2
        telemetry.drifted("amount", None)
    assert heard == [0]
    assert registry.get_sample_value("fraudstream_psi", {"feature": "amount"}) == NOTHING


def test_an_archive_of_other_features_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="trained on the features"):
        archives(str(archive(tmp_path, "f" * 64))).check()
    with pytest.raises(Misconfigured, match="no such file"):
        archives(str(tmp_path / "nothing")).check()
    archives(None).check()


def test_a_worker_decides_without_an_archive_that_went_away(tmp_path: Path) -> None:
    registry, clock = CollectorRegistry(), SystemClock()
    with ExitStack() as stack:
        heartbeat = stack.enter_context(Heartbeat(tmp_path / "run", clock))
        telemetry = WorkerTelemetry(Metrics(registry), heartbeat, clock, ["card"])

        def write(transaction_id: TransactionId, explanation: bytes) -> None:
            pytest.fail(f"{transaction_id} explained by {explanation!r}")

        for source in (str(tmp_path / "nothing"), None):
            follow(archives(source), telemetry, clock, write, stack)
        telemetry.settled([Settled(DECLINED, StoredDecision(Stored.CREATED, b"{}"))])
    decided = registry.get_sample_value("fraudstream_decisions_total", {"outcome": "decline"})
    assert decided == 1
