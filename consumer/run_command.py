"""``fraudstream run``: the daemon."""

import argparse

from consumer.configuration import load
from consumer.errors import Misconfigured


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take nothing but the settings file, which every command takes."""
    del parser


def run(arguments: argparse.Namespace) -> int:
    """Run the daemon until it is told to stop; raises Misconfigured before it starts."""
    configuration = load(arguments.config)
    # Imported once the settings are known to be good: the errors come at once.
    from consumer.app import run as run_daemon  # noqa: PLC0415

    try:
        return run_daemon(arguments, configuration.settings)
    except Misconfigured as error:
        raise Misconfigured([configuration.locate(each) for each in error.problems]) from error
