"""
The real worker on fakes that outlive it, with records that end the process.

``python -m tests.e2e.poisoned_worker SETTINGS FOLDER``. A transaction whose id is
``poison-<how>-<where>`` does what ``_DEATHS`` says at ``decode``, ``observe``, ``decide`` or, on
the thread that builds its row, at ``publish``; one with ``slow`` in its id takes its time to be
decoded. What was decided stands in ``FOLDER/decided``, dead letters in ``FOLDER/letters``.
"""

import os
import re
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from consumer.stdout_guard import guard

protocol_out = guard()

import ctypes  # noqa: E402 - nothing is imported before the guard

import orjson  # noqa: E402
from prometheus_client import REGISTRY  # noqa: E402

from consumer.adapters.kinesis import Waiting, run_worker  # noqa: E402
from consumer.clock import SystemClock  # noqa: E402
from consumer.decode import DecodeRules, decode  # noqa: E402
from consumer.document import DocumentFormat  # noqa: E402
from consumer.engine import Engine  # noqa: E402
from consumer.fault_trace import FaultTrace  # noqa: E402
from consumer.heartbeat import Heartbeat  # noqa: E402
from consumer.intake import FloodLimit, Intake  # noqa: E402
from consumer.labels import Labels  # noqa: E402
from consumer.logs import configure  # noqa: E402
from consumer.metrics import Metrics  # noqa: E402
from consumer.model import (  # noqa: E402
    Assessment,
    DeadLetter,
    Label,
    Observation,
    Scores,
    Stored,
    StoredDecision,
    Transaction,
)
from consumer.orphan import leave_with_parent  # noqa: E402
from consumer.patience import Patience  # noqa: E402
from consumer.pool import BoundedPool  # noqa: E402
from consumer.ports import Observe  # noqa: E402
from consumer.settings import Events, Settings  # noqa: E402
from consumer.settings import Worker as WorkerSettings  # noqa: E402
from consumer.suspicion import Suspects  # noqa: E402
from consumer.telemetry import WorkerTelemetry  # noqa: E402
from consumer.worker import Worker, WorkerParts  # noqa: E402
from tests.fakes.documents import FakeDocuments  # noqa: E402
from tests.fakes.features import FakeFeatures  # noqa: E402
from tests.rulebook import a_book  # noqa: E402

SLOW_S = 0.1
_POISON = re.compile(r"poison-(\w+)-(\w+)")


def _spin() -> None:
    """Stay in C and hold the interpreter for longer than anybody waits."""
    re.match(r"(a|a)*b", "a" * 64)


def _exhaust() -> None:
    """Ask for more memory than this process may have."""
    used, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, hard))
    try:
        bytearray(4 << 30)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (used, hard))


_DEATHS: dict[str, Callable[[], object]] = {
    "fault": lambda: ctypes.string_at(0),
    "spin": _spin,
    "memory": _exhaust,
    # As the kernel's out-of-memory killer does it.
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "exit": lambda: os._exit(3),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
}


def _meet(text: str, where: str) -> None:
    """Do what the id in *text* asks for, if it is to be done here."""
    found = _POISON.search(text)
    if found is not None and found.group(2) == where:
        _DEATHS[found.group(1)]()


def _decode(data: bytes, rules: DecodeRules) -> Transaction | Label:
    text = data.decode()
    if "slow" in text:
        time.sleep(SLOW_S)
    _meet(text, "decode")
    return decode(data, rules)


class PoisonedFeatures(FakeFeatures):
    def observe(self, requests: Sequence[Observe]) -> list[Observation]:
        for request in requests:
            _meet(request.transaction.transaction_id, "observe")
        return super().observe(requests)


class KeptDocuments(FakeDocuments):
    """Documents that stand in a file, a line each as it was created."""

    def __init__(self, form: DocumentFormat, path: Path) -> None:
        super().__init__(form)
        self._path = path
        lines = path.read_bytes().splitlines() if path.exists() else []
        self.documents = {orjson.loads(line)["transaction_id"]: line for line in lines}

    def decide(self, assessments: Sequence[Assessment]) -> list[StoredDecision]:
        for assessment in assessments:
            _meet(assessment.transaction.transaction_id, "decide")
        stored = super().decide(assessments)
        created = [each.document + b"\n" for each in stored if each.stored is Stored.CREATED]
        with self._path.open("ab") as file:
            file.write(b"".join(created))
        return stored


class KeptLetters:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(exist_ok=True)

    def put(self, letters: Sequence[DeadLetter]) -> None:
        for letter in letters:
            content = {"error": letter.error, "message": letter.message, "payload": letter.payload}
            (self._directory / letter.letter_id).write_bytes(orjson.dumps(content))


class PoisonedSink:
    """Takes rows on a thread of its own, a moment later."""

    def __init__(self) -> None:
        self._pool = BoundedPool("firehose", threads=1, waiting=64)

    def publish(self, documents: Sequence[bytes]) -> "Future[None]":
        def take() -> None:
            for document in documents:
                _meet(orjson.loads(document)["transaction_id"], "publish")

        future = self._pool.submit(take)
        assert future is not None
        return future


class SureScoring:
    def start(self, rows: Sequence[Sequence[float]], inference_id: str) -> "SureScores":
        assert inference_id
        return SureScores(len(rows))


@dataclass(frozen=True, slots=True)
class SureScores:
    count: int

    def result(self) -> list[Scores]:
        return [Scores(0.01, 0.5)] * self.count


def build(settings: Settings, folder: Path, heartbeat: Heartbeat) -> Worker:
    clock = SystemClock()
    telemetry = WorkerTelemetry(Metrics(REGISTRY), heartbeat, clock, ["card"])
    patience = Patience(clock, time.sleep, 5.0, telemetry.waiting)
    form = DocumentFormat(FakeFeatures.names, "f" * 64, "EUR")
    documents = KeptDocuments(form, folder / "decided")
    engine = Engine(
        features=PoisonedFeatures(),
        scoring=SureScoring(),
        documents=documents,
        judge=a_book(),
        clock=clock,
        timing=telemetry,
    )
    parts = WorkerParts(
        intake=Intake(DecodeRules.of(Events()), 172_800_000, _decode),
        flood=FloodLimit(0.5, 2_000),
        engine=engine,
        labels=Labels(documents, None, patience, 172_800_000),
        dead_letters=KeptLetters(folder / "letters"),
        sink=PoisonedSink(),
        patience=patience,
        telemetry=telemetry,
        clock=clock,
        suspects=Suspects(settings.supervisor.run_dir, settings.kcl.application_name),
    )
    return Worker(parts, WorkerSettings(chunk_size=5, checkpoint_interval_s=0.2))


def main() -> int:
    settings = Settings.model_validate_json(Path(sys.argv[1]).read_text())
    configure("info", "json")
    with ExitStack() as stack:
        stack.enter_context(FaultTrace(settings.supervisor.run_dir))
        heartbeat = stack.enter_context(Heartbeat(settings.supervisor.run_dir, SystemClock()))
        leave_with_parent(heartbeat.leaving)
        worker = build(settings, Path(sys.argv[2]), heartbeat)
        return run_worker(
            worker,
            sys.stdin.buffer,
            protocol_out,
            waiting=Waiting(worker.patience, drain_limit_s=10.0),
            on_failure=heartbeat.leaving,
        )


if __name__ == "__main__":
    raise SystemExit(main())
