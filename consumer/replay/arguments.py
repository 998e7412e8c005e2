"""What ``fraudstream replay`` takes beside its source, and what of it does not go together."""

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from hashlib import sha256
from pathlib import Path
from typing import Literal

from consumer.argument_types import positive_count, positive_rate
from consumer.document import milliseconds
from consumer.errors import Misconfigured, Problem
from consumer.replay.chunks import Selection
from consumer.replay.opening import add_history_arguments
from consumer.replay.pace import Pace

TARGETS = ("stream", "engine", "features", "dataset")

_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_SPEED = re.compile(r"(\d+(?:\.\d+)?)x")


@dataclass(frozen=True, slots=True)
class Wishes:
    """
    What is asked for.

    ``out`` is the file of results, None where there is none. ``state`` is a path or an ``s3://``
    address, ``work`` the folder of what grows and of what was rejected, which stays for a resume;
    ``kept_work``: somebody named it, or it is that of a file of results. ``save_every_s`` is the
    pause between states.
    """

    to: str
    out: Path | None
    scratch: bool
    selection: Selection
    pace: Pace
    state: str
    work: Path
    kept_work: bool
    save_every_s: float
    resume: bool
    restart: bool
    dry_run: bool
    json: bool
    report: Path | None
    unlabelled: Literal["legitimate", "leave_out"]
    features: bool
    allow_degraded: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this command takes."""
    add_history_arguments(parser)
    _add_target(parser)
    _add_pace(parser)
    _add_course(parser)


def _add_target(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("where to")
    group.add_argument(
        "--to",
        nargs="+",
        required=True,
        metavar=("TARGET", "OUT"),
        help="stream: Kinesis, for the daemon; engine [OUT.parquet]: decided here, on live Redis "
        "as a worker does, with --scratch into OUT.parquet; features: entity state alone; "
        "dataset OUT.parquet: feature vectors with labels",
    )
    group.add_argument(
        "--scratch",
        action="store_true",
        help="an embedded Redis of its own instead of the live one; nothing of it stays",
    )
    group.add_argument(
        "--no-features",
        dest="features",
        action="store_false",
        help="engine with --scratch: leave the feature columns out",
    )
    group.add_argument(
        "--allow-degraded",
        action="store_true",
        help="engine: decide without a score where an endpoint does not answer (default: wait as "
        "for Redis, then stop)",
    )
    group.add_argument(
        "--report",
        type=Path,
        metavar="DIR",
        help="engine with --scratch: evaluate the decisions, see fraudstream report",
    )
    group.add_argument(
        "--unlabelled",
        choices=("legitimate", "leave_out"),
        default="legitimate",
        help="with --report: what a transaction without a label counts as (default: %(default)s)",
    )


def _add_pace(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how much and how fast")
    group.add_argument(
        "--from-time", type=_time_ms, metavar="TIME", help="from this time on: 2026-06-01[T12:00Z]"
    )
    group.add_argument("--to-time", type=_time_ms, metavar="TIME", help="to before this time")
    group.add_argument(
        "--warm-up",
        type=parse_duration,
        metavar="TIME",
        help="so much before --from-time fills the features, such as 37d (default: all)",
    )
    group.add_argument("--limit", type=positive_count, metavar="N", help="at most N transactions")
    group.add_argument(
        "--speed", type=_speed, metavar="SPEED", help="original, or a multiple of it: 60x"
    )
    group.add_argument(
        "--rate",
        type=positive_rate("events a second, such as 1000"),
        metavar="N",
        help="at most N events a second",
    )


def _add_course(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("course")
    group.add_argument("--dry-run", action="store_true", help="say what would be done")
    group.add_argument("--resume", action="store_true", help="go on where it was interrupted")
    group.add_argument(
        "--restart", action="store_true", help="begin anew though an interrupted one could go on"
    )
    group.add_argument(
        "--state",
        metavar="PLACE",
        help="where it stands: a file or s3://bucket/key (default: state.json in the work "
        "folder, replay-TARGET.json without one)",
    )
    group.add_argument(
        "--work",
        type=Path,
        metavar="DIR",
        help="folder of what grows and what is rejected (default: OUT.replay, without OUT "
        "replay-TARGET.work, or beside --state)",
    )
    group.add_argument(
        "--save-every",
        type=parse_duration,
        metavar="TIME",
        help="pause between saved states (default: 30s with --scratch, else 5s)",
    )
    group.add_argument("--json", action="store_true", help="the summary as JSON")


def read_wishes(arguments: argparse.Namespace) -> Wishes:
    """What is asked for. Raises Misconfigured with everything that cannot be together."""
    problems = list(_problems(arguments))
    if problems:
        raise Misconfigured(problems)
    to, *rest = arguments.to
    out = Path(rest[0]) if rest else None
    kept = arguments.work or (None if out is None else out.with_name(f"{out.name}.replay"))
    state = arguments.state
    if state is None:
        state = f"replay-{to}.json" if kept is None else str(kept / "state.json")
    warm_up_s = arguments.warm_up
    return Wishes(
        to=to,
        out=out,
        scratch=arguments.scratch,
        selection=Selection(
            arguments.from_time,
            arguments.to_time,
            None if warm_up_s is None else int(warm_up_s * 1000),
            arguments.limit,
        ),
        pace=Pace(arguments.speed, arguments.rate),
        state=state,
        work=kept or _work_beside(state, to),
        kept_work=kept is not None,
        save_every_s=arguments.save_every or (30.0 if arguments.scratch else 5.0),
        resume=arguments.resume,
        restart=arguments.restart,
        dry_run=arguments.dry_run,
        json=arguments.json,
        report=arguments.report,
        unlabelled=arguments.unlabelled,
        features=arguments.features,
        allow_degraded=arguments.allow_degraded,
    )


def _work_beside(state: str, to: str) -> Path:
    """A folder of the replay that *state* belongs to alone: several may run in one place."""
    if state.startswith("s3://"):
        return Path(f"replay-{to}-{sha256(state.encode()).hexdigest()[:8]}.work")
    return Path(state).with_suffix(".work")


def _problems(arguments: argparse.Namespace) -> Iterator[Problem]:
    to, *rest = arguments.to
    if to not in TARGETS:
        yield _problem("--to", repr(to), f"one of {', '.join(TARGETS)}")
        return
    if len(rest) > 1:
        yield _problem("--to", " ".join(arguments.to), "a target and one file; SOURCE goes first")
        return
    written = to == "dataset" or (to == "engine" and arguments.scratch)
    if written and not rest:
        yield _problem("--to", to, f"{to} and the file to write: --to {to} out.parquet")
    if rest and not written:
        hint = ", or --scratch" if to == "engine" else ""
        yield _problem("--to", f"{to} {rest[0]}", f"{to} without a file{hint}")
    if to == "stream" and arguments.scratch:
        yield _problem("--scratch", "with --to stream", "one of engine, features, dataset")
    if to == "dataset" and arguments.resume and not arguments.scratch:
        yield _problem(
            "--resume",
            "a data set on the live Redis",
            "--scratch: vectors that were read after an interruption would differ",
        )
    if arguments.report is not None and not (to == "engine" and arguments.scratch):
        yield _problem("--report", f"with --to {to}", "--to engine OUT.parquet --scratch")
    if arguments.resume and arguments.restart:
        yield _problem("--resume", "with --restart", "one of both")
    yield from _time_problems(arguments)


def _time_problems(arguments: argparse.Namespace) -> Iterator[Problem]:
    first, last = arguments.from_time, arguments.to_time
    if first is not None and last is not None and first >= last:
        yield _problem("--to-time", "not after --from-time", "a later time")
    if arguments.warm_up is not None and first is None:
        yield _problem("--warm-up", "without --from-time", "the time that it goes before")
    if arguments.speed is not None and arguments.rate is not None:
        yield _problem("--rate", "with --speed", "one of both")


def _problem(key: str, found: str, expected: str) -> Problem:
    return Problem("arguments", key, found, expected)


def parse_duration(text: str) -> float:
    """Seconds of ``30s``, ``15m``, ``2h`` or ``37d``. Raises argparse.ArgumentTypeError."""
    found = _DURATION.fullmatch(text)
    if text == "0":
        return 0.0
    if found is None:
        message = f"expected a duration such as 30s, 15m, 2h or 37d, not {text!r}"
        raise argparse.ArgumentTypeError(message)
    return float(found[1]) * _UNITS_S[found[2]]


def _time_ms(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
        if len(text) == len("2026-06-01"):
            moment = datetime.combine(date.fromisoformat(text), time(), UTC)
    except ValueError:
        moment = datetime.min  # noqa: DTZ901 - refused below, like every time without an offset
    if moment.tzinfo is None:
        message = f"expected 2026-06-01 (UTC) or 2026-06-01T12:00:00Z, not {text!r}"
        raise argparse.ArgumentTypeError(message)
    return milliseconds(moment)


def _speed(text: str) -> float:
    found = _SPEED.fullmatch(text)
    speed = 1.0 if text == "original" else float(found[1]) if found else 0.0
    if not speed:
        message = f"expected original or a multiple such as 60x, not {text!r}"
        raise argparse.ArgumentTypeError(message)
    return speed
