"""Parameters of a search: what is refused by name, and pages that neither repeat nor leave out."""

from collections.abc import Mapping

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.api.problems import Refused
from consumer.api.searching import next_cursor, read_search
from consumer.model import LabelValue, Outcome
from consumer.pan import PanGuard, PanKey
from consumer.query import Order, Page, Query, Range

GUARDED = ("card_id", "merchant_id", "device_id")
CARD = "4111111111111111"


def read(told: Mapping[str, str], guard: PanGuard | None = None) -> Query:
    return read_search(told, guard or PanGuard(), GUARDED).query


def test_everything_may_be_asked_for_at_once() -> None:
    query = read(
        {
            "card": "card_1",
            "decision": "decline",
            "label": "fraud",
            "amount_min": "10",
            "fraud_score_max": "0.9",
            "since": "2026-06-01T12:00:00Z",
            "sort": "fraud_score",
            "order": "asc",
            "limit": "7",
        }
    )
    assert query == Query(
        card="card_1",
        decision=Outcome.DECLINE,
        label=LabelValue.FRAUD,
        amount=Range(10, None),
        fraud_score=Range(None, 0.9),
        time_ms=Range(1_780_315_200_000, None),
        order=Order.FRAUD_SCORE,
        ascending=True,
        limit=7,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("card", ""),
        ("card", "a\0b"),
        ("card", "x" * 257),
        ("card", CARD),
        ("reason", ""),
        ("reason", CARD),
        ("decision", "perhaps"),
        ("label", ""),
        ("amount_min", "-1"),
        ("amount_max", "nan"),
        ("amount_max", "1e16"),
        ("amount_max", "\u0661"),
        ("since", "yesterday"),
        ("since", "2026-06-01T12:00:00"),
        ("sort", "card"),
        ("order", "up"),
        ("limit", "0"),
        ("limit", "201"),
        ("limit", "1e1"),
        ("limit", "\u0661"),
        ("cursor", "????"),
        ("cursor", "WyJ4Iiw"),
        ("cursor", "W10"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_by_its_name(name: str, value: str) -> None:
    with pytest.raises(Refused) as refused:
        read({name: value})
    (error,) = refused.value.problem.errors
    assert error.field == name
    assert not value or value not in error.found


def test_a_range_that_is_empty_is_refused() -> None:
    with pytest.raises(Refused, match="not as it has to be"):
        read({"amount_min": "2", "amount_max": "1"})


def test_a_card_number_is_searched_for_by_its_tokens() -> None:
    keys = PanKey("new", b"n" * 32), PanKey("old", b"o" * 32)
    query = read({"card": CARD}, PanGuard(keys))
    assert query.card == keys[0].token(CARD)
    assert query.former_tokens == {"card": (keys[1].token(CARD),)}


def test_a_cursor_of_another_search_is_refused() -> None:
    search = read_search({"card": "card_1", "limit": "1"}, PanGuard(), GUARDED)
    cursor = next_cursor(search, Page(5, (a_document(1, 1),)))
    assert cursor is not None
    assert read({"card": "card_1", "limit": "3", "cursor": cursor}).limit == 3
    with pytest.raises(Refused):
        read({"card": "card_2", "cursor": cursor})


def a_document(number: int, value: int) -> bytes:
    return orjson.dumps(
        {"id": number, "event_ms": value, "transaction": {"base_amount": float(value)}}
    )


def answer(query: Query, values: list[int]) -> Page:
    """What the index would answer on documents of *values*, ties in the order of their number."""
    limits = query.time_ms if query.order is Order.TIME else query.amount
    low = -1 if limits.low is None else limits.low
    high = 1e18 if limits.high is None else limits.high
    found = [(value, number) for number, value in enumerate(values) if low <= value <= high]
    found.sort(key=lambda each: (each[0] if query.ascending else -each[0], each[1]))
    shown = found[query.offset : query.offset + query.limit]
    return Page(len(found), tuple(a_document(number, value) for value, number in shown))


@given(
    st.lists(st.integers(0, 4), max_size=30),
    st.integers(1, 5),
    st.sampled_from(["time", "amount"]),
    st.sampled_from(["asc", "desc"]),
)
def test_pages_by_cursor_are_everything_once(
    values: list[int], limit: int, sort: str, order: str
) -> None:
    told = {"limit": str(limit), "sort": sort, "order": order}
    seen: list[int] = []
    cursor: str | None = ""
    while cursor is not None:
        search = read_search(told | ({"cursor": cursor} if cursor else {}), PanGuard(), GUARDED)
        page = answer(search.query, values)
        seen += [orjson.loads(each)["id"] for each in page.documents]
        cursor = next_cursor(search, page)
        assert len(seen) <= len(values)
    assert sorted(seen) == list(range(len(values)))


def test_what_comes_in_meanwhile_neither_repeats_nor_hides_a_document() -> None:
    told, values = {"limit": "2"}, [5, 4, 4, 3]
    search = read_search(told, PanGuard(), GUARDED)
    first = answer(search.query, values)
    cursor = next_cursor(search, first)
    assert cursor is not None
    search = read_search(told | {"cursor": cursor}, PanGuard(), GUARDED)
    second = answer(search.query, [*values, 9, 8, 7])
    assert [orjson.loads(each)["id"] for each in (*first.documents, *second.documents)] == [
        *(0, 1, 2, 3),
    ]
