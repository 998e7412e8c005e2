"""Which rules decide: taking over, tripping, and looking for new ones."""

import threading

import pytest
import yaml

from consumer.errors import Misconfigured
from consumer.model import Outcome
from consumer.rules.book import RuleBook
from consumer.rules.keeping import Keeper
from consumer.rules.source import RulePoller, RuleSource
from tests.fakes.accepted_rules import FakeAcceptedRules
from tests.fakes.clock import FakeClock
from tests.fakes.texts import FakeTexts
from tests.rulebook import (
    CATALOGUE,
    EVERY,
    LARGE,
    LISTED,
    KeptRuleNews,
    a_book,
    a_case,
    a_rule,
    a_set,
)


def outcomes(book: RuleBook, *amounts: float) -> list[Outcome]:
    return [book.decide(a_case(amount))[0].outcome for amount in amounts]


def test_a_new_set_takes_over_at_the_next_turn_and_not_before() -> None:
    news = KeptRuleNews()
    book = a_book(news=news)
    book.turn()
    book.offer(a_set(LARGE))
    assert outcomes(book, 2000.0) == [Outcome.APPROVE]
    book.turn()
    assert outcomes(book, 2000.0) == [Outcome.DECLINE]
    assert news.told == ["active", "active large"]


def test_a_look_decides_by_the_rules_in_force_and_counts_for_no_watch() -> None:
    news = KeptRuleNews()
    book = a_book(share=0.0, window=1, news=news)
    book.offer(a_set(EVERY))
    book.turn()
    decision, ruled = book.look(a_case(1.0))
    assert decision.outcome is Outcome.DECLINE
    assert [hit.rule_id for hit in ruled.live] == ["every"]
    assert news.told == ["active", "active every"]


def test_of_several_offers_the_last_one_counts() -> None:
    book = a_book()
    book.offer(a_set(EVERY))
    book.offer(a_set(LARGE))
    book.turn()
    assert [each.rule.rule_id for each in book.active.rules] == ["large"]


def test_a_change_that_declines_too_much_gives_way_to_the_version_before_and_is_shadowed() -> None:
    news = KeptRuleNews()
    book = a_book(LARGE, share=0.2, window=10, news=news)
    book.offer(a_set(EVERY))
    book.turn()
    assert outcomes(book, 1.0, 1.0, 1.0) == [Outcome.DECLINE] * 3
    decision, ruled = book.decide(a_case(1.0))
    assert decision.outcome is Outcome.APPROVE
    assert [hit.rule_id for hit in ruled.shadow] == ["every"]
    assert outcomes(book, 2000.0) == [Outcome.DECLINE]
    assert news.told == ["active large", "active every", "active large", "tripped 3 of 3"]


def test_an_attack_that_both_versions_decline_trips_nothing() -> None:
    news = KeptRuleNews()
    book = a_book(LARGE, share=0.0, window=3, news=news)
    book.offer(a_set(LARGE, a_rule("other", "f.amount < 0.0")))
    book.turn()
    assert outcomes(book, 2000.0, 2000.0, 2000.0, 2000.0) == [Outcome.DECLINE] * 4
    assert news.told == ["active large", "active large other"]


def test_after_its_window_a_change_is_no_longer_watched() -> None:
    book = a_book(share=0.0, window=2)
    book.offer(a_set(LARGE))
    book.turn()
    assert outcomes(book, 1.0, 1.0, 2000.0, 2000.0)[2:] == [Outcome.DECLINE] * 2


def test_a_mended_version_ends_the_shadow_of_one_that_tripped() -> None:
    book = a_book(share=0.0, window=5)
    book.offer(a_set(EVERY))
    book.turn()
    outcomes(book, 1.0)
    book.offer(a_set(LARGE))
    book.turn()
    decision, ruled = book.decide(a_case(1.0))
    assert (decision.outcome, ruled.shadow) == (Outcome.APPROVE, ())


def text_of(*rules: object) -> str:
    return yaml.safe_dump({"version": 1, "rules": list(rules)}, sort_keys=False)


class Place:
    """Rules and lists in memory, a book that decides by them, and its poller."""

    def __init__(self) -> None:
        self.rules = FakeTexts("rules.yaml", rules__yaml=text_of(LARGE))
        self.lists = FakeTexts("lists", blocked__ndjson='{"value": "card_1"}\n')
        self.news = KeptRuleNews()
        self.source = RuleSource(self.rules, self.lists, CATALOGUE)
        self.book = a_book(news=self.news)
        self.book.offer(self.source.load())
        self.book.turn()
        self.news.told.clear()
        self.store = FakeAcceptedRules()
        self.keeper = Keeper(self.store, "worker", FakeClock(), self.news)
        self.poller = RulePoller(self.source, self.book, 0.001, self.news, self.keeper)

    def poll(self) -> list[str]:
        self.poller.poll()
        self.book.turn()
        told, self.news.told[:] = list(self.news.told), []
        return told


def test_what_has_not_changed_is_not_read_again() -> None:
    place = Place()
    assert place.poll() == []


def test_a_change_of_the_rules_is_taken_over() -> None:
    place = Place()
    place.rules.put("rules.yaml", text_of(LARGE, EVERY))
    assert place.poll() == ["active large every"]


def test_a_change_of_a_list_is_taken_over() -> None:
    place = Place()
    place.rules.put("rules.yaml", text_of(LISTED))
    place.poll()
    assert outcomes(place.book, 1.0) == [Outcome.DECLINE]
    place.lists.put("blocked.ndjson", "")
    assert place.poll() == ["active listed"]
    assert outcomes(place.book, 1.0) == [Outcome.APPROVE]


def test_a_broken_version_is_refused_once_and_the_old_one_stays() -> None:
    place = Place()
    place.rules.put("rules.yaml", text_of(a_rule("bad", "f.nothing > 1.0")))
    place.lists.put("blocked.ndjson", "nonsense")
    assert place.poll() == ["refused 1"]
    assert place.poll() == []
    assert [each.rule.rule_id for each in place.book.active.rules] == ["large"]
    place.lists.put("blocked.ndjson", "")
    assert place.poll() == ["refused 1"]
    place.rules.put("rules.yaml", text_of(EVERY))
    assert place.poll() == ["active every"]


def test_bytes_that_are_no_text_and_rules_that_are_gone_are_refused() -> None:
    place = Place()
    place.rules.put("rules.yaml", b"\xff")
    assert place.poll() == ["refused 1"]
    place.rules._numbers.clear()
    assert place.poll() == ["refused 1"]


def test_a_version_whose_examples_fail_is_refused_like_a_broken_one() -> None:
    place = Place()
    place.rules.put("rules.yaml", text_of(EVERY, a_rule("wrong", "f.amount > 5.0")))
    assert place.poll() == ["refused 1"]
    assert [each.rule.rule_id for each in place.book.active.rules] == ["large"]
    with pytest.raises(Misconfigured, match="found that it misses, expected hits") as refused:
        place.source.load()
    (problem,) = refused.value.problems
    assert problem.key == "rule wrong: examples.hits[0]"
    assert problem.source.startswith("rules.yaml:")
    # Nor does a change of a list let it in.
    place.lists.put("blocked.ndjson", "")
    assert place.poll() == ["refused 1"]


def test_a_place_that_does_not_answer_is_asked_again() -> None:
    place = Place()
    place.rules.put("rules.yaml", text_of(EVERY))
    place.rules.down = True
    assert place.poll() == ["unreachable fake"]
    place.rules.down = False
    assert place.poll() == ["active every"]


def test_an_outage_while_reading_leaves_the_change_to_the_next_look() -> None:
    class Breaking(FakeTexts):
        broken = True

        def read(self, name: str) -> bytes:
            if self.broken:
                self.broken = False
                raise_unavailable()
            return super().read(name)

    def raise_unavailable() -> None:
        FakeTexts.versions(down)

    down = FakeTexts("down")
    down.down = True
    news = KeptRuleNews()
    source = RuleSource(
        Breaking("rules.yaml", rules__yaml=text_of(EVERY)), FakeTexts("lists"), CATALOGUE
    )
    book = a_book(news=news)
    keeper = Keeper(FakeAcceptedRules(), "worker", FakeClock(), news)
    poller = RulePoller(source, book, 1.0, news, keeper)
    poller.poll()
    poller.poll()
    book.turn()
    assert news.told == ["active", "unreachable fake", "active every"]


def test_the_thread_looks_by_itself_until_it_is_closed() -> None:
    place = Place()
    looked = threading.Event()

    class Looking(FakeTexts):
        def versions(self) -> dict[str, str]:
            looked.set()
            return super().versions()

    source = RuleSource(Looking("rules.yaml", rules__yaml=text_of(EVERY)), place.lists, CATALOGUE)
    poller = RulePoller(source, place.book, 0.001, place.news, place.keeper)
    poller.start()
    assert looked.wait(10)
    poller.close()
    RulePoller(source, place.book, 1.0, place.news, place.keeper).close()
