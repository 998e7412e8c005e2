"""
What thieves do: five patterns, as incidents that add transactions.

Sizes and prices overlap with honest spending, and the first transaction of an
incident often looks like any other, so a model can be good but not perfect.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from consumer.local.simulator.catalogue import CATEGORIES
from consumer.local.simulator.columns import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    NOTHING,
    Columns,
    Entry,
    Floats,
    Ints,
    Pattern,
    Span,
    joined,
)
from consumer.local.simulator.population import CITIES, Population
from consumer.local.simulator.spending import (
    CONTACTLESS_LIMIT_CENTS,
    draw_new_devices,
    draw_terminals,
    to_cents,
)

SHARES = {
    Pattern.AMOUNT_JUMP: 0.20,
    Pattern.COMPROMISED_TERMINAL: 0.20,
    Pattern.STOLEN_CARD: 0.25,
    Pattern.NEW_DEVICE_BURST: 0.25,
    Pattern.IMPOSSIBLE_TRAVEL: 0.10,
}
"""How the fraudulent transactions divide among the patterns."""

_CASHABLE = np.array([category.mcc in {"6011", "5732", "5944", "5311"} for category in CATEGORIES])
"""Trades whose goods are easily turned into money."""
_FAR_KM = 900.0
_EARTH_KM = 6_371.0
_VICTIMS = 9
"""Cards copied at one terminal, at most."""


@dataclass(frozen=True, slots=True)
class _Scene:
    """Where thieves work: people and shops, the time, and honest transactions in its order."""

    population: Population
    span: Span
    honest: Columns


def defraud(
    rng: np.random.Generator, population: Population, span: Span, honest: Columns, share: float
) -> Columns:
    """
    Fraud that makes up about *share* of all transactions of *span*.

    *honest* are the honest transactions in time order: thieves need cards that
    were somewhere.
    """
    wanted = share / (1.0 - share) * len(honest)
    scene = _Scene(population, span, honest)
    parts = [_PATTERNS[pattern](rng, scene, wanted * part) for pattern, part in SHARES.items()]
    return joined(parts).within(span)


def _incidents(rng: np.random.Generator, transactions: float, mean_size: float) -> int:
    """How many incidents make *transactions*; the fraction of one is left to chance."""
    return int(transactions / mean_size + rng.random())


def _steps(size: Ints) -> tuple[Ints, Ints]:
    """The incident and the step in it of each transaction, given the size of each incident."""
    incident = np.repeat(np.arange(len(size)), size)
    step = np.arange(len(incident)) - np.repeat(np.cumsum(size) - size, size)
    return incident, step


def _times(
    rng: np.random.Generator, start_ms: Ints, incident: Ints, step: Ints, gap_ms: float
) -> Ints:
    """Times from each incident's start on, with exponential gaps of mean *gap_ms*."""
    gaps = np.where(step == 0, 0.0, rng.exponential(gap_ms, len(step)))
    total = np.cumsum(gaps)
    since_start: Ints = (total - total[step == 0][incident]).astype(np.int64)
    times: Ints = start_ms[incident] + since_start
    return times


def _columns(
    rng: np.random.Generator,
    population: Population,
    pattern: Pattern,
    rows: tuple[Ints, Ints, Ints, Floats],
    entry: Ints,
    device: Ints | None = None,
) -> Columns:
    """Fraud of one *pattern*; *rows* are time, card, merchant and euros."""
    time_ms, card, merchant, euros = rows
    n = len(time_ms)
    return Columns(
        time_ms=time_ms,
        card=card,
        merchant=merchant,
        terminal=draw_terminals(rng, population, merchant),
        cents=to_cents(population, merchant, euros),
        entry=entry,
        device=np.full(n, NOTHING, dtype=np.int64) if device is None else device,
        pattern=np.full(n, pattern, dtype=np.int64),
        refund=np.zeros(n, dtype=np.bool_),
    )


def _starts(rng: np.random.Generator, span: Span, n: int) -> Ints:
    """*n* times, one in each n-th of *span*, so that no week is without fraud or full of it."""
    shares = (np.arange(n) + rng.random(n)) / max(n, 1)
    starts: Ints = span.start_ms + (shares * (span.end_ms - span.start_ms)).astype(np.int64)
    return starts


def _amount_jump(rng: np.random.Generator, scene: _Scene, wanted: float) -> Columns:
    """A card suddenly buys once or twice for a multiple of what it ever did, in its own city."""
    population = scene.population
    n = _incidents(rng, wanted, 1.4)
    incident, step = _steps(rng.choice([1, 2], n, p=[0.6, 0.4]).astype(np.int64))
    card = rng.integers(0, len(population.cards), n)[incident]
    merchant = population.merchants.draw_shops(rng, population.cards.city[card])
    usual = 27.0 * population.cards.level[card] ** 0.7
    euros = usual * np.exp(rng.normal(np.log(18.0), 0.5, len(card)))
    time_ms = _times(rng, _starts(rng, scene.span, n), incident, step, 1.5 * HOUR_MS)
    entry = np.full(len(card), Entry.CHIP, dtype=np.int64)
    return _columns(rng, population, Pattern.AMOUNT_JUMP, (time_ms, card, merchant, euros), entry)


def _stolen_card(rng: np.random.Generator, scene: _Scene, wanted: float) -> Columns:
    """A stolen card goes from shop to shop for an hour or two until it is blocked."""
    population = scene.population
    n = _incidents(rng, wanted, 8.0)
    incident, step = _steps(rng.integers(4, 13, n))
    card = rng.integers(0, len(population.cards), n)[incident]
    merchant = population.merchants.draw_shops(rng, population.cards.city[card])
    factor = rng.uniform(2.0, 7.0, len(card))
    euros = population.amounts(rng, card, merchant) * factor
    time_ms = _times(rng, _starts(rng, scene.span, n), incident, step, 6.0 * MINUTE_MS)
    entry = np.where(
        euros < CONTACTLESS_LIMIT_CENTS / 100, Entry.CONTACTLESS, Entry.MAGSTRIPE
    ).astype(np.int64)
    return _columns(rng, population, Pattern.STOLEN_CARD, (time_ms, card, merchant, euros), entry)


def _new_device_burst(rng: np.random.Generator, scene: _Scene, wanted: float) -> Columns:
    """A leaked card number is tried with small sums on a new device, then spent online."""
    population = scene.population
    n = _incidents(rng, wanted, 10.0)
    incident, step = _steps(rng.integers(5, 16, n))
    card = rng.integers(0, len(population.cards), n)[incident]
    merchant = population.merchants.draw_web_shops(rng, len(card))
    usual = population.amounts(rng, card, merchant)
    tests = rng.integers(1, 3, n)[incident]
    euros = np.where(
        step < tests,
        rng.uniform(0.5, 4.0, len(card)),
        usual * rng.uniform(1.5, 7.0, len(card)),
    )
    time_ms = _times(rng, _starts(rng, scene.span, n), incident, step, 2.5 * MINUTE_MS)
    entry = np.full(len(card), Entry.ECOMMERCE, dtype=np.int64)
    device = draw_new_devices(rng, n)[incident]
    rows = (time_ms, card, merchant, euros)
    return _columns(rng, population, Pattern.NEW_DEVICE_BURST, rows, entry, device)


def _impossible_travel(rng: np.random.Generator, scene: _Scene, wanted: float) -> Columns:
    """Soon after an honest purchase a copy of the card pays in a city too far away to be in."""
    population = scene.population
    at_shops = scene.honest.take(~population.merchants.online(scene.honest.merchant))
    n = _incidents(rng, wanted, 3.0) if len(at_shops) else 0
    around = np.searchsorted(at_shops.time_ms, _starts(rng, scene.span, n))
    origin = at_shops.take(np.minimum(around, len(at_shops) - 1))
    incident, step = _steps(rng.integers(2, 5, n))
    card = origin.card[incident]
    there = _far_from(rng, population.merchants.city[origin.merchant])[incident]
    merchant = population.merchants.draw_shops(rng, there)
    factor = rng.uniform(3.0, 9.0, len(card))
    euros = population.amounts(rng, card, merchant) * factor
    start = origin.time_ms + rng.integers(20 * MINUTE_MS, 150 * MINUTE_MS, n)
    time_ms = _times(rng, start, incident, step, 15.0 * MINUTE_MS)
    entry = np.full(len(card), Entry.MAGSTRIPE, dtype=np.int64)
    rows = (time_ms, card, merchant, euros)
    return _columns(rng, population, Pattern.IMPOSSIBLE_TRAVEL, rows, entry)


def _far_from(rng: np.random.Generator, city: Ints) -> Ints:
    """A city at least ``_FAR_KM`` from each *city*, by the great circle (haversine)."""
    latitude = np.radians([c.latitude for c in CITIES])
    longitude = np.radians([c.longitude for c in CITIES])
    half = (
        np.sin((latitude[:, None] - latitude) / 2.0) ** 2
        + np.cos(latitude[:, None])
        * np.cos(latitude)
        * np.sin((longitude[:, None] - longitude) / 2.0) ** 2
    )
    far = 2.0 * _EARTH_KM * np.arcsin(np.sqrt(half)) >= _FAR_KM
    preference: Floats = np.where(far[city], rng.random((len(city), len(CITIES))), -1.0)
    farthest: Ints = np.argmax(preference, axis=1)
    return farthest


def _compromised_terminal(rng: np.random.Generator, scene: _Scene, wanted: float) -> Columns:
    """A terminal copies the cards it sees for days; they are cashed in at the same few places."""
    population = scene.population
    at_terminals = scene.honest.take(scene.honest.terminal != NOTHING)
    cash_points = np.flatnonzero(
        _CASHABLE[population.merchants.category[: population.merchants.shops]]
    )
    anchors = np.searchsorted(
        at_terminals.time_ms, _starts(rng, scene.span, _incidents(rng, wanted, 3.0 * _VICTIMS))
    )
    parts: list[Columns] = []
    for anchor in anchors.tolist() if len(cash_points) and len(at_terminals) else []:
        copied = _copied(rng, at_terminals, min(anchor, len(at_terminals) - 1))
        incident, step = _steps(rng.integers(2, 5, len(copied)))
        card = copied.card[incident]
        merchant = rng.choice(cash_points, 3)[rng.integers(0, 3, len(card))].astype(np.int64)
        euros = population.amounts(rng, card, merchant) * rng.uniform(2.5, 7.0, len(card))
        start = copied.time_ms + rng.integers(6 * HOUR_MS, 3 * DAY_MS, len(copied))
        time_ms = _times(rng, start, incident, step, 20.0 * MINUTE_MS)
        entry = np.full(len(card), Entry.MAGSTRIPE, dtype=np.int64)
        rows = (time_ms, card, merchant, euros)
        parts.append(_columns(rng, population, Pattern.COMPROMISED_TERMINAL, rows, entry))
    return joined([scene.honest.take(slice(0, 0)), *parts])


def _copied(rng: np.random.Generator, at_terminals: Columns, anchor: int) -> Columns:
    """One use each of some cards at the *anchor*'s terminal in the days around it."""
    time_ms = int(at_terminals.time_ms[anchor])
    reach_ms = int(rng.integers(2 * DAY_MS, 5 * DAY_MS))
    uses = at_terminals.within(Span(time_ms - reach_ms, time_ms + reach_ms))
    uses = uses.take(
        (uses.merchant == at_terminals.merchant[anchor])
        & (uses.terminal == at_terminals.terminal[anchor])
    )
    _, first_use = np.unique(uses.card, return_index=True)
    return uses.take(np.sort(rng.permutation(first_use)[:_VICTIMS]))


_Pattern = Callable[[np.random.Generator, _Scene, float], Columns]

_PATTERNS: dict[Pattern, _Pattern] = {
    Pattern.AMOUNT_JUMP: _amount_jump,
    Pattern.COMPROMISED_TERMINAL: _compromised_terminal,
    Pattern.STOLEN_CARD: _stolen_card,
    Pattern.NEW_DEVICE_BURST: _new_device_burst,
    Pattern.IMPOSSIBLE_TRAVEL: _impossible_travel,
}
