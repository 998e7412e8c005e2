"""Data sets to train on: frauds that the features tell, with labels that come late."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from consumer.features.specification import parse_plan
from consumer.training.dataset_file import Block, DatasetWriter, Head

FEATURES = """\
version: 1
entities:
  card: {key: card_id}
features:
  - {name: amount, field: amount}
  - {name: card_count_1h, entity: card, aggregation: count, windows: [1h]}
  - {name: card_seconds, entity: card, aggregation: time_since_last}
  - {name: card_max_1d, entity: card, aggregation: max, windows: [1d]}
"""
"""The file of features that the rows say they were made with."""

PLAN = parse_plan(FEATURES, source="features.yaml")
NAMES, HASH = PLAN.names, PLAN.hash
DAY_MS = 86_400_000
FIRST_MS = 1_767_225_600_000  # 2026-01-01


@dataclass(frozen=True)
class Made:
    """How a data set is made; ``first`` numbers the transactions, ``day`` is its first one."""

    rows: int = 6_000
    days: int = 40
    seed: int = 3
    first: int = 0
    day: int = 0
    share: float = 0.03
    names: tuple[str, ...] = NAMES
    feature_hash: str = HASH
    delay_days: int = 7
    labelled: bool = True


def values_of(made: Made) -> tuple[np.ndarray, np.ndarray]:
    """Features, shape (n, d), and who is a fraud: large amounts after many payments, mostly."""
    random = np.random.default_rng(made.seed)
    amount = random.lognormal(3, 1, made.rows)
    count = random.poisson(2, made.rows).astype(float)
    seconds = random.exponential(50_000, made.rows)
    noise = random.lognormal(3, 1, made.rows)
    risk = np.log(amount) + count - np.log(seconds + 60) / 4 + random.normal(0, 0.5, made.rows)
    values = np.column_stack([amount, count, seconds, noise])
    return values[:, : len(made.names)], risk > np.quantile(risk, 1 - made.share)


def block_of(made: Made) -> Block:
    """The rows of a data set, evenly over its days."""
    values, fraud = values_of(made)
    times = FIRST_MS + made.day * DAY_MS + np.linspace(0, made.days * DAY_MS - 1, made.rows)
    times_ms = times.astype(np.int64).tolist()
    labels: Sequence[bool | None] = fraud.tolist() if made.labelled else [None] * made.rows
    return Block(
        transaction_ids=[f"tx_{made.first + n}" for n in range(made.rows)],
        times_ms=times_ms,
        card_ids=[f"card_{n % 97}" for n in range(made.rows)],
        amounts=values[:, 0].tolist(),
        frauds=labels,
        label_times_ms=[
            at + made.delay_days * DAY_MS if label else None
            for at, label in zip(times_ms, labels, strict=True)
        ],
        values=values,
    )


def write_dataset(path: Path, made: Made, block: Block | None = None) -> Path:
    """Write a data set as *made* says, of its rows unless others are given."""
    head = Head(
        features=made.names,
        feature_hash=made.feature_hash,
        label_delay_s=made.delay_days * 86_400,
        source=("generated",),
    )
    with DatasetWriter(path, head) as writer:
        writer.write(block_of(made) if block is None else block)
    return path
