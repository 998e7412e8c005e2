"""
SQL for one cell: what a column says as text, time, money or number, null where it cannot.

DuckDB evaluates it, a thousand rows at a time. Everything a person wrote (names of columns,
constants, formats) enters quoted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from consumer.currency import EXPONENTS
from consumer.replay.mapping import (
    TIME_UNITS,
    Column,
    Constant,
    FieldMap,
    FieldSource,
)

NUMBER: Final = r"-?(0|[1-9][0-9]{0,39})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,2})?"
"""A JSON number (RFC 8259, section 6) that every reader of JSON can take."""

_SIGNED = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
_WHOLE: Final = frozenset((*_SIGNED, *(f"U{each}" for each in _SIGNED)))
_FRACTIONS: Final = frozenset(("FLOAT", "DOUBLE"))
_NAIVE: Final = frozenset(("DATE", "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS"))
_ZONED: Final = "TIMESTAMP WITH TIME ZONE"
_OTHERS: Final = frozenset(("VARCHAR", "BOOLEAN", "UUID", "JSON"))
_LAST_MS = 253_402_300_799_999  # the last millisecond of the year 9999
_ISO_OFFSET = r"[0-9]:[0-9]{2}.*([zZ]|[+-][0-9]{2}(:?[0-9]{2})?)$"
# Beyond it not every whole number has a double of its own.
_EXACT = 2**53
_MS_PER_S = 1000
# Two more than the finest currency has. Below the limit a double is finer than that by far.
_MONEY_DECIMALS = 6
_ROUNDED_BELOW = 10**9
_LONG_FRACTION = r"-?(0|[1-9][0-9]{0,8})\.[0-9]{7,40}"


def identifier(name: str) -> str:
    """Quote the name of a column."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote a text."""
    return "'" + text.replace("'", "''") + "'"


def is_number(kind: str) -> bool:
    """Whether DuckDB's type *kind* counts."""
    return kind in _WHOLE or kind in _FRACTIONS or kind.startswith("DECIMAL")


def is_scalar(kind: str) -> bool:
    """Whether a cell of *kind* can be the value of a field."""
    times = kind in _NAIVE or kind == _ZONED
    return is_number(kind) or times or kind in _OTHERS or kind.startswith("ENUM")


@dataclass(frozen=True, slots=True)
class Cells:
    """Cells of a table whose columns have *kinds*, read by the rules of *field_map*."""

    kinds: Mapping[str, str]
    field_map: FieldMap

    def text(self, source: FieldSource) -> str:
        """What stands there, trimmed; null where that is nothing."""
        if isinstance(source, Constant):
            return literal(source.text)
        if isinstance(source, Column):
            return _text(identifier(source.name), self.kinds[source.name])
        pieces = [
            literal(each) if isinstance(each, str) else self.text(each) for each in source.parts
        ]
        return "(" + " || ".join(pieces) + ")"

    def category(self, source: FieldSource) -> str:
        """A code of four digits, also from a column of numbers that lost its zeros."""
        if isinstance(source, Column) and is_number(self.kinds[source.name]):
            text = self.text(source)
            return f"CASE WHEN length({text}) < 4 THEN lpad({text}, 4, '0') ELSE {text} END"
        return self.text(source)

    def amount(self, source: FieldSource, currency: str) -> str:
        """A JSON number in major units of *currency* (SQL), null where there is none."""
        text = self._money(source) if isinstance(source, Column) else self.text(source)
        if not self.field_map.minor_units:
            return f"CASE WHEN regexp_full_match({text}, {literal(NUMBER)}) THEN {text} END"
        return _major(f"TRY_CAST({text} AS BIGINT)::HUGEINT", currency)

    def _money(self, source: Column) -> str:
        """The text of an amount, without what arithmetic with doubles left behind: 8.11 * 5."""
        text, kind = self.text(source), self.kinds[source.name]
        if kind == "DOUBLE":
            value = identifier(source.name)
            noisy = f"abs({value}) < {_ROUNDED_BELOW} AND {value} <> trunc({value})"
        elif is_number(kind):
            return text
        else:
            # Doubles that were written out with all their digits.
            value = f"TRY_CAST({text} AS DOUBLE)"
            long = f"length({text}) > {_MONEY_DECIMALS + 1}"
            noisy = f"{long} AND regexp_full_match({text}, {literal(_LONG_FRACTION)})"
        rounded = f"round({value}, {_MONEY_DECIMALS})::VARCHAR"
        return f"(CASE WHEN {noisy} THEN {rounded} ELSE {text} END)"

    def number(self, source: FieldSource) -> str:
        """A finite JSON number, null where there is none."""
        value = f"TRY_CAST({self.text(source)} AS DOUBLE)"
        return f"CASE WHEN isfinite({value}) THEN {value}::VARCHAR END"

    def json(self, source: FieldSource) -> str:
        """The cell as JSON of its own type, null where it is empty."""
        if not isinstance(source, Column):
            return f"to_json({self.text(source)})::VARCHAR"
        kind, name = self.kinds[source.name], identifier(source.name)
        if kind == "JSON":
            return f"nullif({name}::VARCHAR, 'null')"
        if kind in _FRACTIONS:
            return f"CASE WHEN isfinite({name}) THEN {name}::VARCHAR END"
        if is_number(kind) or kind == "BOOLEAN":
            return f"{name}::VARCHAR"
        return f"to_json({self.text(source)})::VARCHAR"

    def time_ms(self, source: FieldSource) -> str:
        """Milliseconds since the epoch, finer fractions cut; null where it is no time."""
        kind = self.kinds[source.name] if isinstance(source, Column) else "VARCHAR"
        if isinstance(source, Column) and kind in _NAIVE:
            moment = f"TRY_CAST({identifier(source.name)} AS TIMESTAMP)"
            value = _epoch_ms(self._zoned(moment))
        elif isinstance(source, Column) and kind == _ZONED:
            value = _epoch_ms(identifier(source.name))
        elif self.field_map.time_unit is not None:
            value = self._counted(self.text(source), self.field_map.time_unit)
        else:
            value = self._written(self.text(source))
        return f"CASE WHEN {value} BETWEEN 0 AND {_LAST_MS} THEN {value} END"

    def _zoned(self, naive: str) -> str:
        zone = self.field_map.time_zone
        if zone == "UTC":
            return naive
        # Beyond them a time zone is an error rather than a null.
        known = f"{naive} BETWEEN TIMESTAMP '1900-01-01' AND TIMESTAMP '9999-12-31'"
        return f"(CASE WHEN {known} THEN timezone({literal(zone)}, {naive}) END)"

    def _counted(self, text: str, unit: str) -> str:
        units = TIME_UNITS[unit]
        # Whole numbers stay whole: nanoseconds do not fit into a double.
        whole = f"TRY_CAST({text} AS BIGINT)::HUGEINT * {_MS_PER_S} // {units}"
        parts = f"floor(TRY_CAST({text} AS DOUBLE) * {_MS_PER_S / units!r})"
        fraction = f"CASE WHEN {parts} BETWEEN 0 AND {_LAST_MS} THEN {parts}::BIGINT END"
        exact = f"TRY_CAST({whole} AS BIGINT)"
        return f"(CASE WHEN contains({text}, '.') THEN {fraction} ELSE {exact} END)"

    def _written(self, text: str) -> str:
        form = self.field_map.time_format
        if form is not None:
            parsed = f"try_strptime({text}, {literal(form)})"
            return _epoch_ms(parsed if "%z" in form else self._zoned(parsed))
        zoned = _epoch_ms(f"TRY_CAST({text} AS TIMESTAMPTZ)")
        naive = _epoch_ms(self._zoned(f"TRY_CAST({text} AS TIMESTAMP)"))
        has_offset = f"regexp_matches({text}, {literal(_ISO_OFFSET)})"
        return f"(CASE WHEN {has_offset} THEN {zoned} ELSE {naive} END)"


def read_offset_time(text: str) -> str:
    """Milliseconds since the epoch of RFC 3339 text (SQL), null where it is none with an offset."""
    value = _epoch_ms(f"TRY_CAST({text} AS TIMESTAMPTZ)")
    has_offset = f"regexp_matches({text}, {literal(_ISO_OFFSET)})"
    return f"(CASE WHEN {has_offset} AND {value} BETWEEN 0 AND {_LAST_MS} THEN {value} END)"


def write_time(ms: str) -> str:
    """Write milliseconds since the epoch (SQL) as RFC 3339 in UTC."""
    return f"(replace(make_timestamp({ms} * 1000)::VARCHAR, ' ', 'T') || 'Z')"


def _text(name: str, kind: str) -> str:
    if kind in ("VARCHAR", "JSON") or kind.startswith("ENUM"):
        return f"nullif(trim({name}::VARCHAR), '')"
    if kind in _FRACTIONS:
        # pandas makes doubles of whole numbers as soon as one is missing, which is then NaN.
        whole = f"{name} = trunc({name}) AND abs({name}) < {_EXACT}"
        written = f"CASE WHEN {whole} THEN {name}::BIGINT::VARCHAR ELSE {name}::VARCHAR END"
        return f"(CASE WHEN isnan({name}) THEN NULL ELSE {written} END)"
    return f"{name}::VARCHAR"


def _epoch_ms(moment: str) -> str:
    # epoch_ms() rounds.
    return f"(CASE WHEN isfinite({moment}) THEN epoch_us({moment}) // {_MS_PER_S} END)"


def _major(minor: str, currency: str) -> str:
    """Write whole minor units as major units, by the decimals of the currency."""
    cases = []
    for decimals in sorted(set(EXPONENTS.values()) - {2}):
        codes = ", ".join(literal(code) for code, each in EXPONENTS.items() if each == decimals)
        cases.append(f"WHEN {currency} IN ({codes}) THEN {_shifted(minor, decimals)}")
    return f"(CASE {' '.join(cases)} ELSE {_shifted(minor, 2)} END)"


def _shifted(minor: str, decimals: int) -> str:
    if decimals == 0:
        return f"({minor})::VARCHAR"
    scale = 10**decimals
    whole, part = f"(abs({minor}) // {scale})", f"(abs({minor}) % {scale})"
    sign = f"CASE WHEN {minor} < 0 THEN '-' ELSE '' END"
    return f"({sign} || {whole}::VARCHAR || '.' || lpad({part}::VARCHAR, {decimals}, '0'))"
