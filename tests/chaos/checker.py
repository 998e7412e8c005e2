"""
Compares everything that a run left with what the ledger and the oracle say.

Nothing of the engine is used for what is expected: transactions come from the ledger,
features from ``consumer.local.oracle``, scores from the formula of the endpoints that
the harness serves, rules, outcomes and rows from ``expected.py``. State of entities is read
through the package, since its bytes are the package's own.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from consumer.features.plan import Plan, Windowed
from consumer.local.findings import build_oracle
from consumer.local.oracle import Event, Oracle, Verdict
from tests.chaos.expected import expected_decision, expected_row
from tests.chaos.found import Document, Found
from tests.chaos.traffic import Due, Ledger, Placed, event_time_ms

_WEEK_S = 604_800
# At the newest event, at edges of windows around it, and when its labels have matured.
_MOMENTS_S = (0, 1_800, -3_600, _WEEK_S + 7_200, 3 * _WEEK_S)
_SHOWN = 12
_TIMES = ("received_time", "decided_time")
_NOT_IN_DOCUMENTS = {"type", "transaction_id", "event_time"}

Scores = Callable[[float], tuple[float, float]]
"""Amount in major units to the fraud and the anomaly score that the endpoints give."""


class Kind(StrEnum):
    """What a difference amounts to."""

    LOST = "lost"
    DOUBLE = "double_counted"
    EXTRA = "extra"


@dataclass(frozen=True, slots=True)
class Difference:
    """One sentence about one place."""

    kind: Kind
    text: str


@dataclass(frozen=True, slots=True)
class Expectation:
    """
    What to hold a run against. *degraded* allows decisions without scores.

    A transaction *decided_again* may have rows from before Redis lost its document: they
    say when that was, and else the same. *alerts_repeat*, as in a cluster, whose alerts are
    at least once: those of one prediction count as one.
    """

    plan: Plan
    horizon_s: int
    scores: Scores
    degraded: bool = False
    decided_again: frozenset[str] = frozenset()
    alerts_repeat: bool = False


def without_rows(found: Found, gone: Collection[str]) -> tuple[Found, list[Difference]]:
    """*found* without the rows of the transactions *gone*, each of which has to have one."""
    if not gone:
        return found, []
    there = {str(row["transaction_id"]) for row in found.rows}
    unaccounted = [
        Difference(Kind.LOST, f"{name} was said to be gone, and no row tells of it")
        for name in sorted(set(gone) - there)
    ]
    kept = [row for row in found.rows if row["transaction_id"] not in gone]
    return replace(found, rows=kept), unaccounted


def compare(ledgers: Sequence[Ledger], found: Found, against: Expectation) -> list[Difference]:
    """Every difference; *ledgers* are of shards whose entities do not touch."""
    keys = {entity.name: entity.key for entity in against.plan.entities}
    oracle = build_oracle(against.plan, against.horizon_s, [])
    return [
        *compare_records(ledgers, found, against),
        *_vectors(ledgers, found, against.plan, oracle),
        *compare_entities(dict.fromkeys(keys, oracle), keys, found),
    ]


def compare_records(
    ledgers: Sequence[Ledger], found: Found, against: Expectation
) -> list[Difference]:
    """What differs in documents, rows, dead letters, alerts and labels."""
    due = {name: each for ledger in ledgers for name, each in ledger.due.items()}
    return [
        *_documents(due, found, against),
        *_rows(due, found, against.decided_again),
        *_letters(ledgers, found),
        *_alerts(found, repeat=against.alerts_repeat),
        *_labels(ledgers, due, found),
        *(Difference(Kind.EXTRA, f"{key} never expires") for key in found.lasting),
    ]


def compare_entities(
    oracles: Mapping[str, Oracle], keys: Mapping[str, str], found: Found
) -> list[Difference]:
    """
    What differs in the state of entities, read at a few times each.

    *oracles* and *keys* are by entity: what was told of it, and its field in events.
    """
    expected = {
        (entity, name)
        for entity, oracle in oracles.items()
        for name in oracle.values_of(keys[entity])
    }
    differences = [
        Difference(Kind.EXTRA, f"{entity} {name} has state, and nothing was to change it")
        for entity, name in sorted(found.entities - expected)
    ]
    differences += [
        Difference(Kind.LOST, f"{entity} {name} has no state")
        for entity, name in sorted(expected - found.entities)
    ]
    for entity, name in sorted(expected & found.entities):
        differences += _entity(oracles[entity], entity, keys[entity], name, found)
    return differences


def describe(differences: Sequence[Difference]) -> str:
    """The first differences, a line each, and how many there are."""
    lines = [f"  {each.kind}: {each.text}" for each in differences[:_SHOWN]]
    if len(differences) > _SHOWN:
        lines.append(f"  … {len(differences) - _SHOWN:,} more")
    return "\n".join(lines)


def _documents(due: Mapping[str, Due], found: Found, against: Expectation) -> Iterator[Difference]:
    for name in sorted(due.keys() - found.documents.keys()):
        where = due[name].placed.position
        yield Difference(Kind.LOST, f"{name} (sent at {where}) has no document")
    for name in sorted(found.documents.keys() - due.keys()):
        yield Difference(Kind.EXTRA, f"{name} has a document and was never to be decided")
    for name in sorted(due.keys() & found.documents.keys()):
        for what, is_, expected in _contents(due[name], found.documents[name], against):
            if is_ != expected:
                text = f"the document of {name}: {what} is {is_!r}, expected {expected!r}"
                yield Difference(Kind.EXTRA, text)


def _contents(due: Due, document: Document, against: Expectation) -> Iterator[tuple[str, Any, Any]]:
    """What a document says and should say of its transaction: what, found, expected."""
    event, transaction = due.event, document["transaction"]
    amount = float(str(event["amount"]))
    # All of this traffic is in the base currency.
    told = {"kind": "purchase", **event, "amount": amount, "base_amount": amount}
    for name in (told.keys() | transaction.keys()) - _NOT_IN_DOCUMENTS:
        yield name, transaction.get(name), told.get(name)
    yield "event time", document["event_ms"], event_time_ms(event)
    # The first record of an id decides it, whatever came between.
    origin = (document["origin"].get("shard_id"), document["origin"].get("position"))
    places = [(each.shard_id, str(each.position)) for each in (due.placed, *due.elsewhere)]
    yield "shard and position", origin, origin if origin in places else places[0]
    scores = dict(zip(("fraud", "anomaly"), against.scores(amount), strict=True))
    if document["degraded"]:
        # What is there must be right all the same.
        scores = {name: scores[name] for name in scores if name in document["scores"]}
    yield "scores", document["scores"], scores
    if not against.degraded:
        yield "degraded", document["degraded"], []
    yield from expected_decision(document)


def _rows(
    due: Mapping[str, Due], found: Found, decided_again: frozenset[str]
) -> Iterator[Difference]:
    """No row missing, none unknown, and every repeat equal to the document that stands."""
    by_name: dict[str, list[Document]] = {}
    for row in found.rows:
        by_name.setdefault(str(row["transaction_id"]), []).append(row)
    for name in sorted(due.keys() - by_name.keys()):
        yield Difference(Kind.LOST, f"{name} has no row in Firehose")
    for name in sorted(by_name.keys() - due.keys()):
        yield Difference(Kind.EXTRA, f"{name} has a row in Firehose and was never to be decided")
    for name, rows in by_name.items():
        document = found.documents.get(name)
        if document is None:
            continue
        expected = expected_row(document)
        for row in rows:
            wrong = [key for key in expected | dict(row) if row.get(key, ...) != expected.get(key)]
            if name in decided_again:
                wrong = [key for key in wrong if key not in _TIMES]
            if wrong:
                text = f"a row of {name} differs from its document in {', '.join(wrong[:4])}"
                yield Difference(Kind.EXTRA, text)


def _letters(ledgers: Sequence[Ledger], found: Found) -> Iterator[Difference]:
    expected = Counter(each for ledger in ledgers for each in ledger.letters.items())
    there = Counter(found.letters)
    for (name, error), number in sorted((expected - there).items()):
        yield Difference(Kind.LOST, f"{number} dead letter {name} ({error}) is missing")
    for (name, error), number in sorted((there - expected).items()):
        yield Difference(Kind.EXTRA, f"{number} dead letter {name} ({error}) was not due")


def _alerts(found: Found, *, repeat: bool) -> Iterator[Difference]:
    """One alert a review or decline, of the decision that stands; none for an approval."""
    expected = Counter(
        (str(document["transaction_id"]), str(document["decision"]["outcome"]))
        for document in found.documents.values()
        if document["decision"]["outcome"] != "approve"
    )
    # A second assessment alerts apart and says what was decided.
    first = [alert for alert in found.alerts if "decided" not in alert]
    for alert in first:
        document = found.documents.get(str(alert["transaction_id"]))
        wrong = [] if document is None else _unlike(alert, expected_row(document))
        if wrong:
            text = f"an alert of {alert['transaction_id']} differs in {', '.join(wrong)}"
            yield Difference(Kind.EXTRA, text)
    if repeat:
        first = list({str(alert["prediction_id"]): alert for alert in first}.values())
    there = Counter((str(alert["transaction_id"]), str(alert["outcome"])) for alert in first)
    for (name, outcome), number in sorted((expected - there).items()):
        yield Difference(Kind.LOST, f"{number} alert of {name} ({outcome}) is missing")
    for (name, outcome), number in sorted((there - expected).items()):
        kind = Kind.DOUBLE if (name, outcome) in expected else Kind.EXTRA
        yield Difference(kind, f"{number} alert of {name} ({outcome}) was not due")


def _unlike(alert: Document, row: Document) -> list[str]:
    """The fields that *alert* shares with the *row* of its decision and that are not the same."""
    return [name for name in alert if name in row and alert[name] != row[name]]


def _labels(
    ledgers: Sequence[Ledger], due: Mapping[str, Due], found: Found
) -> Iterator[Difference]:
    for name, each in due.items():
        document = found.documents.get(name)
        if document is None:
            continue
        label = document.get("label") or {}
        expected = None if each.label is None else each.label["label"]
        if label.get("label") != expected:
            kind = Kind.EXTRA if expected is None else Kind.LOST
            text = f"the label of {name} is {label.get('label')!r}, expected {expected!r}"
            yield Difference(kind, text)
    waiting = {name for ledger in ledgers for name in ledger.unmatched}
    for name in sorted(waiting - found.unmatched.keys()):
        yield Difference(Kind.LOST, f"the label that waits for {name} is gone")
    for name in sorted(found.unmatched.keys() - waiting):
        yield Difference(Kind.EXTRA, f"a label waits for {name}, which was decided or unknown")


def _entity(
    oracle: Oracle, entity: str, key_field: str, name: str, found: Found
) -> Iterator[Difference]:
    newest_s = oracle.newest_s(key_field, name)
    assert newest_s is not None
    for offset_s in _MOMENTS_S:
        expected = oracle.read(key_field, name, newest_s + offset_s)
        values = found.read(entity, name, newest_s + offset_s)
        for feature, value in expected.items():
            is_ = values.get(feature)
            if is_ != value:
                more = is_ is not None and is_ > value
                text = f"{entity} {name}: {feature} is {is_}, expected {value} ({offset_s:+,} s)"
                yield Difference(Kind.DOUBLE if more else Kind.LOST, text)


@dataclass(slots=True)
class _Pending:
    """Features of a decision that were not those of its place in the stream."""

    event: Event
    found: dict[str, float]
    first_text: str


def _vectors(
    ledgers: Sequence[Ledger], found: Found, plan: Plan, oracle: Oracle
) -> Iterator[Difference]:
    """
    Tell *oracle* everything, and hold each decision's features against it on the way.

    A decision is made on the events before it in its shard. After a crash its features
    may be read again, when later records are applied already; so each entity's features
    must equal those at its place in the stream or at some place behind it. Labels have
    no such place: what counts them is compared at the end alone.
    """
    names = {
        entity.name: [
            feature.name
            for feature in plan.features
            if isinstance(feature, Windowed)
            and feature.entity == entity.name
            and not feature.aggregation.startswith("fraud")
        ]
        for entity in plan.entities
    }
    for ledger in ledgers:
        pending: list[_Pending] = []
        for placed, told in ledger.story:
            if isinstance(told, Verdict):
                oracle.label(told)
                continue
            expected, _ = oracle.observe(told)
            document = decided_by(placed, told, found)
            if document is not None:
                pending += _unequal(names, document["features"], expected, told)
            pending = [each for each in pending if not _equal_now(each, told, oracle)]
        for each in pending:
            yield Difference(Kind.EXTRA, each.first_text)


def decided_by(placed: Placed, told: Event, found: Found) -> Document | None:
    """The document that was made from this very record."""
    document = found.documents.get(told.transaction_id)
    if document is None:
        return None
    origin = (document["origin"].get("shard_id"), document["origin"].get("position"))
    return document if origin == (placed.shard_id, str(placed.position)) else None


def _unequal(
    names: Mapping[str, Sequence[str]],
    features: Mapping[str, float],
    expected: Mapping[str, float],
    told: Event,
) -> Iterator[_Pending]:
    """Entity by entity, what is not as it was at the place of *told*."""
    for own in names.values():
        part = {name: features[name] for name in own}
        wrong = [name for name in own if part[name] != expected[name]]
        if wrong:
            name = wrong[0]
            text = (
                f"{told.transaction_id} was decided on {name} = {part[name]}, expected "
                f"{expected[name]} or what it was at a later place of the stream"
            )
            yield _Pending(told, part, text)


def _equal_now(pending: _Pending, told: Event, oracle: Oracle) -> bool:
    """Whether the features are those of this later place."""
    if pending.event is told:
        return False
    shared = any(told.keys.get(field) == key for field, key in pending.event.keys.items())
    if not shared:
        return False
    expected, _ = oracle.observe(pending.event)
    return all(expected[name] == value for name, value in pending.found.items())
