"""Decisions, frauds and money by day."""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from consumer.evaluation.card_precision import DAY_MS
from consumer.evaluation.decisions import APPROVE, DECLINE, OUTCOMES, Decisions


@dataclass(frozen=True, slots=True)
class Day:
    """
    One calendar day in UTC, ``date`` as 2026-06-01.

    ``frauds`` and ``frauds_caught`` (reviewed or declined) count transactions, ``fraud_money``
    and ``money_caught`` are their amounts, ``money_declined_wrongly`` that of legitimate
    transactions that were declined.
    """

    date: str
    outcomes: dict[str, int]
    unlabelled: int
    degraded: int
    frauds: int
    frauds_caught: int
    fraud_money: float
    money_caught: float
    money_declined_wrongly: float


def count_days(decisions: Decisions) -> tuple[Day, ...]:
    """Every day from the first to the last decision, also those without any."""
    if not len(decisions):
        return ()
    number = decisions.day - decisions.day[0]
    length = decisions.days
    caught = decisions.fraud & (decisions.outcome != APPROVE)
    wrong = decisions.legitimate & (decisions.outcome == DECLINE)

    def count(rows: npt.NDArray[np.bool_]) -> list[int]:
        counts: list[int] = np.bincount(number[rows], minlength=length).tolist()
        return counts

    def add(rows: npt.NDArray[np.bool_]) -> list[float]:
        sums = np.bincount(number[rows], decisions.amount[rows], minlength=length)
        rounded: list[float] = sums.round(2).tolist()
        return rounded

    outcomes = [count(decisions.outcome == each) for each in range(len(OUTCOMES))]
    columns = (
        count(~decisions.labelled),
        count(decisions.degraded),
        count(decisions.fraud),
        count(caught),
        add(decisions.fraud),
        add(caught),
        add(wrong),
    )
    return tuple(
        Day(
            format_day(int(decisions.day[0]) + i),
            dict(zip(OUTCOMES, (each[i] for each in outcomes), strict=True)),
            *(column[i] for column in columns),  # type: ignore[arg-type]
        )
        for i in range(length)
    )


def format_day(number: int) -> str:
    """The date of the day that is *number* days after 1970-01-01."""
    return datetime.fromtimestamp(number * DAY_MS // 1000, UTC).date().isoformat()
