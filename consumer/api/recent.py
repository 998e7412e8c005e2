"""The last two minutes of decisions, second by second, from counts that come in pieces."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from consumer.live_figures import SCORE_BANDS, Glimpse, Tally
from consumer.model import Outcome

WINDOW_S = 120
"""Seconds that are kept."""

_OUTCOMES = tuple(str(each) for each in Outcome)


@dataclass(slots=True)
class _Second:
    """``version`` is when it last changed; ``counts`` are in the order of ``Outcome``."""

    version: int = 0
    counts: tuple[int, ...] = (0,) * len(_OUTCOMES)
    bands: tuple[int, ...] = (0,) * SCORE_BANDS
    latencies_ms: list[int] = field(default_factory=list)
    degraded: int = 0


class Recent:
    """Counts of a second replace those that were known: late events may have joined it."""

    def __init__(self) -> None:
        self._seconds: dict[int, _Second] = {}

    def count(self, tally: Tally, since_s: int, until_s: int, version: int) -> None:
        """Take over what *tally* says of the seconds from *since_s* to before *until_s*."""
        for second in range(since_s, until_s):
            counts = tuple(tally.outcomes.get((second, each), 0) for each in _OUTCOMES)
            bands = tuple(tally.bands.get((second, band), 0) for band in range(SCORE_BANDS))
            known = self._seconds.setdefault(second, _Second(version))
            if (known.counts, known.bands) != (counts, bands):
                known.counts, known.bands, known.version = counts, bands, version

    def glimpse(self, second: int, glimpses: Sequence[Glimpse], version: int) -> None:
        """Note how long some decisions of *second* took."""
        known = self._seconds.setdefault(second, _Second(version))
        known.latencies_ms = sorted(each.latency_ms for each in glimpses)
        known.degraded = sum(bool(each.degraded) for each in glimpses)
        known.version = version

    def forget_before(self, second: int) -> None:
        """Drop what is older than *second*."""
        for old in [each for each in self._seconds if each < second]:
            del self._seconds[old]

    def changed_since(self, version: int) -> Iterator[list[int | None]]:
        """Second, a count by outcome, and the median and 99th percentile in milliseconds."""
        for second, known in sorted(self._seconds.items()):
            if known.version > version:
                quantiles = (quantile(known.latencies_ms, share) for share in (0.5, 0.99))
                yield [second, *known.counts, *quantiles]

    def scores(self) -> list[int]:
        """How many fraud probabilities lie in each of ``SCORE_BANDS`` equal parts of 0 to 1."""
        bands = [each.bands for each in self._seconds.values()]
        return [sum(each[place] for each in bands) for place in range(SCORE_BANDS)]

    def latency(self) -> dict[str, int | None]:
        """Percentiles of all that was looked at, in milliseconds, and of how many they are."""
        found = sorted(ms for each in self._seconds.values() for ms in each.latencies_ms)
        return {
            "p50": quantile(found, 0.5),
            "p95": quantile(found, 0.95),
            "p99": quantile(found, 0.99),
            "count": len(found),
            "degraded": sum(each.degraded for each in self._seconds.values()),
        }


def quantile(ordered: Sequence[int], share: float) -> int | None:
    """Return the smallest of *ordered* that at least *share* do not exceed; None of nothing."""
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)] if ordered else None
