"""A worker process on an empty Redis: its rules wait for their features, in event time."""

import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from consumer.adapters.redis.connection import connect
from consumer.features.specification import load_plan
from consumer.local.resources import prepare, session
from consumer.local.stack import Stack
from tests.e2e.worker_process import RESOURCES, SETTINGS, Shard, write_models
from tests.rulebook import a_rule

HOUR_S, CELL_S = 3_600, 60
WARMING = ["busy@1"]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    plan = load_plan(SETTINGS.features.path, SETTINGS.events.base_currency)
    with Stack(folder) as stack:
        prepare(session(stack.aws_url), RESOURCES)
        stack.start_endpoints(write_models(folder, plan))
        yield stack


@pytest.fixture
def shard(stack: Stack, tmp_path: Path) -> Iterator[Shard]:
    """A shard whose Redis has never seen an event."""
    client = connect(stack.redis_url, connect_timeout_s=2, timeout_s=10)
    s3 = session(stack.aws_url).client("s3")
    with closing(client), closing(s3):
        client.flushall()
        yield Shard(stack, s3, client, tmp_path, f"t{uuid.uuid4().hex[:6]}")


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """Every card is declined that was used within the hour, this time included."""
    path = tmp_path / "rules.yaml"
    rule = a_rule("busy", "f.card_count_1h >= 1.0")
    rule["examples"] = {"hits": [{"f.card_count_1h": 1}], "misses": [{"f.card_count_1h": 0}]}
    path.write_text(yaml.safe_dump({"version": 1, "rules": [rule]}), "utf-8")
    return path


def test_a_rule_is_in_shadow_in_the_first_hour_of_event_time_and_live_after(
    shard: Shard, rules: Path
) -> None:
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=30)
    # One is late: by its own time it belongs to the hour in which little was known.
    seconds = [0, 1_800, HOUR_S + CELL_S - 1, HOUR_S + CELL_S, 900, HOUR_S + CELL_S + 1, 40_000]
    warming = [True, True, True, False, True, False, False]
    events = [
        shard.transaction(number, event_time=start + timedelta(seconds=second))
        for number, second in enumerate(seconds)
    ]
    records = shard.records(*events)
    variables = {"RULES__PATH": str(rules)}
    with shard.worker(**variables) as driver:
        driver.deliver(records[:2])
        driver.request_shutdown()
    # Another process goes on where the first one was, and is told the first records again.
    with shard.worker(**variables) as driver:
        driver.deliver(records)
        driver.request_shutdown()
    documents = [shard.documents()[shard.id(number)] for number in range(len(seconds))]
    for document, is_warming in zip(documents, warming, strict=True):
        found = document["rules"]
        assert found.get("warming", []) == found.get("shadow", []) == WARMING * is_warming
        assert found.get("hits", []) == WARMING * (not is_warming)
        assert ("busy_code" in document["decision"]["reasons"]) is not is_warming
    told = shard.logged("features warming")
    assert told[0]["until"]["card_count_1h"] == "unknown until the next event"
    until = (start + timedelta(seconds=HOUR_S + CELL_S)).isoformat().replace("+00:00", "Z")
    assert told[1]["until"]["card_count_1h"] == until
    full = [name for line in shard.logged("features full") for name in line["features"]]
    assert {"card_count_1h", "card_count_1m"} <= set(full)
    assert "card_count_30d" not in full


def test_whoever_knows_better_lets_rules_decide_from_the_first_event(
    shard: Shard, rules: Path
) -> None:
    with shard.worker(RULES__PATH=str(rules), RULES__WARMING="live") as driver:
        driver.deliver(shard.records(shard.transaction(1)))
        driver.request_shutdown()
    document = shard.documents()[shard.id(1)]
    assert document["rules"]["hits"] == WARMING
    assert "warming" not in document["rules"]
