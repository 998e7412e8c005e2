"""Records of a card stay in order, whatever the stream refuses."""

import random
import threading
from collections import Counter
from collections.abc import Sequence
from typing import cast

import pytest

from consumer.errors import Unavailable
from consumer.model import Label, Transaction
from consumer.patience import Patience
from consumer.replay.chunks import Chunk, Phase
from consumer.replay.stream_target import StreamTarget
from tests.builders import a_label, a_transaction
from tests.fakes.clock import FakeClock


class RefusingStream:
    """Takes a record with a chance of *share*, each call in some order of its own."""

    def __init__(self, share: float) -> None:
        self.taken: list[tuple[str, bytes]] = []
        self.calls: Counter[int] = Counter()
        self._share = share
        self._chance = random.Random(3)
        self._lock = threading.Lock()

    def put(self, entries: Sequence[tuple[str, bytes]]) -> list[str | None]:
        with self._lock:
            self.calls[len(entries)] += 1
            codes: list[str | None] = ["throttled"] * len(entries)
            for place in self._chance.sample(range(len(entries)), len(entries)):
                if self._chance.random() < self._share:
                    codes[place] = None
                    self.taken.append(entries[place])
            return codes


def patience(clock: FakeClock) -> Patience:
    return Patience(clock, clock.sleep, 60, lambda _error, _waited_s: None)


def chunk_of(events: Sequence[Transaction | Label], phase: Phase = Phase.FULL) -> Chunk:
    count = len(events)
    data = [str(number).encode() for number in range(count)]
    return Chunk(phase, count, list(events), list(range(count)), [0] * count, data)


def test_records_of_a_card_arrive_in_order_though_many_are_refused() -> None:
    chance = random.Random(1)
    events = [
        a_transaction(number, card_id=f"card_{chance.randrange(200)}") for number in range(9_000)
    ]
    stream = RefusingStream(0.6)
    target = StreamTarget(stream, patience(FakeClock()))
    target.work(chunk_of(events))
    target.save()
    target.close()
    assert len(stream.taken) == len(events)
    for card in {event.card_id for event in events}:
        expected = [str(n).encode() for n, event in enumerate(events) if event.card_id == card]
        assert [data for key, data in stream.taken if key == card] == expected
    assert max(stream.calls) <= 500
    assert target.counts["sent"] == len(events)


def test_a_stream_that_goes_on_refusing_ends_the_replay() -> None:
    clock = FakeClock()
    target = StreamTarget(RefusingStream(0), patience(clock))
    target.work(chunk_of([a_transaction(1)]))
    with pytest.raises(Unavailable, match="1 records were refused: throttled"):
        target.save()
    target.close()
    assert clock.monotonic_s() >= 60


def test_what_is_due_goes_at_once_also_when_it_fills_no_call() -> None:
    stream = RefusingStream(1)
    target = StreamTarget(stream, patience(FakeClock()))
    target.work(chunk_of([a_transaction(1)]))
    target.close()
    assert stream.taken == [("card_1", b"0")]


def test_a_label_goes_where_its_card_does_and_warm_up_nowhere() -> None:
    stream = RefusingStream(1)
    target = StreamTarget(stream, patience(FakeClock()))
    events = [
        a_label(1, keys={"card_id": "card_9"}),
        a_label(2),
    ]
    target.work(chunk_of([a_transaction(5)], Phase.WARM))
    target.work(chunk_of(cast("list[Transaction | Label]", events)))
    target.save()
    target.close()
    assert sorted(key for key, _ in stream.taken) == ["card_9", "tx_2"]
    assert target.counts["labels"] == 2
