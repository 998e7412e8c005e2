"""
What a decision was made on, as the stored document tells it.

Reads documents of other versions too: fields that this one does not know are kept
in ``further``, so that nothing an auditor may need is left out.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from consumer.errors import Rejected
from consumer.features.plan import ENTITY_FIELDS

Scalar = str | int | float | bool | None

_WINDOWED = re.compile(r"(?P<entity>[a-z][a-z0-9]*)_(?P<what>[a-z0-9_]+)_(?P<window>\d+[mhd])")
_UNIT_S = {"m": 60, "h": 3_600, "d": 86_400}
# Events and money add up over time, so a longer window tells how much is usual in a shorter.
_ADDITIVE = ("count", "sum")


class Origin(msgspec.Struct, frozen=True):
    """Where the transaction came from; times in milliseconds since the epoch."""

    source: str
    arrival_ms: int
    received_ms: int
    shard_id: str | None = None
    position: str | None = None


class ScoresFound(msgspec.Struct, frozen=True):
    """The scores that arrived."""

    fraud: float | None = None
    anomaly: float | None = None


class DecisionFound(msgspec.Struct, frozen=True):
    """
    The outcome and its reason codes, strongest first, with a text for each where rules
    gave one; ``risk`` is the fraud probability with what rules added; ``bands`` are the
    thresholds that were applied, and whose they are.
    """

    outcome: str
    reasons: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    risk: float | None = None
    bands: dict[str, float | str] = {}


class RulesFound(msgspec.Struct, frozen=True):
    """
    Rules as ``<id>@<version>``: which hit, which would have, which gave no value.

    ``warming`` are those of the second that read a feature which was not full.
    """

    hits: tuple[str, ...] = ()
    shadow: tuple[str, ...] = ()
    warming: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    hash: str = ""
    lists_hash: str = ""


class Contribution(msgspec.Struct, frozen=True):
    """What the value of a feature added to the classifier's score, in *unit*."""

    feature: str
    value: float | None
    contribution: float
    unit: str = "log-odds"


class LabelFound(msgspec.Struct, frozen=True):
    """What the transaction turned out to be, who said so and when."""

    label: str
    source: str
    time_ms: int


class SecondFound(msgspec.Struct, frozen=True):
    """What the decision would have been with all scores, found out after it was made."""

    scores: ScoresFound
    outcome: str
    assessed_ms: int
    reasons: tuple[str, ...] = ()


class _Stored(msgspec.Struct, frozen=True):
    """The parts of a stored document that this version knows."""

    transaction_id: str
    event_ms: int
    transaction: dict[str, Scalar]
    origin: Origin
    features: dict[str, float | None]
    scores: ScoresFound
    decision: DecisionFound
    decided_ms: int
    degraded: tuple[str, ...] = ()
    stored_ms: int | None = None
    label: LabelFound | None = None
    rules: RulesFound = RulesFound()
    explanation: tuple[Contribution, ...] = ()
    second_assessment: SecondFound | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """A decision with all it was made on; ``further`` holds what has no place of its own."""

    known: _Stored
    further: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Windows:
    """
    One quantity of one entity (``card``, ``count``) over its windows, shortest first.

    ``usual`` is what the windows shorter than the longest would hold at the pace of the
    rest of the longest; empty for what does not add up over time.
    """

    entity: str
    what: str
    windows: tuple[str, ...]
    values: tuple[float, ...]
    usual: tuple[float, ...]


def decode_evidence(document: bytes) -> Evidence:
    """
    Read a stored *document*.

    Raises Rejected (``bad_document``) for what no version of this package wrote.
    """
    try:
        known = msgspec.json.decode(document, type=_Stored)
        fields: dict[str, object] = msgspec.json.decode(document, type=dict)
    except msgspec.MsgspecError as error:
        raise Rejected("bad_document", f"not a decision document: {error}") from error
    further = {name: value for name, value in fields.items() if name not in _KNOWN}
    return Evidence(known, further)


def windows_of(features: Mapping[str, float | None]) -> list[Windows]:
    """The features named ``<entity>_<what>_<window>``, one entry an entity and quantity."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for name, value in features.items():
        match = _WINDOWED.fullmatch(name)
        if match is not None and value is not None:
            found.setdefault((match["entity"], match["what"]), {})[match["window"]] = value
    return [_windows(entity, what, values) for (entity, what), values in found.items()]


def other_features(features: Mapping[str, float | None]) -> dict[str, float | None]:
    """The features that ``windows_of`` leaves out."""
    return {
        name: value
        for name, value in features.items()
        if value is None or _WINDOWED.fullmatch(name) is None
    }


def absent_entities(
    features: Mapping[str, float | None], transaction: Mapping[str, object]
) -> list[str]:
    """The entities of *features* that *transaction* does not name, so that those are all 0."""
    entities = (field.removesuffix("_id") for field in ENTITY_FIELDS)
    return [
        entity
        for entity in entities
        if transaction.get(f"{entity}_id") is None
        and any(name.startswith(f"{entity}_") for name in features)
    ]


def compare_amount(features: Mapping[str, float | None]) -> list[tuple[str, float]]:
    """
    The amount as a multiple of what is usual: (name of the feature, multiple).

    Compared with every mean and maximum over the entity's longest window, where it is
    above zero. The present transaction is part of both.
    """
    amount = features.get("amount")
    if amount is None:
        return []
    return [
        (f"{each.entity}_{each.what}_{each.windows[-1]}", amount / each.values[-1])
        for each in windows_of(features)
        if each.what in ("mean", "max") and each.values[-1] > 0
    ]


def format_time(time_ms: int) -> str:
    """UTC to the millisecond, as RFC 3339 writes it."""
    seconds, milliseconds = divmod(time_ms, 1_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{milliseconds:03d}Z"


def printable(value: object) -> str:
    """*value* on one line for a terminal, with what could steer one made visible."""
    text = str(value)
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def _windows(entity: str, what: str, values: Mapping[str, float]) -> Windows:
    windows = sorted(values, key=_window_s)
    longest = windows[-1]
    usual = (
        tuple(
            (values[longest] - values[window])
            / (_window_s(longest) - _window_s(window))
            * _window_s(window)
            for window in windows[:-1]
        )
        if what in _ADDITIVE
        else ()
    )
    return Windows(entity, what, tuple(windows), tuple(values[each] for each in windows), usual)


def _window_s(window: str) -> int:
    return int(window[:-1]) * _UNIT_S[window[-1]]


_KNOWN = frozenset(_Stored.__struct_fields__)
