"""What the daemon looks at before it starts, and what ``/readyz`` looks at while it runs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from consumer.clock import Clock
from consumer.errors import Misconfigured, Problem, Unavailable
from consumer.health import Probe
from consumer.logs import get_logger
from consumer.ports import Endpoint

REMEDIES = {
    "status_400": "the name of a SageMaker endpoint in service in this region",
    "status_403": "an endpoint that these credentials may invoke (sagemaker:InvokeEndpoint)",
    "no_credentials": "AWS credentials in the environment, a profile or a role",
}
"""Answers of an endpoint that no waiting will change, and what to correct."""

_PROBE_INTERVAL_S = 10.0
_PROBE_LIMIT_S = 2.0


def check_endpoints(
    endpoints: Sequence[tuple[str, str, Endpoint]], width: int, clock: Clock
) -> list[Problem]:
    """
    Ask each endpoint for one score; *endpoints* are (settings key, name, endpoint).

    An unknown name is a problem to correct. An endpoint that is merely sick is
    logged and passed over: decisions are degraded until it is well.
    """
    problems = []
    for key, name, endpoint in endpoints:
        cause = probe_endpoint(endpoint, width, clock)
        if cause in REMEDIES:
            problems.append(Problem("settings", key, name, REMEDIES[cause]))
        elif cause is not None:
            get_logger(__name__).warning("endpoint does not answer", endpoint=name, cause=cause)
    return problems


def probe_endpoint(endpoint: Endpoint, width: int, clock: Clock) -> str | None:
    """The cause why *endpoint* gives no score for a row of *width* zeros; None when it does."""
    line = b",".join([b"0"] * width)
    try:
        endpoint.invoke([line], clock.monotonic_s() + _PROBE_LIMIT_S, "fraudstream-probe")
    except Unavailable as error:
        return error.message
    return None


class Findings:
    """What is wrong, gathered from looks that may each fail, so that all of it is told at once."""

    def __init__(self) -> None:
        self._problems: list[Problem] = []
        self._outages: list[tuple[Unavailable, str]] = []

    def add(self, problems: Sequence[Problem]) -> None:
        """Note *problems*."""
        self._problems += problems

    @contextmanager
    def looking(self, expected: str = "an answer") -> Iterator[None]:
        """Note what the block raises and go on; *expected* is what should have answered."""
        try:
            yield
        except Misconfigured as error:
            self._problems += error.problems
        except Unavailable as error:
            self._outages.append((error, expected))

    def refuse(self) -> None:
        """Raise Misconfigured if something is to be corrected, Unavailable if all is but down."""
        if self._problems:
            silent = [
                Problem(error.dependency, "(no answer)", error.message.rstrip("."), hint)
                for error, hint in self._outages
            ]
            raise Misconfigured([*self._problems, *silent])
        if self._outages:
            told = [
                f"{error.message.rstrip('.')}; expected {hint}" for error, hint in self._outages
            ]
            names = [error.dependency for error, _ in self._outages]
            others = [f"\n  {name}: {text}" for name, text in zip(names[1:], told[1:], strict=True)]
            raise Unavailable(names[0], told[0] + "".join(others))


class RecentProbe:
    """
    A probe whose answer is kept for ten seconds.

    ``/readyz`` may be asked often and by many; an endpoint is paid by the call.
    """

    def __init__(self, probe: Probe, clock: Clock) -> None:
        self._probe = probe
        self._clock = clock
        self._asked_s: float | None = None
        self._answer: str | None = None

    def __call__(self) -> str | None:
        """What is wrong, as of at most ten seconds ago."""
        now_s = self._clock.monotonic_s()
        if self._asked_s is None or now_s - self._asked_s >= _PROBE_INTERVAL_S:
            self._answer = self._probe()
            self._asked_s = now_s
        return self._answer


def answering(call: Callable[[], object]) -> Probe:
    """A probe that is content when *call* does not raise Unavailable."""

    def probe() -> str | None:
        try:
            call()
        except Unavailable as error:
            return error.message
        return None

    return probe
