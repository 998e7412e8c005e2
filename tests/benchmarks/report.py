"""The figures as JSON for machines and as a table for people."""

from collections.abc import Mapping
from pathlib import Path

import orjson
from rich.console import Console
from rich.table import Table

from tests.benchmarks.catalogue import FIGURES, Figure
from tests.benchmarks.measured import Measured

_BY_NAME = {name: figure for figures in FIGURES.values() for name, figure in figures.items()}
_DIGITS = 4


def write_results(path: Path, found: Mapping[str, Measured]) -> None:
    """Write one object a figure: name, value, unit, target, met, n and spread."""
    rows = [
        {
            "name": name,
            "value": _rounded(measured.value),
            "unit": _BY_NAME[name].unit,
            "target": _BY_NAME[name].target,
            "met": _BY_NAME[name].met(measured.value),
            "n": measured.n,
            "spread": None if measured.spread is None else _rounded(measured.spread),
        }
        for name, measured in found.items()
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(rows, option=orjson.OPT_INDENT_2) + b"\n")


def show(console: Console, machine: str, found: Mapping[str, Measured]) -> None:
    """Print the table, under the line that says what machine it is of."""
    table = Table("figure", "value", "unit", "target", "met", "n", "spread", box=None)
    for column in (1, 3, 5, 6):
        table.columns[column].justify = "right"
    for name, measured in found.items():
        figure = _BY_NAME[name]
        met = figure.met(measured.value)
        table.add_row(
            name,
            _number(measured.value),
            figure.unit,
            _target(figure),
            {None: "", True: "yes", False: "NO"}[met],
            f"{measured.n:,}",
            "" if measured.spread is None else _number(measured.spread),
        )
    console.print(machine, soft_wrap=True)
    console.print(table)


def _target(figure: Figure) -> str:
    if figure.target is None:
        return ""
    return f"{'≥' if figure.at_least else '≤'} {_number(figure.target)}"


def _number(value: float) -> str:
    return f"{_rounded(value):,g}" if abs(value) < 1_000 else f"{value:,.0f}"


def _rounded(value: float) -> float:
    """Four significant digits: none of these figures is worth more."""
    rounded = float(f"{value:.{_DIGITS}g}")
    return int(rounded) if rounded.is_integer() else rounded
