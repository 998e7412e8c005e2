"""All figures of a report, as they stand in ``report.json``; docs/evaluation.md defines each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np

import consumer
from consumer.evaluation.by_day import Day, count_days
from consumer.evaluation.calibration import Calibration, calibrate
from consumer.evaluation.card_precision import CardPrecision, card_precision, group_card_days
from consumer.evaluation.challenge import Duel, Resampling, duel
from consumer.evaluation.decisions import (
    APPROVE,
    BANDS,
    DECLINE,
    SCORES,
    Bools,
    Decisions,
    Floats,
    Indices,
)
from consumer.evaluation.distribution import Latency, Spread, spread, time_taken
from consumer.evaluation.ranking import Ranking, rank
from consumer.evaluation.rule_figures import (
    RuleFigures,
    ShadowFigures,
    measure_rules,
    measure_shadow,
)
from consumer.evaluation.thresholds import Caught, Point, catch, money_by_reviews, points_of, ratio

FORMAT: Final = "fraudstream-report"
VERSION: Final = 1
"""Of the fields of ``report.json``; grows when one changes its meaning or goes."""


@dataclass(frozen=True, slots=True)
class Input:
    """
    What was evaluated; ``repeated`` rows are of transactions that came before.

    ``legitimate`` counts ``assumed_legitimate``, of which nobody said so, too.
    """

    files: int
    transactions: int
    repeated: int
    cards: int
    first_time: str
    last_time: str
    days: int
    frauds: int
    legitimate: int
    assumed_legitimate: int
    unlabelled: int
    unlabelled_share: float | None
    fraud_share: float | None
    money: float
    fraud_money: float


@dataclass(frozen=True, slots=True)
class ScoreFigures:
    """Figures of one score; ``absent`` counts decisions that were made without it."""

    absent: int
    ranking: Ranking
    card_precision: tuple[CardPrecision, ...]
    card_precision_best: tuple[float | None, ...]
    points: tuple[Point, ...]
    money_by_reviews: tuple[tuple[float, float, float], ...]
    spread: Spread | None


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What the decisions themselves did: ``flagged`` is reviewed or declined."""

    declined: Caught
    flagged: Caught
    share_declined: float | None
    share_reviewed: float | None


@dataclass(frozen=True, slots=True)
class Degraded:
    """Decisions that were made without all scores in time, and why."""

    decisions: int
    share: float | None
    causes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class InForce:
    """Thresholds that were in force together, on ``decisions`` of them; None: no such score."""

    thresholds: Mapping[str, float | None]
    decisions: int


@dataclass(frozen=True, slots=True)
class Figures:
    """The content of ``report.json``."""

    format: str
    version: int
    package: str
    currency: str
    input: Input
    notes: tuple[str, ...]
    outcomes: Outcomes
    bands: tuple[InForce, ...]
    scores: Mapping[str, ScoreFigures]
    calibration: Calibration | None
    by_day: tuple[Day, ...]
    rules: tuple[RuleFigures, ...]
    shadow_rules: tuple[RuleFigures, ...]
    shadow: ShadowFigures | None
    degraded: Degraded
    latency: Latency | None
    challengers: tuple[Duel, ...]


def build_figures(
    decisions: Decisions,
    challengers: Sequence[tuple[str, Decisions]],
    *,
    currency: str,
    how: Resampling,
) -> Figures:
    """Compute every figure of *decisions*, and how each of *challengers*, by name, differs."""
    bands = tuple(
        InForce(dict(zip(BANDS, key, strict=True)), count) for key, count in decisions.bands.items()
    )
    passed = ~decisions.banded
    approved = decisions.outcome == APPROVE
    labelled, fraud = decisions.labelled, decisions.fraud
    return Figures(
        format=FORMAT,
        version=VERSION,
        package=consumer.__version__,
        currency=currency,
        input=_describe(decisions),
        notes=(),
        outcomes=_outcomes(decisions),
        bands=bands,
        scores={score: _measure(decisions, score, bands, how.k) for score in SCORES},
        calibration=calibrate(decisions.scores["fraud"][labelled], fraud[labelled]),
        by_day=count_days(decisions),
        rules=measure_rules(decisions, decisions.live, passed),
        shadow_rules=measure_rules(decisions, decisions.shadow, approved),
        shadow=measure_shadow(decisions),
        degraded=_degraded(decisions),
        latency=time_taken(decisions.latency_ms, decisions.latency_rows, decisions.latency_of),
        challengers=tuple(duel(decisions, other, name, how) for name, other in challengers),
    )


def _describe(decisions: Decisions) -> Input:
    frauds, legitimate = int(decisions.fraud.sum()), int(decisions.legitimate.sum())
    count = len(decisions)
    return Input(
        files=decisions.files,
        transactions=count,
        repeated=decisions.repeated,
        cards=decisions.cards,
        first_time=_format_time(int(decisions.time_ms[0])),
        last_time=_format_time(int(decisions.time_ms[-1])),
        days=decisions.days,
        frauds=frauds,
        legitimate=legitimate,
        assumed_legitimate=int(decisions.assumed.sum()),
        unlabelled=count - frauds - legitimate,
        unlabelled_share=ratio(count - frauds - legitimate, count),
        fraud_share=ratio(frauds, frauds + legitimate),
        money=round(float(decisions.amount.sum()), 2),
        fraud_money=round(float(decisions.amount[decisions.fraud].sum()), 2),
    )


def _outcomes(decisions: Decisions) -> Outcomes:
    declined = decisions.outcome == DECLINE
    flagged = decisions.outcome != APPROVE
    count = len(decisions)
    return Outcomes(
        declined=catch(decisions, declined),
        flagged=catch(decisions, flagged),
        share_declined=ratio(int(declined.sum()), count),
        share_reviewed=ratio(int(flagged.sum() - declined.sum()), count),
    )


def _measure(decisions: Decisions, score: str, bands: Sequence[InForce], k: int) -> ScoreFigures:
    values, labelled = decisions.scores[score], decisions.labelled
    fraud = decisions.fraud[labelled]
    rows = _card_days(decisions, values)
    precisions = tuple(card_precision(*rows, each) for each in sorted({k // 2, k, 2 * k} - {0}))
    # The thresholds that most decisions were made with stand for those in force.
    in_force = bands[0].thresholds if bands else {}
    named = [
        (name, value)
        for name, value in in_force.items()
        if value is not None and BANDS[name] == score
    ]
    return ScoreFigures(
        absent=int(np.isnan(values).sum()),
        ranking=rank(values[labelled], fraud, decisions.amount[labelled]),
        card_precision=precisions,
        card_precision_best=tuple(each.best_possible for each in precisions),
        points=points_of(decisions, score, named),
        money_by_reviews=money_by_reviews(decisions, score),
        spread=spread(values, decisions.fraud, decisions.legitimate),
    )


def _card_days(decisions: Decisions, values: Floats) -> tuple[Indices, Indices, Floats, Bools]:
    """Days, cards, highest scores and whether there was fraud: a row a card and day."""
    here = decisions.labelled & ~np.isnan(values)
    card = decisions.card[here].astype(np.int64)
    return group_card_days(decisions.day[here], card, values[here], decisions.fraud[here])


def _degraded(decisions: Decisions) -> Degraded:
    count = int(decisions.degraded.sum())
    return Degraded(count, ratio(count, len(decisions)), decisions.causes)


def _format_time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="seconds")
