"""
The demo's part over REST: signed requests beside the stream, and what they have to get.

New transactions of cards that the stream knows are decided, one by one and in a batch. Ids that
came by the stream get the decision that stands. What is forged gets nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import msgspec
import orjson

from consumer.local.service import AccessKey, Answer, Client
from consumer.local.simulator.events import Event, RecordKind
from consumer.local.simulator.ledger import LedgerWriter, Receipt
from consumer.model import Kind

SHARD = "rest"
_NEW, _BATCH = 100, 100
_OK, _UNKNOWN, _FORGED, _CONFLICT = 200, 404, 401, 409
# Behind every sequence number of Kinesis, which have 56 digits.
_FIRST = 10**60


class Kept:
    """Of each card the last honest purchase that the stream is sent, as it was sent."""

    def __init__(self) -> None:
        self.events: dict[str, Event] = {}
        self.newest_ms = 0

    def of(self, events: Iterable[Event]) -> Iterator[Event]:
        """Pass *events* on."""
        for event in events:
            if event.record is RecordKind.TRANSACTION:
                self.newest_ms = max(self.newest_ms, event.event_time_ms)
                if not event.fraud and event.kind is Kind.PURCHASE:
                    self.events[event.card_id] = event
            yield event


@dataclass(slots=True)
class RestCheck:
    """What was asked over REST and what came of it; ``failures`` is empty when all is right."""

    signed: int = 0
    decided: int = 0
    shared: int = 0
    shared_equal: int = 0
    forged: int = 0
    refused: int = 0
    failures: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, int]:
        """The counts, for ``summary.json``."""
        return {
            "signed_requests": self.signed,
            "decided": self.decided,
            "shared_with_stream": self.shared,
            "shared_equal": self.shared_equal,
            "forged": self.forged,
            "forged_refused": self.refused,
        }

    def expect(self, what: str, answer: Answer, status: int) -> bool:
        """Note a failure unless *answer* has *status*; whether it has."""
        if answer.status != status:
            told = answer.body.get("detail") if isinstance(answer.body, dict) else None
            self.failures.append(f"REST: {what} got {answer.status} instead of {status}: {told}")
        return answer.status == status


@dataclass(frozen=True, slots=True)
class RestRun:
    """
    Requests to the service at *url*, signed by *key*, about what *kept* the stream was sent.

    What is decided and labelled goes into the ledger by *writer*, behind what the stream got.
    *stored* reads the document of an id.
    """

    url: str
    key: AccessKey
    kept: Kept
    writer: LedgerWriter
    stored: Callable[[str], Mapping[str, Any]]
    now_ms: Callable[[], int]

    def run(self) -> RestCheck:
        """Ask everything. Raises OSError where the service does not answer."""
        check = RestCheck()
        known = list(self.kept.events.values())[: _NEW + _BATCH]
        if not known:
            check.failures.append("REST: the stream was sent no honest purchase to ask about")
            return check
        new = [self._new(number, each) for number, each in enumerate(known)]
        with Client(self.url, self.key) as client:
            self._decide(client, check, new)
            for event in known:
                self._share(client, check, event)
            self._contradict(client, check, known[0])
            self._rehearse(client, check, self._new(len(new), known[0]))
            self._label(client, check, new[0])
            self._search(client, check, new[0])
            check.signed = client.signed
        self._forge(check, new[0])
        return check

    def _new(self, number: int, like: Event) -> Event:
        """A transaction that nobody has seen, after all of the stream, of a card that it knows."""
        name, time_ms = f"rest_{number:06}", self.kept.newest_ms + 10 * (number + 1)
        body = orjson.loads(like.data)
        time = datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")
        data = orjson.dumps({**body, "transaction_id": name, "event_time": time})
        return msgspec.structs.replace(
            like, data=data, transaction_id=name, time_ms=time_ms, event_time_ms=time_ms, held_ms=0
        )

    def _decide(self, client: Client, check: RestCheck, new: Sequence[Event]) -> None:
        for event in new[:_NEW]:
            answer = client.ask("POST", "/v1/predictions", orjson.loads(event.data))
            if check.expect("a new transaction", answer, _OK):
                self._note(check, event, answer.body)
        rest = new[_NEW:]
        if not rest:
            return
        body = {"transactions": [orjson.loads(event.data) for event in rest]}
        answer = client.ask("POST", "/v1/predictions:batch", body)
        if check.expect("a batch", answer, _OK):
            for event, result in zip(rest, answer.body["results"], strict=True):
                if check.expect("one of a batch", Answer(result["status"], result), _OK):
                    self._note(check, event, result["prediction"])

    def _note(self, check: RestCheck, event: Event, prediction: Mapping[str, Any]) -> None:
        """Enter a decided transaction into the ledger."""
        check.decided += 1
        if prediction["repeated"] or prediction["degraded"]:
            check.failures.append(f"REST: {event.transaction_id} is no new whole decision")
        self._enter(event, check.decided)

    def _enter(self, event: Event, number: int) -> None:
        receipt = Receipt(SHARD, str(_FIRST + number), self.now_ms(), 0)
        self.writer.write([(event, receipt)])

    def _share(self, client: Client, check: RestCheck, event: Event) -> None:
        """Ask for a transaction of the stream: the decision that stands, and no other."""
        check.shared += 1
        answer = client.ask("POST", "/v1/predictions", orjson.loads(event.data))
        if not check.expect("a transaction of the stream", answer, _OK):
            return
        stored = self.stored(event.transaction_id)
        told, decision, scores = answer.body, stored["decision"], stored["scores"]
        equal = (
            told["repeated"] is True
            and told["source"] == stored["origin"]["source"] == "stream"
            and told["prediction_id"] == stored["prediction_id"]
            and told["outcome"] == decision["outcome"]
            and told["reasons"] == decision["reasons"]
            and told["decided_ms"] == stored["decided_ms"]
            and {name: told["scores"].get(name) for name in ("fraud", "anomaly")} == scores
        )
        check.shared_equal += equal
        if not equal:
            check.failures.append(f"REST: {event.transaction_id} is told other than it is stored")

    def _contradict(self, client: Client, check: RestCheck, event: Event) -> None:
        other = {**orjson.loads(event.data), "merchant_id": "m_other"}
        answer = client.ask("POST", "/v1/predictions", other)
        if check.expect("a known id with another merchant", answer, _CONFLICT):
            named = [each["field"] for each in answer.body["errors"]]
            if named != ["merchant_id"]:
                check.failures.append(f"REST: a conflict in merchant_id names {named}")

    def _rehearse(self, client: Client, check: RestCheck, event: Event) -> None:
        answer = client.ask("POST", "/v1/predictions?dry_run=true", orjson.loads(event.data))
        check.expect("a dry run", answer, _OK)
        answer = client.ask("GET", f"/v1/transactions/{event.transaction_id}")
        check.expect("what a dry run decided", answer, _UNKNOWN)

    def _label(self, client: Client, check: RestCheck, event: Event) -> None:
        sent = orjson.loads(event.data)
        labels = {"transaction_id": event.transaction_id, "source": "analyst", "keys": {}}
        keys = {n: v for n, v in sent.items() if n.endswith("_id") and n != "transaction_id"}
        if "ip_address" in sent:
            keys["ip_address"] = sent["ip_address"]
        time_ms = self.now_ms()
        time = datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")
        body = {**labels, "type": "label", "label": "fraud", "label_time": time, "keys": keys}
        body["event_time"] = sent["event_time"]
        if check.expect("a label", client.ask("POST", "/v1/labels", body), _OK):
            told = msgspec.structs.replace(
                event, data=orjson.dumps(body), record=RecordKind.LABEL, time_ms=time_ms, fraud=True
            )
            self._enter(told, check.decided + 1)

    def _search(self, client: Client, check: RestCheck, event: Event) -> None:
        query = urlencode({"card": event.card_id, "limit": 100})
        answer = client.ask("GET", f"/v1/transactions?{query}")
        if check.expect("a search by card", answer, _OK):
            found = {each["transaction_id"] for each in answer.body["transactions"]}
            if event.transaction_id not in found:
                check.failures.append(f"REST: the search by card lacks {event.transaction_id}")

    def _forge(self, check: RestCheck, event: Event) -> None:
        """Unsigned, by a wrong secret, by an unknown key, and with a body changed on its way."""
        path, data = "/v1/predictions", event.data
        keys = (None, replace(self.key, secret="x" * 43), replace(self.key, key_id="FSDEMOUNKNOWN"))
        for key in keys:
            with Client(self.url, key) as client:
                headers = client.sign("POST", path, data)
                self._refused(check, client.send("POST", path, data, headers))
        with Client(self.url, self.key) as client:
            headers = client.sign("POST", path, data)
            changed = data.replace(b"rest_", b"best_")
            self._refused(check, client.send("POST", path, changed, headers))

    def _refused(self, check: RestCheck, answer: Answer) -> None:
        check.forged += 1
        check.refused += check.expect("a forged request", answer, _FORGED)
