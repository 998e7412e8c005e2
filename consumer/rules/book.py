"""The rules in force: which set decides, how a new one takes over, and how it is taken back."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import Literal, Protocol

from consumer.decision import Policy, decide
from consumer.model import Decision, Outcome, Ruled
from consumer.rules.compilation import RuleSet
from consumer.rules.facts import Case
from consumer.rules.specification import Mode
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


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of *rules*: good, or where ``former`` decides again, tripped."""

    rules: RuleSet
    former: RuleSet | None = None


@dataclass(frozen=True, slots=True)
class _Offer:
    rules: RuleSet
    watched: bool


class RuleBook:
    """
    Decides by the rules in force.

    Used by one thread, except for ``offer``, ``look``, ``tripped`` and ``judged``, which others
    may use: an offered set takes over at the next ``turn``, so that a chunk is decided by one
    set. ``judged`` is what became of each set, to be taken from there.
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
        # What to go back to, and what a change is compared with: a set that decides.
        self._good: RuleSet | None = rules if rules.mode is Mode.LIVE else None
        self._watch: DeclineWatch | None = None
        self._tripped: RuleSet | None = None
        self._offered: SimpleQueue[_Offer] = SimpleQueue()
        self.judged: SimpleQueue[Judged] = SimpleQueue()
        telemetry.rules_active(rules)

    @property
    def active(self) -> RuleSet:
        """The set that decides."""
        return self._active

    @property
    def tripped(self) -> RuleSet | None:
        """The set that tripped and is in shadow until another one is offered."""
        return self._tripped

    def compare(self, before: RuleSet | None) -> None:
        """
        Watch the set in force as a change from *before*; without one it counts as good.

        One that is turned down is neither watched nor good; the next one that decides is
        compared with *before*.
        """
        self._good = before
        self._begin(watched=True)

    def offer(self, rules: RuleSet, *, watched: bool = True) -> None:
        """Let *rules* take over at the next turn; not *watched*, they count as good at once."""
        self._offered.put(_Offer(rules, watched))

    def turn(self) -> None:
        """Take over what was offered, and the policy of now. Called between chunks."""
        self._policy = self._ask_policy()
        try:
            offered = self._offered.get_nowait()
            while not self._offered.empty():
                offered = self._offered.get_nowait()
        except Empty:
            return
        self._active, self._tripped = offered.rules, None
        self._telemetry.rules_active(self._active)
        self._begin(watched=offered.watched)

    def decide(self, case: Case) -> tuple[Decision, Ruled]:
        """Decide *case* by the rules in force; what others say of it is recorded as shadow."""
        case = self._trusted(case)
        ruled = self._active.evaluate(case)
        decision = self._decide(case, ruled)
        if self._watch is not None and self._good is not None:
            before = self._decide(case, self._good.evaluate(case))
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

    def _begin(self, *, watched: bool) -> None:
        """
        Compare the set in force with the last good one where there is one.

        A set that is turned down declines nothing, so that anything would seem to decline
        more than it, and a start must not fall back on it: it is never the good one.
        """
        self._watch = None
        if self._active.mode is not Mode.LIVE:
            return
        if watched and self._good is not None:
            self._watch = DeclineWatch(self._limits.share, self._limits.window)
        else:
            self._found_good()

    def _found_good(self) -> None:
        self._good = self._active
        self.judged.put(Judged(self._active))

    def _note(self, watch: DeclineWatch, now: Decision, before: Decision) -> None:
        verdict = watch.note(
            declined_now=now.outcome is Outcome.DECLINE,
            declined_before=before.outcome is Outcome.DECLINE,
        )
        if verdict is Verdict.WATCHING:
            return
        self._watch = None
        if verdict is Verdict.TRIPPED and self._good is not None:
            self._tripped, self._active = self._active, self._good
            self._telemetry.rules_active(self._active)
            self._telemetry.rules_tripped(self._tripped, watch.lifted, watch.seen)
            self.judged.put(Judged(self._tripped, self._active))
        else:
            self._found_good()

    def _decide(self, case: Case, ruled: Ruled) -> Decision:
        return decide(case.scores, self._policy, case.transaction.base_amount_minor, ruled)
