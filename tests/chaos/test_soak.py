"""What the soak would notice, and that it reads its own figures right."""

import random
from collections.abc import Mapping
from dataclasses import replace

from consumer.features.specification import load_plan
from consumer.local.oracle import Event, Oracle, Verdict
from tests.chaos.checker import Difference, Expectation, Kind, compare_entities
from tests.chaos.found import Found
from tests.chaos.kcl import SHARDS
from tests.chaos.lab import SETTINGS, score
from tests.chaos.registry import Tier
from tests.chaos.soak_books import EntityBook
from tests.chaos.soak_kcl import recoveries
from tests.chaos.soak_report import NEW_ID, Account
from tests.chaos.traffic import Ledger, Mix, build_traffic, place

PLAN = load_plan(SETTINGS.features.path, SETTINGS.events.base_currency)
AGAINST = Expectation(PLAN, SETTINGS.features.id_horizon_s, score)
CARD = next(entity for entity in PLAN.entities if entity.name == "card")
NOW_MS = 1_790_000_000_000
NOTHING = Found({}, [], [], [], {}, frozenset(), lambda _entity, _name, _time_s: {})


def _event(number: int) -> Event:
    keys = {"card_id": "c1", "merchant_id": "m1", "device_id": f"d{number}"}
    return Event(f"t{number}", NOW_MS // 1_000 + 60 * number, 1_000 + number, keys)


def _book() -> EntityBook:
    return EntityBook(CARD, AGAINST)


def _features_after(number: int, of: Event) -> Mapping[str, float]:
    """The features of *of* once so many events have happened."""
    oracle = _book().oracle
    for earlier in range(number):
        oracle.apply(_event(earlier))
    return oracle.observe(of)[0]


def test_a_decision_on_the_features_of_its_place_is_explained() -> None:
    book = _book()
    for number in range(5):
        book.tell(_event(number), _features_after(number, _event(number)))
    assert book.unexplained() == []


def test_a_decision_made_again_after_a_crash_may_see_what_followed() -> None:
    book = _book()
    # The second event again, when the fifth is applied already, which lies before it.
    late = replace(_event(4), time_s=_event(0).time_s + 5)
    oracle = _book().oracle
    for event in (_event(0), _event(1), late):
        oracle.apply(event)
    features = oracle.observe(_event(1))[0]
    book.tell(_event(0), None)
    book.tell(_event(1), features)
    book.tell(late, None)
    assert book.unexplained() == []


def test_a_decision_on_features_of_no_place_is_told_once() -> None:
    book = _book()
    doubled = {**_features_after(0, _event(0)), "card_count_1h": 2.0}
    book.tell(_event(0), doubled)
    book.tell(_event(1), None)
    (text,) = book.unexplained()
    assert "t0 was decided on card_count_1h = 2.0, expected 1.0" in text
    assert book.unexplained() == []


def test_a_label_counts_where_labels_are_counted() -> None:
    terminal = next(entity for entity in PLAN.entities if entity.name == "terminal")
    event = replace(_event(0), keys={"card_id": "c1", "terminal_id": "e1"})
    verdict = Verdict("t0", "", True, NOW_MS, event.time_s, event.keys)
    book = EntityBook(terminal, AGAINST)
    book.tell(event, None)
    book.tell(verdict, None)
    later_s = event.time_s + 8 * 86_400
    assert book.oracle.read(terminal.key, "e1", later_s)["terminal_fraud_rate_7d"] == 1.0


def test_state_that_counted_an_event_twice_is_found() -> None:
    book, doubled = _book(), _book()
    for number in range(3):
        book.tell(_event(number), None)
        doubled.tell(_event(number), None)
    doubled.tell(replace(_event(2), transaction_id="again"), None)
    oracles, keys = {"card": book.oracle}, {"card": CARD.key}

    def seen(oracle: Oracle) -> list[Difference]:
        found = replace(
            NOTHING,
            entities=frozenset({("card", "c1")}),
            read=lambda _entity, name, time_s: oracle.read(CARD.key, name, time_s),
        )
        return compare_entities(oracles, keys, found)

    assert seen(book.oracle) == []
    assert {each.kind for each in seen(doubled.oracle)} == {Kind.DOUBLE}
    assert [each.kind for each in compare_entities(oracles, keys, NOTHING)] == [Kind.LOST]


def test_a_ledger_that_grows_says_what_one_of_all_records_says() -> None:
    items = build_traffic("grows", Mix(labels=0.5), random.Random(1), NOW_MS)
    placed = place(items, SHARDS[0], NOW_MS)
    whole, grown = Ledger.of(placed), Ledger(placed)
    for each in placed:
        grown.read(each)
    assert grown == whole
    assert whole.unmatched == {}


def test_traffics_that_name_their_entities_meet_in_them() -> None:
    choice = random.Random(1)
    mix = Mix(entities="both", conflicts=0, malformed=0)
    ledgers = [
        Ledger.of(place(build_traffic(name, mix, choice, NOW_MS), SHARDS[0], NOW_MS))
        for name in ("first", "second")
    ]
    first, second = (
        {str(due.event["card_id"]) for due in ledger.due.values()} for ledger in ledgers
    )
    assert first & second
    assert not ledgers[0].due.keys() & ledgers[1].due.keys()


def _account(tier: Tier = Tier.KCL) -> Account:
    account = Account(tier, seed=1)
    account.faults["kill -9 of Java"] += 1
    return account


def test_a_run_without_faults_or_with_any_difference_fails() -> None:
    assert _account().problems() == []
    assert Account(Tier.KCL, 1).problems() == ["nothing was injected"]
    account = _account()
    account.note([Difference(Kind.LOST, "a"), Difference(Kind.DOUBLE, "b")])
    assert account.problems() == ["1 lost", "1 double_counted"]
    assert account.examples == ["lost: a", "double_counted: b"]


def test_a_record_blamed_for_the_kills_fails_a_run() -> None:
    account = _account()
    account.enter(10, 12, replace(NOTHING, letters=[("a", "crashed"), ("b", "bad_time")]))
    assert account.problems() == ["1 records were dead-lettered as crashed"]


def test_a_new_worker_id_may_take_longer() -> None:
    account = _account()
    account.note_recovery(NEW_ID, 149.0)
    account.note_recovery("kill -9 of Java", 14.9)
    assert account.problems() == []
    account.note_recovery("kill -9 of Java", 15.1)
    (problem,) = account.problems()
    assert "1 of 2 recoveries from kill -9 of Java took more than 15 s" in problem


def test_a_recovery_lasts_until_the_slower_shard_decides_on_what_came_later() -> None:
    documents = {
        name: {"stored_ms": stored_ms, "origin": {"shard_id": shard, "received_ms": received_ms}}
        for name, shard, received_ms, stored_ms in (
            ("a", SHARDS[0], 900, 1_100),
            ("b", SHARDS[0], 4_000, 4_200),
            ("c", SHARDS[1], 2_000, 2_500),
        )
    }
    found = replace(NOTHING, documents=documents)
    assert list(recoveries([("kill", 1_000)], found)) == [("kill", 3.2)]
    account = _account()
    # After it nothing was decided on one of the shards: it must not go unseen.
    ((kind, seconds),) = recoveries([("kill", 3_000)], found)
    account.note_recovery(kind, seconds)
    (problem,) = account.problems()
    assert "recoveries from kill took more than 15 s, the longest inf s" in problem
    assert "inf" in account.describe()
