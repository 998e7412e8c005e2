"""Where decisions and labels lie: files, folders of parts and patterns, in a fixed order."""

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from consumer.errors import Misconfigured, Problem

SUFFIXES: Final = (".parquet", ".ndjson", ".json", ".jsonl", ".csv", ".gz")


def find_files(argument: str, places: Sequence[str | Path]) -> tuple[Path, ...]:
    """
    The files at *places*, each a file, a folder of parts or a pattern such as ``runs/*.parquet``.

    A folder gives its files with one of SUFFIXES or, as Firehose names them, none, at any
    depth and in order of name; what begins with a dot or an underscore is left out. Raises
    Misconfigured, naming *argument*, for a place that is not there or holds nothing to read.
    """
    problems: list[Problem] = []
    files: dict[Path, None] = {}
    for place in places:
        found = _at(str(place))
        files.update(dict.fromkeys(found))
        if not found:
            missing = "an empty folder" if Path(place).is_dir() else "nothing there"
            expected = f"a file, a folder or a pattern of {', '.join(SUFFIXES)}"
            problems.append(Problem("arguments", argument, f"{place}: {missing}", expected))
    if problems:
        raise Misconfigured(problems)
    return tuple(files)


def _at(place: str) -> list[Path]:
    path = Path(place)
    if path.is_file():
        return [path]
    if path.is_dir():
        return sorted(each for each in path.rglob("*") if _is_data(each, path))
    # Path.glob takes no pattern that begins with a slash.
    names = glob.glob(place, recursive=True)  # noqa: PTH207
    return sorted(path for name in names if (path := Path(name)).is_file())


def _is_data(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)
    # Firehose names its objects <stream>-<version>-<time>-<uuid>, without a suffix.
    named = path.suffix in SUFFIXES or not path.suffix
    return path.is_file() and not hidden and named and path.name != "report.json"
