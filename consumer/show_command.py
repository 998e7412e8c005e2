"""``fraudstream show``: one decision and all it was made on."""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import chain

import orjson

from consumer import configuration
from consumer.bands import THRESHOLDS
from consumer.errors import Misconfigured, Problem, Rejected
from consumer.evidence import (
    Contribution,
    Evidence,
    SecondFound,
    absent_entities,
    compare_amount,
    decode_evidence,
    format_time,
    other_features,
    printable,
    windows_of,
)
from consumer.inspection import open_search
from consumer.masking import is_card_number
from consumer.model import TransactionId
from consumer.search_command import plain_lines
from consumer.settings import Events, Settings

_INDENT = "  "


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this command takes."""
    parser.add_argument("transaction_id", help="the id that the event carried")
    parser.add_argument("--json", action="store_true", help="the stored document as it is")


def run(arguments: argparse.Namespace) -> int:
    """
    Print the evidence: 0, or 1 when there is no such document.

    Raises Misconfigured for a card number, and Unavailable.
    """
    settings = configuration.load(arguments.config).settings
    _check_id(arguments.transaction_id, settings.events)
    with ExitStack() as stack:
        document = open_search(settings, stack).read(TransactionId(arguments.transaction_id))
    if document is None:
        sys.stderr.write(_missing(arguments.transaction_id, settings))
        return 1
    if arguments.json:
        sys.stdout.buffer.write(document + b"\n")
        sys.stdout.flush()
        return 0
    try:
        evidence = decode_evidence(document)
    except Rejected as error:
        sys.stderr.write(f"fraudstream: {error.message}; --json prints it as it is\n")
        return 1
    sys.stdout.write("\n".join(render(evidence)) + "\n")
    return 0


def render(evidence: Evidence) -> Iterator[str]:
    """The evidence as lines for a person: what was decided first, then why, then whence."""
    known = evidence.known
    outcome = known.decision.outcome.upper()
    yield f"{printable(known.transaction_id)}: {outcome}"
    yield from (_INDENT + line for line in _pairs(_verdict(evidence)))
    units = ", ".join({printable(each.unit): None for each in known.explanation})
    title = f"explanation ({units}: above zero towards fraud)"
    yield from _section(title, _explanation(known.explanation))
    yield from _section("transaction", _pairs(known.transaction))
    absent = _absent_entities(known.features, known.transaction)
    yield from _section("features", chain(absent, _feature_lines(known.features)))
    yield from _section("timings", _pairs(_timings(evidence)))
    yield from _section("versions", _pairs(_versions(evidence)))
    yield from _section("further", _pairs(_flat(_rest(evidence))))


def _check_id(transaction_id: str, events: Events) -> None:
    """Refuse a card number: no document has it, and Redis would write it into its logs."""
    if "transaction_id" in events.pan_fields and is_card_number(transaction_id):
        expected = "the id of a transaction; events with a card number for it are dead letters"
        raise Misconfigured([Problem("arguments", "transaction_id", "a card number", expected)])


def _missing(transaction_id: str, settings: Settings) -> str:
    hours = settings.redis.document_ttl_s / 3_600
    rows = (
        f"its row is in the output of {settings.firehose.stream_name}"
        if settings.firehose.enabled
        else "and Firehose, which would keep its row, is switched off"
    )
    return (
        f"fraudstream: no document of {printable(transaction_id)}: the id is unknown here, or "
        f"older than the {hours:g} h that documents live (redis.document_ttl_s); {rows}\n"
    )


def _verdict(evidence: Evidence) -> dict[str, object]:
    known = evidence.known
    decision, rules = known.decision, known.rules
    lines: dict[str, object] = {
        "reasons": ", ".join(decision.reasons) or "none: nothing spoke against it",
        "fraud probability": "absent" if known.scores.fraud is None else known.scores.fraud,
        "anomaly score": "absent" if known.scores.anomaly is None else known.scores.anomaly,
    }
    if decision.texts:
        lines["that is"] = "; ".join(decision.texts)
    if decision.risk is not None:
        lines["risk with rules"] = decision.risk
    for name, hits in (("rules", rules.hits), ("in shadow", rules.shadow)):
        if hits:
            lines[name] = ", ".join(
                f"{hit} (a feature of it was warming)" if hit in rules.warming else hit
                for hit in hits
            )
    if rules.errors:
        lines["rules without value"] = ", ".join(rules.errors)
    if known.degraded:
        lines["degraded"] = f"decided without all scores: {', '.join(known.degraded)}"
    if known.second_assessment is not None:
        lines["assessed again"] = _second(known.second_assessment)
    if known.label is not None:
        label = known.label
        lines["label"] = f"{label.label}, by {label.source} at {format_time(label.time_ms)}"
    return lines


def _second(second: SecondFound) -> str:
    """The outcome with all scores, which changed nothing."""
    scores = f"fraud {second.scores.fraud}, anomaly {second.scores.anomaly}"
    why = f", for {', '.join(second.reasons)}" if second.reasons else ""
    return f"{second.outcome}{why}, at {format_time(second.assessed_ms)} with all scores: {scores}"


def _explanation(contributions: Sequence[Contribution]) -> Iterator[str]:
    """What moved the classifier most: above zero towards fraud."""
    yield from plain_lines(
        [
            (f"{each.contribution:+.2f}", f"{printable(each.feature)} = {each.value}")
            for each in contributions
        ]
    )


def _versions(evidence: Evidence) -> dict[str, object]:
    rules = evidence.known.rules
    hashes = {"rules": rules.hash, "lists": rules.lists_hash}
    hashes |= {
        f"{score} bands": bands
        for score in THRESHOLDS
        if (bands := _bands(score, evidence.known.decision.bands))
    }
    further = ("feature_hash", "prediction_id", "digest")
    known = {name: evidence.further[name] for name in further if name in evidence.further}
    return {**known, **{name: value for name, value in hashes.items() if value}}


def _bands(score: str, bands: Mapping[str, float | str]) -> str:
    """The thresholds of *score* that were applied, and whose they are."""
    words = [
        f"{name.removeprefix(score)[1:]} from {bands[name]}"
        for name in THRESHOLDS[score]
        if name in bands
    ]
    return f"{', '.join(words)} ({bands.get(f'{score}_from')})" if words else ""


def _feature_lines(features: Mapping[str, float | None]) -> Iterator[str]:
    """
    The features, those with windows as a table an entity.

    Below what adds up over time stands what the rest of the longest window makes usual.
    """
    for name, multiple in compare_amount(features):
        yield f"the amount is {multiple:.3g} times {name}"
    entities: dict[str, list[tuple[str, ...]]] = {}
    for each in windows_of(features):
        rows = entities.setdefault(each.entity, [])
        pairs = zip(each.windows, each.values, strict=True)
        rows.append((f"{each.entity} {each.what}", *(f"{w} {_plain(v)}" for w, v in pairs)))
        if each.usual:
            usual = zip(each.windows, each.usual, strict=False)
            rows.append((_INDENT + "usual", *(f"{w} {_plain(v)}" for w, v in usual)))
    for rows in entities.values():
        width = max(len(row) for row in rows)
        yield from plain_lines([(*row, *[""] * (width - len(row))) for row in rows])
    yield from _pairs(other_features(features))


def _absent_entities(
    features: Mapping[str, float | None], transaction: Mapping[str, object]
) -> Iterator[str]:
    """Name what the event does not: its features are 0, which else would read as brand new."""
    for entity in absent_entities(features, transaction):
        yield f"the event has no {entity}_id: the features {entity}_… are 0 for that"


def _timings(evidence: Evidence) -> dict[str, object]:
    """When it happened, arrived, was decided and stored, each with the time since the last."""
    known, origin = evidence.known, evidence.known.origin
    moments = {
        "event": known.event_ms,
        "arrived": origin.arrival_ms,
        "received": origin.received_ms,
        "decided": known.decided_ms,
        "stored": known.stored_ms,
    }
    lines: dict[str, object] = {}
    before: int | None = None
    for name, moment in moments.items():
        if moment is None:
            continue
        since = "" if before is None else f"  {moment - before:+,} ms"
        lines[name] = format_time(moment) + since
        before = moment
    place = [origin.source, origin.shard_id, origin.position]
    lines["came by"] = " ".join(part for part in place if part)
    return lines


def _rest(evidence: Evidence) -> dict[str, object]:
    shown = _versions(evidence)
    return {name: value for name, value in evidence.further.items() if name not in shown}


def _flat(fields: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Nested objects as one level of dotted names; lists as JSON."""
    flat: dict[str, object] = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value if isinstance(value, str) else orjson.dumps(value).decode()
    return flat


def _section(title: str, lines: Iterator[str]) -> Iterator[str]:
    content = list(lines)
    if content:
        yield ""
        yield title
        yield from (_INDENT + line for line in content)


def _pairs(fields: Mapping[str, object]) -> Iterator[str]:
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        text = _plain(value) if isinstance(value, float) else printable(value)
        yield f"{printable(name):<{width}}  {text}"


def _plain(number: float) -> str:
    """At most six significant digits, without an exponent for what is counted."""
    return f"{number:.2f}".rstrip("0").rstrip(".") if abs(number) >= 1 else f"{number:.3g}"
