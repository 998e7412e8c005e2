"""
``fraudstream process``: the worker of one shard, a child of the KCL.

Only the standard library and the guard are imported before the guard is up.
"""

import argparse
import gc

from consumer.stdout_guard import guard


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take nothing but the settings file, which every command takes."""
    del parser


def run(arguments: argparse.Namespace) -> int:
    """Work the shard that the KCL names on standard input, until it is told to end."""
    protocol = guard()
    # What is imported and built stays, and looking through it again and again took a quarter
    # of the start. ``process`` takes it up once all is built.
    gc.disable()
    from consumer.app import process  # noqa: PLC0415 - nothing may print before the guard
    from consumer.configuration import load  # noqa: PLC0415 - as above

    return process(load(arguments.config).settings, protocol)
