"""What the real worker process leaves of card numbers, refunds, foreign money and labels."""

import gzip
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from consumer.adapters.redis.connection import command, connect
from consumer.features.specification import load_plan
from consumer.local.resources import prepare, session
from consumer.local.stack import Stack
from consumer.pan import PanGuard
from consumer.settings import Events
from tests.e2e.worker_process import RESOURCES, SETTINGS, Shard, write_models

CARDS = ("4111111111111111", "5555555555554444", "378282246310005")
KEYS = "k2:" + "ab" * 32 + ",k1:" + "cd" * 32
IDENTIFIERS = (
    "transaction_id",
    "card_id",
    "merchant_id",
    "customer_id",
    "terminal_id",
    "device_id",
)
OTHERS = (
    *("type", "event_time", "amount", "base_amount", "currency", "kind", "country"),
    *("merchant_category", "channel", "entry_mode", "ip_address", "latitude", "nonsense"),
)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    plan = load_plan(SETTINGS.features.path, SETTINGS.events.base_currency)
    with Stack(folder) as stack:
        prepare(session(stack.aws_url), RESOURCES)
        stack.start_endpoints(write_models(folder, plan))
        yield stack


@pytest.fixture
def shard(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shard]:
    metrics = tmp_path / "metrics"
    metrics.mkdir()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(metrics))
    client = connect(stack.redis_url, connect_timeout_s=2, timeout_s=10)
    s3 = session(stack.aws_url).client("s3")
    with closing(client), closing(s3):
        shard = Shard(stack, s3, client, tmp_path, f"e{uuid.uuid4().hex[:6]}")
        yield shard
        forget(shard)


def forget(shard: Shard) -> None:
    """Empty Redis and S3, so that the next search looks at what its own test left."""
    if keys := list(shard.redis.scan_iter(count=1_000)):
        shard.redis.delete(*keys)
    for bucket in shard.s3.list_buckets()["Buckets"]:
        pages = shard.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket["Name"])
        for page in (page for page in pages if page.get("Contents")):
            shard.s3.delete_objects(
                Bucket=bucket["Name"],
                Delete={"Objects": [{"Key": entry["Key"]} for entry in page["Contents"]]},
            )


def work(shard: Shard, *events: bytes, **variables: str) -> None:
    """Deliver *events* to a worker and let it end its shard."""
    with shard.worker(**variables) as driver:
        records = shard.records(*events)
        for record in records:
            record.partition_key = CARDS[0]
        driver.deliver(records)
        driver.request_shutdown()
        assert driver.checkpoints[-1] == records[-1].position
        assert driver.stop() == 0


def planted(shard: Shard) -> list[bytes]:
    """Card numbers in every field of both events, however written, and in what is no event."""
    events: list[bytes] = []

    def plant(**fields: object) -> None:
        events.append(shard.transaction(len(events), **fields))

    for card in CARDS:
        hyphened = "-".join((card[:4], card[4:8], card[8:12], card[12:]))
        spaced = hyphened.replace("-", " ")
        for name in IDENTIFIERS:
            plant(**{name: card})
            plant(**{name: hyphened})
        for text in (card, hyphened, spaced, f"PAN{card}EXP1225", f"{spaced} 12 25"):
            plant(note=text)
        for name in (*OTHERS, card):
            plant(**{name: card})
        plant(channel=f"pos{card}")
        plant(reference=int(card))
        plant(latitude=int(card))
        label = orjson.loads(shard.label(1, label="fraud", hours_ago=1))
        events += [orjson.dumps(label | {"keys": {name: card}}) for name in IDENTIFIERS[1:]]
        events += [
            orjson.dumps(label | {name: card})
            for name in ("transaction_id", "label", "label_time", "source", "event_time", "type")
        ]
        whole = shard.transaction(len(events), note=card)
        escaped = "".join(f"\\u{ord(sign):04x}" for sign in card).encode()
        events += [
            whole[:-1],
            gzip.compress(whole),
            gzip.compress(whole)[:-5],
            whole.decode().encode("utf-16"),
            whole.replace(card.encode(), escaped),
            card.encode(),
            b"[" * 20 + card.encode(),
            b'{"type":"transaction","type":"' + card.encode() + b'"}',
        ]
    return events


def everything(shard: Shard) -> Iterator[tuple[str, bytes]]:
    """All that is in Redis and S3, all logs and all metrics, by where it stands."""
    command(shard.redis, "CONFIG", "SET", "rdbcompression", "no")
    for key in shard.redis.scan_iter(count=1_000):
        yield f"redis {key!r}", key + (shard.redis.dump(key) or b"")
        if shard.redis.type(key) == b"ReJSON-RL":
            yield f"json {key!r}", command(shard.redis, "JSON.GET", key)
    for bucket in shard.s3.list_buckets()["Buckets"]:
        pages = shard.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket["Name"])
        for entry in (entry for page in pages for entry in page.get("Contents", ())):
            body = shard.s3.get_object(Bucket=bucket["Name"], Key=entry["Key"])["Body"].read()
            body = gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
            yield f"s3 {entry['Key']}", entry["Key"].encode() + body
    for folder in (shard.folder, shard.stack.directory):
        for path in folder.rglob("*"):
            if path.is_file() and not path.name.endswith(".tar.gz"):
                yield f"file {path}", path.read_bytes()


def leaks(shard: Shard) -> list[str]:
    forms: list[bytes] = []
    for card in CARDS:
        groups = (card[:4], card[4:8], card[8:12], card[12:])
        forms += (sign.join(groups).encode() for sign in ("", "-", " "))
        forms.append(card.encode("utf-16-le"))
    return [place for place, body in everything(shard) if any(form in body for form in forms)]


EXTRA = '["note","reference"]'


@pytest.mark.parametrize(
    "variables", [{}, {"EVENTS__PAN": "hash", "EVENTS__PAN_KEYS": KEYS}], ids=["reject", "hash"]
)
def test_no_planted_card_number_is_found_anywhere(shard: Shard, variables: dict[str, str]) -> None:
    # Which identifiers are searched is left to the defaults: they have to be enough.
    events = [shard.transaction(1_000), *planted(shard)]
    work(
        shard,
        *events,
        EVENTS__EXTRA_FIELDS=EXTRA,
        DEAD_LETTERS__LIMIT_SHARE="1",
        **variables,
    )

    assert leaks(shard) == []
    errors = [str(letter["error"]) for letter in shard.letters()]
    assert "conflict" not in errors
    payloads = [str(letter["payload"]) for letter in shard.letters()]
    assert sum("[pan]" in payload for payload in payloads) > len(payloads) * 0.9
    documents = shard.documents()
    if variables:
        # What cannot be a hash: the id of a transaction, twice and in a label, and a word.
        assert errors.count("card_number") == len(CARDS) * (2 + 1 + 1)
        token = PanGuard.of(Events(pan="hash", pan_keys=SecretStr(KEYS))).token
        cards = {document["transaction"]["card_id"] for document in documents.values()}
        assert {token(card) for card in CARDS} <= cards
        notes = {document["transaction"].get("note") for document in documents.values()}
        assert {f"PAN{token(card)}EXP1225" for card in CARDS} <= notes
    else:
        assert errors.count("card_number") > len(CARDS) * 20
        notes = {document["transaction"].get("note") for document in documents.values()}
        assert notes == {None, "PAN[pan]EXP1225"}


def test_the_search_for_leaks_finds_what_is_there(shard: Shard) -> None:
    # A merchant's number is not looked at where the settings leave it out.
    work(shard, shard.transaction(1, merchant_id=CARDS[0]), EVENTS__PAN_FIELDS='["card_id"]')
    found = leaks(shard)
    for place in ("redis b'tx:", "json b'tx:", "redis b'f:{", "s3 "):
        assert any(leak.startswith(place) for leak in found), place


def test_refunds_and_reversals_are_decided_and_change_no_state(shard: Shard) -> None:
    work(shard, *(shard.transaction(number) for number in range(7)))
    before = shard.snapshot().states
    assert len(before) > 7
    others: Sequence[bytes] = [
        shard.transaction(number, kind="refund" if number % 2 else "reversal")
        for number in range(7, 21)
    ]
    work(shard, *others)

    documents = shard.documents()
    kinds = [documents[shard.id(number)]["transaction"]["kind"] for number in range(21)]
    assert kinds == ["purchase"] * 7 + ["refund", "reversal"] * 7
    assert all(document["scores"].keys() == {"fraud", "anomaly"} for document in documents.values())
    assert all(document["decision"]["outcome"] for document in documents.values())
    assert shard.snapshot().states == before


def test_foreign_money_is_converted_by_the_table_of_the_settings(shard: Shard) -> None:
    rates = shard.folder / "rates.csv"
    day = orjson.loads(shard.transaction(0))["event_time"][:10]
    rates.write_text(f"date,currency,rate\n{day},USD,0.5\n", "utf-8")
    money: dict[str, Any] = {"amount": "10.00", "currency": "USD"}
    work(
        shard,
        shard.transaction(1, **money),
        shard.transaction(2, **money, base_amount="9.00"),
        shard.transaction(3, **money | {"currency": "GBP"}),
        EVENTS__RATES=str(rates),
    )

    documents = shard.documents()
    base = {name: document["transaction"]["base_amount"] for name, document in documents.items()}
    assert base == {shard.id(1): 5.0, shard.id(2): 9.0}
    assert [letter["error"] for letter in shard.letters()] == ["no_conversion"]


def test_labels_reach_documents_whenever_they_come(shard: Shard) -> None:
    early = shard.label(1, label="legitimate", hours_ago=3)
    late = shard.label(2, label="fraud", hours_ago=2)
    corrected = shard.label(2, label="legitimate", hours_ago=1)
    work(
        shard,
        *(early, shard.transaction(1), shard.transaction(2), late, late, corrected, late),
        shard.label(3, label="fraud", hours_ago=1),
        WORKER__CHUNK_SIZE="1",
    )

    documents = shard.documents()
    labels = {name: document["label"]["label"] for name, document in documents.items()}
    assert labels == {shard.id(1): "legitimate", shard.id(2): "legitimate"}
    assert shard.redis.exists(f"unmatched:{{tx:{shard.id(3)}}}")
    assert not shard.redis.exists(f"unmatched:{{tx:{shard.id(1)}}}")
    assert shard.letters() == []
