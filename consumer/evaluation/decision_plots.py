"""Pictures of decisions, each with a sentence for who reads it; None without anything to show."""

from typing import Final

from matplotlib.ticker import MaxNLocator

from consumer.evaluation.axes import COUNT, date_axis, day_number, log_axis, mark
from consumer.evaluation.distribution import Latency
from consumer.evaluation.drawing import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    RED,
    YELLOW,
    Plot,
    canvas,
    to_plot,
)
from consumer.evaluation.figures import Figures
from consumer.evaluation.wording import show_name

_MARKED: Final = ("p50", "p95", "p99")
# A line of text is as wide as this share of the axis.
_APART: Final = 0.05


def draw_by_day(figures: Figures) -> Plot | None:
    """Outcomes by day."""
    days = figures.by_day
    if not days:
        return None
    with canvas(2, (1, 2)) as (figure, (upper, lower)):
        when = [day_number(day.date) for day in days]
        upper.bar(when, [day.outcomes["approve"] for day in days], color=GREEN, label="approved")
        reviewed = [day.outcomes["review"] for day in days]
        lower.bar(when, reviewed, color=YELLOW, label="to review")
        lower.bar(
            when,
            [day.outcomes["decline"] for day in days],
            bottom=reviewed,
            color=RED,
            label="declined",
        )
        if figures.input.frauds:
            lower.plot(
                when,
                [day.frauds for day in days],
                "o-",
                color=INK,
                markersize=3,
                linewidth=1,
                label="known frauds",
            )
        date_axis(upper, len(days))
        date_axis(lower, len(days))
        upper.tick_params(labelbottom=False)
        for axes in (upper, lower):
            axes.set_ylabel("a day")
            axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
            axes.yaxis.set_major_formatter(COUNT)
        lower.set_xlabel("day (UTC)")
        figure.legend(loc="outside upper center", ncols=4)
        return to_plot(
            figure,
            "by-day",
            "Decisions by day",
            "A jump on one day is a wave of fraud, a rule that went wrong or a change of "
            "traffic; frauds count only as far as labels are known.",
        )


def draw_money_by_day(figures: Figures) -> Plot | None:
    """Fraud money by day, caught and missed."""
    days = figures.by_day
    if not figures.input.fraud_money > 0:
        return None
    with canvas() as (figure, (axes,)):
        when = [day_number(day.date) for day in days]
        caught = [day.money_caught for day in days]
        missed = [day.fraud_money - day.money_caught for day in days]
        axes.bar(when, caught, color=GREEN, label="fraud caught")
        axes.bar(when, missed, bottom=caught, color=RED, label="fraud missed")
        wrong = [-day.money_declined_wrongly for day in days]
        axes.bar(when, wrong, color=YELLOW, label="declined wrongly")
        axes.axhline(0, color=INK, linewidth=1)
        date_axis(axes, len(days))
        axes.yaxis.set_major_formatter(COUNT)
        axes.set_ylabel(f"{figures.currency} a day")
        axes.set_xlabel("day (UTC)")
        figure.legend(loc="outside upper center", ncols=3)
        return to_plot(
            figure,
            "money-by-day",
            "Money by day",
            "Green was saved, red was lost, and what hangs below the line belonged to honest "
            "customers who were declined.",
        )


def draw_latency(figures: Figures) -> Plot | None:
    """How long decisions took."""
    told = figures.latency
    if told is None:
        return None
    with canvas() as (figure, (axes,)):
        axes.stairs(told.counts, told.edges, color=BLUE, fill=True, alpha=0.4)
        log_axis(axes)
        for value, words in _marks(told):
            mark(axes, value, words)
        axes.yaxis.set_major_formatter(COUNT)
        axes.margins(y=0.25)
        axes.set_xlabel("milliseconds (log scale)")
        axes.set_ylabel("decisions")
        return to_plot(
            figure,
            "latency",
            "Time to decide",
            f"Measured {told.of}: half of the decisions took less than p50, one in a hundred "
            "longer than p99.",
        )


def _marks(told: Latency) -> list[tuple[float, str]]:
    """Where lines are drawn and what is written along them: one text for those too close."""
    nearest = (told.edges[-1] / told.edges[0]) ** _APART
    marks: list[tuple[float, str]] = []
    for name in reversed(_MARKED):
        value = told.percentiles[name]
        words = f"{name} {value:,.4g}"
        if marks and marks[-1][0] < value * nearest:
            above, others = marks.pop()
            marks.append((value, f"{words}, {others}"))
            if above > value:
                marks.insert(0, (above, ""))
        else:
            marks.append((value, words))
    return marks


def draw_differences(figures: Figures) -> Plot | None:
    """What challengers change, with intervals."""
    told = [
        (
            f"{duel.name}: {show_name(name)}" if len(figures.challengers) > 1 else show_name(name),
            each,
        )
        for duel in figures.challengers
        for name, each in duel.figures.items()
        if each.difference is not None and "money" not in name
    ]
    if not told:
        return None
    with canvas(height_in=0.9 + 0.28 * len(told)) as (figure, (axes,)):
        for row, (_, each) in enumerate(reversed(told)):
            if each.low is not None and each.high is not None:
                clear = each.low > 0 or each.high < 0
                axes.plot((each.low, each.high), (row, row), color=ORANGE if clear else INK)
            axes.plot(each.difference or 0.0, row, "o", color=ORANGE)
        axes.axvline(0, color=INK, linewidth=1)
        axes.set_yticks(range(len(told)), [name for name, _ in reversed(told)])
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel("challenger less champion")
        return to_plot(
            figure,
            "differences",
            "Challenger against champion",
            "Right of the line the challenger is better; where the bar, its 95 % interval, crosses "
            "the line, the difference may be chance.",
        )
