"""``fraudstream models``: look at models, choose thresholds, bring them to endpoints."""

import argparse
import importlib
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NoReturn

from consumer.masking import mask_text


@dataclass(frozen=True, slots=True)
class Action:
    """
    What the help says of an action, and the module that does it.

    The module has ``add_arguments(parser)`` and ``run(arguments)``, as a command has, and is
    imported only when it is asked for.
    """

    module: str
    summary: str
    example: str


ACTIONS: Final[Mapping[str, Action]] = MappingProxyType(
    {
        "calibrate": Action(
            "consumer.model_actions.calibrate",
            "propose thresholds from a replay, for a given capacity of review and given costs",
            "fraudstream models calibrate decisions.parquet --review-capacity 200/day "
            "--cost-friction 5 --out thresholds.yaml",
        ),
        "show": Action(
            "consumer.model_actions.show",
            "show what is in an archive, after checking every hash in it",
            "fraudstream models show models/fraud.tar.gz",
        ),
    }
)


class _LazyParser(argparse.ArgumentParser):
    """Asks its module for arguments when it is its turn; quotes no card number."""

    module: str | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as argparse does, with the arguments of the module."""
        module, self.module = self.module, None
        if module is not None:
            importlib.import_module(module).add_arguments(self)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Refuse wrong arguments."""
        super().error(mask_text(message))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this command takes."""
    actions = parser.add_subparsers(
        dest="action", required=True, metavar="ACTION", parser_class=_LazyParser
    )
    for name, action in ACTIONS.items():
        each = actions.add_parser(
            name,
            help=action.summary,
            description=textwrap.fill(action.summary, 80),
            epilog=f"example:\n  {action.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        each.module = action.module


def run(arguments: argparse.Namespace) -> int:
    """Do what is asked. Raises Misconfigured and Unavailable."""
    return int(importlib.import_module(ACTIONS[arguments.action].module).run(arguments))
