"""
``fraudstream process`` as the KCL runs it: a real process, spoken to over its pipes.

Redis, AWS and the model endpoints are real servers; the driver plays Java. What
a worker left is read from Redis and S3, never from the worker.
"""

import gzip
import os
import signal
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from consumer.adapters.kinesis import EXIT_FAILED, EXIT_UNAVAILABLE
from consumer.adapters.redis.connection import connect
from consumer.features.plan import Plan
from consumer.features.specification import load_plan
from consumer.local.redis_server import RedisServer
from consumer.local.resources import prepare, session
from consumer.local.stack import Stack
from consumer.model import Position
from consumer.suspicion import Death, accuse, case_path
from tests.builders import SHARD
from tests.e2e.kcl_daemon import eventually
from tests.e2e.worker_process import (
    NEVER_S,
    RESOURCES,
    SETTINGS,
    Shard,
    assert_each_decided_and_counted_once,
    assert_every_row_agrees,
    await_checkpoint,
    await_idle,
    delivering,
    kill,
    write_models,
)
from tests.sagemaker_server import Handler, Request, SageMakerServer, hang, predictions, status

CHUNK_SIZE = 25
IMPATIENT = {"REDIS__OUTAGE_LIMIT_S": "0.5", "REDIS__TIMEOUT_S": "0.2"}


@pytest.fixture(scope="module")
def plan() -> Plan:
    return load_plan(SETTINGS.features.path, SETTINGS.events.base_currency)


@pytest.fixture(scope="module")
def stack(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    with Stack(folder) as stack:
        prepare(session(stack.aws_url), RESOURCES)
        stack.start_endpoints(write_models(folder, plan))
        yield stack


@pytest.fixture
def shard(stack: Stack, tmp_path: Path) -> Iterator[Shard]:
    client = connect(stack.redis_url, connect_timeout_s=2, timeout_s=10)
    s3 = session(stack.aws_url).client("s3")
    with closing(client), closing(s3):
        yield Shard(stack, s3, client, tmp_path, f"t{uuid.uuid4().hex[:6]}")


def test_a_delivery_is_decided_published_and_checkpointed(shard: Shard) -> None:
    repeated = shard.transaction(4)
    records = shard.records(
        *(shard.transaction(number) for number in range(1, 4)),
        gzip.compress(repeated),
        repeated,
        shard.transaction(1, amount="999.00"),
        b'{"type": "transaction", "amount": ',
        shard.transaction(5),
    )
    with shard.worker(WORKER__CHECKPOINT_INTERVAL_S="0.01") as driver:
        driver.deliver(records)
        await_checkpoint(driver, Position(8))
        assert driver.stop() == 0

    documents = shard.documents()
    assert documents.keys() == {shard.id(number) for number in range(1, 6)}
    assert all(document["scores"].keys() == {"fraud", "anomaly"} for document in documents.values())
    assert not any(document["degraded"] for document in documents.values())
    assert [letter["error"] for letter in shard.letters()] == ["conflict", "not_json"]
    assert {row["transaction_id"]: row["prediction_id"] for row in shard.rows()} == {
        name: document["prediction_id"] for name, document in documents.items()
    }
    assert len(shard.rows()) == len(documents)
    assert shard.heartbeats() == [], "a worker that left in good order is nobody's concern"


def test_a_redelivery_after_a_kill_changes_nothing(shard: Shard) -> None:
    records = shard.records(
        *(shard.transaction(number) for number in range(60)),
        b"no event",
        shard.transaction(3, amount="999.00"),
        shard.label(5, label="fraud", hours_ago=1),
    )
    with shard.worker(WORKER__CHECKPOINT_INTERVAL_S=NEVER_S) as driver:
        driver.deliver(records)
        kill(driver)
        assert driver.checkpoints == []
    before = shard.snapshot()
    assert (len(before.documents), len(before.letters)) == (60, 2)

    with shard.worker(WORKER__CHECKPOINT_INTERVAL_S=NEVER_S) as driver:
        driver.deliver(records)
        driver.request_shutdown()
        assert driver.checkpoints == [records[-1].position]

    assert shard.snapshot() == before
    assert_every_row_agrees(shard)


def test_kills_in_the_middle_lose_nothing_and_count_nothing_twice(shard: Shard, plan: Plan) -> None:
    events = [shard.transaction(number) for number in range(600)]
    records = shard.records(*events)
    for chunk in (0, 6, 16):
        decided = chunk * CHUNK_SIZE
        with stalling_at(shard.amount(decided)) as (url, reached):
            variables = {"AWS__SAGEMAKER_RUNTIME_URL": url, "WORKER__CHUNK_SIZE": str(CHUNK_SIZE)}
            with shard.worker(**variables) as driver, delivering(driver, records):
                # Its features are applied, and nothing is decided on them.
                assert reached.wait(60), "the chunk is scored"
                await_documents(shard, decided)
                kill(driver)
                assert driver.checkpoints == []
    with shard.worker() as driver:
        driver.deliver(records)
        driver.request_shutdown()
        assert driver.checkpoints[-1] == records[-1].position

    assert_each_decided_and_counted_once(shard, plan, events)


def test_two_owners_of_a_shard_decide_and_count_each_transaction_once(
    shard: Shard, plan: Plan
) -> None:
    events = [shard.transaction(number) for number in range(600)]
    records = shard.records(*events)
    variables = {"WORKER__CHUNK_SIZE": str(CHUNK_SIZE)}
    with shard.worker(**variables) as former, shard.worker(**variables) as owner:
        with delivering(former, records):
            owner.deliver(records)
        owner.request_shutdown()
        former.lose_lease()
        assert owner.checkpoints[-1] == records[-1].position
    assert_each_decided_and_counted_once(shard, plan, events)


@contextmanager
def stalling_at(amount: float) -> Iterator[tuple[str, threading.Event]]:
    """Endpoints that never answer on the chunk that begins with *amount*, and say when asked."""
    reached = threading.Event()

    def answer(handler: Handler, request: Request) -> None:
        if request.first_values[0] == amount:
            reached.set()
            hang(handler, request)
        else:
            handler.reply(predictions([0.5] * len(request.lines)))

    with SageMakerServer() as server:
        server.always(answer)
        yield server.url, reached


def test_the_end_of_a_shard_is_checkpointed_bare_once_all_is_drained(shard: Shard) -> None:
    records = shard.records(*(shard.transaction(number) for number in range(300)))
    with shard.worker(WORKER__CHECKPOINT_INTERVAL_S=NEVER_S) as driver:
        driver.deliver(records)
        driver.end_shard()
        assert driver.checkpoints == [records[-1].position, None]
        assert len({row["transaction_id"] for row in shard.rows()}) == 300
        assert driver.stop() == 0


def test_a_lost_lease_is_not_checkpointed(shard: Shard) -> None:
    with shard.worker(WORKER__CHECKPOINT_INTERVAL_S=NEVER_S) as driver:
        driver.deliver(shard.records(shard.transaction(1)))
        driver.lose_lease()
        assert driver.checkpoints == []
        assert driver.stop() == 0
    assert shard.is_decided(1)


def test_a_refused_checkpoint_ends_the_work_until_the_lease_is_said_to_be_lost(
    shard: Shard,
) -> None:
    with shard.worker(WORKER__CHECKPOINT_INTERVAL_S="0.01") as driver:
        driver.checkpoint_errors = ["ShutdownException"]
        driver.deliver(shard.records(shard.transaction(1)))
        await_idle(driver, lambda: not driver.checkpoint_errors)
        driver.deliver(shard.records(shard.transaction(2)))
        driver.lose_lease()
        assert driver.checkpoints == []
        assert driver.stop() == 0
    assert not shard.is_decided(2), "its place in the stream was another's by then"


def test_without_redis_at_the_start_it_leaves_and_says_so(shard: Shard) -> None:
    address = f"redis://:secret@127.0.0.1:{closed_port()}/0"
    with shard.uninitialized_worker(REDIS__URL=address, **IMPATIENT) as driver:
        with pytest.raises(EOFError):
            driver.initialize(SHARD)
        assert driver.stop() == EXIT_UNAVAILABLE
        assert driver.checkpoints == []
    (line,) = shard.logged("leaving without a checkpoint")
    assert line["level"] == "error"
    assert "redis" in line["error"]
    assert shard.logged("waiting")
    assert b"secret" not in shard.log_path.read_bytes()
    (state,) = shard.heartbeats()
    assert not state.alive
    assert state.cause.startswith("redis: ")


def test_redis_gone_for_a_moment_is_waited_out(shard: Shard) -> None:
    with (
        RedisServer(directory=shard.folder) as server,
        shard.worker(REDIS__URL=server.url, REDIS__TIMEOUT_S="0.2") as driver,
    ):
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)
        try:
            with delivering(driver, shard.records(shard.transaction(1))) as done:
                eventually(lambda: stage(shard) == "waiting:redis", "it waits")
                os.kill(server.pid, signal.SIGCONT)
                assert done.wait(60), "it goes on"
        finally:
            os.kill(server.pid, signal.SIGCONT)
        driver.request_shutdown()
        assert driver.checkpoints == [Position(1)]


def test_redis_gone_for_too_long_ends_the_worker_at_its_last_checkpoint(shard: Shard) -> None:
    with (
        RedisServer(directory=shard.folder) as server,
        shard.worker(
            REDIS__URL=server.url, WORKER__CHECKPOINT_INTERVAL_S="0.01", **IMPATIENT
        ) as driver,
    ):
        records = shard.records(shard.transaction(1), shard.transaction(2))
        driver.deliver(records[:1])
        await_checkpoint(driver, Position(1))
        server.stop()
        with pytest.raises(EOFError):
            driver.deliver(records[1:])
        assert driver.stop() == EXIT_UNAVAILABLE
        assert driver.checkpoints == [Position(1)]
    (state,) = shard.heartbeats()
    assert state.cause.startswith("redis: ")


@contextmanager
def nobody_listening() -> Iterator[str]:
    yield f"http://127.0.0.1:{closed_port()}"


@contextmanager
def hanging() -> Iterator[str]:
    with SageMakerServer() as server:
        server.always(hang)
        yield server.url


@contextmanager
def failing() -> Iterator[str]:
    with SageMakerServer() as server:
        server.always(status(500))
        yield server.url


@pytest.mark.parametrize(
    ("endpoints", "cause"),
    [(nobody_listening, "connection"), (hanging, "timeout"), (failing, "status_500")],
)
def test_without_endpoints_the_policy_decides_and_the_cause_is_noted(
    shard: Shard, endpoints: Callable[[], AbstractContextManager[str]], cause: str
) -> None:
    records = shard.records(*(shard.transaction(number) for number in range(20)))
    with (
        endpoints() as url,
        shard.worker(
            AWS__SAGEMAKER_RUNTIME_URL=url,
            SCORING__DEADLINE_MS="300",
            SCORING__CONNECT_TIMEOUT_MS="100",
            DECISION__DEGRADED="review",
        ) as driver,
    ):
        driver.deliver(records)
        driver.request_shutdown()
        assert driver.checkpoints[-1] == records[-1].position
    documents = shard.documents()
    assert len(documents) == 20
    for document in documents.values():
        assert document["degraded"] == [f"fraud:{cause}", f"anomaly:{cause}"]
        assert document["scores"] == {}
        assert document["decision"]["outcome"] == "review"
        assert document["decision"]["reasons"] == ["score_missing"]
    assert {tuple(row["degraded"]) for row in shard.rows()} == {
        (f"fraud:{cause}", f"anomaly:{cause}")
    }


def test_a_flood_of_bad_records_is_held_before_a_checkpoint(shard: Shard) -> None:
    good = shard.records(*(shard.transaction(number) for number in range(10)))
    bad = [
        replace(record, position=Position(100 + number))
        for number, record in enumerate(shard.records(*[b"rubbish"] * 200))
    ]
    with shard.worker(
        DEAD_LETTERS__LIMIT_WINDOW="100",
        DEAD_LETTERS__LIMIT_SHARE="0.5",
        WORKER__CHECKPOINT_INTERVAL_S="0.01",
    ) as driver:
        driver.deliver(good)
        await_checkpoint(driver, good[-1].position)
        with pytest.raises(EOFError):
            driver.deliver(bad)
        assert driver.stop() == EXIT_FAILED
        assert driver.checkpoints == [good[-1].position]
    assert len(shard.letters()) == 200, "they are there to be looked at"
    (state,) = shard.heartbeats()
    assert state.cause.startswith("held: ")
    (line,) = shard.logged("held")
    assert "dead_letters.limit_share" in line["reason"]


def test_the_newest_label_stands_on_its_document(shard: Shard) -> None:
    with shard.worker() as driver:
        driver.deliver(
            shard.records(
                shard.transaction(1),
                shard.transaction(2),
                shard.label(1, label="fraud", hours_ago=2),
                shard.label(1, label="legitimate", hours_ago=9),
                shard.label(77, label="fraud", hours_ago=2),
            )
        )
        driver.request_shutdown()
        assert driver.checkpoints[-1] == Position(5)
    first, second = (shard.documents()[shard.id(number)] for number in (1, 2))
    assert (first["label"]["label"], first["label"]["source"]) == ("fraud", "chargeback")
    assert "label" not in second
    assert shard.letters() == [], "a label without a document is no bad record"


def test_a_record_that_ended_three_workers_is_a_letter_and_the_rest_is_decided(
    shard: Shard, plan: Plan
) -> None:
    application = f"app-{shard.name}"
    death = Death("SIGSEGV", "score", 0.1, 0, (str(Position(5)), str(Position(5))))
    for _ in range(3):
        accuse(shard.run_dir, application, SHARD, death)
    events = [shard.transaction(number) for number in range(12)]
    records = shard.records(*events)
    with shard.worker(KCL__APPLICATION_NAME=application) as driver:
        driver.deliver(records)
        driver.request_shutdown()
        assert driver.checkpoints[-1] == records[-1].position
    (letter,) = shard.letters()
    assert letter["error"] == "crashed"
    assert letter["message"].count("SIGSEGV in stage score") == 3
    assert shard.id(4) in letter["payload"]
    assert_each_decided_and_counted_once(shard, plan, events[:4] + events[5:])
    assert len(shard.logged("a record is dead-lettered as crashed")) == 1
    assert not case_path(shard.run_dir, application, SHARD).exists()


def await_documents(shard: Shard, number: int) -> None:
    eventually(lambda: len(shard.documents()) == number, f"{number} documents")


def stage(shard: Shard) -> str:
    """What the shard's one living worker does."""
    (state,) = shard.heartbeats()
    return state.stage


def closed_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
