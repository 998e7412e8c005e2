"""The guarantees, recomputed from the stream and from what reached each store."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import orjson

from consumer.document import milliseconds
from consumer.model import DeadLetter, Kind, Label, LabelEffect, Transaction
from consumer.row import build_row
from tests.fakes.entities import Counters
from tests.properties.shard_stream import Entry, Shard
from tests.properties.shard_world import FIELDS, HORIZON_S, Counted, World

Entity = tuple[str, str]


class Checks:
    """Looks at a world after each step, remembering what must not change."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._seen: dict[str, bytes] = {}
        self._parsed: dict[str, dict[str, Any]] = {}
        self._rows = 0
        self._looked = (-1, -1)

    def check(self) -> None:
        """Everything that holds at every moment."""
        self._documents()
        self._new_rows()
        self._entity_state()
        for shard in self._world.stream.shards:
            for entry in shard.entries[shard.verified : shard.safe()]:
                self._is_done(entry, shard)
            shard.verified = shard.safe()

    def check_final(self) -> None:
        """All was delivered: each record is accounted for, once."""
        world = self._world
        self.check()
        letters = self._letters()
        for entry in world.stream:
            found = letters.pop(self._letter_id(entry), [])
            if [letter.error for letter in found] != ["stale"]:
                expected = self._expected_letter(entry)
                assert [letter.error for letter in found] == expected, entry
        assert not letters, "letters of no record"
        ids = {id_ for id_ in world.stream.by_id if world.stream.transactions(id_)}
        stale = {id_ for id_ in ids if self._was_stale(world.stream.transactions(id_))}
        assert ids - stale <= world.documents.documents.keys() <= ids
        rows = {orjson.loads(row)["prediction_id"] for row in world.rows}
        decided = {self._parsed[id_]["prediction_id"] for id_ in world.documents.documents}
        unstale = {self._parsed[id_]["prediction_id"] for id_ in ids - stale}
        assert unstale <= rows <= decided, "a decision without its row, or a row of none"
        self._labels_in_entities()

    def _documents(self) -> None:
        """The first decision stands: nothing of a document changes but its label."""
        for name, document in self._world.documents.documents.items():
            if self._seen.get(name) == document:
                continue
            parsed = orjson.loads(document)
            parsed.pop("label", None)
            assert self._parsed.setdefault(name, parsed) == parsed, "a document changed"
            self._seen[name] = document

    def _new_rows(self) -> None:
        for row in self._world.rows[self._rows :]:
            name = orjson.loads(row)["transaction_id"]
            stored = self._world.documents.documents.get(name)
            assert stored is not None, "a row before its document"
            assert row == build_row(stored), "a row that differs from its document"
        self._rows = len(self._world.rows)

    def _entity_state(self) -> None:
        """Counters equal those of the set of events and labels that ever arrived."""
        world = self._world
        looked = (len(world.counted), len(world.effects))
        if looked == self._looked:
            return
        self._looked = looked
        expected = recompute(world.counted)
        frauds = recount(world.effects)
        states = world.entities.state
        for entity in states.keys() | expected.keys() | frauds.keys():
            state = states.get(entity, Counters())
            found = (state.count, state.sum_minor, state.frauds)
            assert found == (*expected.get(entity, (0, 0)), frauds.get(entity, 0)), entity

    def _is_done(self, entry: Entry, shard: Shard) -> None:
        """The checkpoint passed *entry*, so all its effects are acknowledged."""
        letters = [letter.error for letter in self._letters().get(self._letter_id(entry), [])]
        if "stale" in letters:
            return
        if entry.event is None:
            assert letters, "a checkpoint passed a bad record without its letter"
        elif isinstance(entry.event, Transaction):
            self._transaction_is_done(entry, entry.event, letters)
            for label in self._world.stream.labels(entry.event.transaction_id):
                if label.record.shard_id != shard.shard_id or label.position < entry.position:
                    self._effect_is_done(label)
        else:
            self._label_is_done(entry.event)
            self._effect_is_done(entry)

    def _transaction_is_done(self, entry: Entry, event: Transaction, letters: list[str]) -> None:
        world = self._world
        stored = self._parsed.get(event.transaction_id)
        assert stored is not None, "a checkpoint passed a transaction without its document"
        for name in FIELDS:
            arrived = any(
                (each.field, each.key, each.transaction_id)
                == (name, getattr(event, name), event.transaction_id)
                for each in world.counted
            )
            assert arrived, "a checkpoint passed a transaction that was not counted"
        if stored["digest"] != event.digest:
            assert letters == ["conflict"], "a checkpoint passed a conflict without its letter"
        elif stored["origin"]["position"] == str(entry.position):
            assert stored["prediction_id"] in world.acknowledged, "a row without acknowledgement"

    def _label_is_done(self, label: Label) -> None:
        """It, or a newer one, is on the document or waits for it."""
        documents = self._world.documents
        if label.transaction_id in documents.documents:
            body = orjson.loads(documents.documents[label.transaction_id]).get("label")
        else:
            waiting = documents.waiting.get(label.transaction_id)
            body = None if waiting is None else orjson.loads(waiting)
        assert body is not None, "a checkpoint passed a label that is nowhere"
        assert (body["time_ms"], body["id"]) >= order_of(label), "an older label stands"

    def _effect_is_done(self, entry: Entry) -> None:
        """The label is counted, once its transaction has been passed as well."""
        label = entry.event
        assert isinstance(label, Label)
        stored = self._parsed.get(label.transaction_id)
        if stored is None or stored["transaction"]["kind"] != Kind.PURCHASE:
            return
        if self._was_stale([entry]) or not self._world.entities.tells_labels:
            return
        if not any(self._is_passed(each) for each in self._deciding(stored)):
            return
        for name in FIELDS:
            state = self._world.entities.state.get((name, stored["transaction"][name]))
            known = state.labels.get(label.transaction_id) if state else None
            assert known is not None, "a checkpoint passed a label that was not counted"
            assert known[:2] >= order_of(label), "an older label is counted"

    def _deciding(self, stored: dict[str, Any]) -> Iterable[Entry]:
        entries = self._world.stream.transactions(stored["transaction_id"])
        return [each for each in entries if str(each.position) == stored["origin"]["position"]]

    def _is_passed(self, entry: Entry) -> bool:
        return any(
            entry in shard.entries[: shard.safe()]
            for shard in self._world.stream.shards
            if shard.shard_id == entry.record.shard_id
        )

    def _labels_in_entities(self) -> None:
        """The label of each document is the one that its entities count."""
        world = self._world
        if not world.entities.tells_labels:
            return
        for document in map(orjson.loads, world.documents.documents.values()):
            label, name = document.get("label"), document["transaction_id"]
            if label is None or document["transaction"]["kind"] != Kind.PURCHASE:
                continue
            # A label that came too late for its shard is a letter, and may be counted or not.
            if self._was_stale(world.stream.by_id[name]):
                continue
            stands = (label["time_ms"], label["id"], label["label"] == "fraud")
            for field in FIELDS:
                state = world.entities.state[field, document["transaction"][field]]
                assert state.labels.get(name) == stands, "a label of a document is not counted"
        for entry in world.stream:
            label = entry.event
            if isinstance(label, Label) and label.keys and not self._was_stale([entry]):
                for field, key in label.keys.items():
                    known = world.entities.state[field, key].labels.get(label.transaction_id)
                    assert known is not None, "a label without its document is not counted"

    def _expected_letter(self, entry: Entry) -> list[str]:
        """The codes of the letters that *entry* must have: one, or none."""
        if entry.event is None:
            return [self._letters()[self._letter_id(entry)][0].error]
        if isinstance(entry.event, Label):
            return []
        stored = self._parsed[entry.event.transaction_id]
        same = self._world.stream.transactions(entry.event.transaction_id)
        if not self._was_stale(same):
            assert stored["origin"]["position"] == str(same[0].position), "not the first decides"
        return [] if stored["digest"] == entry.event.digest else ["conflict"]

    def _was_stale(self, entries: Iterable[Entry]) -> bool:
        letters = self._letters()
        return any(
            letter.error == "stale"
            for entry in entries
            for letter in letters.get(self._letter_id(entry), [])
        )

    def _letters(self) -> dict[str, list[DeadLetter]]:
        found = defaultdict[str, list[DeadLetter]](list)
        for letter in self._world.letters.letters.values():
            found[letter.letter_id].append(letter)
        return found

    @staticmethod
    def _letter_id(entry: Entry) -> str:
        position = entry.position
        place = f"{position.sequence_number}-{position.sub_sequence_number}"
        return f"{entry.record.shard_id}-{place}"


def order_of(label: Label) -> tuple[int, str]:
    """By which of two labels stands."""
    return milliseconds(label.label_time), label.label_id


def recompute(counted: Iterable[Counted]) -> dict[Entity, tuple[int, int]]:
    """Count and sum of each entity over the set of purchases, each id once, in order of arrival."""
    applied: dict[Entity, dict[str, Counted]] = defaultdict(dict)
    for each in counted:
        known = applied[each.field, each.key]
        newest = max((other.time_s for other in known.values()), default=each.time_s)
        if each.purchase and each.time_s >= newest - HORIZON_S:
            known.setdefault(each.transaction_id, each)
    return {
        entity: (len(events), sum(event.amount_minor for event in events.values()))
        for entity, events in applied.items()
    }


def recount(effects: Iterable[tuple[str, LabelEffect]]) -> dict[Entity, int]:
    """Frauds of each entity over the set of labels that arrived: of each transaction the newest."""
    newest: dict[tuple[Entity, str], LabelEffect] = {}
    for name, effect in effects:
        place = ((name, effect.keys[name]), effect.transaction_id)
        known = newest.setdefault(place, effect)
        if (effect.label_time_ms, effect.label_id) > (known.label_time_ms, known.label_id):
            newest[place] = effect
    frauds = defaultdict[Entity, int](int)
    for (entity, _), effect in newest.items():
        frauds[entity] += effect.fraud
    return frauds
