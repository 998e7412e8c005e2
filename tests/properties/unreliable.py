"""Ports in memory that fail, or kill their process, at a planned effect."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

from consumer.errors import Unavailable
from consumer.model import (
    Assessment,
    DeadLetter,
    Label,
    LabelEffect,
    Labelled,
    Observation,
    StoredDecision,
)
from consumer.ports import (
    DeadLetterStore,
    DocumentStore,
    FeatureLabels,
    FeatureStore,
    Observe,
    Pending,
)
from tests.fakes.eager import at_once

T = TypeVar("T")
R = TypeVar("R")


class Killed(BaseException):
    """The process ends here and now, as by ``kill -9``."""


@dataclass
class Fuse:
    """
    What happens at which boundary between two effects.

    Every effect has one before it and one behind it, so that a batch can end before,
    in the middle, or when all is applied and nothing was answered. ``left`` boundaries
    pass; then the process is killed, or ``times`` boundaries in a row fail.
    """

    left: int | None = None
    kills: bool = False
    times: int = 1

    def boundary(self, dependency: str) -> None:
        """Pass, or raise what is planned."""
        if self.left is None:
            return
        if self.left:
            self.left -= 1
            return
        if self.kills:
            self.left = None
            raise Killed(dependency)
        self.times -= 1
        if not self.times:
            self.left = None
        raise Unavailable(dependency, "planned")

    def each(
        self, dependency: str, items: Sequence[T], apply: Callable[[T], Sequence[R]]
    ) -> list[R]:
        """Apply *items* one by one with a boundary around each."""
        answers: list[R] = []
        for item in items:
            self.boundary(dependency)
            answers += apply(item)
            self.boundary(dependency)
        return answers


class UnreliableFeatures:
    """A feature store and its labels, with boundaries around each request."""

    def __init__(self, fuse: Fuse, features: FeatureStore, labels: FeatureLabels) -> None:
        self._fuse, self._features, self._labels = fuse, features, labels

    def start(self, requests: Sequence[Observe]) -> Pending[list[Observation]]:
        return at_once(lambda: self.observe(requests))

    def observe(self, requests: Sequence[Observe]) -> list[Observation]:
        return self._fuse.each("redis", requests, lambda request: self._features.observe([request]))

    def label(self, effects: Sequence[LabelEffect]) -> None:
        for effect in effects:
            self._fuse.boundary("redis")
            self._labels.label([effect])
            self._fuse.boundary("redis")


class UnreliableDocuments:
    """A document store with boundaries around each document."""

    def __init__(self, fuse: Fuse, documents: DocumentStore) -> None:
        self._fuse, self._documents = fuse, documents

    def start(self, assessments: Sequence[Assessment]) -> Pending[list[StoredDecision]]:
        return at_once(lambda: self.decide(assessments))

    def decide(self, assessments: Sequence[Assessment]) -> list[StoredDecision]:
        return self._fuse.each("redis", assessments, lambda each: self._documents.decide([each]))

    def label(self, labels: Sequence[Label]) -> list[Labelled]:
        return self._fuse.each("redis", labels, lambda each: self._documents.label([each]))


class UnreliableLetters:
    """A dead letter store with boundaries around each letter."""

    def __init__(self, fuse: Fuse, letters: DeadLetterStore) -> None:
        self._fuse, self._letters = fuse, letters

    def put(self, letters: Sequence[DeadLetter]) -> None:
        for letter in letters:
            self._fuse.boundary("s3")
            self._letters.put([letter])
            self._fuse.boundary("s3")


class Publication(Future[None]):
    """Rows on their way; whoever waits for them makes *settle* say what becomes of them."""

    def __init__(self, documents: Sequence[bytes], settle: Callable[["Publication"], None]) -> None:
        super().__init__()
        # What was begun cannot be taken back, and may arrive after its worker lost the lease.
        self.set_running_or_notify_cancel()
        self.documents = list(documents)
        self._settle = settle

    def result(self, timeout: float | None = None) -> None:
        if not self.done():
            self._settle(self)
        return super().result(timeout)
