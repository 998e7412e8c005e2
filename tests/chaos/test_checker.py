"""The checker bites: a clean run passes, and each thing tampered with afterwards is named."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from consumer.adapters.redis.documents import ALERTS, PREFIX
from consumer.model import Position
from consumer.ports import Observe
from tests.builders import a_transaction
from tests.chaos.arena import Arena
from tests.chaos.checker import Difference, Expectation, Kind, compare
from tests.chaos.found import Found, PrefixWatch
from tests.chaos.lab import SETTINGS, Lab, open_lab, score
from tests.chaos.traffic import Ledger, Mix


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with open_lab(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.fixture(scope="module")
def arena(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Arena:
    """A case without a fault, worked to its end."""
    arena = Arena(lab, "a clean run", 1, tmp_path_factory.mktemp("case"))
    lab.redis.flushall()
    arena.shard(Mix(hot=True, transactions=220, malformed=0.05)).work()
    return arena


@pytest.fixture(scope="module")
def found(arena: Arena) -> Found:
    assert arena.differences() == []
    return arena.place.find()


@pytest.fixture
def ledger(arena: Arena) -> Ledger:
    return arena.shards[0][1]


def differences(arena: Arena, found: Found) -> list[Difference]:
    against = Expectation(arena.lab.plan, SETTINGS.features.id_horizon_s, score)
    return compare([arena.shards[0][1]], found, against)


def kinds(found: list[Difference]) -> set[Kind]:
    return {difference.kind for difference in found}


def test_traffic_holds_everything_that_can_come(arena: Arena, ledger: Ledger, found: Found) -> None:
    """What is not sent is not tested."""
    events = [each.event for each in ledger.placed if each.item.error is None]
    transactions = [event for event in events if event["type"] == "transaction"]
    assert {"conflict", "not_json"} < set(ledger.letters.values())
    assert len(transactions) > len(ledger.due) + 3, "duplicates"
    assert sum(event["type"] == "label" for event in events) > 10
    assert any(event.get("kind") == "refund" for event in transactions)
    outcomes = {document["decision"]["outcome"] for document in found.documents.values()}
    assert outcomes == {"approve", "review", "decline"}
    applied = {word for document in found.documents.values() for word in document["applied"]}
    assert applied == {"applied", "late_dropped", "read"}
    assert any(document.get("future") for document in found.documents.values())
    assert list(arena.lab.redis.scan_iter(match="f:{merchant:*}:i:*")), "a hot merchant"
    busiest = max(
        document["features"]["merchant_count_1h"] for document in found.documents.values()
    )
    assert busiest > 5, "bursts"


def test_a_counter_off_by_one_is_found(arena: Arena, found: Found, ledger: Ledger) -> None:
    entity, key = "merchant", str(next(iter(ledger.due.values())).event["merchant_id"])

    def read(asked: str, name: str, time_s: int) -> dict[str, float]:
        values = dict(found.read(asked, name, time_s))
        if (asked, name) == (entity, key):
            values["merchant_count_7d"] += 1
        return values

    seen = differences(arena, replace(found, read=read))
    assert kinds(seen) == {Kind.DOUBLE}
    assert all(f"{entity} {key}: merchant_count_7d is" in each.text for each in seen)


def test_a_transaction_that_is_counted_under_another_id_is_found(
    arena: Arena, ledger: Ledger
) -> None:
    due = list(ledger.due.values())[-1]
    card, merchant = str(due.event["card_id"]), str(due.event["merchant_id"])
    keys = [f"f:{{card:{card}}}", f"f:{{merchant:{merchant}}}"]
    redis = arena.lab.redis
    kept = {key: (redis.pttl(key), redis.dump(key)) for key in keys}
    twin = a_transaction(9, transaction_id="twin", card_id=card, merchant_id=merchant)
    arena.store.observe([Observe(twin, due.placed.arrival_ms // 1000)])
    try:
        seen = arena.differences()
    finally:
        for key, (life_ms, state) in kept.items():
            assert state is not None
            redis.restore(key, life_ms, state, replace=True)
    assert Kind.DOUBLE in kinds(seen)
    assert any(card in each.text and "card_count_30d" in each.text for each in seen)


def test_a_missing_document_and_a_missing_row_are_found(arena: Arena, found: Found) -> None:
    name = next(iter(found.documents))
    documents = {key: each for key, each in found.documents.items() if key != name}
    assert kinds(differences(arena, replace(found, documents=documents))) >= {Kind.LOST}
    rows = [row for row in found.rows if row["transaction_id"] != name]
    (seen,) = differences(arena, replace(found, rows=rows))
    assert seen == Difference(Kind.LOST, f"{name} has no row in Firehose")


def test_a_second_decision_is_found_by_its_row_and_its_alert(arena: Arena, found: Found) -> None:
    approved = next(row for row in found.rows if row["decision"] == "approve")
    row = {**approved, "decision": "decline", "fraud_score": 0.99}
    (seen,) = differences(arena, replace(found, rows=[*found.rows, row]))
    assert seen.kind is Kind.EXTRA
    assert "differs from its document in decision, fraud_score" in seen.text
    (seen,) = differences(arena, replace(found, alerts=[*found.alerts, found.alerts[0]]))
    assert seen.kind is Kind.DOUBLE
    assert differences(arena, replace(found, rows=[*found.rows, found.rows[0]])) == []


@pytest.mark.parametrize(("true", "false"), [("decline", "review"), ("review", "approve")])
def test_a_wrong_outcome_is_found_where_document_row_and_alert_agree_on_it(
    arena: Arena, found: Found, true: str, false: str
) -> None:
    names = {
        name
        for name, document in found.documents.items()
        if document["decision"]["outcome"] == true
    }
    documents = {
        name: {**each, "decision": {**each["decision"], "outcome": false}}
        if name in names
        else each
        for name, each in found.documents.items()
    }
    rows = [
        {**row, "decision": false} if row["transaction_id"] in names else row for row in found.rows
    ]
    alerts = [
        {**alert, "outcome": false} if alert["transaction_id"] in names else alert
        for alert in found.alerts
        if false != "approve" or alert["transaction_id"] not in names
    ]
    seen = differences(arena, replace(found, documents=documents, rows=rows, alerts=alerts))
    assert len(seen) == len(names) > 0
    assert all(f"outcome is '{false}', expected '{true}'" in each.text for each in seen)


def test_a_rule_that_is_said_to_hit_or_not_to_and_a_false_reason_are_found(
    arena: Arena, found: Found
) -> None:
    name, document = next(
        each for each in found.documents.items() if each[1]["decision"]["reasons"]
    )
    rows = [row for row in found.rows if row["transaction_id"] != name]
    alerts = [alert for alert in found.alerts if alert["transaction_id"] != name]

    def seen(**changed: object) -> str:
        documents = {**found.documents, name: {**document, **changed}}
        texts = differences(arena, replace(found, documents=documents, rows=rows, alerts=alerts))
        return "\n".join(each.text for each in texts)

    assert "rules that hit" in seen(rules={**document["rules"], "hits": ["card_burst@1"]})
    assert "reasons is []" in seen(decision={**document["decision"], "reasons": []})
    assert "fraud" in seen(scores={**document["scores"], "fraud": 0.123})


def test_a_column_that_is_wrong_in_every_row_is_found(arena: Arena, found: Found) -> None:
    for column in ("decision", "card_id", "prediction_id", "f_card_count_30d", "received_time"):
        rows = [{**row, column: "something else"} for row in found.rows]
        seen = differences(arena, replace(found, rows=rows))
        assert len(seen) == len(found.rows)
        assert all(f"differs from its document in {column}" in each.text for each in seen)


def test_a_document_of_a_later_record_or_on_other_features_is_found(
    arena: Arena, found: Found
) -> None:
    name, document = next(iter(found.documents.items()))
    moved = {**document, "origin": {**document["origin"], "position": "999:0"}}
    seen = differences(arena, replace(found, documents={**found.documents, name: moved}))
    assert any("position is" in each.text and "'999:0'" in each.text for each in seen)
    features = {**document["features"], "card_count_30d": 77.0}
    other = {**document, "features": features}
    rows = [row for row in found.rows if row["transaction_id"] != name]
    seen = differences(arena, replace(found, documents={**found.documents, name: other}, rows=rows))
    assert any("was decided on card_count_30d = 77.0" in each.text for each in seen)


def test_features_of_one_decision_that_were_never_those_of_its_place_are_found(
    arena: Arena, found: Found
) -> None:
    """In the row too, so that only the oracle can know."""
    name, document = next(iter(found.documents.items()))
    features = {**document["features"], "merchant_count_7d": 78.0}
    rows = [
        {**row, "f_merchant_count_7d": 78.0} if row["transaction_id"] == name else row
        for row in found.rows
    ]
    documents = {**found.documents, name: {**document, "features": features}}
    (seen,) = differences(arena, replace(found, documents=documents, rows=rows))
    assert f"{name} was decided on merchant_count_7d = 78.0" in seen.text


def test_a_key_that_never_expires_is_found(arena: Arena, found: Found) -> None:
    key = PREFIX + next(iter(found.documents))
    life_s = arena.lab.redis.ttl(key)
    assert life_s > 0
    arena.lab.redis.persist(key)
    try:
        seen = arena.place.find().lasting
    finally:
        arena.lab.redis.expire(key, life_s)
    assert seen == [key]
    assert arena.place.find().lasting == []
    (told,) = differences(arena, replace(found, lasting=[key]))
    assert told == Difference(Kind.EXTRA, f"{key} never expires")


def test_letters_labels_and_state_too_many_or_too_few_are_found(arena: Arena, found: Found) -> None:
    seen = differences(arena, replace(found, letters=found.letters[1:]))
    assert kinds(seen) == {Kind.LOST}
    seen = differences(arena, replace(found, letters=[*found.letters, ("s-1-0", "conflict")]))
    assert kinds(seen) == {Kind.EXTRA}
    name, labelled = next(each for each in found.documents.items() if "label" in each[1])
    bare = {key: value for key, value in labelled.items() if key != "label"}
    seen = differences(arena, replace(found, documents={**found.documents, name: bare}))
    assert [each.text for each in seen if "label" in each.text]
    seen = differences(arena, replace(found, entities=found.entities | {("card", "stranger")}))
    assert [each.kind for each in seen] == [Kind.EXTRA]


def test_a_checkpoint_ahead_of_its_work_is_found_when_it_arrives(
    arena: Arena, ledger: Ledger
) -> None:
    last = ledger.placed[-1].position
    assert PrefixWatch(ledger, arena.place).missing(last) == []
    name = list(ledger.due)[-1]
    client = arena.lab.redis
    client.rename(PREFIX + name, "elsewhere")
    try:
        watch = PrefixWatch(ledger, arena.place)
        assert watch.missing(Position(3)) == []
        assert f"{name} has no document" in watch.missing(last)
        assert watch.missing(None) == [], "each record is looked at once"
    finally:
        client.rename("elsewhere", PREFIX + name)
    letter = next(iter(ledger.letters))
    hidden = replace(arena.place, prefix="another prefix/")
    missing = PrefixWatch(ledger, hidden).missing(None)
    assert f"no dead letter {letter}" in missing
    nothing = replace(arena.place, rows=list)
    assert f"{name} has no acknowledged row" in PrefixWatch(ledger, nothing).missing(None)


def test_alerts_are_counted_on_the_stream_itself(arena: Arena, found: Found) -> None:
    assert arena.lab.redis.xlen(ALERTS) == len(found.alerts) > 0


def test_logs_stay_in_the_folder_of_the_case(arena: Arena) -> None:
    assert isinstance(arena.folder, Path)
    assert (arena.folder / "worker-0.log").read_bytes()
