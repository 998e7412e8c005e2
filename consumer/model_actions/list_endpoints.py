"""``fraudstream models list``: which endpoint runs which model."""

import argparse
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import orjson

from consumer import configuration
from consumer.deployment.catalogue import Row, list_endpoints
from consumer.model_actions.connection import open_control

_COLUMNS = ("name", "status", "kind", "variant", "model", "features", "age", "shadow")
_SHOWN = 12
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3_600, 86_400


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this action takes."""
    parser.add_argument(
        "--all", action="store_true", help="endpoints that this package did not make, too"
    )
    parser.add_argument("--json", action="store_true", help="an endpoint a line, as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print the endpoints. Raises Misconfigured and Unavailable."""
    settings = configuration.load(arguments.config).settings
    with open_control(settings) as control:
        rows = list_endpoints(control, everything=arguments.all)
    if arguments.json:
        for row in rows:
            sys.stdout.buffer.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
        sys.stdout.flush()
        return 0
    sys.stdout.write(_align([_COLUMNS, *map(_cells, rows)]) if rows else "no such endpoints\n")
    return 0


def _align(lines: Sequence[Sequence[str]]) -> str:
    """Plain columns, as wide as their widest cell: a name that is cut short is of no use."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    cells = (zip(line, widths, strict=True) for line in lines)
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in line).rstrip() + "\n" for line in cells
    )


def _cells(row: Row) -> tuple[str, ...]:
    variant = "-" if row.variant is None else f"{row.variant} x{row.instances}"
    return (
        row.name,
        row.status,
        row.kind or "-",
        variant,
        row.model or "-",
        (row.feature_hash or "-")[:_SHOWN],
        show_age(time.time() - _seconds(row.changed)),
        row.shadow or "-",
    )


def _seconds(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def show_age(seconds: float) -> str:
    """Say how long ago: ``4 min``, ``3.5 h``, ``12 d``."""
    if seconds < _HOUR_S:
        return f"{seconds / _MINUTE_S:.0f} min"
    if seconds < 2 * _DAY_S:
        return f"{seconds / _HOUR_S:.1f} h"
    return f"{seconds / _DAY_S:.0f} d"
