"""
The parameters of a search to a query, and where its next page begins.

A page of a stream that moves must neither repeat nor leave out: sorted by time or amount a cursor
names the last value and how many of it were shown, and the next page begins there, whatever came
in meanwhile. Documents without a score stand behind all others, so those orders go by number.
"""

import base64
import binascii
import hashlib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, TypeVar

import msgspec
import orjson

from consumer.api.operations import Parameter
from consumer.api.problems import invalid
from consumer.document import milliseconds
from consumer.masking import is_card_number
from consumer.model import LabelValue, Outcome
from consumer.pan import PanGuard
from consumer.query import Order, Page, Query, Range

MOST_DOCUMENTS: Final = 200
_LONGEST_TEXT: Final = 256
# Search refuses to pass over more documents than MAXSEARCHRESULTS, 10,000 by default.
_DEEPEST: Final = 10_000
_LONGEST_CURSOR: Final = 256
_KEYED: Final = (Order.TIME, Order.AMOUNT)
_IDENTIFIERS: Final = ("card", "merchant", "device")
_RANGES: Final = ("amount", "fraud_score", "anomaly_score")

_Each = TypeVar("_Each")
_NUMBER: Final = {"type": "number", "minimum": 0, "maximum": 1e15}
_TEXT: Final = {"type": "string", "minLength": 1, "maxLength": _LONGEST_TEXT}
_TIME: Final = {"type": "string", "format": "date-time"}

PARAMETERS: Final = (
    *(Parameter(name, _TEXT, f"Of this {name}: the whole id, by case") for name in _IDENTIFIERS),
    Parameter("decision", {"type": "string", "enum": [*map(str, Outcome)]}, "What was decided"),
    Parameter("reason", _TEXT, "Decided for this reason, among others"),
    Parameter("label", {"type": "string", "enum": [*map(str, LabelValue)]}, "What it turned out"),
    *(
        Parameter(f"{name}_{side}", _NUMBER, f"The {side}most `{name}`, included")
        for name in _RANGES
        for side in ("min", "max")
    ),
    Parameter("since", _TIME, "The earliest event time, included"),
    Parameter("until", _TIME, "The latest event time, included"),
    Parameter("sort", {"type": "string", "enum": [*map(str, Order)], "default": "time"}, "By what"),
    Parameter(
        "order",
        {"type": "string", "enum": ["desc", "asc"], "default": "desc"},
        "desc: the newest or highest first; documents without the value come last",
    ),
    Parameter(
        "limit",
        {"type": "integer", "minimum": 1, "maximum": MOST_DOCUMENTS, "default": 20},
        "Documents a page",
    ),
    Parameter(
        "cursor",
        {"type": "string", "minLength": 1, "maxLength": _LONGEST_CURSOR, "pattern": "^[\\w-]+$"},
        "`next` of the page before, with the same other parameters",
    ),
)


class _Cursor(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """Where a page begins: the query it belongs to, the last value shown, how many to pass over."""

    query: str
    value: float | None
    skip: int


@dataclass(frozen=True, slots=True)
class Search:
    """A query, and what its cursors have to say of it."""

    query: Query
    identity: str
    value: float | None
    skip: int


def read_search(told: Mapping[str, str], guard: PanGuard, guarded: Collection[str]) -> Search:
    """
    Read the parameters *told*.

    Card numbers are searched for by their tokens, where *guarded* fields may hold one. Raises
    Refused, naming the parameter.
    """
    stored, former = _stored(told, guard, guarded)
    reason = _text(told, "reason")
    if reason is not None and is_card_number(reason):
        raise invalid("reason", "a card number", "the code of a reason")
    order = _one_of(told, "sort", Order, Order.TIME)
    query = Query(
        **stored,
        former_tokens=former,
        decision=_choice(told, "decision", Outcome),
        reason=reason,
        label=_choice(told, "label", LabelValue),
        time_ms=_ordered("since", "until", _time_ms(told, "since"), _time_ms(told, "until")),
        amount=_range(told, "amount"),
        fraud_score=_range(told, "fraud_score"),
        anomaly_score=_range(told, "anomaly_score"),
        order=order,
        ascending=_ascending(told),
        limit=_limit(told),
    )
    rest = orjson.dumps(sorted((n, v) for n, v in told.items() if n not in ("cursor", "limit")))
    identity = hashlib.blake2b(rest, digest_size=9).hexdigest()
    cursor = _read_cursor(told.get("cursor"), identity)
    search = Search(query, identity, cursor.value, cursor.skip)
    return replace(search, query=_from_there(search))


def next_cursor(search: Search, page: Page) -> str | None:
    """Where the page after *page* begins; None where it was the last one."""
    query = search.query
    # A page may be short because documents expired while it was read.
    if not page.documents or page.total <= query.offset + query.limit:
        return None
    if query.order not in _KEYED:
        skip = search.skip + query.limit
        return (
            None if skip + query.limit > _DEEPEST else _write(_Cursor(search.identity, None, skip))
        )
    values = [_value_of(orjson.loads(each), query.order) for each in page.documents]
    last = values[-1]
    same = sum(value == last for value in values)
    skip = same + (search.skip if same == len(values) and last == search.value else 0)
    return _write(_Cursor(search.identity, last, skip))


def _from_there(search: Search) -> Query:
    query = search.query
    if search.value is None:
        return replace(query, offset=search.skip)
    if query.order is Order.TIME:
        limits = _beyond(query.time_ms, search.value, ascending=query.ascending)
        return replace(query, offset=search.skip, time_ms=limits)
    limits = _beyond(query.amount, search.value, ascending=query.ascending)
    return replace(query, offset=search.skip, amount=limits)


def _beyond(limits: Range, value: float, *, ascending: bool) -> Range:
    return replace(limits, low=value) if ascending else replace(limits, high=value)


def _value_of(document: Mapping[str, Any], order: Order) -> float:
    value = document["event_ms"] if order is Order.TIME else document["transaction"]["base_amount"]
    return float(value)


def _stored(
    told: Mapping[str, str], guard: PanGuard, guarded: Collection[str]
) -> tuple[dict[str, Any], dict[str, tuple[str, ...]]]:
    """The identifiers as documents may hold them: the newest token, and former ones."""
    stored: dict[str, Any] = {}
    former: dict[str, tuple[str, ...]] = {}
    for name in _IDENTIFIERS:
        value = _text(told, name)
        if value is None:
            continue
        if f"{name}_id" not in guarded:
            stored[name] = value
            continue
        refuse_card_number(name, value, guard)
        stored[name], *others = guard.tokens(value)
        if others:
            former[name] = tuple(others)
    return stored, former


def refuse_card_number(name: str, value: str, guard: PanGuard) -> None:
    """Raise Refused for a card number where none can be stored: it would reach Redis's logs."""
    if not guard.keys and is_card_number(value):
        raise invalid(name, "a card number", "a token: no card number is stored here")


def _text(told: Mapping[str, str], name: str) -> str | None:
    value = told.get(name)
    if value is not None and not (0 < len(value) <= _LONGEST_TEXT and "\0" not in value):
        raise invalid(name, "another text", f"1 to {_LONGEST_TEXT} characters without NUL")
    return value


def _choice(told: Mapping[str, str], name: str, kind: Callable[[str], _Each]) -> _Each | None:
    if name not in told:
        return None
    try:
        return kind(told[name])
    except ValueError:
        expected = " or ".join(str(each) for each in kind)  # type: ignore[attr-defined]
        raise invalid(name, "something else", expected) from None


def _one_of(
    told: Mapping[str, str], name: str, kind: Callable[[str], _Each], default: _Each
) -> _Each:
    found = _choice(told, name, kind)
    return default if found is None else found


def _ascending(told: Mapping[str, str]) -> bool:
    order = told.get("order", "desc")
    if order not in ("asc", "desc"):
        raise invalid("order", "something else", "asc or desc")
    return order == "asc"


def _limit(told: Mapping[str, str]) -> int:
    text = told.get("limit", "20")
    digits = text.isascii() and text.isdigit() and len(text) < len(str(MOST_DOCUMENTS)) + 1
    if not (digits and 1 <= int(text) <= MOST_DOCUMENTS):
        raise invalid("limit", "something else", f"1 to {MOST_DOCUMENTS}")
    return int(text)


def _range(told: Mapping[str, str], name: str) -> Range:
    low, high = f"{name}_min", f"{name}_max"
    return _ordered(low, high, _number(told, low), _number(told, high))


def _ordered(low_name: str, high_name: str, low: float | None, high: float | None) -> Range:
    if low is not None and high is not None and low > high:
        raise invalid(high_name, f"less than {low_name}", f"at least {low_name}")
    return Range(low, high)


def _number(told: Mapping[str, str], name: str) -> float | None:
    if name not in told:
        return None
    try:
        number = float(told[name]) if told[name].isascii() else math.nan
    except ValueError:
        number = math.nan
    if not 0 <= number <= float(_NUMBER["maximum"]):  # type: ignore[arg-type]
        raise invalid(name, "something else", "a number from 0 to 1e15")
    return number


def _time_ms(told: Mapping[str, str], name: str) -> int | None:
    if name not in told:
        return None
    try:
        time = msgspec.convert(told[name], datetime)
    except msgspec.ValidationError:
        time = None
    if time is None or time.tzinfo is None:
        raise invalid(name, "something else", "a time such as 2026-06-01T12:00:00Z (RFC 3339)")
    return milliseconds(time)


def _write(cursor: _Cursor) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(cursor)).rstrip(b"=").decode()


def _read_cursor(text: str | None, identity: str) -> _Cursor:
    if text is None:
        return _Cursor(identity, None, 0)
    try:
        data = base64.urlsafe_b64decode(text.encode("ascii") + b"==")
        cursor = msgspec.json.decode(data, type=_Cursor)
    except (ValueError, binascii.Error, msgspec.DecodeError):
        cursor = None
    if (
        cursor is None
        or len(text) > _LONGEST_CURSOR
        or cursor.query != identity
        or not 0 <= cursor.skip <= _DEEPEST
        or not (cursor.value is None or abs(cursor.value) <= float("1e18"))
    ):
        raise invalid("cursor", "another one", "`next` of a page of the same search, made here")
    return cursor


def describe_page(documents: Sequence[bytes], page: Page, cursor: str | None) -> bytes:
    """The answer of a search: the documents as they are stored, and what to know beside them."""
    found = {
        "transactions": [orjson.Fragment(each) for each in documents],
        "total": page.total,
        "partial": page.partial,
        "next": cursor,
    }
    return orjson.dumps(found)
