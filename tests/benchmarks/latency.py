"""
From a record's receipt to its stored decision, at 1,000 transactions a second.

The driver is open-loop: when each delivery is due is fixed beforehand, a delivery
that finds the worker busy waits, and its records' time runs from when they were
due. What came due meanwhile is delivered together, as the KCL does. So a stall
shows in every record that it held up, not only in the one it hit.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from consumer.adapters.redis.connection import command
from consumer.adapters.redis.documents import PREFIX
from tests.benchmarks.feed import Delivery, Feed
from tests.benchmarks.measured import Measured, quantile
from tests.benchmarks.models import small_models
from tests.benchmarks.rig import running_rig
from tests.benchmarks.throughput import count_degraded
from tests.multilang import MultilangDriver

_RATE = 1_000
_EVERY_MS = 25
_TOGETHER = _RATE * _EVERY_MS // 1_000
_DELIVERIES_AT_ONCE = 1_000 // _TOGETHER
_WARM_UP_S = 5
_SECONDS = 30
_PARTS = 6
_LEAD_S = 1.0


@dataclass(frozen=True, slots=True)
class _Due:
    """Records that are to be delivered at *due_ms* of the wall clock, encoded."""

    due_ms: float
    records: list[bytes]
    transaction_ids: list[str]


def measure(directory: Path) -> dict[str, Measured]:
    """Deliver for 35 seconds, leave out the first five, and read what the documents say."""
    models = small_models(directory.parent / "models")
    sent = _RATE * (_WARM_UP_S + _SECONDS)
    feed = Feed(sent)
    with running_rig(directory, models=models.archives, environment=models.environment) as rig:
        rig.warm(feed.history())
        schedule = _schedule(feed, sent)
        with rig.worker() as driver:
            wakes = sorted(_deliver(driver, schedule))
        degraded = count_degraded(rig.client, sent)
        judged = schedule[_WARM_UP_S * _RATE // _TOGETHER :]
        stored = [_stored_ms(rig.client, due.transaction_ids) for due in judged]
    return {
        **_quantiles("latency", _from_receipt(judged, stored)),
        "latency_degraded": Measured(degraded, sent),
        **_quantiles("arrival_latency", _from_arrival(judged, stored)),
        "driver_wake_p99": Measured(quantile(wakes, 0.99), len(wakes)),
    }


def _schedule(feed: Feed, sent: int) -> list[_Due]:
    """Everything that is to be sent, encoded; due from a second after it all is."""
    parts = [feed.take(_TOGETHER) for _ in range(sent // _TOGETHER)]
    # Encoding them takes 10 µs a record, and the worker's process starts meanwhile.
    start_ms = (time.time() + _LEAD_S + sent * 20e-6) * 1000
    schedule = []
    for number, events in enumerate(parts):
        due_ms = start_ms + number * _EVERY_MS
        records = [feed.encode(event, int(due_ms)) for event in events]
        schedule.append(_Due(due_ms, records, [event.transaction_id for event in events]))
    return schedule


def _deliver(driver: MultilangDriver, schedule: Sequence[_Due]) -> list[float]:
    """
    Send each delivery when it is due, and those that came due while the worker was busy at once.

    Returns by how many milliseconds the driver itself woke too late where it slept:
    the share of the latencies that a busy machine adds before the worker hears of them.
    """
    late_ms = []
    sent = 0
    while sent < len(schedule):
        due_ms = schedule[sent].due_ms
        left_ms = due_ms - time.time() * 1000
        if left_ms > 0:
            time.sleep(left_ms / 1000)
            late_ms.append(time.time() * 1000 - due_ms)
        end = sent + _count_due(schedule[sent : sent + _DELIVERIES_AT_ONCE])
        records = [record for due in schedule[sent:end] for record in due.records]
        Delivery.of(records).send(driver)
        sent = end
    return late_ms


def _count_due(schedule: Sequence[_Due]) -> int:
    """How many are due by now, in order; the first one is."""
    now_ms = time.time() * 1000
    return sum(due.due_ms <= now_ms for due in schedule[1:]) + 1


def _stored_ms(client: redis.Redis, transaction_ids: Sequence[str]) -> list[int]:
    """
    When each document was stored, by the clock of Redis, which is this machine's.

    Redis cuts its clock to milliseconds; one is added, so that no latency is understated.
    """
    keys = [PREFIX + transaction_id for transaction_id in transaction_ids]
    answers: list[Any] = command(client, "JSON.MGET", *keys, "$.stored_ms")
    return [int(answer.strip(b"[]")) + 1 for answer in answers]


def _from_receipt(judged: Sequence[_Due], stored: Sequence[Sequence[int]]) -> Iterator[float]:
    for due, times in zip(judged, stored, strict=True):
        yield from (time_ms - due.due_ms for time_ms in times)


def _from_arrival(judged: Sequence[_Due], stored: Sequence[Sequence[int]]) -> Iterator[float]:
    """As if each record had come in turn, and waited for the next delivery to be due."""
    for due, times in zip(judged, stored, strict=True):
        for place, time_ms in enumerate(times):
            yield time_ms - due.due_ms + (_TOGETHER - 1 - place) * 1000 / _RATE


def _quantiles(name: str, latencies_ms: Iterable[float]) -> dict[str, Measured]:
    """Quantiles of all records; their spread is that of the same ones of six parts of the time."""
    in_turn = list(latencies_ms)
    size = len(in_turn) // _PARTS
    parts = [sorted(in_turn[n * size : (n + 1) * size]) for n in range(_PARTS)]
    in_turn.sort()
    found = {}
    for label, share in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999)):
        of_parts = [quantile(part, share) for part in parts]
        value = quantile(in_turn, share)
        found[f"{name}_{label}"] = Measured(value, len(in_turn), max(of_parts) - min(of_parts))
    return found
