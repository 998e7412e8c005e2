"""The last good copy of the rules: what it holds, when it is kept, and what a start makes of it."""

from queue import SimpleQueue

import pytest
import yaml

from consumer.errors import Misconfigured, Unavailable
from consumer.model import Outcome
from consumer.rules.accepted import Accepted, copy_of, decode, encode, restore, version_of
from consumer.rules.book import Judged, RuleBook
from consumer.rules.cel import Type
from consumer.rules.compilation import RuleSet
from consumer.rules.facts import Fact, build_catalogue
from consumer.rules.keeping import Keeper
from consumer.rules.lists import Entry
from consumer.rules.source import RulePoller, RuleSource
from consumer.rules.specification import Mode
from consumer.rules.start import Beginning, begin
from tests.builders import NOON
from tests.fakes.accepted_rules import FakeAcceptedRules
from tests.fakes.clock import FakeClock
from tests.fakes.texts import FakeTexts
from tests.rulebook import (
    CATALOGUE,
    EVERY,
    LARGE,
    LISTED,
    NEVER,
    KeptRuleNews,
    a_book,
    a_case,
    a_rule,
    a_set,
    some_lists,
)

LISTS = some_lists(blocked=["card_1", Entry("card_2", until=NOON)])
NOW_MS = 1_780_000_000_000


def a_copy(rules: RuleSet, largest_bytes: int = 1_000) -> Accepted:
    copy = copy_of(rules, NOW_MS, "host-1", largest_bytes=largest_bytes)
    assert copy is not None
    return copy


def ids(rules: RuleSet | None) -> list[str] | None:
    return None if rules is None else [each.rule.rule_id for each in rules.rules]


def text_of(*rules: object, mode: str = "live") -> str:
    return yaml.safe_dump({"version": 1, "mode": mode, "rules": list(rules)}, sort_keys=False)


class Instance:
    """The files, the store that all workers share, and a worker that starts on both."""

    def __init__(self, *rules: object) -> None:
        self.rules = FakeTexts("rules.yaml", rules__yaml=text_of(*rules))
        self.lists = FakeTexts("lists", blocked__ndjson='{"value": "card_1"}\n')
        self.store = FakeAcceptedRules()
        self.news = KeptRuleNews()

    def source(self) -> RuleSource:
        return RuleSource(self.rules, self.lists, CATALOGUE)

    def begin(self) -> Beginning:
        return begin(self.source(), self.store)

    def start(self, *, share: float = 0.1, window: int = 10) -> "Worker":
        return Worker(self, share, window)


class Worker:
    """One worker: a book that decides and the poller that keeps what becomes of its sets."""

    def __init__(self, instance: Instance, share: float, window: int) -> None:
        source = instance.source()
        self.begun = begin(source, instance.store)
        self.book = a_book(share=share, window=window, news=instance.news, active=self.begun.rules)
        self.book.compare(self.begun.before)
        keeper = Keeper(instance.store, "host-1", FakeClock(), instance.news)
        self.poller = RulePoller(source, self.book, 1.0, instance.news, keeper)
        self.poller.poll()

    def poll(self) -> None:
        self.poller.poll()
        self.book.turn()

    def decide(self, *amounts: float) -> list[Outcome]:
        outcomes = [self.book.decide(a_case(amount))[0].outcome for amount in amounts]
        self.poll()
        return outcomes


def kept(store: FakeAcceptedRules) -> list[str] | None:
    data = store.read()
    return None if data is None else ids(restore(decode(data), CATALOGUE, Mode.LIVE, None))


def test_a_copy_restores_a_set_that_decides_alike() -> None:
    rules = a_set(LISTED, lists=LISTS)
    copy = decode(encode(a_copy(rules)))
    restored = restore(copy, CATALOGUE, Mode.LIVE, None)
    assert version_of(restored) == version_of(rules) == copy.version
    assert restored.lists == rules.lists
    assert copy.place == "last good copy of 2026-05-28T20:26:40Z by host-1"


def test_of_lists_only_values_and_ends_are_kept() -> None:
    lists = some_lists(blocked=[Entry("card_1", reason="said Jane Doe", by="joe")])
    data = encode(a_copy(a_set(LISTED, lists=lists)))
    assert b"Jane" not in data
    assert b"joe" not in data


def test_lists_that_are_too_large_are_kept_by_their_hash() -> None:
    rules = a_set(LISTED, lists=LISTS)
    copy = decode(encode(a_copy(rules, largest_bytes=20)))
    assert copy.lists is None
    assert version_of(restore(copy, CATALOGUE, Mode.LIVE, LISTS)) == version_of(rules)
    for present in (None, some_lists(blocked=["card_9"])):
        with pytest.raises(Misconfigured, match=r"by their hash \w+ alone, being too large"):
            restore(copy, CATALOGUE, Mode.LIVE, present)


def test_rules_with_a_card_number_are_not_copied() -> None:
    rules = a_set(a_rule("one", "true", reason={"code": "one", "text": "as 4111111111111111 did"}))
    assert copy_of(rules, NOW_MS, "host-1") is None
    store, news = FakeAcceptedRules(), KeptRuleNews()
    judged: SimpleQueue[Judged] = SimpleQueue()
    judged.put(Judged(rules))
    judged.put(Judged(a_set(EVERY), rules))
    Keeper(store, "host-1", FakeClock(), news).note(judged)
    assert store.read() is None
    assert news.told == ["not kept: its text holds a card number"] * 2


@pytest.mark.parametrize("data", [b"", b"{}", b"nonsense"])
def test_what_is_no_copy_is_refused(data: bytes) -> None:
    with pytest.raises(Misconfigured, match="last good copy"):
        decode(data)


def test_a_copy_of_another_format_is_refused() -> None:
    data = encode(a_copy(a_set(LARGE))).replace(b'"format":1', b'"format":2')
    with pytest.raises(Misconfigured, match="format 2, expected format 1"):
        decode(data)


@pytest.mark.parametrize("mode", [Mode.SHADOW, Mode.OFF])
def test_a_set_in_another_mode_is_another_version(mode: Mode) -> None:
    assert version_of(a_set(LARGE, mode=mode)) != version_of(a_set(LARGE))
    copy = a_copy(a_set(LARGE, mode=mode))
    assert restore(copy, CATALOGUE, Mode.LIVE, None).mode is mode


def test_a_first_start_takes_the_files_and_keeps_them() -> None:
    instance = Instance(LARGE)
    worker = instance.start()
    assert (ids(worker.begun.rules), worker.begun.before) == (["large"], None)
    assert kept(instance.store) == ["large"]
    (copy,) = instance.news.kept
    assert copy.by == "host-1"


def test_a_start_on_the_same_files_has_nothing_to_watch() -> None:
    instance = Instance(LARGE)
    instance.start()
    assert instance.begin().before is None


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("rules: [", "rules.yaml:1"),
        (text_of(a_rule("bad", "f.nothing > 1.0")), "rules.yaml"),
        (text_of(a_rule("bad", "tx.card_id in lists.absent")), "rules.yaml"),
        (text_of(a_rule("bad", "f.amount > 'much'")), "rules.yaml"),
    ],
)
def test_a_start_on_broken_files_goes_on_with_the_copy_and_says_why(text: str, place: str) -> None:
    instance = Instance(LARGE)
    instance.start()
    instance.rules.put("rules.yaml", text)
    begun = instance.begin()
    assert ids(begun.rules) == ["large"]
    assert begun.copy is not None
    assert begun.problems
    assert begun.problems[0].source.startswith(place)


def test_a_start_on_a_broken_list_goes_on_with_the_copy_of_both() -> None:
    instance = Instance(LISTED)
    instance.start()
    instance.lists.put("blocked.ndjson", "nonsense")
    begun = instance.begin()
    assert ids(begun.rules) == ["listed"]
    assert begun.rules.lists.ends == {"blocked": {"card_1": float("inf")}}


def test_a_start_without_an_answer_goes_on_with_the_copy_and_takes_the_files_when_they_answer() -> (
    None
):
    instance = Instance(LARGE)
    instance.start()
    instance.rules.put("rules.yaml", text_of(LARGE, LISTED))
    instance.rules.down = True
    worker = instance.start()
    assert ids(worker.book.active) == ["large"]
    assert [problem.key for problem in worker.begun.problems] == ["rules.path, rules.lists"]
    instance.rules.down = False
    worker.poll()
    assert ids(worker.book.active) == ["large", "listed"]


def test_lists_that_do_not_answer_either_leave_the_copy_to_itself() -> None:
    instance = Instance(LARGE)
    instance.start()
    instance.lists.down = True
    assert ids(instance.begin().rules) == ["large"]


def test_without_a_copy_broken_files_refuse_the_start() -> None:
    instance = Instance(a_rule("bad", "f.nothing > 1.0"))
    with pytest.raises(Misconfigured, match="rule bad"):
        instance.begin()
    instance.rules.down = True
    with pytest.raises(Unavailable):
        instance.begin()


def test_a_store_that_does_not_answer_is_waited_for() -> None:
    instance = Instance(LARGE)
    instance.store.down = True
    with pytest.raises(Unavailable):
        instance.begin()


@pytest.mark.parametrize("reachable", [True, False])
def test_a_copy_of_other_features_is_useless_and_both_are_named(reachable: bool) -> None:  # noqa: FBT001 - a parameter
    instance = Instance(LARGE)
    instance.start()
    other = build_catalogue([Fact("f.count", Type.NUMBER, "", 1.0)], "EUR", [])
    instance.rules.put("rules.yaml", text_of(a_rule("bad", "f.nothing > 1.0")))
    instance.rules.down = not reachable
    with pytest.raises(Misconfigured) as refused:
        begin(RuleSource(instance.rules, instance.lists, other), instance.store)
    first, second = refused.value.problems
    assert first.source.startswith("rules.yaml" if reachable else "fake")
    assert second.source.startswith("last good copy of ")
    assert second.key.startswith("rule large")


def test_good_files_need_no_copy_that_can_be_used() -> None:
    instance = Instance(LARGE)
    instance.store.keep("old", b"another version wrote this")
    begun = instance.begin()
    assert (ids(begun.rules), begun.before) == (["large"], None)


def test_files_that_differ_at_the_start_are_watched_like_any_change() -> None:
    instance = Instance(LARGE)
    instance.start()
    instance.rules.put("rules.yaml", text_of(EVERY))
    worker = instance.start()
    assert ids(worker.begun.before) == ["large"]
    assert kept(instance.store) == ["large"]
    assert worker.decide(1.0, 1.0, 1.0) == [Outcome.DECLINE, Outcome.DECLINE, Outcome.APPROVE]
    assert ids(worker.book.tripped) == ["every"]
    assert kept(instance.store) == ["large"]


def test_a_set_becomes_the_last_good_one_when_it_has_passed_its_watch() -> None:
    instance = Instance(LARGE)
    worker = instance.start(window=3)
    instance.rules.put("rules.yaml", text_of(LARGE, NEVER))
    worker.poll()
    worker.decide(1.0, 1.0)
    assert kept(instance.store) == ["large"]
    worker.decide(1.0)
    assert kept(instance.store) == ["large", "never"]


def test_what_tripped_in_one_worker_is_never_kept_by_another() -> None:
    instance = Instance(LARGE)
    one, other = instance.start(share=0.0), instance.start(window=2)
    instance.rules.put("rules.yaml", text_of(EVERY))
    for worker in (one, other):
        worker.poll()
    one.decide(1.0)
    other.decide(2000.0, 2000.0)
    assert ids(other.book.active) == ["every"]
    assert kept(instance.store) == ["large"]
    assert instance.news.told[-1].startswith("not kept: it tripped in another worker")
    later = instance.start()
    assert (ids(later.begun.rules), ids(later.begun.before)) == (["every"], ["large"])


def test_what_was_kept_by_one_worker_and_then_tripped_in_another_is_watched_by_later_ones() -> None:
    instance = Instance(LARGE)
    one, other = instance.start(share=0.0), instance.start(window=2)
    instance.rules.put("rules.yaml", text_of(EVERY))
    for worker in (one, other):
        worker.poll()
    other.decide(2000.0, 2000.0)
    assert kept(instance.store) == ["every"]
    one.decide(1.0)
    assert kept(instance.store) == ["large"]
    assert ids(instance.begin().before) == ["large"]


@pytest.mark.parametrize("mode", ["shadow", "off"])
def test_rules_that_are_turned_down_are_not_the_last_good_ones(mode: str) -> None:
    instance = Instance(LARGE)
    worker = instance.start()
    instance.rules.put("rules.yaml", text_of(EVERY, mode=mode))
    worker.poll()
    worker.poll()
    assert worker.decide(1.0) == [Outcome.APPROVE]
    assert kept(instance.store) == ["large"]
    instance.rules.put("rules.yaml", "rules: [")
    assert instance.start().decide(2000.0) == [Outcome.DECLINE]


@pytest.mark.parametrize("mode", ["shadow", "off"])
def test_leaving_the_kill_switch_in_an_attack_trips_nothing(mode: str) -> None:
    instance = Instance(LARGE)
    worker = instance.start(share=0.0, window=4)
    instance.rules.put("rules.yaml", text_of(LARGE, mode=mode))
    worker.poll()
    assert worker.decide(2000.0) == [Outcome.APPROVE]
    instance.rules.put("rules.yaml", text_of(LARGE, NEVER))
    worker.poll()
    assert worker.decide(*[2000.0] * 6) == [Outcome.DECLINE] * 6
    assert worker.book.tripped is None
    assert kept(instance.store) == ["large", "never"]


@pytest.mark.parametrize("mode", ["shadow", "off"])
def test_what_leaves_the_kill_switch_over_a_restart_is_compared_with_the_last_live_set(
    mode: str,
) -> None:
    instance = Instance(LARGE)
    instance.start()
    instance.rules.put("rules.yaml", text_of(LARGE, mode=mode))
    worker = instance.start(share=0.0, window=4)
    instance.rules.put("rules.yaml", text_of(EVERY))
    worker.poll()
    assert worker.decide(2000.0, 1.0, 2000.0) == [Outcome.DECLINE] * 3
    assert ids(worker.book.tripped) == ["every"]
    assert ids(worker.book.active) == ["large"]


def test_a_copy_that_decides_nothing_is_nothing_to_compare_with() -> None:
    instance = Instance(LARGE)
    copy = a_copy(a_set(NEVER, mode=Mode.OFF))
    instance.store.keep(copy.version, encode(copy))
    assert instance.begin().before is None


def test_what_a_person_accepts_is_taken_over_where_it_tripped_and_by_later_workers() -> None:
    instance = Instance(LARGE)
    worker = instance.start(share=0.0)
    instance.rules.put("rules.yaml", text_of(EVERY))
    worker.poll()
    worker.decide(1.0)
    assert ids(worker.book.active) == ["large"]
    copy = copy_of(instance.source().load(), NOW_MS, "jane", by_hand=True)
    assert copy is not None
    instance.store.accept(copy.version, encode(copy))
    worker.poll()
    assert ids(worker.book.active) == ["every"]
    assert worker.decide(1.0, 1.0, 1.0) == [Outcome.DECLINE] * 3
    later = instance.begin()
    assert (ids(later.rules), later.before) == (["every"], None)


def test_a_store_that_is_down_is_told_later() -> None:
    instance = Instance(LARGE)
    worker = instance.start(share=0.0)
    instance.rules.put("rules.yaml", text_of(EVERY))
    worker.poll()
    instance.store.down = True
    worker.decide(1.0)
    assert instance.store.tripped == []
    assert "unreachable fake" in instance.news.told
    instance.store.down = False
    worker.poll()
    assert len(instance.store.tripped) == 1


def test_a_second_change_is_measured_against_the_last_one_that_passed() -> None:
    book: RuleBook = a_book(LARGE, share=0.2, window=10)
    book.offer(a_set(LARGE, NEVER))
    book.turn()
    book.offer(a_set(EVERY))
    book.turn()
    assert [book.decide(a_case(1.0))[0].outcome for _ in range(4)][-1] is Outcome.APPROVE
    assert ids(book.active) == ["large"]
