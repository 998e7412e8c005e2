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
        "train": Action(
            "consumer.model_actions.train_job",
            "train on SageMaker, with its built-in XGBoost or Random Cut Forest",
            "fraudstream models train rows.parquet --name fraud-2026-11 --out fraud.tar.gz",
        ),
        "deploy": Action(
            "consumer.model_actions.deploy",
            "bring a model to its endpoint, new or present, without an interruption",
            "fraudstream models deploy fraud.tar.gz --scale 2:8 --capture 10",
        ),
        "list": Action(
            "consumer.model_actions.list_endpoints",
            "list the endpoints with the models that they run",
            "fraudstream models list",
        ),
        "describe": Action(
            "consumer.model_actions.describe",
            "show everything about one endpoint, as JSON",
            "fraudstream models describe fraudstream-fraud",
        ),
        "compare": Action(
            "consumer.model_actions.compare",
            "compare two models: what they measured, or their scores of the same rows",
            "fraudstream models compare fraud.tar.gz endpoint:fraudstream-fraud "
            "--rows rows.parquet",
        ),
        "rollback": Action(
            "consumer.model_actions.rollback",
            "let an endpoint run what it ran before",
            "fraudstream models rollback fraudstream-fraud",
        ),
        "delete": Action(
            "consumer.model_actions.delete",
            "delete an endpoint, a configuration or a model that nothing live uses",
            "fraudstream models delete old-trial --versions --yes",
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
