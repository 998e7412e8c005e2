"""
The mapping that a person wrote, as ``--map`` words or as a YAML file.

Nothing in it is trusted; every mistake is told at once, those of a file with line and
column. A word on the command line wins over the file.
"""

import re
import zoneinfo
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from consumer.errors import Misconfigured, Problem
from consumer.replay.mapping import (
    EVENT_FIELDS,
    LABEL_FIELDS,
    TIME_UNITS,
    Column,
    Constant,
    EventForm,
    FieldMap,
    FieldSource,
    LabelWords,
    read_source,
)
from consumer.yaml_document import YamlDocument, expect_key, read_yaml, show_found

_SECTIONS = ("fields", "time", "amount", "label")
_WORDS = ("fraud", "legitimate", "unknown")
_FORMS = "a column, =CONSTANT, a template such as c-{COLUMN}, or nothing to leave the field out"


def read_field_map(
    words: Sequence[str],
    path: Path | None,
    form: EventForm,
    *,
    option: str = "--map",
    fields: Sequence[str] = (*EVENT_FIELDS, *LABEL_FIELDS),
) -> FieldMap:
    """
    Read the mapping of *path*, then *words* such as ``card_id=CUSTOMER_ID`` over it.

    *option* is what the words came with, for problems; *fields* may be mapped, and the further
    fields of *form*. Raises Misconfigured with everything that is wrong.
    """
    known = (*fields, *form.extra_fields)
    problems: list[Problem] = []
    mapped = FieldMap()
    if path is not None:
        mapped = _read_file(path, known, problems)
    named: dict[str, FieldSource | None] = {}
    for word in words:
        _read_word(word, option, known, named, problems)
    if problems:
        raise Misconfigured(problems)
    sources = {name: each for name, each in named.items() if each is not None}
    dropped = {name for name, each in named.items() if each is None}
    kept = {name: each for name, each in mapped.fields.items() if name not in dropped}
    return replace(
        mapped, fields={**kept, **sources}, dropped=(mapped.dropped | dropped) - sources.keys()
    )


def check_time_zone(source: str, key: str, name: str) -> list[Problem]:
    """Return what is wrong with the time zone *name*."""
    if name in zoneinfo.available_timezones():
        return []
    return [Problem(source, key, name, "an IANA name such as Europe/Berlin, or UTC")]


def _read_word(
    word: str,
    option: str,
    known: Sequence[str],
    named: dict[str, FieldSource | None],
    problems: list[Problem],
) -> None:
    name, equals, text = word.partition("=")
    if not equals:
        problems.append(Problem("arguments", option, word, f"FIELD=SOURCE with {_FORMS}"))
    elif name not in known:
        problems.append(Problem("arguments", option, name, expect_key(name, known)))
    elif name in named:
        problems.append(Problem("arguments", option, f"{name} again", "one source for each field"))
    else:
        try:
            named[name] = read_source(text) if text else None
        except ValueError as error:
            problems.append(Problem("arguments", option, word, str(error)))


def _read_file(path: Path, known: Sequence[str], problems: list[Problem]) -> FieldMap:
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        found = f"an unreadable file ({why})"
        raise Misconfigured([Problem(str(path), "the file", found, "a mapping")]) from error
    reader = _FileReader(str(path), read_yaml(text, str(path)), problems)
    return reader.read(known)


@dataclass(slots=True)
class _FileReader:
    source: str
    document: YamlDocument
    problems: list[Problem] = field(default_factory=list)

    def read(self, known: Sequence[str]) -> FieldMap:
        sections = self._mapping("", self.document.value, _SECTIONS)
        fields, dropped = self._fields(sections.get("fields"), known)
        time = self._mapping("time", sections.get("time"), ("zone", "format", "unit"))
        zone = self._text("time.zone", time.get("zone"), "UTC")
        self.problems += check_time_zone(self._place("time.zone"), "time.zone", zone or "")
        unit = self._word("time.unit", time.get("unit"), tuple(TIME_UNITS))
        amount = self._mapping("amount", sections.get("amount"), ("unit",))
        money = self._word("amount.unit", amount.get("unit"), ("major", "minor"))
        return FieldMap(
            fields=fields,
            dropped=dropped,
            time_zone=zone or "UTC",
            time_format=self._text("time.format", time.get("format"), None),
            time_unit=unit,
            minor_units=money == "minor",
            words=self._label_words(sections.get("label")),
        )

    def _fields(
        self, value: object, known: Sequence[str]
    ) -> tuple[dict[str, FieldSource], frozenset[str]]:
        fields: dict[str, FieldSource] = {}
        dropped = set()
        for name, written in self._mapping("fields", value, known).items():
            if written is None:
                dropped.add(name)
                continue
            found = self._field(f"fields.{name}", written)
            if found is not None:
                fields[name] = found
        return fields, frozenset(dropped)

    def _field(self, key: str, written: object) -> FieldSource | None:
        if isinstance(written, str):
            try:
                return read_source(written)
            except ValueError as error:
                self._refuse(key, written, str(error))
                return None
        if isinstance(written, dict) and len(written) == 1:
            (kind, value), *_ = written.items()
            if kind == "column" and isinstance(value, str):
                return Column(value)
            if kind == "constant" and isinstance(value, str | int | float):
                return Constant(str(value))
        self._refuse(key, written, f"{_FORMS}; or {{column: NAME}}, {{constant: TEXT}}")
        return None

    def _label_words(self, value: object) -> LabelWords:
        words = LabelWords()
        for name, written in self._mapping("label", value, _WORDS).items():
            values = written if isinstance(written, list) else [written]
            if all(isinstance(each, str | int | float) for each in values):
                # YAML reads 1, true and "1"; all of them stand for what a cell says.
                texts = tuple(str(each).lower() for each in values)
                words = replace(words, **{name: texts})
            else:
                self._refuse(f"label.{name}", written, "a list of values")
        for word in sorted(set(words.fraud) & set(words.legitimate)):
            self._refuse("label", word, "each value with one meaning")
        return words

    def _mapping(self, key: str, value: object, known: Sequence[str]) -> Mapping[str, object]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            self._refuse(key or "the file", value, f"a mapping with {', '.join(known)}")
            return {}
        for name in value:
            if name not in known:
                path = f"{key}.{name}" if key else str(name)
                self._refuse(path, name, expect_key(name, known))
        return {name: each for name, each in value.items() if name in known}

    def _text(self, key: str, value: object, default: str | None) -> str | None:
        if value is None or isinstance(value, str):
            return default if value is None else value
        self._refuse(key, value, "a text")
        return default

    def _word(self, key: str, value: object, allowed: Sequence[str]) -> str | None:
        if value is None or value in allowed:
            return None if value is None else str(value)
        self._refuse(key, value, f"one of {', '.join(allowed)}")
        return None

    def _place(self, key: str) -> str:
        return self.document.place(self.source, key)

    def _refuse(self, key: str, found: object, expected: str) -> None:
        self.problems.append(Problem(self._place(key), key, show_found(found), expected))


_DURATION = re.compile(r"(\d+)(ms|s|m|h|d|w)?")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def read_duration_s(text: str, option: str) -> int:
    """Read ``7d``, ``12h``, ``90m``, ``30s`` or ``0`` as seconds. Raises Misconfigured."""
    found = _DURATION.fullmatch(text)
    if found and found[2] != "ms" and (found[2] or int(found[1]) == 0):
        return int(found[1]) * _SECONDS[found[2] or "s"]
    raise Misconfigured([Problem("arguments", option, text, "a duration such as 7d, 12h or 0")])
