"""Pictures of scores, each with a sentence for who reads it; None without anything to show."""

from collections.abc import Callable, Sequence
from typing import Final

from matplotlib.axes import Axes

from consumer.evaluation.axes import COUNT, SHARE, date_axis, log_axis, mark, unit_axes
from consumer.evaluation.decisions import SCORES
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
from consumer.evaluation.ranking import Curve, Ranking
from consumer.evaluation.thresholds import Point
from consumer.evaluation.wording import mostly_unlabelled

_COLOURS: Final = {"fraud": BLUE, "anomaly": GREEN}
_STYLES: Final = ("--", ":", "-.")


def draw_precision_recall(figures: Figures) -> Plot | None:
    """Recall against precision of both scores, and of challengers."""
    curves = _curves(figures, lambda ranking: ranking.precision_recall, "precision_recall")
    if not curves or mostly_unlabelled(figures):
        return None
    with canvas() as (figure, (axes,)):
        _draw_curves(axes, curves)
        share = figures.input.fraud_share or 0.0
        axes.axhline(share, color=INK, linewidth=1, linestyle=":", label=f"chance ({share:.2%})")
        _draw_in_force(axes, figures.scores["fraud"].points)
        unit_axes(axes, "recall: share of frauds flagged", "precision: share that is fraud")
        figure.legend(loc="outside upper center", ncols=2)
        return to_plot(
            figure,
            "precision-recall",
            "Precision and recall",
            "Further right finds more of the frauds, further up bothers fewer honest customers; "
            "red dots are the thresholds in force.",
        )


def draw_roc(figures: Figures) -> Plot | None:
    """False positive rate against recall of both scores, and of challengers."""
    curves = _curves(figures, lambda ranking: ranking.roc, "roc")
    if not curves or mostly_unlabelled(figures):
        return None
    with canvas() as (figure, (axes,)):
        _draw_curves(axes, curves)
        axes.plot((0, 1), (0, 1), color=INK, linewidth=1, linestyle=":", label="chance")
        unit_axes(axes, "share of legitimate flagged", "share of frauds flagged")
        axes.legend(loc="lower right")
        return to_plot(
            figure,
            "roc",
            "ROC curve",
            "The steeper the curve rises at the left, the more frauds a score finds before it "
            "flags honest customers; the dotted line is guessing.",
        )


def draw_money(figures: Figures) -> Plot | None:
    """Share of fraud money caught by so many reviews a day."""
    points = figures.scores["fraud"].money_by_reviews
    if not points:
        return None
    with canvas() as (figure, (axes,)):
        reviews, money, frauds = zip(*points, strict=True)
        axes.plot(reviews, money, color=BLUE, label="fraud money")
        axes.plot(reviews, frauds, color=BLUE, linewidth=1, linestyle=":", label="frauds")
        for duel, style in zip(figures.challengers, _STYLES, strict=False):
            if other := duel.money_by_reviews.get("fraud"):
                axes.plot(
                    *list(zip(*other, strict=True))[:2],
                    style,
                    color=ORANGE,
                    label=f"fraud money, {duel.name}",
                )
        live = figures.outcomes.flagged
        if live.flagged_a_day and live.value_recall is not None:
            axes.plot(live.flagged_a_day, live.value_recall, "o", color=RED, label="decisions made")
        log_axis(axes)
        axes.set_ylim(0, 1.02)
        axes.yaxis.set_major_formatter(SHARE)
        axes.set_xlabel("transactions flagged a day")
        axes.set_ylabel("share caught")
        figure.legend(loc="outside upper center", ncols=2)
        return to_plot(
            figure,
            "money",
            "Money caught against reviews a day",
            "How much of the fraud money is caught by a team that looks at so many transactions "
            "a day, those with the highest fraud score first.",
        )


def draw_spread_of(score: str) -> Callable[[Figures], Plot | None]:
    """How *score* is spread, by class."""

    def draw(figures: Figures) -> Plot | None:
        spread = figures.scores[score].spread
        if spread is None:
            return None
        with canvas() as (figure, (axes,)):
            classes = (
                ("legitimate", spread.legitimate, BLUE),
                ("unlabelled", spread.unlabelled, INK),
                ("fraud", spread.frauds, RED),
            )
            for name, counts, colour in classes:
                if any(counts):
                    axes.stairs(
                        counts, spread.edges, color=colour, label=name, fill=True, alpha=0.25
                    )
                    axes.stairs(counts, spread.edges, color=colour, linewidth=1.5)
            axes.set_yscale("log")
            axes.set_ylim(bottom=0.7)
            axes.yaxis.set_major_formatter(COUNT)
            for point in figures.scores[score].points:
                if point.name:
                    mark(axes, point.threshold, point.name.split("_")[1])
            axes.set_xlabel(f"{score} score")
            axes.set_ylabel("transactions (log scale)")
            figure.legend(loc="outside upper center", ncols=3)
            return to_plot(
                figure,
                f"{score}-scores",
                f"Distribution of the {score} score",
                "A good score keeps frauds on the right and the rest on the left; dashed lines "
                "are the thresholds in force.",
            )

    return draw


def draw_card_precision(figures: Figures) -> Plot | None:
    """Card precision of the fraud score by day."""
    measured = figures.scores["fraud"].card_precision
    if not figures.input.frauds or not measured or not measured[0].days:
        return None
    told = measured[len(measured) // 2]
    with canvas() as (figure, (axes,)):
        when = [float(number) for number in told.days]
        best = [min(count, told.k) / told.k for count in told.compromised]
        axes.plot(when, best, "^--", color=INK, linewidth=1, markersize=4, label="best possible")
        axes.plot(when, told.daily, "o-", color=BLUE, markersize=4, label="fraud score")
        date_axis(axes, len(when))
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(SHARE)
        axes.set_ylabel(f"compromised among {told.k} cards")
        axes.set_xlabel("day (UTC)")
        figure.legend(loc="outside upper center", ncols=2)
        return to_plot(
            figure,
            "card-precision",
            f"Card precision at {told.k}",
            f"Of the {told.k} most suspicious cards of each day, the share that really was "
            "compromised; found cards leave later days. The dashed line is a perfect order of "
            "the same cards.",
        )


def draw_calibration(figures: Figures) -> Plot | None:
    """Mean score against share of frauds, by bin."""
    told = figures.calibration
    if told is None or not figures.input.frauds or mostly_unlabelled(figures):
        return None
    with canvas() as (figure, (axes,)):
        axes.plot((0, 1), (0, 1), color=INK, linewidth=1, linestyle=":", label="perfect")
        means = [each.mean_score for each in told.bins]
        shares = [each.fraud_share for each in told.bins]
        axes.plot(means, shares, "o-", color=BLUE, label="fraud score")
        for each in told.bins:
            axes.annotate(
                f"{each.rows:,}",
                (each.mean_score, each.fraud_share),
                # Right below a point: a curve that rises leaves the place free.
                xytext=(5, -3),
                textcoords="offset points",
                fontsize=8,
                ha="left",
                va="top",
            )
        unit_axes(axes, "mean score of the bin", "share that is fraud")
        axes.set_ylim(bottom=-0.08)
        figure.legend(loc="outside upper center", ncols=2)
        return to_plot(
            figure,
            "calibration",
            "Calibration",
            "On the dotted line a score of 30 % means that 3 in 10 such transactions are fraud; "
            "below it the score exaggerates. Numbers count transactions.",
        )


Curves = list[tuple[str, str, str, list[tuple[float, float]]]]


def _curves(figures: Figures, of: Callable[[Ranking], Curve], name: str) -> Curves:
    """Label, colour, style and points of each score's curve, then of each challenger's."""
    told = [
        (f"{score} score", _COLOURS[score], "-", list(of(figures.scores[score].ranking)))
        for score in SCORES
    ]
    told += [
        (f"{score}, {duel.name}", ORANGE if score == "fraud" else YELLOW, style, list(curve))
        for duel, style in zip(figures.challengers, _STYLES, strict=False)
        for score, curve in getattr(duel, name).items()
    ]
    return [each for each in told if each[-1]]


def _draw_in_force(axes: Axes, points: Sequence[Point]) -> None:
    for point in points:
        recall, precision = point.caught.recall, point.caught.precision
        if point.name and recall is not None and precision is not None:
            axes.plot(recall, precision, "o", color=RED)
            axes.annotate(
                f"{point.threshold:g}",
                (recall, precision),
                xytext=(6, 4),
                textcoords="offset points",
            )


def _draw_curves(axes: Axes, curves: Curves) -> None:
    for label, colour, style, points in curves:
        across, up = zip(*points, strict=True)
        axes.plot(across, up, style, color=colour, label=label)
