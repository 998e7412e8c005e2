import math
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.evaluation.card_precision import card_precision

Row = tuple[int, int, float, bool]


def by_hand(rows: list[Row], k: int) -> float | None:
    """The definition, day by day and card by card, as the handbook tells it."""
    detected: set[int] = set()
    daily = []
    for day in sorted({row[0] for row in rows}):
        highest: dict[int, float] = defaultdict(lambda: -math.inf)
        compromised = set()
        for _, card, score, fraud in (row for row in rows if row[0] == day):
            if card in detected:
                continue
            highest[card] = max(highest[card], score)
            if fraud:
                compromised.add(card)
        ranked = sorted(highest, key=lambda card: (-highest[card], card))[:k]
        found = {card for card in ranked if card in compromised}
        detected |= found
        daily.append(len(found) / k)
    return sum(daily) / len(daily) if daily else None


@given(
    rows=st.lists(
        st.tuples(
            st.integers(0, 4), st.integers(0, 12), st.sampled_from((0.1, 0.2, 0.7)), st.booleans()
        ),
        max_size=80,
    ),
    k=st.integers(1, 6),
)
def test_card_precision_equals_the_definition_taken_word_by_word(rows: list[Row], k: int) -> None:
    days, cards, scores, frauds = zip(*rows, strict=True) if rows else ((), (), (), ())

    found = card_precision(days, cards, scores, frauds, k)

    assert found.mean == pytest.approx(by_hand(rows, k))
    assert all(hits <= there for hits, there in zip(found.detected, found.compromised, strict=True))


def test_a_card_ranks_by_its_highest_score_and_counts_once() -> None:
    found = card_precision(
        [1, 1, 1, 1], ["a", "a", "b", "c"], [0.1, 0.9, 0.5, 0.2], [True, False, True, False], 2
    )
    assert (found.mean, found.detected, found.compromised) == (1.0, (2,), (2,))


def test_a_detected_card_leaves_the_days_that_follow() -> None:
    found = card_precision([1, 2, 2], ["a", "a", "b"], [0.9, 0.9, 0.5], [True, True, True], 1)
    assert found.daily == (1.0, 1.0)
    assert found.detected == (1, 1)
    assert found.compromised == (1, 1)


def test_a_card_that_was_not_among_the_first_stays_to_be_found() -> None:
    found = card_precision([1, 1, 2], ["a", "b", "b"], [0.9, 0.5, 0.6], [False, True, True], 1)
    assert found.daily == (0.0, 1.0)


def test_equal_scores_rank_by_card_and_never_by_label() -> None:
    found = card_precision([1, 1], ["b", "a"], [0.5, 0.5], [True, False], 1)
    assert found.mean == 0.0


def test_a_day_with_fewer_cards_than_k_is_still_divided_by_k() -> None:
    assert card_precision([1], ["a"], [0.5], [True], 4).mean == 0.25


def test_what_a_perfect_order_would_reach_is_told_beside_it() -> None:
    found = card_precision([1, 1, 1], ["a", "b", "c"], [0.1, 0.2, 0.9], [True, True, False], 2)
    assert (found.mean, found.best_possible) == (0.5, 1.0)


def test_rows_without_a_score_are_left_out() -> None:
    found = card_precision([1, 2], ["a", "b"], [0.5, float("nan")], [True, True], 1)
    assert found.days == (1,)


def test_without_rows_there_is_no_precision() -> None:
    found = card_precision(np.empty(0), np.empty(0), np.empty(0), np.empty(0))
    assert (found.mean, found.best_possible) == (None, None)


def test_k_is_at_least_one() -> None:
    with pytest.raises(ValueError, match="k of 0"):
        card_precision([1], ["a"], [0.5], [True], 0)
