"""
The world the simulation takes place in: cities, currencies and trades.

Merchant category codes are those of ISO 18245. Prices are rough medians in
euros, chosen for plausible proportions between the trades, not taken from data.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class City:
    """A place with its centre in degrees, and its share of what lives there."""

    name: str
    country: str
    latitude: float
    longitude: float
    weight: float
    utc_offset_hours: int


@dataclass(frozen=True, slots=True)
class Category:
    """
    A trade: its code, how many shops and web shops it has, and what it costs.

    A purchase is lognormal around ``median_eur`` with ``sigma`` as the standard
    deviation of its logarithm.
    """

    mcc: str
    name: str
    shops: float
    web_shops: float
    median_eur: float
    sigma: float


@dataclass(frozen=True, slots=True)
class Currency:
    """An ISO 4217 currency: its minor digits, and units per euro, fixed for want of a market."""

    code: str
    exponent: int
    per_euro: float


HOME_CITIES = (
    City("Berlin", "DE", 52.520, 13.405, 3.6, 1),
    City("Hamburg", "DE", 53.551, 9.994, 1.8, 1),
    City("Munich", "DE", 48.137, 11.575, 1.5, 1),
    City("Paris", "FR", 48.857, 2.352, 4.0, 1),
    City("Lyon", "FR", 45.764, 4.836, 1.2, 1),
    City("Madrid", "ES", 40.417, -3.704, 3.0, 1),
    City("Barcelona", "ES", 41.385, 2.173, 1.6, 1),
    City("Rome", "IT", 41.903, 12.496, 2.4, 1),
    City("Milan", "IT", 45.464, 9.190, 1.4, 1),
    City("Vienna", "AT", 48.208, 16.374, 1.9, 1),
    City("Amsterdam", "NL", 52.368, 4.904, 1.2, 1),
    City("Brussels", "BE", 50.850, 4.352, 1.0, 1),
    City("Lisbon", "PT", 38.722, -9.139, 0.9, 0),
    City("Dublin", "IE", 53.350, -6.260, 0.8, 0),
)
"""Where cards live. All of them pay in euros at home."""

REMOTE_CITIES = (
    City("London", "GB", 51.507, -0.128, 3.0, 0),
    City("Zurich", "CH", 47.377, 8.542, 1.5, 1),
    City("Stockholm", "SE", 59.329, 18.069, 1.0, 1),
    City("Warsaw", "PL", 52.230, 21.012, 1.0, 1),
    City("New York", "US", 40.713, -74.006, 1.5, -5),
    City("Miami", "US", 25.762, -80.192, 0.7, -5),
    City("Tokyo", "JP", 35.677, 139.650, 0.7, 9),
    City("Osaka", "JP", 34.694, 135.502, 0.3, 9),
)
"""Where cards only travel to, or are misused."""

CURRENCIES = {
    "GB": Currency("GBP", 2, 0.86),
    "CH": Currency("CHF", 2, 0.95),
    "SE": Currency("SEK", 2, 11.30),
    "PL": Currency("PLN", 2, 4.30),
    "US": Currency("USD", 2, 1.09),
    "JP": Currency("JPY", 0, 162.0),
}
"""The currency of each country that does not pay in euros."""

EURO = Currency("EUR", 2, 1.0)

CASH_MACHINE = "6011"

CATEGORIES = (
    Category("5411", "grocery stores", 16.0, 1.0, 24.0, 0.75),
    Category("5812", "restaurants", 12.0, 0.0, 28.0, 0.60),
    Category("5814", "fast food", 9.0, 2.0, 10.0, 0.45),
    Category("5541", "service stations", 7.0, 0.0, 46.0, 0.40),
    Category("5912", "drug stores", 6.0, 1.5, 15.0, 0.65),
    Category("4111", "local transport", 6.0, 1.5, 4.5, 0.60),
    Category("4121", "taxis", 3.0, 2.0, 17.0, 0.50),
    Category("6011", "cash machines", 6.0, 0.0, 70.0, 0.55),
    Category("5651", "clothing stores", 6.0, 5.0, 52.0, 0.65),
    Category("5311", "department stores", 4.0, 5.0, 44.0, 0.80),
    Category("5732", "electronics stores", 3.0, 4.0, 120.0, 0.95),
    Category("5944", "jewellery stores", 1.5, 0.7, 140.0, 0.90),
    Category("5712", "furniture stores", 2.0, 1.5, 130.0, 0.85),
    Category("5942", "book stores", 2.5, 2.5, 19.0, 0.50),
    Category("7011", "hotels", 3.0, 2.5, 125.0, 0.60),
    Category("4511", "airlines", 0.0, 2.0, 190.0, 0.65),
    Category("7832", "cinemas", 2.0, 1.0, 16.0, 0.45),
    Category("5815", "digital media", 0.0, 5.0, 9.0, 0.45),
    Category("5816", "digital games", 0.0, 4.0, 17.0, 0.80),
    Category("4899", "streaming services", 0.0, 2.0, 11.0, 0.25),
    Category("5999", "other retail", 5.0, 5.0, 33.0, 0.90),
)
