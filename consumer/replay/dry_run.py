"""What a replay would do, told without doing any of it."""

from collections.abc import Iterator
from dataclasses import asdict
from math import inf
from typing import Final

from consumer.decode import DecodeRules, decode
from consumer.errors import Rejected
from consumer.evidence import format_time
from consumer.model import Label
from consumer.replay.arguments import Wishes
from consumer.replay.history import Outline, Sample, Survey
from consumer.replay.progress import format_duration

RATES: Final = {"stream": 4_000, "engine": 4_000, "features": 15_000, "dataset": 9_000}
"""Events a second, measured on two cores (docs/benchmarks.md); a stream of a few shards."""

_DOCUMENT_BYTES = 5_800
_SHOWN_FILES = 5


def dry_run_fields(
    outline: Outline, survey: Survey | None, wishes: Wishes, rules: DecodeRules
) -> dict[str, object]:
    """The plan of a replay for JSON; *survey* where the files were small enough to be read."""
    return {
        "to": wishes.to,
        "dry_run": True,
        "files": len(outline.files),
        "formats": sorted(set(outline.formats)),
        "size_bytes": outline.size_bytes,
        "estimated_rows": outline.estimated_rows,
        "estimated_seconds": round(_seconds(outline, survey, wishes), 1),
        "survey": None if survey is None else asdict(survey),
        "samples": [
            {"place": each.place, "row": each.raw, "events": list(_events(each, rules))}
            for each in outline.samples
        ],
        "problems": list(_problems(outline, rules)),
    }


def describe_dry_run(
    outline: Outline, survey: Survey | None, wishes: Wishes, rules: DecodeRules
) -> Iterator[str]:
    """The plan of a replay for a person; see ``dry_run_fields``."""
    formats = ", ".join(sorted(set(outline.formats)))
    megabytes = outline.size_bytes / 1e6
    yield f"{len(outline.files):,} files ({formats}), {megabytes:,.1f} MB:"
    yield from (f"  {name}" for name in outline.files[:_SHOWN_FILES])
    if len(outline.files) > _SHOWN_FILES:
        yield f"  … {len(outline.files) - _SHOWN_FILES:,} more"
    about = format_duration(_seconds(outline, survey, wishes))
    if survey is None:
        yield f"about {outline.estimated_rows:,} rows, to {wishes.to}: about {about}"
    else:
        events = f"{survey.transactions:,} transactions and {survey.labels:,} labels"
        yield f"{survey.rows:,} rows: {events}"
        if survey.first_ms is not None and survey.last_ms is not None:
            yield f"from {format_time(survey.first_ms)} to {format_time(survey.last_ms)}"
        yield f"{survey.rejected:,} rows cannot be mapped"
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


def is_good(outline: Outline, survey: Survey | None, rules: DecodeRules) -> bool:
    """Whether no row was found that cannot be replayed."""
    return not any(_problems(outline, rules)) and not (survey and survey.rejected)


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
