"""The newest alerts, kept once for all who look."""

import orjson
import pytest

from consumer.alert_log import AlertPage, Entry, parse_cursor, place_of
from consumer.api.alert_ring import AlertRing
from consumer.errors import Rejected


def an_entry(number: int, prediction: str | None = None, *reasons: str) -> Entry:
    alert = {"prediction_id": prediction or f"p{number}", "reasons": list(reasons)}
    return Entry(f"{number}-0", orjson.dumps(alert))


def a_page(*entries: Entry, cursor: str = "", lost: bool = False) -> AlertPage:
    return AlertPage(entries, cursor or entries[-1].cursor, lost)


def a_ring(*numbers: int) -> AlertRing:
    ring = AlertRing()
    ring.begin(a_page(*map(an_entry, numbers), cursor=f"{numbers[-1]}-0"))
    return ring


def cursors(page: AlertPage | None) -> list[str] | None:
    return None if page is None else [each.cursor for each in page.entries]


def test_it_answers_nothing_before_the_stream_was_read() -> None:
    assert AlertRing().after(None, 5) is None
    assert AlertRing().after("1-0", 5) is None


def test_whoever_is_new_gets_the_newest() -> None:
    assert cursors(a_ring(1, 2, 3).after(None, 2)) == ["2-0", "3-0"]
    assert cursors(a_ring(1, 2, 3).after(None, 0)) == []


def test_a_cursor_within_reach_goes_on_after_it() -> None:
    ring = a_ring(10, 11)
    assert ring.add(a_page(an_entry(12), an_entry(13)))
    assert cursors(ring.after("10-0", 9)) == ["11-0", "12-0", "13-0"]
    assert cursors(ring.after("11-5", 9)) == ["12-0", "13-0"]
    assert cursors(ring.after("13-0", 9)) == []


@pytest.mark.parametrize("cursor", ["9-9", "13-1"])
def test_a_cursor_out_of_reach_is_left_to_the_stream(cursor: str) -> None:
    ring = a_ring(10, 11)
    ring.add(a_page(an_entry(13)))
    assert ring.after(cursor, 9) is None


def test_nothing_new_is_told() -> None:
    assert not a_ring(1).add(AlertPage((), "1-0"))


def test_an_alert_that_was_written_twice_is_kept_once() -> None:
    ring = a_ring(1)
    ring.add(a_page(an_entry(2, "p1"), an_entry(3, "p3")))
    assert cursors(ring.after("1-0", 9)) == ["3-0"]
    assert ring.tip == "3-0"


def test_what_is_pushed_out_is_no_longer_within_reach() -> None:
    ring = a_ring(1)
    ring.add(a_page(*(an_entry(number) for number in range(2, ring.size + 3))))
    assert len(ring) == ring.size
    assert ring.after("1-0", 9) is None
    assert cursors(ring.after("2-0", 9)) == [f"{number}-0" for number in range(3, ring.size + 3)]


def test_a_stream_that_lost_entries_is_not_papered_over() -> None:
    ring = a_ring(1, 2)
    assert ring.add(a_page(an_entry(9), lost=True))
    assert ring.after("2-0", 9) is None
    assert cursors(ring.after("9-0", 9)) == []
    assert cursors(ring.after(None, 9)) == ["9-0"]


def test_reasons_are_counted_over_what_is_kept() -> None:
    ring = AlertRing()
    ring.begin(a_page(an_entry(1, None, "a", "b"), an_entry(2, None, "b")))
    assert ring.top_reasons(5) == [("b", 2), ("a", 1)]


@pytest.mark.parametrize("text", ["", "1", "1-", "-1", "a-b", "1-0 ", "\u0661-0", f"{2**64}-0"])
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(Rejected):
        parse_cursor(text)


def test_cursors_are_ordered_by_their_numbers() -> None:
    assert parse_cursor("007-02") == "7-2"
    assert place_of("9-10") > place_of("9-9")
