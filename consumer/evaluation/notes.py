"""What a reader has to know before trusting the figures, a sentence each."""

from collections.abc import Iterator

from consumer.evaluation.challenge import Duel
from consumer.evaluation.figures import Figures, Input
from consumer.evaluation.wording import mostly_unlabelled

_FEW_FRAUDS = 30
_MANY_UNLABELLED = 0.05
_MANY_DEGRADED = 0.01


def notes_of(figures: Figures) -> Iterator[str]:
    """What is missing in *figures*, or weak, and why."""
    yield from _of_labels(figures.input)
    if mostly_unlabelled(figures) and figures.input.frauds and figures.input.legitimate:
        yield (
            "Most transactions have no label and nobody chose by chance which ones were looked at: "
            "precision, average precision and the like are those of the few that have one, and "
            "flatter."
        )
    yield from _of_scores(figures)
    if (figures.degraded.share or 0.0) > _MANY_DEGRADED:
        yield (
            f"{figures.degraded.share:.1%} of the decisions were degraded: an endpoint did not "
            "answer in time, and rules decided with what scores there were."
        )
    if len(figures.bands) > 1:
        first = figures.bands[0].decisions / max(sum(b.decisions for b in figures.bands), 1)
        yield (
            f"Thresholds changed: {len(figures.bands)} sets were in force. The points marked as "
            f"in force are those of {first:.0%} of the decisions."
        )
    for each in figures.challengers:
        yield from _of_challenger(each)


def _of_labels(told: Input) -> Iterator[str]:
    if told.unlabelled == told.transactions:
        yield (
            "No transaction has a label, so nothing is said about quality: give the labels "
            "with --labels."
        )
    elif not told.frauds:
        yield "None of the labelled transactions is a fraud, so no figure of quality exists."
    elif not told.legitimate:
        yield "All labelled transactions are frauds, so what the rest costs is unknown."
    elif told.frauds < _FEW_FRAUDS:
        yield f"Only {told.frauds} frauds: every figure of quality is rough."
    share = told.unlabelled_share or 0.0
    if told.unlabelled < told.transactions and share > _MANY_UNLABELLED:
        yield (
            f"{share:.0%} of the transactions have no label yet and are left out of every figure "
            "of quality; if they hold more fraud or less than the rest, the figures shift."
        )
    if told.assumed_legitimate:
        yield (
            f"{told.assumed_legitimate:,} transactions without a label count as legitimate; frauds "
            "that nobody has told yet are among them."
        )
    if told.repeated:
        yield f"{told.repeated:,} rows repeat a transaction and were left out."


def _of_challenger(told: Duel) -> Iterator[str]:
    alone = told.only_champion + told.only_challenger
    if not told.pairs:
        yield f"Challenger {told.name} decided none of these transactions."
    elif alone:
        yield (
            f"Challenger {told.name}: {told.pairs:,} transactions were decided by both; "
            f"{alone:,} only by one of the two and are left out of the comparison."
        )


def _of_scores(figures: Figures) -> Iterator[str]:
    for name, each in figures.scores.items():
        if each.absent == figures.input.transactions:
            yield f"No decision has {_article(name)} {name} score."
        elif each.absent:
            yield (
                f"{each.absent:,} decisions were made without {_article(name)} {name} score and "
                "are left out of its figures."
            )
    scored = figures.scores["fraud"]
    if figures.calibration is None and scored.ranking.rows:
        yield "Fraud scores outside 0 to 1 are no probabilities, so calibration is left out."


def _article(name: str) -> str:
    return "an" if name[0] in "aeiou" else "a"
