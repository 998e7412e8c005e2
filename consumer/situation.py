"""What an entity had counted when a decision read it, as far as documents tell."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product
from math import prod

from consumer.decided import Decided
from consumer.local.oracle import Verdict
from consumer.model import Applied

COUNTED = (Applied.APPLIED, Applied.REPEATED)
ORDERS = 256
"""Orders of what was under way that are told at most."""

# Workers may run on machines whose clocks differ.
_SKEW_MS = 50


@dataclass(frozen=True, slots=True)
class Situation:
    """
    What an entity had counted when a decision read it.

    ``before`` surely, in order; of each group of ``meanwhile`` any number from its start,
    ``guessed`` of them by their times. ``labels`` may have been told, oldest first.
    """

    before: tuple[Decided, ...]
    meanwhile: tuple[tuple[Decided, ...], ...]
    guessed: tuple[int, ...]
    labels: tuple[Verdict, ...]
    shards: frozenset[str | None]

    def orders(self) -> Iterator[tuple[Decided, ...]]:
        """Every set of events that may have been counted, the likeliest first."""
        lengths: list[tuple[int, ...]] = [self.guessed]
        if prod(len(group) + 1 for group in self.meanwhile) <= ORDERS**2:
            counts = product(*(range(len(group) + 1) for group in self.meanwhile))
            lengths += sorted((each for each in counts if each != self.guessed), key=self._far)
        for chosen in islice(lengths, ORDERS):
            under_way = [
                each
                for group, number in zip(self.meanwhile, chosen, strict=True)
                for each in group[:number]
            ]
            yield (*self.before, *sorted(under_way, key=lambda each: each.order))

    def _far(self, lengths: tuple[int, ...]) -> int:
        return sum(abs(a - b) for a, b in zip(lengths, self.guessed, strict=True))


def arrange(decided: Decided, entity: str, documents: Sequence[Decided]) -> Situation:
    """
    Tell which of *documents* an *entity* had counted before *decided* read it.

    They are all of that entity, in their order.

    Within a shard the position tells. Of other shards those decided before this one was
    received came before, those received after it was decided came later, and the rest
    was under way. A decision made again after a crash may also have seen what
    came behind it and was counted before the crash.
    """
    before: list[Decided] = []
    groups: dict[str | None, list[Decided]] = {}
    own = decided.event.transaction_id
    known = [each for each in documents if each.event.transaction_id != own]
    for each in known:
        if each.applied.get(entity) not in COUNTED:
            continue
        came = _came_before(each, decided, entity)
        if came:
            before.append(each)
        elif came is None:
            groups.setdefault(each.shard, []).append(each)
    if decided.applied.get(entity) is Applied.REPEATED:
        before.append(decided)
    middle = decided.received_ms + decided.decided_ms
    guessed = [
        sum(each.received_ms + each.decided_ms < middle for each in group)
        for group in groups.values()
    ]
    labels = [each.label for each in known if each.label is not None]
    return Situation(
        before=tuple(before),
        meanwhile=tuple(tuple(group) for group in groups.values()),
        guessed=tuple(guessed),
        labels=tuple(sorted(labels, key=lambda label: (label.label_time_ms, label.label_id))),
        shards=frozenset(each.shard for each in (*known, decided)),
    )


def _came_before(each: Decided, decided: Decided, entity: str) -> bool | None:
    """Whether *entity* had counted *each* when *decided* read it; None where both may be."""
    again = each.applied.get(entity) is Applied.REPEATED
    if each.shard is not None and each.shard == decided.shard:
        if (each.position or (0, 0)) < (decided.position or (0, 0)):
            return True
        # What was applied first cannot have been read before; all else may be read again.
        return None if again and decided.applied.get(entity) is not Applied.APPLIED else False
    if each.decided_ms + _SKEW_MS < decided.received_ms:
        return True
    if each.received_ms > decided.decided_ms + _SKEW_MS and not again:
        return False
    return None
