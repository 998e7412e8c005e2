"""Figures as a person reads them: counts with commas, shares as per cent, a dash for none."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from consumer.evaluation.distribution import OF_CHUNKS
from consumer.evaluation.figures import Figures
from consumer.evaluation.thresholds import Caught

ABSENT: Final = "\N{EN DASH}"

_WHOLE: Final = 100
_SMALL: Final = 0.1
_MOST: Final = 0.5


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
    money, known = figures.currency, figures.input.legitimate > 0
    doubt = ", as far as is known" if known and _left_out(declined) else ""
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
        _precision(figures),
        Tile(
            f"{money} blocked wrongly{doubt}",
            show_money(declined.money_wrong if known else None),
            f"{show_count(declined.legitimate)} honest transactions were declined"
            f"{_silence(declined)}.",
        ),
        Tile(
            "flagged a day",
            show_rate(flagged.flagged_a_day),
            f"{show_share(figures.outcomes.share_reviewed)} of all went to review, "
            f"{show_share(figures.outcomes.share_declined)} were declined.",
        ),
    ]
    return [*tiles, *_of_scores(figures), *_of_running(figures)]


def _precision(figures: Figures) -> Tile:
    """Precision, or counts where nobody has looked at all that was flagged."""
    flagged = figures.outcomes.flagged
    if flagged.precision is not None and _left_out(flagged):
        return Tile(
            "flagged are known frauds",
            f"{show_count(flagged.frauds)} of {show_count(flagged.flagged)}",
            f"{show_count(flagged.legitimate)} are known to be honest{_silence(flagged)}.",
        )
    return Tile(
        "of what was flagged is fraud",
        show_share(flagged.precision),
        f"{show_count(flagged.frauds)} of {show_count(flagged.flagged)} flagged are known frauds, "
        f"{show_count(flagged.legitimate)} count as honest{_silence(flagged)}.",
    )


def _left_out(caught: Caught) -> int:
    """How many of those that were flagged are neither frauds nor honest."""
    return caught.flagged - caught.frauds - caught.legitimate


def _silence(caught: Caught) -> str:
    if not caught.unlabelled:
        return ""
    joint = "; " if _left_out(caught) else ", of which "
    return f"{joint}{show_count(caught.unlabelled)} have no label"


def mostly_unlabelled(figures: Figures) -> bool:
    """Whether so few rows have a label that figures of those say little of the rest."""
    return (figures.input.unlabelled_share or 0.0) > _MOST


def _of_scores(figures: Figures) -> list[Tile]:
    if mostly_unlabelled(figures):
        return []
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
    silent = figures.input.unlabelled + figures.input.assumed_legitimate
    tiles = [
        Tile(
            "degraded",
            show_share(figures.degraded.share),
            f"{show_count(figures.degraded.decisions)} decisions lacked a score in time.",
        ),
        Tile(
            "without a label",
            show_share(silent / figures.input.transactions),
            "Not known to be fraud or honest; "
            + (
                "they count as honest."
                if figures.input.assumed_legitimate
                else "left out of every figure of quality."
            ),
        ),
    ]
    if figures.calibration is not None and figures.input.frauds and not mostly_unlabelled(figures):
        tiles.append(
            Tile(
                "calibration error",
                show_figure(figures.calibration.expected_calibration_error, ""),
                f"Mean distance of score and share of fraud; Brier score "
                f"{figures.calibration.brier:.4f}.",
            )
        )
    # How long a chunk of a replay took is not how long a customer waits.
    if figures.latency is not None and figures.latency.of != OF_CHUNKS:
        tiles.append(
            Tile(
                "ms, 99 of 100 decisions",
                f"{figures.latency.percentiles['p99']:,.4g}",
                f"Half took less than {figures.latency.percentiles['p50']:,.4g} ms, "
                f"{figures.latency.of}.",
            )
        )
    return tiles
