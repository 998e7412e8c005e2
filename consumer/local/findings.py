"""Reads what a run left behind, and checks it against the oracle."""

import gzip
import json
import random
import urllib.request
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import orjson
import redis

from consumer.adapters.redis.cluster import Servers
from consumer.adapters.redis.connection import command
from consumer.adapters.redis.documents import PREFIX
from consumer.adapters.redis.features import RedisFeatureStore
from consumer.adapters.redis.search import count_decisions
from consumer.features.plan import Plan, Windowed
from consumer.local.oracle import Event, Oracle, Verdict
from consumer.local.proof import FeatureCheck, Found, Sent
from consumer.local.simulator.events import RecordKind
from consumer.local.simulator.ledger import Entry, Ledger
from consumer.model import Kind
from consumer.recomputation import questions_of
from consumer.verification import Verification

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_PAGE = 1_000
_EXAMPLES = 3
_DAY_S = 86_400


def read_sent(ledger: Ledger) -> Sent:
    """What the producer's ledger says in short."""
    return Sent(
        sent=ledger.sent - ledger.labels,
        duplicates=ledger.duplicates,
        malformed=ledger.malformed,
        frauds={name: entry.fraud for name, entry in ledger.transactions.items()},
        labels_sent=ledger.labels,
        labels=_newest_labels(ledger),
        corrected=_corrected(ledger),
    )


def _newest_labels(ledger: Ledger) -> dict[str, str]:
    """The newest label of each transaction that was sent, not those of history."""
    newest: dict[str, Entry] = {}
    for entry in ledger.entries:
        if entry.record is RecordKind.LABEL and entry.transaction_id in ledger.transactions:
            known = newest.get(entry.transaction_id)
            if known is None or (known.label_time_ms or 0) < (entry.label_time_ms or 0):
                newest[entry.transaction_id] = entry
    return {name: "fraud" if entry.fraud else "legitimate" for name, entry in newest.items()}


def _corrected(ledger: Ledger) -> frozenset[str]:
    """The transactions of the ledger that were labelled one way and then the other."""
    given = {
        (entry.transaction_id, entry.fraud)
        for entry in ledger.entries
        if entry.record is RecordKind.LABEL and entry.transaction_id in ledger.transactions
    }
    return frozenset(name for name, fraud in given if (name, not fraud) in given)


def read_found(
    client: redis.Redis,
    s3: "S3Client",
    places: Mapping[str, tuple[str, str]],
    endpoints_url: str,
    verification: Verification | None,
) -> Found:
    """
    Everything a run left: *places* names bucket and prefix of ``rows`` and ``letters``.

    The endpoint server's requests are its own count, at ``/stats``.
    """
    with urllib.request.urlopen(f"{endpoints_url}/stats", timeout=10) as answer:  # noqa: S310 - our own server
        stats = json.load(answer)
    return Found(
        documents=read_documents(client),
        decisions=count_decisions(client),
        rows=list(read_lines(s3, *places["rows"])),
        letters=[str(letter["id"]) for letter in read_lines(s3, *places["letters"])],
        endpoint_requests=sum(endpoint["requests"] for endpoint in stats["endpoints"].values()),
        verification=verification,
    )


def read_documents(client: redis.Redis) -> dict[str, dict[str, object]]:
    """Every decision document by transaction id, found by scanning the keys of every primary."""
    documents = {}
    with closing(Servers(client)) as servers:
        for primary in servers.primaries:
            keys = sorted(primary.scan_iter(match=f"{PREFIX}*", count=_PAGE))
            for start in range(0, len(keys), _PAGE):
                pipeline = primary.pipeline(transaction=False)
                for key in keys[start : start + _PAGE]:
                    command(pipeline, "JSON.GET", key)
                for body in pipeline.execute():
                    document: dict[str, object] = orjson.loads(body)
                    documents[str(document["transaction_id"])] = document
    return documents


def read_lines(client: "S3Client", bucket: str, prefix: str = "") -> Iterator[dict[str, object]]:
    """Every line of every newline-delimited JSON object under *prefix*, gzip or plain."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    for page in pages:
        for entry in page.get("Contents", []):
            body = client.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
            text = gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
            for line in text.splitlines():
                yield orjson.loads(line)


def build_oracle(
    plan: Plan,
    horizon_s: int,
    events: Iterable[Event],
    verdicts: Iterable[Verdict] = (),
    entities: Collection[str] = (),
) -> Oracle:
    """
    An oracle for *plan*'s questions that has seen *events* and then *verdicts*.

    It is asked about *entities* alone, if any are named.
    """
    questions = [
        question
        for entity in plan.entities
        if not entities or entity.name in entities
        for question in questions_of(plan, entity)
    ]
    oracle = Oracle(questions, horizon_s=horizon_s, exponent=plan.exponent)
    for event in events:
        oracle.apply(event)
    for verdict in verdicts:
        oracle.label(verdict)
    return oracle


def live_event(entry: Entry) -> Event:
    """A transaction of the ledger as a feature store is asked to observe it."""
    return Event(
        entry.transaction_id,
        entry.event_time_ms // 1000,
        entry.base_amount_minor,
        entry.keys,
        purchase=entry.kind is Kind.PURCHASE,
        place=None
        if entry.latitude is None or entry.longitude is None
        else (entry.latitude, entry.longitude),
    )


def live_verdicts(ledger: Ledger) -> list[Verdict]:
    """The labels of the ledger as a feature store is told of them."""
    labels = [entry for entry in ledger.entries if entry.record is RecordKind.LABEL]
    return [
        Verdict(
            transaction_id=entry.transaction_id,
            label_id="",
            fraud=entry.fraud,
            label_time_ms=entry.label_time_ms or 0,
            time_s=entry.event_time_ms // 1000,
            keys=entry.keys,
        )
        for entry in labels
        if entry.kind is Kind.PURCHASE
    ]


def check_features(
    store: RedisFeatureStore, plan: Plan, oracle: Oracle, *, sampled: int, hottest: int, seed: int
) -> FeatureCheck:
    """
    Compare every feature of *sampled* random and the *hottest* entities with *oracle*.

    Each is read at its newest event and, so that window edges are met too, at
    moments before and after it.
    """
    checked, wrong = 0, list[str]()
    for entity, key in _choose(plan, oracle, sampled, hottest, random.Random(seed)):  # noqa: S311 - a sample
        key_field = next(each.key for each in plan.entities if each.name == entity)
        newest_s = oracle.newest_s(key_field, key)
        if newest_s is None:
            continue
        for time_s in (newest_s, newest_s + 1_800, newest_s - 3_600):
            expected = oracle.read(key_field, key, time_s)
            found = store.read(entity, key, time_s)
            checked += len(expected)
            wrong += _different(f"{entity} {key}", expected, found)
    return FeatureCheck(checked, len(wrong), tuple(wrong[:_EXAMPLES]))


def check_labelled(
    store: RedisFeatureStore, plan: Plan, oracle: Oracle, ledger: Ledger
) -> FeatureCheck:
    """
    Compare the features that read labels where the labelled transactions count.

    Labels count in windows that ended a delay ago. So each entity of a labelled
    transaction of the ledger is read a day after that delay, when it is inside.
    """
    checked, wrong = 0, list[str]()
    reading = [
        (feature.entity, feature.name, feature.delay_s)
        for feature in plan.features
        if isinstance(feature, Windowed) and feature.aggregation.reads_labels
    ]
    fields = {entity.name: entity.key for entity in plan.entities}
    labelled = [ledger.transactions[name] for name in _newest_labels(ledger)]
    for entry in labelled:
        for entity, name, delay_s in reading:
            key = entry.keys.get(fields[entity])
            if key is None or entry.kind is not Kind.PURCHASE:
                continue
            time_s = entry.event_time_ms // 1000 + delay_s + _DAY_S
            expected = {name: oracle.read(fields[entity], key, time_s)[name]}
            checked += 1
            wrong += _different(f"{entity} {key}", expected, store.read(entity, key, time_s))
    return FeatureCheck(checked, len(wrong), tuple(wrong[:_EXAMPLES]))


def _different(whose: str, expected: Mapping[str, float], found: Mapping[str, float]) -> list[str]:
    return [
        f"{whose}: {name} is {found.get(name)}, expected {value}"
        for name, value in expected.items()
        if found.get(name) != value
    ]


def check_vectors(
    documents: Mapping[str, dict[str, object]],
    plan: Plan,
    oracle: Oracle,
    ledger: Ledger,
    cards: Collection[str],
) -> FeatureCheck:
    """
    Compare the card features that the decisions of *cards* were made on with *oracle*.

    *oracle* has seen history only; the ledger's transactions are applied here in
    the order in which the stream holds them. A card lives on one shard, so that
    order is the one the worker saw. (A merchant's events come from all shards.)
    """
    checked, wrong = 0, list[str]()
    entries = [entry for entry in ledger.transactions.values() if entry.card_id in cards]
    entries.sort(key=lambda entry: int(entry.sequence_number))
    names = {
        feature.name
        for feature in plan.features
        if isinstance(feature, Windowed) and feature.entity == "card"
    }
    for entry in entries:
        expected, _ = oracle.observe(live_event(entry))
        features = documents.get(entry.transaction_id, {}).get("features")
        found = features if isinstance(features, dict) else {}
        checked += len(names)
        wrong += [
            f"{entry.transaction_id}: {name} was {found.get(name)}, expected {expected[name]}"
            for name in names
            if found.get(name) != expected[name]
        ]
    return FeatureCheck(checked, len(wrong), tuple(wrong[:_EXAMPLES]))


def _choose(
    plan: Plan, oracle: Oracle, sampled: int, hottest: int, choice: random.Random
) -> Sequence[tuple[str, str]]:
    everyone = [
        (entity.name, key) for entity in plan.entities for key in oracle.values_of(entity.key)
    ]
    busiest = sorted(
        (
            (oracle.count(entity.key, key), entity.name, key)
            for entity in plan.entities
            for key in oracle.busiest(entity.key, hottest)
        ),
        reverse=True,
    )[:hottest]
    chosen = choice.sample(everyone, min(sampled, len(everyone)))
    return [*dict.fromkeys([*chosen, *((name, key) for _, name, key in busiest)])]
