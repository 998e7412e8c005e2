"""
What is told about access: metrics and log lines, never a header, a secret or a signature.

Anybody can make requests fail, so a line stands for all of a kind within some seconds.
"""

import threading
from collections.abc import Sequence
from typing import Final

from consumer.api.access import Principal, Scope
from consumer.api.access_list import AccessList
from consumer.api.sigv4 import Flaw
from consumer.clock import Clock
from consumer.errors import Problem, Unavailable
from consumer.logs import get_logger
from consumer.metrics import AccessMetrics

_PAUSE_S: Final = 10.0


class AccessTelemetry:
    """Counts and logs what becomes of requests and of the list of access."""

    def __init__(self, metrics: AccessMetrics, clock: Clock) -> None:
        self._metrics = metrics
        self._clock = clock
        self._log = get_logger(__name__)
        # Kind and name → when a line was written, and how many came since.
        self._told: dict[tuple[str, str | None], tuple[float, int]] = {}
        self._lock = threading.Lock()

    def refused(self, flaw: Flaw, name: str | None) -> None:
        """A request was refused; *name* is whose key it claims, if it is a known one."""
        self._metrics.refused.labels(flaw.value).inc()
        count = self._count(flaw.value, name)
        if count:
            self._log.warning("requests not let in", flaw=flaw.value, name=name, count=count)

    def forbidden(self, principal: Principal, scope: Scope) -> None:
        """*principal* asked for what needs *scope*, and has it not."""
        self._metrics.refused.labels("scope").inc()
        count = self._count(f"scope {scope}", principal.name)
        if count:
            self._log.warning(
                "requests without scope", name=principal.name, scope=scope.value, count=count
            )

    def list_read(self, access: AccessList, *, changed: bool) -> None:
        """The list was read, is in force, and was *changed*."""
        self._metrics.list_read.set(self._clock.now_ms() / 1000)
        if changed:
            names = {each.name for each in access.keys.values()}
            names |= {each.name for each in access.callers}
            self._log.info("list of access in force", keys=len(access.keys), names=sorted(names))

    def list_refused(self, problems: Sequence[Problem]) -> None:
        """The list cannot be used; the one before stays."""
        self._metrics.list_errors.labels("refused").inc()
        self._log.error("list of access refused", problems=[str(each) for each in problems])

    def list_unreachable(self, error: Unavailable) -> None:
        """The list could not be read; the one before stays."""
        self._metrics.list_errors.labels("unavailable").inc()
        self._log.warning("list of access out of reach", error=str(error))

    def _count(self, kind: str, name: str | None) -> int:
        """How many of *kind* a line has to tell of; 0 where it is too early for one."""
        now_s = self._clock.monotonic_s()
        with self._lock:
            told_s, count = self._told.get((kind, name), (-_PAUSE_S, 0))
            due = now_s - told_s >= _PAUSE_S
            self._told[kind, name] = (now_s, 0) if due else (told_s, count + 1)
        return count + 1 if due else 0
