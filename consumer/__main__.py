"""
The command line: parses arguments, nothing else.

Each command is a module with ``add_arguments(parser)`` and ``run(arguments)``,
imported only when it is asked for: the worker of a shard must have taken
standard output away from everyone before anything prints, and ``--help`` must
work without the extras that a command needs.
"""

import argparse
import importlib
import os
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn

import consumer
from consumer.errors import Misconfigured, Unavailable
from consumer.masking import mask_text, printable

EX_OK = 0
EX_MISCONFIGURED = 2
EX_UNAVAILABLE = os.EX_UNAVAILABLE
EX_INTERRUPTED = 130

_DAEMONS = frozenset({"run", "process", "serve", "local"})

_EPILOG = f"""\
exit codes:
  {EX_OK:<4} done
  1    the command ran and what it reports is a failure
  {EX_MISCONFIGURED:<4} wrong arguments or settings; every problem is listed
  {EX_UNAVAILABLE:<4} something it depends on (Redis, AWS, an endpoint) does not answer
  {os.EX_SOFTWARE:<4} run: restarts did not help
  {os.EX_TEMPFAIL:<4} run: workers were cut off while they drained
  {EX_INTERRUPTED:<4} interrupted with Ctrl-C
"""


@dataclass(frozen=True, slots=True)
class Command:
    """
    What the help says of a command, and the module that does it.

    ``summary`` is its line in the main help, None for one that only the daemon
    itself starts; ``extra`` names the extra of the package that it needs.
    """

    module: str
    summary: str | None
    description: str
    example: str
    extra: str | None = None
    config: bool = True


COMMANDS = {
    "run": Command(
        "consumer.run_command",
        "run the daemon",
        "Run the daemon: start the Kinesis Client Library, which runs one worker a shard, restart "
        "it when it dies, and serve /metrics, /healthz and /readyz. SIGTERM drains and "
        "checkpoints every shard before it ends.",
        "fraudstream run --config /etc/fraudstream/fraudstream.yaml",
    ),
    "serve": Command(
        "consumer.serve_command",
        "serve decisions over HTTP, and the live page",
        "Serve the REST API: decide transactions, search and read decisions, take labels, by "
        "the engine of the daemon and its settings. Requests are signed (AWS Signature Version 4). "
        "Serves the live page at / and prints a link that signs in once. SIGTERM drains before it "
        "ends.",
        "fraudstream serve --config /etc/fraudstream/fraudstream.yaml",
        extra="api",
    ),
    "process": Command(
        "consumer.process_command",
        None,
        "Work one shard, speaking the protocol of the Kinesis Client Library on standard input "
        "and output. The daemon starts it; nobody else needs to.",
        "fraudstream process --config /etc/fraudstream/fraudstream.yaml",
    ),
    "search": Command(
        "consumer.search_command",
        "find decided transactions",
        "Find decided transactions by card, merchant, device, decision, reason, label, amount, "
        "time and scores; without any of them the newest. A table on a terminal, plain columns "
        "elsewhere, stored documents a line each with --json.",
        "fraudstream search --card card_7f3a --decision decline --since 24h",
    ),
    "show": Command(
        "consumer.show_command",
        "show one decision and all it was made on",
        "Show the decision on one transaction: reasons, scores, features against what is usual "
        "for the card, timings, versions and label. Exit code 1 when there is no such document "
        "(any more).",
        "fraudstream show tx_4711",
    ),
    "check": Command(
        "consumer.check_command",
        "look at everything the daemon needs, with remedies",
        "Look at everything that the daemon depends on and try what it will do: settings, rules, "
        "Java, stream, lease table, Redis, endpoints, Firehose, dead letters, clocks. One "
        "line a check, with what to do about it. Loads the functions, makes the index and puts "
        "one object that it deletes again. Exit code 1 when something failed, 2 for settings.",
        "fraudstream check --rate 1000",
    ),
    "status": Command(
        "consumer.status_command",
        "show who works which shard, and what is stuck",
        "Show every shard with its owner, lease, checkpoint and lag, and what the daemon says of "
        "its workers, breakers and versions. Looks at the leases twice, since a lease that is "
        "held moves. Exit code 1 when a shard is stuck or nothing runs.",
        "fraudstream status --limit 30",
    ),
    "rules": Command(
        "consumer.rules_command",
        "check and try the rules, and see what they may use",
        "Check the rules and lists (lint), run the examples beside each rule (test), list every "
        "name that a rule may use (fields), or show the rules. Try other rules on decisions on "
        "record (backtest): what they match, newly decline and newly miss, by what transactions "
        "turned out to be. Exit code 1 when something is wrong with them.",
        "fraudstream rules backtest new-rules.yaml --source decisions/ --labels labels.csv",
        extra="replay",
    ),
    "lists": Command(
        "consumer.lists_command",
        "look at named lists and change them",
        "Show the lists that rules look into, or add and remove a value. Running workers take a "
        "change over within rules.poll_s seconds. Who changed what, when and why is kept beside "
        "the lists. Exit code 1 when the list or the value is not there.",
        'fraudstream lists add blocked_cards card_7f3a --until 2026-12-31 --reason "stolen"',
    ),
    "features": Command(
        "consumer.features_command",
        "check that live features equal a recomputation, or plan a change of their list",
        "Draw a sample of stored decisions, recompute their features from the documents of the "
        "same cards, merchants and devices, and compare every value (verify). Shows what "
        "differs with its likely cause, and what documents do not cover. Exit code 1 when a "
        "card's features differ, or others by more than --limit. What another list adds, how many "
        "bytes an entity, how long it warms up, and which rules and models it concerns (plan). "
        "Exit code 1 when rules would not fit.",
        "fraudstream features plan new-features.yaml",
    ),
    "train": Command(
        "consumer.train_command",
        "train both models from data sets",
        "Train the classifier and the anomaly forest, and write their archives. Data sets come "
        "from fraudstream replay --to dataset, or from the rows that Firehose delivered and "
        "labels for them. Splits by time with a gap for labels to arrive; the same data sets, "
        "settings and seed give the same archives.",
        "fraudstream train history.parquet --out models --settings train.yaml",
        extra="train",
    ),
    "models": Command(
        "consumer.models_command",
        "look at trained models, and choose thresholds for them",
        "Show what an archive holds (show), and propose thresholds from a replay for a capacity "
        "of review and given costs (calibrate). Each action has a --help of its own.",
        "fraudstream models show models/fraud.tar.gz",
        extra="train",
    ),
    "report": Command(
        "consumer.report_command",
        "measure decisions against labels: figures and a page",
        "Measure how good decisions were: those of a replay, or what Firehose wrote with a source "
        "of labels. Writes report.json and report.html with precision and recall, money caught "
        "and blocked wrongly, card precision, every rule, calibration and latency, and how "
        "challengers differ. Prints a summary.",
        "fraudstream report decisions/ --labels labels.csv --challenger new=other.parquet",
        extra="train",
    ),
    "replay": Command(
        "consumer.replay_command",
        "send history through the stream, the engine or the features",
        "Replay history from S3 or local files, in order of time: into the stream, through the "
        "engine of a worker, into the features alone, or into a data set for training. Goes on "
        "exactly where it was interrupted with --resume. Exit code 130 when a signal ended it.",
        "fraudstream replay s3://bank-history/2026/ --mapping mapping.yaml --to dataset "
        "training.parquet --scratch",
        extra="replay",
    ),
    "redrive": Command(
        "consumer.redrive_command",
        "look at dead letters and send them again",
        "List the dead letters, show one, or send letters again, as they are or mended: back into "
        "the stream, or straight through the engine. Each is sent at most once unless --again "
        "says otherwise; what was sent is marked beside the letter. Exit code 1 when a letter was "
        "not sent or not accepted.",
        'fraudstream redrive send --error no_conversion --patch \'{"currency": "EUR"}\'',
    ),
    "local": Command(
        "consumer.local.command",
        "start an emulated AWS, Redis and model endpoints here",
        "Start everything the daemon needs on this machine, without Docker: an emulated AWS, a "
        "real Redis with JSON and Search, and model endpoints that speak SageMaker Runtime. "
        "Prints the addresses and the variables to export; Ctrl-C ends all of it.",
        "fraudstream local",
        extra="local",
    ),
    "simulate": Command(
        "consumer.local.simulator.command",
        "send simulated card traffic",
        "Simulate cardholders, merchants and fraud, and send their transactions: history to S3 "
        "or a folder, live traffic to Kinesis. The same seed gives the same traffic.",
        "fraudstream simulate --transactions 1000 --rate 100 --seed 7",
        extra="local",
    ),
    "init": Command(
        "consumer.init_command",
        "write commented default settings into a folder",
        "Write the settings with their defaults and meanings into a folder. Overwrites nothing.",
        "fraudstream init config",
        config=False,
    ),
    "config": Command(
        "consumer.configuration_command",
        "show the effective settings",
        "Show every setting in effect and where it came from: the default, a line of the file or "
        "an environment variable. Passwords are masked.",
        "fraudstream config show --json",
    ),
}


def main(
    argv: Sequence[str] | None = None, commands: Mapping[str, Command] = MappingProxyType(COMMANDS)
) -> int:
    """
    Run the one of *commands* that *argv* (by default the process's) names.

    Returns the exit code: what the command returns, or that of the error it
    raised. Wrong arguments end in SystemExit with code 2, as argparse does it.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    name = next((word for word in words if not word.startswith("-")), None)
    try:
        parser = build_parser(commands, name)
        arguments = parser.parse_args(words)
        if arguments.command is None:
            parser.print_help()
            return EX_OK
        return int(importlib.import_module(commands[arguments.command].module).run(arguments))
    except Misconfigured as error:
        arguments_only = all(problem.source == "arguments" for problem in error.problems)
        # Other commands may find out what is wrong in the middle.
        cannot = "cannot start:" if name in _DAEMONS else "cannot be done:"
        head = "wrong arguments:" if arguments_only else cannot
        return _fail(EX_MISCONFIGURED, head, *(str(p) for p in error.problems))
    except Unavailable as error:
        return _fail(EX_UNAVAILABLE, str(error))
    except KeyboardInterrupt:
        return EX_INTERRUPTED
    except ModuleNotFoundError as error:
        chosen = commands.get(name or "")
        extra = None if chosen is None else chosen.extra
        if extra is None or error.name is None or error.name.split(".")[0] == "consumer":
            raise
        return _fail(
            EX_MISCONFIGURED,
            f"{name} needs {error.name}, which is not installed; "
            f"this command needs: pip install 'fraudstream[{extra}]'",
        )


class _Parser(argparse.ArgumentParser):
    """argparse quotes what it does not understand; that may be a card number, and be logged."""

    def error(self, message: str) -> NoReturn:
        super().error(mask_text(message))


def build_parser(commands: Mapping[str, Command], chosen: str | None) -> argparse.ArgumentParser:
    """Build the parser of every command; only the *chosen* one's module is imported."""
    parser = _Parser(
        prog="fraudstream",
        description="Decide card transactions of a Kinesis stream, each one once.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version", action="version", version=f"fraudstream {consumer.__version__}"
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, command in commands.items():
        _add_command(subparsers, name, command, chosen=name == chosen)
    return parser


def _add_command(
    subparsers: "argparse._SubParsersAction[_Parser]",
    name: str,
    command: Command,
    *,
    chosen: bool,
) -> None:
    # One with neither help nor a place in the metavar does not show in the main help.
    add = (
        subparsers.add_parser
        if command.summary is None
        else partial(subparsers.add_parser, help=command.summary)
    )
    parser = add(
        name,
        description=textwrap.fill(command.description, 80),
        epilog=f"example:\n  {command.example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if command.config:
        _add_config(parser, None)
    if chosen:
        importlib.import_module(command.module).add_arguments(parser)
        if command.config:
            for action in _actions(parser):
                _add_config(action, argparse.SUPPRESS)


def _add_config(parser: argparse.ArgumentParser, default: str | None) -> None:
    parser.add_argument(
        "--config",
        type=Path,
        metavar="PATH",
        default=default,
        help="settings file (default: config/fraudstream.yaml, then "
        "/etc/fraudstream/fraudstream.yaml, then built-in defaults)",
    )


def _actions(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """The parsers of what a command can do, after which people write its options, too."""
    return [
        chosen
        for action in parser._actions  # noqa: SLF001 - argparse tells them in no other way
        if isinstance(action, argparse._SubParsersAction)  # noqa: SLF001
        for chosen in action.choices.values()
    ]


def _fail(code: int, *lines: str) -> int:
    """Say *lines* on standard error and return *code*."""
    # Names of columns, files and keys may be anything at all.
    sys.stderr.write("fraudstream: " + printable("\n  ".join(lines)) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
