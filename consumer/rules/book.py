"""The rules in force: which set decides, how a new one takes over, and how it is taken back."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import Literal, Protocol

from consumer.decision import Policy, decide
from consumer.model import Decision, Outcome, Ruled
from consumer.rules.compilation import RuleSet
from consumer.rules.facts import Case
from consumer.rules.watch import DeclineWatch, Verdict


class BookTelemetry(Protocol):
    """What is told of the rules in force."""

    def rules_active(self, rules: RuleSet) -> None:
        """*rules* decide from now on."""
        ...

    def rules_tripped(self, rules: RuleSet, lifted: int, seen: int) -> None:
        """*rules* declined *lifted* of *seen* transactions more, and are in shadow now."""
        ...


@dataclass(frozen=True, slots=True)
class WatchLimits:
    """How many transactions a change is watched, and by which share it may lift declines."""

    share: float
    window: int


class RuleBook:
    """
    Decides by the rules in force.

    Used by one thread, except for ``offer`` and ``look``, which others may call: an offered set
    takes over at the next ``turn``, so that a chunk is decided by one set.
    """

    def __init__(
        self,
        rules: RuleSet,
        policy: Callable[[], Policy],
        limits: WatchLimits,
        telemetry: BookTelemetry,
        *,
        warming: Literal["shadow", "live"] = "shadow",
    ) -> None:
        """
        *policy* is asked at each turn, so that one chunk is judged by one policy;
        *warming* says what becomes of rules that read warming features.
        """
        self._active = rules
        self._trusts_all = warming == "live"
        self._ask_policy = policy
        self._policy = policy()
        self._limits = limits
        self._telemetry = telemetry
        self._before: RuleSet | None = None
        self._watch: DeclineWatch | None = None
        self._tripped: RuleSet | None = None
        self._offered: SimpleQueue[RuleSet] = SimpleQueue()
        telemetry.rules_active(rules)

    @property
    def active(self) -> RuleSet:
        """The set that decides."""
        return self._active

    def offer(self, rules: RuleSet) -> None:
        """Let *rules* take over at the next turn."""
        self._offered.put(rules)

    def turn(self) -> None:
        """Take over what was offered, and the policy of now. Called between chunks."""
        self._policy = self._ask_policy()
        try:
            offered = self._offered.get_nowait()
            while not self._offered.empty():
                offered = self._offered.get_nowait()
        except Empty:
            return
        self._before, self._active, self._tripped = self._active, offered, None
        self._watch = DeclineWatch(self._limits.share, self._limits.window)
        self._telemetry.rules_active(offered)

    def decide(self, case: Case) -> tuple[Decision, Ruled]:
        """Decide *case* by the rules in force; what others say of it is recorded as shadow."""
        case = self._trusted(case)
        ruled = self._active.evaluate(case)
        decision = self._decide(case, ruled)
        if self._watch is not None and self._before is not None:
            before = self._decide(case, self._before.evaluate(case))
            self._note(self._watch, decision, before)
        elif self._tripped is not None:
            said = self._tripped.evaluate(case)
            ruled = replace(ruled, shadow=ruled.shadow + said.live + said.shadow)
        return decision, ruled

    def look(self, case: Case) -> tuple[Decision, Ruled]:
        """Decide *case* by the rules in force, noting nothing; any thread may ask."""
        case = self._trusted(case)
        ruled = self._active.evaluate(case)
        return self._decide(case, ruled), ruled

    def _trusted(self, case: Case) -> Case:
        return replace(case, warming=frozenset()) if self._trusts_all and case.warming else case

    def _note(self, watch: DeclineWatch, now: Decision, before: Decision) -> None:
        verdict = watch.note(
            declined_now=now.outcome is Outcome.DECLINE,
            declined_before=before.outcome is Outcome.DECLINE,
        )
        if verdict is Verdict.WATCHING:
            return
        if verdict is Verdict.TRIPPED and self._before is not None:
            self._tripped, self._active = self._active, self._before
            self._telemetry.rules_tripped(self._tripped, watch.lifted, watch.seen)
            self._telemetry.rules_active(self._active)
        self._before = self._watch = None

    def _decide(self, case: Case, ruled: Ruled) -> Decision:
        return decide(case.scores, self._policy, case.transaction.base_amount_minor, ruled)
