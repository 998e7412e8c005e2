"""
Wait for what takes SageMaker minutes: endpoints that change, jobs that train.

What is seen is told as it changes, and a time limit ends only the waiting: SageMaker goes
on, and the same command told again waits for the same thing.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import msgspec

from consumer.clock import Clock
from consumer.deployment.answers import Endpoint, Job
from consumer.deployment.calls import Call, Control, Refused
from consumer.deployment.endpoints import IN_SERVICE, Plan
from consumer.deployment.inventory import find
from consumer.errors import Unavailable
from consumer.patience import Sleep

_CHANGING: Final = frozenset({"Creating", "Updating", "SystemUpdating", "RollingBack"})
_TRAINING: Final = frozenset({"InProgress", "Stopping"})
_LOG_GROUP: Final = "/aws/sagemaker/TrainingJobs"
_LOG_LINES: Final = 20

Tell = Callable[[str], None]
"""Hears of each state as it is first seen."""


@dataclass(frozen=True, slots=True)
class Watch:
    """How to wait: look every *poll_s* seconds, for *limit_s* at most, and *tell* of changes."""

    clock: Clock
    sleep: Sleep
    tell: Tell
    poll_s: float = 15.0
    limit_s: float = 3_600.0

    def looks(self, what: str) -> Iterator[int]:
        """Yield seconds waited, with pauses between. Raises Unavailable when the time is up."""
        started_s = self.clock.monotonic_s()
        while True:
            waited_s = self.clock.monotonic_s() - started_s
            if waited_s > self.limit_s:
                message = f"{what} after {waited_s:.0f} s; told again, the command waits on"
                raise Unavailable("sagemaker", message)
            yield int(waited_s)
            self.sleep(self.poll_s)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a change of an endpoint ended; ``reason`` says why where it is not as wished."""

    done: bool
    configuration: str
    status: str
    reason: str | None = None


def await_endpoint(control: Control, plan: Plan, watch: Watch) -> Outcome:
    """
    Wait until the endpoint of *plan* is at rest, and say what it runs then.

    SageMaker takes a failed update back by itself, and the endpoint has served all the
    while: it is in service then, with the configuration from before. Raises Unavailable.
    """
    seen = ""
    for waited_s in watch.looks(f"{plan.endpoint} has not come to rest"):
        found = find(control, Endpoint, plan.endpoint)
        if found is None:
            return Outcome(done=False, configuration="", status="absent", reason="it was deleted")
        if found.endpoint_status != seen:
            seen = found.endpoint_status
            watch.tell(f"{waited_s:>5} s  {plan.endpoint}: {seen}")
        if seen not in _CHANGING:
            return _conclude(plan, found)
    raise AssertionError  # pragma: no cover - looks ends by an error only


def _conclude(plan: Plan, found: Endpoint) -> Outcome:
    running = found.endpoint_config_name
    if found.endpoint_status == IN_SERVICE and running == plan.configuration:
        return Outcome(done=True, configuration=running, status=IN_SERVICE)
    reason = found.failure_reason or "SageMaker gave no reason"
    if found.endpoint_status == IN_SERVICE:
        reason = f"SageMaker took the update back: {reason}"
    return Outcome(False, running, found.endpoint_status, reason)


def await_job(control: Control, name: str, watch: Watch) -> Job:
    """
    Wait until the training job *name* has ended and return it.

    ``training_job_status`` is ``Completed``, ``Failed`` or ``Stopped``. Raises Unavailable.
    """
    seen = ""
    for waited_s in watch.looks(f"the training job {name} has not ended"):
        job = find(control, Job, name)
        if job is None:
            raise Unavailable("sagemaker", f"no training job {name}")
        state = f"{job.training_job_status}, {job.secondary_status}".rstrip(", ")
        if state != seen:
            seen = state
            watch.tell(f"{waited_s:>5} s  {name}: {state}")
        if job.training_job_status not in _TRAINING:
            return job
    raise AssertionError  # pragma: no cover - looks ends by an error only


class _Stream(msgspec.Struct):
    name: str = msgspec.field(name="logStreamName")


class _Streams(msgspec.Struct):
    streams: list[_Stream] = msgspec.field(default_factory=list, name="logStreams")


class _Event(msgspec.Struct):
    message: str


class _Events(msgspec.Struct):
    events: list[_Event] = []


def read_log_tail(control: Control, job: str, lines: int = _LOG_LINES) -> list[str]:
    """
    The last *lines* of the log of *job*, in the order of writing; none where there is none.

    CloudWatch has a stream an instance, ``<job>/algo-1-<number>``.
    """
    group = {"logGroupName": _LOG_GROUP}
    found: list[str] = []
    # A log that cannot be read must not hide why the job failed.
    with suppress(Refused, Unavailable):
        call = Call("logs", "describe_log_streams", {**group, "logStreamNamePrefix": f"{job}/"})
        for stream in control.ask(call, _Streams).streams:
            tail = {"logStreamName": stream.name, "limit": lines, "startFromHead": False}
            call = Call("logs", "get_log_events", {**group, **tail})
            found += [event.message for event in control.ask(call, _Events).events]
    return found[-lines:]
