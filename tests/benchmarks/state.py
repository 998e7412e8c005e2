"""
What an entity takes in Redis, and what a call of its function costs.

Bytes are MEMORY USAGE, which counts the key and what the server needs around it.
Microseconds are Redis's own, from INFO commandstats. The features are the
shipped ones. A hot merchant keeps the ids of the last day and its raw events in
keys of their own: they are reported beside the state itself.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import redis

from consumer.adapters.redis.connection import connect
from consumer.adapters.redis.features import RedisFeatureStore
from consumer.features.specification import load_plan
from consumer.local.redis_server import RedisServer
from consumer.model import Transaction, TransactionId
from consumer.ports import Observe
from consumer.settings import Settings
from tests.benchmarks.counters import call_us
from tests.benchmarks.measured import Measured, median_of

_END_S = int(datetime(2026, 6, 1, tzinfo=UTC).timestamp())
_DAY_S = 86_400
_CARDS = 25
_CALLS_A_CARD = 4
_CHUNK = 500
# The days before the last day and a half are thinner: rows are one a cell of the grid
# whatever falls into it, and the ids and raw events of those days are gone.
_THIN_DAYS, _THIN_A_DAY = 6.0, 10_000
_FULL_DAYS, _FULL_A_DAY = 1.5, 100_000
_MERCHANT_CALLS = 5_000


def measure(directory: Path) -> dict[str, Measured]:
    """Fill a server without modules, as features need none, and ask it."""
    settings = Settings()
    plan = load_plan(settings.features.path, settings.events.base_currency)
    with ExitStack() as stack:
        server = stack.enter_context(RedisServer(modules=False, directory=directory))
        client = connect(server.url, connect_timeout_s=2, timeout_s=30)
        stack.enter_context(closing(client))
        store = RedisFeatureStore(client, plan, id_horizon_s=settings.features.id_horizon_s)
        store.prepare()
        return {**_cards(store, client), **_merchant(store, client)}


def _cards(store: RedisFeatureStore, client: redis.Redis) -> dict[str, Measured]:
    """Cards whose events lie anywhere in the last 30 days, and the next few calls of each."""
    found = {}
    for events in (10, 60, 1_000):
        keys = [f"card_{events}_{number}" for number in range(_CARDS)]
        for key in keys:
            draw = random.Random(key)
            times = sorted(_END_S - draw.randrange(30 * _DAY_S) for _ in range(events))
            _apply(store, (_purchase(time_s, card=key) for time_s in times))
        sizes = [int(client.memory_usage(f"f:{{card:{key}}}") or 0) for key in keys]
        found[f"card_{events}_bytes"] = median_of(sizes)
        if events == 60:
            client.config_resetstat()
            _apply(
                store,
                (
                    _purchase(_END_S + 3_600 * call, card=key)
                    for call in range(1, 1 + _CALLS_A_CARD)
                    for key in keys
                ),
            )
            found["card_call"] = Measured(*call_us(client))
    return found


def _merchant(store: RedisFeatureStore, client: redis.Redis) -> dict[str, Measured]:
    """One merchant through a week, the last day and a half at 100,000 events a day."""
    full_s = _END_S - _FULL_DAYS * _DAY_S
    thin_s = full_s - _THIN_DAYS * _DAY_S
    thin = _moments(thin_s, round(_THIN_DAYS * _THIN_A_DAY), _DAY_S / _THIN_A_DAY)
    full = _moments(full_s, round(_FULL_DAYS * _FULL_A_DAY), _DAY_S / _FULL_A_DAY)
    _apply(store, (_purchase(time_s, merchant="hot") for time_s in (*thin, *full)))
    client.config_resetstat()
    last = _moments(_END_S, _MERCHANT_CALLS, _DAY_S / _FULL_A_DAY)
    _apply(store, (_purchase(time_s, merchant="hot") for time_s in last))
    call, calls = call_us(client)
    state = "f:{merchant:hot}"
    aside = list(client.scan_iter(match=f"{state}:*", count=1_000))
    return {
        "merchant_100k_bytes": Measured(int(client.memory_usage(state) or 0), 1),
        "merchant_100k_aside_bytes": Measured(
            sum(int(client.memory_usage(key, samples=0) or 0) for key in aside), len(aside)
        ),
        "merchant_100k_call": Measured(call, calls),
    }


def _moments(start_s: float, count: int, every_s: float) -> Sequence[int]:
    return [int(start_s + number * every_s) for number in range(count)]


_ids = iter(range(10**9))


def _purchase(time_s: int, *, card: str = "", merchant: str = "") -> Observe:
    """A purchase of one entity alone: an empty key is an absent one."""
    number = next(_ids)
    amount = 100 + number * 7_919 % 50_000
    transaction = Transaction(
        transaction_id=TransactionId(f"tx_{number}"),
        event_time=datetime.fromtimestamp(time_s, UTC),
        card_id=card,
        merchant_id=merchant,
        amount_minor=amount,
        currency="EUR",
        base_amount_minor=amount,
        digest=f"{number:064x}",
    )
    return Observe(transaction, time_s)


def _apply(store: RedisFeatureStore, requests: Iterable[Observe]) -> None:
    for chunk in _chunks(iter(requests)):
        store.observe(chunk)


def _chunks(requests: Iterator[Observe]) -> Iterator[list[Observe]]:
    while chunk := list(islice(requests, _CHUNK)):
        yield chunk
