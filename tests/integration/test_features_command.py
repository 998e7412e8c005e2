"""``features verify`` on documents that the real engine wrote for two shards at once."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest
import redis

from consumer.__main__ import main
from consumer.adapters.redis.cluster import Servers
from consumer.adapters.redis.connection import connect
from consumer.adapters.redis.documents import RedisDocuments
from consumer.adapters.redis.features import RedisFeatureStore
from consumer.adapters.redis.search import RedisSearch
from consumer.clock import SystemClock
from consumer.decided import Decided
from consumer.document import DocumentFormat
from consumer.engine import Dispatched, Engine, Incoming
from consumer.features.plan import Plan
from consumer.features.specification import parse_plan
from consumer.labels import Labels
from consumer.local.redis_server import RedisServer
from consumer.model import Kind, Origin, Position, Scores, ShardId, Transaction, TransactionId
from consumer.patience import Patience
from consumer.ports import Observe
from consumer.recomputation import Outcome
from consumer.verification import DocumentReader, Verification, Wanted, verify
from tests.builders import a_label, a_transaction
from tests.fakes.clock import FakeClock
from tests.redis_cluster import RedisCluster
from tests.rulebook import a_book

HORIZON_S, LIFETIME_S = 3_600, 172_800
FEATURES = """
version: 1
entities:
  card: {key: card_id}
  merchant: {key: merchant_id}
  terminal: {key: terminal_id}
  device: {key: device_id}
features:
  - {name: amount, field: amount}
  - {name: "card_count_{window}", entity: card, aggregation: count, windows: [1m, 1h, 30d]}
  - {name: "card_std_{window}", entity: card, aggregation: std, windows: [1h]}
  - {name: "card_min_{window}", entity: card, aggregation: min, windows: [1h]}
  - {name: "card_max_{window}", entity: card, aggregation: max, windows: [1h, 7d]}
  - {name: card_gap, entity: card, aggregation: time_since_last}
  - {name: card_age, entity: card, aggregation: first_seen}
  - {name: card_km, entity: card, aggregation: distance}
  - {name: card_km_h, entity: card, aggregation: speed}
  - {name: card_shops_1h, entity: card, aggregation: distinct(merchant_id), windows: [1h]}
  - {name: "shop_count_{window}", entity: merchant, aggregation: count, windows: [1h, 1d]}
  - {name: shop_mean_1h, entity: merchant, aggregation: mean, windows: [1h]}
  - {name: shop_cards_1h, entity: merchant, aggregation: distinct(card_id), windows: [1h]}
  - {name: frauds_1h, entity: terminal, aggregation: fraud_count, windows: [1h]}
  - {name: fraud_rate_1h, entity: terminal, aggregation: fraud_rate, windows: [1h], delay: 10m}
  - {name: device_age, entity: device, aggregation: first_seen}
  - {name: to_max, ratio: [amount, card_max_1h]}
"""


class NoScores:
    """Endpoints that answer nothing, at once."""

    def __init__(self, rows: int = 0) -> None:
        self._rows = rows

    def start(self, rows: Sequence[Sequence[float]], inference_id: str) -> "NoScores":
        return NoScores(len(rows))

    def result(self) -> list[Scores]:
        return [Scores(0.1, 0.2)] * self._rows

    def spent(self, stage: str, seconds: float) -> None: ...


class World:
    """Two shards, each with a worker of its own, and all of their traffic."""

    def __init__(self, client: redis.Redis, plan: Plan) -> None:
        self.random = Random(5)
        # Two hours of events that end four hours ago.
        self.start_ms = (SystemClock().now_ms() // 1000 - 6 * 3_600) * 1000
        self.clock = FakeClock(self.start_ms)
        self.features = RedisFeatureStore(client, plan, id_horizon_s=HORIZON_S)
        self.features.prepare()
        form = DocumentFormat(plan.names, plan.hash, "EUR")
        self.documents = RedisDocuments(client, form=form, ttl_s=LIFETIME_S, alerts_max_length=10)
        self.documents.prepare()
        patience = Patience(self.clock, self.clock.sleep, 1, lambda *_: None)
        self.labels = Labels(self.documents, self.features, patience, LIFETIME_S * 1000)
        self.engine = Engine(
            features=self.features,
            scoring=NoScores(),
            documents=self.documents,
            judge=a_book(),
            clock=self.clock,
            timing=NoScores(),
        )
        self.sent: list[Incoming] = []
        self.placed = [0, 0]

    def live(self, steps: int) -> None:
        for _ in range(steps):
            self.clock.sleep(self.random.randint(40, 200))
            chunks = [self.chunk(0), self.chunk(1)]
            manner = self.random.randrange(5)
            if manner == 0:
                for chunk in chunks:
                    self.settle(self.dispatch(chunk))
                    self.clock.sleep(0.5)
                continue
            if manner == 1:
                # Counted, and then the worker dies: all of it comes again.
                self.dispatch(chunks[0])
                self.clock.sleep(5)
                now_ms = self.clock.now_ms()
                origins = [replace(each.origin, received_ms=now_ms) for each in chunks[0]]
                chunks[0] = [
                    replace(each, origin=origin)
                    for each, origin in zip(chunks[0], origins, strict=True)
                ]
            under_way = [self.dispatch(chunk) for chunk in chunks]
            for dispatched in under_way:
                self.settle(dispatched)
            self.sent += [each for chunk in chunks for each in chunk]
            self.tell_labels()

    def chunk(self, shard: int) -> list[Incoming]:
        incoming = []
        for _ in range(self.random.randint(1, 5)):
            self.placed[shard] += 1
            again = self.random.random() < 0.05
            before = [each.transaction for each in self.sent if _shard(each.transaction) == shard]
            transaction = self.random.choice(before) if again and before else self.spend(shard)
            now_ms = self.clock.now_ms()
            position = Position(1_000 + self.placed[shard])
            name = ShardId(f"shardId-{shard:012}")
            origin = Origin("stream", now_ms - 70, now_ms, name, position)
            incoming.append(Incoming(transaction, origin))
        return incoming

    def spend(self, shard: int) -> Transaction:
        chance = self.random
        number = 10_000 * (shard + 1) + self.placed[shard]
        late_s = chance.choice([0] * 40 + [-100, 5, 900, 3_000, 5_000])
        time_s = self.clock.now_ms() / 1000 - 1 - late_s
        place = chance.choice([(None, None), (48.1, 11.5), (52.5, 13.4), (40.7, -74.0)])
        return a_transaction(
            number,
            event_time=datetime.fromtimestamp(time_s, UTC),
            card_id=f"card_{2 * chance.randrange(12) + shard}",
            merchant_id=f"shop_{chance.choice([0, 0, 0, 1, 2, 3])}",
            terminal_id=f"till_{chance.randrange(6)}",
            device_id=chance.choice([None, f"phone_{chance.randrange(40)}"]),
            base_amount_minor=chance.randrange(100, 90_000),
            kind=chance.choice([*[Kind.PURCHASE] * 19, Kind.REFUND]),
            latitude=place[0],
            longitude=place[1],
        )

    def dispatch(self, chunk: Sequence[Incoming]) -> Dispatched:
        self.clock.sleep(0.03)
        return self.engine.dispatch(chunk)

    def settle(self, dispatched: Dispatched) -> None:
        self.clock.sleep(0.04)
        settled = self.engine.store(self.engine.assess(dispatched))
        waited = [each.stored.effect for each in settled if each.stored.effect is not None]
        self.labels.note([], waited, self.clock.now_ms())

    def tell_labels(self) -> None:
        if self.random.random() < 0.4:
            transaction = self.random.choice(self.sent).transaction
            label_time = datetime.fromtimestamp(self.clock.now_ms() / 1000, UTC)
            label = a_label(
                len(self.sent), transaction_id=transaction.transaction_id, label_time=label_time
            )
            self.labels.note([label], [], self.clock.now_ms())

    def remember(self) -> None:
        """What was counted before there were documents: days ago, of half of the cards."""
        start_s = self.start_ms // 1000 - 3 * 86_400
        self.features.observe(
            [
                Observe(
                    replace(self.spend(n % 2), transaction_id=TransactionId(f"old_{n}")),
                    start_s + n,
                )
                for n in range(40)
            ]
        )


def _shard(transaction: Transaction) -> int:
    return int(transaction.card_id.removeprefix("card_")) % 2


@dataclass(frozen=True)
class Place:
    url: str
    client: redis.Redis
    plan: Plan

    def verified(self, number: int = 10_000, **limits: int) -> Verification:
        """What a sample of *number*, or every decision, shows."""
        now_ms = SystemClock().now_ms()
        with closing(RedisSearch(self.client, 4.0)) as search:
            found = verify(
                DocumentReader(search, self.plan, **limits),
                self.plan,
                Wanted(number, (now_ms - 8 * 3_600_000, now_ms), 1),
                horizon_s=HORIZON_S,
                lifetime_s=LIFETIME_S,
                now_ms=now_ms,
            )
        assert found is not None
        return found


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with RedisServer() as server:
        yield from a_place(server.url)


def a_place(url: str) -> Iterator[Place]:
    """Sixty rounds of chunks over two hours, behind a memory that has no documents."""
    plan = parse_plan(FEATURES, source="verify")
    with connect(url, connect_timeout_s=2, timeout_s=10) as client:
        world = World(client, plan)
        world.remember()
        world.live(60)
        yield Place(url, client, plan)


@pytest.fixture(autouse=True)
def _settings(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "features.yaml").write_text(FEATURES)
    monkeypatch.setenv("FRAUDSTREAM_REDIS__URL", place.url)
    monkeypatch.setenv("FRAUDSTREAM_FEATURES__PATH", str(tmp_path / "features.yaml"))
    monkeypatch.setenv("FRAUDSTREAM_FEATURES__ID_HORIZON_S", str(HORIZON_S))


def test_everything_that_documents_cover_is_equal(place: Place) -> None:
    """Also what came late, twice, again after a crash, was refunded or labelled."""
    found = place.verified()
    assert [each for tally in found.tallies.values() for each in tally.examples] == []
    assert found.holds(0.0)
    # Every feature but one of a day, as documents tell of two hours.
    assert [name for name, tally in found.tallies.items() if not tally.compared] == [
        "shop_count_1d"
    ]
    assert found.total(Outcome.EQUAL) > 2_000
    assert 0 < found.total(Outcome.REORDERED) < 200
    assert found.derived == ["amount", "to_max"]
    by_entity = place.verified(40, most_whole=0)
    assert by_entity.holds(0.0)
    reason = "terminal_id is not in the index, and documents are too many"
    assert set(by_entity.tallies["frauds_1h"].uncovered) == {reason}
    assert by_entity.tallies["shop_count_1h"].compared


def test_documents_on_three_primaries_are_all_found(place: Place) -> None:
    with RedisCluster() as cluster:
        for spread in a_place(cluster.url):
            for found in (spread.verified(), spread.verified(40, most_whole=0)):
                assert found.holds(0.0)
            assert spread.verified().compared > 0.9 * place.verified().compared > 1_000


def test_a_wrong_value_and_a_missing_event_are_found(
    place: Place, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    transaction_id = one_with_a_follower(place)
    with closing(Servers(place.client)) as servers:
        key = f"tx:{transaction_id}"
        kept = servers.command(key, "JSON.GET", key)
        servers.command(key, "JSON.SET", key, "$.features.card_max_1h", "9876.5")
        found = reported(capsysbinary, 1)
        assert found["different"] == found["different_within_a_shard"] == 1
        (example,) = found["features"]["card_max_1h"]["examples"]
        assert (example["transaction_id"], example["online"]) == (transaction_id, 9876.5)
        servers.command(key, "JSON.DEL", key)
        found = reported(capsysbinary, 1)
        assert found["different_within_a_shard"] > 0
        assert found["features"]["card_count_1h"]["different"] > 0
        servers.command(key, "JSON.SET", key, "$", kept)
    assert reported(capsysbinary, 0)["different"] == 0


def one_with_a_follower(place: Place) -> str:
    """A purchase within covered time, and another one of its card within the hour."""
    with closing(RedisSearch(place.client, 4.0)) as search:
        store = DocumentReader(search, place.plan)
        covered_s = store.first_s(0, 0) + 3_700
        every = [
            each
            for each in store.sample(Wanted(10_000, (0, SystemClock().now_ms()), 1))
            if each.event.purchase
        ]
    for each in every:
        for later in every:
            gap_s = later.event.time_s - each.event.time_s
            follows = later.order > each.order and 0 < gap_s < 3_000
            follows = follows and each.event.purchase and later.event.purchase
            if each.event.time_s > covered_s and follows and _card(each) == _card(later):
                return each.event.transaction_id
    raise AssertionError


def _card(decided: Decided) -> str:
    return decided.event.keys["card_id"]


def reported(capsysbinary: pytest.CaptureFixture[bytes], code: int) -> dict[str, Any]:
    assert main(["features", "verify", "--json", "--sample", "10000"]) == code
    report: dict[str, Any] = orjson.loads(capsysbinary.readouterr().out)
    assert report["ok"] == (code == 0)
    return report


def test_the_report_can_be_read_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["features", "verify", "--sample", "40", "--seed", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Online equals offline")
    assert lines[2] == "decisions sampled  40"
    assert "  shop_count_1d   40  its window begins before the documents" in lines
    assert lines[-1].endswith("amount, to_max")


def test_what_was_decided_on_another_list_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = FEATURES.replace("windows: [1h, 1d]", "windows: [1h, 2d]")
    (tmp_path / "features.yaml").write_text(text)
    assert main(["features", "verify", "--sample", "30"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("NOTHING COULD BE COMPARED")
    assert "30 made with another feature list" in out


def test_without_documents_it_says_where_to_look(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["features", "verify", "--since", "1m"]) == 1
    assert "--since looks further back, documents live 48 h" in capsys.readouterr().err


def test_a_missing_index_and_a_missing_server_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with RedisServer() as empty:
        monkeypatch.setenv("FRAUDSTREAM_REDIS__URL", empty.url)
        assert main(["features", "verify"]) == 69
        assert "the daemon makes it when it first starts" in capsys.readouterr().err
    assert main(["features", "verify"]) == 69
    assert "onnection refused" in capsys.readouterr().err
