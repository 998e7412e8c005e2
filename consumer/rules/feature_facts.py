"""The features of a plan as names that rules may use."""

from consumer.features.plan import Amount, Clock, Derived, Feature, Plan
from consumer.rules.cel import Type
from consumer.rules.facts import Fact

_MONEY = ("major units", 42.5)
_UNITS = {
    "count": ("purchases", 3.0),
    "sum": _MONEY,
    "mean": _MONEY,
    "min": _MONEY,
    "max": _MONEY,
    "std": _MONEY,
    "distinct": ("different values", 2.0),
    "fraud_count": ("labelled frauds", 1.0),
    "fraud_rate": ("share, 0 to 1", 0.01),
    "time_since_last": ("seconds", 3_600.0),
    "first_seen": ("seconds", 86_400.0),
    "distance": ("km", 12.5),
    "speed": ("km/h", 80.0),
}
_CALENDAR = {
    "hour_of_day": ("hour, 0 to 23", 14.0),
    "day_of_week": ("day, 0 is Monday", 5.0),
}


def describe_features(plan: Plan, base_currency: str) -> list[Fact]:
    """Return each feature of *plan* with its unit, in the order of the vector."""
    return [_describe(feature, base_currency) for feature in plan.features]


def _describe(feature: Feature, base_currency: str) -> Fact:
    unit, example = "", 1.0
    if isinstance(feature, Amount):
        unit, example = _MONEY
    elif isinstance(feature, Clock):
        unit, example = _CALENDAR.get(feature.calendar, ("1 or 0", 1.0))
    elif isinstance(feature, Derived):
        unit = feature.operation
    else:
        unit, example = _UNITS.get(feature.aggregation, (unit, example))
    if unit == _MONEY[0]:
        unit = f"{base_currency}, major units"
    return Fact(f"f.{feature.name}", Type.NUMBER, unit, example)
