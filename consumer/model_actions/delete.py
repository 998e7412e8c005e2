"""``fraudstream models delete``: an endpoint, a configuration or a model, unless it is live."""

import argparse
import sys

from consumer import configuration
from consumer.deployment.calls import carry_out
from consumer.deployment.catalogue import plan_deletion
from consumer.errors import Misconfigured, Problem
from consumer.model_actions.connection import open_control, print_calls, say
from consumer.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this action takes."""
    parser.add_argument("name", metavar="NAME", help="what it is called")
    parser.add_argument(
        "--kind",
        choices=("endpoint", "configuration", "model"),
        default="endpoint",
        help="what it is (default %(default)s)",
    )
    parser.add_argument(
        "--versions",
        action="store_true",
        help="with an endpoint, also configurations and models that were made for it",
    )
    parser.add_argument("--live", action="store_true", help="also the endpoint that workers ask")
    parser.add_argument("--yes", action="store_true", help="do it without asking")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the calls that it would make, one a line"
    )


def run(arguments: argparse.Namespace) -> int:
    """Delete; 1 where nobody said yes. Raises Misconfigured and Unavailable."""
    settings = configuration.load(arguments.config).settings
    if arguments.kind == "endpoint" and not arguments.live:
        _check_unused(settings, arguments.name)
    with open_control(settings) as control:
        calls = plan_deletion(control, arguments.kind, arguments.name, versions=arguments.versions)
        if arguments.dry_run:
            print_calls(calls)
            return 0
        if not (arguments.yes or _agreed(f"delete the {arguments.kind} {arguments.name}?")):
            say("nothing deleted; --yes deletes without asking")
            return 1
        carry_out(control, calls)
    say(f"deleted: {', '.join(call.operation.removeprefix('delete_') for call in calls)}")
    return 0


def _check_unused(settings: Settings, name: str) -> None:
    for key, own in (
        ("scoring.fraud.name", settings.scoring.fraud.name),
        ("scoring.anomaly.name", settings.scoring.anomaly.name),
        ("scoring.explanation_endpoint", settings.scoring.explanation_endpoint),
    ):
        if own == name:
            found = f"the endpoint of {key}, which workers of these settings ask"
            expected = "another endpoint, or --live as well"
            raise Misconfigured([Problem("arguments", name, found, expected)])


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        return False
    return input(f"{question} [y/N] ").strip().lower() == "y"
