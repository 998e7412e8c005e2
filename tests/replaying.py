"""Replays as a person runs them, over a generated history."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

ROOT = Path(__file__).parents[1]
START = datetime(2026, 3, 1, tzinfo=UTC)
LABEL_DELAY = timedelta(days=2)
FEATURES = """\
version: 1
entities:
  card: {key: card_id}
  merchant: {key: merchant_id}
features:
  - {name: amount, field: amount}
  - {name: "card_count_{window}", entity: card, aggregation: count, windows: [1h, 1d, 7d]}
  - {name: card_mean_7d, entity: card, aggregation: mean, windows: [7d]}
  - {name: card_gap, entity: card, aggregation: time_since_last}
  - {name: merchant_count_1d, entity: merchant, aggregation: count, windows: [1d]}
  - {name: merchant_frauds_7d, entity: merchant, aggregation: fraud_count, windows: [7d]}
"""
RULES = """\
version: 1
mode: live
rules:
  - id: busy_day
    version: 1
    when: f.card_count_1d >= 18.0
    outcome: decline
    reason: {code: busy_day, text: The card was used often within a day.}
    examples: {hits: [{f.card_count_1d: 18}], misses: [{f.card_count_1d: 17}]}
  - id: robbed_shop
    version: 1
    when: f.merchant_frauds_7d >= 15.0
    outcome: review
    reason: {code: robbed_shop, text: Many frauds became known at the shop.}
    examples: {hits: [{f.merchant_frauds_7d: 15}], misses: [{f.merchant_frauds_7d: 14}]}
"""
_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Event:
    """An event of the history with its time of release."""

    time: datetime
    data: bytes
    is_transaction: bool


def generate(
    transactions: int,
    *,
    start: datetime = START,
    span: timedelta = timedelta(days=12),
    label_delay: timedelta = LABEL_DELAY,
) -> list[Event]:
    """
    Transactions of a few cards and merchants, some in one second, and labels of a tenth.

    In order of release, as a replay sorts them: labels first where times are equal.
    """
    chance = random.Random(1)
    seconds = sorted(chance.randrange(int(span.total_seconds())) for _ in range(transactions))
    events: list[tuple[datetime, int, int, Event]] = []
    for number, second in enumerate(seconds):
        moment = start + timedelta(seconds=second)
        keys = {
            "card_id": f"card_{chance.randrange(40)}",
            "merchant_id": f"shop_{chance.randrange(9)}",
        }
        body = {
            "type": "transaction",
            "transaction_id": f"tx_{number}",
            "event_time": moment,
            **keys,
            "amount": chance.randrange(100, 90_000) / 100,
            "currency": "EUR",
        }
        events.append((moment, 1, number, Event(moment, orjson.dumps(body), True)))
        if chance.random() < 0.1:
            known = moment + label_delay
            label = {
                "type": "label",
                "transaction_id": f"tx_{number}",
                "label": chance.choice(["fraud", "fraud", "legitimate"]),
                "label_time": known,
                "source": "analyst",
                "event_time": moment,
                "keys": keys,
            }
            events.append((known, 0, number, Event(known, orjson.dumps(label), False)))
    return [event for *_, event in sorted(events, key=lambda each: each[:3])]


def write_history(path: Path, events: Sequence[Event]) -> Path:
    """*events* as NDJSON."""
    path.write_bytes(b"".join(event.data + b"\n" for event in events))
    return path


@dataclass
class Replayer:
    """Runs ``fraudstream replay`` in *folder* with *variables* as settings."""

    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def interpreter(self) -> list[str]:
        """What begins every command of the package."""
        return [sys.executable, "-m", "consumer"]

    @property
    def environment(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("FRAUDSTREAM_")}
        features, rules = self.folder / "features.yaml", self.folder / "rules.yaml"
        features.write_text(FEATURES)
        rules.write_text(RULES)
        return {
            **inherited,
            "PYTHONPATH": str(ROOT),
            "AWS_ACCESS_KEY_ID": "none",
            "AWS_SECRET_ACCESS_KEY": "none",
            "AWS_EC2_METADATA_DISABLED": "true",
            "FRAUDSTREAM_FEATURES__PATH": str(features),
            "FRAUDSTREAM_RULES__PATH": str(rules),
            "FRAUDSTREAM_DECISION__ANOMALY_REVIEW": "1000",
            **self.variables,
        }

    def start(self, *words: str | Path) -> "subprocess.Popen[bytes]":
        """A replay that runs beside the test; its output goes to ``replay.log``."""
        with (self.folder / "replay.log").open("ab") as log:
            return subprocess.Popen(
                self._command(words), env=self.environment, cwd=self.folder, stdout=log, stderr=log
            )

    def run(self, *words: str | Path) -> dict[str, Any]:
        """The summary of a replay that succeeds."""
        found = self.attempt(*words, "--json")
        assert found.returncode == 0, found.stderr.decode()
        summary: dict[str, Any] = json.loads(found.stdout)
        return summary

    def attempt(self, *words: str | Path) -> "subprocess.CompletedProcess[bytes]":
        """A replay that may fail."""
        return subprocess.run(
            self._command(words),
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            check=False,
            timeout=_PATIENCE_S,
        )

    def _command(self, words: Sequence[str | Path]) -> list[str]:
        return [*self.interpreter, "replay", *map(str, words)]


def read_state(path: Path) -> dict[str, Any]:
    """The saved state, empty where there is none."""
    try:
        state: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    return state


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait until *condition* holds."""
    deadline_s = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"never: {what}"
        time.sleep(0.005)
