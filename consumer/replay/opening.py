"""What a person asks for with SOURCE and its options, opened as a history."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, get_args

from consumer.errors import Misconfigured, Problem
from consumer.replay.formats import detect
from consumer.replay.label_files import LabelFiles
from consumer.replay.mapping import (
    LABEL_SOURCE_FIELDS,
    TIME_UNITS,
    EventForm,
    FieldMap,
    Format,
    LabelPolicy,
)
from consumer.replay.mapping_source import check_time_zone, read_duration_s, read_field_map
from consumer.replay.objects import Listed, OpenBucket, Period, Spool, list_files

if TYPE_CHECKING:
    from consumer.replay.file_history import FileHistory

FORMATS: Final = get_args(Format)
_DEFAULT_MAX_REJECTS = 0.01
_POLICY, _ALWAYS, _NO_MAP = LabelPolicy(), Period(), FieldMap()


@dataclass(frozen=True, slots=True)
class HistoryRequest:
    """
    A source and how it is read, checked as far as that goes without looking at it.

    ``labels`` is a source of labels alone, with a map and a format of its own.
    """

    source: str
    field_map: FieldMap
    form: EventForm
    policy: LabelPolicy = _POLICY
    format: Format | None = None
    period: Period = _ALWAYS
    labels: str | None = None
    labels_map: FieldMap = _NO_MAP
    labels_format: Format | None = None
    rejects: Path | None = None
    max_rejects: float = _DEFAULT_MAX_REJECTS


def add_history_arguments(parser: argparse.ArgumentParser) -> None:
    """Add SOURCE and all that says how it is read."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="s3://bucket/prefix, a file, a folder or a glob (** crosses folders)",
    )
    source = parser.add_argument_group("reading the source")
    source.add_argument("--format", choices=FORMATS, help="default: by name and content")
    source.add_argument(
        "--map",
        nargs="+",
        action="extend",
        default=[],
        metavar="FIELD=SOURCE",
        help="a column (card_id=CUSTOMER_ID), a constant (currency==EUR), a template "
        "(card_id=c-{CUSTOMER_ID}); label, label_time and label_source are fields, too",
    )
    source.add_argument("--mapping", type=Path, metavar="FILE", help="the same as YAML")
    source.add_argument("--time-zone", metavar="NAME", help="of times without an offset (UTC)")
    source.add_argument(
        "--time-unit", choices=tuple(TIME_UNITS), help="what numbers count since 1970"
    )
    source.add_argument(
        "--since", metavar="TIME", help="only files under time prefixes from then on (UTC)"
    )
    source.add_argument(
        "--until", metavar="TIME", help="only files under time prefixes before then (UTC)"
    )
    source.add_argument("--rejects", type=Path, metavar="FILE", help="rows that cannot be mapped")
    source.add_argument(
        "--max-rejects",
        type=float,
        default=_DEFAULT_MAX_REJECTS,
        metavar="SHARE",
        help="end where more rows than this share cannot be mapped (0.01)",
    )
    labels = parser.add_argument_group("labels")
    labels.add_argument(
        "--label-delay", metavar="TIME", help="labels are known so long after the event: 7d, 0"
    )
    labels.add_argument(
        "--legitimate-labels",
        action="store_true",
        help="labels also of the rows that a column calls legitimate",
    )
    labels.add_argument("--labels", metavar="SOURCE", help="labels from a source of their own")
    labels.add_argument(
        "--labels-map",
        nargs="+",
        action="extend",
        default=[],
        metavar="FIELD=SOURCE",
        help=f"its columns: {', '.join(LABEL_SOURCE_FIELDS)}",
    )
    labels.add_argument("--labels-format", choices=FORMATS, help="default: by name and content")


def read_request(arguments: argparse.Namespace, form: EventForm) -> HistoryRequest:
    """
    Check what was asked for.

    *form* is what the settings say of events. Raises Misconfigured with every problem.
    """
    problems: list[Problem] = []

    def gathered(read: Callable[[], Any], default: Any) -> Any:
        try:
            return read()
        except Misconfigured as error:
            problems.extend(error.problems)
            return default

    mapped = gathered(lambda: read_field_map(arguments.map, arguments.mapping, form), FieldMap())
    own = EventForm(form.base_currency, ())
    labels_map = gathered(
        lambda: read_field_map(
            arguments.labels_map, None, own, option="--labels-map", fields=LABEL_SOURCE_FIELDS
        ),
        FieldMap(),
    )
    delay_s = None
    if arguments.label_delay is not None:
        delay_s = gathered(lambda: read_duration_s(arguments.label_delay, "--label-delay"), 0)
    if arguments.time_zone is not None:
        problems += check_time_zone("arguments", "--time-zone", arguments.time_zone)
    if not 0 <= arguments.max_rejects <= 1:
        found = str(arguments.max_rejects)
        problems.append(Problem("arguments", "--max-rejects", found, "a share from 0 to 1"))
    period = Period(
        gathered(lambda: _read_time("--since", arguments.since), None),
        gathered(lambda: _read_time("--until", arguments.until), None),
    )
    if problems:
        raise Misconfigured(problems)
    return HistoryRequest(
        source=arguments.source,
        field_map=_timed(mapped, arguments),
        form=form,
        policy=LabelPolicy(delay_s, arguments.legitimate_labels),
        format=arguments.format,
        period=period,
        labels=arguments.labels,
        labels_map=_timed(labels_map, arguments),
        labels_format=arguments.labels_format,
        rejects=arguments.rejects,
        max_rejects=arguments.max_rejects,
    )


def _timed(field_map: FieldMap, arguments: argparse.Namespace) -> FieldMap:
    return replace(
        field_map,
        time_zone=arguments.time_zone or field_map.time_zone,
        time_unit=arguments.time_unit or field_map.time_unit,
    )


def _read_time(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        expected = "a time such as 2026-05-01 or 2026-05-01T12:00"
        raise Misconfigured([Problem("arguments", option, text, expected)]) from error
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


@contextmanager
def open_history(
    request: HistoryRequest, open_bucket: OpenBucket, folder: Path | None = None
) -> "Iterator[FileHistory]":
    """
    List the files of *request* and open them as a history.

    *folder* is for what is needed meanwhile; one that stays spares a resume the survey, None is
    one that goes with the history. Raises Misconfigured, and Unavailable.
    """
    # Here, so that the help of a command needs no DuckDB.
    from consumer.replay.file_events import Reading  # noqa: PLC0415
    from consumer.replay.file_history import FileHistory, Workplace  # noqa: PLC0415

    with ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="fraudstream-replay-")))
        rejects = request.rejects or folder / "rejects.ndjson"
        files = list_files(request.source, request.period, open_bucket)
        beside, labels = _label_files(request, open_bucket, folder)
        reading = Reading(
            request.field_map,
            request.form,
            request.policy,
            request.format,
            joined=labels is not None,
            passed=frozenset(each.address for each in beside),
        )
        place = Workplace(folder, rejects, request.max_rejects)
        history = FileHistory([*files, *beside], reading, labels, place)
        yield stack.enter_context(closing(history))


def _label_files(
    request: HistoryRequest, open_bucket: OpenBucket, folder: Path
) -> tuple[list[Listed], LabelFiles | None]:
    """The source of labels: files of label events, or files to join with."""
    if request.labels is None:
        return [], None
    if "label" in request.field_map.fields:
        raise Misconfigured(
            [
                Problem(
                    "arguments", "--labels", "labels also by --map label=", "one source of labels"
                )
            ]
        )
    files = list_files(request.labels, Period(), open_bucket, "--labels")
    spool = Spool(folder / "objects", 0)
    path = spool.take(files[0])
    mapped = bool(request.labels_map.fields)
    found = detect(files[0].address, path, request.labels_format, mapped=mapped)
    spool.give_back(files[0])
    if found == "events":
        return files, None
    return [], LabelFiles(files, request.labels_map, request.policy, request.labels_format)
