"""Which decisions are drawn, which documents are read for them, and the verdict on all."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import orjson
import pytest

from consumer.document import DocumentFormat, build_document
from consumer.errors import Unavailable
from consumer.features.specification import parse_plan
from consumer.features_command import render, to_json
from consumer.model import Applied, Observation
from consumer.query import Query
from consumer.recomputation import Outcome
from consumer.verification import DocumentReader, Verification, Wanted, verify
from tests.builders import NOON, a_transaction, an_assessment, an_origin
from tests.fakes.search import FakeSearch

PLAN = parse_plan(
    """
version: 1
entities: {card: {key: card_id}, shop: {key: merchant_id}}
features:
  - {name: card_count_1m, entity: card, aggregation: count, windows: [1m]}
  - {name: shop_count_1m, entity: shop, aggregation: count, windows: [1m]}
  - {name: night, calendar: night}
""",
    source="verification",
)
NOON_MS = int(NOON.timestamp() * 1000)
LATER_MS = NOON_MS + 2 * 86_400_000
SPAN = (NOON_MS, NOON_MS + 900_000)
APPLIED = (Applied.APPLIED, Applied.APPLIED)


def a_document(
    number: int,
    *,
    every_s: int = 3,
    counts: tuple[float, float] = (1.0, 20.0),
    feature_hash: str = "",
) -> bytes:
    """The *number*-th of a stream of one shop, each by its own card."""
    time = NOON + timedelta(seconds=number * every_s)
    assessment = an_assessment(
        number,
        transaction=a_transaction(number, event_time=time, card_id=f"card_{number}"),
        origin=replace(
            an_origin(number),
            arrival_ms=NOON_MS + number * every_s * 1000 + 50,
            received_ms=NOON_MS + number * every_s * 1000 + 70,
        ),
        decided_ms=NOON_MS + number * every_s * 1000 + 90,
        observation=Observation((*counts, 0.0), APPLIED),
    )
    form = DocumentFormat(PLAN.names, feature_hash or PLAN.hash, "EUR")
    document = orjson.loads(build_document(assessment, form))
    document["stored_ms"] = NOON_MS + number * every_s * 1000 + 99
    return orjson.dumps(document)


def verified(
    documents: Sequence[bytes], number: int = 1_000, *, partial: bool = False, **limits: int
) -> Verification | None:
    store = DocumentReader(FakeSearch(documents, partial=partial), PLAN, **limits)
    return verify(
        store,
        PLAN,
        Wanted(number, (NOON_MS, LATER_MS), 1),
        horizon_s=3_600,
        lifetime_s=7 * 86_400,
        now_ms=LATER_MS,
    )


STREAM = [a_document(n) for n in range(300)]


def test_what_documents_cover_is_compared_and_the_rest_named() -> None:
    found = verified(STREAM)
    assert found is not None
    assert found.sampled == 300
    # The first documents tell where knowledge begins; a minute later windows are covered.
    assert found.since_s == NOON_MS // 1000 + 4 * 3
    tally = found.tallies["shop_count_1m"]
    assert tally.outcomes[Outcome.EQUAL] > 270
    assert tally.outcomes[Outcome.DIFFERENT] == 0
    assert tally.uncovered == {"its window begins before the documents": 24}
    assert found.derived == ["night"]
    assert found.holds(0.0)


def test_reading_by_entity_shows_the_same_as_reading_all() -> None:
    whole, by_entity, newest = (
        DocumentReader(FakeSearch(STREAM), PLAN, most_whole=most, most_of_entity=few)
        for most, few in ((1_000, 1_000), (0, 1_000), (0, 100))
    )
    (drawn,) = whole.sample(Wanted(1, SPAN, 1))
    for entity in PLAN.entities:
        assert whole.known(entity, drawn, 7) == by_entity.known(entity, drawn, 7)
    cut = newest.known(PLAN.entities[1], drawn, 7)
    assert cut.documents == whole.known(PLAN.entities[1], drawn, 7).documents[-100:]
    assert cut.since_s == NOON_MS // 1000 + 200 * 3
    found = verified(STREAM, 60, most_whole=0, most_of_entity=100)
    assert found is not None
    assert found.sampled > 40
    assert found.holds(0.0)
    assert 0 < found.tallies["shop_count_1m"].compared < 40


def test_many_documents_of_one_time_are_all_read() -> None:
    documents = [a_document(n, every_s=0) for n in range(2_300)]
    store = DocumentReader(FakeSearch(documents), PLAN, most_whole=0)
    (drawn,) = store.sample(Wanted(1, SPAN, 4))
    assert len(store.known(PLAN.entities[1], drawn, 0).documents) == 2_300


@pytest.mark.parametrize("most_whole", [1_000, 0])
def test_every_document_is_drawn_as_likely_as_any_other(most_whole: int) -> None:
    thirds: Counter[int] = Counter()
    search = FakeSearch(STREAM)
    store = DocumentReader(search, PLAN, most_whole=most_whole)
    for seed in range(15):
        drawn = store.sample(Wanted(20, SPAN, seed))
        assert len({each.event.transaction_id for each in drawn}) == 20
        thirds.update((each.event_ms - NOON_MS) // 300_000 for each in drawn)
    assert sum(thirds.values()) == 300
    assert all(70 < thirds[third] < 130 for third in range(3))
    assert store.sample(Wanted(5, SPAN, 3)) == store.sample(Wanted(5, SPAN, 3))


def test_a_large_store_is_asked_for_one_document_at_a_time_when_drawing() -> None:
    search = FakeSearch(STREAM)
    DocumentReader(search, PLAN, most_whole=0).sample(Wanted(20, SPAN, 1))
    assert {query.limit for query in search.asked} == {1}
    spans = [(query.time_ms.high or 0) - (query.time_ms.low or 0) for query in search.asked]
    assert max(spans) < 300_000


def test_no_document_in_the_time_is_no_verification() -> None:
    assert verified([]) is None
    old = DocumentReader(FakeSearch(STREAM), PLAN).sample(Wanted(9, (LATER_MS, LATER_MS), 1))
    assert old == []


def test_a_search_that_ran_out_of_time_is_no_answer() -> None:
    with pytest.raises(Unavailable, match="shorter --since"):
        verified(STREAM, partial=True)


def test_documents_of_other_lists_and_other_forms_are_left_out_and_counted() -> None:
    others = [a_document(n, feature_hash="e" * 64) for n in range(100, 110)]
    broken = orjson.dumps({"event_ms": NOON_MS + 1, "transaction": {}})
    found = verified([*STREAM[:100], *others, *STREAM[110:], broken])
    assert found is not None
    assert (found.sampled, found.other_list, found.unreadable) == (290, 10, 1)
    assert found.holds(0.0)


def different(card: int, shop: int) -> Verification:
    """A stream with so many wrong values of cards and of the shop."""
    documents = [
        a_document(n, counts=(2.0 if n < 100 + card else 1.0, 20.0)) for n in range(100, 200)
    ]
    wrong = [a_document(n, counts=(1.0, 21.0)) for n in range(200, 200 + shop)]
    rest = [a_document(n) for n in range(200 + shop, 300)]
    found = verified([*STREAM[:100], *documents, *wrong, *rest])
    assert found is not None
    return found


def test_one_wrong_value_of_a_card_fails_whatever_the_limit() -> None:
    found = different(card=1, shop=0)
    assert not found.holds(1.0)
    assert found.verdict(1.0).startswith("SKEW: 1 values of cards differ")


def test_values_that_several_shards_feed_may_differ_up_to_the_limit() -> None:
    found = different(card=0, shop=6)
    share = found.shared_share
    assert 0.0105 < share < 0.0115
    assert found.holds(share)
    assert not found.holds(share - 1e-6)
    assert "within the limit" in found.verdict(0.02)
    assert found.verdict(0.001).startswith("SKEW: 1.09% of the values differ")


def test_the_report_shows_three_examples_with_both_values_and_a_cause() -> None:
    found = different(card=0, shop=6)
    lines = list(render(found, 0.01))
    at = next(n for n, line in enumerate(lines) if line.startswith("  shop_count_1m: 6 of"))
    assert lines[at + 1].startswith("    tx_20")
    assert len([line for line in lines if "online 21, offline 20; likely" in line]) == 3
    report = to_json(found, 0.01)
    assert report["features"]["shop_count_1m"]["different"] == 6
    assert len(report["features"]["shop_count_1m"]["examples"]) == 3
    assert orjson.loads(orjson.dumps(report))["compared"] == found.compared


def test_nothing_compared_is_no_success() -> None:
    found = verified(STREAM[:5])
    assert found is not None
    assert not found.holds(1.0)
    assert found.verdict(1.0).startswith("NOTHING COULD BE COMPARED")


def test_the_query_for_an_entity_is_by_its_key() -> None:
    search = FakeSearch(STREAM[:40])
    store = DocumentReader(search, PLAN, most_whole=0)
    (drawn,) = store.sample(Wanted(1, SPAN, 4))
    store.known(PLAN.entities[0], drawn, 0)
    assert search.asked[-1].card == drawn.event.keys["card_id"]
    assert Query().limit < search.asked[-1].limit
