"""
``features.yaml`` → Plan, with every mistake reported at once.

The file is data from a person, so nothing in it is trusted: each value is checked where
it is read, and a reader collects problems instead of raising at the first.
"""

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from consumer.currency import EXPONENTS
from consumer.errors import Misconfigured, Problem
from consumer.features.grid import LONGEST_S, SHORTEST_S
from consumer.features.plan import (
    ENTITY_FIELDS,
    Aggregation,
    Amount,
    EntityPlan,
    Feature,
    Plan,
    Windowed,
)

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_WINDOW = re.compile(r"([1-9][0-9]{0,5})([mhd])")
_UNIT_S = {"m": 60, "h": 3_600, "d": 86_400}
_AMOUNT_KEYS = frozenset({"name", "field"})
_FAMILY_KEYS = frozenset({"name", "entity", "aggregation", "windows"})
_WINDOW_EXAMPLE = "a window from 1m to 30d, such as 15m, 1h or 7d"

Yaml = object


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
    try:
        document: Yaml = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}" if mark is not None else "the file"
        problem = Problem(source, place, getattr(error, "problem", None) or "no YAML", "valid YAML")
        raise Misconfigured([problem]) from error
    reader = _Reader(source)
    entities, features = reader.read(document)
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
        "features": [
            [f.name, f.entity, f.aggregation.value, f.window_s]
            if isinstance(f, Windowed)
            else [f.name, "amount"]
            for f in features
        ],
    }
    digest = hashlib.sha256(json.dumps(canonical, separators=(",", ":")).encode()).hexdigest()
    return Plan.build(
        plans, features, definition_hash=digest, exponent=exponent, longest_window_s=longest
    )


def _entity_plan(name: str, key: str, features: list[Windowed], longest_s: int) -> EntityPlan:
    own = [feature for feature in features if feature.entity == name]
    since = any(feature.aggregation is Aggregation.TIME_SINCE_LAST for feature in own)
    totals = (Aggregation.COUNT, Aggregation.SUM, Aggregation.MEAN)
    return EntityPlan(
        name=name,
        key=key,
        windows_s=tuple(sorted({f.window_s for f in own if f.aggregation in totals})),
        max_windows_s=tuple(sorted({f.window_s for f in own if f.aggregation is Aggregation.MAX})),
        since_cap_s=longest_s if since else None,
    )


@dataclass
class _Reader:
    """Reads one document, noting what is wrong with it."""

    source: str
    problems: list[Problem] = field(default_factory=list)

    def read(self, document: Yaml) -> tuple[dict[str, str], list[Feature]]:
        top = self._mapping(document, "the file", {"version", "entities", "features"})
        if top.get("version") != 1:
            self._note("version", top.get("version"), "1")
        entities = self._entities(top.get("entities"))
        features = self._features(top.get("features"), entities)
        names = set()
        for feature in features:
            if feature.name in names:
                self._note("features", feature.name, "names that occur once")
            names.add(feature.name)
        used = {feature.entity for feature in features if isinstance(feature, Windowed)}
        if not self.problems:
            for name in entities.keys() - used:
                self._note(f"entities.{name}", "no feature of it", "at least one feature")
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
            place = f"features[{index}]"
            is_amount = isinstance(item, dict) and "field" in item
            definition = self._mapping(item, place, _AMOUNT_KEYS if is_amount else _FAMILY_KEYS)
            name = definition.get("name")
            if not isinstance(name, str) or not _NAME.fullmatch(name.replace("{window}", "x")):
                self._note(f"{place}.name", name, "a name of lower case letters, digits and _")
                name = f"unnamed_{index}"
            if is_amount:
                if definition["field"] != "amount":
                    self._note(f"{place}.field", definition["field"], "amount")
                features.append(Amount(self._plain_name(place, name)))
            else:
                features += self._family(place, name, definition, entities)
        return features

    def _family(
        self, place: str, name: str, definition: dict[str, Yaml], entities: dict[str, str]
    ) -> list[Windowed]:
        entity, wanted = definition.get("entity"), definition.get("aggregation")
        if not isinstance(entity, str) or entity not in entities:
            self._note(f"{place}.entity", entity, f"one of {', '.join(entities) or 'entities'}")
            entity = ""
        try:
            aggregation = Aggregation(str(wanted))
        except ValueError:
            self._note(f"{place}.aggregation", wanted, f"one of {', '.join(Aggregation)}")
            return []
        if aggregation is Aggregation.TIME_SINCE_LAST:
            if "windows" in definition:
                self._note(f"{place}.windows", definition["windows"], "none: it is capped instead")
            return [Windowed(self._plain_name(place, name), entity, aggregation, 0)]
        windows = self._windows(f"{place}.windows", definition.get("windows"))
        if len(windows) > 1 and "{window}" not in name:
            self._note(f"{place}.name", name, "{window} in the name of several features")
        return [
            Windowed(name.replace("{window}", text), entity, aggregation, window_s)
            for text, window_s in windows.items()
        ]

    def _windows(self, place: str, value: Yaml) -> dict[str, int]:
        windows: dict[str, int] = {}
        if not isinstance(value, list) or not value:
            self._note(place, value, f"a list of windows: {_WINDOW_EXAMPLE}")
            return windows
        for index, text in enumerate(value):
            match = _WINDOW.fullmatch(text) if isinstance(text, str) else None
            window_s = int(match[1]) * _UNIT_S[match[2]] if match else 0
            if SHORTEST_S <= window_s <= LONGEST_S:
                windows[text] = window_s
            else:
                self._note(f"{place}[{index}]", text, _WINDOW_EXAMPLE)
        return windows

    def _plain_name(self, place: str, name: str) -> str:
        if "{window}" in name:
            self._note(f"{place}.name", name, "a name without {window}")
        return name

    def _mapping(
        self, value: Yaml, place: str, keys: set[str] | frozenset[str] | None
    ) -> dict[str, Yaml]:
        """Return *value* as a mapping with *keys* (any, when None); what it is not, is noted."""
        if not isinstance(value, dict) or not value:
            expected = f"a mapping of {', '.join(sorted(keys))}" if keys else "a mapping"
            self._note(place, value, expected)
            return {}
        known: dict[str, Yaml] = {}
        for key, item in value.items():
            if not isinstance(key, str) or (keys is not None and key not in keys):
                expected = f"one of {', '.join(sorted(keys))}" if keys else "text"
                self._note(place, f"the key {key}", expected)
            else:
                known[key] = item
        return known

    def _note(self, key: str, found: Yaml, expected: str) -> None:
        shown = "nothing" if found is None else str(found)
        self.problems.append(Problem(self.source, key, shown[:80], expected))
