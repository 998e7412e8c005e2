"""
What goes wrong between a payment and the stream: repeats, delays and rubbish.

The counts are exact: of n transactions, ``round(n * share)`` are repeated.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import numpy as np

from consumer.local.simulator.columns import HOUR_MS, MINUTE_MS, Columns, Floats, Ints
from consumer.local.simulator.events import Encoder, Event, Labels, RecordKind
from consumer.local.simulator.malformed import SPOILERS, spoil

LATE_LIMIT_MS = 20 * HOUR_MS
"""Well inside the id horizon of 25 hours, so that a late event still counts."""
_TOO_LATE_MS = (25 * HOUR_MS + 30 * MINUTE_MS, 72 * HOUR_MS)
_CHUNK = 4_096

_TRANSACTION, _LABEL, _DUPLICATE, _MALFORMED = range(4)


@dataclass(frozen=True, slots=True)
class Faults:
    """
    Shares of the live transactions that are sent again, held back, or joined by
    a malformed record.

    ``late`` ones come at most 20 hours behind a newer event of their card;
    ``too_late`` ones more than 25, beyond the id horizon, so that they are
    decided but no longer counted.
    """

    duplicates: float = 0.0
    malformed: float = 0.0
    late: float = 0.0
    too_late: float = 0.0

    def extra_records(self, transactions: int) -> int:
        """How many records more than the *transactions* themselves are sent."""
        return round(self.duplicates * transactions) + round(self.malformed * transactions)


NO_FAULTS = Faults()


@dataclass(frozen=True, slots=True)
class _Schedule:
    """What to send in which order: *what* it is and the row, label or number it is about."""

    what: Ints
    index: Ints
    held_ms: Ints


def disturbed(
    encoder: Encoder, rows: Ints, labels: Labels, faults: Faults, rng: np.random.Generator
) -> Iterator[Event]:
    """The transactions *rows* and *labels* by time, with *faults* worked in."""
    if len(rows) == 0:
        return encoder.labels(labels)
    schedule = _schedule(encoder.columns, rows, labels, faults, rng)
    kinds = rng.permutation(list(SPOILERS)).tolist()
    return _encoded(encoder, schedule, labels, kinds)


def _schedule(
    columns: Columns, rows: Ints, labels: Labels, faults: Faults, rng: np.random.Generator
) -> _Schedule:
    held_ms = _held(columns.take(rows), faults, rng)
    sent_ms = np.concatenate([columns.time_ms[rows] + held_ms, labels.time_ms])
    # Places in the stream: whole numbers for what is sent in turn, and
    # fractions for what comes between.
    place = np.empty(len(sent_ms))
    place[np.argsort(sent_ms, kind="stable")] = np.arange(len(sent_ms))
    repeated = _chosen(rng, np.arange(len(rows)), round(faults.duplicates * len(rows)))
    spoilt = rng.integers(0, len(rows), round(faults.malformed * len(rows)))
    again = place[repeated] + _repeat_distance(rng, len(repeated)) + 0.5
    between = rng.uniform(0.0, len(sent_ms), len(spoilt))
    order = np.argsort(np.concatenate([place, again, between]), kind="stable")
    kinds = (len(rows), len(labels), len(repeated), len(spoilt))
    return _Schedule(
        what=np.repeat([_TRANSACTION, _LABEL, _DUPLICATE, _MALFORMED], kinds)[order],
        index=np.concatenate([rows, np.arange(len(labels)), rows[repeated], rows[spoilt]])[order],
        held_ms=np.concatenate(
            [held_ms, np.zeros(len(labels), np.int64), held_ms[repeated], held_ms[spoilt] * 0]
        )[order],
    )


def _repeat_distance(rng: np.random.Generator, n: int) -> Floats:
    """
    How many records later each repeat comes: at once, as from a retry, or up to
    thousands later, as from a restarted producer.
    """
    return np.floor(np.exp(rng.uniform(0.0, np.log(5_000.0), n)))


def _chosen(rng: np.random.Generator, candidates: Ints, n: int) -> Ints:
    """*n* of *candidates*, all of them when there are fewer."""
    return np.sort(rng.permutation(candidates)[:n])


def _held(live: Columns, faults: Faults, rng: np.random.Generator) -> Ints:
    """How long each transaction is held back so that a newer one of its card overtakes it."""
    n = len(live)
    held_ms = np.zeros(n, dtype=np.int64)
    gap_ms = _until_next(live)
    low, high = _TOO_LATE_MS
    too_late = _chosen(
        rng, np.flatnonzero((gap_ms > low) & (gap_ms < high)), round(faults.too_late * n)
    )
    held_ms[too_late] = gap_ms[too_late] + MINUTE_MS
    # A minute is left for the overtaking one to be sent first.
    near = (gap_ms < LATE_LIMIT_MS - MINUTE_MS) & (held_ms == 0)
    late = _chosen(rng, np.flatnonzero(near), round(faults.late * n))
    shortest = gap_ms[late] + 1
    held_ms[late] = shortest + (rng.random(len(late)) ** 2 * (LATE_LIMIT_MS - shortest)).astype(
        np.int64
    )
    return held_ms


def _until_next(live: Columns) -> Ints:
    """
    Milliseconds from each transaction to the next of its card; a very long time
    for the last one and for every other one: were two in a row held back, the
    second might not overtake the first.
    """
    order = np.lexsort((live.time_ms, live.card))
    place = np.arange(len(live))
    follows = live.card[order][1:] == live.card[order][:-1]
    first = np.concatenate([[True], ~follows])
    rank = place - np.maximum.accumulate(np.where(first, place, 0))
    gap = np.full(len(live), np.iinfo(np.int64).max)
    step = np.diff(live.time_ms[order])
    gap[order[:-1]] = np.where(follows & (rank[:-1] % 2 == 0), step, gap[order[:-1]])
    return gap


def _encoded(
    encoder: Encoder, schedule: _Schedule, labels: Labels, kinds: list[str]
) -> Iterator[Event]:
    spoilt_before = 0
    for start in range(0, len(schedule.what), _CHUNK):
        what = schedule.what[start : start + _CHUNK]
        index = schedule.index[start : start + _CHUNK]
        held_ms = schedule.held_ms[start : start + _CHUNK]
        bodies = encoder.transactions(index[what != _LABEL], held_ms[what != _LABEL])
        statements = encoder.labels(labels.take(index[what == _LABEL]))
        for item in what.tolist():
            if item == _LABEL:
                yield next(statements)
                continue
            event = next(bodies)
            if item == _DUPLICATE:
                event = msgspec.structs.replace(event, record=RecordKind.DUPLICATE)
            elif item == _MALFORMED:
                event = _spoilt(encoder, event, spoilt_before, kinds)
                spoilt_before += 1
            yield event


def _spoilt(encoder: Encoder, event: Event, number: int, kinds: list[str]) -> Event:
    wrong = kinds[number % len(kinds)]
    (transaction_id,) = encoder.transaction_ids(np.array([len(encoder.columns) + number]))
    return msgspec.structs.replace(
        event,
        data=spoil(event.data, wrong, transaction_id),
        record=RecordKind.MALFORMED,
        transaction_id=transaction_id,
        fraud=False,
        pattern="",
        malformed=wrong,
    )
