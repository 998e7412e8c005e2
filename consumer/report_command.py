"""``fraudstream report``: how good decisions were, as figures, a page and a summary."""

import argparse
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from rich.console import Console

from consumer import configuration
from consumer.errors import Misconfigured, Problem
from consumer.outside import build_source_bucket

_K = 100
_RESAMPLES = 200
_MOST = 100_000
_WIDTH = 120


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this command takes."""
    parser.add_argument(
        "decisions",
        nargs="+",
        metavar="DECISIONS",
        help="files, folders, patterns or s3://bucket/prefix: Parquet of a replay, or what "
        "Firehose wrote",
    )
    parser.add_argument(
        "--labels",
        action="append",
        default=[],
        metavar="SOURCE",
        help="transaction_id and label (or fraud) as CSV, JSON lines or Parquet, or label events; "
        "wins over labels in the decisions",
    )
    parser.add_argument(
        "--challenger",
        action="append",
        default=[],
        metavar="[NAME=]OTHER",
        help="decisions of another model or rule set on the same transactions; once for each",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("report"), metavar="DIR", help="folder (default: report)"
    )
    parser.add_argument(
        "--unlabelled",
        choices=("legitimate", "leave_out"),
        default="legitimate",
        help="what a transaction without a label counts as (default: %(default)s, as in training)",
    )
    parser.add_argument(
        "--cards",
        type=_count,
        default=_K,
        metavar="K",
        help="cards that a team can look at a day, the k of card precision (default: %(default)s)",
    )
    parser.add_argument(
        "--resample",
        choices=("card", "day"),
        default="card",
        help="what is drawn for the intervals of a comparison (default: %(default)s)",
    )
    parser.add_argument(
        "--resamples",
        type=_count,
        default=_RESAMPLES,
        metavar="N",
        help="how often (default: %(default)s)",
    )
    parser.add_argument("--currency", metavar="CODE", help="default: events.base_currency")
    parser.add_argument("--json", action="store_true", help="print report.json, not the summary")


def run(arguments: argparse.Namespace) -> int:
    """
    Write the report and print it.

    Raises Misconfigured for input that cannot be read, and Unavailable where S3 does not answer.
    """
    # Here, since they need an extra.
    from consumer.evaluation.fetching import fetched  # noqa: PLC0415
    from consumer.evaluation.reporting import Request, write_report  # noqa: PLC0415

    settings = configuration.load(arguments.config).settings
    bucket = partial(build_source_bucket, settings)
    with ExitStack() as stack:

        def bring(option: str, places: list[str]) -> list[str | Path]:
            return stack.enter_context(fetched(option, places, bucket))

        report = write_report(
            Request(
                decisions=bring("DECISIONS", arguments.decisions),
                out=arguments.out,
                currency=arguments.currency or settings.events.base_currency,
                labels=bring("--labels", arguments.labels),
                challengers={
                    name: bring("--challenger", places)
                    for name, places in _challengers(arguments.challenger).items()
                },
                unlabelled=arguments.unlabelled,
                k=arguments.cards,
                cluster=arguments.resample,
                resamples=arguments.resamples,
            )
        )
    if arguments.json:
        sys.stdout.buffer.write(report.encoded())
        sys.stdout.flush()
    else:
        terminal = sys.stdout.isatty()
        # Nothing is cut where a file or another program reads it.
        report.print(Console(highlight=False, width=None if terminal else _WIDTH))
    return 0


def _challengers(given: list[str]) -> dict[str, list[str]]:
    """Places by name; a name given twice is an error, without one it is the file's."""
    named: dict[str, list[str]] = {}
    for text in given:
        name, separator, place = text.partition("=")
        if not separator:
            name, place = Path(text).name.partition(".")[0] or "challenger", text
        if name in named:
            expected = "another name for each: --challenger NAME=OTHER"
            raise Misconfigured([Problem("arguments", "--challenger", repr(name), expected)])
        named[name] = [place]
    return named


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MOST:
        message = f"expected 1 to {_MOST}, not {text!r}"
        raise argparse.ArgumentTypeError(message)
    return int(text)
