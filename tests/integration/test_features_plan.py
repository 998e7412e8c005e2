"""``features plan`` as an operator uses it, and what it reckons against a real Redis."""

import platform
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import orjson
import pytest

from consumer.__main__ import main
from consumer.adapters.redis.connection import connect
from consumer.adapters.redis.features import RedisFeatureStore
from consumer.features.layout import Layout
from consumer.features.size import state_bytes
from consumer.features.specification import load_plan
from consumer.local.redis_server import RedisServer
from consumer.ports import Observe
from consumer.settings import SHIPPED
from tests.builders import a_transaction

pytestmark = pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"),
    reason="the embedded Redis exists for Linux x86-64 only",
)

HORIZON_S = 90_000
SHIPPED_LIST = SHIPPED / "features.yaml"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer(modules=False) as running:
        yield running


@pytest.fixture(autouse=True)
def place(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAUDSTREAM_REDIS__URL", server.url)


def a_list(folder: Path, old: str, new: str) -> Path:
    """The shipped list with *old* replaced."""
    text = SHIPPED_LIST.read_text()
    assert old in text
    path = folder / "new.yaml"
    path.write_text(text.replace(old, new))
    return path


@pytest.mark.parametrize("events", [10, 60, 1_000])
def test_the_bytes_of_a_state_are_those_of_redis_or_a_little_more(
    server: RedisServer, events: int
) -> None:
    plan = load_plan(SHIPPED_LIST, "EUR")
    random = Random(events)
    times = sorted(1_780_000_000 + random.randrange(30 * 86_400) for _ in range(events))
    with closing(connect(server.url, connect_timeout_s=5, timeout_s=5)) as client:
        client.flushall()
        with closing(RedisFeatureStore(client, plan, id_horizon_s=HORIZON_S)) as store:
            store.prepare()
            for number, time_s in enumerate(times):
                amount = random.randint(100, 90_000)
                transaction = a_transaction(
                    number,
                    card_id="card-1",
                    merchant_id=f"shop-{number}",
                    device_id=f"device-{number}",
                    terminal_id="terminal-1",
                    amount_minor=amount,
                    base_amount_minor=amount,
                    event_time=datetime.fromtimestamp(time_s, UTC),
                )
                store.observe([Observe(transaction, time_s)])
        for entity, key in (("card", "f:{card:card-1}"), ("terminal", "f:{terminal:terminal-1}")):
            (layout,) = (Layout.of(e, HORIZON_S) for e in plan.entities if e.name == entity)
            measured = client.memory_usage(key)
            assert measured is not None
            assert 0.75 < state_bytes(layout, events) / measured < 1.35, entity


def test_a_plan_tells_what_to_expect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    added = "  - {name: card_std_30d, entity: card, aggregation: std, windows: [30d]}\n"
    new = a_list(tmp_path, "  - {name: card_mean_30d", added + "  - {name: card_mean_30d")
    assert main(["features", "plan", str(new), "--against", str(SHIPPED_LIST)]) == 0
    told = capsys.readouterr().out
    assert "added      1  card_std_30d" in told
    assert "converted as states are met" in told
    assert "  30.5 d: card_std_30d" in told
    assert "Models to retrain and to deploy together with the list: fraudstream-fraud" in told


def test_rules_that_a_list_breaks_are_named_with_their_line(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    new = a_list(tmp_path, "{name: card_age_seconds,", "{name: age,")
    assert main(["features", "plan", str(new), "--json"]) == 1
    found = orjson.loads(capsysbinary.readouterr().out)
    assert (found["added"], found["removed"]) == (["age"], ["card_age_seconds"])
    assert any("f.card_age_seconds" in each for each in found["rules_broken"])
    assert found["warms_s"] == {}


def test_without_redis_the_rest_is_told_all_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FRAUDSTREAM_REDIS__URL", "redis://127.0.0.1:1/0")
    assert main(["features", "plan", str(SHIPPED_LIST)]) == 0
    told = capsys.readouterr().out
    assert "the same features" in told
    assert "Not known: the age of live state, which is taken to be full: redis" in told


def test_a_list_that_is_wrong_is_refused_by_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = tmp_path / "wrong.yaml"
    new.write_text("version: 1\nentities: {}\nfeatures: [{name: a, field: colour}]\n")
    assert main(["features", "plan", str(new)]) == 2
    assert "wrong.yaml" in capsys.readouterr().err
