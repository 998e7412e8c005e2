"""Named lists: lines, ends, and changes that somebody answers for."""

import argparse
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from consumer.errors import Misconfigured, Unavailable
from consumer.lists_command import Change, parse_until
from consumer.rules.list_values import fields_in, objection
from consumer.rules.lists import Entry, add_entry, build_lists, parse_list, remove_value
from consumer.settings import Events
from tests.fakes.texts import FakeTexts
from tests.rulebook import CATALOGUE, a_rule, a_specification, some_lists

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
END = datetime(2026, 12, 31, tzinfo=UTC)
FILE = b"""\
# Cards that were reported stolen.
{"value": "card_1"}

{"value": "card_2", "until": "2026-12-31T00:00:00Z", "reason": "stolen"}
"""


def test_a_line_is_an_entry_and_comments_are_none() -> None:
    entries = parse_list("blocked_cards", FILE, "blocked_cards.ndjson")
    assert entries == {"card_1": Entry("card_1"), "card_2": Entry("card_2", END, "stolen")}


def test_a_later_line_about_a_value_stands() -> None:
    data = FILE + b'{"value": "card_1", "reason": "again"}\n'
    assert parse_list("blocked_cards", data, "x")["card_1"].reason == "again"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"card_1", "malformed"),
        (b'{"value": "card_1", "untill": "2026-12-31T00:00:00Z"}', "untill"),
        (b'{"value": ""}', "an empty value"),
        (b'{"value": "a", "until": "2026-12-31T00:00:00"}', "a time without a zone"),
        (b'{"value": "4111111111111111"}', "a card number"),
        (b'{"value": "a", "reason": "was 4111 1111 1111 1111"}', "a card number"),
    ],
)
def test_a_wrong_line_is_refused_at_its_number_without_a_card_number(
    line: bytes, message: str
) -> None:
    with pytest.raises(Misconfigured) as refused:
        parse_list("blocked", FILE + line, "blocked.ndjson")
    (problem,) = refused.value.problems
    assert problem.source == "blocked.ndjson:5"
    assert message in problem.found
    assert "4111" not in str(problem)


def test_a_list_has_a_name_that_rules_can_write() -> None:
    with pytest.raises(Misconfigured, match="lower-case words"):
        parse_list("Blocked-Cards", b"", "Blocked-Cards.ndjson")


def test_an_entry_counts_until_its_end() -> None:
    entry = Entry("a", until=END)
    assert entry.counts(NOW)
    assert not entry.counts(END)
    assert Entry("a").counts(END)


def test_lists_are_equal_whatever_the_order_of_their_lines() -> None:
    one = build_lists({"l": [Entry("a"), Entry("b", END)]})
    other = build_lists({"l": [Entry("b", END, reason="why"), Entry("a")]})
    assert one.hash == other.hash
    assert one.hash != build_lists({"l": [Entry("a"), Entry("b")]}).hash
    assert one.ends["l"]["b"] == END.timestamp()


def test_adding_keeps_comments_and_replaces_the_entry_of_the_value() -> None:
    data = add_entry(FILE.rstrip(), Entry("card_1", END))
    assert data.startswith(b"# Cards that")
    assert parse_list("l", data, "x")["card_1"] == Entry("card_1", END)
    assert data.count(b"card_1") == 1
    assert add_entry(b"", Entry("a")) == b'{"value":"a"}\n'


def test_removing_what_is_not_there_says_so() -> None:
    assert remove_value(FILE, "card_9") is None
    assert b"card_1" not in (remove_value(FILE, "card_1") or b"card_1")


def a_change(texts: FakeTexts) -> Change:
    return Change(texts, who="ada@desk", now=NOW)


def test_a_change_is_audited_with_who_when_what_and_why() -> None:
    texts = FakeTexts("lists", blocked__ndjson="")
    entry = Entry("card_1", END, "stolen")
    assert a_change(texts).add("blocked", entry, create=False)
    assert a_change(texts).remove("blocked", "card_1", "found again")
    added, removed = (orjson.loads(line) for line in texts.audit)
    assert added == {
        "at": "2026-06-01T12:00:00+00:00",
        "by": "ada@desk",
        "action": "add",
        "list": "blocked",
        "value": "card_1",
        "reason": "stolen",
        "until": "2026-12-31T00:00:00+00:00",
    }
    assert (removed["action"], removed["reason"]) == ("remove", "found again")
    assert texts.read("blocked.ndjson") == b""


def test_the_entry_itself_says_who_added_it() -> None:
    texts = FakeTexts("lists")
    assert a_change(texts).add("blocked", Entry("card_1"), create=True)
    entry = parse_list("blocked", texts.read("blocked.ndjson"), "x")["card_1"]
    assert (entry.by, entry.at) == ("ada@desk", NOW)


def test_a_list_is_begun_only_when_that_is_meant() -> None:
    texts = FakeTexts("lists")
    assert not a_change(texts).add("bloked", Entry("card_1"), create=False)
    assert texts.versions() == {}


def test_what_is_not_there_is_not_removed_and_not_audited() -> None:
    texts = FakeTexts("lists", blocked__ndjson="")
    assert not a_change(texts).remove("blocked", "card_1", None)
    assert not a_change(texts).remove("nowhere", "card_1", None)
    assert texts.audit == []


@pytest.mark.parametrize(("name", "value"), [("blocked", "4111111111111111"), ("Bad-Name", "a")])
def test_neither_card_numbers_nor_odd_names_get_in(name: str, value: str) -> None:
    with pytest.raises(Misconfigured):
        a_change(FakeTexts("lists")).add(name, Entry(value), create=True)


def test_a_list_that_changed_meanwhile_is_not_overwritten() -> None:
    class Racing(FakeTexts):
        def read(self, name: str) -> bytes:
            data = super().read(name)
            self.put(name, '{"value": "other"}\n')
            return data

    with pytest.raises(Unavailable, match="changed meanwhile"):
        a_change(Racing("lists", l__ndjson="")).add("l", Entry("a"), create=False)


def test_an_entry_of_a_value_that_is_there_replaces_it_and_says_so() -> None:
    texts = FakeTexts("lists", blocked__ndjson="")
    change = a_change(texts)
    assert change.add("blocked", Entry("card_1"), create=False) == "added"
    assert change.add("blocked", Entry("card_1", END), create=False) == "replaced"


def test_a_while_counts_from_now() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    assert timedelta(0) <= parse_until("30d") - before - timedelta(days=30) < timedelta(hours=1)
    assert timedelta(0) <= parse_until("12h") - before - timedelta(hours=12) < timedelta(hours=1)


@pytest.mark.parametrize("text", ["tomorrow", "30 days", "0d", "99999w9", "", "99999w" * 2])
def test_another_end_is_refused_with_the_forms_it_may_have(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"a day \(2026-12-31\).*30d\)"):
        parse_until(text)


RULES = a_specification(
    a_rule("countries", "tx.country in lists.places"),
    a_rule("cards", "tx.card_id in lists.ids || tx.device_id in lists.ids"),
    a_rule("types", "tx.merchant_category in lists.kinds || tx.currency in lists.money"),
    a_rule("addresses", "tx.ip_address in lists.hosts || tx.channel in lists.words"),
    a_rule("free", "has(tx.loyalty) && tx.loyalty in lists.levels"),
)
EMPTY = some_lists(places=[], ids=[], kinds=[], money=[], hosts=[], words=[], levels=[], unused=[])


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("places", "DE", None),
        ("places", "germany", "tx.country: two upper-case letters, such as DE"),
        ("places", "de", "tx.country: two upper-case letters, such as DE"),
        ("ids", "card_1", None),
        ("ids", "card 1", "tx.card_id: an identifier that matches"),
        ("kinds", "5411", None),
        ("kinds", "groceries", "tx.merchant_category: four digits, such as 5411"),
        ("money", "EUR", None),
        ("money", "euro", "tx.currency: an ISO 4217 code, such as EUR"),
        ("hosts", "203.0.113.7", None),
        ("hosts", "2001:db8::1", None),
        ("hosts", "2001:DB8:0::1", "tx.ip_address: 2001:db8::1"),
        ("hosts", "router", "tx.ip_address: an address, as 203.0.113.7"),
        ("words", "ecommerce", None),
        ("words", "by phone", "tx.channel: one word, such as ecommerce"),
        ("levels", "any thing", None),
        ("unused", "any thing", None),
    ],
)
def test_a_value_has_the_form_of_the_fields_that_rules_look_up_in_the_list(
    name: str, value: str, expected: str | None
) -> None:
    fields = fields_in(name, RULES, EMPTY, CATALOGUE)
    said = objection(value, fields, Events())
    assert (said is None) if expected is None else (said or "").startswith(expected)


def test_a_day_ends_at_its_beginning_in_utc() -> None:
    assert parse_until("2026-12-31") == END
    assert parse_until("2026-12-31T01:00:00+01:00") == END
