"""
``features.yaml`` → Plan, with every mistake reported at once.

The file is data from a person, so nothing in it is trusted: each value is checked where
it is read, and a reader collects problems instead of raising at the first.
"""

import hashlib
import json
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from consumer.currency import EXPONENTS
from consumer.errors import Misconfigured, Problem
from consumer.features.aggregation import Aggregation
from consumer.features.derived import Calendar, is_timezone
from consumer.features.grid import CHAIN_S, LONGEST_S, SHORTEST_S, Window, grid_s
from consumer.features.plan import (
    DISTINCT_FIELDS,
    ENTITY_FIELDS,
    Amount,
    Clock,
    Derived,
    Distinct,
    EntityPlan,
    Feature,
    Plan,
    Windowed,
)
from consumer.yaml_document import YamlDocument, expect_key, read_yaml, show_found

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_DURATION = re.compile(r"([1-9][0-9]{0,5})([smhd])")
_WINDOW = re.compile(r"[1-9][0-9]{0,5}[mhd]")
_DISTINCT = re.compile(r"distinct\((\w+)\)")
_UNIT_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_OPERATIONS = ("ratio", "difference")
_FAMILY_KEYS = frozenset({"name", "entity", "aggregation", "windows", "delay", "grid"})
_WINDOW_EXAMPLE = "a window from 1m to 30d, such as 15m, 1h or 7d"
_DELAY_EXAMPLE = "a delay from 1m to 30d, such as 7d"
_GRID_EXAMPLE = "5s, 15s, 1m, 4m, 12m, 24m or 2h, at most a sixtieth of the shortest window"
_AGGREGATIONS = tuple(
    "distinct(field)" if each is Aggregation.DISTINCT else each.value for each in Aggregation
)

Yaml = object

_WHOLE = "the file"


def load_plan(path: Path, base_currency: str) -> Plan:
    """
    Read the specification at *path*; *base_currency* is an ISO 4217 code.

    Raises Misconfigured for a currency without decimals to count in, where the file
    cannot be read, and as ``parse_plan`` does.
    """
    if base_currency not in EXPONENTS:
        expected = "an ISO 4217 code of money"
        raise Misconfigured([Problem("settings", "events.base_currency", base_currency, expected)])
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        expected = "a readable YAML file in UTF-8"
        problem = Problem(str(path), "features.path", type(error).__name__, expected)
        raise Misconfigured([problem]) from error
    return parse_plan(text, source=str(path), exponent=EXPONENTS[base_currency])


def parse_plan(text: str, *, source: str, exponent: int = 2) -> Plan:
    """
    Compile the specification in *text*; *source* names it in problems, *exponent* is the
    number of decimals of the base currency.

    Raises Misconfigured with every problem found.
    """
    document = read_yaml(text, source)
    reader = _Reader(source, document)
    entities, features = reader.read(document.value)
    if reader.problems:
        raise Misconfigured(reader.problems)
    return _compile(entities, features, exponent)


def _compile(entities: dict[str, str], features: list[Feature], exponent: int) -> Plan:
    windowed = [feature for feature in features if isinstance(feature, Windowed)]
    longest = max([feature.window_s for feature in windowed], default=0) or LONGEST_S
    plans = [_entity_plan(name, key, windowed, longest) for name, key in entities.items()]
    canonical = {
        "version": 1,
        "exponent": exponent,
        "entities": list(entities.items()),
        "features": [_canonical(feature) for feature in features],
    }
    digest = hashlib.sha256(json.dumps(canonical, separators=(",", ":")).encode()).hexdigest()
    return Plan.build(
        plans, features, definition_hash=digest, exponent=exponent, longest_window_s=longest
    )


def _canonical(feature: Feature) -> list[str | int]:
    """What the hash of a definition sees of a feature."""
    if isinstance(feature, Amount):
        return [feature.name, "amount"]
    if isinstance(feature, Clock):
        return [feature.name, "calendar", feature.calendar.value, feature.timezone]
    if isinstance(feature, Derived):
        return [feature.name, feature.operation, feature.first, feature.second]
    aggregation = feature.aggregation.value
    parts: list[str | int] = [feature.name, feature.entity, aggregation, feature.window_s]
    plain = not feature.window_s or feature.grid_s == grid_s(feature.window_s)
    if feature.delay_s or feature.field or not plain:
        parts += [feature.delay_s, feature.grid_s, feature.field]
    return parts


def _entity_plan(name: str, key: str, features: list[Windowed], longest_s: int) -> EntityPlan:
    own = [feature for feature in features if feature.entity == name]
    asked = {feature.aggregation for feature in own}
    totals = [feature for feature in own if feature.aggregation.reads_totals]
    lagged = [f for f in totals if f.delay_s or f.aggregation.reads_labels]
    counted = [feature for feature in own if feature.aggregation is Aggregation.DISTINCT]
    return EntityPlan(
        name=name,
        key=key,
        windows=_windows(feature for feature in totals if feature not in lagged),
        lagged=_windows(lagged),
        max_windows=_windows(f for f in own if f.aggregation is Aggregation.MAX),
        min_windows=_windows(f for f in own if f.aggregation is Aggregation.MIN),
        distinct=tuple(
            Distinct(each, _windows(f for f in counted if f.field == each))
            for each in sorted({feature.field for feature in counted})
        ),
        since_cap_s=longest_s if Aggregation.TIME_SINCE_LAST in asked else None,
        age_cap_s=longest_s if Aggregation.FIRST_SEEN in asked else None,
        squares=Aggregation.STD in asked,
        labels=any(aggregation.reads_labels for aggregation in asked),
        places=bool(asked & {Aggregation.DISTANCE, Aggregation.SPEED}),
    )


def _windows(features: Iterable[Windowed]) -> tuple[Window, ...]:
    windows = {feature.window for feature in features}
    return tuple(sorted(window for window in windows if window is not None))


@dataclass
class _Reader:
    """Reads one document, noting what is wrong with it."""

    source: str
    document: YamlDocument
    timezone: str = "UTC"
    problems: list[Problem] = field(default_factory=list)
    _named: dict[str, str] = field(default_factory=dict)

    def read(self, document: Yaml) -> tuple[dict[str, str], list[Feature]]:
        keys = {"version", "timezone", "entities", "features"}
        top = self._mapping(document, _WHOLE, keys)
        if top.get("version") != 1:
            self._note("version", top.get("version"), "1")
        timezone = top.get("timezone", "UTC")
        if isinstance(timezone, str) and is_timezone(timezone):
            self.timezone = timezone
        else:
            self._note("timezone", timezone, "an IANA time zone such as UTC or Europe/Berlin")
        entities = self._entities(top.get("entities"))
        features = self._features(top.get("features"), entities)
        names = set()
        for feature in features:
            if feature.name in names:
                place = self._named.get(feature.name, "features")
                self._note(place, feature.name, "names that occur once")
            names.add(feature.name)
        used = {feature.entity for feature in features if isinstance(feature, Windowed)}
        if not self.problems:
            for name in entities.keys() - used:
                self._note(f"entities.{name}", None, "at least one feature of it")
        return entities, features

    def _entities(self, value: Yaml) -> dict[str, str]:
        entities = {}
        for name, definition in self._mapping(value, "entities", None).items():
            place = f"entities.{name}"
            if not _NAME.fullmatch(name):
                self._note(place, name, "a name of lower case letters, digits and _")
            key = self._mapping(definition, place, {"key"}).get("key")
            if isinstance(key, str) and key in ENTITY_FIELDS:
                entities[name] = key
            else:
                self._note(f"{place}.key", key, f"one of {', '.join(ENTITY_FIELDS)}")
                entities[name] = ""
        return entities

    def _features(self, value: Yaml, entities: dict[str, str]) -> list[Feature]:
        if not isinstance(value, list) or not value:
            self._note("features", value, "a list of features")
            return []
        features: list[Feature] = []
        for index, item in enumerate(value):
            found = self._feature(f"features[{index}]", index, item, entities, features)
            # The last one of a name is the one that is too many.
            self._named |= {feature.name: f"features[{index}].name" for feature in found}
            features += found
        return features

    def _feature(
        self,
        place: str,
        index: int,
        item: Yaml,
        entities: dict[str, str],
        above: list[Feature],
    ) -> list[Feature]:
        """Read one entry, which may be a family of features."""
        kinds = ("field", "calendar", *_OPERATIONS)
        kind = next((each for each in kinds if isinstance(item, dict) and each in item), None)
        definition = self._mapping(item, place, {"name", kind} if kind else _FAMILY_KEYS)
        name = definition.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name.replace("{window}", "x")):
            self._note(f"{place}.name", name, "a name of lower case letters, digits and _")
            name = f"unnamed_{index}"
        if kind is None:
            return [*self._family(place, name, definition, entities)]
        name = self._plain_name(place, name)
        value = definition[kind]
        if kind == "field":
            if value != "amount":
                self._note(f"{place}.field", value, "amount")
            return [Amount(name)]
        if kind == "calendar":
            if value not in tuple(Calendar):
                self._note(f"{place}.calendar", value, f"one of {', '.join(Calendar)}")
                return []
            return [Clock(name, Calendar(str(value)), self.timezone)]
        return self._derived(place, name, kind, value, {feature.name for feature in above})

    def _derived(
        self, place: str, name: str, operation: str, value: Yaml, known: set[str]
    ) -> list[Feature]:
        two = 2
        if (
            not isinstance(value, list)
            or len(value) != two
            or not known.issuperset(map(str, value))
        ):
            self._note(f"{place}.{operation}", value, "two features that stand above")
            return []
        return [Derived(name, operation, str(value[0]), str(value[1]))]

    def _family(
        self, place: str, name: str, definition: dict[str, Yaml], entities: dict[str, str]
    ) -> list[Windowed]:
        entity, wanted = definition.get("entity"), definition.get("aggregation")
        if not isinstance(entity, str) or entity not in entities:
            self._note(f"{place}.entity", entity, f"one of {', '.join(entities) or 'entities'}")
            entity = ""
        counted = _DISTINCT.fullmatch(str(wanted))
        of = counted[1] if counted else ""
        try:
            aggregation = Aggregation("distinct" if counted else str(wanted))
        except ValueError:
            self._note(f"{place}.aggregation", wanted, f"one of {', '.join(_AGGREGATIONS)}")
            return []
        if aggregation is Aggregation.DISTINCT and (
            of not in DISTINCT_FIELDS or of == entities.get(entity)
        ):
            others = [each for each in DISTINCT_FIELDS if each != entities.get(entity)]
            self._note(f"{place}.aggregation", wanted, f"distinct of {', '.join(others)}")
            return []
        if not aggregation.has_window:
            for key in definition.keys() & {"windows", "delay", "grid"}:
                self._note(f"{place}.{key}", definition[key], f"none: {aggregation} has no window")
            return [Windowed(self._plain_name(place, name), entity, aggregation, 0)]
        windows = self._windows(f"{place}.windows", definition.get("windows"))
        if len(windows) > 1 and "{window}" not in name:
            self._note(f"{place}.name", name, "{window} in the name of several features")
        delay_s = self._delay(place, definition, aggregation)
        grid = self._grid(place, definition, windows)
        return [
            Windowed(
                name=name.replace("{window}", text),
                entity=entity,
                aggregation=aggregation,
                window_s=window_s,
                delay_s=delay_s,
                grid_s=grid or grid_s(window_s),
                field=of,
            )
            for text, window_s in windows.items()
        ]

    def _delay(self, place: str, definition: dict[str, Yaml], aggregation: Aggregation) -> int:
        if "delay" not in definition:
            return 0
        delay = definition["delay"]
        if not aggregation.reads_totals:
            self._note(f"{place}.delay", delay, f"none: {aggregation} cannot be delayed")
        delay_s = _seconds(delay)
        if not SHORTEST_S <= delay_s <= LONGEST_S:
            self._note(f"{place}.delay", delay, _DELAY_EXAMPLE)
        return delay_s

    def _grid(self, place: str, definition: dict[str, Yaml], windows: dict[str, int]) -> int:
        """Return the grid that is asked for, 0 where none is."""
        if "grid" not in definition:
            return 0
        grid = _seconds(definition["grid"])
        coarsest = min([grid_s(window_s) for window_s in windows.values()], default=0)
        if grid not in CHAIN_S or grid > coarsest:
            self._note(f"{place}.grid", definition["grid"], _GRID_EXAMPLE)
        return grid

    def _windows(self, place: str, value: Yaml) -> dict[str, int]:
        windows: dict[str, int] = {}
        if not isinstance(value, list) or not value:
            self._note(place, value, f"a list of windows: {_WINDOW_EXAMPLE}")
            return windows
        for index, text in enumerate(value):
            known = isinstance(text, str) and _WINDOW.fullmatch(text)
            window_s = _seconds(text) if known else 0
            if SHORTEST_S <= window_s <= LONGEST_S:
                windows[text] = window_s
            else:
                self._note(f"{place}[{index}]", text, _WINDOW_EXAMPLE)
        return windows

    def _plain_name(self, place: str, name: str) -> str:
        if "{window}" in name:
            self._note(f"{place}.name", name, "a name without {window}")
        return name

    def _mapping(self, value: Yaml, place: str, keys: Collection[str] | None) -> dict[str, Yaml]:
        """Return *value* as a mapping with *keys* (any, when None); what it is not, is noted."""
        if not isinstance(value, dict) or not value:
            expected = f"a mapping of {', '.join(sorted(keys))}" if keys else "a mapping"
            self._note(place, value, expected)
            return {}
        known: dict[str, Yaml] = {}
        for key, item in value.items():
            if not isinstance(key, str) or (keys is not None and key not in keys):
                expected = expect_key(key, keys) if keys else "text"
                self._note_key(place, key, expected)
            else:
                known[key] = item
        return known

    def _note(self, key: str, found: Yaml, expected: str) -> None:
        """Note what stands at *key*, which is its path in the file as well."""
        place = self.document.place(self.source, key)
        self.problems.append(Problem(place, key, show_found(found), expected))

    def _note_key(self, key: str, word: Yaml, expected: str) -> None:
        """Note *word*, a key in the mapping at *key*."""
        path = f"{'' if key == _WHOLE else key}.{word}"
        place = self.document.place(self.source, path, key=True)
        self.problems.append(Problem(place, key, f"the key {show_found(word)}", expected))


def _seconds(text: Yaml) -> int:
    """Return the length of a duration such as 7d; 0 for what is none."""
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    return int(match[1]) * _UNIT_S[match[2]] if match else 0
