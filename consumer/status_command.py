"""``fraudstream status``: who works which shard, how far, and whether anything is stuck."""

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field

import msgspec

from consumer import configuration
from consumer.clock import SystemClock
from consumer.daemon_view import DaemonView, WorkerView, local_url, read_daemon
from consumer.errors import Misconfigured, Unavailable
from consumer.evidence import format_time, printable
from consumer.features.specification import load_plan
from consumer.fleet import ShardReport, judge, renewal_s
from consumer.inspection import open_fleet
from consumer.outside import build_rule_source
from consumer.search_command import plain_lines
from consumer.settings import Settings
from consumer.warming_view import WarmingView, view_warming, warming_lines

_COLUMNS = ("shard", "owner", "lease", "checkpoint", "saved", "unsaved", "lag", "stage")

_TIMESTAMP = "_timestamp_seconds"


@dataclass(frozen=True, slots=True)
class Status:
    """
    Everything that was seen; ``problems`` are why the exit code is 1.

    ``notes`` are what to look at in the morning: records are decided, but not by the rules
    that somebody wrote.
    """

    shards: Sequence[ShardReport]
    daemons: Sequence[DaemonView]
    problems: Sequence[str]
    warming: WarmingView = field(default_factory=WarmingView)
    notes: Sequence[str] = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this command takes."""
    parser.add_argument(
        "--url",
        action="append",
        metavar="URL",
        help="a daemon's address, may be repeated (default: the one of the settings, here)",
    )
    parser.add_argument(
        "--limit",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="a shard whose checkpoint stands still is stuck when its oldest unsaved record is "
        "older than this (default %(default)g)",
    )
    parser.add_argument(
        "--wait",
        type=float,
        metavar="SECONDS",
        help="pause between the two looks at the leases (default: time in which a living worker "
        "must have renewed them, a third of kcl.failover_time_ms and a second)",
    )
    parser.add_argument("--json", action="store_true", help="as JSON, for scripts")


def run(arguments: argparse.Namespace) -> int:
    """Print what was seen: 1 when a shard is stuck or nothing runs. Raises Unavailable."""
    settings = configuration.load(arguments.config).settings
    wait_s = renewal_s(settings.kcl.failover_time_ms) if arguments.wait is None else arguments.wait
    status = read_status(settings, arguments.url, round(arguments.limit * 1000), max(0.0, wait_s))
    if arguments.json:
        sys.stdout.buffer.write(_json(status))
        sys.stdout.flush()
    else:
        sys.stdout.write("\n".join(render(status)) + "\n")
    return 1 if status.problems else 0


def read_status(
    settings: Settings, urls: Sequence[str] | None, limit_ms: int, wait_s: float
) -> Status:
    """Look at the leases twice, *wait_s* apart, then at the stream and the daemons."""
    here = local_url(settings)
    daemons = [read_daemon(url) for url in urls or ([here] if here else [])]
    with ExitStack() as stack:
        fleet = open_fleet(settings, stack)
        first = fleet.leases()
        if first is None:
            table = settings.kcl.application_name
            problem = f"nothing has run yet: there is no lease table {table}"
            return Status((), daemons, (problem,))
        shards = fleet.shards()
        time.sleep(wait_s)
        second = fleet.leases() or []
        now_ms = SystemClock().now_ms()
        lags_ms = {lease.shard_id: fleet.lag_ms(lease, now_ms) for lease in second}
    reports = judge(shards, first, second, lags_ms, limit_ms)
    warming, unusable = read_warming(settings)
    notes = [*_rule_notes(daemons), *unusable]
    return Status(reports, daemons, find_problems(reports, daemons), warming, notes)


def _rule_notes(daemons: Sequence[DaemonView]) -> list[str]:
    """By what workers decide that is not simply their files; those that agree in one line."""
    shards: dict[str, list[str]] = {}
    for daemon in daemons:
        for worker in daemon.workers:
            if worker.rules:
                shards.setdefault(worker.rules, []).append(worker.shard)
    return [
        f"{', '.join(names)}: decides by {note}; the log says why" for note, names in shards.items()
    ]


def read_warming(settings: Settings) -> tuple[WarmingView, list[str]]:
    """
    Which rules wait for features, and what is wrong with the files of rules.

    What hinders knowing it is told, not raised.
    """
    try:
        plan = load_plan(settings.features.path, settings.events.base_currency)
    except Misconfigured as error:
        return WarmingView(unknown=str(error)), []
    try:
        rules = build_rule_source(settings, plan).load().rules
    except (Unavailable, Misconfigured) as error:
        first, *more = str(error).splitlines()
        others = f" (and {len(more)} more: fraudstream rules lint)" if more else ""
        note = f"the files of rules and lists cannot be used: {first}{others}"
        return view_warming(settings, plan, ()), [note]
    return view_warming(settings, plan, rules), []


def find_problems(reports: Sequence[ShardReport], daemons: Sequence[DaemonView]) -> list[str]:
    """
    What is wrong, the worst first.

    A daemon that does not answer is a problem only if no lease is renewed either: it may
    run elsewhere.
    """
    problems = [f"{each.shard_id}: {each.problem}" for each in reports if each.problem]
    if not any(each.owner and each.renewed for each in reports):
        problems.insert(0, "nothing runs: no worker renews a lease")
    problems += [f"{daemon.url}: {each}" for daemon in daemons for each in daemon.problems]
    return problems


def render(status: Status) -> list[str]:
    """*status* as lines for a person."""
    workers = {worker.shard: worker for daemon in status.daemons for worker in daemon.workers}
    rows = [_row(report, workers.get(report.shard_id)) for report in status.shards]
    lines = plain_lines([_COLUMNS, *rows]) if rows else []
    for daemon in status.daemons:
        lines += ["", *_daemon_lines(daemon)]
    if status.notes:
        lines += ["", *(f"NOTE  {printable(note)}" for note in status.notes)]
    waiting = warming_lines(status.warming)
    lines += ["", *map(printable, waiting)] if waiting else []
    if status.problems:
        lines += ["", *(f"PROBLEM  {printable(problem)}" for problem in status.problems)]
    else:
        lines += ["", "ok: every shard is worked and saved"]
    return lines


def _row(report: ShardReport, worker: WorkerView | None) -> tuple[str, ...]:
    """``saved`` says whether the checkpoint moved, ``lag`` the age of the oldest unsaved record."""
    return (
        report.shard_id,
        printable(report.owner or "-"),
        "renewed" if report.renewed else "stale" if report.owner else "-",
        f"…{report.checkpoint[-10:]}" if report.checkpoint.isdecimal() else report.checkpoint,
        "moves" if report.moved else "stands",
        "-" if worker is None else f"{worker.checkpoint_age_s:.1f} s",
        "-" if report.lag_ms is None else f"{report.lag_ms / 1000:,.1f} s",
        "-" if worker is None else worker.stage,
    )


def _daemon_lines(daemon: DaemonView) -> list[str]:
    if daemon.unreachable is not None:
        return [f"{daemon.url}: does not answer ({daemon.unreachable}); is it elsewhere? --url"]
    samples = {**daemon.states, **daemon.counts}
    rows = [(f"  {printable(name)}", _value(name, value)) for name, value in samples.items()]
    return [f"{daemon.url}: answers", *(plain_lines(rows) if rows else [])]


def _value(name: str, value: float) -> str:
    """A time as one, with the unit that its name ends in; else the number."""
    return format_time(round(value * 1_000)) if name.endswith(_TIMESTAMP) else f"{value:g}"


def _json(status: Status) -> bytes:
    workers = {worker.shard: worker for daemon in status.daemons for worker in daemon.workers}
    shards = [
        {**asdict(report), "worker": workers.get(report.shard_id)} for report in status.shards
    ]
    body: dict[str, object] = {
        "ok": not status.problems,
        "problems": status.problems,
        "shards": shards,
    }
    body["daemons"] = [asdict(daemon) for daemon in status.daemons]
    body["warming"] = asdict(status.warming)
    body["notes"] = status.notes
    return msgspec.json.encode(body) + b"\n"
