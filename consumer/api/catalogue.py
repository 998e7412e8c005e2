"""``GET /v1/rules`` and ``GET /v1/models``: what decides at present."""

from collections.abc import Callable
from typing import Protocol

import msgspec

from consumer.api.operations import Asked, Reply
from consumer.bands import THRESHOLDS
from consumer.breaker import BreakerState
from consumer.decision import Policy
from consumer.features.plan import Plan
from consumer.rules.compilation import RuleSet
from consumer.settings import Settings


class RuleEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One rule: it asks for ``outcome`` or, without one, adds ``add`` to the fraud score."""

    id: str
    version: int
    mode: str
    when: str
    code: str
    text: str
    on_error: str
    outcome: str | None = None
    add: float | None = None


class RulesAnswer(msgspec.Struct, frozen=True):
    """
    The rules in force on this server. The hashes are those in ``rules`` of a decision.

    ``tripped`` is the hash of a newer set that declined too much and is in shadow.
    """

    mode: str
    hash: str
    lists_hash: str
    tripped: str | None
    lists: dict[str, int]
    rules: tuple[RuleEntry, ...]


class ModelEntry(msgspec.Struct, frozen=True):
    """
    One model: ``usable`` says that nothing speaks against its scores, ``problem`` what does.

    ``thresholds`` are those in force, ``thresholds_from`` whose they are.
    """

    score: str
    endpoint: str
    usable: bool
    problem: str | None
    breaker: str
    thresholds: dict[str, float]
    thresholds_from: str


class ModelsAnswer(msgspec.Struct, frozen=True):
    """Both models, the features that are computed for them, and the policy without a score."""

    models: tuple[ModelEntry, ...]
    feature_hash: str
    features: tuple[str, ...]
    degraded_policy: str


class RulesInForce(Protocol):
    """Who knows which rules decide."""

    @property
    def active(self) -> RuleSet:
        """The set that decides."""
        ...

    @property
    def tripped(self) -> RuleSet | None:
        """The set that is in shadow because it declined too much."""
        ...


class Catalogue:
    """
    Tells what *rules* and models decide by.

    *policy* returns the thresholds in force, *objection* why a score cannot be used, *breakers*
    the state of each endpoint's.
    """

    def __init__(
        self,
        settings: Settings,
        plan: Plan,
        rules: RulesInForce,
        *,
        policy: Callable[[], Policy],
        objection: Callable[[str], str | None],
        breakers: Callable[[], dict[str, BreakerState]],
    ) -> None:
        self._settings = settings
        self._plan = plan
        self._rules = rules
        self._policy = policy
        self._objection = objection
        self._breakers = breakers

    async def rules(self, _asked: Asked) -> Reply:
        """The rules in force."""
        active, tripped = self._rules.active, self._rules.tripped
        entries = [
            RuleEntry(
                id=rule.rule_id,
                version=rule.version,
                mode=rule.mode,
                when=rule.when,
                code=rule.code,
                text=rule.text,
                on_error=rule.on_error,
                outcome=rule.outcome,
                add=rule.add if rule.outcome is None else None,
            )
            for rule in active.specification.rules
        ]
        answer = RulesAnswer(
            mode=active.mode,
            hash=active.specification.hash,
            lists_hash=active.lists.hash,
            tripped=None if tripped is None else tripped.specification.hash,
            lists={name: len(values) for name, values in active.lists.ends.items()},
            rules=tuple(entries),
        )
        return Reply(msgspec.json.encode(answer))

    async def models(self, _asked: Asked) -> Reply:
        """Both models as they are used."""
        scoring, breakers = self._settings.scoring, self._breakers()
        names = {"fraud": scoring.fraud.name, "anomaly": scoring.anomaly.name}
        answer = ModelsAnswer(
            models=tuple(
                self._model(score, endpoint, breakers[score]) for score, endpoint in names.items()
            ),
            feature_hash=self._plan.hash,
            features=self._plan.names,
            degraded_policy=self._settings.decision.degraded,
        )
        return Reply(msgspec.json.encode(answer))

    def _model(self, score: str, endpoint: str, breaker: BreakerState) -> ModelEntry:
        bands, problem = self._policy().bands, self._objection(score)
        return ModelEntry(
            score=score,
            endpoint=endpoint,
            usable=problem is None,
            problem=problem,
            breaker=breaker.name.lower(),
            thresholds={name: getattr(bands, name) for name in THRESHOLDS[score]},
            thresholds_from=getattr(bands, f"{score}_from"),
        )
