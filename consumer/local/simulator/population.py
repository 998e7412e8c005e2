"""
Who buys where: cardholders with homes, habits and devices, merchants with
trades, places and terminals.

A population depends on its seed and sizes alone, so that traffic of another
time belongs to the same cards and merchants.
"""

from dataclasses import dataclass

import numpy as np

from consumer.local.simulator.catalogue import (
    CATEGORIES,
    CURRENCIES,
    EURO,
    HOME_CITIES,
    REMOTE_CITIES,
    Currency,
)
from consumer.local.simulator.columns import Floats, Hashes, Ints, Mask, mixed, tokens

CITIES = HOME_CITIES + REMOTE_CITIES
MIN_MERCHANTS = 60
"""Fewer would leave cities without a shop."""

_SHOPS_SHARE = 0.7
_REMOTE_SHOPS = 2
"""Shops that every remote city has at least; travellers and thieves need somewhere to go."""
_FAVOURITE_SHOPS = 10
_FAVOURITE_WEB_SHOPS = 5
_CARDS_A_CUSTOMER = 1.2
_KILOMETRES_A_DEGREE = 111.2
DEVICES_A_CARD = 4
"""Device numbers a card has to itself: ``card * DEVICES_A_CARD + k``."""


@dataclass(frozen=True, slots=True)
class Merchants:
    """
    Arrays over merchants; shops come first, ordered by city, then web shops.

    ``popularity_sum`` is the running sum of popularity, by which one is drawn.
    """

    city: Ints
    category: Ints
    latitude: Floats
    longitude: Floats
    price: Floats
    terminals: Ints
    popularity_sum: Floats
    first_of_city: Ints
    shops: int

    def __len__(self) -> int:
        return len(self.city)

    def online(self, merchant: Ints) -> Mask:
        """Which of them are web shops."""
        return merchant >= self.shops

    def draw_shops(self, rng: np.random.Generator, city: Ints) -> Ints:
        """A shop in each *city*, the popular ones more often."""
        return self._draw(rng, self.first_of_city[city], self.first_of_city[city + 1])

    def draw_web_shops(self, rng: np.random.Generator, n: int) -> Ints:
        """*n* web shops, the popular ones more often."""
        return self._draw(rng, np.full(n, self.shops), np.full(n, len(self)))

    def _draw(self, rng: np.random.Generator, first: Ints, end: Ints) -> Ints:
        low, high = self.popularity_sum[first], self.popularity_sum[end]
        point = low + (high - low) * rng.random(len(first))
        drawn = np.searchsorted(self.popularity_sum, point, side="right") - 1
        # Rounding may put a point on the far edge, which is the next city's.
        return np.clip(drawn, first, end - 1)


@dataclass(frozen=True, slots=True)
class Cards:
    """
    Arrays over cards.

    ``level`` scales what a card spends (median 1), ``per_day`` is its mean
    number of transactions, ``hours`` its two favourite local times.
    """

    city: Ints
    customer: Ints
    level: Floats
    per_day: Floats
    online_share: Floats
    hours: Floats
    devices: Ints
    favourite_shops: Ints
    favourite_web_shops: Ints

    def __len__(self) -> int:
        return len(self.city)


@dataclass(frozen=True, slots=True)
class Population:
    """Cards and merchants with the names they have in events."""

    cards: Cards
    merchants: Merchants
    card_ids: list[str]
    customer_ids: list[str]
    merchant_ids: list[str]

    def currency(self, merchant: int) -> Currency:
        """What *merchant* charges in."""
        return CURRENCIES.get(CITIES[int(self.merchants.city[merchant])].country, EURO)

    def amounts(self, rng: np.random.Generator, card: Ints, merchant: Ints) -> Floats:
        """What each card would usually pay at each merchant, in euros."""
        median = _MEDIANS[self.merchants.category[merchant]] * self.merchants.price[merchant]
        spread = np.exp(_SIGMAS[self.merchants.category[merchant]] * rng.standard_normal(len(card)))
        # Richer people pay more, but bread is bread: hence less than in proportion.
        return np.asarray(median * spread * self.cards.level[card] ** 0.7)


_MEDIANS = np.array([category.median_eur for category in CATEGORIES])
_SIGMAS = np.array([category.sigma for category in CATEGORIES])


def build(seed: int, *, cards: int, merchants: int, per_day: float) -> Population:
    """
    A population of *cards* that make *per_day* transactions on average.

    Raises ValueError for fewer than one card or ``MIN_MERCHANTS`` merchants.
    """
    if cards < 1:
        message = "a population needs at least one card"
        raise ValueError(message)
    if merchants < MIN_MERCHANTS:
        message = f"a population needs at least {MIN_MERCHANTS} merchants"
        raise ValueError(message)
    rng = np.random.default_rng([seed, 1])
    places = _merchants(rng, merchants)
    people = _cards(rng, cards, per_day, places)
    salt: Hashes = mixed(np.array([seed], dtype=np.uint64))
    numbers: Hashes = np.arange(cards, dtype=np.uint64)
    customers: Hashes = people.customer.astype(np.uint64)
    return Population(
        cards=people,
        merchants=places,
        card_ids=tokens("card_", salt + numbers),
        # Other numbers than the cards', or a customer's name would give the card's away.
        customer_ids=tokens("cust_", ~salt - customers),
        merchant_ids=[f"merchant_{number:04d}" for number in range(merchants)],
    )


def _merchants(rng: np.random.Generator, n: int) -> Merchants:
    shops = round(n * _SHOPS_SHARE)
    weights = np.array([city.weight for city in HOME_CITIES])
    at_home = shops - _REMOTE_SHOPS * len(REMOTE_CITIES)
    # One shop a home city for certain, the rest by its size.
    extra = rng.choice(len(HOME_CITIES), at_home - len(HOME_CITIES), p=weights / weights.sum())
    remote = len(HOME_CITIES) + np.arange(len(REMOTE_CITIES))
    shop_city = np.sort(
        np.concatenate([np.arange(len(HOME_CITIES)), extra, np.repeat(remote, _REMOTE_SHOPS)])
    )
    city = np.concatenate([shop_city, rng.choice(len(CITIES), n - shops)]).astype(np.int64)
    shop_shares = np.array([category.shops for category in CATEGORIES])
    web_shares = np.array([category.web_shops for category in CATEGORIES])
    category = np.concatenate(
        [
            rng.choice(len(CATEGORIES), shops, p=shop_shares / shop_shares.sum()),
            rng.choice(len(CATEGORIES), n - shops, p=web_shares / web_shares.sum()),
        ]
    )
    popularity = rng.pareto(1.8, n) + 0.3
    return Merchants(
        city=city,
        category=category.astype(np.int64),
        latitude=_around(rng, np.array([c.latitude for c in CITIES])[city]),
        longitude=_around(rng, np.array([c.longitude for c in CITIES])[city]),
        price=np.exp(rng.normal(0.0, 0.25, n)),
        terminals=1 + rng.poisson(1.0, n),
        popularity_sum=np.concatenate([[0.0], np.cumsum(popularity)]),
        first_of_city=np.searchsorted(shop_city, np.arange(len(CITIES) + 1)).astype(np.int64),
        shops=shops,
    )


def _around(rng: np.random.Generator, centre: Floats, kilometres: float = 6.0) -> Floats:
    """Degrees scattered about *centre*."""
    return np.round(centre + rng.normal(0.0, kilometres / _KILOMETRES_A_DEGREE, len(centre)), 5)


def _cards(rng: np.random.Generator, n: int, per_day: float, merchants: Merchants) -> Cards:
    weights = np.array([city.weight for city in HOME_CITIES])
    city = rng.choice(len(HOME_CITIES), n, p=weights / weights.sum()).astype(np.int64)
    activity = rng.gamma(2.5, 1.0, n) + 0.2
    shops = [merchants.draw_shops(rng, city) for _ in range(_FAVOURITE_SHOPS)]
    web_shops = [merchants.draw_web_shops(rng, n) for _ in range(_FAVOURITE_WEB_SHOPS)]
    return Cards(
        city=city,
        customer=(np.arange(n) / _CARDS_A_CUSTOMER).astype(np.int64),
        level=np.exp(rng.normal(0.0, 0.55, n)),
        per_day=per_day * activity / activity.mean(),
        online_share=rng.beta(2.0, 5.0, n),
        hours=np.stack([rng.normal(12.5, 1.5, n), rng.normal(18.5, 1.5, n)], axis=1),
        devices=1 + rng.binomial(DEVICES_A_CARD - 1, 0.3, n),
        favourite_shops=np.stack(shops, axis=1),
        favourite_web_shops=np.stack(web_shops, axis=1),
    )
