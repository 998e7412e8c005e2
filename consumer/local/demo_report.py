"""What the demo says at its end: the counts, one caught fraud, and where to go on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from consumer.local.proof import Found, Sent, Verdict

_CURL = (
    'curl --aws-sigv4 "aws:amz:$AWS_DEFAULT_REGION:execute-api" --user "$DEMO_API_USER" '
    '"$DEMO_API_URL/v1/transactions?limit=3"'
)


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
    for title, counts in (("Reasons", summary["reasons"]), ("Rules that hit", summary["rules"])):
        listed = ", ".join(f"{count:,} {name}" for name, count in _mapping(counts).items())
        console.print(f"{title}: {listed or 'none'}", markup=False, soft_wrap=True)
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


def surest_fraud(sent: Sent, found: Found) -> Mapping[str, object] | None:
    """The document of the fraud that was caught with the highest score, if any was."""
    caught = [
        document
        for name, document in found.documents.items()
        if sent.frauds.get(name) and _mapping(document["decision"])["outcome"] != "approve"
    ]
    return max(
        caught, key=lambda document: _mapping(document["scores"]).get("fraud", 0), default=None
    )


def explain_a_fraud(console: Console, surest: Mapping[str, object] | None) -> None:
    """Show on what the *surest* caught fraud was declined or sent to review."""
    if surest is None:
        console.print("No fraud was caught this time.")
        return
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


def show_next_steps(
    console: Console,
    exports: Path | None,
    surest: Mapping[str, object] | None,
    link: str | None = None,
) -> None:
    """
    Commands to go on with: against what keeps running, or for a start of one's own.

    *exports* is the file of variables that point another shell at what keeps running,
    None when nothing does; *link* leads to the live page, once.
    """
    own = [
        (".venv/bin/fraudstream init my-settings", "commented settings for your own stream"),
        (".venv/bin/fraudstream check", "whether everything that they name is there and fit"),
    ]
    kept = [
        (".venv/bin/fraudstream status", "who works which shard, how far, what is stuck"),
        (".venv/bin/fraudstream search --decision review", "the newest of what it did not trust"),
        (f".venv/bin/fraudstream show {_id(surest)}", "a decision and all it was made on"),
        ("aws kinesis put-record …", "your own transaction, see docs/events.md"),
        (_CURL, "the newest decisions over REST, see docs/rest.md"),
    ]
    console.print()
    if exports is None:
        console.print("Go on with:", style="bold")
        again = ("KEEP=1 make demo", "the same, left running to look into and to send to")
        commands = [again, *own]
    else:
        console.print("Still running. For another shell:", style="bold")
        console.print(exports.read_text("utf-8"), markup=False, soft_wrap=True)
        console.print(f"or: . {_short(exports)}", markup=False, soft_wrap=True)
        console.print()
        if link is not None:
            console.print("The live page, good for one sign-in:", style="bold")
            console.print(f"  {link}", markup=False, soft_wrap=True)
            console.print()
        console.print("Go on there with:", style="bold")
        commands = [*kept, *own]
    for command, meaning in commands:
        console.print(f"  {command:<48} {meaning}", markup=False, soft_wrap=True)


def _id(document: Mapping[str, object] | None) -> object:
    return "TRANSACTION_ID" if document is None else document["transaction_id"]


def _lines(summary: Mapping[str, object]) -> list[tuple[str, str]]:
    latency = _mapping(_mapping(summary["latency_ms"])["receive_to_decision"])
    decisions, labels = _mapping(summary["decisions"]), _mapping(summary["labels"])
    skew, rest = _mapping(summary["online_offline"]), _mapping(summary["rest"])
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
        (f"{skew.get('compared', 0):,}", _skew_line(skew)),
        (
            f"{labels['due']:,}",
            f"documents due a label ({labels['corrected']:,} corrected), {labels['sent']:,} sent",
        ),
        (f"{rest['signed_requests']:,}", _rest_line(rest)),
        (f"{summary['endpoint_requests']:,}", "requests at the model endpoints"),
        (shown, "ms from receipt to stored decision (p50 / p99 / p99.9)"),
        (
            f"{summary['roc_auc']}",
            f"ROC AUC of the fraud score, average precision {summary['average_precision']}",
        ),
    ]


def _rest_line(rest: Mapping[str, Any]) -> str:
    """What was asked over REST, and what it got."""
    return (
        f"signed requests over REST: {rest['decided']:,} of the transactions decided, "
        f"{rest['shared_equal']:,} of {rest['shared_with_stream']:,} told as the stream decided "
        f"them; {rest['forged_refused']} of {rest['forged']} forged ones refused"
    )


def _skew_line(skew: Mapping[str, Any]) -> str:
    """What ``features verify`` said of a sample of the decisions."""
    return (
        f"values of {skew.get('sampled', 0):,} decisions recomputed from documents, "
        f"{skew.get('different', 0):,} different"
    )


def _mapping(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        message = f"expected an object, found {type(value).__name__}"
        raise TypeError(message)
    return value


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
