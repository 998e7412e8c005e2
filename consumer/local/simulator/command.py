"""``fraudstream simulate``: write a history, send live traffic, or both."""

import argparse
import math
import time
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from boto3.session import Session
from botocore.config import Config

from consumer.configuration import load
from consumer.errors import Misconfigured, Problem
from consumer.local.resources import session as local_session
from consumer.local.simulator.columns import DAY_MS
from consumer.local.simulator.display import shown
from consumer.local.simulator.faults import Faults
from consumer.local.simulator.history import place, write_history
from consumer.local.simulator.ledger import LedgerWriter
from consumer.local.simulator.producer import Producer, Progress
from consumer.local.simulator.traffic import Scenario, Traffic
from consumer.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient
    from mypy_boto3_s3 import S3Client

EXAMPLES = """\
examples:
  fraudstream simulate --transactions 1000 --rate 100 --duplicates 0.01 --ledger ledger.ndjson
  fraudstream simulate --history s3://fraudstream-history --days 60
  fraudstream simulate --history ./history --live --seed 7"""

_SOURCE = "command line"
_CLIENT = Config(
    connect_timeout=5,
    read_timeout=30,
    # 0 retries: the producer sends again what failed, and nobody below it may.
    retries={"max_attempts": 0, "mode": "standard"},
    s3={"addressing_style": "path"},
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``fraudstream simulate`` to *parser*."""
    parser.epilog = EXAMPLES
    where = parser.add_argument_group("where to")
    where.add_argument("--history", metavar="URI", help="s3://bucket/prefix or a folder")
    where.add_argument("--format", choices=("ndjson", "parquet"), default="ndjson", help="of files")
    where.add_argument(
        "--live", action="store_true", help="send live traffic; implied without --history"
    )
    where.add_argument(
        "--stream", metavar="NAME", help="send live traffic to this stream (default: the settings')"
    )
    where.add_argument("--ledger", type=Path, metavar="PATH", help="file that notes what was sent")
    where.add_argument(
        "--aws", action="store_true", help="use AWS itself where aws.endpoint_url is not set"
    )
    _add_what(parser.add_argument_group("what"))
    how = parser.add_argument_group("how")
    how.add_argument(
        "--rate", type=_amount, default=0.0, help="records a second; 0, the default: all at once"
    )
    for share, meaning in (
        ("duplicates", "sent twice"),
        ("malformed", "joined by a malformed record"),
        ("late", "sent up to 20 hours behind newer ones of their card"),
        ("too-late", "sent more than 25 hours behind"),
    ):
        how.add_argument(
            f"--{share}", type=_share, default=0.0, metavar="SHARE", help=f"share {meaning}"
        )


def _add_what(what: "argparse._ArgumentGroup") -> None:
    for name, kind, default, meaning in (
        ("--seed", _count, 1, "of everything drawn"),
        ("--cards", _count, 2_000, "cards"),
        ("--merchants", _count, 400, "merchants"),
        ("--days", _amount, 60.0, "days of history"),
        ("--transactions", _count, 20_000, "live transactions"),
    ):
        what.add_argument(
            name, type=kind, default=default, metavar="N", help=f"{meaning} (default %(default)g)"
        )
    what.add_argument(
        "--end", type=_time_ms, metavar="TIME", help="end of simulated time, RFC 3339 (default now)"
    )


def run(arguments: argparse.Namespace) -> int:
    """
    Do what the command line asks: 0 when all is written and sent.

    Raises Misconfigured for options that cannot be met, Unavailable when S3 or
    Kinesis stays away.
    """
    settings = load(arguments.config).settings
    live = arguments.live or arguments.stream is not None or arguments.history is None
    needs_aws = live or str(arguments.history).startswith("s3://")
    if needs_aws and settings.aws.endpoint_url is None and not arguments.aws:
        # Simulated fraud in a production stream is found out about by customers.
        expected = "an emulator's address, or --aws to use AWS itself"
        raise Misconfigured([Problem("settings", "aws.endpoint_url", "nothing", expected)])
    traffic = _simulate(arguments)
    if arguments.history is not None:
        _write_history(arguments, settings, traffic)
    if live:
        _send_live(arguments, settings, traffic)
    return 0


def _simulate(arguments: argparse.Namespace) -> Traffic:
    end_ms = time.time_ns() // 1_000_000 if arguments.end is None else arguments.end
    try:
        return Traffic(
            Scenario(
                end_ms=end_ms,
                seed=arguments.seed,
                cards=arguments.cards,
                merchants=arguments.merchants,
                history_days=arguments.days,
                transactions=arguments.transactions,
            )
        )
    except ValueError as error:
        raise Misconfigured([Problem(_SOURCE, "sizes", "too few", str(error))]) from error


def _write_history(arguments: argparse.Namespace, settings: Settings, traffic: Traffic) -> None:
    target = place(arguments.history, lambda: _s3(settings))
    span = traffic.history_span
    days = -(-span.end_ms // DAY_MS) - span.start_ms // DAY_MS
    with shown("history, days", days) as report:
        done = iter(range(1, days + 1))
        write_history(
            traffic.history(),
            target,
            arguments.format,
            lambda day, count: report(next(done), f"{day}: {count:,} events"),
        )


def _send_live(arguments: argparse.Namespace, settings: Settings, traffic: Traffic) -> None:
    faults = Faults(arguments.duplicates, arguments.malformed, arguments.late, arguments.too_late)
    stream = arguments.stream or settings.kcl.stream_name
    total = traffic.live_size(faults)

    with (
        LedgerWriter(arguments.ledger) if arguments.ledger else nullcontext() as ledger,
        shown(f"records to {stream}", total) as report,
    ):

        def on_progress(progress: Progress) -> None:
            speed = progress.sent / progress.elapsed_s if progress.elapsed_s else 0.0
            report(progress.sent, f"{speed:,.0f}/s, {progress.behind_s:.2f} s behind")

        producer = Producer(_kinesis(settings), stream, ledger)
        summary = producer.send(traffic.live(faults), arguments.rate, on_progress)
    print(
        f"sent {summary.sent:,} records in {summary.seconds:.1f} s "
        f"({summary.refused:,} refused and {summary.uncertain:,} unanswered at first, sent again)"
    )


def _kinesis(settings: Settings) -> "KinesisClient":
    client: KinesisClient = _session(settings).client("kinesis", config=_CLIENT)
    return client


def _s3(settings: Settings) -> "S3Client":
    client: S3Client = _session(settings).client("s3", config=_CLIENT)
    return client


def _session(settings: Settings) -> Session:
    if settings.aws.endpoint_url is None:
        return Session(region_name=settings.aws.region)
    emulator: Session = local_session(settings.aws.endpoint_url)
    return emulator


def _count(text: str) -> int:
    return int(_within(text, int(text), float("inf")))


def _amount(text: str) -> float:
    return _within(text, float(text), float("inf"))


def _share(text: str) -> float:
    return _within(text, float(text), 1.0)


def _within(text: str, value: float, highest: float) -> float:
    # Infinity and NaN are numbers to Python, but no rate or share.
    if not (0.0 <= value <= highest and math.isfinite(value)):
        bounds = f"0 to {highest:g}" if math.isfinite(highest) else "0 or more"
        message = f"{text}: expected {bounds}"
        raise argparse.ArgumentTypeError(message)
    return value


def _time_ms(text: str) -> int:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        message = f"{text}: expected an offset, such as 2026-11-23T20:00:00Z"
        raise argparse.ArgumentTypeError(message)
    return round(moment.timestamp() * 1_000)
