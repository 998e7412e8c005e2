"""``fraudstream search``: find decided transactions by what is known of them."""

import argparse
import math
import re
import sys
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timedelta

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from consumer import configuration
from consumer.clock import SystemClock
from consumer.document import milliseconds
from consumer.errors import Misconfigured, Problem, Rejected
from consumer.evidence import Evidence, decode_evidence, format_time, printable
from consumer.inspection import open_search
from consumer.masking import is_card_number
from consumer.model import LabelValue, Outcome
from consumer.pan import PanGuard
from consumer.query import MAX_PAGE, Order, Page, Query, Range

_AGO = re.compile(r"(\d+)(s|m|h|d)")
_AGO_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_IDENTIFIERS = ("card", "merchant", "device")
_COLUMNS = (
    "time",
    "transaction_id",
    "card",
    "merchant",
    "amount",
    "decision",
    "reasons",
    "fraud",
    "anomaly",
    "label",
)
_BORDER = 2
_NUMERIC = ("amount", "fraud", "anomaly")
_STYLES = {Outcome.REVIEW.value: "yellow", Outcome.DECLINE.value: "bold red"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this command takes."""
    for name in _IDENTIFIERS:
        parser.add_argument(f"--{name}", metavar="ID", help=f"of this {name}, the whole id")
    parser.add_argument("--decision", choices=[each.value for each in Outcome])
    parser.add_argument("--reason", metavar="CODE", help="decided for this reason, among others")
    parser.add_argument("--label", choices=[each.value for each in LabelValue])
    parser.add_argument(
        "--amount", type=parse_range, metavar="LOW..HIGH", help="in the base currency: 100..500"
    )
    for score in ("fraud", "anomaly"):
        parser.add_argument(
            f"--{score}-score", type=parse_range, metavar="LOW..HIGH", help="one side may be empty"
        )
    parser.add_argument(
        "--since", type=_time_ms, metavar="TIME", help="event time, or how long ago: 15m, 2h, 7d"
    )
    parser.add_argument("--until", type=_time_ms, metavar="TIME", help="as --since; included")
    parser.add_argument(
        "--sort",
        choices=[each.value for each in Order],
        default=Order.TIME.value,
        help="default %(default)s, the newest or highest first",
    )
    parser.add_argument("--ascending", action="store_true", help="the oldest or lowest first")
    parser.add_argument(
        "--limit", type=_limit, default=20, metavar="N", help="default %(default)s, at most 1000"
    )
    parser.add_argument(
        "--offset", type=_offset, default=0, metavar="N", help="pass over the first"
    )
    parser.add_argument("--json", action="store_true", help="a stored document a line, as it is")


def run(arguments: argparse.Namespace) -> int:
    """
    Print what was found; 0 also when that is nothing.

    Raises Misconfigured for a value that cannot be searched for, and Unavailable.
    """
    settings = configuration.load(arguments.config).settings
    events = settings.events
    query = as_stored(build_query(arguments), PanGuard.of(events), events.pan_fields)
    with ExitStack() as stack:
        try:
            page = open_search(settings, stack).search(query)
        except Rejected as error:
            expected = "a text, not empty, without NUL"
            key = error.message.partition(":")[0]
            raise Misconfigured(
                [Problem("arguments", f"--{key}", "no such text", expected)]
            ) from error
    if arguments.json:
        for document in page.documents:
            sys.stdout.buffer.write(document + b"\n")
        sys.stdout.flush()
    else:
        _print_page(page)
    sys.stderr.write(_remark(query, page))
    return 0


def build_query(arguments: argparse.Namespace) -> Query:
    """The question that *arguments* ask."""
    return Query(
        card=arguments.card,
        merchant=arguments.merchant,
        device=arguments.device,
        decision=Outcome(arguments.decision) if arguments.decision else None,
        reason=arguments.reason,
        label=LabelValue(arguments.label) if arguments.label else None,
        time_ms=Range(arguments.since, arguments.until),
        amount=arguments.amount or Range(),
        fraud_score=arguments.fraud_score or Range(),
        anomaly_score=arguments.anomaly_score or Range(),
        order=Order(arguments.sort),
        ascending=arguments.ascending,
        offset=arguments.offset,
        limit=arguments.limit,
    )


def as_stored(query: Query, guard: PanGuard, guarded: Collection[str]) -> Query:
    """
    Ask for the tokens of a card number instead of the number itself.

    *guarded* are those of ``events.pan_fields``; others are stored as they come. Raises
    Misconfigured for a card number where none can be stored: it would find nothing and
    stand in the server's logs.
    """
    stored: dict[str, str | None] = {name: getattr(query, name) for name in _IDENTIFIERS}
    former: dict[str, tuple[str, ...]] = {}
    problems = []
    for name, value in list(stored.items()):
        if value is None or f"{name}_id" not in guarded:
            continue
        if not guard.keys and is_card_number(value):
            expected = "a token, since events.pan is reject and no document holds a card number"
            problems.append(Problem("arguments", f"--{name}", "a card number", expected))
            continue
        stored[name], *others = guard.tokens(value)
        if others:
            former[name] = tuple(others)
    if problems:
        raise Misconfigured(problems)
    return replace(
        query,
        card=stored["card"],
        merchant=stored["merchant"],
        device=stored["device"],
        former_tokens=former,
    )


def parse_range(text: str) -> Range:
    """
    Read ``LOW..HIGH``; either side may be left out, one number alone is exact.

    Raises argparse.ArgumentTypeError.
    """
    low, dots, high = text.partition("..")
    try:
        limits = Range(_number(low), _number(high if dots else low))
    except ValueError as error:
        message = f"expected LOW..HIGH, such as 100..500, 100.. or ..500, not {text!r}"
        raise argparse.ArgumentTypeError(message) from error
    if limits.low is not None and limits.high is not None and limits.low > limits.high:
        message = f"{text!r} is empty: {low} is above {high}"
        raise argparse.ArgumentTypeError(message)
    return limits


def parse_time(text: str, now_ms: int) -> int:
    """
    Milliseconds since the epoch of an RFC 3339 time, or of so long before *now_ms*: ``2h``.

    Raises argparse.ArgumentTypeError.
    """
    if (ago := _AGO.fullmatch(text)) is not None:
        try:
            past = timedelta(**{_AGO_UNITS[ago[2]]: int(ago[1])})
        except OverflowError:
            return 0
        return max(0, now_ms - past // timedelta(milliseconds=1))
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = datetime.min  # noqa: DTZ901 - refused below, like every time without an offset
    if time.tzinfo is None:
        message = f"expected 2026-06-01T12:00:00Z, or how long ago, such as 2h, not {text!r}"
        raise argparse.ArgumentTypeError(message)
    return milliseconds(time)


def cells(evidence: Evidence) -> tuple[str, ...]:
    """One text a column of the table; ``-`` where there is nothing."""
    known = evidence.known
    values = (
        format_time(known.event_ms),
        known.transaction_id,
        known.transaction.get("card_id"),
        known.transaction.get("merchant_id"),
        f"{known.transaction.get('amount')} {known.transaction.get('currency')}",
        known.decision.outcome,
        ",".join(known.decision.reasons) or None,
        _score(known.scores.fraud),
        _score(known.scores.anomaly),
        known.label.label if known.label else None,
    )
    return tuple("-" if value is None else printable(value) for value in values)


def plain_lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """*rows* in aligned columns, two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _print_page(page: Page) -> None:
    rows = [_row(document) for document in page.documents]
    console = Console(highlight=False)
    if not rows:
        return
    lines = plain_lines([_COLUMNS, *rows])
    # A table squeezed into a narrow terminal breaks every id; long lines only wrap.
    if not console.is_terminal or max(map(len, lines)) + _BORDER > console.width:
        sys.stdout.write("\n".join(lines) + "\n")
        return
    table = Table(box=SIMPLE_HEAD)
    for name in _COLUMNS:
        table.add_column(name, justify="right" if name in _NUMERIC else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    console.print(table)


def _row(document: bytes) -> tuple[str, ...]:
    try:
        return cells(decode_evidence(document))
    except Rejected:
        # Written by a version that is not ours; the others are worth showing all the same.
        return ("-", "unreadable, see --json", *["-"] * (len(_COLUMNS) - 2))


def _remark(query: Query, page: Page) -> str:
    """What to know beside the rows: how many there are, and how to see more."""
    remark = ""
    if page.partial:
        remark += "the server ran out of time: there may be more; narrow the time or an id\n"
    shown = query.offset + len(page.documents)
    if not page.documents:
        return remark + ("nothing found\n" if not page.total else f"{page.total:,} found\n")
    remark += f"{query.offset + 1:,} to {shown:,} of {page.total:,}"
    return remark + (f"; more with --offset {shown}\n" if shown < page.total else "\n")


def _score(score: float | None) -> str | None:
    return None if score is None else f"{score:.3f}"


def _number(text: str) -> float | None:
    if not text:
        return None
    number = float(text)
    if not math.isfinite(number):
        message = "not a number"
        raise ValueError(message)
    return number


def _time_ms(text: str) -> int:
    return parse_time(text, SystemClock().now_ms())


def _limit(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_PAGE:
        message = f"expected 1 to {MAX_PAGE}, not {text!r}"
        raise argparse.ArgumentTypeError(message)
    return int(text)


def _offset(text: str) -> int:
    if not text.isdecimal():
        message = f"expected 0 or more, not {text!r}"
        raise argparse.ArgumentTypeError(message)
    return int(text)
