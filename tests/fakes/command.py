"""A command that ends as it is told to."""

import argparse
import importlib

from consumer.errors import Misconfigured, Problem, Unavailable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ending")


def run(arguments: argparse.Namespace) -> int:
    if arguments.ending == "interrupted":
        raise KeyboardInterrupt
    if arguments.ending == "unavailable":
        raise Unavailable("redis", "does not answer")
    if arguments.ending == "misconfigured":
        raise Misconfigured([Problem("a", "b", "c", "d"), Problem("e", "f", "g", "h")])
    if arguments.ending.startswith("import:"):
        importlib.import_module(arguments.ending.removeprefix("import:"))
    return 3
