"""What a soak says of itself: the account, its verdict, and how it reads."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from statistics import median

from tests.chaos.checker import Difference, Kind
from tests.chaos.found import Found
from tests.chaos.registry import Tier

_SHOWN = 20
CRASHED = "crashed"
NEW_ID = "new worker id"
LIMIT_S = 15.0
NEW_ID_LIMIT_S = 150.0
"""Longest time without a new decision, under the same worker id and under a new one."""


@dataclass(slots=True)
class Account:
    """
    All of a run.

    ``faults`` by kind as often as they were given, ``restarts`` of workers or the KCL by
    cause, ``recovered_s`` from each fault to the next progress, by kind, oldest first.
    ``machine`` holds what was measured beside it (memory, load).
    """

    tier: Tier
    seed: int
    minutes: float = 0.0
    epochs: int = 0
    transactions: int = 0
    records: int = 0
    entities: int = 0
    degraded: int = 0
    crashed: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    restarts: Counter[str] = field(default_factory=Counter)
    recovered_s: dict[str, list[float]] = field(default_factory=dict)
    differences: Counter[Kind] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    machine: dict[str, float] = field(default_factory=dict)
    failure: str = ""

    def enter(self, transactions: int, records: int, found: Found) -> None:
        """Enter what an epoch held."""
        self.epochs += 1
        self.transactions += transactions
        self.records += records
        self.entities = max(self.entities, len(found.entities))
        self.degraded += sum(bool(each["degraded"]) for each in found.documents.values())
        self.crashed += sum(error == CRASHED for _, error in found.letters)

    def note(self, differences: Sequence[Difference]) -> None:
        """Count *differences* and keep the first of them."""
        for each in differences:
            self.differences[each.kind] += 1
        room = max(_SHOWN - len(self.examples), 0)
        self.examples += [f"{each.kind}: {each.text}" for each in differences[:room]]

    def note_recovery(self, kind: str, seconds: float) -> None:
        """Enter one recovery."""
        self.recovered_s.setdefault(kind, []).append(round(seconds, 2))

    def note_largest(self, what: str, value: float) -> None:
        """Keep the largest *value* of something measured on the machine."""
        self.machine[what] = max(self.machine.get(what, value), value)

    def problems(self) -> list[str]:
        """What a run must not show; empty when it passed."""
        found = [self.failure] if self.failure else []
        found += [f"{self.differences[kind]:,} {kind}" for kind in Kind if self.differences[kind]]
        if self.crashed:
            found.append(f"{self.crashed:,} records were dead-lettered as {CRASHED}")
        if not self.faults.total():
            found.append("nothing was injected")
        for kind, times in self.recovered_s.items():
            limit_s = self.limit_s(kind)
            slow = [seconds for seconds in times if seconds > limit_s]
            if slow:
                found.append(
                    f"{len(slow)} of {len(times)} recoveries from {kind} took more than "
                    f"{limit_s:g} s, the longest {max(slow):g} s"
                )
        return found

    def limit_s(self, kind: str) -> float:
        """
        How long the recovery from a fault of *kind* may take.

        Where the KCL is played there is none: a worker is back as soon as it has started.
        """
        if self.tier != Tier.KCL:
            return inf
        return NEW_ID_LIMIT_S if kind == NEW_ID else LIMIT_S

    def as_json(self) -> dict[str, object]:
        """As in ``.chaos/soak.json``."""
        return {
            "seed": self.seed,
            "tier": self.tier.value,
            "minutes": round(self.minutes, 1),
            "epochs": self.epochs,
            "transactions": self.transactions,
            "records": self.records,
            "entities": self.entities,
            "faults": dict(sorted(self.faults.items())),
            "recovered_s": {kind: _summary(self.recovered_s[kind]) for kind in self.recovered_s},
            **{kind.value: self.differences[kind] for kind in Kind},
            "crashed": self.crashed,
            "degraded": self.degraded,
            "restarts": dict(sorted(self.restarts.items())),
            "machine": self.machine,
            "examples": self.examples,
            "problems": self.problems(),
        }

    def describe(self) -> str:
        """The account for a reader."""
        ran = (
            f"tier {self.tier}, CHAOS_SEED={self.seed}: {self.minutes:.1f} minutes, "
            f"{self.epochs} epochs, {self.transactions:,} transactions in {self.records:,} "
            f"records, at most {self.entities:,} entities at once"
        )
        wrong = (
            f"lost {self.differences[Kind.LOST]:,}, double-counted "
            f"{self.differences[Kind.DOUBLE]:,}, extra {self.differences[Kind.EXTRA]:,}, "
            f"{CRASHED} {self.crashed:,}, degraded {self.degraded:,}"
        )
        lines = [
            ran,
            wrong,
            f"{self.faults.total():,} faults: {_listed(self.faults)}",
            f"{self.restarts.total():,} restarts: {_listed(self.restarts)}",
            "recovered, s (number, p50, max, limit):",
        ]
        lines += [
            f"  {kind:<34} {len(times):5} {median(times):7.2f} {max(times):7.2f} "
            f"{self.limit_s(kind):7g}"
            for kind, times in sorted(self.recovered_s.items())
        ]
        lines.append(_listed(self.machine))
        lines += [f"  {example}" for example in self.examples]
        problems = self.problems()
        lines += [f"FAILED: {each}" for each in problems] or ["passed"]
        return "\n".join(lines)


def _summary(times: Sequence[float]) -> dict[str, object]:
    return {
        "number": len(times),
        "p50": round(median(times), 2),
        "max": max(times),
        "each": list(times),
    }


def _listed(what: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:,g}" for name, value in sorted(what.items()))
