"""Axes of the report's pictures: shares, dates and short numbers."""

from datetime import date
from typing import Final

from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

from consumer.evaluation.drawing import INK

# From the largest to the smallest value: how many ticks there are room for.
_DECADES: Final = 100
_NARROW: Final = 4

SHARE: Final = PercentFormatter(1.0, decimals=0)


def unit_axes(axes: Axes, across: str, up: str) -> None:
    """Both axes are shares, from 0 to 1, called *across* and *up*."""
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.05)
    axes.xaxis.set_major_formatter(SHARE)
    axes.yaxis.set_major_formatter(SHARE)
    axes.set_xlabel(across)
    axes.set_ylabel(up)


def date_axis(axes: Axes, days: int) -> None:
    """Dates across, as few as can be read, for so many *days*."""
    locator = AutoDateLocator(minticks=2, maxticks=7)  # type: ignore[no-untyped-call]
    axes.xaxis_date()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    if days == 1:
        axes.set_xlim(*(bound + side for bound, side in zip(axes.get_xlim(), (-1, 1), strict=True)))


def log_axis(axes: Axes) -> None:
    """Put a logarithmic scale across, with short numbers at it, also within one decade."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    steps: tuple[float, ...] = (1.0, 2.0, 5.0) if high < low * _DECADES else (1.0,)
    if high < low * _NARROW:
        steps = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
    axes.xaxis.set_major_locator(LogLocator(subs=steps))
    axes.xaxis.set_major_formatter(COUNT)
    axes.xaxis.set_minor_formatter(NullFormatter())


def mark(axes: Axes, value: float, text: str) -> None:
    """Draw a dashed line at *value*, with *text* written along its left side."""
    axes.axvline(value, color=INK, linewidth=1, linestyle="--")
    axes.annotate(
        text,
        (value, 0.98),
        xytext=(-2, 0),
        textcoords="offset points",
        xycoords=("data", "axes fraction"),
        rotation=90,
        ha="right",
        va="top",
        fontsize=9,
    )


def day_number(text: str) -> float:
    """Where the date *text*, as 2026-06-01, stands on a date axis."""
    return float(date2num(date.fromisoformat(text)))  # type: ignore[no-untyped-call]


def short_number(value: float, _: int | None = None) -> str:
    """1500 as 1.5k; the second argument, the place of a tick, is matplotlib's."""
    for limit, sign in ((1e9, "bn"), (1e6, "m"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:g}{sign}"
    return f"{value:g}"


COUNT: Final = FuncFormatter(short_number)
