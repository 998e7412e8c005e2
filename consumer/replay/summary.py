"""What a replay says when it ends."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from consumer.replay.arguments import Wishes
from consumer.replay.progress import format_duration
from consumer.replay.run import Outcome

_WORDS = {
    "transactions": "transactions",
    "warm_up": "of them before --from-time, for the features alone",
    "labels": "labels",
    "labels_without_keys": "of them without keys and time: entity state cannot count these",
    "rows": "rows",
    "applied": "counted in entity state",
    "repeated": "known to every entity before",
    "late_dropped": "older than the id horizon of an entity: not counted there",
    "read": "neither purchase nor key: nothing to count",
    "decided": "decided",
    "approve": "approved",
    "review": "for review",
    "decline": "declined",
    "degraded": "decided without a score",
    "existing": "decided before: the first decision stands",
    "conflict": "decided before with other content",
    "sent": "in the stream",
    "sent_again": "records that the stream first refused",
    "rejected": "not taken: no valid event",
    "unmapped": "rows that cannot be mapped",
    "unmatched_labels": "labels of transactions that are not in the history",
}

Left = Mapping[str, Path]
"""Count of what was left out → the file that tells it, line by line."""


def summary_fields(outcome: Outcome, wishes: Wishes, left: Left) -> dict[str, object]:
    """The summary for JSON; the files of what was *left* out are named where they say anything."""
    state, result = outcome.state, outcome.result
    counts = {name: count for name, count in state.counts.items() if count}
    done = counts.get("transactions", 0) + counts.get("labels", 0)
    return {
        "to": wishes.to,
        "finished": state.finished,
        "events": state.ordinal,
        "counts": counts,
        "seconds": round(state.seconds, 3),
        "rate": round(done / state.seconds, 1) if state.seconds else None,
        "files": [] if result is None else list(result.files),
        **({} if result is None else result.facts),
        "state": wishes.state,
        "left_out": {name: str(path) for name, path in left.items() if counts.get(name)},
    }


def summary_lines(outcome: Outcome, wishes: Wishes, left: Left) -> Iterator[str]:
    """The summary for a person; see ``summary_fields``."""
    fields = summary_fields(outcome, wishes, left)
    state = outcome.state
    head = "replayed" if state.finished else "interrupted: replayed"
    rate = f", {fields['rate']:,.0f} a second" if fields["rate"] else ""
    yield f"{head} {state.ordinal:,} events in {format_duration(state.seconds)}{rate}"
    for name, words in _WORDS.items():
        if state.counts.get(name):
            where = f": {left[name]}" if name in left else ""
            yield f"  {state.counts[name]:>12,}  {words}{where}"
    if outcome.result is not None:
        for path in outcome.result.files:
            yield f"written: {path}"
