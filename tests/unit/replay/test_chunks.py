"""Which events of a history are worked, and how they are cut."""

from collections.abc import Iterator

import orjson
import pytest

from consumer.decode import DecodeRules
from consumer.model import Label, Transaction
from consumer.replay.chunks import Chunk, ChunkReader, Phase, Selection
from consumer.settings import Events
from tests.builders import NOON
from tests.fakes.history import FakeHistory

RULES = DecodeRules.of(Events())
NOON_MS = int(NOON.timestamp()) * 1000


def transaction(number: int, **changes: object) -> tuple[int, bytes]:
    fields = {
        "type": "transaction",
        "transaction_id": f"tx_{number}",
        "event_time": f"2026-06-01T12:00:{number:02}Z",
        "card_id": "card_1",
        "merchant_id": "shop_1",
        "amount": "1.00",
        "currency": "EUR",
    }
    return NOON_MS + number * 1000, orjson.dumps(fields | changes)


def label(number: int, of: int) -> tuple[int, bytes]:
    fields = {
        "type": "label",
        "transaction_id": f"tx_{of}",
        "label": "fraud",
        "label_time": f"2026-06-01T12:00:{number:02}Z",
        "source": "analyst",
    }
    return NOON_MS + number * 1000, orjson.dumps(fields)


HISTORY = FakeHistory([*(transaction(number) for number in range(20)), label(15, 3)], size=7)


def read(selection: Selection, *, truths: bool = False, size: int = 4) -> list[Chunk]:
    return list(ChunkReader(HISTORY, selection, RULES, size=size, truths=truths))


def names(chunks: list[Chunk], phase: Phase) -> Iterator[str]:
    for chunk in chunks:
        if chunk.phase is phase:
            for event in chunk.events:
                kind = "label " if isinstance(event, Label) else ""
                yield kind + event.transaction_id


def test_everything_comes_in_order_in_chunks_of_the_wanted_size() -> None:
    chunks = read(Selection())
    assert max(len(chunk.events) for chunk in chunks) == 4
    found = list(names(chunks, Phase.FULL))
    assert found[14:18] == ["tx_14", "label tx_3", "tx_15", "tx_16"]
    assert len(found) == 21
    assert chunks[-1].after == 21


def test_what_lies_before_the_wanted_time_warms_up() -> None:
    chunks = read(Selection(from_ms=NOON_MS + 10_000, to_ms=NOON_MS + 12_000, warm_up_ms=3_000))
    assert list(names(chunks, Phase.WARM)) == ["tx_7", "tx_8", "tx_9"]
    assert list(names(chunks, Phase.FULL)) == ["tx_10", "tx_11"]
    assert chunks[-1].after == 12


def test_everything_before_warms_up_where_nothing_else_is_said() -> None:
    chunks = read(Selection(from_ms=NOON_MS + 2_000))
    assert list(names(chunks, Phase.WARM)) == ["tx_0", "tx_1"]


def test_labels_after_the_end_are_told_to_those_who_join_them() -> None:
    chunks = read(Selection(to_ms=NOON_MS + 5_000), truths=True)
    assert list(names(chunks, Phase.AFTER)) == ["label tx_3"]
    assert list(names(chunks, Phase.FULL)) == [f"tx_{number}" for number in range(5)]
    assert not list(names(read(Selection(to_ms=NOON_MS + 5_000)), Phase.AFTER))


@pytest.mark.parametrize("size", [1, 3, 4, 100])
def test_a_limit_counts_transactions_and_ends_right_behind_the_last(size: int) -> None:
    chunks = read(Selection(limit=16), size=size)
    assert len(list(names(chunks, Phase.FULL))) == 17
    assert chunks[-1].after == 17


def test_a_resume_reads_the_rest_whatever_the_cut() -> None:
    whole = [each for chunk in read(Selection(limit=12)) for each in chunk.ordinals]
    for first in range(12):
        chunks = ChunkReader(HISTORY, Selection(limit=12), RULES, size=5, first=first, taken=first)
        assert [each for chunk in chunks for each in chunk.ordinals] == whole[first:]


def test_an_event_that_the_engine_does_not_take_is_set_aside_with_its_place() -> None:
    history = FakeHistory([transaction(1), transaction(2, amount="1.001"), transaction(3)])
    (chunk,) = ChunkReader(history, Selection(), RULES, size=10)
    assert chunk.ordinals == [0, 2]
    (reject,) = chunk.rejects
    assert (reject.ordinal, reject.code) == (1, "too_many_decimals")
    assert reject.place == "memory, row 2"


def test_a_chunk_is_split_with_the_rejects_where_they_belong() -> None:
    bad = transaction(2, amount="x")
    history = FakeHistory([transaction(1), bad, transaction(3), transaction(4)], size=9)
    (chunk,) = ChunkReader(history, Selection(), RULES, size=10)
    first, rest = chunk.split(1)
    assert (first.after, first.ordinals, first.rejects) == (1, [0], [])
    assert (rest.after, rest.ordinals, len(rest.rejects)) == (4, [2, 3], 1)
    assert first.transactions + rest.transactions == 3
    assert all(isinstance(event, Transaction) for event in rest.events)


def test_a_chunk_spans_less_time_than_ids_are_known() -> None:
    reader = ChunkReader(HISTORY, Selection(limit=7), RULES, size=100, span_ms=2_000)
    assert [chunk.ordinals for chunk in reader] == [[0, 1, 2], [3, 4, 5], [6]]
