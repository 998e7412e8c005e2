"""
Features that need no state: calendar, ratios, differences, and distance from a place.

All are pure functions; what is not an integer is rounded, because RedisJSON reads
numbers of more than 15 digits inexactly and the vector in a document is to be the one
that was scored.
"""

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from math import asin, cos, radians, sin, sqrt
from zoneinfo import ZoneInfo

DECIMALS = 6
# To the metre: coordinates are kept to 10⁻⁵ degrees.
_KM_DECIMALS = 3
_EARTH_RADIUS_KM = 6371.0088
_DAY_S, _HOUR_S = 86_400, 3_600
_THURSDAY, _SATURDAY = 3, 5
_NIGHT_ENDS_HOUR = 6
DEGREE = 100_000
NOWHERE = 2**31 - 1


class Calendar(StrEnum):
    """What is told of the transaction's time, in the time zone of the specification."""

    HOUR_OF_DAY = "hour_of_day"
    DAY_OF_WEEK = "day_of_week"
    WEEKEND = "weekend"
    NIGHT = "night"


def read_calendar(calendar: Calendar, timezone: str) -> Callable[[int], float]:
    """
    Return what *calendar* says of seconds since the epoch in the IANA zone *timezone*.

    The hour is 0-23, the day 0 (Monday) to 6, weekend and night are 1 or 0; night is
    the hours up to and with that of six, as the Fraud Detection Handbook has it.
    """
    zone = None if timezone == "UTC" else ZoneInfo(timezone)

    def hour(time_s: int) -> int:
        return time_s // _HOUR_S % 24 if zone is None else datetime.fromtimestamp(time_s, zone).hour

    def day(time_s: int) -> int:
        if zone is None:
            return (time_s // _DAY_S + _THURSDAY) % 7
        return datetime.fromtimestamp(time_s, zone).weekday()

    return {
        Calendar.HOUR_OF_DAY: lambda time_s: float(hour(time_s)),
        Calendar.DAY_OF_WEEK: lambda time_s: float(day(time_s)),
        Calendar.WEEKEND: lambda time_s: float(day(time_s) >= _SATURDAY),
        Calendar.NIGHT: lambda time_s: float(hour(time_s) <= _NIGHT_ENDS_HOUR),
    }[calendar]


def ratio(of: float, to: float) -> float:
    """Return *of* / *to* to the millionth, 0 where *to* is 0."""
    return round(of / to, DECIMALS) if to else 0.0


def difference(of: float, less: float) -> float:
    """Return *of* - *less* to the millionth."""
    return round(of - less, DECIMALS)


def coordinates(latitude: float | None, longitude: float | None) -> tuple[int, int]:
    """Return a place in 10⁻⁵ degrees, (NOWHERE, NOWHERE) where it lacks a coordinate."""
    if latitude is None or longitude is None:
        return NOWHERE, NOWHERE
    return round(latitude * DEGREE), round(longitude * DEGREE)


def distance_km(here: tuple[int, int], there: tuple[int, int]) -> float:
    """
    Return the great-circle distance of two places in 10⁻⁵ degrees, in km to the metre.

    The haversine formula (R. W. Sinnott, Virtues of the Haversine, Sky and Telescope
    68, 1984) on a sphere of the Earth's mean radius, 6371.0088 km: within 0.6 % of the
    ellipsoid.
    """
    phi, other = radians(here[0] / DEGREE), radians(there[0] / DEGREE)
    turned = radians((there[1] - here[1]) / DEGREE)
    half = sin((other - phi) / 2) ** 2 + cos(phi) * cos(other) * sin(turned / 2) ** 2
    return round(2 * _EARTH_RADIUS_KM * asin(min(1.0, sqrt(half))), _KM_DECIMALS)


def speed_km_h(distance: float, seconds: float) -> float:
    """Return km an hour; what took no second counts as one."""
    return round(distance * _HOUR_S / max(seconds, 1.0), _KM_DECIMALS)


def is_timezone(name: str) -> bool:
    """Whether *name* is an IANA time zone that this machine knows; UTC needs no database."""
    if name == "UTC":
        return True
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True
