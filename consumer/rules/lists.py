"""
Named lists: values that rules look a transaction's fields up in, each with an end.

A list is a file ``NAME.ndjson``: one JSON object a line, ``{"value": "card_1", "until":
"2026-12-31T00:00:00Z", "reason": "…"}``, of which only ``value`` must be there; lines that
begin with ``#`` are comments. A later line about a value replaces an earlier one.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

import msgspec
import orjson

from consumer.errors import Misconfigured, Problem
from consumer.masking import holds_card_number, mask_text
from consumer.rules.facts import Value

SUFFIX = ".ndjson"
NAME = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")

_FOREVER = float("inf")


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One value; ``until`` (aware) is when it stops counting. ``by`` and ``at`` added it."""

    value: str
    until: datetime | None = None
    reason: str | None = None
    by: str | None = None
    at: datetime | None = None

    def counts(self, moment: datetime) -> bool:
        """Whether the entry has not ended at *moment*."""
        return self.until is None or moment < self.until


@dataclass(frozen=True, slots=True)
class Lists:
    """
    All lists of one moment.

    ``ends`` says of each list when each value stops counting, in seconds since the epoch;
    equal ``hash`` (SHA-256, hex) means equal lists.
    """

    ends: Mapping[str, Mapping[Value, float]]
    hash: str


_DECODER = msgspec.json.Decoder(Entry)
_ENCODER = msgspec.json.Encoder()


def parse_list(name: str, data: bytes, source: str) -> dict[str, Entry]:
    """
    Read the file of list *name*: value → entry.

    Raises Misconfigured with every line that is wrong; a value that is a card number is,
    since lists lie in clear. *source* names the file in problems.
    """
    problems: list[Problem] = []
    entries: dict[str, Entry] = {}
    if NAME.fullmatch(name) is None:
        expected = "lower-case words joined by _, such as blocked_cards"
        problems.append(Problem(source, "the name of the list", name, expected))
    for number, line in enumerate(data.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith(b"#"):
            continue
        try:
            entry = check_entry(_DECODER.decode(line))
        except (msgspec.DecodeError, ValueError) as error:
            expected = 'a line such as {"value": "card_1", "until": "2026-12-31T00:00:00Z"}'
            problems.append(Problem(f"{source}:{number}", name, mask_text(str(error)), expected))
        else:
            entries[entry.value] = entry
    if problems:
        raise Misconfigured(problems)
    return entries


def check_name(name: str) -> None:
    """Raise ValueError where *name* is not one that a rule can write."""
    if NAME.fullmatch(name) is None:
        message = "a name that is not lower-case words joined by _"
        raise ValueError(message)


def check_entry(entry: Entry) -> Entry:
    """*entry* itself. Raises ValueError where a list must not hold it."""
    if not entry.value:
        message = "an empty value"
        raise ValueError(message)
    if entry.until is not None and entry.until.tzinfo is None:
        message = "a time without a zone"
        raise ValueError(message)
    if holds_card_number(entry.value) or holds_card_number(entry.reason or ""):
        message = "a card number, where only its token may stand"
        raise ValueError(message)
    return entry


def render_entry(entry: Entry) -> bytes:
    """*entry* as its line, without a newline."""
    return _ENCODER.encode(entry)


def build_lists(entries: Mapping[str, Iterable[Entry]]) -> Lists:
    """The lists of *entries*, name → entries."""
    ends: dict[str, dict[Value, float]] = {
        name: {
            entry.value: _FOREVER if entry.until is None else entry.until.timestamp()
            for entry in listed
        }
        for name, listed in entries.items()
    }
    return lists_of(ends)


def lists_of(ends: Mapping[str, Mapping[Value, float]]) -> Lists:
    """The lists of *ends*, name → value → when it stops counting."""
    canonical = {
        name: sorted((str(value), str(end)) for value, end in listed.items())
        for name, listed in ends.items()
    }
    text = orjson.dumps(canonical, option=orjson.OPT_SORT_KEYS)
    return Lists(ends, hashlib.sha256(text).hexdigest())


def add_entry(data: bytes, entry: Entry) -> bytes:
    """*data*, the file of a list, with *entry* in the place of an earlier one of its value."""
    kept = remove_value(data, entry.value)
    if kept is None:
        kept = data
    if kept and not kept.endswith(b"\n"):
        kept += b"\n"
    return kept + render_entry(entry) + b"\n"


def remove_value(data: bytes, value: str) -> bytes | None:
    """*data* without the lines about *value*; None where there is none."""
    lines = data.splitlines(keepends=True)
    kept = [line for line in lines if _value_of(line) != value]
    return None if len(kept) == len(lines) else b"".join(kept)


def _value_of(line: bytes) -> str | None:
    if not line.strip() or line.lstrip().startswith(b"#"):
        return None
    return _DECODER.decode(line).value
