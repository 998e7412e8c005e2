"""
Whose bands are in force: those of the model that is served, as long as that is known.

A model's bands travel as a tag of its endpoint's configuration, so they change in the
same step as the model. Where there is no tag at the start, the archive that the settings
name speaks for the model that is served then. The tag is read at each look, so that bands
may change without another model, and one that was lost is known of before a start needs it.
Another configuration is taken for another model: without bands of its own its score
means nothing, so it is not used and its transactions are decided under the policy for
missing scores until the bands are there.
What fails without a change of configuration (no permission, no answer, a tag that was
removed or spoilt) leaves the bands in force.
"""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Thread

from consumer.bands import (
    TAG,
    ModelBands,
    missing_bands,
    parse_tag,
    scores_of_models,
)
from consumer.decision import Policy, build_policy
from consumer.errors import Misconfigured, Problem, Unavailable
from consumer.feature_hash import Deployment, Deployments
from consumer.logs import get_logger
from consumer.settings import Settings

_TO_CORRECT = ("AccessDenied", "ValidationException")

ReadArchive = Callable[[str], ModelBands | None]
"""
The bands in the archive of a score, None where the settings name none.

Raises Misconfigured, also for an archive without bands, and Unavailable.
"""

OnBands = Callable[[str, Policy | None], None]
"""Hears of a score whose bands were taken over, or (None) that cannot be used without them."""

OnUnread = Callable[[str], None]
"""Hears of a score at each look that found no bands of its model where there should be some."""


@dataclass(frozen=True, slots=True)
class _Served:
    """The model of a score: its deployment, None while never seen, and its bands."""

    deployment: Deployment | None
    bands: ModelBands
    tagged: bool


class BandsWatch:
    """The policy in force; ``look`` asks whether other models are served now."""

    def __init__(
        self,
        deployments: Deployments,
        settings: Settings,
        read_archive: ReadArchive,
        on_bands: OnBands = lambda _score, _policy: None,
        on_unread: OnUnread = lambda _score: None,
    ) -> None:
        """
        Find the bands of every model that the settings ask for.

        Raises Misconfigured with all that are missing or broken, and Unavailable where
        neither SageMaker nor an archive can be asked.
        """
        self._deployments = deployments
        self._decision = settings.decision
        scoring = settings.scoring
        names = {"fraud": scoring.fraud.name, "anomaly": scoring.anomaly.name}
        self._names = {score: names[score] for score in scores_of_models(self._decision)}
        self._read_archive = read_archive
        self._on_bands = on_bands
        self._on_unread = on_unread
        self._unusable: frozenset[str] = frozenset()
        self._told: dict[str, str] = {}
        self._closed = Event()
        self._served = self._begin()
        self._policy = self._build(self._served)
        for score in names:
            on_bands(score, self._policy)

    @property
    def policy(self) -> Policy:
        """The policy in force. Free of I/O; any thread may ask."""
        return self._policy

    def usable(self, score: str) -> bool:
        """Whether the bands of the model behind *score* are known. Free of I/O."""
        return score not in self._unusable

    def look(self) -> None:
        """Take over the bands of models that came since. Never raises."""
        for score, name in self._names.items():
            try:
                self._compare(score, self._deployments.describe(name))
            except Unavailable as error:
                self._on_unread(score)
                self._tell(score, f"endpoint {name}: {error.message}")

    def start(self, interval_s: float) -> None:
        """Look again every *interval_s* seconds, in a thread of its own, until ``close``."""

        def repeat() -> None:
            while not self._closed.wait(interval_s):
                self.look()

        if self._names:
            Thread(target=repeat, name="bands", daemon=True).start()

    def close(self) -> None:
        """Look no more. Does not wait for a look under way."""
        self._closed.set()

    def _begin(self) -> dict[str, _Served]:
        served: dict[str, _Served] = {}
        problems: list[Problem] = []
        for score in self._names:
            try:
                served[score] = self._first(score)
            except Misconfigured as error:
                problems += error.problems
        if problems:
            raise Misconfigured(problems)
        return served

    def _first(self, score: str) -> _Served:
        deployment, outage = None, None
        try:
            deployment = self._deployments.describe(self._names[score])
            return _Served(deployment, self._read_tag(score, deployment), tagged=True)
        except Unavailable as error:
            cause = f"no answer about the tag {TAG} ({error.message})"
            outage = None if _stays(error) else error
        except ValueError as error:
            cause = str(error)
        bands = self._read_archive(score)
        if bands is None:
            if outage is not None:
                # The tag may be there: that is to be waited for, not to be corrected.
                raise outage
            raise Misconfigured([missing_bands(score, self._decision, cause)])
        get_logger(__name__).warning("bands taken from the archive", score=score, cause=cause)
        return _Served(deployment, bands, tagged=False)

    def _compare(self, score: str, deployment: Deployment) -> None:
        known = self._served[score]
        same = known.deployment in (None, deployment)
        try:
            bands = self._read_tag(score, deployment)
            served = {**self._served, score: _Served(deployment, bands, tagged=True)}
            policy = self._build(served)
        except (ValueError, Misconfigured) as error:
            if known.tagged or not same:
                self._on_unread(score)
            if same:
                bound = _Served(deployment, known.bands, known.tagged)
                self._take_over(score, {**self._served, score: bound}, self._policy)
                self._tell(score, str(error))
            else:
                self._leave_out(score)
                self._tell(score, f"another model is served, with {error}")
            return
        changed = served[score] != known or not self.usable(score)
        corrected = self._told.pop(score, None) is not None
        if not (changed or corrected):
            return
        self._take_over(score, served, policy)
        log = get_logger(__name__)
        log.info("bands taken over", score=score, model=bands.model, **bands.thresholds)

    def _read_tag(self, score: str, deployment: Deployment) -> ModelBands:
        """The bands in the tag. Raises ValueError, saying what is wrong, and Unavailable."""
        text = self._deployments.read_tag(deployment, TAG)
        if text is None:
            message = f"no tag {TAG}"
            raise ValueError(message)
        try:
            return parse_tag(score, text)
        except ValueError as error:
            message = f"a tag {TAG} that has {error}"
            raise ValueError(message) from error

    def _take_over(self, score: str, served: dict[str, _Served], policy: Policy) -> None:
        self._served, self._policy = served, policy
        self._unusable -= {score}
        self._on_bands(score, policy)

    def _leave_out(self, score: str) -> None:
        if self.usable(score):
            self._unusable |= {score}
            self._on_bands(score, None)

    def _build(self, served: dict[str, _Served]) -> Policy:
        models = {score: each.bands for score, each in served.items()}
        return build_policy(self._decision, models)

    def _tell(self, score: str, cause: str) -> None:
        """Say each cause once; what was known stands."""
        if self._told.get(score) != cause:
            self._told[score] = cause
            used = self.usable(score)
            tell = get_logger(__name__).warning if used else get_logger(__name__).error
            tell("bands not read", score=score, cause=cause, score_used=used)


def _stays(error: Unavailable) -> bool:
    """Whether no waiting changes *error*: no permission, or no such endpoint."""
    return any(word in error.message for word in _TO_CORRECT)
