"""``fraudstream models show``: what is in an archive."""

import argparse
import hashlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from consumer.training import archive
from consumer.training.archive import Kind

_SHOWN = 40


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this action takes."""
    parser.add_argument("archive", type=Path, metavar="ARCHIVE", help="a model.tar.gz")
    parser.add_argument("--json", action="store_true", help="as JSON, for scripts")


def run(arguments: argparse.Namespace) -> int:
    """Print what the archive says of itself. Raises Misconfigured where a hash is wrong."""
    path: Path = arguments.archive
    kind, members = archive.read(path)
    shown = describe(path, kind, members)
    if arguments.json:
        sys.stdout.buffer.write(orjson.dumps(shown, option=orjson.OPT_APPEND_NEWLINE))
        sys.stdout.flush()
    else:
        sys.stdout.write("\n".join(_lines(shown)) + "\n")
    return 0


def describe(path: Path, kind: Kind, members: Mapping[str, bytes]) -> dict[str, Any]:
    """
    Everything that the *members* of the archive *path* say, for machines.

    Raises Misconfigured where one of those in JSON is none.
    """
    return {
        "path": str(path),
        "kind": kind,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "members": {name: len(data) for name, data in sorted(members.items())},
        "features": _json(path, members, "features.json"),
        "metrics": _json(path, members, "metrics.json"),
        "training": _json(path, members, "training.json"),
    }


def _json(path: Path, members: Mapping[str, bytes], name: str) -> Any:
    if name not in members:
        return None
    try:
        return orjson.loads(members[name])
    except orjson.JSONDecodeError as error:
        raise archive.problem(path, name, str(error), "JSON of this package") from error


def _lines(shown: Mapping[str, Any]) -> Iterator[str]:
    features, metrics = shown["features"], shown["metrics"]
    yield f"{shown['kind']} model, SHA-256 {shown['sha256']}"
    yield f"members    {', '.join(f'{name} {size:,} B' for name, size in shown['members'].items())}"
    yield f"features   {len(features['names'])}, hash {features['hash']}"
    for name in features["names"][:_SHOWN]:
        yield f"  {name}"
    if len(features["names"]) > _SHOWN:
        yield f"  … and {len(features['names']) - _SHOWN} more (--json shows all)"
    yield "measured"
    for name, value in metrics.items():
        if isinstance(value, int | float | str):
            yield (
                f"  {name:<24} {value:.6g}" if isinstance(value, float) else f"  {name:<24} {value}"
            )
    for name, value in (metrics.get("thresholds") or {}).items():
        yield f"  {name:<24} {value:.6g}"
