"""
Whether live features equal a recomputation: a sample of stored decisions, checked.

Documents are found through the index. Where the store holds few of them all are read
once; else those of each entity of the sample, as far as the index knows its key.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

from consumer.decided import Decided, read_decided
from consumer.errors import Rejected, Unavailable
from consumer.features.plan import EntityPlan, Plan
from consumer.query import MAX_PAGE, Order, Page, Query, Range
from consumer.recomputation import Comparison, Known, Outcome, Recomputation

_EXAMPLES = 3
_FIRST = 5
# A slice of time with more documents is taken no likelier; slices are a fraction of it.
_MOST_OF_SLICE = 200
_PILOTS, _DRAWS, _MOST_DRAWS = 30, 100, 20_000
_STEP_MS = 600_000
# What was decided a moment ago may have been counted beside what has no document yet.
_SETTLED_MS = 3_000


class Search(Protocol):
    """Where decision documents are found."""

    def search(self, query: Query) -> Page:
        """The page that *query* asks for. Raises Rejected and Unavailable."""
        ...

    def count(self) -> int:
        """How many documents there are, at no cost. Raises Unavailable."""
        ...


@dataclass(slots=True)
class Tally:
    """What became of one feature: counts by outcome, reasons and causes, and examples."""

    entity: str
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    strict: int = 0
    uncovered: Counter[str] = field(default_factory=Counter)
    causes: Counter[str] = field(default_factory=Counter)
    examples: list[Comparison] = field(default_factory=list)

    @property
    def compared(self) -> int:
        """How many values could be compared."""
        return sum(self.outcomes.values()) - self.outcomes[Outcome.UNCOVERED]

    def add(self, comparison: Comparison) -> None:
        """Count *comparison*."""
        self.outcomes[comparison.outcome] += 1
        if comparison.outcome is Outcome.UNCOVERED:
            self.uncovered[comparison.remark] += 1
        elif comparison.outcome is Outcome.DIFFERENT:
            self.strict += comparison.strict
            self.causes[comparison.remark] += 1
            if len(self.examples) < _EXAMPLES:
                self.examples.append(comparison)


@dataclass(frozen=True, slots=True)
class Verification:
    """
    What a sample showed.

    ``tallies`` are by feature in the order of the plan; ``derived`` names the features
    that follow from others of the same vector. ``since_s`` is where documents begin to
    tell of every event. ``other_list`` counts sampled decisions made with another
    feature list, ``fresh`` those made just now, ``unreadable`` documents of no known form.
    """

    sampled: int
    other_list: int
    fresh: int
    unreadable: int
    since_s: int
    tallies: Mapping[str, Tally]
    derived: Sequence[str]

    def total(self, outcome: Outcome) -> int:
        """How many values had *outcome*."""
        return sum(tally.outcomes[outcome] for tally in self.tallies.values())

    @property
    def compared(self) -> int:
        """How many values could be compared."""
        return sum(tally.compared for tally in self.tallies.values())

    @property
    def strict(self) -> int:
        """How many values of cards differ though one shard brought all their events."""
        return sum(tally.strict for tally in self.tallies.values())

    @property
    def shared_share(self) -> float:
        """The share of differing values among those that several shards feed."""
        different = self.total(Outcome.DIFFERENT) - self.strict
        return different / self.compared if self.compared else 0.0

    def holds(self, limit: float) -> bool:
        """Whether values were compared, no strict one differs, and at most *limit* of the rest."""
        return bool(self.compared) and not self.strict and self.shared_share <= limit

    def summary(self) -> dict[str, float]:
        """The counts of all features together, for machines."""
        return {
            "sampled": self.sampled,
            "compared": self.compared,
            **{str(each): self.total(each) for each in Outcome},
            "different_within_a_shard": self.strict,
            "share_different_across_shards": round(self.shared_share, 6),
        }

    def verdict(self, limit: float) -> str:
        """The result in a sentence, where *limit* of the values of several shards may differ."""
        share = f"{self.shared_share:.2%}"
        if not self.compared:
            return "NOTHING COULD BE COMPARED: documents cover none of the windows yet."
        if self.strict:
            return (
                f"SKEW: {self.strict:,} values of cards differ, though one shard brought all "
                "their events."
            )
        if not self.holds(limit):
            return f"SKEW: {share} of the values differ, more than --limit allows ({limit:.2%})."
        if self.total(Outcome.DIFFERENT):
            return (
                f"Online equals offline but for {share} of the values, within the limit of "
                f"{limit:.2%}."
            )
        return (
            "Online equals offline: every value that documents cover is what recomputation gives."
        )


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which decisions to sample: *number* of those with event times from … to, both included."""

    number: int
    time_ms: tuple[int, int]
    seed: int


def verify(
    store: "DocumentReader",
    plan: Plan,
    wanted: Wanted,
    *,
    horizon_s: int,
    lifetime_s: int,
    now_ms: int,
) -> Verification | None:
    """
    Recompute the sample that is *wanted*; None when no document is in its time.

    *lifetime_s* is that of documents, *horizon_s* the id horizon. Raises Unavailable.
    """
    drawn = store.sample(wanted)
    if not drawn:
        return None
    oldest_s = now_ms // 1000 - lifetime_s
    since_s = max(oldest_s, store.first_s(oldest_s * 1000, now_ms))
    settled = [each for each in drawn if each.decided_ms <= now_ms - _SETTLED_MS]
    sample = [each for each in settled if each.feature_hash == plan.hash]
    recomputation = Recomputation(plan, horizon_s)
    tallies = {
        question.name: Tally(entity.name)
        for entity in plan.entities
        for question in recomputation.questions(entity)
    }
    for decided in sample:
        known = {entity.name: store.known(entity, decided, since_s) for entity in plan.entities}
        for comparison in recomputation.compare(decided, known):
            tallies[comparison.feature].add(comparison)
    return Verification(
        sampled=len(sample),
        other_list=len(settled) - len(sample),
        fresh=len(drawn) - len(settled),
        unreadable=store.unreadable,
        since_s=since_s,
        tallies={name: tallies[name] for name in plan.names if name in tallies},
        derived=[name for name in plan.names if name not in tallies],
    )


class DocumentReader:
    """
    Decision documents by chance and by entity.

    A store of up to *most_whole* documents is read whole, once; of a larger one the
    newest *most_of_entity* documents of each entity that is asked for.
    """

    def __init__(
        self,
        search: Search,
        plan: Plan,
        *,
        most_whole: int = 50_000,
        most_of_entity: int = 20_000,
    ) -> None:
        self._search = search
        self._plan = plan
        self._most_whole = most_whole
        self._most_of_entity = most_of_entity
        self._known: dict[tuple[str, str], Known] = {}
        self._unreadable: set[bytes] = set()

    @property
    def unreadable(self) -> int:
        """How many documents were of no known form."""
        return len(self._unreadable)

    def sample(self, wanted: Wanted) -> list[Decided]:
        """
        Draw documents, each about as likely as any other.

        Of a large store in slices of time that hold a few documents each, taken the
        likelier the more they hold: a question that many documents answer would keep
        the server from its work.
        """
        chance = random.Random(wanted.seed)  # noqa: S311 - a sample
        low, high = wanted.time_ms
        if self._is_small:
            found = [each for each in self._documents if low <= each.event_ms <= high]
            return chance.sample(found, min(wanted.number, len(found)))
        width = self._width(chance, low, high)
        drawn: dict[str, Decided] = {}
        # Where the time holds fewer than are wanted, or hardly any, what is found is enough.
        for _ in range(min(_DRAWS * wanted.number, _MOST_DRAWS)):
            start = chance.randint(low - width, high)
            query = Query(time_ms=Range(max(start, low), min(start + width, high)), limit=1)
            total = self._page(query).total
            if total <= chance.randrange(_MOST_OF_SLICE):
                continue
            page = self._page(replace(query, offset=chance.randrange(total)))
            drawn |= {each.event.transaction_id: each for each in self._decided(page)}
            if len(drawn) == wanted.number:
                break
        return list(drawn.values())

    def first_s(self, low_ms: int, high_ms: int) -> int:
        """
        The feature time at which documents begin, looked for between two times.

        Where they have not begun to expire yet, state may hold events from before that
        have none. The newest of those that were stored first: a late one among
        them does not tell.
        """
        if self._is_small:
            page = self._documents
        else:
            steps = range(low_ms + _STEP_MS, high_ms + _STEP_MS, _STEP_MS)
            query = Query(ascending=True, limit=MAX_PAGE)
            pages = (self._page(replace(query, time_ms=Range(None, step))) for step in steps)
            page = self._decided(next((page for page in pages if page.documents), Page(0, ())))
        first = sorted(page, key=lambda each: each.stored_ms)[:_FIRST]
        return max((each.event.time_s for each in first), default=0)

    def known(self, entity: EntityPlan, decided: Decided, since_s: int) -> Known:
        """What documents tell of the *entity* of *decided*, when all tell from *since_s* on."""
        key = decided.event.keys.get(entity.key)
        if key is None:
            return Known()
        place = (entity.key, key)
        if place not in self._known:
            self._known[place] = self._find(*place, since_s)
        return self._known[place]

    def _width(self, chance: random.Random, low: int, high: int) -> int:
        """Milliseconds of a slice that holds a few documents on average."""
        width = max(1, (high - low) // 1_024)
        for _ in range(_PILOTS):
            starts = [chance.randint(low, high) for _ in range(_FIRST)]
            totals = [
                self._page(Query(time_ms=Range(start, start + width), limit=1)).total
                for start in starts
            ]
            mean = sum(totals) / len(totals)
            if mean > _MOST_OF_SLICE / 4 and width > 1:
                width //= 2
            elif mean < _MOST_OF_SLICE / 40 and width < high - low:
                width *= 2
            else:
                break
        return width

    def _find(self, key_field: str, key: str, since_s: int) -> Known:
        if self._is_small:
            return Known(self._by_key.get((key_field, key), ()), since_s)
        query = {
            "card_id": Query(card=key),
            "merchant_id": Query(merchant=key),
            "device_id": Query(device=key),
        }.get(key_field)
        if query is None:
            return Known(problem=f"{key_field} is not in the index, and documents are too many")
        try:
            documents, whole = self._walk(query, self._most_of_entity)
        except Rejected as error:
            return Known(problem=f"its key cannot be searched for: {error.message}")
        documents.sort(key=lambda each: each.order)
        if whole:
            return Known(documents, since_s)
        # All that happened after the oldest of the newest is among them.
        oldest_s = min(each.event_ms for each in documents) // 1000
        return Known(documents, max(since_s, oldest_s))

    @cached_property
    def _is_small(self) -> bool:
        return self._search.count() <= self._most_whole

    @cached_property
    def _documents(self) -> list[Decided]:
        """Every document of a small store, in order."""
        documents = self._walk(Query(), 2 * self._most_whole)[0]
        return sorted(documents, key=lambda each: each.order)

    @cached_property
    def _by_key(self) -> dict[tuple[str, str], list[Decided]]:
        found: dict[tuple[str, str], list[Decided]] = {}
        fields = {entity.key for entity in self._plan.entities}
        for each in self._documents:
            for key_field in fields & each.event.keys.keys():
                found.setdefault((key_field, each.event.keys[key_field]), []).append(each)
        return found

    def _walk(self, query: Query, most: int) -> tuple[list[Decided], bool]:
        """
        Read what *query* finds, newest first, until *most* are there; whether that is all.

        The next page begins at the time of the last document, so that what comes and
        expires meanwhile shifts nothing out of sight.
        """
        found: dict[str, Decided] = {}
        query = replace(query, order=Order.TIME, ascending=False, offset=0)
        query = replace(query, limit=min(most, MAX_PAGE))
        while True:
            page = self._page(query)
            decided = self._decided(page)
            found |= {each.event.transaction_id: each for each in decided}
            if len(page.documents) + query.offset >= page.total or not decided:
                return list(found.values()), True
            if len(found) >= most:
                return list(found.values()), False
            last = decided[-1].event_ms
            seen = sum(each.event_ms == last for each in decided)
            if last == query.time_ms.high:
                seen += query.offset
            query = replace(query, time_ms=Range(query.time_ms.low, last), offset=seen)

    def _page(self, query: Query) -> Page:
        page = self._search.search(query)
        if page.partial:
            raise Unavailable(
                "redis", "the server ran out of time for a search; try a shorter --since"
            )
        return page

    def _decided(self, page: Page) -> list[Decided]:
        found = []
        for document in page.documents:
            try:
                found.append(read_decided(document, self._plan))
            except Rejected:
                self._unreadable.add(document)
        return found
