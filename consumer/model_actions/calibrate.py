"""``fraudstream models calibrate``: thresholds for a capacity of review and given costs."""

import argparse
import csv
import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

from consumer.errors import Misconfigured, Problem
from consumer.evaluation.decisions import Decisions
from consumer.evaluation.label_source import read_labels
from consumer.evaluation.places import find_files
from consumer.evaluation.reading import read_decisions
from consumer.search_command import plain_lines
from consumer.settings import DecisionSettings
from consumer.training.logged import is_dataset
from consumer.training.proposal import Bands, Costs, Outcome, Scored, compare
from consumer.training.scored import bands_in_force, of_datasets, of_decisions

_CAPACITY: Final = re.compile(r"(\d+(?:\.\d+)?)(?:/(day|week|month))?")
_DAYS: Final = {"day": 1, "week": 7, "month": 30.4375}
_FEWEST_FRAUDS: Final = 10
_HEAD: Final = (
    "choice",
    "fraud_review",
    "fraud_decline",
    "anomaly_review",
    "reviews/day",
    "busiest day",
    "declined/day",
    "frauds caught/day",
    "share",
    "money caught/day",
    "money missed/day",
    "wrongly declined/day",
    "cost/day",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this action takes."""
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="DECISIONS_OR_DATASET",
        help="decisions of fraudstream replay --to engine or of Firehose, or, with --model, data "
        "sets; files, folders or patterns",
    )
    parser.add_argument(
        "--review-capacity",
        type=_capacity,
        required=True,
        metavar="N/day",
        help="how many reviews people can do: 200/day, 1400/week",
    )
    parser.add_argument(
        "--cost-friction",
        type=_money,
        required=True,
        metavar="MONEY",
        help="what a legitimate transaction costs that is declined",
    )
    parser.add_argument(
        "--cost-fraud",
        type=_fraud_cost,
        default="1x",
        metavar="COST",
        help="what a fraud costs that passes: 1x its amount (default), 1.2x, a sum of money, or "
        "both: 1x+25",
    )
    parser.add_argument(
        "--cost-review", type=_money, default=0.0, metavar="MONEY", help="of a review (0)"
    )
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        type=Path,
        metavar="ARCHIVE",
        help="score data sets with it; once for each kind of model",
    )
    parser.add_argument(
        "--labels", nargs="+", default=[], metavar="SOURCE", help="labels for decisions"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="PATH",
        help="write the settings there, and the table beside it as .csv",
    )
    parser.add_argument("--json", action="store_true", help="as JSON, for scripts")


def run(arguments: argparse.Namespace) -> int:
    """Propose thresholds, and show what they and others mean. Raises Misconfigured."""
    scored, others = _read(arguments)
    frauds = int(scored.fraud.sum())
    if frauds < _FEWEST_FRAUDS:
        found = f"{frauds} known frauds in {len(scored.fraud):,} transactions"
        expected = f"at least {_FEWEST_FRAUDS}; --labels names where labels are"
        raise _problem("DECISIONS_OR_DATASET", found, expected)
    share, each = arguments.cost_fraud
    costs = Costs(arguments.cost_friction, arguments.cost_review, share, each)
    bands, table = compare(scored, costs, arguments.review_capacity, others)
    fragment = render_settings(bands, table[-1], scored, costs)
    if arguments.out is not None:
        arguments.out.write_text(fragment, "utf-8")
        _write_table(arguments.out.with_suffix(".csv"), table)
    if arguments.json:
        body = {"decision": _proposed(bands, scored), "table": [_plain(row) for row in table]}
        sys.stdout.buffer.write(orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE))
        sys.stdout.flush()
    else:
        rows = [_HEAD, *(_cells(row) for row in table)]
        sys.stdout.write("\n".join([*plain_lines(rows), "", fragment]))
    return 0


def render_settings(bands: Bands, outcome: Outcome, scored: Scored, costs: Costs) -> str:
    """Write the settings, with what they mean and what they come from as comments."""
    values = _proposed(bands, scored)
    DecisionSettings.model_validate(values)
    frauds, transactions = int(scored.fraud.sum()), len(scored.fraud)
    caught = f"{outcome.caught_share:.1%} of the frauds caught"
    reviews = f"{outcome.reviews:,.1f} reviews a day ({outcome.busiest_day:,} on the busiest)"
    passes = f"{costs.fraud_share:g} times its amount and {costs.fraud_each:g}"
    lines = (
        f"# {reviews}, {outcome.declined:,.1f} declined, {caught}",
        f"# from {transactions:,} transactions of {scored.days} days, {frauds:,} known frauds",
        f"# costs: {costs.friction:g} for a legitimate transaction that is declined,",
        f"# {costs.review:g} for a review, {passes} for a fraud that passes",
        "decision:",
    )
    keys = (f"  {name}: {value!r}" for name, value in values.items())
    return "\n".join([*lines, *keys]) + "\n"


def _proposed(bands: Bands, scored: Scored) -> dict[str, float]:
    """Leave out the thresholds of a score that no transaction had."""
    values = asdict(bands)
    absent = (
        *(("fraud_review", "fraud_decline") if np.isnan(scored.fraud_score).all() else ()),
        *(("anomaly_review",) if np.isnan(scored.anomaly_score).all() else ()),
    )
    return {name: value for name, value in values.items() if name not in absent}


def _read(arguments: argparse.Namespace) -> tuple[Scored, Mapping[str, Bands]]:
    files = find_files("DECISIONS_OR_DATASET", arguments.sources)
    datasets = [path for path in files if is_dataset(path)]
    if datasets and len(datasets) < len(files):
        other = next(path for path in files if path not in datasets)
        raise _problem("DECISIONS_OR_DATASET", f"{datasets[0]} and {other}", "one or the other")
    if datasets:
        if not arguments.model:
            raise _problem("--model", "none", "archives to score the data sets with")
        return of_datasets(datasets, arguments.model, _say), {}
    if arguments.model:
        raise _problem("--model", "decisions, which have their scores", "data sets beside it")
    decisions = _labelled(read_decisions(files), arguments.labels)
    in_force = bands_in_force(decisions)
    return of_decisions(decisions), {} if in_force is None else {"in force": in_force}


def _labelled(decisions: Decisions, places: Sequence[str]) -> Decisions:
    return read_labels(find_files("--labels", places)).apply(decisions) if places else decisions


def _cells(row: Outcome) -> tuple[str, ...]:
    bands = (row.bands.fraud_review, row.bands.fraud_decline, row.bands.anomaly_review)
    return (
        row.name,
        *(f"{value:.4g}" if math.isfinite(value) else "-" for value in bands),
        f"{row.reviews:,.1f}",
        f"{row.busiest_day:,}",
        f"{row.declined:,.1f}",
        f"{row.caught:,.1f}",
        f"{row.caught_share:.1%}",
        f"{row.money_caught:,.2f}",
        f"{row.money_missed:,.2f}",
        f"{row.wrong:,.1f}",
        f"{row.cost:,.2f}",
    )


def _plain(row: Outcome) -> dict[str, Any]:
    values = asdict(row)
    bands = values.pop("bands")
    return {**values, **{k: v if math.isfinite(v) else None for k, v in bands.items()}}


def _write_table(path: Path, table: Sequence[Outcome]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(_plain(table[0])))
        writer.writeheader()
        writer.writerows(_rows(table))


def _rows(table: Sequence[Outcome]) -> Iterator[dict[str, Any]]:
    for row in table:
        yield {k: round(v, 6) if isinstance(v, float) else v for k, v in _plain(row).items()}


def _capacity(text: str) -> float:
    match = _CAPACITY.fullmatch(text.strip())
    if match is None or float(match[1]) <= 0:
        message = f"expected reviews a day such as 200/day or 1400/week, not {text!r}"
        raise argparse.ArgumentTypeError(message)
    return float(match[1]) / _DAYS[match[2] or "day"]


def _money(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not (math.isfinite(value) and value >= 0):
        message = f"expected an amount in the base currency such as 5 or 2.50, not {text!r}"
        raise argparse.ArgumentTypeError(message)
    return value


def _fraud_cost(text: str) -> tuple[float, float]:
    share, each = 0.0, 0.0
    for part in text.split("+"):
        if part.strip().endswith("x"):
            share += _money(part.strip()[:-1])
        else:
            each += _money(part)
    return share, each


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


def _problem(key: str, found: str, expected: str) -> Misconfigured:
    return Misconfigured([Problem("arguments", key, found, expected)])
