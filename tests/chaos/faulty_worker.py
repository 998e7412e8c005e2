"""
The worker process with a fault injector around everything outside.

What ``fraudstream process`` is but for the wrappers: the same settings, the same
composition root, and the same adapters below. ``CHAOS_AWS_URL`` is the address of AWS
where it is not the KCL's (see ``gateway.py``); ``CHAOS_FOLDER`` holds the plan, see
``faults.py``.
"""

import os
import sys
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from consumer.stdout_guard import guard

protocol_out = guard()

from collections.abc import Callable, Sequence  # noqa: E402 - nothing is imported before the guard

from consumer.adapters.kinesis import (  # noqa: E402
    EXIT_UNAVAILABLE,
    Checkpoint,
    Processor,
    run_worker,
)
from consumer.app import build_waiting, build_worker  # noqa: E402
from consumer.clock import SystemClock  # noqa: E402
from consumer.configuration import load  # noqa: E402
from consumer.errors import Unavailable  # noqa: E402
from consumer.heartbeat import Heartbeat  # noqa: E402
from consumer.logs import configure, get_logger  # noqa: E402
from consumer.model import (  # noqa: E402
    Assessment,
    DeadLetter,
    Label,
    LabelEffect,
    Labelled,
    Observation,
    Position,
    Record,
    ShardId,
    StoredDecision,
)
from consumer.orphan import leave_with_parent  # noqa: E402
from consumer.outside import Outside, Surroundings, open_outside  # noqa: E402
from consumer.ports import (  # noqa: E402
    DeadLetterStore,
    DecisionSink,
    Durability,
    EagerDocumentStore,
    EagerFeatureStore,
    Endpoint,
    FeatureLabels,
    Observe,
    Pending,
)
from consumer.settings import SHIPPED, Settings  # noqa: E402
from tests.chaos.faults import CLOCK, Injector, Port  # noqa: E402


@dataclass(frozen=True, slots=True)
class SteppedClock(SystemClock):
    """The machine's clocks, the wall clock stepped by as many ms as the file *step* says."""

    step: Path

    def now_ms(self) -> int:
        now_ms = SystemClock.now_ms(self)
        return now_ms + int(self.step.read_text()) if self.step.exists() else now_ms


@dataclass(frozen=True, slots=True)
class FaultyFeatures:
    inner: EagerFeatureStore
    injector: Injector

    def observe(self, requests: Sequence[Observe]) -> list[Observation]:
        return self.start(requests).result()

    def start(self, requests: Sequence[Observe]) -> Pending[list[Observation]]:
        return self.injector.around_pending(
            Port.OBSERVE,
            lambda: self.inner.start(requests),
            lambda: self.inner.observe(_half(requests)),
        )


@dataclass(frozen=True, slots=True)
class FaultyFeatureLabels:
    inner: FeatureLabels
    injector: Injector

    def label(self, effects: Sequence[LabelEffect]) -> None:
        self.injector.around(
            Port.COUNT_LABEL,
            lambda: self.inner.label(effects),
            lambda: self.inner.label(_half(effects)),
        )


@dataclass(frozen=True, slots=True)
class FaultyDocuments:
    inner: EagerDocumentStore
    injector: Injector

    def decide(self, assessments: Sequence[Assessment]) -> list[StoredDecision]:
        return self.start(assessments).result()

    def start(self, assessments: Sequence[Assessment]) -> Pending[list[StoredDecision]]:
        return self.injector.around_pending(
            Port.DECIDE,
            lambda: self.inner.start(assessments),
            lambda: self.inner.decide(_half(assessments)),
        )

    def label(self, labels: Sequence[Label]) -> list[Labelled]:
        return self.injector.around(
            Port.NOTE_LABEL,
            lambda: self.inner.label(labels),
            lambda: self.inner.label(_half(labels)),
        )


@dataclass(frozen=True, slots=True)
class FaultyEndpoint:
    inner: Endpoint
    injector: Injector
    port: Port

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def max_rows(self) -> int:
        return self.inner.max_rows

    @property
    def max_bytes(self) -> int:
        return self.inner.max_bytes

    def invoke(self, lines: Sequence[bytes], deadline_s: float, inference_id: str) -> list[float]:
        return self.injector.around(
            self.port, lambda: self.inner.invoke(lines, deadline_s, inference_id)
        )


@dataclass(frozen=True, slots=True)
class FaultyDeadLetters:
    inner: DeadLetterStore
    injector: Injector

    def put(self, letters: Sequence[DeadLetter]) -> None:
        self.injector.around(
            Port.PUT, lambda: self.inner.put(letters), lambda: self.inner.put(_half(letters))
        )


@dataclass(frozen=True, slots=True)
class FaultySink:
    inner: DecisionSink
    injector: Injector

    def publish(self, documents: Sequence[bytes]) -> Future[None]:
        # A sink never raises: what fails, fails in its future.
        try:
            acknowledged = self.injector.around(
                Port.PUBLISH,
                lambda: self.inner.publish(documents),
                lambda: self.inner.publish(_half(documents)).result(),
            )
        except Unavailable as error:
            refused: Future[None] = Future()
            refused.set_exception(error)
            return refused
        outer: Future[None] = Future()

        def pass_on(inner: Future[None]) -> None:
            if not outer.set_running_or_notify_cancel():
                # The lease is lost; whoever has it now sends the rows.
                return
            try:
                self.injector.around(Port.ACKNOWLEDGE, inner.result)
            except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to whoever waits
                outer.set_exception(error)
            else:
                outer.set_result(None)

        acknowledged.add_done_callback(pass_on)
        return outer


@dataclass(frozen=True, slots=True)
class FaultyDurability:
    inner: Durability
    injector: Injector

    def confirm(self) -> bool:
        return self.injector.around(Port.CONFIRM, self.inner.confirm)


@dataclass(frozen=True, slots=True)
class FaultyProcessor:
    """Between kclpy and the worker; every delivery looks for a new plan."""

    inner: Processor
    injector: Injector

    def start(self, shard_id: ShardId, position: Position | None) -> None:
        self.injector.shard = shard_id
        self.injector.around(Port.START, lambda: self.inner.start(shard_id, position))

    def process(
        self, records: Sequence[Record], millis_behind_latest: int | None, checkpoint: Checkpoint
    ) -> None:
        self.injector.refresh()
        send = self._around(checkpoint)
        self.injector.around(
            Port.PROCESS, lambda: self.inner.process(records, millis_behind_latest, send)
        )

    def lease_lost(self) -> None:
        self.inner.lease_lost()

    def shard_ended(self, checkpoint: Checkpoint) -> None:
        send = self._around(checkpoint)
        self.injector.around(Port.DRAIN, lambda: self.inner.shard_ended(send))

    def shutdown_requested(self, checkpoint: Checkpoint) -> None:
        send = self._around(checkpoint)
        self.injector.around(Port.DRAIN, lambda: self.inner.shutdown_requested(send))

    def _around(self, checkpoint: Checkpoint) -> Checkpoint:
        return lambda position: self.injector.around(Port.CHECKPOINT, lambda: checkpoint(position))


def open_faulty(injector: Injector) -> Callable[[Surroundings, ExitStack], Outside]:
    """Open the real outside, with *injector* around each port."""

    def open_all(around: Surroundings, stack: ExitStack) -> Outside:
        found = open_outside(around, stack)
        sink, durability = found.sink, found.durability
        return replace(
            found,
            features=FaultyFeatures(found.features, injector),
            feature_labels=FaultyFeatureLabels(found.feature_labels, injector),
            documents=FaultyDocuments(found.documents, injector),
            fraud=FaultyEndpoint(found.fraud, injector, Port.FRAUD),
            anomaly=FaultyEndpoint(found.anomaly, injector, Port.ANOMALY),
            dead_letters=FaultyDeadLetters(found.dead_letters, injector),
            sink=None if sink is None else FaultySink(sink, injector),
            durability=None if durability is None else FaultyDurability(durability, injector),
        )

    return open_all


def _settings() -> Settings:
    settings = load(SHIPPED / "fraudstream.yaml").settings
    url = os.environ.get("CHAOS_AWS_URL", settings.aws.endpoint_url)
    aws = settings.aws.model_copy(update={"endpoint_url": url})
    return settings.model_copy(update={"aws": aws})


def _half(items: Sequence[object]) -> Sequence:  # type: ignore[type-arg]
    return items[: (len(items) + 1) // 2]


def main() -> int:
    settings = _settings()
    configure(settings.logs.level, "json")
    leave_with_parent()
    injector = Injector(Path(os.environ["CHAOS_FOLDER"]))
    try:
        with ExitStack() as stack:
            clock = SteppedClock(Path(os.environ["CHAOS_FOLDER"]) / CLOCK)
            heartbeat = stack.enter_context(Heartbeat(settings.supervisor.run_dir, clock))
            worker = build_worker(settings, heartbeat, clock, stack, open_faulty(injector))
            processor = FaultyProcessor(worker, injector)
            return run_worker(
                processor,
                sys.stdin.buffer,
                protocol_out,
                waiting=build_waiting(worker, settings),
                on_failure=heartbeat.leaving,
            )
    except Unavailable as error:
        get_logger(__name__).error("leaving without a checkpoint", error=str(error))
        return EXIT_UNAVAILABLE


if __name__ == "__main__":
    raise SystemExit(main())
