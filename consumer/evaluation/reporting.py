"""A report from beginning to end: decisions in, ``report.json`` and ``report.html`` out."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console

from consumer.errors import Misconfigured, Problem
from consumer.evaluation.challenge import Cluster, Resampling
from consumer.evaluation.decisions import Decisions, Unlabelled
from consumer.evaluation.figures import Figures, build_figures
from consumer.evaluation.label_source import Labels, read_labels
from consumer.evaluation.notes import notes_of
from consumer.evaluation.page import render_page
from consumer.evaluation.places import find_files
from consumer.evaluation.reading import read_decisions
from consumer.evaluation.summary import print_summary

Place = str | Path


@dataclass(frozen=True, slots=True)
class Request:
    """
    What to report on: files, folders of parts or patterns, see ``find_files``.

    ``challengers`` holds the places of other decisions on the same transactions, by name.
    ``out`` is the folder of the report, None for none. ``unlabelled`` says what a
    transaction without a label counts as; training counts it alike.
    """

    decisions: Sequence[Place]
    out: Path | None
    currency: str
    labels: Sequence[Place] = ()
    challengers: Mapping[str, Sequence[Place]] | None = None
    unlabelled: Unlabelled = "legitimate"
    k: int = 100
    cluster: Cluster = "card"
    resamples: int = 200


@dataclass(frozen=True, slots=True)
class Report:
    """Figures and where they were written; None where nowhere."""

    told: Figures
    json_path: Path | None
    page_path: Path | None

    @property
    def figures(self) -> dict[str, Any]:
        """The content of ``report.json``."""
        content: dict[str, Any] = orjson.loads(self.encoded())
        return content

    def encoded(self) -> bytes:
        """``report.json``: indented, the same bytes for equal figures."""
        return encode(self.told)

    def print(self, console: Console) -> None:
        """Print the summary."""
        print_summary(self.told, console)
        if self.page_path is not None:
            console.print(f"\n{self.page_path}\n{self.json_path}", markup=False, soft_wrap=True)


def write_report(request: Request) -> Report:
    """
    Read, measure and write; both files are replaced whole, so that no reader sees half of one.

    Raises Misconfigured, naming file and row, for input that cannot be read, and where
    ``out`` cannot be written.
    """
    labels = read_labels(find_files("--labels", request.labels)) if request.labels else None
    champion = _read(request, "DECISIONS", request.decisions, labels)
    others = [
        (name, _read(request, "--challenger", places, labels))
        for name, places in (request.challengers or {}).items()
    ]
    how = Resampling(request.cluster, request.resamples, request.k)
    told = build_figures(champion, others, currency=request.currency, how=how)
    told = replace(told, notes=tuple(notes_of(told)))
    if request.out is None:
        return Report(told, None, None)
    return Report(
        told,
        _write(request.out / "report.json", encode(told)),
        _write(request.out / "report.html", render_page(told).encode()),
    )


def encode(figures: Figures) -> bytes:
    """See ``Report.encoded``."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY
    return orjson.dumps(figures, option=options)


def _read(
    request: Request, argument: str, places: Sequence[Place], labels: Labels | None
) -> Decisions:
    decisions = read_decisions(find_files(argument, places))
    if labels is not None:
        decisions = labels.apply(decisions)
    if request.unlabelled == "leave_out":
        return decisions
    return decisions.silence_is_legitimate()


def _write(path: Path, content: bytes) -> Path:
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        found = f"{path}: {error.strerror}"
        raise Misconfigured([Problem("arguments", "--out", found, "a folder to write")]) from error
    finally:
        with suppress(OSError):
            partial.unlink()
    return path
