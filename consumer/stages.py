"""
What a worker can be doing, and in which of it a record may be to blame for its death.

The names stand in heartbeats, logs and ``/healthz``; this is the one place that
knows them all and says which are computing.
"""

from enum import StrEnum

WAITING = "waiting:"
"""How the stage begins of a worker that waits for a dependency, whose name follows."""


class Stage(StrEnum):
    """What a worker does; ``waiting:<dependency>`` stands in its place during an outage."""

    START = "start"
    IDLE = "idle"
    """Waits for its next call and has nothing to finish."""
    DECODE = "decode"
    OBSERVE = "observe"
    """Feature state: requests are encoded, sent, answers unpacked; vectors are encoded as CSV."""
    SCORE = "score"
    """Waits for the scores, then asks the rules."""
    DECIDE = "decide"
    """Documents are built, sent, answers unpacked."""
    LABEL = "label"
    DEAD_LETTER = "dead_letter"
    """Letters are built, compressed and stored."""
    PUBLISH = "publish"
    CHECKPOINT = "checkpoint"


# Those that speak to Redis or S3 build what they send, and unpack what comes back, in the
# same stage: a record can end the process there too. The wait itself is short, since an
# outage has a stage of its own.
_COMPUTING = frozenset(
    {
        Stage.DECODE,
        Stage.OBSERVE,
        Stage.SCORE,
        Stage.DECIDE,
        Stage.LABEL,
        Stage.DEAD_LETTER,
    }
)


def is_computing(stage: str) -> bool:
    """Whether a death in *stage* may be the fault of a record that was under way."""
    return stage in _COMPUTING
