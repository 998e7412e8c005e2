"""The pictures of a report, in the order of the page."""

from collections.abc import Callable, Iterator
from typing import Final

from consumer.evaluation.decision_plots import (
    draw_by_day,
    draw_differences,
    draw_latency,
    draw_money_by_day,
)
from consumer.evaluation.drawing import Plot
from consumer.evaluation.figures import Figures
from consumer.evaluation.score_plots import (
    draw_calibration,
    draw_card_precision,
    draw_money,
    draw_precision_recall,
    draw_roc,
    draw_spread_of,
)

_DRAWN: Final[tuple[Callable[[Figures], Plot | None], ...]] = (
    draw_money,
    draw_precision_recall,
    draw_roc,
    draw_card_precision,
    draw_spread_of("fraud"),
    draw_spread_of("anomaly"),
    draw_differences,
    draw_by_day,
    draw_money_by_day,
    draw_calibration,
    draw_latency,
)


def draw_plots(figures: Figures) -> Iterator[Plot]:
    """Draw every picture for which *figures* hold what it shows."""
    for draw in _DRAWN:
        plot = draw(figures)
        if plot is not None:
            yield plot
