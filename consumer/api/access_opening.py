"""Everything that decides who may ask, from the settings."""

from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass

from consumer.api.access import Authenticator, Terms
from consumer.api.access_list import AccessList
from consumer.api.access_telemetry import AccessTelemetry
from consumer.api.access_watch import AccessSource, AccessWatch
from consumer.api.sessions import Lifetimes, Sessions
from consumer.clock import Clock
from consumer.metrics import AccessMetrics
from consumer.settings import Settings


@dataclass(frozen=True, slots=True)
class Access:
    """What finds out who asks; ``telemetry`` is its watcher, also for the middleware."""

    authenticator: Authenticator
    sessions: Sessions
    telemetry: AccessTelemetry


def open_access(
    settings: Settings,
    source: AccessSource | None,
    metrics: AccessMetrics,
    clock: Clock,
    stack: ExitStack,
) -> Access:
    """
    Read the list of *source* and begin to follow it; without one only sessions are let in.

    *stack* ends what was started. Raises Misconfigured and Unavailable.
    """
    auth = settings.api.auth
    telemetry = AccessTelemetry(metrics, clock)
    sessions = Sessions(
        Lifetimes(auth.session_idle_s, auth.session_lifetime_s, auth.token_lifetime_s), clock
    )
    current: Callable[[], AccessList] = AccessList
    if source is not None:
        watch = stack.enter_context(closing(AccessWatch(source, auth.refresh_s, telemetry)))
        watch.start()
        current = watch.current
    terms = Terms(settings.aws.region, auth.service, auth.kind, auth.hosts)
    authenticator = Authenticator(current, terms, sessions=sessions, clock=clock, watcher=telemetry)
    return Access(authenticator, sessions, telemetry)
