"""``fraudstream run``: the daemon."""

import argparse

from consumer.configuration import load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take nothing but the settings file, which every command takes."""
    del parser


def run(arguments: argparse.Namespace) -> int:
    """Run the daemon until it is told to stop; raises Misconfigured before it starts."""
    settings = load(arguments.config).settings
    # Imported once the settings are known to be good: the errors come at once.
    from consumer.app import run as run_daemon  # noqa: PLC0415

    return run_daemon(arguments, settings)
