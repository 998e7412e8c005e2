"""The REST service as a process on real servers: what it decides, refuses, and leaves behind."""

import gzip
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis

from consumer.adapters.redis.connection import command, connect
from consumer.adapters.redis.outbox import KEY as OUTBOX
from consumer.local.redis_server import RedisServer
from consumer.model import Position
from tests.builders import SHARD
from tests.firehose_server import FirehoseServer, fail
from tests.malformed_answers import render_table, shown_table
from tests.multilang import Delivered, MultilangDriver
from tests.rest_service import (
    CONFIG,
    WAIT_S,
    Answer,
    Service,
    an_event,
    environment_of,
    running_service,
    stub_aws,
)
from tests.sagemaker_server import SageMakerServer, hang, status

PAN = "4111111111111111"


def eventually(condition: Callable[[], bool]) -> None:
    ends_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < ends_s, "it did not come about"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rest")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[RedisServer]:
    with RedisServer(directory=folder) as server:
        yield server


@pytest.fixture(scope="module")
def aws(folder: Path) -> Iterator[dict[str, str]]:
    with stub_aws(folder) as variables:
        yield variables


@pytest.fixture(scope="module")
def service(folder: Path, server: RedisServer, aws: dict[str, str]) -> Iterator[Service]:
    with running_service(folder / "serve", {"REDIS__URL": server.url, **aws}) as service:
        yield service


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    client = connect(server.url, connect_timeout_s=5, timeout_s=10)
    yield client
    client.close()


@contextmanager
def a_worker(folder: Path, variables: dict[str, str]) -> Iterator[MultilangDriver]:
    """A worker of the stream on the same servers."""
    folder.mkdir()
    given = environment_of({**variables, "SUPERVISOR__RUN_DIR": str(folder / "run")})
    words = [sys.executable, "-m", "consumer", "process", "--config", str(CONFIG)]
    with MultilangDriver.start(words, given, folder / "worker.log") as driver:
        driver.initialize(SHARD)
        yield driver


def contents(client: redis.Redis) -> dict[bytes, bytes]:
    """Everything in Redis but the signs of life of processes."""
    keys = [each for each in command(client, "KEYS", "*") if not each.startswith(b"fraudstream")]
    return {key: command(client, "DUMP", key) for key in sorted(keys)}


def test_a_decision_is_made_once_and_returned_ever_after(service: Service) -> None:
    event = an_event("once_1")
    first, again = service.predict(event), service.predict(event)
    assert (first.status, again.status) == (200, 200)
    assert first.fields["repeated"] is False
    assert again.fields == first.fields | {"repeated": True}
    document = service.get("/v1/transactions/once_1").fields
    assert document["prediction_id"] == first.fields["prediction_id"]
    assert document["origin"]["source"] == "rest"
    assert document["decision"]["outcome"] == first.fields["outcome"]


def test_other_content_is_a_conflict_that_names_the_fields_and_touches_nothing(
    service: Service, client: redis.Redis
) -> None:
    event = an_event("conflict_1", card_id="conflict_card", country="DE")
    service.predict(event)
    eventually(lambda: command(client, "XLEN", OUTBOX) == 0)
    before = contents(client)
    answer = service.predict(event | {"amount": "99", "card_id": "conflict_other", "country": None})
    assert answer.status == 409
    named = {error["field"] for error in answer.fields["errors"]}
    assert named == {"amount", "card_id", "country"}
    assert b"approve" not in answer.body
    assert contents(client) == before


def test_a_dry_run_decides_as_it_would_be_and_writes_nothing(
    service: Service, client: redis.Redis
) -> None:
    service.predict(an_event("dry_0", card_id="dry_card"))
    eventually(lambda: command(client, "XLEN", OUTBOX) == 0)
    before = contents(client)
    event = an_event("dry_1", card_id="dry_card")
    dry = service.predict(event, "?dry_run=true").fields
    assert contents(client) == before
    assert dry["dry_run"] is True
    assert service.get("/v1/transactions/dry_1").status == 404
    real = service.predict(event).fields
    varying = ("decided_ms", "dry_run")
    assert {n: v for n, v in real.items() if n not in varying} == {
        n: v for n, v in dry.items() if n not in varying
    }


def test_one_id_posted_fifty_times_at_once_is_one_decision(
    service: Service, client: redis.Redis
) -> None:
    event = an_event("storm_1", card_id="storm_card")
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: service.predict(event), range(50)))
    assert {answer.status for answer in answers} == {200}
    assert sorted(answer.fields["repeated"] for answer in answers) == [False] + [True] * 49
    assert len({answer.fields["decided_ms"] for answer in answers}) == 1
    entity = service.get("/v1/entities/card/storm_card").fields
    assert entity["features"]["card_count_1h"] == 1


def test_a_batch_has_a_result_for_each(service: Service) -> None:
    known = an_event("batch_0")
    service.predict(known)
    parts = [an_event("batch_1"), {"type": "transaction"}, known, known | {"amount": "1"}]
    answer = service.post("/v1/predictions:batch", {"transactions": parts})
    assert answer.status == 200
    results = answer.fields["results"]
    assert [each["status"] for each in results] == [200, 422, 200, 409]
    assert results[1]["problem"]["errors"][0]["field"].startswith("transactions[1].")
    assert results[2]["prediction"]["repeated"] is True


def test_five_hundred_are_decided_and_one_more_is_refused(service: Service) -> None:
    parts = [an_event(f"many_{n}", card_id=f"many_{n % 9}") for n in range(501)]
    answer = service.post("/v1/predictions:batch", {"transactions": parts[:500]})
    assert [each["status"] for each in answer.fields["results"]] == [200] * 500
    assert service.post("/v1/predictions:batch", {"transactions": parts}).status == 422


def test_a_body_may_be_compressed(service: Service) -> None:
    body = gzip.compress(orjson.dumps({"transactions": [an_event("gzip_1")]}))
    headers = {"Content-Encoding": "gzip"}
    answer = service.post("/v1/predictions:batch", body, headers=headers)
    assert answer.fields["results"][0]["status"] == 200
    bomb = gzip.compress(b"[" + b" " * 5_000_000 + b"]")
    assert service.post("/v1/predictions:batch", bomb, headers=headers).status == 413


def test_a_label_reaches_the_document_and_is_known_again(service: Service) -> None:
    service.predict(an_event("label_1"))
    label = {
        "type": "label",
        "transaction_id": "label_1",
        "label": "fraud",
        "label_time": "2026-11-24T10:00:00Z",
        "source": "analyst",
    }
    outcomes = [service.post("/v1/labels", label).fields["outcome"] for _ in range(2)]
    assert outcomes == ["applied", "repeated"]
    document = service.get("/v1/transactions/label_1").fields
    assert document["label"]["label"] == "fraud"
    label["transaction_id"] = "label_404"
    assert service.post("/v1/labels", label).fields["outcome"] == "unmatched"


def test_pages_of_a_search_are_everything_once(service: Service) -> None:
    parts = [an_event(f"page_{n}", card_id="page_card", amount=f"{n % 3}") for n in range(11)]
    service.post("/v1/predictions:batch", {"transactions": parts})
    for order in ("time", "amount", "fraud_score"):
        path = f"/v1/transactions?card=page_card&sort={order}&limit=4"
        seen: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            page = service.get(path + (f"&cursor={cursor}" if cursor else "")).fields
            seen += [each["transaction_id"] for each in page["transactions"]]
            cursor = page["next"]
        assert sorted(seen) == sorted(f"page_{n}" for n in range(11))


@pytest.mark.parametrize(
    "card", ["page_card*", "*", "a|b", "}", "page_card} | @card:{x", "$card", "\\", "-@x:{y}"]
)
def test_what_is_searched_for_means_itself(service: Service, card: str) -> None:
    from urllib.parse import quote  # noqa: PLC0415

    answer = service.get(f"/v1/transactions?card={quote(card, safe='')}")
    assert (answer.status, answer.fields["transactions"]) == (200, [])


def test_a_card_number_goes_nowhere(service: Service, client: redis.Redis) -> None:
    asked = [
        service.predict(an_event("pan_1", card_id=PAN)),
        service.get(f"/v1/transactions?card={PAN}"),
        service.get(f"/v1/transactions/{PAN}"),
        service.get(f"/v1/entities/card/{PAN}"),
    ]
    assert [answer.status for answer in asked] == [422] * 4
    assert not any(PAN.encode() in answer.body for answer in asked)
    assert PAN.encode() not in service.log.read_bytes()
    assert not any(PAN.encode() in key for key in command(client, "KEYS", "*"))


def test_what_decides_can_be_read(service: Service) -> None:
    rules, models = service.get("/v1/rules").fields, service.get("/v1/models").fields
    document = service.predict(an_event("catalogue_1")).fields
    stored = service.get(f"/v1/transactions/{document['transaction_id']}").fields
    assert rules["hash"].startswith(stored["rules"]["hash"])
    assert models["feature_hash"] == stored["feature_hash"]
    assert {each["score"]: each["breaker"] for each in models["models"]} == {
        "fraud": "closed",
        "anomaly": "closed",
    }


def test_probes_need_nobody_and_other_paths_do(service: Service) -> None:
    for path in ("/healthz", "/readyz", "/metrics", "/openapi.json"):
        assert service.get(path, signed=False).status == 200
    assert service.get("/v1/rules", signed=False).status == 401
    assert service.post("/v1/predictions", an_event("x"), key="FSREADER0001").status == 403
    metrics = service.get("/metrics", signed=False).body
    assert b'fraudstream_api_predictions_total{result="decided"}' in metrics
    assert b"once_1" not in metrics


def test_rows_reach_firehose_and_leave_the_outbox(
    folder: Path, server: RedisServer, aws: dict[str, str], client: redis.Redis
) -> None:
    with FirehoseServer() as firehose:
        variables = {"REDIS__URL": server.url, **aws, "AWS__ENDPOINT_URL": firehose.url}
        firehose.plan(*[fail(500, "ServiceUnavailableException")] * 3)
        with running_service(folder / "rows", variables) as service:
            for n in range(3):
                service.predict(an_event(f"row_{n}"))
            service.predict(an_event("row_0", amount="7"))
            eventually(lambda: b"".join(firehose.accepted).count(b"\n") >= 3)
            eventually(lambda: command(client, "XLEN", OUTBOX) == 0)
            assert service.stop() == 0
        rows = [orjson.loads(row) for row in b"".join(firehose.accepted).splitlines()]
    assert sorted(row["transaction_id"] for row in rows) == ["row_0", "row_1", "row_2"]


def test_what_a_killed_server_left_unsent_stays_in_the_outbox(
    folder: Path, server: RedisServer, aws: dict[str, str], client: redis.Redis
) -> None:
    with FirehoseServer() as firehose:
        variables = {"REDIS__URL": server.url, **aws, "AWS__ENDPOINT_URL": firehose.url}
        firehose.plan(*[fail(500, "ServiceUnavailableException")] * 50)
        with running_service(folder / "killed", variables) as service:
            service.predict(an_event("killed_1"))
            service.process.kill()
            service.process.wait()
        (entry,) = command(client, "XRANGE", OUTBOX, "-", "+")
        assert b"killed_1" in repr(entry).encode()
        assert firehose.accepted == []
    command(client, "DEL", OUTBOX)


def test_a_sick_endpoint_degrades_decisions_and_refuses_none(
    folder: Path, server: RedisServer, aws: dict[str, str]
) -> None:
    with SageMakerServer() as endpoints:
        endpoints.plan(*[status(500)] * 50)
        variables = {
            "REDIS__URL": server.url,
            **aws,
            "AWS__SAGEMAKER_RUNTIME_URL": endpoints.url,
        }
        with running_service(folder / "sick", variables) as service:
            answers = [service.predict(an_event(f"sick_{n}")) for n in range(8)]
            assert {answer.status for answer in answers} == {200}
            assert all("fraud:" in str(answer.fields["degraded"]) for answer in answers)
            breakers = {each["breaker"] for each in service.get("/v1/models").fields["models"]}
            assert "open" in breakers
            assert service.get("/readyz", signed=False).status == 200


def test_while_redis_is_down_the_answer_is_503_at_once_and_then_200_again(
    folder: Path, aws: dict[str, str]
) -> None:
    own = RedisServer(directory=folder / "down").start()
    url, port = own.url, int(own.url.rpartition(":")[2].partition("/")[0])
    variables = {"REDIS__URL": url, **aws, "API__REDIS_TIMEOUT_MS": "500"}
    with running_service(folder / "outage", variables) as service:
        assert service.predict(an_event("down_1")).status == 200
        own.stop()
        answers = [service.predict(an_event(f"down_{n}")) for n in range(20)]
        assert {answer.status for answer in answers} == {503}
        assert all(answer.headers["retry-after"] == "1" for answer in answers)
        assert service.get("/readyz", signed=False).status == 503
        assert service.get("/healthz", signed=False).status == 200
        assert service.get("/v1/transactions").status == 503
        with RedisServer(directory=folder / "up", port=port):
            eventually(lambda: service.predict(an_event("down_2")).status == 200)


def test_more_than_may_be_under_way_is_refused_and_the_rest_is_answered(
    folder: Path, server: RedisServer, aws: dict[str, str]
) -> None:
    with SageMakerServer() as endpoints:
        variables = {
            "REDIS__URL": server.url,
            **aws,
            "AWS__SAGEMAKER_RUNTIME_URL": endpoints.url,
            "API__IN_FLIGHT_LIMIT": "4",
            "SCORING__DEADLINE_MS": "3000",
            "SCORING__CONNECT_TIMEOUT_MS": "1000",
        }
        with running_service(folder / "busy", variables) as service:
            endpoints.plan(*[hang] * 2)
            events = [an_event(f"busy_{n}") for n in range(24)]
            with ThreadPoolExecutor(24) as pool:
                answers = list(pool.map(service.predict, events))
            found = sorted(answer.status for answer in answers)
            assert set(found) == {200, 429}
            shed = [answer for answer in answers if answer.status == 429]
            assert all(answer.headers["retry-after"] for answer in shed)
            again = [service.predict(event) for event in events]
            assert {answer.status for answer in again} == {200}


def test_on_sigterm_accepted_requests_are_answered_and_readyz_is_red(
    folder: Path, server: RedisServer, aws: dict[str, str]
) -> None:
    with SageMakerServer() as endpoints, ExitStack() as stack:
        variables = {
            "REDIS__URL": server.url,
            **aws,
            "AWS__SAGEMAKER_RUNTIME_URL": endpoints.url,
            "SCORING__DEADLINE_MS": "2000",
            "SCORING__CONNECT_TIMEOUT_MS": "1000",
            "API__DRAIN_DELAY_S": "1.0",
        }
        service = stack.enter_context(running_service(folder / "drain", variables))
        endpoints.plan(*[hang] * 2)
        pool = stack.enter_context(ThreadPoolExecutor(1))
        accepted = pool.submit(lambda: service.predict(an_event("drain_1")))
        eventually(lambda: len(endpoints.requests) > 2)
        service.process.send_signal(signal.SIGTERM)
        eventually(lambda: service.get("/readyz", signed=False).status == 503)
        assert accepted.result(WAIT_S).status == 200
        assert service.process.wait(WAIT_S) == 0
    assert b"Traceback" not in service.log.read_bytes()


def test_two_servers_and_a_worker_of_the_stream_decide_an_id_once_between_them(
    folder: Path, server: RedisServer, aws: dict[str, str], service: Service
) -> None:
    events = [an_event(f"two_{n}", card_id="two_card", amount=f"{n}.50") for n in range(60)]
    variables = {"REDIS__URL": server.url, **aws}
    with (
        running_service(folder / "second", variables) as second,
        a_worker(folder / "worker", variables) as worker,
    ):
        found: dict[str, list[Any]] = {}
        lock = threading.Lock()

        def ask(number: int) -> Answer:
            event = events[number % len(events)]
            answer = (service, second)[number // len(events)].predict(event)
            with lock:
                found.setdefault(str(event["transaction_id"]), []).append(answer.fields)
            return answer

        now_ms = time.time_ns() // 1_000_000
        records = [
            Delivered(orjson.dumps(event), Position(number), now_ms)
            for number, event in enumerate(events, 1)
        ]

        def stream() -> None:
            for start in range(0, len(records), 5):
                worker.deliver(records[start : start + 5])

        with ThreadPoolExecutor(17) as pool:
            streamed = pool.submit(stream)
            answers = list(pool.map(ask, range(2 * len(events))))
            streamed.result(WAIT_S)
    assert {answer.status for answer in answers} == {200}
    for both in found.values():
        # By the stream, where neither server was first.
        assert [each["repeated"] for each in both].count(False) == (both[0]["source"] == "rest")
        assert len({(each["decided_ms"], each["source"]) for each in both}) == 1
    entity = service.get("/v1/entities/card/two_card").fields
    assert entity["features"]["card_count_1h"] == len(events)


def test_malformed_requests_are_answered_as_the_page_says(service: Service) -> None:
    """After a change: python -m tests.malformed_answers."""
    assert shown_table() == render_table(service)


def test_an_answer_waits_for_replicas_and_survives_a_change_of_primary(
    folder: Path, aws: dict[str, str]
) -> None:
    with ExitStack() as stack:
        first = RedisServer(directory=folder / "primary").start()
        stack.callback(first.stop)
        port = first.url.rpartition(":")[2].partition("/")[0]
        options = ("--replicaof", "127.0.0.1", port)
        stack.enter_context(RedisServer(directory=folder / "replica", options=options))
        variables = {"REDIS__URL": first.url, **aws, "REDIS__WAIT_REPLICAS": "1"}
        service = stack.enter_context(running_service(folder / "copies", variables))
        event = an_event("copy_1")
        eventually(lambda: service.predict(event).status == 200)
        first.stop()
        assert service.predict(an_event("copy_2")).status == 503
        stack.enter_context(RedisServer(directory=folder / "successor", port=int(port)))
        later = an_event("copy_3")
        eventually(lambda: service.predict(later).status == 200)
