"""
What cardholders do themselves: everyday purchases, shopping rounds, journeys,
big purchases, new telephones and refunds.

The unusual ones are here on purpose. Without honest journeys, sprees and
large amounts every fraud pattern would be separable by a single threshold.
"""

import numpy as np

from consumer.local.simulator.catalogue import CASH_MACHINE, CATEGORIES
from consumer.local.simulator.columns import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    NOTHING,
    Columns,
    Entry,
    Floats,
    Ints,
    Mask,
    Pattern,
    Span,
    joined,
)
from consumer.local.simulator.population import CITIES, DEVICES_A_CARD, Population

_ROUND_SHARE = 0.06
_ROUND_MEAN = 1.6
_ROUND_GAP_MS = 9 * MINUTE_MS
_EXPLORE_SHARE = 0.15
_JOURNEY_SHARE = 0.22
"""Share of cards that travel once in thirty days."""
_BIG_SHARE = 0.004
_NEW_DEVICE_SHARE = 0.008
_REFUND_SHARE = 0.005
CONTACTLESS_LIMIT_CENTS = 5_000
"""Above it European terminals ask for the chip."""
_EVENING_SHARE = 0.55
_TAP_SHARE = 0.75
_SWIPE_SHARE = 0.02
_FIRST_DEVICE_SHARE = 0.75
"""Purchases on a card's first device; the rest is spread over all it has."""
_NEW_DEVICES_FROM = 1 << 40
"""Above every number that belongs to a card, so that a drawn device is nobody's."""

_IS_CASH = np.array([category.mcc == CASH_MACHINE for category in CATEGORIES])
_UTC_OFFSETS_MS = np.array([city.utc_offset_hours * HOUR_MS for city in CITIES])


def spend(rng: np.random.Generator, population: Population, span: Span) -> Columns:
    """All honest transactions of *span*, in no particular order."""
    card, time_ms = _occasions(rng, population, span)
    online = rng.random(len(card)) < population.cards.online_share[card]
    merchant = _merchants(rng, population, span, card, time_ms, online)
    euros = population.amounts(rng, card, merchant)
    big = rng.random(len(card)) < _BIG_SHARE
    euros = np.where(big, euros * rng.uniform(3.0, 9.0, len(card)), euros)
    cents = to_cents(population, merchant, euros)
    purchases = Columns(
        time_ms=time_ms,
        card=card,
        merchant=merchant,
        terminal=draw_terminals(rng, population, merchant),
        cents=cents,
        entry=_entries(rng, population, merchant, cents),
        device=_devices(rng, population, card, online),
        pattern=np.full(len(card), Pattern.NONE, dtype=np.int64),
        refund=np.zeros(len(card), dtype=np.bool_),
    )
    return joined([purchases, _refunds(rng, population, purchases)]).within(span)


def _occasions(rng: np.random.Generator, population: Population, span: Span) -> tuple[Ints, Ints]:
    """When which card buys: occasions about its hours, some of them shopping rounds."""
    cards = population.cards
    # Whole days, so that the first and the last one are as busy as the others inside the span.
    first_day = span.start_ms // DAY_MS - 1
    days = span.end_ms // DAY_MS + 2 - first_day
    mean = cards.per_day * days / (1.0 + _ROUND_SHARE * _ROUND_MEAN + _REFUND_SHARE)
    card = np.repeat(np.arange(len(cards)), rng.poisson(mean))
    n = len(card)
    favourite = cards.hours[card, (rng.random(n) < _EVENING_SHARE).astype(np.int64)]
    hour = np.mod(rng.normal(favourite, 2.8), 24.0)
    day_ms = (first_day + rng.integers(0, days, n)) * DAY_MS
    time_ms = day_ms + (hour * HOUR_MS).astype(np.int64) - _UTC_OFFSETS_MS[cards.city[card]]

    followers = np.where(rng.random(n) < _ROUND_SHARE, rng.geometric(1.0 / _ROUND_MEAN, n), 0)
    leader = np.repeat(np.arange(n), followers)
    place = np.arange(len(leader)) - np.repeat(np.cumsum(followers) - followers, followers)
    gap_ms = rng.gamma(place + 1.0, _ROUND_GAP_MS).astype(np.int64)
    all_cards = np.concatenate([card, card[leader]])
    all_times = np.concatenate([time_ms, time_ms[leader] + gap_ms])
    inside = span.contains(all_times)
    return all_cards[inside], all_times[inside]


def _merchants(
    rng: np.random.Generator,
    population: Population,
    span: Span,
    card: Ints,
    time_ms: Ints,
    online: Mask,
) -> Ints:
    cards, merchants, n = population.cards, population.merchants, len(card)
    away, city = _journeys(rng, population, span, card, time_ms)
    merchant = np.where(
        online,
        cards.favourite_web_shops[card, _ranks(rng, n, cards.favourite_web_shops.shape[1])],
        cards.favourite_shops[card, _ranks(rng, n, cards.favourite_shops.shape[1])],
    )
    explores = rng.random(n) < _EXPLORE_SHARE
    elsewhere = ~online & (away | explores)
    merchant[elsewhere] = merchants.draw_shops(rng, city[elsewhere])
    merchant[online & explores] = merchants.draw_web_shops(rng, int((online & explores).sum()))
    return merchant


def _journeys(
    rng: np.random.Generator, population: Population, span: Span, card: Ints, time_ms: Ints
) -> tuple[Mask, Ints]:
    """Whether each card is away at each time, and the city it is in."""
    cards = population.cards
    n = len(cards)
    travels = rng.random(n) < min(0.9, _JOURNEY_SHARE * span.days / 30.0)
    start = span.start_ms + rng.random(n) * (span.end_ms - span.start_ms)
    end = start + rng.uniform(1.5, 8.0, n) * DAY_MS
    weights = np.array([city.weight for city in CITIES])
    there = rng.choice(len(CITIES), n, p=weights / weights.sum()).astype(np.int64)
    away = travels[card] & (time_ms >= start[card]) & (time_ms < end[card])
    return away, np.where(away, there[card], cards.city[card])


def _ranks(rng: np.random.Generator, n: int, of: int) -> Ints:
    """Ranks below *of*, the first most often (Zipf)."""
    shares = 1.0 / np.arange(1, of + 1)
    return rng.choice(of, n, p=shares / shares.sum()).astype(np.int64)


def to_cents(population: Population, merchant: Ints, euros: Floats) -> Ints:
    """Euros as charged: cents between 0.50 and 9,000 euros, whole tens at cash machines."""
    cash = _IS_CASH[population.merchants.category[merchant]]
    tens = np.maximum(np.rint(euros / 10.0), 2.0) * 10.0
    charged = np.clip(np.where(cash, tens, euros), 0.5, 9_000.0)
    return np.rint(charged * 100.0).astype(np.int64)


def draw_terminals(rng: np.random.Generator, population: Population, merchant: Ints) -> Ints:
    """A terminal of each shop; web shops have none."""
    terminal = (rng.random(len(merchant)) * population.merchants.terminals[merchant]).astype(
        np.int64
    )
    return np.where(population.merchants.online(merchant), NOTHING, terminal)


def draw_new_devices(rng: np.random.Generator, n: int) -> Ints:
    """Numbers of devices that no card has used before."""
    return rng.integers(_NEW_DEVICES_FROM, _NEW_DEVICES_FROM << 1, n)


def _entries(rng: np.random.Generator, population: Population, merchant: Ints, cents: Ints) -> Ints:
    n = len(merchant)
    cash = _IS_CASH[population.merchants.category[merchant]]
    taps = ~cash & (cents < CONTACTLESS_LIMIT_CENTS) & (rng.random(n) < _TAP_SHARE)
    swipes = ~cash & (rng.random(n) < _SWIPE_SHARE)
    return np.select(
        [population.merchants.online(merchant), swipes, taps],
        [np.full(n, Entry.ECOMMERCE), np.full(n, Entry.MAGSTRIPE), np.full(n, Entry.CONTACTLESS)],
        Entry.CHIP,
    ).astype(np.int64)


def _devices(rng: np.random.Generator, population: Population, card: Ints, online: Mask) -> Ints:
    n = len(card)
    which = np.where(
        rng.random(n) < _FIRST_DEVICE_SHARE,
        0,
        (rng.random(n) * population.cards.devices[card]).astype(np.int64),
    )
    known = card * DEVICES_A_CARD + which
    fresh = rng.random(n) < _NEW_DEVICE_SHARE
    return np.where(online, np.where(fresh, draw_new_devices(rng, n), known), NOTHING)


def _refunds(rng: np.random.Generator, population: Population, purchases: Columns) -> Columns:
    """Purchases given back, the same money at the same merchant, one to ten days later."""
    cash = _IS_CASH[population.merchants.category[purchases.merchant]]
    chosen = purchases.take((rng.random(len(purchases)) < _REFUND_SHARE) & ~cash)
    n = len(chosen)
    return Columns(
        time_ms=chosen.time_ms + rng.uniform(1.0 * DAY_MS, 10.0 * DAY_MS, n).astype(np.int64),
        card=chosen.card,
        merchant=chosen.merchant,
        terminal=chosen.terminal,
        cents=chosen.cents,
        entry=chosen.entry,
        device=chosen.device,
        pattern=chosen.pattern,
        refund=np.ones(n, dtype=np.bool_),
    )
