"""
Both endpoints, asked before a replay decides anything: do they answer, and what?

A replay without scores says nothing of the models, and a report on it would flatter the rules.
What they answer to made-up vectors tells models apart wherever they are served.
"""

from collections.abc import Sequence
from hashlib import sha256

from consumer.clock import Clock
from consumer.errors import Misconfigured, Problem, Unavailable
from consumer.outside import build_endpoints
from consumer.ports import Endpoint
from consumer.preflight import REMEDIES
from consumer.scoring import encode_rows
from consumer.settings import Settings

ANYWAY = "--allow-degraded decides without"
"""What to do about an endpoint that cannot be had."""

# Nobody waits for a decision on history, and one without a score would say little of the model.
DEADLINE_MS = 60_000

_ROWS = 16
_DIGITS = 16


def without_hurry(settings: Settings) -> Settings:
    """*settings* with the patience of somebody who decides on history."""
    scoring = settings.scoring.model_copy(
        update={"deadline_ms": max(settings.scoring.deadline_ms, DEADLINE_MS)}
    )
    return settings.model_copy(update={"scoring": scoring})


def ask_models(settings: Settings, width: int, clock: Clock, *, needed: bool) -> str:
    """
    What both models say of some vectors of *width* features, as a digest.

    Where they are *needed*, raises Misconfigured for what has to be corrected and Unavailable
    for an endpoint that does not answer.
    """
    endpoints = build_endpoints(without_hurry(settings), clock)
    names = (settings.scoring.fraud.name, settings.scoring.anomaly.name)
    problems: list[Problem] = []
    silent: list[str] = []
    told: list[str] = []
    for endpoint, name in zip(endpoints, names, strict=True):
        try:
            told.append(repr(_scores(endpoint, width, clock)))
        except Unavailable as error:
            cause = error.message
            told.append("nothing")
            if cause in REMEDIES:
                key = f"scoring.{endpoint.name}.name"
                expected = f"{REMEDIES[cause]}; {ANYWAY}"
                problems.append(Problem("settings", key, f"{name}: {cause}", expected))
            else:
                silent.append(f"{name} does not answer: {cause}")
    if needed and problems:
        raise Misconfigured(problems)
    if needed and silent:
        raise Unavailable("endpoint", f"{'; '.join(silent)}; {ANYWAY}")
    return sha256(" ".join(told).encode()).hexdigest()[:_DIGITS]


def _scores(endpoint: Endpoint, width: int, clock: Clock) -> Sequence[float]:
    count = min(_ROWS, endpoint.max_rows)
    rows = [
        # Of the sizes that counts, amounts and times have.
        [(7 * row + 3 * column) % 23 * 10.0 ** (row % 5 - 1) for column in range(width)]
        for row in range(count)
    ]
    deadline_s = clock.monotonic_s() + DEADLINE_MS / 1000
    return endpoint.invoke(encode_rows(rows), deadline_s, "fraudstream-replay")
