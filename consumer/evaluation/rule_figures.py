"""
What each rule contributes: by itself, and in addition to everything else.

A rule that finds many frauds may find none that the model or another rule does not find as
well; then taking it away costs nothing. ``alone`` counts its hits that no other rule of the
same mode hit, ``added`` those of them that would have passed without it: for a live rule, no
band of a score flagged them either; for a shadow rule, the live decision was to approve.
"""

from dataclasses import dataclass

import numpy as np

from consumer.evaluation.decisions import APPROVE, OUTCOMES, Bools, Decisions, Indices, RuleHits
from consumer.evaluation.thresholds import Caught, catch


@dataclass(frozen=True, slots=True)
class RuleFigures:
    """
    Figures of the rule ``name``, as ``<id>@<version>``.

    ``outcomes`` counts what was decided on its hits, by all that spoke.
    """

    name: str
    all: Caught
    alone: Caught
    added: Caught
    outcomes: dict[str, int]


@dataclass(frozen=True, slots=True)
class ShadowFigures:
    """What would change if every shadow rule went live and flagged what it hit."""

    live: Caught
    with_shadow: Caught
    added: Caught


def measure_rules(decisions: Decisions, hits: RuleHits, passed: Bools) -> tuple[RuleFigures, ...]:
    """Measure each rule of *hits*, by name; *passed* tells which rows nothing else flagged."""
    together = np.bincount(hits.rows, minlength=len(decisions))
    return tuple(
        _measure(decisions, name, hits.rows[hits.rules == number], together, passed)
        for number, name in enumerate(hits.names)
    )


def measure_shadow(decisions: Decisions) -> ShadowFigures | None:
    """Compare live decisions with those plus all shadow rules; None where none hit."""
    if not len(decisions.shadow.rows):
        return None
    live = decisions.outcome != APPROVE
    shadow = np.zeros(len(decisions), dtype=bool)
    shadow[decisions.shadow.rows] = True
    return ShadowFigures(
        live=catch(decisions, live),
        with_shadow=catch(decisions, live | shadow),
        added=catch(decisions, shadow & ~live),
    )


def _measure(
    decisions: Decisions, name: str, rows: Indices, together: Indices, passed: Bools
) -> RuleFigures:
    hit = np.zeros(len(decisions), dtype=bool)
    hit[rows] = True
    alone = hit & (together == 1)
    decided = np.bincount(decisions.outcome[rows], minlength=len(OUTCOMES)).tolist()
    return RuleFigures(
        name=name,
        all=catch(decisions, hit),
        alone=catch(decisions, alone),
        added=catch(decisions, alone & passed),
        outcomes=dict(zip(OUTCOMES, decided, strict=True)),
    )
