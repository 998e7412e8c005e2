"""``fraudstream redrive``: look at dead letters, and send them again."""

import argparse
import getpass
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import orjson
from prometheus_client import CollectorRegistry

from consumer import configuration
from consumer.argument_types import positive_count, positive_rate
from consumer.clock import SystemClock
from consumer.decode import DecodeRules
from consumer.errors import Misconfigured, Problem, Unavailable
from consumer.heartbeat import Heartbeat
from consumer.intake import Intake
from consumer.letters import Filed, Filter, Found, LetterBox, State, Unreadable
from consumer.logs import configure
from consumer.outside import build_letter_box, build_stream
from consumer.patch import parse_patch
from consumer.redrive import Delivery, Outcome, Redrive, Wishes
from consumer.redrive_engine import EngineDelivery
from consumer.redrive_report import Tally, describe_letter, letter_fields, show_progress, table
from consumer.redrive_stream import StreamDelivery
from consumer.search_command import parse_time
from consumer.settings import Settings
from consumer.wiring import build_parts

# Beyond every age and every time in milliseconds since the epoch.
_FOR_EVER_MS = 2**53


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this command takes."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add_list(actions.add_parser("list", help="the letters that wait, oldest day first"))
    _add_show(actions.add_parser("show", help="one letter, and what became of it"))
    _add_send(actions.add_parser("send", help="send letters again, as they are or mended"))


def _add_list(parser: argparse.ArgumentParser) -> None:
    _add_filter(parser)
    parser.add_argument("--all", action="store_true", help="those that were sent as well")
    parser.add_argument("--json", action="store_true", help="a letter a line, as JSON")


def _add_show(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="as list tells it: <shard>-<number>-<number>")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="all of it as one line of JSON")
    form.add_argument(
        "--payload", action="store_true", help="the payload alone, to be mended in a file"
    )


def _add_send(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", nargs="*", metavar="ID", help="these letters; else by filter")
    _add_filter(parser)
    parser.add_argument("--all", action="store_true", help="every letter that was not sent yet")
    parser.add_argument(
        "--to",
        choices=("stream", "engine"),
        default="stream",
        help="stream: back into Kinesis, for the daemon; engine: decided here and now, with the "
        "stores, endpoints and rules of the settings (default %(default)s)",
    )
    mended = parser.add_mutually_exclusive_group()
    mended.add_argument(
        "--patch",
        type=_patch,
        metavar="JSON",
        help='merged into each payload (RFC 7386), null removes: \'{"currency": "EUR"}\'',
    )
    mended.add_argument(
        "--payload", metavar="FILE", help="one ID: sent in place of its payload; - for stdin"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be sent")
    parser.add_argument("--again", action="store_true", help="also what was sent, or may have been")
    parser.add_argument(
        "--allow-stale",
        action="store_true",
        help="also what is older than documents live, though a decision on it may have expired",
    )
    parser.add_argument(
        "--rate",
        type=positive_rate("letters a second, such as 50"),
        metavar="N",
        help="letters a second at most",
    )
    parser.add_argument("--json", action="store_true", help="the report as JSON")


def _add_filter(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--since", type=_time_ms, metavar="TIME", help="arrival, or how long ago: 15m, 2h, 7d"
    )
    parser.add_argument("--until", type=_time_ms, metavar="TIME", help="as --since; included")
    parser.add_argument("--error", metavar="CODE", help="rejected for this: bad_identifier, …")
    parser.add_argument("--shard", metavar="ID", help="from this shard")
    parser.add_argument("--limit", type=positive_count, metavar="N", help="at most so many")


def run(arguments: argparse.Namespace) -> int:
    """
    Do what is asked; 1 when a letter was not there, could not be read or was not sent.

    Raises Misconfigured for arguments and settings that cannot be, and Unavailable.
    """
    settings = configuration.load(arguments.config).settings
    wishes = _wishes(arguments) if arguments.action == "send" else None
    configure("warning", settings.logs.format)
    with ExitStack() as stack:
        box = stack.enter_context(closing(build_letter_box(settings)))
        try:
            if arguments.action == "list":
                return _list(box, arguments)
            if wishes is None:
                return _show(box, arguments)
            return _send(box, arguments, wishes, lambda: _open(box, arguments, settings, stack))
        except Unavailable as error:
            if error.message.endswith("NoSuchBucket"):
                found, expected = settings.dead_letters.bucket, "the name of an existing bucket"
                problem = Problem("settings", "dead_letters.bucket", found, expected)
                raise Misconfigured([problem]) from error
            raise


def _list(box: LetterBox, arguments: argparse.Namespace) -> int:
    def waits(filed: Filed) -> bool:
        return bool(arguments.all) or filed.state is not State.SENT

    found = sorted(box.find(_filter(arguments), waits, arguments.limit), key=_order)
    letters = [each for each in found if isinstance(each, Filed)]
    if arguments.json:
        for each in letters:
            sys.stdout.buffer.write(orjson.dumps(letter_fields(each)) + b"\n")
        sys.stdout.flush()
    else:
        table(letters)
    unreadable = [each for each in found if isinstance(each, Unreadable)]
    for broken in unreadable:
        sys.stderr.write(f"fraudstream: {broken.message}\n")
    sys.stderr.write(f"{len(letters):,} letters\n" if letters else "no letters\n")
    return 1 if unreadable else 0


def _show(box: LetterBox, arguments: argparse.Namespace) -> int:
    found = box.find_one(arguments.id)
    if not isinstance(found, Filed):
        sys.stderr.write(f"fraudstream: {_missing(arguments.id, found)}\n")
        return 1
    if arguments.payload:
        sys.stdout.write(found.letter.payload + "\n")
    elif arguments.json:
        sys.stdout.buffer.write(orjson.dumps(letter_fields(found)) + b"\n")
        sys.stdout.flush()
    else:
        sys.stdout.write("\n".join(describe_letter(found)) + "\n")
    return 0


def _send(
    box: LetterBox,
    arguments: argparse.Namespace,
    wishes: Wishes,
    open_redrive: Callable[[], Redrive],
) -> int:
    found = _select(box, arguments)
    redrive = open_redrive() if found else None
    tally = Tally()
    failure: Unavailable | None = None
    try:
        if redrive is not None:
            for outcome in show_progress(redrive.run(found, wishes), len(found)):
                tally.add(outcome)
                if not arguments.json and not outcome.is_good:
                    sys.stdout.write(_line(outcome))
    except Unavailable as error:
        failure = error
    if arguments.json:
        report = {"to": arguments.to, "dry_run": arguments.dry_run, "asked": len(found)}
        sys.stdout.buffer.write(orjson.dumps({**report, **tally.fields()}) + b"\n")
    else:
        sys.stdout.write("\n".join(tally.lines(len(found))) + "\n")
    sys.stdout.flush()
    if failure is not None:
        raise failure
    return 0 if tally.is_good else 1


def _select(box: LetterBox, arguments: argparse.Namespace) -> list[Found]:
    """The letters that were asked for. Raises Misconfigured for unknown ids, all at once."""
    if not arguments.id:

        def waits(filed: Filed) -> bool:
            return bool(arguments.again) or filed.state is not State.SENT

        return sorted(box.find(_filter(arguments), waits, arguments.limit), key=_order)
    found = {letter_id: box.find_one(letter_id) for letter_id in dict.fromkeys(arguments.id)}
    problems = [
        Problem("arguments", "ID", repr(letter_id), "the id of a dead letter, see redrive list")
        for letter_id, each in found.items()
        if each is None
    ]
    if problems:
        raise Misconfigured(problems)
    return sorted((each for each in found.values() if each is not None), key=_order)


def _order(found: Found) -> tuple[int, str, int, int]:
    """As the records arrived, so that features count them in their order; the unreadable last."""
    if isinstance(found, Unreadable):
        return _FOR_EVER_MS, found.place, 0, 0
    letter = found.letter
    position = letter.position
    place = position.sequence_number, position.sub_sequence_number
    return letter.arrival_ms, letter.shard_id, *place


def _wishes(arguments: argparse.Namespace) -> Wishes:
    """What is asked for. Raises Misconfigured where that cannot be done."""
    filters = ("since", "until", "error", "shard", "limit")
    narrowed = [f"--{name}" for name in filters if getattr(arguments, name) is not None]
    if arguments.all:
        narrowed.append("--all")
    problems = []
    if bool(arguments.id) == bool(narrowed):
        given = f"IDs and {', '.join(narrowed)}" if narrowed else "neither"
        expected = "ids of letters, or a filter such as --error CODE, or --all"
        problems.append(Problem("arguments", "which letters", given, expected))
    payload = None
    if arguments.payload is not None:
        if len(arguments.id) != 1:
            found = f"{len(arguments.id)} ids"
            problems.append(Problem("arguments", "--payload", found, "one ID that it belongs to"))
        else:
            payload = _read(arguments.payload)
    if problems:
        raise Misconfigured(problems)
    return Wishes(
        by=f"{getpass.getuser()}@{socket.gethostname()}",
        again=arguments.again,
        dry_run=arguments.dry_run,
        patch=arguments.patch,
        payload=payload,
        rate=arguments.rate,
    )


def _open(
    box: LetterBox, arguments: argparse.Namespace, settings: Settings, stack: ExitStack
) -> Redrive:
    """The way back in. As ``app.build_parts`` raises."""
    clock = SystemClock()
    lifetime_ms = _FOR_EVER_MS if arguments.allow_stale else settings.redis.document_ttl_s * 1000
    intake = Intake(DecodeRules.of(settings.events), lifetime_ms, source="redrive")
    delivery: Delivery
    if arguments.to == "stream" or arguments.dry_run:
        delivery = StreamDelivery(build_stream(settings))
    else:
        # A place of its own: what a worker leaves in the daemon's would be taken for a shard.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fraudstream-")))
        supervisor = settings.supervisor.model_copy(update={"run_dir": folder})
        apart = settings.model_copy(update={"supervisor": supervisor})
        heartbeat = stack.enter_context(Heartbeat(folder, clock))
        # Nobody scrapes what a command counts.
        parts = build_parts(apart, heartbeat, clock, stack, registry=CollectorRegistry())
        delivery = EngineDelivery(parts)
    return Redrive(box, intake, delivery, clock=clock, sleep=time.sleep)


def _filter(arguments: argparse.Namespace) -> Filter:
    return Filter(arguments.since, arguments.until, arguments.error, arguments.shard)


def _line(outcome: Outcome) -> str:
    parts: Sequence[str] = (outcome.letter_id, outcome.result, outcome.error, outcome.detail)
    return "  ".join(part for part in parts if part) + "\n"


def _missing(letter_id: str, found: Unreadable | None) -> str:
    return f"no dead letter has the id {letter_id!r}" if found is None else found.message


def _read(name: str) -> bytes:
    try:
        return (sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()).strip()
    except OSError as error:
        problem = Problem("arguments", "--payload", f"{name}: {error.strerror}", "a file to read")
        raise Misconfigured([problem]) from error


def _patch(text: str) -> bytes:
    try:
        return parse_patch(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _time_ms(text: str) -> int:
    return parse_time(text, SystemClock().now_ms())
