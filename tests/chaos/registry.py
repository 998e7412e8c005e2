"""The cases by name, and what became of one."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum

from tests.chaos.arena import Arena
from tests.chaos.checker import Difference, Kind, describe


class Tier(StrEnum):
    """
    A worker process under a played KCL, or the daemon on the real one.

    Of RESHARDING the stream is one that splits, and each case has daemons of its own.
    """

    WORKER = "worker"
    KCL = "kcl"
    RESHARDING = "resharding"


@dataclass(frozen=True, slots=True)
class Case:
    """
    One case. *expected* says in a sentence what must come out.

    *quick* ones are few and run with ``make test`` too.
    """

    name: str
    tier: Tier
    expected: str
    run: Callable[..., None]
    quick: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What the report says of a case; ``failure`` is empty when it passed."""

    name: str
    tier: Tier
    injected: int
    recovered_s: float | None
    sent: int
    lost: int
    double_counted: int
    extra: int
    seconds: float
    failure: str = ""

    def as_json(self) -> dict[str, object]:
        """As in ``report.json``."""
        return asdict(self)


CASES: dict[str, Case] = {}
"""Every case that was imported, in the order of the modules."""


def register(new: Case) -> None:
    """Add a case. Raises AssertionError for a second one of its name."""
    assert new.name not in CASES, f"two cases are named {new.name}"
    CASES[new.name] = new


def case(
    name: str, expected: str, *, quick: bool = False
) -> Callable[[Callable[[Arena], None]], Callable[[Arena], None]]:
    """Register a case of the worker tier; it gets its ``Arena``."""

    def add(run: Callable[[Arena], None]) -> Callable[[Arena], None]:
        register(Case(name, Tier.WORKER, expected, run, quick))
        return run

    return add


@dataclass(frozen=True, slots=True)
class Seen:
    """What the runner saw of a case."""

    injected: int
    recovered_s: float | None
    sent: int
    differences: list[Difference]
    seconds: float
    failure: str = ""


def judge(case_: Case, seen: Seen) -> Result:
    """A result; nothing injected is a failure, and so is any difference."""
    kinds = [each.kind for each in seen.differences]
    reasons = [seen.failure] if seen.failure else []
    if not seen.injected:
        reasons.append("nothing was injected")
    if seen.differences:
        reasons.append(f"expected: {case_.expected}\n{describe(seen.differences)}")
    return Result(
        name=case_.name,
        tier=case_.tier,
        injected=seen.injected,
        recovered_s=seen.recovered_s,
        sent=seen.sent,
        lost=kinds.count(Kind.LOST),
        double_counted=kinds.count(Kind.DOUBLE),
        extra=kinds.count(Kind.EXTRA),
        seconds=round(seen.seconds, 1),
        failure="\n".join(reasons),
    )
