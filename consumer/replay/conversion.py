"""
The SQL that turns rows of one table into events: the mapping, resolved against its columns.

A row becomes a transaction and, by its label column or a table of labels, a label. Each
has a key, twice the millisecond of its release and one more for a transaction, so that one number
orders labels before the transactions of their millisecond. A row that cannot be mapped
has a problem instead: the column and the reason, with ``SEPARATOR`` between.
"""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from consumer.errors import Misconfigured, Problem
from consumer.replay.cells import Cells, identifier, is_number, is_scalar, literal, write_time
from consumer.replay.mapping import (
    EVENT_FIELDS,
    KEY_FIELDS,
    LABEL_FIELDS,
    REQUIRED,
    Column,
    EventForm,
    FieldMap,
    FieldSource,
    LabelPolicy,
    columns_of,
)

SEPARATOR: Final = "\x1f"
_NUMBERS = ("latitude", "longitude")
_TIMES = ("event_time", "label_time")
_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Columns:
    """
    The columns of one file: ``kinds`` is name → type of DuckDB, in their order.

    Of NDJSON only a sample is known; what is not in it may come later (``open_ended``).
    """

    address: str
    kinds: Mapping[str, str]
    open_ended: bool = False


@dataclass(frozen=True, slots=True)
class Conversion:
    """
    The events of one table.

    ``wanted`` are the columns to read, ``literals`` those of them to read as JSON.
    """

    sources: Mapping[str, FieldSource]
    cells: Cells
    form: EventForm
    policy: LabelPolicy

    @property
    def wanted(self) -> tuple[str, ...]:
        """The columns that are read."""
        names = (name for source in self.sources.values() for name in columns_of(source))
        return tuple(dict.fromkeys(names))

    @property
    def literals(self) -> frozenset[str]:
        """The columns whose cells keep their JSON type."""
        extra = (self.sources[each] for each in self.form.extra_fields if each in self.sources)
        return frozenset(name for source in extra for name in columns_of(source))

    @property
    def labelled(self) -> bool:
        """Whether rows bring labels of their own."""
        return "label" in self.sources

    def rows(self, relation: str) -> str:
        """A query of all rows: ``row``, ``key``, ``label_key``, ``problem``, ``raw``."""
        label_key = f"CASE WHEN {self._emitted} THEN {self._label_ms} * 2 END"
        return (
            f"SELECT row, CASE WHEN problem IS NULL THEN event_ms * 2 + 1 END AS key, "
            f"CASE WHEN problem IS NULL THEN {label_key if self.labelled else 'NULL'} END::BIGINT "
            f"AS label_key, problem, CASE WHEN problem IS NOT NULL THEN raw END AS raw "
            f"FROM ({self._checked(relation)})"
        )

    def transactions(self, relation: str, from_key: int) -> str:
        """A query of the transactions: ``key``, ``row``, ``event``."""
        return (
            f"SELECT event_ms * 2 + 1 AS key, row, encode({self._transaction()}) AS event "
            f"FROM ({self._checked(relation)}) "
            f"WHERE problem IS NULL AND event_ms * 2 + 1 >= {from_key}"
        )

    def labels(self, relation: str, from_key: int) -> str:
        """A query of the labels that rows bring themselves: ``key``, ``row``, ``event``."""
        checked = self._checked(relation)
        released = (
            f"SELECT *, {self._label_ms} AS released_ms FROM ({checked}) "
            f"WHERE problem IS NULL AND {self._emitted}"
        )
        return (
            f"SELECT released_ms * 2 AS key, row, "
            f"encode({self._label('label', 'label_source')}) AS event "
            f"FROM ({released}) WHERE released_ms * 2 >= {from_key}"
        )

    def joined_labels(self, relation: str, known: str, from_key: int) -> str:
        """As ``labels``, of the table *known*, those of rows here; with ``transaction_id``."""
        released = (
            f"SELECT m.*, l.label AS known_label, l.source AS known_source, "
            f"coalesce(l.label_ms, m.event_ms + {self._delay_ms}) AS released_ms "
            f"FROM ({self._checked(relation)}) m "
            f"JOIN {known} l ON l.transaction_id = m.transaction_id WHERE m.problem IS NULL"
        )
        return (
            f"SELECT released_ms * 2 AS key, row, transaction_id, "
            f"encode({self._label('known_label', 'known_source')}) AS event "
            f"FROM ({released}) WHERE released_ms * 2 >= {from_key}"
        )

    def known_labels(self, relation: str) -> str:
        """A query of the rows of a table of labels: what is known of which transaction."""
        return (
            f"SELECT transaction_id, label, label_ms, label_source AS source, row, problem, "
            f"CASE WHEN problem IS NOT NULL THEN raw END AS raw FROM ({self._checked(relation)})"
        )

    @property
    def _delay_ms(self) -> str:
        # Null, and so no release, where no delay was said: each label then has a time of its own.
        return "NULL::BIGINT" if self.policy.delay_s is None else str(self.policy.delay_s * 1000)

    @property
    def _label_ms(self) -> str:
        return f"coalesce(label_ms, event_ms + {self._delay_ms})"

    @property
    def _emitted(self) -> str:
        return "label IS NOT NULL" if self.policy.legitimate else "label = 'fraud'"

    def _checked(self, relation: str) -> str:
        values = ", ".join(f"{sql} AS {identifier(name)}" for name, sql in self._values())
        cases = " ".join(self._problems())
        return (
            f"SELECT *, CASE WHEN line_problem IS NOT NULL THEN {literal(SEPARATOR)} || "
            f"line_problem {cases} END AS problem FROM "
            f"(SELECT __row AS row, __problem AS line_problem, __raw AS raw, {values} "
            f"FROM {relation})"
        )

    def _values(self) -> Iterator[tuple[str, str]]:
        """Yield the name and the SQL of each value, and of its text where that can be wrong."""
        for name, source in self.sources.items():
            text = self.cells.text(source)
            if name in _TIMES:
                yield name.replace("_time", "_ms"), self.cells.time_ms(source)
                yield f"{name} text", text
            elif name in ("amount", "base_amount"):
                yield name, self.cells.amount(source, self._currency(name))
                yield f"{name} text", text
            elif name in _NUMBERS:
                yield name, self.cells.number(source)
                yield f"{name} text", text
            elif name == "label":
                yield name, self._meaning(text)
                yield f"{name} text", text
            elif name == "merchant_category":
                yield name, self.cells.category(source)
            elif name in self.form.extra_fields:
                yield _further(name), self.cells.json(source)
            else:
                yield name, text
        for name, absent in (("label_ms", "NULL::BIGINT"), ("label_source", "'replay'")):
            if name.replace("_ms", "_time") not in self.sources:
                yield name, absent

    def _currency(self, name: str) -> str:
        if name == "base_amount":
            return literal(self.form.base_currency)
        return self.cells.text(self.sources["currency"])

    def _meaning(self, text: str) -> str:
        words = self.cells.field_map.words
        lower = f"coalesce(lower({text}), '')"
        return (
            f"CASE WHEN {lower} IN ({_list(words.fraud)}) THEN 'fraud' "
            f"WHEN {lower} IN ({_list(words.legitimate)}) THEN 'legitimate' END"
        )

    def _problems(self) -> Iterator[str]:
        """Yield the cases of what can be wrong with a row, in the order of its fields."""
        for name, source in self.sources.items():
            place = ", ".join(columns_of(source)) or name
            text = identifier(f"{name} text")
            if name in REQUIRED:
                empty = text if name in ("event_time", "amount") else identifier(name)
                yield _case(f"{empty} IS NULL", place, f"{name}: expected, but empty")
            expected = self._expected(name)
            if expected is None:
                continue
            value = identifier(name.replace("_time", "_ms"))
            wrong = f"{text} IS NOT NULL AND {value} IS NULL"
            if name == "label":
                unknown = _list(self.cells.field_map.words.unknown)
                wrong = f"{wrong} AND lower({text}) NOT IN ({unknown})"
            yield _case(wrong, place, f"{name}: expected {expected}")
        if "label_time" in self.sources and self.policy.delay_s is None:
            place = ", ".join(columns_of(self.sources["label_time"]))
            untimed = f"{self._emitted} AND label_ms IS NULL"
            yield _case(untimed, place, "label_time: expected, as there is no --label-delay")

    def _expected(self, name: str) -> str | None:
        rules = self.cells.field_map
        if name in _TIMES:
            if rules.time_unit is not None:
                return f"a time in {rules.time_unit} since the epoch"
            return f"a time such as {rules.time_format or '2026-05-01 12:30:00'}"
        if name in ("amount", "base_amount"):
            return "whole minor units" if rules.minor_units else "a number such as 12.50"
        if name in _NUMBERS:
            return "a number"
        if name == "label":
            return f"one of {', '.join((*rules.words.fraud, *rules.words.legitimate)[:12])}"
        return None

    def _transaction(self) -> str:
        parts = ["""'{"type":"transaction"'"""]
        for name in (*EVENT_FIELDS, *self.form.extra_fields):
            if name not in self.sources:
                continue
            value = self._written(name)
            member = f"""{literal(f",{_quoted(name)}:")} || {value}"""
            # Null is left out: decoding looks twice at an event that has one.
            parts.append(member if name in REQUIRED else f"coalesce({member}, '')")
        return " || ".join((*parts, "'}'"))

    def _written(self, name: str) -> str:
        if name in self.form.extra_fields:
            return identifier(_further(name))
        column = identifier(name)
        if name == "event_time":
            return f"""'"' || {write_time("event_ms")} || '"'"""
        if name in ("amount", "base_amount", *_NUMBERS):
            return column
        return f"to_json({column})::VARCHAR"

    def _label(self, label: str, source: str) -> str:
        keys = []
        for name in KEY_FIELDS:
            if name in self.sources:
                member = (
                    f"""{literal(f",{_quoted(name)}:")} || to_json({identifier(name)})::VARCHAR"""
                )
                keys.append(f"coalesce({member}, '')")
        # Every key begins with a comma, the first one too.
        members = f"substr({' || '.join(keys)}, 2)"
        return (
            """'{"type":"label","transaction_id":' || to_json(transaction_id)::VARCHAR"""
            f""" || ',"label":"' || {label} || '","label_time":"' || {write_time("released_ms")}"""
            f""" || '","source":' || to_json(coalesce({source}, 'replay'))::VARCHAR"""
            f""" || ',"event_time":"' || {write_time("event_ms")} || '","keys":{{' || {members}"""
            """ || '}}'"""
        )


def resolve(
    field_map: FieldMap, columns: Columns, form: EventForm, policy: LabelPolicy, prefix: str = ""
) -> Conversion:
    """
    Hold *field_map* against the *columns* of a file.

    A field without a source takes the column of its own name; a further field that behind
    *prefix*. Raises Misconfigured with everything that does not fit.
    """
    sources: dict[str, FieldSource] = {}
    kinds = dict(columns.kinds)
    for name in (*EVENT_FIELDS, *form.extra_fields, *LABEL_FIELDS):
        own = f"{prefix}{name}" if name in form.extra_fields else name
        if name in field_map.fields:
            sources[name] = field_map.fields[name]
        elif name in field_map.dropped or name in LABEL_FIELDS:
            continue
        elif own in kinds or columns.open_ended:
            sources[name] = Column(own)
            kinds.setdefault(own, "VARCHAR")
    conversion = Conversion(sources, Cells(kinds, field_map), form, policy)
    if columns.open_ended:
        kinds.update(dict.fromkeys(conversion.literals, "JSON"))
    problems = list(_misfits(conversion, columns))
    if problems:
        raise Misconfigured(problems)
    return conversion


def _misfits(conversion: Conversion, columns: Columns) -> Iterator[Problem]:
    known = list(columns.kinds)
    for name in REQUIRED:
        source = conversion.sources.get(name)
        unseen = columns.open_ended and source == Column(name) and name not in known
        if source is None or unseen:
            yield Problem(
                columns.address, name, "no source", f"--map {name}={closest(name, known)}"
            )
    for name, source in conversion.sources.items():
        for column in columns_of(source):
            if column not in conversion.cells.kinds:
                yield Problem(columns.address, name, f"no column {column}", closest(column, known))
            else:
                yield from misfit(conversion, columns.address, name, column)
    if conversion.labelled:
        yield from untimed(conversion, columns.address)


def misfit(conversion: Conversion, address: str, name: str, column: str) -> Iterator[Problem]:
    """Say so where the type of *column* is nothing for field *name*."""
    kind = conversion.cells.kinds[column]
    rules = conversion.cells.field_map
    if not is_scalar(kind):
        yield Problem(address, name, f"column {column} of type {kind}", "texts, numbers or times")
    elif name in _TIMES and is_number(kind) and rules.time_unit is None:
        expected = "--time-unit s, ms, us or ns: what it counts since 1970"
        yield Problem(address, name, f"numbers in column {column}", expected)


def untimed(conversion: Conversion, address: str) -> Iterator[Problem]:
    """Say so where nothing tells when labels are released."""
    if conversion.policy.delay_s is None and "label_time" not in conversion.sources:
        expected = "--label-delay (such as 7d; 0 for at once) or a label_time"
        yield Problem(address, "label", "nothing that says when labels became known", expected)


def closest(name: str, known: list[str]) -> str:
    """The columns that *name* may have meant, for the ``expected`` of a problem."""
    # Case is what people get wrong most, and it weighs most in the distance.
    lower = {each.lower(): each for each in known}
    close = [
        lower[each] for each in difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.5)
    ]
    others = [each for each in known if each not in close][: _SHOWN - len(close)]
    if not close:
        return f"COLUMN, one of {', '.join(others)}" if others else "COLUMN"
    return f"{close[0]}? Columns: {', '.join([*close, *others])}"


def _case(condition: str, place: str, reason: str) -> str:
    return f"WHEN {condition} THEN {literal(f'{place}{SEPARATOR}{reason}')}"


def _list(words: tuple[str, ...]) -> str:
    return ", ".join(literal(each) for each in words) or "NULL"


def _further(name: str) -> str:
    # Further fields may have any name, so also one of the columns here.
    return f"x {name}"


def _quoted(name: str) -> str:
    return f'"{name}"'
