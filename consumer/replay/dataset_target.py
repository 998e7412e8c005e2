"""
Feature vectors with labels: the data set that models are trained on.

Rows are written as their vectors come, labels as theirs do; both are joined when the history
has ended. A transaction that no entity counted, because all of them had it already or had gone
past it, makes no row: its vector would be read from a later state than its own. Of an id that
comes again with other content the first one stands, as it does for documents.
"""

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from consumer.currency import EXPONENTS
from consumer.features.plan import Plan
from consumer.model import Applied, Kind, Label, Observation, Transaction
from consumer.replay.chunks import Chunk, Phase
from consumer.replay.feature_target import FeatureTarget
from consumer.replay.parts import Parts
from consumer.replay.repeats import CONTENT_DIGITS, Repeats
from consumer.replay.target import Result, no_rows
from consumer.replay.truths import Labels, Truths
from consumer.training.dataset_file import Block, DatasetWriter, Head

_FLUSH = 10_000


class _Saved(msgspec.Struct, frozen=True):
    rows: list[str] = msgspec.field(default_factory=list)
    labels: list[str] = msgspec.field(default_factory=list)


@dataclass(slots=True)
class _Rows:
    """Rows that wait to be written, by column; ``values`` one vector after the other."""

    ordinals: list[int]
    ids: list[str]
    contents: list[str]
    times_ms: list[int]
    cards: list[str]
    amounts_minor: list[int]
    values: "array[float]"

    @classmethod
    def none(cls) -> "_Rows":
        return cls([], [], [], [], [], [], array("d"))


class DatasetTarget:
    """
    Collects vectors in *folder*, and at the end makes the data set *path* of them.

    *saved* is what ``save`` returned before an interruption. ``observed`` is to hear of
    the observations of *features*, which applies the events.
    """

    def __init__(
        self,
        path: Path,
        folder: Path,
        plan: Plan,
        head: Head,
        base_currency: str,
        saved: dict[str, object],
    ) -> None:
        known = msgspec.convert(saved, _Saved)
        self._path = path
        self._folder = folder
        self._plan = plan
        self._head = head
        self._units = 10 ** EXPONENTS[base_currency]
        schema = pa.schema(
            [
                ("ordinal", pa.int64()),
                ("transaction_id", pa.string()),
                ("content", pa.string()),
                ("time_ms", pa.int64()),
                ("card_id", pa.string()),
                ("amount_minor", pa.int64()),
                ("values", pa.binary(8 * len(plan.names))),
            ]
        )
        self._parts = Parts(folder, "rows", schema, known.rows)
        self._labels = Labels(folder, known.labels)
        self._rows = _Rows.none()
        self._features: FeatureTarget | None = None

    def use(self, features: FeatureTarget) -> None:
        """Let *features* apply the events; it has to tell ``observed``."""
        self._features = features

    @property
    def counts(self) -> Counter[str]:
        """Those of the features, and of ``rows``."""
        return self._applying.counts

    @counts.setter
    def counts(self, counts: Counter[str]) -> None:
        self._applying.counts = counts

    def work(self, chunk: Chunk) -> None:
        """Apply *chunk*, and keep its labels."""
        for event in chunk.events:
            if isinstance(event, Label):
                self._labels.add(event)
        self._applying.work(chunk)

    def save(self) -> dict[str, object]:
        """Put all rows and labels on disk."""
        self._applying.save()
        self._flush()
        self._parts.close_part()
        self._labels.close_part()
        saved = _Saved(self._parts.closed, self._labels.parts.closed)
        return msgspec.structs.asdict(saved)

    def finish(self) -> Result:
        """
        Join rows and labels into the data set, each id once.

        Raises Misconfigured where there is no row.
        """
        if not self._parts.paths:
            raise no_rows(self._path)
        repeats = Repeats.find(self._parts.paths, self._folder)
        counts: Counter[str] = Counter()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with (
            Truths(self._parts.paths, self._labels.parts.paths, self._folder) as truths,
            DatasetWriter(self._path, self._head) as writer,
        ):
            for batch in self._parts.batches():
                block = self._block(batch, repeats, truths)
                writer.write(block)
                counts["rows"] -= batch.num_rows - len(block.transaction_ids)
        counts["conflict"] = int(np.count_nonzero(~repeats.equal))
        counts["repeated"] = int(np.count_nonzero(repeats.equal))
        return Result((str(self._path),), {"features": len(self._plan.names)}, counts)

    def close(self) -> None:
        """End the thread that applies, and leave what is not on disk."""
        self._applying.close()
        self._parts.abandon()
        self._labels.parts.abandon()

    def observed(self, chunk: Chunk, observations: Sequence[Observation]) -> None:
        """Keep the vectors of *chunk* that are read from the state of their own time."""
        if chunk.phase is not Phase.FULL:
            return
        rows, seen = self._rows, iter(observations)
        for event, ordinal, time_ms in zip(
            chunk.events, chunk.ordinals, chunk.times_ms, strict=True
        ):
            if not isinstance(event, Transaction):
                continue
            observation = next(seen)
            if not _own(event, observation):
                continue
            rows.ordinals.append(ordinal)
            rows.ids.append(event.transaction_id)
            rows.contents.append(event.digest[:CONTENT_DIGITS])
            rows.times_ms.append(time_ms)
            rows.cards.append(event.card_id)
            rows.amounts_minor.append(event.base_amount_minor)
            rows.values.extend(observation.values)
        if len(rows.ordinals) >= _FLUSH:
            self._flush()

    @property
    def _applying(self) -> FeatureTarget:
        if self._features is None:
            message = "a data set needs features that are applied"
            raise RuntimeError(message)
        return self._features

    def _flush(self) -> None:
        rows, self._rows = self._rows, _Rows.none()
        if not rows.ordinals:
            return
        self.counts["rows"] += len(rows.ordinals)
        width = 8 * len(self._plan.names)
        values = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(width), len(rows.ordinals), [None, pa.py_buffer(rows.values.tobytes())]
        )
        scalars = (rows.ordinals, rows.ids, rows.contents)
        self._parts.write([*scalars, rows.times_ms, rows.cards, rows.amounts_minor, values])

    def _block(self, batch: Any, repeats: Repeats, truths: Truths) -> Block:
        ordinals = batch.column("ordinal").to_numpy()
        frauds, label_times = truths.of(ordinals)
        repeated, _ = repeats.among(ordinals)
        chosen = np.flatnonzero(~repeated).tolist()
        _, ids, _, times, cards, amounts, values = batch.take(pa.array(chosen, pa.int64())).columns
        flat = np.frombuffer(b"".join(values.to_pylist()), np.float64)
        return Block(
            transaction_ids=ids.to_pylist(),
            times_ms=times.to_pylist(),
            card_ids=cards.to_pylist(),
            # Divided one by one, as features do it: the nearest double of the major units.
            amounts=(amounts.to_numpy() / self._units).tolist(),
            frauds=[frauds[place] for place in chosen],
            label_times_ms=[label_times[place] for place in chosen],
            values=flat.reshape(len(chosen), len(self._plan.names)),
        )


def _own(transaction: Transaction, observation: Observation) -> bool:
    """Whether the vector belongs to the transaction's own time: what is no purchase only reads."""
    return transaction.kind is not Kind.PURCHASE or Applied.APPLIED in observation.applied
