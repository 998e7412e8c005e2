"""
The breaker of a change: do the new rules decline much more than those before them?

Both judge the same transactions for a while, so that an attack, which makes either decline
more, does not trip it. Pure: it counts what it is told.
"""

from dataclasses import dataclass, field
from enum import Enum


class Verdict(Enum):
    """What is known of a change so far."""

    WATCHING = "watching"
    TRIPPED = "tripped"
    PASSED = "passed"


@dataclass(slots=True)
class DeclineWatch:
    """
    Watches *window* transactions.

    Trips as soon as the new rules declined more of them than the old ones by more than
    *limit_share* of the window.
    """

    limit_share: float
    window: int
    seen: int = field(default=0, init=False)
    lifted: int = field(default=0, init=False)

    def note(self, *, declined_now: bool, declined_before: bool) -> Verdict:
        """Count one transaction, judged by both."""
        self.seen += 1
        self.lifted += declined_now - declined_before
        if self.lifted > self.limit_share * self.window:
            return Verdict.TRIPPED
        return Verdict.PASSED if self.seen >= self.window else Verdict.WATCHING
