"""``fraudstream models rollback``: let an endpoint run what it ran before."""

import argparse

from consumer import configuration
from consumer.deployment.endpoints import plan_rollback
from consumer.model_actions.connection import add_waiting, open_control, print_calls
from consumer.model_actions.deploy import change


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this action takes."""
    parser.add_argument("endpoint", metavar="ENDPOINT", help="its name")
    parser.add_argument(
        "--to", metavar="CONFIGURATION", help="this one; default: the one before the present one"
    )
    add_waiting(parser)


def run(arguments: argparse.Namespace) -> int:
    """Roll back; 1 where SageMaker ended with another. Raises Misconfigured, Unavailable."""
    settings = configuration.load(arguments.config).settings
    with open_control(settings) as control:
        plan = plan_rollback(control, arguments.endpoint, arguments.to)
        if arguments.dry_run:
            print_calls(plan.calls)
            return 0
        return change(control, plan, arguments)
