"""
Whether the models were trained on the features that are computed here.

A model that expects another list of features answers with numbers all the same,
and they mean nothing. So an endpoint carries the hash of its feature list as a
tag, which is compared at the start and whenever the endpoint's configuration
changes. A score behind a wrong tag is not used. Where the tag or the permission
to read it is missing, nothing can be compared: that is logged and passed over.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Event, Thread
from typing import Protocol

from consumer.errors import Problem, Unavailable
from consumer.logs import get_logger

TAG = "fraudstream:feature-hash"
"""The tag whose value is the SHA-256 of a feature plan in hex, as ``Plan.hash`` has it."""

_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Deployment:
    """What an endpoint serves at present; ``resources`` may carry the tag, the first one wins."""

    configuration: str
    resources: tuple[str, ...]


class Deployments(Protocol):
    """What is known about endpoints beside what they answer."""

    def describe(self, name: str) -> Deployment:
        """The present deployment of the endpoint *name*. Raises Unavailable."""
        ...

    def read_tag(self, deployment: Deployment, key: str) -> str | None:
        """The value of the tag *key*; None where there is none. Raises Unavailable."""
        ...


class FeatureHashWatch:
    """
    Compares the endpoints' feature hashes with *expected*.

    *names* maps a score (``fraud``) to its endpoint's name. ``on_verdict(score,
    matches)`` hears of every comparison that could be made.
    """

    def __init__(
        self,
        deployments: Deployments,
        names: Mapping[str, str],
        expected: str,
        on_verdict: Callable[[str, bool], None] = lambda _score, _matches: None,
    ) -> None:
        self._deployments = deployments
        self._names = dict(names)
        self._expected = expected
        self._on_verdict = on_verdict
        self._matching: dict[str, Deployment] = {}
        self._wrong: dict[str, str] = {}
        self._passed_over: dict[str, str] = {}
        self._closed = Event()
        self._thread: Thread | None = None

    def usable(self, score: str) -> bool:
        """Whether nothing speaks against *score*, as of the last look. Free of I/O."""
        return score not in self._wrong

    def look(self) -> None:
        """Compare every endpoint, asking for the tags of those that changed. Never raises."""
        for score, name in self._names.items():
            try:
                self._compare(score, name)
            except Unavailable as error:
                self._pass_over(score, error.message)

    def problems(self) -> Sequence[Problem]:
        """What to correct before a start, as of the last look."""
        return [
            Problem(
                "SageMaker",
                f"scoring.{score}.name",
                f"{self._names[score]}, trained on the feature list {found[:_SHOWN]}…",
                f"a model of the feature list {self._expected[:_SHOWN]}… of features.path: deploy "
                f"one that was trained on it and tag it {TAG}, or go back to the model's features",
            )
            for score, found in self._wrong.items()
        ]

    def start(self, interval_s: float) -> None:
        """Look again every *interval_s* seconds, in a thread of its own, until ``close``."""

        def repeat() -> None:
            while not self._closed.wait(interval_s):
                self.look()

        self._thread = Thread(target=repeat, name="feature-hash", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Look no more. Does not wait for a look under way."""
        self._closed.set()

    def _compare(self, score: str, name: str) -> None:
        deployment = self._deployments.describe(name)
        # Tags are only asked for again after a change, or while they are not yet right.
        if self._matching.get(score) == deployment:
            return
        self._matching.pop(score, None)
        found = self._deployments.read_tag(deployment, TAG)
        if found is None:
            self._wrong.pop(score, None)
            self._pass_over(score, f"no tag {TAG}")
            return
        self._passed_over.pop(score, None)
        if found == self._expected:
            self._matching[score] = deployment
            self._wrong.pop(score, None)
        else:
            self._wrong[score] = found
        self._tell(score, found)

    def _tell(self, score: str, found: str) -> None:
        matches = found == self._expected
        self._on_verdict(score, matches)
        log = get_logger(__name__)
        tell = log.info if matches else log.error
        tell("feature hash compared", score=score, matches=matches, model=found[:_SHOWN])

    def _pass_over(self, score: str, cause: str) -> None:
        """Say once that *score* could not be checked for *cause*; what was known stands."""
        if self._passed_over.get(score) != cause:
            self._passed_over[score] = cause
            get_logger(__name__).warning("feature hash not checked", score=score, cause=cause)
