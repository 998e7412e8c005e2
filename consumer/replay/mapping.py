"""
Which column of a history becomes which field of an event, as a frozen value.

A field has one source: a column, a constant, or a template of columns. Beside the
fields of a transaction there are three of its label: ``label`` (what a value means is
said in ``LabelWords``), ``label_time`` and ``label_source``.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from string import Formatter
from typing import Final, Literal

import orjson

from consumer.document import OPTIONAL_FIELDS

REQUIRED: Final = (
    "transaction_id",
    "event_time",
    "card_id",
    "merchant_id",
    "amount",
    "currency",
)
EVENT_FIELDS: Final = (*REQUIRED, "base_amount", "kind", *OPTIONAL_FIELDS)
"""The fields of a transaction, in the order in which events are written."""

LABEL_FIELDS: Final = ("label", "label_time", "label_source")
LABEL_SOURCE_FIELDS: Final = ("transaction_id", *LABEL_FIELDS)
"""What the columns of a source of labels may be mapped to."""

KEY_FIELDS: Final = (
    "card_id",
    "merchant_id",
    "customer_id",
    "terminal_id",
    "device_id",
    "ip_address",
)
"""What a label repeats of its transaction, for when the document has expired."""

TIME_UNITS: Final[Mapping[str, int]] = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
"""Name → how many of them are a second."""


@dataclass(frozen=True, slots=True)
class Column:
    """The value of a column."""

    name: str


@dataclass(frozen=True, slots=True)
class Constant:
    """The same text in every row."""

    text: str


@dataclass(frozen=True, slots=True)
class Template:
    """Texts and columns in turn; no value where one of the columns has none."""

    parts: tuple[str | Column, ...]


FieldSource = Column | Constant | Template


@dataclass(frozen=True, slots=True)
class LabelWords:
    """What the values of a label column mean, in lower case; an empty cell is unknown."""

    fraud: tuple[str, ...] = ("1", "true", "t", "yes", "y", "fraud")
    legitimate: tuple[str, ...] = ("0", "false", "f", "no", "n", "legitimate", "genuine")
    unknown: tuple[str, ...] = ("", "unknown", "null", "none")


@dataclass(frozen=True, slots=True)
class FieldMap:
    """
    How rows become events.

    ``fields`` has the fields that were named; ``dropped`` are those that stay out although a
    column has their name. Times without an offset are of ``time_zone`` (IANA), texts
    of ``time_format`` (strptime; None for ISO 8601), numbers count ``time_unit`` since the
    epoch. ``minor_units`` says that amounts are whole cents (or what their currency has).
    """

    fields: Mapping[str, FieldSource] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()
    time_zone: str = "UTC"
    time_format: str | None = None
    time_unit: str | None = None
    minor_units: bool = False
    words: LabelWords = LabelWords()

    def sought(self, fields: Iterable[str]) -> frozenset[str]:
        """The columns that are named, and of *fields* that are not those of their own names."""
        named = {name for source in self.fields.values() for name in columns_of(source)}
        return frozenset(named | (set(fields) - self.fields.keys() - self.dropped))

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of all of it."""
        content = asdict(self)
        content["dropped"] = sorted(self.dropped)
        content["fields"] = {name: repr(each) for name, each in sorted(self.fields.items())}
        return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


@dataclass(frozen=True, slots=True)
class LabelPolicy:
    """
    When and which labels are released.

    ``delay_s`` after the event time where a label has no time of its own, None where
    that was not said. Of rows with a label column only frauds become labels,
    unless ``legitimate`` asks for all: silence is how live systems learn of honest payments.
    """

    delay_s: int | None = None
    legitimate: bool = False


@dataclass(frozen=True, slots=True)
class EventForm:
    """What of the settings decides what an event may say."""

    base_currency: str
    extra_fields: tuple[str, ...]


Format = Literal["csv", "ndjson", "parquet", "events", "firehose"]


def read_source(text: str) -> FieldSource:
    """
    Read ``=EUR`` as a constant, ``c-{CUSTOMER_ID}`` as a template, else a column.

    Raises ValueError for braces that do not pair.
    """
    if text.startswith("="):
        return Constant(text[1:])
    if "{" not in text and "}" not in text:
        return Column(text)
    parts: list[str | Column] = []
    for literal, name, form, conversion in Formatter().parse(text):
        if literal:
            parts.append(literal)
        if name is not None:
            if not name or form or conversion:
                raise ValueError("braces around the name of a column")
            parts.append(Column(name))
    return Template(tuple(parts))


def columns_of(source: FieldSource) -> tuple[str, ...]:
    """Name the columns that *source* reads."""
    if isinstance(source, Column):
        return (source.name,)
    if isinstance(source, Template):
        return tuple(part.name for part in source.parts if isinstance(part, Column))
    return ()
