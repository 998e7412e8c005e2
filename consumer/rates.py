"""
Dated exchange rates: the money of events that bring no conversion of their own.

A table is a file of (date, currency, rate): CSV with that header, or YAML, a list
of mappings with those keys. One unit of the currency is worth *rate* units of the
base currency on that day; a rate stands until the next one of its currency, for a
limited number of days. Rates are kept as exact fractions.
"""

import csv
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from fractions import Fraction
from pathlib import Path

import yaml

from consumer.currency import EXPONENTS, MAX_MINOR
from consumer.errors import Misconfigured, Problem, Rejected
from consumer.logs import get_logger
from consumer.yaml_document import read_yaml

_COLUMNS = ("date", "currency", "rate")
_RATE = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?")
_YAML = frozenset({".yaml", ".yml"})
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class _Row:
    """One rate as written, and the line it stands on."""

    line: int
    date: str
    currency: str
    rate: str


@dataclass(frozen=True, slots=True)
class _Series:
    """
    The rates of one currency in order of days (proleptic ordinals).

    Each is a factor from minor units to minor units of the base currency.
    """

    days: tuple[int, ...]
    factors: tuple[Fraction, ...]


class RateTable:
    """The rates of one file, read once."""

    def __init__(self, series: dict[str, _Series], max_age_days: int) -> None:
        self._series = series
        self._max_age_days = max_age_days

    @classmethod
    def read(cls, path: Path, base_currency: str, max_age_days: int) -> "RateTable":
        """
        Read *path* (``.yaml`` or ``.yml``, else CSV).

        Raises Misconfigured with every line that is wrong: no date, no currency of
        money in use or the base currency itself, no rate above 0, a day said twice.
        """
        problems: list[Problem] = []
        rates: dict[str, dict[int, Fraction]] = {}
        for row in _read_rows(path):
            wrong = _check(row, base_currency, rates.get(row.currency, {}))
            if wrong is not None:
                problems.append(Problem(f"{path}:{row.line}", *wrong))
                continue
            scale = Fraction(10) ** (EXPONENTS[base_currency] - EXPONENTS[row.currency])
            day = date.fromisoformat(row.date).toordinal()
            rates.setdefault(row.currency, {})[day] = Fraction(row.rate) * scale
        if problems:
            raise Misconfigured(problems[:_SHOWN])
        series = {}
        for currency, by_day in rates.items():
            days = tuple(sorted(by_day))
            series[currency] = _Series(days, tuple(by_day[day] for day in days))
        return cls(series, max_age_days)

    def convert(self, amount_minor: int, currency: str, time: datetime) -> int | None:
        """
        Return *amount_minor* in minor units of the base currency, or None without a rate.

        The rate is that of the day of *time* (UTC) or the last one before it. Half a
        minor unit is rounded up, as Council Regulation (EC) No 1103/97, article 5, has it.
        Raises Rejected (``out_of_range``) for what exceeds the largest amount.
        """
        series = self._series.get(currency)
        if series is None:
            return None
        day = time.toordinal()
        place = bisect_right(series.days, day) - 1
        if place < 0 or day - series.days[place] > self._max_age_days:
            return None
        factor = series.factors[place]
        doubled = 2 * factor.denominator
        minor = (2 * amount_minor * factor.numerator + factor.denominator) // doubled
        if minor > MAX_MINOR:
            expected = f"expected at most {MAX_MINOR} minor units of the base currency"
            raise Rejected("out_of_range", f"amount: {expected}")
        return minor


class Rates:
    """
    The newest good state of a rate file, which an operator may replace at any time.

    A replacement that cannot be read is logged once and leaves the former rates.
    """

    def __init__(self, path: Path, base_currency: str, max_age_days: int) -> None:
        """Read *path*. Raises Misconfigured."""
        self._path = path
        self._base_currency = base_currency
        self._max_age_days = max_age_days
        self._version = self._look()
        self.table = RateTable.read(path, base_currency, max_age_days)

    def refresh(self) -> None:
        """Read the file again if it is another one than last time; costs a stat."""
        version = self._look()
        if version is None or version == self._version:
            return
        self._version = version
        log = get_logger(__name__)
        try:
            self.table = RateTable.read(self._path, self._base_currency, self._max_age_days)
        except Misconfigured as error:
            log.warning("rates not replaced", path=str(self._path), error=str(error))
            return
        log.info("rates replaced", path=str(self._path))

    def _look(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns


def _check(row: _Row, base_currency: str, known: Iterable[int]) -> tuple[str, str, str] | None:
    """Return (key, found, expected) of the first thing wrong with *row*, else None."""
    try:
        day = date.fromisoformat(row.date).toordinal()
    except ValueError:
        return "date", repr(row.date), "a day such as 2026-05-01"
    if row.currency not in EXPONENTS or row.currency == base_currency:
        return "currency", repr(row.currency), f"an ISO 4217 code other than {base_currency}"
    if _RATE.fullmatch(row.rate) is None or not Fraction(row.rate):
        expected = f"what one {row.currency} is worth in {base_currency}, such as 0.92"
        return "rate", repr(row.rate), expected
    if day in known:
        return "date", f"{row.date} again", f"one rate a day of {row.currency}"
    return None


def _read_rows(path: Path) -> list[_Row]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        found = error.strerror or str(error)
        raise _unreadable(path, found, "a readable file") from error
    except UnicodeDecodeError as error:
        raise _unreadable(path, f"byte {error.start} that is not UTF-8", "UTF-8") from error
    if path.suffix in _YAML:
        return list(_yaml_rows(path, text))
    try:
        return list(_csv_rows(path, text))
    except csv.Error as error:
        raise _unreadable(path, str(error), "CSV") from error


def _csv_rows(path: Path, text: str) -> Iterator[_Row]:
    lines = csv.reader(text.splitlines())
    header = next(lines, [])
    if tuple(header) != _COLUMNS:
        raise _unreadable(path, f"a first line of {','.join(header)!r}", ",".join(_COLUMNS))
    for cells in lines:
        if not cells:
            continue
        if len(cells) != len(_COLUMNS):
            found = f"{len(cells)} values on line {lines.line_num}"
            raise _unreadable(path, found, ",".join(_COLUMNS))
        yield _Row(lines.line_num, *(cell.strip() for cell in cells))


def _yaml_rows(path: Path, text: str) -> Iterator[_Row]:
    # Nodes, so that a rate is what was written and not a float of it.
    root = read_yaml(text, str(path)).node
    entries: Sequence[yaml.Node] = root.value if isinstance(root, yaml.SequenceNode) else ()
    if root is not None and not isinstance(root, yaml.SequenceNode):
        raise _unreadable(path, "no list", f"a list of mappings with {', '.join(_COLUMNS)}")
    for entry in entries:
        line = entry.start_mark.line + 1
        pairs = entry.value if isinstance(entry, yaml.MappingNode) else ()
        values = {key.value: value.value for key, value in pairs}
        if sorted(map(str, values)) != sorted(_COLUMNS):
            expected = f"a mapping with {', '.join(_COLUMNS)}"
            raise _unreadable(path, f"another entry on line {line}", expected)
        yield _Row(line, *(str(values[name]) for name in _COLUMNS))


def _unreadable(path: Path, found: str, expected: str) -> Misconfigured:
    return Misconfigured([Problem(str(path), "events.rates", found, expected)])
