"""Figures as a person reads them: counts with commas, shares as per cent, a dash for none."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from consumer.evaluation.figures import Figures

ABSENT: Final = "\N{EN DASH}"

_WHOLE: Final = 100
_SMALL: Final = 0.1


@dataclass(frozen=True, slots=True)
class Tile:
    """One of the figures that a reader looks at first."""

    name: str
    value: str
    meaning: str


def show_count(value: float | None) -> str:
    """1234 as 1,234."""
    return ABSENT if value is None else f"{value:,.0f}"


def show_money(value: float | None) -> str:
    """Whole units from a hundred on: 1,234; below with two decimals: 12.50."""
    if value is None:
        return ABSENT
    return f"{value:,.0f}" if abs(value) >= _WHOLE or not value else f"{value:,.2f}"


def show_share(value: float | None) -> str:
    """.1234 as 12.3 %, and what is below a tenth of a per cent with two decimals."""
    if value is None:
        return ABSENT
    return f"{value:.1%}" if value >= _SMALL / 100 or not value else f"{value:.2%}"


def show_rate(value: float | None) -> str:
    """So many a day: 1,234 or 1.2."""
    if value is None:
        return ABSENT
    return f"{value:,.0f}" if value >= _WHOLE / 10 else f"{value:.2g}"


def show_threshold(value: float | None) -> str:
    """Four significant digits."""
    return ABSENT if value is None else f"{value:.4g}"


def show_moment(text: str) -> str:
    """2026-06-01T12:00:00+00:00 as 2026-06-01 12:00."""
    return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M")


def show_figure(value: float | None, name: str, signed: object = None) -> str:
    """Return the figure *name* of a comparison: money as money, else three decimals."""
    if value is None:
        return ABSENT
    if "money" in name:
        return ("+" if signed and value > 0 else "") + show_money(value)
    return f"{value:+.3f}" if signed else f"{value:.3f}"


def show_name(name: str) -> str:
    """``fraud.roc_auc`` as fraud: ROC AUC."""
    score, _, figure = name.rpartition(".")
    told = figure.replace("_", " ").replace("roc auc", "ROC AUC")
    return f"{score}: {told}" if score else told


def key_figures(figures: Figures) -> list[Tile]:
    """What stands first, in the order of a fraud manager's questions."""
    flagged, declined = figures.outcomes.flagged, figures.outcomes.declined
    money = figures.currency
    tiles = [
        Tile(
            "of the fraud money caught",
            show_share(flagged.value_recall),
            f"{show_money(flagged.money_caught)} {money} of fraud was declined or sent to review.",
        ),
        Tile(
            "of the frauds caught",
            show_share(flagged.recall),
            f"{show_count(flagged.frauds)} of {show_count(figures.input.frauds)} known frauds.",
        ),
        Tile(
            "of what was flagged is fraud",
            show_share(flagged.precision),
            f"{show_count(flagged.legitimate)} honest transactions were declined or reviewed.",
        ),
        Tile(
            f"{money} blocked wrongly",
            show_money(declined.money_wrong if figures.input.legitimate else None),
            f"{show_count(declined.legitimate)} transactions known to be honest were declined.",
        ),
        Tile(
            "flagged a day",
            show_rate(flagged.flagged_a_day),
            f"{show_share(figures.outcomes.share_reviewed)} of all went to review, "
            f"{show_share(figures.outcomes.share_declined)} were declined.",
        ),
    ]
    return [*tiles, *_of_scores(figures), *_of_running(figures)]


def _of_scores(figures: Figures) -> list[Tile]:
    tiles = []
    for score, each in figures.scores.items():
        if each.ranking.roc_auc is None:
            continue
        precision = each.card_precision[len(each.card_precision) // 2]
        tiles += [
            Tile(
                f"average precision, {score} score",
                show_figure(each.ranking.average_precision, ""),
                f"Mean share of fraud among what the score puts first; guessing gives "
                f"{show_figure(figures.input.fraud_share, '')}. Weighted by money "
                f"{show_figure(each.ranking.average_precision_by_value, '')}.",
            ),
            Tile(
                f"ROC AUC, {score} score",
                show_figure(each.ranking.roc_auc, ""),
                "How often a fraud scores higher than an honest transaction; guessing gives 0.500.",
            ),
            Tile(
                f"card precision at {precision.k}, {score} score",
                show_figure(precision.mean, ""),
                f"Share of the {precision.k} most suspicious cards a day that were compromised; "
                f"at best {show_figure(precision.best_possible, '')} on these days.",
            ),
        ]
    return tiles


def _of_running(figures: Figures) -> list[Tile]:
    tiles = [
        Tile(
            "degraded",
            show_share(figures.degraded.share),
            f"{show_count(figures.degraded.decisions)} decisions lacked a score in time.",
        ),
        Tile(
            "without a label",
            show_share(figures.input.unlabelled_share),
            "Not known yet to be fraud or honest; left out of every figure of quality.",
        ),
    ]
    if figures.calibration is not None and figures.input.frauds:
        tiles.append(
            Tile(
                "calibration error",
                show_figure(figures.calibration.expected_calibration_error, ""),
                f"Mean distance of score and share of fraud; Brier score "
                f"{figures.calibration.brier:.4f}.",
            )
        )
    if figures.latency is not None:
        tiles.append(
            Tile(
                "ms, 99 of 100 decisions",
                f"{figures.latency.percentiles['p99']:,.4g}",
                f"Half took less than {figures.latency.percentiles['p50']:,.4g} ms, "
                f"{figures.latency.of}.",
            )
        )
    return tiles
