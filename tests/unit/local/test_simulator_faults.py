"""Faults come in exactly the shares asked for, and each is what it says it is."""

from collections import Counter

import orjson
import pytest

from consumer.decode import DecodeRules, decode
from consumer.errors import Rejected
from consumer.local.simulator.columns import HOUR_MS
from consumer.local.simulator.events import Event, RecordKind
from consumer.local.simulator.faults import LATE_LIMIT_MS, Faults
from consumer.local.simulator.malformed import SPOILERS
from consumer.local.simulator.traffic import Scenario, Traffic
from consumer.settings import Events

SCENARIO = Scenario(
    end_ms=1_795_000_000_000, seed=3, cards=300, merchants=120, history_days=0, transactions=4_000
)
FAULTS = Faults(duplicates=0.02, malformed=0.01, late=0.03, too_late=0.005)
RULES = DecodeRules.of(Events())


@pytest.fixture(scope="module")
def traffic() -> Traffic:
    return Traffic(SCENARIO)


@pytest.fixture(scope="module")
def sent(traffic: Traffic) -> list[Event]:
    return list(traffic.live(FAULTS))


def test_the_counts_are_exact(traffic: Traffic, sent: list[Event]) -> None:
    counts = Counter(event.record for event in sent)
    assert counts[RecordKind.TRANSACTION] == 4_000
    assert counts[RecordKind.DUPLICATE] == 80
    assert counts[RecordKind.MALFORMED] == 40
    assert sum(e.late for e in sent if e.record is RecordKind.TRANSACTION) == 120 + 20
    assert len(sent) == traffic.live_size(FAULTS)


def test_faults_are_the_same_each_time(traffic: Traffic, sent: list[Event]) -> None:
    assert list(traffic.live(FAULTS)) == sent


def test_faults_leave_the_transactions_as_they_were(traffic: Traffic, sent: list[Event]) -> None:
    undisturbed = {
        e.transaction_id: e.data for e in traffic.live() if e.record is RecordKind.TRANSACTION
    }
    for event in sent:
        if event.record in {RecordKind.TRANSACTION, RecordKind.DUPLICATE}:
            assert event.data == undisturbed[event.transaction_id]


def test_a_duplicate_follows_its_original_with_the_same_bytes(sent: list[Event]) -> None:
    first: dict[str, Event] = {}
    for event in sent:
        if event.record is RecordKind.TRANSACTION:
            first[event.transaction_id] = event
        elif event.record is RecordKind.DUPLICATE:
            assert event.data == first[event.transaction_id].data
            assert event.partition_key == first[event.transaction_id].partition_key


def test_a_late_event_comes_after_newer_ones_of_its_card_within_the_limit(
    sent: list[Event],
) -> None:
    newest: dict[str, int] = {}
    behind_ms = []
    for event in sent:
        if event.record is not RecordKind.TRANSACTION:
            continue
        behind = newest.get(event.card_id, 0) - event.event_time_ms
        newest[event.card_id] = max(newest.get(event.card_id, 0), event.event_time_ms)
        assert (behind > 0) == event.late
        if event.late:
            behind_ms.append(behind)
    within = [behind for behind in behind_ms if behind <= LATE_LIMIT_MS]
    beyond = [behind for behind in behind_ms if behind > 25 * HOUR_MS]
    assert (len(within), len(beyond)) == (120, 20)


def test_every_kind_of_malformed_record_is_sent_under_an_id_of_its_own(sent: list[Event]) -> None:
    malformed = [event for event in sent if event.record is RecordKind.MALFORMED]
    good = {event.transaction_id for event in sent if event.record is RecordKind.TRANSACTION}
    assert {event.malformed for event in malformed} == set(SPOILERS)
    assert len({event.transaction_id for event in malformed}) == len(malformed)
    assert not good & {event.transaction_id for event in malformed}


def test_the_decoder_rejects_each_malformed_record_and_nothing_else(sent: list[Event]) -> None:
    for event in sent:
        if event.record is RecordKind.MALFORMED:
            with pytest.raises(Rejected):
                decode(event.data, RULES)
        else:
            decode(event.data, RULES)


@pytest.mark.parametrize("wrong", SPOILERS)
def test_each_spoiler_breaks_one_thing(traffic: Traffic, wrong: str) -> None:
    event = next(event for event in traffic.live() if event.record is RecordKind.TRANSACTION)
    document = orjson.loads(event.data)
    spoilt = SPOILERS[wrong](dict(document))
    assert spoilt != event.data
    assert len(spoilt) < 1024 * 1024
    assert orjson.loads(event.data) == document
