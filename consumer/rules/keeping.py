"""Which set is the last good one: what passed its watch is kept, what tripped is not."""

from collections import deque
from queue import Empty, SimpleQueue
from typing import Protocol

from consumer.clock import Clock
from consumer.errors import Unavailable
from consumer.ports import AcceptedRules
from consumer.rules import accepted as copies
from consumer.rules.accepted import Accepted
from consumer.rules.book import Judged
from consumer.rules.compilation import RuleSet


class KeepingTelemetry(Protocol):
    """What is told of keeping sets."""

    def rules_kept(self, accepted: Accepted) -> None:
        """The set is the last good one now."""
        ...

    def rules_not_kept(self, version: str, cause: str) -> None:
        """The set *version* decides, and a start with broken files would not have it."""
        ...

    def rules_unreachable(self, error: Unavailable) -> None:
        """The last good set could not be read or written; it is tried again."""
        ...


class Keeper:
    """Tells *store* what became of sets; *by* names this worker in the copy."""

    def __init__(
        self, store: AcceptedRules, by: str, clock: Clock, telemetry: KeepingTelemetry
    ) -> None:
        self._store = store
        self._by = by
        self._clock = clock
        self._telemetry = telemetry
        self._waiting: deque[Judged] = deque()

    def note(self, judged: SimpleQueue[Judged]) -> None:
        """Store what became of the sets in *judged*, in order; what fails is tried next time."""
        while True:
            try:
                self._waiting.append(judged.get_nowait())
            except Empty:
                break
        try:
            while self._waiting:
                self._store_one(self._waiting[0])
                self._waiting.popleft()
        except Unavailable as error:
            self._telemetry.rules_unreachable(error)

    def is_accepted(self, rules: RuleSet) -> bool:
        """Whether *rules*, which tripped here, were accepted by hand since. Raises Unavailable."""
        return self._store.version() == copies.version_of(rules)

    def _store_one(self, judged: Judged) -> None:
        if judged.former is not None:
            former = self._copy(judged.former)
            if former is not None:
                version = copies.version_of(judged.rules)
                self._store.trip(version, former.version, copies.encode(former))
            return
        version = copies.version_of(judged.rules)
        if self._store.version() == version:
            return
        accepted = self._copy(judged.rules)
        if accepted is None:
            return
        if self._store.keep(version, copies.encode(accepted)):
            self._telemetry.rules_kept(accepted)
        else:
            cause = "it tripped in another worker; 'fraudstream rules accept' keeps it all the same"
            self._telemetry.rules_not_kept(version, cause)

    def _copy(self, rules: RuleSet) -> Accepted | None:
        accepted = copies.copy_of(rules, self._clock.now_ms(), self._by)
        if accepted is None:
            cause = "its text holds a card number"
            self._telemetry.rules_not_kept(copies.version_of(rules), cause)
        return accepted
