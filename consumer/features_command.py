"""``fraudstream features``: whether live features equal a recomputation, and planning a change."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from consumer import configuration
from consumer.clock import SystemClock
from consumer.evidence import format_time, printable
from consumer.features.specification import load_plan
from consumer.features_plan import plan_features
from consumer.features_plan import render as render_plan
from consumer.features_plan import to_json as plan_to_json
from consumer.inspection import open_search
from consumer.recomputation import Comparison, Outcome
from consumer.search_command import parse_time, plain_lines
from consumer.settings import Settings
from consumer.verification import DocumentReader, Tally, Verification, Wanted, verify

_READING_S = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this command takes."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    summary = "recompute a sample of decisions from their documents and compare every feature"
    each = actions.add_parser("verify", help=summary, description=summary)
    each.add_argument(
        "--sample", type=_number, default=200, metavar="N", help="decisions to recompute (200)"
    )
    each.add_argument(
        "--since",
        type=_time_ms,
        default="24h",
        metavar="TIME",
        help="event time, or how long ago, of the oldest to sample (24h)",
    )
    each.add_argument(
        "--seed", type=int, default=0, metavar="N", help="another seed, another sample"
    )
    each.add_argument(
        "--limit",
        type=_share,
        default=0.01,
        metavar="SHARE",
        help="share of values fed by several shards that may differ (0.01)",
    )
    each.add_argument("--json", action="store_true", help="as JSON, for scripts")
    summary = "what another list would add, its bytes, warm-up, and the models to retrain"
    each = actions.add_parser("plan", help=summary, description=summary)
    each.add_argument("new", type=Path, metavar="NEW.yaml", help="the list to go to")
    each.add_argument(
        "--against", type=Path, metavar="OLD.yaml", help="the list to come from (features.path)"
    )
    each.add_argument("--json", action="store_true", help="as JSON, for scripts")


def run(arguments: argparse.Namespace) -> int:
    """
    Do what is asked and print it.

    1 where a sample's features differ or nothing could be compared, and where rules would
    not fit a planned list. Raises Misconfigured for the settings and features, and Unavailable.
    """
    settings = configuration.load(arguments.config).settings
    if arguments.action == "plan":
        return _plan(settings, arguments)
    return _verify(settings, arguments)


def _plan(settings: Settings, arguments: argparse.Namespace) -> int:
    found = plan_features(settings, arguments.new, arguments.against)
    if arguments.json:
        body = orjson.dumps(plan_to_json(found), option=orjson.OPT_APPEND_NEWLINE)
        sys.stdout.buffer.write(body)
        sys.stdout.flush()
    else:
        sys.stdout.write("\n".join(render_plan(found)) + "\n")
    return 1 if found.broken else 0


def _verify(settings: Settings, arguments: argparse.Namespace) -> int:
    plan = load_plan(settings.features.path, settings.events.base_currency)
    now_ms = SystemClock().now_ms()
    with ExitStack() as stack:
        found = verify(
            DocumentReader(open_search(settings, stack, timeout_s=_READING_S), plan),
            plan,
            Wanted(arguments.sample, (arguments.since, now_ms), arguments.seed),
            horizon_s=settings.features.id_horizon_s,
            lifetime_s=settings.redis.document_ttl_s,
            now_ms=now_ms,
        )
    if found is None:
        sys.stderr.write(
            f"fraudstream: no decision since {format_time(arguments.since)}; "
            "--since looks further back, documents live "
            f"{settings.redis.document_ttl_s / 3_600:g} h\n"
        )
        return 1
    if arguments.json:
        body = to_json(found, arguments.limit)
        sys.stdout.buffer.write(orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE))
        sys.stdout.flush()
    else:
        sys.stdout.write("\n".join(render(found, arguments.limit)) + "\n")
    return 0 if found.holds(arguments.limit) else 1


def to_json(found: Verification, limit: float) -> dict[str, Any]:
    """Everything that was found, for machines."""
    return {
        "ok": found.holds(limit),
        **found.summary(),
        "limit": limit,
        "other_feature_list": found.other_list,
        "made_just_now": found.fresh,
        "unreadable": found.unreadable,
        "documents_since": format_time(found.since_s * 1000),
        "features": {
            name: {
                "entity": tally.entity,
                **{str(each): tally.outcomes[each] for each in Outcome},
                "share_different": _part(tally.outcomes[Outcome.DIFFERENT], tally.compared),
                "uncovered_because": dict(tally.uncovered.most_common()),
                "causes": dict(tally.causes.most_common()),
                "examples": [asdict(each) for each in tally.examples],
            }
            for name, tally in found.tallies.items()
        },
        "derived": list(found.derived),
    }


def render(found: Verification, limit: float) -> Iterator[str]:
    """The report for a person: the verdict, the numbers, then what differs, then what is open."""
    yield found.verdict(limit)
    yield ""
    yield f"decisions sampled  {found.sampled:,}" + _left_out(found)
    yield f"values compared    {found.compared:,}"
    yield f"  equal            {found.total(Outcome.EQUAL):,}"
    yield (
        f"  equal, reordered {found.total(Outcome.REORDERED):,}"
        "  (events of other shards, or labels, were under way)"
    )
    yield f"  different        {found.total(Outcome.DIFFERENT):,}"
    yield f"not covered        {found.total(Outcome.UNCOVERED):,}"
    yield f"documents tell of every event since {format_time(found.since_s * 1000)}"
    different = {name: tally for name, tally in found.tallies.items() if tally.examples}
    if different:
        yield ""
        yield "Different:"
    for name, tally in different.items():
        yield from _difference(name, tally)
    uncovered = {name: tally for name, tally in found.tallies.items() if tally.uncovered}
    if uncovered:
        yield ""
        yield "Not covered, of the decisions sampled:"
        rows = [
            (f"  {name}", f"{count:,}", reason)
            for name, tally in uncovered.items()
            for reason, count in tally.uncovered.most_common()
        ]
        yield from plain_lines(rows)
    if found.derived:
        yield ""
        yield f"Not recomputed, as they follow from the vector itself: {', '.join(found.derived)}"


def _difference(name: str, tally: Tally) -> Iterator[str]:
    different = tally.outcomes[Outcome.DIFFERENT]
    share = _part(different, tally.compared)
    yield f"  {name}: {different:,} of {tally.compared:,} ({share:.1%})"
    for each in tally.examples:
        yield f"    {_example(each)}"


def _example(each: Comparison) -> str:
    values = f"online {_value(each.online)}, offline {_value(each.offline)}"
    return f"{printable(each.transaction_id)}: {values}; likely {each.remark}"


def _value(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.15g}"


def _left_out(found: Verification) -> str:
    parts = [
        f"{number:,} {what}"
        for number, what in (
            (found.other_list, "made with another feature list"),
            (found.fresh, "made just now"),
            (found.unreadable, "documents unreadable"),
        )
        if number
    ]
    return f"  (left out: {', '.join(parts)})" if parts else ""


def _part(number: int, of: int) -> float:
    return round(number / of, 6) if of else 0.0


def _number(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100_000:  # noqa: PLR2004 - more is a job for training
        message = f"expected 1 to 100000, not {text!r}"
        raise argparse.ArgumentTypeError(message)
    return int(text)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        message = f"expected a share from 0 to 1, such as 0.01, not {text!r}"
        raise argparse.ArgumentTypeError(message)
    return share


def _time_ms(text: str) -> int:
    return parse_time(text, SystemClock().now_ms())
