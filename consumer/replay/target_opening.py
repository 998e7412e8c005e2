"""Targets with all that they need, built from the settings: on the live Redis or a scratch."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from consumer.clock import SystemClock
from consumer.errors import Unavailable
from consumer.features.plan import Plan
from consumer.features.specification import load_plan
from consumer.logs import get_logger
from consumer.outside import build_feature_store, build_stream, build_warming
from consumer.patience import Patience
from consumer.replay.feature_target import FeatureTarget, Observed
from consumer.replay.stream_target import StreamTarget
from consumer.replay.target import Target
from consumer.settings import Settings

# A chunk of a replay is a thousand transactions, of which some may be of large entities.
_REDIS_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Opening:
    """
    What a target is opened with.

    ``out`` is the file of results, None where there is none, and ``folder`` where it grows;
    ``now_ms`` the arrival of what comes from the future. ``saved`` is what the target
    returned before an interruption. ``scratch``: Redis is a scratch server. ``source`` names
    the files of the history, for the head of a data set, and ``shard`` stands for them in
    documents; ``columns``: decisions come with their features,
    ``allow_degraded``: and without a score where an endpoint does not answer.
    """

    settings: Settings
    out: Path | None
    folder: Path
    now_ms: int
    saved: dict[str, object]
    scratch: bool
    source: Sequence[str]
    label_delay_s: int
    shard: str
    columns: bool = True
    allow_degraded: bool = False

    @property
    def plan(self) -> Plan:
        """The features of the settings."""
        return load_plan(self.settings.features.path, self.settings.events.base_currency)


def on_scratch(settings: Settings, url: str) -> Settings:
    """*settings* with everything of Redis at *url*, and nothing drawn."""
    redis = settings.redis.model_copy(
        update={"url": SecretStr(url), "features_url": None, "documents_url": None}
    )
    timeseries = settings.timeseries.model_copy(update={"url": None})
    return settings.model_copy(update={"redis": redis, "timeseries": timeseries})


def patient(settings: Settings) -> Settings:
    """*settings* with the time that a large chunk takes."""
    # Within an outage a reply has to be waited for more than once.
    longest_s = min(_REDIS_TIMEOUT_S, settings.redis.outage_limit_s / 2)
    timeout_s = max(settings.redis.timeout_s, longest_s)
    redis = settings.redis.model_copy(update={"timeout_s": timeout_s})
    return settings.model_copy(update={"redis": redis})


def open_target(to: str, opening: Opening, stack: ExitStack) -> Target:
    """The target named *to*; *stack* closes it. Raises Unavailable and Misconfigured."""
    return _OPEN[to](opening, stack)


def open_features(opening: Opening, stack: ExitStack) -> Target:
    """Entity state alone. Raises Unavailable and Misconfigured."""
    return _features(opening, stack, None, answers=False)


def open_dataset(opening: Opening, stack: ExitStack) -> Target:
    """Vectors with labels. Raises Unavailable and Misconfigured."""
    # Whoever only fills Redis needs neither pyarrow nor duckdb.
    from consumer.replay.dataset_target import DatasetTarget  # noqa: PLC0415
    from consumer.training.dataset_file import Head  # noqa: PLC0415

    if opening.out is None:
        message = "a data set is written to a file"
        raise ValueError(message)
    plan = opening.plan
    head = Head(
        features=plan.names,
        feature_hash=plan.hash,
        label_delay_s=opening.label_delay_s,
        source=tuple(opening.source),
    )
    target = DatasetTarget(
        opening.out,
        opening.folder,
        plan,
        head,
        opening.settings.events.base_currency,
        opening.saved,
    )
    target.use(_features(opening, stack, target.observed, answers=True))
    return stack.enter_context(closing(target))


def open_stream(opening: Opening, stack: ExitStack) -> Target:
    """The stream of the settings."""
    stream = build_stream(opening.settings)
    return stack.enter_context(closing(StreamTarget(stream, build_patience(opening.settings))))


def open_engine(opening: Opening, stack: ExitStack) -> Target:
    """Full decisions, by the parts of a worker. As ``app.build_parts`` raises."""
    from consumer.replay.engine_opening import open_engine as opened  # noqa: PLC0415

    return opened(opening, stack)


def _features(
    opening: Opening, stack: ExitStack, observed: Observed | None, *, answers: bool
) -> FeatureTarget:
    settings, plan = opening.settings, opening.plan
    patience = build_patience(settings)
    plain = patience.call(lambda: build_feature_store(settings, plan, stack, answers=answers))
    # Since when state reaches back is noted beside it, so that warming ends when it should.
    store = build_warming(settings, plan, plain, stack)
    patience.call(store.look)
    return stack.enter_context(closing(FeatureTarget(store, patience, opening.now_ms, observed)))


def build_patience(settings: Settings) -> Patience:
    """What waits for Redis, and says so."""
    return Patience(SystemClock(), time.sleep, settings.redis.outage_limit_s, _tell_waiting)


def _tell_waiting(error: Unavailable, waited_s: float) -> None:
    get_logger(__name__).warning("waiting", error=str(error), waited_s=round(waited_s, 1))


_OPEN: Mapping[str, Callable[[Opening, ExitStack], Target]] = {
    "engine": open_engine,
    "stream": open_stream,
    "features": open_features,
    "dataset": open_dataset,
}
