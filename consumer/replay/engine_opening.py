"""The engine of a worker for a replay: the parts of ``app.py``, with another outside."""

import tempfile
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

from prometheus_client import CollectorRegistry

from consumer.clock import SystemClock
from consumer.document import DocumentFormat
from consumer.features.warming import WarmingFeatures
from consumer.heartbeat import Heartbeat
from consumer.outside import (
    Outside,
    Surroundings,
    build_dead_letters,
    build_endpoints,
    build_feature_store,
    build_warming,
    open_outside,
)
from consumer.replay.asked_models import without_hurry
from consumer.replay.decisions_file import Columns, DecisionsFile, UnkeptDocuments
from consumer.replay.engine_target import Decided, EngineTarget
from consumer.replay.feature_target import FeatureTarget
from consumer.replay.live_decisions import LiveDecisions
from consumer.replay.ordered_features import OrderedFeatures
from consumer.replay.target import Target
from consumer.replay.target_opening import Opening, build_patience
from consumer.settings import Settings
from consumer.wiring import build_parts

_NEVER_S = 1e8


def open_engine(opening: Opening, stack: ExitStack) -> Target:
    """
    The engine on live Redis, or on a scratch one. *stack* closes it.

    Raises Unavailable and Misconfigured, as ``app.build_parts`` does.
    """
    settings = without_hurry(opening.settings)
    if opening.scratch:
        settings = _apart(settings)
    # A place of its own: what a worker leaves in the daemon's would be taken for a shard.
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fraudstream-")))
    supervisor = settings.supervisor.model_copy(update={"run_dir": folder})
    settings = settings.model_copy(update={"supervisor": supervisor})
    clock = SystemClock()
    heartbeat = stack.enter_context(Heartbeat(folder, clock))
    ordered: list[OrderedFeatures] = []

    def open_for_replay(around: Surroundings, stack: ExitStack) -> Outside:
        outside = (_open_scratch if opening.scratch else open_outside)(around, stack)
        store = outside.features
        if not isinstance(store, WarmingFeatures):
            message = "the features of a worker take labels in order"
            raise TypeError(message)
        ordered.append(OrderedFeatures(store))
        return replace(outside, features=ordered[0])

    # Nobody scrapes what a command counts.
    parts = build_parts(
        settings, heartbeat, clock, stack, open_for_replay, registry=CollectorRegistry()
    )
    features = ordered[0]
    decided: Decided = LiveDecisions(parts)
    if opening.scratch:
        decided = _decisions_file(opening)
    warm = FeatureTarget(features.store, build_patience(settings), opening.now_ms)
    target = EngineTarget(
        parts,
        features,
        warm,
        decided,
        now_ms=opening.now_ms,
        shard=opening.shard,
        needs_scores=not opening.allow_degraded,
    )
    return stack.enter_context(closing(target))


def _decisions_file(opening: Opening) -> DecisionsFile:
    if opening.out is None:
        message = "decisions on a scratch Redis are written to a file"
        raise ValueError(message)
    names = opening.plan.names if opening.columns else ()
    columns = Columns(names, tuple(opening.settings.events.extra_fields))
    return DecisionsFile(opening.out, opening.folder, columns, opening.saved)


def _open_scratch(around: Surroundings, stack: ExitStack) -> Outside:
    """Features on the scratch server, the endpoints of the settings, and nothing else."""
    settings, plan = around.settings, around.plan
    plain = build_feature_store(settings, plan, stack)
    store = build_warming(settings, plan, plain, stack)
    store.look()
    fraud, anomaly = build_endpoints(settings, around.clock)
    return Outside(
        features=store,
        feature_labels=store,
        documents=UnkeptDocuments(
            DocumentFormat(plan.names, plan.hash, settings.events.base_currency)
        ),
        fraud=fraud,
        anomaly=anomaly,
        dead_letters=stack.enter_context(closing(build_dead_letters(settings))),
        sink=None,
        durability=None,
    )


def _apart(settings: Settings) -> Settings:
    """
    *settings* that leave nothing anywhere: no explanation, no second look, no Firehose.

    Rules are those of the start, so that one replay is judged by one set, and no others are held
    against them: a rise of declines is a finding here.
    """
    second = settings.scoring.second_assessment.model_copy(update={"waiting": 0})
    scoring = settings.scoring.model_copy(
        update={"explanations": "off", "second_assessment": second}
    )
    rules = settings.rules.model_copy(update={"poll_s": _NEVER_S, "decline_rise_limit": 1.0})
    firehose = settings.firehose.model_copy(update={"enabled": False})
    return settings.model_copy(update={"scoring": scoring, "rules": rules, "firehose": firehose})
