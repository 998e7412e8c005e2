"""The simulated traffic is the same for the same seed, complete, ordered and plausible."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import asin, cos, radians, sin, sqrt
from typing import Any

import orjson
import pytest

from consumer.decode import DecodeRules, decode
from consumer.local.simulator.columns import DAY_MS, HOUR_MS
from consumer.local.simulator.events import Event, RecordKind
from consumer.local.simulator.traffic import Scenario, Traffic, history, live
from consumer.masking import holds_card_number
from consumer.model import Kind, Label, LabelValue, Transaction
from consumer.settings import Events

SCENARIO = Scenario(
    end_ms=1_795_000_000_000, seed=7, cards=300, merchants=120, history_days=25, transactions=2_000
)
RULES = DecodeRules.of(Events())


@pytest.fixture(scope="module")
def past() -> list[Event]:
    return [event for _, events in history(SCENARIO) for event in events]


@pytest.fixture(scope="module")
def present() -> list[Event]:
    return list(live(SCENARIO))


def transactions(events: Sequence[Event]) -> list[Event]:
    return [event for event in events if event.record is RecordKind.TRANSACTION]


def labels(events: Sequence[Event]) -> list[Event]:
    return [event for event in events if event.record is RecordKind.LABEL]


def decoded(event: Event) -> Transaction:
    transaction = decode(event.data, RULES)
    assert isinstance(transaction, Transaction)
    return transaction


def kilometres(a: Transaction, b: Transaction) -> float:
    assert a.latitude is not None
    assert a.longitude is not None
    assert b.latitude is not None
    assert b.longitude is not None
    p, q = radians(a.latitude), radians(b.latitude)
    across = sin((p - q) / 2) ** 2
    along = cos(p) * cos(q) * sin(radians(a.longitude - b.longitude) / 2) ** 2
    return 12_742 * asin(sqrt(across + along))


def test_the_same_scenario_gives_the_same_bytes(past: list[Event], present: list[Event]) -> None:
    assert [event for _, events in history(SCENARIO) for event in events] == past
    assert list(live(SCENARIO)) == present


def test_another_seed_gives_other_cards_and_other_transactions(present: list[Event]) -> None:
    other = list(live(replace(SCENARIO, seed=8)))
    assert not {e.card_id for e in other} & {e.card_id for e in present}
    assert not {e.transaction_id for e in other} & {e.transaction_id for e in present}


def test_another_time_gives_the_same_cards_and_other_transactions(present: list[Event]) -> None:
    later = list(live(replace(SCENARIO, end_ms=SCENARIO.end_ms + DAY_MS)))
    known = Traffic(SCENARIO).population.card_ids
    assert {e.card_id for e in later} <= set(known)
    assert not {e.transaction_id for e in later} & {e.transaction_id for e in transactions(present)}


def test_live_traffic_has_exactly_the_transactions_asked_for(present: list[Event]) -> None:
    sent = transactions(present)
    assert len(sent) == 2_000
    assert len({event.transaction_id for event in sent}) == 2_000


def test_live_traffic_of_one_card_is_complete_too() -> None:
    small = replace(SCENARIO, cards=1, history_days=0, transactions=50)
    assert len(transactions(list(live(small)))) == 50
    assert list(history(small)) == []


@pytest.mark.parametrize("size", [500, 20_000])
def test_afterthoughts_label_live_purchases_at_terminals_and_correct_some(size: int) -> None:
    traffic = Traffic(replace(SCENARIO, transactions=size))
    present = list(traffic.live())
    purchases = {
        event.transaction_id for event in transactions(present) if event.kind is Kind.PURCHASE
    }
    labelled = {event.transaction_id for event in present if event.record is RecordKind.LABEL}
    given: dict[str, list[dict[str, Any]]] = {}
    for event in traffic.afterthoughts(SCENARIO.end_ms + 5_000):
        body = orjson.loads(event.data)
        assert body["label"] == ("fraud" if event.fraud else "legitimate")
        assert body["keys"]["terminal_id"]
        given.setdefault(event.transaction_id, []).append(body)
    assert given.keys() <= purchases - labelled
    corrected = [bodies for bodies in given.values() if len(bodies) > 1]
    assert 0 < len(corrected) < len(given)
    for first, then in corrected:
        assert first["label_time"] < then["label_time"]
        assert first["label"] != then["label"]
    assert {bodies[-1]["label"] for bodies in corrected} == {"fraud", "legitimate"}


def test_without_live_transactions_there_is_only_history() -> None:
    idle = Traffic(replace(SCENARIO, transactions=0))
    assert list(idle.afterthoughts(SCENARIO.end_ms)) == []
    assert list(idle.live()) == []
    assert idle.live_size() == 0
    assert next(idle.history())


def test_history_ends_where_live_traffic_begins(past: list[Event], present: list[Event]) -> None:
    newest = max(event.time_ms for event in past)
    oldest = min(event.time_ms for event in present)
    assert newest < oldest
    assert newest > oldest - HOUR_MS
    assert max(event.time_ms for event in present) <= SCENARIO.end_ms


def test_history_covers_its_days_each_event_on_its_own_day() -> None:
    days = list(history(SCENARIO))
    assert len(days) in {25, 26}
    assert [day for day, _ in days] == sorted(day for day, _ in days)
    for day, events in days:
        assert {event.time_ms // DAY_MS for event in events} == {day.toordinal() - 719_163}


def test_both_are_in_the_order_of_time(past: list[Event], present: list[Event]) -> None:
    for events in (past, present):
        assert all(a.time_ms <= b.time_ms for a, b in pairwise(events))


def test_cards_make_about_as_many_transactions_a_day_as_asked(past: list[Event]) -> None:
    per_day = len(transactions(past)) / SCENARIO.cards / SCENARIO.history_days
    assert per_day == pytest.approx(SCENARIO.per_day, rel=0.1)


def test_every_event_decodes_to_what_is_known_about_it(
    past: list[Event], present: list[Event]
) -> None:
    for event in transactions([*past[:3_000], *present]):
        transaction = decoded(event)
        assert transaction.transaction_id == event.transaction_id
        assert transaction.card_id == event.card_id == event.partition_key
        assert transaction.merchant_id == event.merchant_id
        assert round(transaction.event_time.timestamp() * 1_000) == event.event_time_ms
        assert transaction.amount_minor == event.amount_minor
        assert transaction.currency == event.currency
        assert transaction.base_amount_minor == event.base_amount_minor
        assert transaction.kind is event.kind


def test_events_use_every_field_that_the_contract_has(present: list[Event]) -> None:
    seen = {field for event in transactions(present) for field in orjson.loads(event.data)}
    assert seen == {
        *("type", "transaction_id", "event_time", "card_id", "merchant_id", "amount", "currency"),
        *("customer_id", "terminal_id", "merchant_category", "country", "latitude", "longitude"),
        *("channel", "entry_mode", "device_id", "ip_address", "base_amount", "kind"),
    }


def test_no_event_holds_what_could_be_a_card_number(past: list[Event]) -> None:
    texts = [value for e in past for value in orjson.loads(e.data).values() if type(value) is str]
    assert texts
    assert not [text for text in texts if holds_card_number(text)]


def test_about_the_asked_share_is_fraud_of_every_pattern(past: list[Event]) -> None:
    patterns = Counter(event.pattern for event in transactions(past) if event.fraud)
    assert set(patterns) == {
        "amount_jump",
        "compromised_terminal",
        "stolen_card",
        "new_device_burst",
        "impossible_travel",
    }
    share = patterns.total() / len(transactions(past))
    assert share == pytest.approx(SCENARIO.fraud_share, rel=0.3)


def test_every_fraud_becomes_known_three_to_ten_days_later(
    past: list[Event], present: list[Event]
) -> None:
    known = {event.transaction_id: event for event in labels([*past, *present])}
    for event in transactions(past):
        if event.fraud and event.time_ms < SCENARIO.end_ms - 10 * DAY_MS:
            label = known[event.transaction_id]
            assert label.fraud
            assert 3 * DAY_MS <= label.time_ms - event.time_ms <= 10 * DAY_MS


def test_labels_carry_what_is_needed_without_the_document(present: list[Event]) -> None:
    for event in labels(present):
        label = decode(event.data, RULES)
        assert isinstance(label, Label)
        assert label.transaction_id == event.transaction_id
        assert label.keys["card_id"] == event.card_id == event.partition_key
        assert label.keys["merchant_id"] == event.merchant_id
        assert label.event_time is not None
        assert round(label.event_time.timestamp() * 1_000) == event.event_time_ms
        assert (label.label is LabelValue.FRAUD) == event.fraud


def test_analysts_also_clear_honest_transactions(past: list[Event]) -> None:
    cleared = [orjson.loads(event.data) for event in labels(past) if not event.fraud]
    assert {document["label"] for document in cleared} == {"legitimate"}
    assert {document["source"] for document in cleared} == {"analyst"}


def test_some_purchases_are_refunded_and_no_fraud_is(past: list[Event]) -> None:
    refunds = [event for event in past if event.kind is Kind.REFUND]
    assert refunds
    assert not any(event.fraud for event in refunds)


def test_a_new_device_burst_uses_one_device_that_its_card_never_had(past: list[Event]) -> None:
    bursts = defaultdict(set)
    honest = defaultdict(set)
    for event in transactions(past):
        device = orjson.loads(event.data).get("device_id")
        if event.pattern == "new_device_burst":
            bursts[event.card_id].add(device)
        elif not event.fraud:
            honest[event.card_id].add(device)
    assert bursts
    assert all(None not in devices for devices in bursts.values())
    assert not any(devices & honest[card] for card, devices in bursts.items())


def test_impossible_travel_is_faster_than_any_aeroplane(past: list[Event]) -> None:
    located = [e for e in transactions(past) if b'"latitude"' in e.data]
    by_card = defaultdict(list)
    for event in located:
        by_card[event.card_id].append(event)
    speeds = []
    for events in by_card.values():
        for before, event in pairwise(events):
            jumped = event.pattern == "impossible_travel" and not before.fraud
            if jumped and event.time_ms - before.time_ms < 3 * HOUR_MS:
                hours = (event.time_ms - before.time_ms) / HOUR_MS
                speeds.append(kilometres(decoded(before), decoded(event)) / hours)
    assert speeds
    assert sorted(speeds)[len(speeds) // 2] > 350


def test_a_stolen_card_is_used_in_many_places_within_hours(past: list[Event]) -> None:
    sprees = defaultdict(list)
    for event in transactions(past):
        if event.pattern == "stolen_card":
            sprees[event.card_id, event.time_ms // DAY_MS].append(event)
    longest = max(sprees.values(), key=len)
    assert len({event.merchant_id for event in longest}) >= 3
    assert longest[-1].time_ms - longest[0].time_ms < 6 * HOUR_MS


def test_foreign_money_carries_its_worth_in_euros(past: list[Event]) -> None:
    currencies = {event.currency for event in past}
    assert {"EUR", "GBP", "JPY"} <= currencies
    for event in transactions(past):
        assert (b'"base_amount"' in event.data) == (event.currency != "EUR")
        if event.currency == "JPY":
            assert re.search(rb'"amount":\d+,', event.data)


@pytest.mark.parametrize("sizes", [{"cards": 0}, {"merchants": 10}])
def test_impossible_sizes_are_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least"):
        Traffic(replace(SCENARIO, **sizes))
