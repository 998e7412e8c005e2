"""``fraudstream check``: everything the daemon needs, looked at before it is started."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from itertools import chain

import orjson
from rich.console import Console
from rich.text import Text

from consumer import configuration
from consumer.checklist import Checklist
from consumer.checkup import Finding, Level, exit_code, from_problems
from consumer.errors import Misconfigured
from consumer.evidence import printable
from consumer.logs import configure

_MISCONFIGURED = 2
_STYLES = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this command takes."""
    parser.add_argument(
        "--rate",
        type=_rate,
        default=0.0,
        metavar="N",
        help="transactions a second to expect: says what memory Redis will need",
    )
    parser.add_argument("--json", action="store_true", help="as JSON, for scripts")


def run(arguments: argparse.Namespace) -> int:
    """Print a line a check: 0, 1 when one failed, 2 when the settings are wrong."""
    # What a part logs about itself is said by its finding.
    configure("error", "auto")
    try:
        loaded = configuration.load(arguments.config)
    except Misconfigured as error:
        _tell(from_problems("settings", error.problems), as_json=arguments.json)
        return _MISCONFIGURED
    source = str(loaded.path) if loaded.path else "built-in defaults"
    with ExitStack() as stack:
        first = Finding("settings", Level.OK, f"{source} and environment variables")
        checks = Checklist(loaded.settings, arguments.rate, stack).run()
        findings = _tell(chain([first], checks), as_json=arguments.json)
    return exit_code(findings)


def _tell(findings: Iterable[Finding], *, as_json: bool) -> Sequence[Finding]:
    """Print *findings* and return them."""
    if as_json:
        told = list(findings)
        body = {"ok": not exit_code(told), "checks": [asdict(each) for each in told]}
        sys.stdout.buffer.write(orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE))
        sys.stdout.flush()
        return told
    console = Console(highlight=False, soft_wrap=True)
    told = []
    for each in findings:
        remedy = f" → {printable(each.remedy)}" if each.remedy else ""
        line = Text(f"{each.level:<4}  {each.subject:<14}  {printable(each.text)}{remedy}")
        line.stylize(_STYLES[each.level], 0, 4)
        console.print(line)
        told.append(each)
    return told


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0 < rate <= 10_000_000:  # noqa: PLR2004 - more than all cards of the world
        message = f"expected transactions a second, such as 1000, not {text!r}"
        raise argparse.ArgumentTypeError(message)
    return rate
