"""``fraudstream config show``: the effective settings and where each value came from."""

import argparse
import sys

import orjson

from consumer.configuration import Configuration, load
from consumer.settings_text import effective_values, render_effective


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this command takes."""
    parser.add_argument("action", choices=("show",), help="print the effective settings")
    parser.add_argument("--json", action="store_true", help="as JSON, for scripts")


def run(arguments: argparse.Namespace) -> int:
    """Print the settings in effect; raises Misconfigured when there are none."""
    configuration = load(arguments.config)
    if arguments.json:
        sys.stdout.write(_render_json(configuration))
    else:
        sys.stdout.write(f"{render_effective(configuration)}\n")
    return 0


def _render_json(configuration: Configuration) -> str:
    """One object: key → its value and its origin."""
    shown = {
        key: {"value": value, "origin": configuration.origins[key]}
        for key, value in effective_values(configuration.settings).items()
    }
    return orjson.dumps(shown, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()
