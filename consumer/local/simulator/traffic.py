"""
A simulated time of card traffic: a past to learn from and a present to decide on.

The same scenario yields the same bytes on the same version of numpy. A
scenario's time ends at ``end_ms``; its last ``transactions`` are the live
traffic, and the ``history_days`` before the first of them are the history.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from heapq import merge
from operator import attrgetter

import msgspec
import numpy as np

from consumer.local.simulator import population as people
from consumer.local.simulator.columns import DAY_MS, Columns, Ints, Pattern, Span, joined
from consumer.local.simulator.events import Encoder, Event, Labels
from consumer.local.simulator.faults import NO_FAULTS, Faults, disturbed
from consumer.local.simulator.fraud import defraud
from consumer.local.simulator.spending import spend

_FRAUD_LABEL_DAYS = (3.0, 10.0)
_HONEST_LABEL_DAYS = (1.0, 5.0)
_HONEST_LABEL_SHARE = 0.004
"""Honest transactions that an analyst looked at and cleared."""
_ANALYST_SHARE = 0.1
"""Frauds that an analyst finds before the cardholder complains."""
_AFTERTHOUGHTS = 10


@dataclass(frozen=True, slots=True)
class Scenario:
    """
    What to simulate. ``end_ms`` is the end of simulated time in milliseconds
    since the epoch, usually now, so that no event lies in the future;
    ``per_day`` counts a card's transactions; ``fraud_share`` is of all
    transactions. Cards and merchants depend on the seed and their numbers only.
    """

    end_ms: int
    seed: int = 1
    cards: int = 2_000
    merchants: int = 400
    per_day: float = 3.0
    history_days: float = 60.0
    transactions: int = 20_000
    fraud_share: float = 0.008

    @property
    def key(self) -> int:
        """64 bits that differ between scenarios, so that their transaction ids do too."""
        text = repr(self).encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


class Traffic:
    """All transactions and labels of a scenario, encoded on the way out."""

    def __init__(self, scenario: Scenario) -> None:
        """Simulate *scenario*. Raises ValueError for sizes that no population can have."""
        self.scenario = scenario
        self.population = people.build(
            scenario.seed,
            cards=scenario.cards,
            merchants=scenario.merchants,
            per_day=scenario.per_day,
        )
        columns = _transactions(scenario, self.population)
        first_live = max(0, len(columns) - scenario.transactions)
        live_ms = int(columns.time_ms[first_live]) if scenario.transactions else scenario.end_ms
        start_ms = live_ms - round(scenario.history_days * DAY_MS)
        skipped = int(np.searchsorted(columns.time_ms, start_ms))
        self._columns = columns.take(slice(min(skipped, first_live), None))
        self._first_live = first_live - min(skipped, first_live)
        self._labels = _labels(_generator(scenario, 3), self._columns)
        self._encoder = Encoder(self.population, self._columns, scenario.key)
        self.history_span = Span(start_ms, live_ms)
        self.live_span = Span(live_ms, scenario.end_ms)

    def history(self) -> Iterator[tuple[date, list[Event]]]:
        """
        The past, one UTC day after the other.

        Each day holds its transactions and the labels that became known on it,
        in the order of time. The first and the last day are usually not whole.
        """
        span = self.history_span
        day_ms = span.start_ms - span.start_ms % DAY_MS
        while max(day_ms, span.start_ms) < span.end_ms:
            part = Span(max(day_ms, span.start_ms), min(day_ms + DAY_MS, span.end_ms))
            rows = np.flatnonzero(part.contains(self._columns.time_ms[: self._first_live]))
            events = merge(
                self._encoder.transactions(rows),
                self._encoder.labels(self._labels.take(part.contains(self._labels.time_ms))),
                key=attrgetter("time_ms"),
            )
            yield datetime.fromtimestamp(day_ms / 1_000, UTC).date(), list(events)
            day_ms += DAY_MS

    def live(self, faults: Faults = NO_FAULTS) -> Iterator[Event]:
        """
        The present in the order it is sent, disturbed by *faults*.

        Labels that become known in this time come with it, those of history's
        transactions too.
        """
        return disturbed(
            self._encoder, self._live_rows, self._live_labels, faults, _generator(self.scenario, 4)
        )

    def afterthoughts(self, now_ms: int) -> Iterator[Event]:
        """
        Labels of a few live transactions, then a correction of every other one's.

        To be sent once these are decided; *now_ms* (since the epoch) is the time of
        the corrections, a millisecond after that of what they correct. However short
        the live time is, its documents get labels by this. Chosen are purchases that
        `live` does not label, at a terminal if there are any, because labels count
        there. The label that ends up standing is fraud for some, legitimate for others.
        """
        rows = self._unlabelled
        rows = rows[:: max(1, len(rows) // _AFTERTHOUGHTS)][:_AFTERTHOUGHTS]
        fraud = np.arange(len(rows)) % 4 < 2  # noqa: PLR2004 - corrected or not, fraud or not
        corrected = np.arange(len(rows)) % 2 == 0
        row = np.concatenate([rows, rows[corrected]])
        time_ms = np.repeat([now_ms - 1, now_ms], [len(rows), corrected.sum()])
        labels = Labels(
            row=row,
            time_ms=time_ms,
            fraud=np.concatenate([fraud, ~fraud[corrected]]),
            by_analyst=np.ones(len(row), dtype=np.bool_),
        )
        yield from (
            msgspec.structs.replace(event, fraud=given)
            for event, given in zip(
                self._encoder.labels(labels), labels.fraud.tolist(), strict=True
            )
        )

    def live_size(self, faults: Faults = NO_FAULTS) -> int:
        """How many records `live` yields."""
        n = len(self._live_rows)
        return n + len(self._live_labels) + faults.extra_records(n)

    @property
    def _live_rows(self) -> Ints:
        return np.arange(self._first_live, len(self._columns))

    @property
    def _unlabelled(self) -> Ints:
        """Live purchases without a label, those at terminals if there are any."""
        rows = np.setdiff1d(self._live_rows, self._live_labels.row)
        rows = rows[~self._columns.refund[rows]]
        present = rows[self._columns.merchant[rows] < self.population.merchants.shops]
        return present if len(present) else rows

    @property
    def _live_labels(self) -> Labels:
        return self._labels.take(self.live_span.contains(self._labels.time_ms))


def history(scenario: Scenario) -> Iterator[tuple[date, list[Event]]]:
    """The past of *scenario*, day by day; see `Traffic.history`."""
    return Traffic(scenario).history()


def live(scenario: Scenario, faults: Faults = NO_FAULTS) -> Iterator[Event]:
    """The present of *scenario* in the order it is sent; see `Traffic.live`."""
    return Traffic(scenario).live(faults)


def _generator(scenario: Scenario, part: int) -> np.random.Generator:
    return np.random.default_rng([scenario.key, part])


def _transactions(scenario: Scenario, population: people.Population) -> Columns:
    """
    At least as many transactions as the scenario needs, ending at its end.

    How many there are in a stretch of time is left to chance, so more time is
    simulated than needed, and live traffic is counted from the end.
    """
    live_days = scenario.transactions / (scenario.cards * scenario.per_day)
    days = scenario.history_days + 1.5 * live_days + 2.0
    span = Span(scenario.end_ms - round(days * DAY_MS), scenario.end_ms)
    honest = spend(_generator(scenario, 1), population, span).in_time_order()
    fraud = defraud(_generator(scenario, 2), population, span, honest, scenario.fraud_share)
    return joined([honest, fraud]).in_time_order()


def _labels(rng: np.random.Generator, columns: Columns) -> Labels:
    """Every fraud becomes known after days; a few honest transactions are cleared."""
    n = len(columns)
    fraud = columns.pattern != Pattern.NONE
    cleared = ~fraud & ~columns.refund & (rng.random(n) < _HONEST_LABEL_SHARE)
    days = np.where(fraud, rng.uniform(*_FRAUD_LABEL_DAYS, n), rng.uniform(*_HONEST_LABEL_DAYS, n))
    by_analyst = cleared | (rng.random(n) < _ANALYST_SHARE)
    row = np.flatnonzero(fraud | cleared)
    time_ms = columns.time_ms[row] + (days[row] * DAY_MS).astype(np.int64)
    order = np.argsort(time_ms, kind="stable")
    row = row[order]
    return Labels(row, time_ms[order], fraud[row], by_analyst[row])
