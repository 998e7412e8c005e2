"""``fraudstream serve``: the REST service and the live page."""

import argparse
import sys

from consumer.clock import SystemClock
from consumer.configuration import load
from consumer.errors import Misconfigured


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take nothing but the settings file, which every command takes."""
    del parser


def run(arguments: argparse.Namespace) -> int:
    """
    Serve until told to stop; 0 after everything that was accepted is answered.

    Raises Misconfigured and Unavailable before it listens.
    """
    configuration = load(arguments.config)
    # Imported once the settings are known to be good: the errors come at once.
    from consumer.api.serving import serve  # noqa: PLC0415

    try:
        return serve(configuration.settings, SystemClock(), sys.stderr)
    except Misconfigured as error:
        raise Misconfigured([configuration.locate(each) for each in error.problems]) from error
