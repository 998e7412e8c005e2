"""``fraudstream models describe``: everything about one endpoint."""

import argparse
import sys

import orjson

from consumer import configuration
from consumer.deployment.catalogue import describe_endpoint
from consumer.model_actions.connection import open_control


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this action takes."""
    parser.add_argument("endpoint", metavar="ENDPOINT", help="its name")


def run(arguments: argparse.Namespace) -> int:
    """Print it as JSON. Raises Misconfigured and Unavailable."""
    settings = configuration.load(arguments.config).settings
    with open_control(settings) as control:
        described = describe_endpoint(control, arguments.endpoint)
    option = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    sys.stdout.buffer.write(orjson.dumps(described, option=option))
    sys.stdout.flush()
    return 0
