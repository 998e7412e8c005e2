"""``fraudstream init``: the files to begin with, commented, in a folder of the user's."""

import argparse
import shlex
import sys
from pathlib import Path

from consumer.errors import Misconfigured, Problem
from consumer.settings import SHIPPED

FILES = (
    "fraudstream.yaml",
    "features.yaml",
    "rules.yaml",
    "lists/blocked_cards.ndjson",
    "lists/blocked_countries.ndjson",
    "lists/blocked_devices.ndjson",
    "lists/blocked_merchants.ndjson",
    "lists/trusted_cards.ndjson",
)
"""What a new installation edits."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this command takes."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="made if it does not exist")


def run(arguments: argparse.Namespace) -> int:
    """
    Copy the shipped files into the folder and say what to do next.

    Raises Misconfigured, having written nothing, when one of them exists or
    the folder cannot be written to.
    """
    folder: Path = arguments.folder
    targets = [folder / name for name in FILES]
    problems = [
        Problem("init", str(target), "a file that exists", "another folder, or the file removed")
        for target in targets
        if target.exists()
    ]
    if problems:
        raise Misconfigured(problems)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, target in zip(FILES, targets, strict=True):
            target.parent.mkdir(exist_ok=True)
            # Opened for a new file only: one that appeared meanwhile is not overwritten either.
            with target.open("xb") as file:
                file.write((SHIPPED / name).read_bytes())
    except OSError as error:
        found = error.strerror or str(error)
        raise Misconfigured(
            [Problem("init", str(error.filename or folder), found, "a folder to write to")]
        ) from error
    sys.stdout.write(_next_steps(targets))
    return 0


def _next_steps(targets: list[Path]) -> str:
    written = "".join(f"wrote {target}\n" for target in targets)
    config = shlex.quote(str(targets[0]))
    return (
        f"{written}\n"
        f"Edit {targets[0]} (stream, Redis, endpoints, Firehose), then:\n"
        f"  fraudstream config show --config {config}   # what is in effect, and why\n"
        f"  fraudstream run --config {config}           # the daemon\n"
    )
