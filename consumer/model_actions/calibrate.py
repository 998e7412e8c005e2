"""``fraudstream models calibrate``: thresholds for a capacity of review and given costs."""

import argparse
from pathlib import Path

from consumer.errors import Misconfigured, Problem


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this action takes."""
    parser.add_argument("decisions", nargs="+", type=Path, metavar="DECISIONS")


def run(arguments: argparse.Namespace) -> int:
    """Propose thresholds. Raises Misconfigured."""
    found = str(arguments.decisions[0])
    raise Misconfigured([Problem("arguments", "DECISIONS", found, "a replay's decisions")])
