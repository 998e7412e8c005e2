"""What a replay would do, told without doing any of it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import Final

from consumer.decode import DecodeRules, decode
from consumer.errors import Rejected
from consumer.evidence import format_time
from consumer.model import Label
from consumer.replay.arguments import Wishes
from consumer.replay.history import History, Outline, Sample, Survey
from consumer.replay.progress import format_duration
from consumer.replay.shown import show_event

RATES: Final = {"stream": 4_000, "engine": 4_000, "features": 15_000, "dataset": 9_000}
"""Events a second, measured on two cores (docs/benchmarks.md); a stream of a few shards."""

_DOCUMENT_BYTES = 5_800
_SHOWN_FILES = 5
_SHOWN_REFUSED = 5
_MOST_TRIED = 2_000_000


@dataclass(frozen=True, slots=True)
class Tried:
    """Of *events* in order *refused* are no valid ones; ``examples`` tells of the first few."""

    events: int
    refused: int
    examples: Sequence[str]


@dataclass(frozen=True, slots=True)
class Looked:
    """What reading all files found; *rejects* is the file of the rows that cannot be mapped."""

    survey: Survey
    tried: Tried
    rejects: Path


def try_events(history: History, rules: DecodeRules, on_events: Callable[[int], None]) -> Tried:
    """
    Decode the events of *history*, the first two million at most, as a replay will.

    Raises Misconfigured and Unavailable as the history does.
    """
    events = refused = 0
    examples: list[str] = []
    for part in history.read():
        for index, data in enumerate(part.events):
            try:
                decode(data, rules)
            except Rejected as error:
                refused += 1
                if len(examples) < _SHOWN_REFUSED:
                    examples.append(f"{part.place(index)}: {error.message}: {show_event(data)}")
        events += len(part)
        on_events(events)
        if events >= _MOST_TRIED:
            break
    return Tried(events, refused, examples)


def dry_run_fields(
    outline: Outline, looked: Looked | None, wishes: Wishes, rules: DecodeRules
) -> dict[str, object]:
    """The plan of a replay for JSON; *looked* where the files were small enough to be read."""
    survey = None if looked is None else looked.survey
    return {
        "to": wishes.to,
        "dry_run": True,
        "files": len(outline.files),
        "formats": sorted(set(outline.formats)),
        "size_bytes": outline.size_bytes,
        "estimated_rows": outline.estimated_rows,
        "estimated_seconds": round(_seconds(outline, survey, wishes), 1),
        "survey": None if survey is None else asdict(survey),
        "tried": None if looked is None else asdict(looked.tried),
        "rejects": str(looked.rejects) if looked and looked.survey.rejected else None,
        "samples": [
            {"place": each.place, "row": each.raw, "events": list(_events(each, rules))}
            for each in outline.samples
        ],
        "problems": list(_problems(outline, rules)),
    }


def describe_dry_run(
    outline: Outline, looked: Looked | None, wishes: Wishes, rules: DecodeRules
) -> Iterator[str]:
    """The plan of a replay for a person; see ``dry_run_fields``."""
    survey = None if looked is None else looked.survey
    formats = ", ".join(sorted(set(outline.formats)))
    megabytes = outline.size_bytes / 1e6
    yield f"{len(outline.files):,} files ({formats}), {megabytes:,.1f} MB:"
    yield from (f"  {name}" for name in outline.files[:_SHOWN_FILES])
    if len(outline.files) > _SHOWN_FILES:
        yield f"  … {len(outline.files) - _SHOWN_FILES:,} more"
    about = format_duration(_seconds(outline, survey, wishes))
    if looked is None or survey is None:
        yield f"about {outline.estimated_rows:,} rows, to {wishes.to}: about {about}"
    else:
        events = f"{survey.transactions:,} transactions and {survey.labels:,} labels"
        yield f"{survey.rows:,} rows: {events}"
        if survey.first_ms is not None and survey.last_ms is not None:
            yield f"from {format_time(survey.first_ms)} to {format_time(survey.last_ms)}"
        yield from _left_out(looked)
        yield f"to {wishes.to}: about {about}"
    if wishes.to == "engine" and not wishes.scratch:
        gigabytes = outline.estimated_rows * _DOCUMENT_BYTES / 1e9
        yield f"documents in Redis: about {gigabytes:,.1f} GB while they live"
    yield "the first rows:"
    for sample in outline.samples:
        yield f"  {sample.place}: {sample.raw}"
        yield from (f"    → {text}" for text in _events(sample, rules))
    problems = list(_problems(outline, rules))
    yield f"{len(problems)} of {len(outline.samples)} sampled rows cannot be replayed"
    yield from (f"  {problem}" for problem in problems)


def _left_out(looked: Looked) -> Iterator[str]:
    survey, tried = looked.survey, looked.tried
    where = f"; they are in {looked.rejects}" if survey.rejected else ""
    yield f"{survey.rejected:,} rows cannot be mapped{where}"
    yield from (f"  {each}" for each in survey.examples)
    if survey.unmatched_labels:
        yield f"{survey.unmatched_labels:,} labels of transactions that are not in the history"
    yield f"{tried.refused:,} of {tried.events:,} events are not valid"
    yield from (f"  {each}" for each in tried.examples)


def is_good(outline: Outline, looked: Looked | None, rules: DecodeRules) -> bool:
    """Whether no row was found that cannot be replayed."""
    left_out = looked is not None and (looked.survey.rejected or looked.tried.refused)
    return not left_out and not any(_problems(outline, rules))


def _seconds(outline: Outline, survey: Survey | None, wishes: Wishes) -> float:
    """Estimated duration, in original time or a multiple of it where that is longer."""
    rows = outline.estimated_rows if survey is None else survey.events
    if wishes.selection.limit is not None:
        rows = min(rows, wishes.selection.limit)
    rate = float(RATES[wishes.to])
    if wishes.pace.rate is not None:
        rate = min(rate, wishes.pace.rate)
    span_s = 0.0
    if survey is not None and survey.first_ms is not None and survey.last_ms is not None:
        first_ms = max(survey.first_ms, wishes.selection.from_ms or survey.first_ms)
        last_ms = min(survey.last_ms, wishes.selection.to_ms or survey.last_ms)
        span_s = max(0, last_ms - first_ms) / 1000
    return max(rows / rate, span_s / (wishes.pace.speed or inf))


def _events(sample: Sample, rules: DecodeRules) -> Iterator[str]:
    for data in sample.events:
        try:
            event = decode(data, rules)
        except Rejected as error:
            yield f"rejected, {error.code}: {error.message}"
            continue
        if isinstance(event, Label):
            yield f"{event.label} from {event.label_time.isoformat()}"
        else:
            yield data.decode(errors="replace")


def _problems(outline: Outline, rules: DecodeRules) -> Iterator[str]:
    for sample in outline.samples:
        if sample.problem is not None:
            yield f"{sample.place}: {sample.problem}"
            continue
        for data in sample.events:
            try:
                decode(data, rules)
            except Rejected as error:
                yield f"{sample.place}: {error.message}"
