"""What the demo says at its end: the counts, one caught fraud, and where to go on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from consumer.local.daemon import DaemonProcess
from consumer.local.demo_place import Place
from consumer.local.proof import Found, Sent, Verdict


def show(console: Console, verdict: Verdict, path: Path) -> None:
    """Print the summary as a table, then the verdict and every failure."""
    summary = verdict.summary
    table = Table(show_header=False, box=None, padding=(0, 2))
    table.add_column(justify="right")
    table.add_column()
    for value, meaning in _lines(summary):
        table.add_row(value, meaning)
    console.print()
    console.print(table)
    console.print()
    if verdict.failures:
        console.print("NOT PROVED:", style="bold red")
        for failure in verdict.failures:
            console.print(f"  - {failure}", markup=False, soft_wrap=True)
    else:
        console.print(
            "Proved: every transaction was decided exactly once, with right features.",
            style="bold green",
        )
    console.print(f"All figures: {_short(path)}", markup=False, soft_wrap=True)


def explain_a_fraud(console: Console, sent: Sent, found: Found) -> None:
    """Show on what the surest caught fraud was declined or sent to review."""
    caught = [
        document
        for name, document in found.documents.items()
        if sent.frauds.get(name) and _mapping(document["decision"])["outcome"] != "approve"
    ]
    if not caught:
        console.print("No fraud was caught this time.")
        return
    surest = max(caught, key=lambda document: _mapping(document["scores"])["fraud"])
    transaction, features = _mapping(surest["transaction"]), _mapping(surest["features"])
    scores, decision = _mapping(surest["scores"]), _mapping(surest["decision"])
    console.print()
    console.print("One fraud it caught:", style="bold")
    lines = [
        (
            f"{surest['transaction_id']}: {transaction['amount']:.2f} {transaction['currency']} "
            f"at {transaction['merchant_id']}, card {transaction['card_id']}"
        ),
        (
            f"decision {decision['outcome']} ({', '.join(decision['reasons'])}): "
            f"fraud probability {scores['fraud']:.3f}, anomaly score {scores['anomaly']:.2f}"
        ),
        (
            f"amount {features['amount']:.2f}, where this card's mean of 30 days is "
            f"{features['card_mean_30d']:.2f} and its largest {features['card_max_30d']:.2f}"
        ),
        (
            f"{features['card_count_1h']:.0f} payments of the card within the hour, "
            f"{features['card_count_1d']:.0f} within the day, "
            f"{features['card_seconds_since_last']:.0f} s after the one before"
        ),
    ]
    explanation = surest.get("explanation")
    if isinstance(explanation, list):
        lines += [
            f"{part['contribution']:+.2f} log-odds by {part['feature']} = {part['value']:g}"
            for part in explanation
        ]
    for line in lines:
        console.print(f"  {line}", markup=False, soft_wrap=True)


def show_next_steps(console: Console, place: Place, daemon: DaemonProcess | None) -> None:
    """Three commands to go on with; with the addresses when everything keeps running."""
    console.print()
    if daemon is not None:
        console.print("Still running:", style="bold")
        for name, url in (
            ("metrics and health", f"{daemon.url}/metrics, /healthz, /readyz"),
            ("Redis", place.stack.redis_url),
            ("AWS (emulated)", place.stack.aws_url),
            ("model endpoints", place.stack.endpoints_url),
        ):
            console.print(f"  {name}: {url}", markup=False, soft_wrap=True)
        console.print()
    console.print("Go on with:", style="bold")
    for command, meaning in (
        ("KEEP=1 make demo", "the same, left running with its addresses printed"),
        (".venv/bin/fraudstream init my-settings", "commented settings for your own stream"),
        (".venv/bin/fraudstream local", "an empty stack to send your own events to"),
    ):
        console.print(f"  {command:<42} {meaning}", markup=False, soft_wrap=True)


def _lines(summary: Mapping[str, object]) -> list[tuple[str, str]]:
    latency = _mapping(_mapping(summary["latency_ms"])["receive_to_decision"])
    decisions = _mapping(summary["decisions"])
    outcomes = ", ".join(f"{count:,} {name}" for name, count in sorted(decisions.items()))
    shown = " / ".join(f"{latency[name]:.0f}" for name in ("p50", "p99", "p999") if latency)
    return [
        (f"{summary['unique']:,}", "transactions sent, repeats not counted"),
        (f"{summary['duplicates']:,}", "repeats of them, decided no second time"),
        (f"{summary['decided']:,}", f"decisions: {outcomes}"),
        (f"{summary['documents']:,}", "decision documents in Redis"),
        (f"{summary['firehose_unique']:,}", f"of them in S3, {summary['firehose_rows']:,} rows"),
        (
            f"{summary['malformed']:,}",
            f"malformed records, {summary['dead_letters']:,} dead letters",
        ),
        (f"{summary['degraded']:,}", "decisions without a score"),
        (
            f"{summary['features_checked']:,}",
            f"feature values recomputed, {summary['features_wrong']:,} wrong",
        ),
        (f"{summary['endpoint_requests']:,}", "requests at the model endpoints"),
        (shown, "ms from receipt to stored decision (p50 / p99 / p99.9)"),
        (
            f"{summary['roc_auc']}",
            f"ROC AUC of the fraud score, average precision {summary['average_precision']}",
        ),
    ]


def _mapping(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        message = f"expected an object, found {type(value).__name__}"
        raise TypeError(message)
    return value


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
